"""VnPy's database, where its settings name none."""

import json
import sqlite3
from contextlib import closing

import pytest

from vnpy_core.engine.home import choose_database


def chosen(temp, **settings):
    choose_database(temp, settings)
    path = temp / "vt_setting.json"
    return json.loads(path.read_text()) if path.exists() else None


def database(temp, *statements, name="database.db"):
    with closing(sqlite3.connect(temp / name)) as connection, connection:
        for table in ("dbbardata", "dbtickdata", "dbbaroverview"):
            connection.execute(f"create table {table} (id integer)")
        for statement in statements:
            connection.execute(statement)


def test_without_data_it_is_the_store(tmp_path):
    assert chosen(tmp_path) == {"database.name": "core"}


def test_the_other_settings_stay_and_only_the_owner_reads_them(tmp_path):
    (tmp_path / "vt_setting.json").write_text('{"datafeed.password": "秘密"}')
    assert chosen(tmp_path) == {"datafeed.password": "秘密", "database.name": "core"}
    assert "秘密" in (tmp_path / "vt_setting.json").read_text(encoding="utf-8")
    assert (tmp_path / "vt_setting.json").stat().st_mode & 0o077 == 0


def test_an_empty_sqlite_file_is_no_data(tmp_path):
    database(tmp_path, "insert into dbbaroverview values (1)")
    assert chosen(tmp_path) == {"database.name": "core"}
    (tmp_path / "vt_setting.json").unlink()
    (tmp_path / "database.db").write_bytes(b"")
    assert chosen(tmp_path) == {"database.name": "core"}


@pytest.mark.parametrize("table", ["dbbardata", "dbtickdata"])
def test_a_sqlite_file_with_data_stays_in_use_and_the_way_out_is_told(tmp_path, table, capsys):
    database(tmp_path, f"insert into {table} values (1)", name="mine.db")
    assert chosen(tmp_path, **{"database.database": "mine.db"}) is None
    assert "vnpy-core data migrate" in capsys.readouterr().out


def test_a_file_that_cannot_be_read_is_somebodys(tmp_path):
    (tmp_path / "database.db").write_bytes(b"x" * 5000)
    assert chosen(tmp_path) is None
