"""vnpy_sqlite's and vnpy_mysql's ticks and bars in the store: all of them, as they were, and the source untouched."""

import hashlib
import sqlite3
from contextlib import closing
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from testkit.memory_timeseries import MemoryTimeSeries
from testkit.servers import MariaDb, running
from testkit.vnpy_sources import vnpy_mysql, vnpy_sqlite
from vnpy_core.cli import history_import
from vnpy_core.cli.history_import import Sqlite, checked, open_configured, open_named, vnpy_settings, zone_of
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.domain.history import BAR_NUMBERS, TICK_NUMBERS, US, Interval, Merged, Series, to_ns

COUNT = 500
ZONE = ZoneInfo("Europe/Berlin")
RB, EUREX = Series("rb2701", "SHFE"), Series("6J", "EUREX")
GROUPS = ["6J.EUX 1m", "6J.EUX d", "6J.EUX ticks", "rb2701.SHFE 1m", "rb2701.SHFE d", "rb2701.SHFE ticks"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A VnPy home in Berlin; the clocks go forward among its daily bars."""
    home = tmp_path_factory.mktemp("home")
    vnpy_sqlite(home, timezone=ZONE.key, count=COUNT)
    return home


@pytest.fixture(scope="module")
def mariadb():
    with running(MariaDb) as server:
        yield server


@pytest.fixture
def store():
    return MemoryTimeSeries()


def run(source, store, zone=ZONE):
    seen = []
    with checked(source) as database:
        groups = database.groups()
        done = history_import.migrate(database, groups, store, zone, lambda rows, name: seen.append((rows, name)))
    assert sum(rows for rows, _ in seen) == sum(group.count for group in groups)
    return done, [group.name for group in groups]


def bars(store, series, interval):
    return np.concatenate(list(store.bars(series, interval, 0, 2**62)))


def ticks(store, series):
    return np.concatenate(list(store.ticks(series, 0, 2**62)))


def check_all_is_there(store):
    for series in (RB, EUREX):
        minutes, days, seen = (
            bars(store, series, Interval.MINUTE),
            bars(store, series, Interval.DAILY),
            ticks(store, series),
        )
        assert len(minutes) == len(days) == len(seen) == COUNT
        begin = to_ns(datetime(2026, 3, 27, 9, tzinfo=ZONE))
        assert (minutes["ts"] == begin + np.arange(COUNT) * 60_000_000_000).all()
        # The clock went forward on the 29th: the day is an hour earlier in UTC, and 9:00 still.
        assert days["ts"][3] - days["ts"][0] == (3 * 24 - 1) * 3_600_000_000_000
        last = dict(zip(BAR_NUMBERS, minutes[list(BAR_NUMBERS)][-1].tolist(), strict=True))
        n = COUNT - 1
        assert last == {
            "open_price": 100 + n, "high_price": 103.25 + n, "low_price": 99 + n, "close_price": 101.5 + n,
            "volume": 1.5, "turnover": 2.5, "open_interest": 3.5,
        }  # fmt: skip
        assert (seen["ts"] == begin + np.arange(COUNT) * 250_000_000).all()
        assert seen["last_price"].tolist() == [100.1 + n % 7 for n in range(COUNT)]
        assert set(seen["ask_price_5"]) == {105.5}
        assert set(seen["bid_price_2"]) == {0}
        received = seen["localtime"]
        assert np.count_nonzero(received) == COUNT // 2
        assert (received[received > 0] == seen["ts"][received > 0]).all()
    assert {kept.name for kept in store.overview() if kept.interval is None} == {"螺纹钢"}


def test_vnpy_sqlites_file_arrives_whole_and_is_only_read(home, store, monkeypatch):
    monkeypatch.setattr(history_import, "BATCH", 64)
    path = home / ".vntrader" / "database.db"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    done, groups = run(Sqlite(path), store)
    assert groups == GROUPS
    assert (done.merged, done.series, done.bad_count, done.missing) == (Merged(6 * COUNT, 0), 6, 0, [])
    check_all_is_there(store)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert [each.name for each in path.parent.glob("database.db*")] == ["database.db"]


def test_a_second_run_adds_only_what_is_new(home, store):
    path = home / ".vntrader" / "database.db"
    run(Sqlite(path), store)
    store.delete_ticks(RB, 0, 2**62)
    done, _ = run(Sqlite(path), store)
    assert done.merged == Merged(COUNT, 5 * COUNT)
    check_all_is_there(store)


def test_a_trader_may_write_meanwhile(home, store, tmp_path):
    path = tmp_path / "database.db"
    path.write_bytes((home / ".vntrader" / "database.db").read_bytes())
    with checked(Sqlite(path)) as source, closing(sqlite3.connect(path, timeout=0)) as trader:
        batches = source.read(source.groups()[0])
        next(batches)
        with trader:
            trader.execute("update dbbardata set volume = 7")


def test_vnpy_mysqls_database_arrives_whole(home, store, mariadb, monkeypatch):
    monkeypatch.setattr(history_import, "BATCH", 64)
    database = vnpy_mysql(mariadb, home / ".vntrader" / "database.db")
    done, groups = run(open_named(f"mysql://trader:s3cret@127.0.0.1:{mariadb.port}/{database}"), store)
    assert groups == GROUPS
    assert (done.merged, done.missing) == (Merged(6 * COUNT, 0), [])
    check_all_is_there(store)


def test_the_source_is_the_one_in_vnpys_settings(home, store, mariadb, tmp_path, monkeypatch):
    database = vnpy_mysql(mariadb, home / ".vntrader" / "database.db")
    (tmp_path / ".vntrader").mkdir()
    (tmp_path / "vt_setting.json").write_text(
        f'{{"database.name": "mysql", "database.host": "127.0.0.1", "database.port": {mariadb.port},'
        f' "database.user": "trader", "database.password": "s3cret", "database.database": "{database}"}}'
    )
    settings = vnpy_settings(tmp_path, tmp_path)
    assert settings.named_in == tmp_path / "vt_setting.json"
    with checked(open_configured(settings)) as source:
        assert source.name == f"mysql://trader@127.0.0.1:{mariadb.port}/{database}"
        with pytest.raises(ConfigurationError, match="(?i)read.only"):
            source.rows("update dbbardata set volume = 7")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("mysql://trader:wrong@127.0.0.1:{port}/{database}", "Access denied"),
        ("mysql://trader:s3cret@127.0.0.1:{port}/absent", "absent"),
        ("mysql://trader:s3cret@127.0.0.1:1/x", "cannot be reached"),
    ],
)
def test_a_server_that_cannot_be_used_is_told_without_the_password(mariadb, url, word):
    with pytest.raises(ConfigurationError, match=word) as caught:
        open_named(url.format(port=mariadb.port, database=mariadb.fresh_database()))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("source", ["absent.db", "postgresql://u@h/d", "mysql://u@h"])
def test_a_source_that_is_none_is_told(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError):
        open_named(source)


@pytest.mark.parametrize("content", [b"no database at all", None])
def test_a_file_that_is_not_vnpys_is_told(tmp_path, content):
    path = tmp_path / "x.db"
    if content is None:
        with closing(sqlite3.connect(path)) as other:
            other.execute("create table t (x)")
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"x\.db"), checked(Sqlite(path)):
        pass


def test_rows_that_cannot_be_read_are_left_out_and_told(home, store, tmp_path):
    path = tmp_path / "database.db"
    path.write_bytes((home / ".vntrader" / "database.db").read_bytes())
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("update dbtickdata set datetime = 'yesterday' where id = 3")
        database.execute("update dbbardata set interval = '7m' where interval = 'd' and symbol = '6J'")
    done, _ = run(Sqlite(path), store)
    assert done.bad_count == COUNT + 1
    assert any("rb2701.SHFE ticks" in line and "yesterday" in line for line in done.bad)
    assert any("7m" in line for line in done.bad)
    assert done.missing == []
    assert len(ticks(store, RB)) == COUNT - 1


def test_what_did_not_arrive_is_told(home, store):
    class Forgetful(MemoryTimeSeries):
        def merge_ticks(self, series, ticks, name=""):
            return super().merge_ticks(series, ticks[:-1].copy(), name)

    done, _ = run(Sqlite(home / ".vntrader" / "database.db"), Forgetful())
    assert done.missing == [f"{series.vt_symbol} ticks: {COUNT - 1} of {COUNT}" for series in (EUREX, RB)]


def test_the_zone_is_the_one_beside_the_source(home, tmp_path):
    ours = vnpy_settings(tmp_path)
    assert zone_of("", str(home / ".vntrader" / "database.db"), ours) == ZONE
    assert zone_of("UTC", str(home / ".vntrader" / "database.db"), ours).key == "UTC"
    assert zone_of("", "", vnpy_settings(home)) == ZONE


def test_a_mysql_row_keeps_its_milliseconds(store, mariadb, home):
    database = vnpy_mysql(mariadb, home / ".vntrader" / "database.db")
    mariadb.execute("update dbtickdata set `datetime` = '2026-03-27 09:00:00.123' where id = 1", database=database)
    run(open_named(f"mysql://trader:s3cret@127.0.0.1:{mariadb.port}/{database}"), store)
    moments = [row for series in (RB, EUREX) for row in ticks(store, series)["ts"].tolist()]
    assert to_ns(datetime(2026, 3, 27, 9, microsecond=123_000, tzinfo=ZONE)) in moments
    assert all(moment % US == 0 for moment in moments)


def test_all_numbers_are_taken(home):
    with closing(sqlite3.connect(home / ".vntrader" / "database.db")) as database:
        for table, numbers in (("dbbardata", BAR_NUMBERS), ("dbtickdata", TICK_NUMBERS)):
            columns = {row[1] for row in database.execute(f"pragma table_info({table})")}
            assert columns - {"id", "symbol", "exchange", "datetime", "interval", "name", "localtime"} == set(numbers)
