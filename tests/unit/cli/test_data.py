"""`vnpy-core data …`: its words, its exit codes, and what is in the store afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from testkit.vnpy_sources import vnpy_sqlite
from vnpy_core.__main__ import app
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.cli.data_store import opened
from vnpy_core.domain.history import Interval, Series, empty_bars, empty_ticks, to_ns

RB, BTC = Series("rb2701", "SHFE"), Series("BTCUSDT", "GLOBAL")
HEADER = "datetime,symbol,exchange,last_price,volume,bid_price_1,bid_volume_1,ask_price_1,ask_volume_1"
BEGIN = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VNPYCORE_TOKEN", raising=False)
    (tmp_path / "service.toml").write_text('[paths]\ndata = "data"\n')
    monkeypatch.setenv("VNPYCORE_CONFIG", str(tmp_path / "service.toml"))

    def run(*arguments, code=0, **more):
        outcome = CliRunner().invoke(app, ["data", *map(str, arguments)], **more)
        assert outcome.exit_code == code, (outcome.output, outcome.exception)
        return outcome

    return run


@pytest.fixture
def store(cli, data):
    """A service's store, open while the commands work on it too."""
    with opened(TimeSeriesSettings(), data) as store:
        yield store


def rows(count, *, bad=()):
    lines = [f"2026-11-20 09:{n // 60:02}:{n % 60:02}.5,rb2701,SHFE,{3500 + n},{n},3499,5,3501,7" for n in range(count)]
    for n in bad:
        lines[n] = lines[n].replace(f"{3500 + n}", "abc", 1)
    return "\n".join([HEADER, *lines, ""])


def ticks(store, series=RB):
    found = list(store.ticks(series, 0, 2**62))
    return np.concatenate(found) if found else empty_ticks()


def bars(count, price=1.0):
    found = empty_bars(count)
    found["ts"] = to_ns(BEGIN) + np.arange(count) * 60_000_000_000
    found["close_price"] = price
    return found


# --- import ---


def test_files_are_merged_into_the_store_beside_a_running_service(cli, store, tmp_path):
    (tmp_path / "a.csv").write_text(rows(10))
    (tmp_path / "b.csv").write_text(rows(15))
    outcome = cli("import", "a.csv", "b.csv")
    assert outcome.stdout.splitlines() == [
        "a.csv: 10 rows, 10 new, 0 known",
        "b.csv: 15 rows, 5 new, 10 known",
    ]
    found = ticks(store)
    assert found["last_price"].tolist() == [3500 + n for n in range(15)]
    assert found["ts"][0] == to_ns(BEGIN) + 500_000_000


def test_bad_rows_are_shown_the_first_and_counted_the_rest_and_reported_all(cli, store, tmp_path):
    (tmp_path / "a.csv").write_text(rows(100, bad=range(0, 60, 2)))
    outcome = cli("import", "a.csv", "--report", "bad.txt")
    assert "70 rows, 70 new, 0 known, 30 bad" in outcome.stdout
    assert "a.csv:2: " in outcome.stderr
    assert "a.csv:4: " in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 21
    assert "… and 10 more bad rows" in outcome.stderr
    reported = [line.split("\t") for line in (tmp_path / "bad.txt").read_text().splitlines()]
    assert [place for place, _ in reported] == [f"a.csv:{n + 2}" for n in range(0, 60, 2)]
    assert len(ticks(store)) == 70


def test_strict_takes_nothing_of_a_file_with_a_bad_row_and_goes_on_with_the_next(cli, store, tmp_path):
    (tmp_path / "bad.csv").write_text(rows(10, bad=[3]))
    (tmp_path / "good.csv").write_text(rows(4))
    outcome = cli("import", "bad.csv", "good.csv", "--strict", code=1)
    assert "bad.csv:5" in outcome.stderr
    assert "good.csv: 4 rows" in outcome.stdout
    assert len(ticks(store)) == 4


def test_bars_with_named_columns_are_imported(cli, store, tmp_path):
    (tmp_path / "bars.csv").write_text("t,o,h,l,c,v\n2026-11-20 09:00,1,3,1,2,7\n2026-11-20 09:01,2,4,2,3,8\n")
    columns = {
        "datetime": "t",
        "open_price": "o",
        "high_price": "h",
        "low_price": "l",
        "close_price": "c",
        "volume": "v",
    }
    mapping = [part for name, column in columns.items() for part in ("--map", f"{name}={column}")]
    cli("import", "bars.csv", "--kind", "bar", "--format", "columns", "--symbol", "rb2701.SHFE", *mapping)
    (found,) = store.bars(RB, Interval.MINUTE, 0, 2**62)
    assert found["close_price"].tolist() == [2, 3]


def test_a_contract_table_tells_the_exchange(cli, store, tmp_path):
    (tmp_path / "contracts.toml").write_text('[rb]\nexchange = "SHFE"\nsize = 10\npricetick = 1\n')
    (tmp_path / "a.csv").write_text(rows(3).replace("SHFE", ""))
    cli("import", "a.csv")
    assert len(ticks(store)) == 3


def test_the_outcome_as_json(cli, store, tmp_path):
    (tmp_path / "a.csv").write_text(rows(5, bad=[1]))
    first, second = json.loads(cli("import", "a.csv", "absent.csv", "--json", code=1).stdout)
    assert (first["file"], first["rows"], first["bad_count"], first["series"]) == ("a.csv", 4, 1, ["rb2701.SHFE"])
    assert second["file"] == "absent.csv"
    assert "error" in second


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--kind", "order"], "--kind is tick or bar"),
        (["--map", "open"], "--map is FIELD=COLUMN"),
        (["--symbol", "rb2701"], "rb2701"),
        (["--timezone", "Moon/Base"], "Moon/Base"),
    ],
)
def test_wrong_words_are_told(cli, tmp_path, arguments, word):
    (tmp_path / "a.csv").write_text(rows(1))
    assert word in cli("import", "a.csv", *arguments, code=1).stderr


# --- export ---


def test_an_export_imports_again_to_the_same(cli, store, tmp_path):
    (tmp_path / "a.csv").write_text(rows(20))
    cli("import", "a.csv")
    before = ticks(store)
    for name in ("out.csv", "out.parquet"):
        assert "20 rows" in cli("export", "rb2701.SHFE", name).stderr
        store.delete_ticks(RB, 0, 2**62)
        cli("import", name)
        assert (ticks(store) == before).all()


def test_a_range_is_exported_to_standard_output(cli, store, tmp_path):
    store.merge_bars(RB, Interval.MINUTE, bars(10))
    outcome = cli("export", "rb2701.SHFE", "-", "-k", "bar", "--start", "2026-11-20T09:02", "--end", "2026-11-20T09:05")
    lines = outcome.stdout.splitlines()
    assert len(lines) == 4
    assert "09:02" in lines[1]
    assert "09:04" in lines[-1]


def test_a_file_is_written_over_only_when_forced_and_never_by_half(cli, store, tmp_path):
    store.merge_bars(RB, Interval.MINUTE, bars(3))
    (tmp_path / "out.csv").write_text("mine")
    assert "--force" in cli("export", "rb2701.SHFE", "out.csv", "-k", "bar", code=1).stderr
    assert "no such bars" in cli("export", "cu2701.SHFE", "out.csv", "-k", "bar", "--force", code=1).stderr
    assert (tmp_path / "out.csv").read_text() == "mine"
    cli("export", "rb2701.SHFE", "out.csv", "-k", "bar", "--force")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 4
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["rb2701", "x.csv"], "is not like rb2701.SHFE"),
        (["rb2701.SHFE", "-", "--format", "parquet"], "Parquet needs a file"),
        (["rb2701.SHFE", "x.csv", "--format", "xls"], "--format is csv or parquet"),
        (["rb2701.SHFE", "x.csv", "--start", "soon"], "soon"),
        (["rb2701.SHFE", "x.csv", "--kind", "bar", "--interval", "7m"], "7m"),
    ],
)
def test_what_cannot_be_exported_is_told(cli, store, arguments, word):
    assert word in cli("export", *arguments, code=1).stderr


# --- overview, delete ---


def test_the_overview_is_a_table_or_json(cli, store):
    assert "nothing yet" in cli("overview").stderr
    store.merge_bars(RB, Interval.MINUTE, bars(1234))
    store.merge_ticks(BTC, np.zeros(1, empty_ticks().dtype), "Bitcoin")
    shown = cli("overview").stdout
    assert "rb2701.SHFE" in shown
    assert "1,234" in shown
    assert "Bitcoin" in shown
    (found,) = json.loads(cli("overview", "rb*.SHFE", "--json").stdout)
    assert found == {
        "vt_symbol": "rb2701.SHFE", "interval": "1m", "count": 1234, "name": "",
        "start": "2026-11-20T09:00:00+08:00", "end": "2026-11-21T05:33:00+08:00",
    }  # fmt: skip


def test_deleting_asks_first_and_takes_what_was_said(cli, store):
    store.merge_bars(RB, Interval.MINUTE, bars(10))
    cli("delete", "rb2701.SHFE", "-k", "bar", code=1, input="n\n")
    outcome = cli("delete", "rb2701.SHFE", "-k", "bar", "--start", "2026-11-20T09:04", input="y\n")
    assert "6 rows deleted" in outcome.stdout
    assert "0 rows deleted" in cli("delete", "rb2701.SHFE", "--yes").stdout
    assert "4 rows deleted" in cli("delete", "rb2701.SHFE", "-k", "bar", "-y").stdout


# --- migrate ---


def test_bars_of_imported_ticks_are_kept_for_vnpy(cli, store, tmp_path):
    (tmp_path / "a.csv").write_text(rows(200))
    cli("import", "a.csv")
    assert cli("build-bars", "rb2701.SHFE").stdout == "4 bars new, 0 written over\n"
    kept = next(iter(store.bars(RB, Interval.MINUTE, 0, 2**62)))
    assert kept["close_price"].tolist() == [3559, 3619, 3679, 3699]
    assert kept["volume"].tolist() == [59, 60, 60, 20]
    # Of a range that cuts a minute the whole minute.
    outcome = cli("build-bars", "rb2701.SHFE", "--start", "2026-11-20T09:01:30", "--end", "2026-11-20T09:01:40")
    assert outcome.stdout == "0 bars new, 1 written over\n"
    assert next(iter(store.bars(RB, Interval.MINUTE, 0, 2**62))).tolist() == kept.tolist()
    assert "no ticks of cu2701.SHFE" in cli("build-bars", "cu2701.SHFE", code=1).stderr


def test_the_old_database_is_migrated_by_one_command_and_vnpy_switched_over(cli, data):
    temp = vnpy_sqlite(data, timezone="Asia/Shanghai", count=50)
    outcome = cli("migrate")
    assert "300 rows of 6 series; times are in Asia/Shanghai" in outcome.stdout
    assert "all is there: 300 rows are new, 0 were known" in outcome.stdout
    setting = json.loads((temp / "vt_setting.json").read_text())
    assert setting == {"database.timezone": "Asia/Shanghai", "database.name": "core"}
    assert "from its next start on" in outcome.stdout
    with opened(TimeSeriesSettings(), data) as store:
        assert sum(kept.count for kept in store.overview()) == 300
        assert ticks(store)["ts"][0] == to_ns(datetime(2026, 3, 27, 1, tzinfo=UTC))
    again = cli("migrate")
    assert "0 rows are new, 300 were known" in again.stdout


def test_a_database_that_was_chosen_is_migrated_and_stays_chosen(cli, data):
    temp = vnpy_sqlite(data, timezone="UTC", count=5)
    (temp / "vt_setting.json").write_text('{"database.name": "sqlite", "database.timezone": "UTC"}')
    assert 'set database.name to "core" in' in cli("migrate").stdout
    assert json.loads((temp / "vt_setting.json").read_text())["database.name"] == "sqlite"


def test_any_file_may_be_migrated(cli, data, tmp_path):
    temp = vnpy_sqlite(tmp_path / "elsewhere", timezone="Europe/Berlin", count=5)
    outcome = cli("migrate", "--from", temp / "database.db")
    assert "times are in Europe/Berlin" in outcome.stdout
    assert not (data / ".vntrader").exists()
    assert "times are in UTC" in cli("migrate", "--from", temp / "database.db", "--timezone", "UTC").stdout


@pytest.mark.parametrize("arguments", [[], ["--from", "absent.db"]])
def test_without_a_source_it_is_told(cli, arguments):
    assert "there is no database" in cli("migrate", *arguments, code=1).stderr


# --- job ---


def child(data, **spec):
    job = {"data": str(data), "timeseries": {"kind": "embedded"}, **spec}
    process = subprocess.Popen(
        [sys.executable, "-m", "vnpy_core", "data", "job"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()
    return process


def end(process):
    """Its reports, once it has ended by itself: its stdin stays open, as the service keeps it."""
    reports = [json.loads(line) for line in process.stdout]
    code = process.wait(30)
    process.stdin.close()
    errors = process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    return code, reports, errors


def test_a_job_imports_and_reports(data, tmp_path):
    path = tmp_path / "upload-1"
    path.write_text(rows(50, bad=[7]))
    process = child(data, kind="import", spec={"path": str(path), "kind": "tick", "name": "mine.csv"})
    code, reports, errors = end(process)
    assert code == 0, errors
    result = reports[-1]["result"]
    assert (result["rows"], result["bad_count"], result["bad"][0]["place"]) == (49, 1, "mine.csv:9")
    assert all(0 <= report["progress"] <= 1 for report in reports[:-1])
    with opened(TimeSeriesSettings(), data) as store:
        assert len(ticks(store)) == 49


def test_a_job_exports_to_a_path(data, tmp_path):
    with opened(TimeSeriesSettings(), data) as store:
        store.merge_bars(RB, Interval.MINUTE, bars(5))
    out = tmp_path / "out.parquet"
    spec = {"kind": "bar", "vt_symbol": "rb2701.SHFE", "format": "parquet"}
    code, reports, errors = end(child(data, kind="export", spec=spec, out=str(out)))
    assert (code, reports[-1]) == (0, {"result": {"rows": 5}}), errors
    assert out.read_bytes()[:4] == b"PAR1"


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"kind": "import", "spec": {"path": "absent", "kind": "tick"}}, "absent"),
        ({"kind": "dance"}, "dance"),
        ({"kind": "import", "contracts": "broken.toml", "spec": {"path": "x", "kind": "tick"}}, "broken.toml"),
    ],
)
def test_a_job_that_cannot_be_done_says_why(data, tmp_path, monkeypatch, spec, word):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.toml").write_text("= broken")
    code, reports, _ = end(child(data, **spec))
    assert code == 1
    assert word in reports[-1]["error"]["detail"]


def test_a_job_ends_when_it_is_told_to_and_when_its_parent_is_gone(data, tmp_path):
    for leave in (lambda process: process.send_signal(signal.SIGTERM), lambda process: process.stdin.close()):
        os.mkfifo(fifo := tmp_path / f"fifo{time.monotonic_ns()}")
        process = child(data, kind="import", spec={"path": str(fifo), "kind": "tick"})  # opens it, and waits
        writer = os.open(fifo, os.O_WRONLY)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
        leave(process)
        assert process.wait(15) != 0
        os.close(writer)
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def test_a_job_needs_neither_vnpy_nor_the_web():
    code = (
        "import sys, vnpy_core.__main__, vnpy_core.cli.data_job;"
        "print(*{m.partition('.')[0] for m in sys.modules} & {'vnpy', 'fastapi', 'sqlalchemy', 'uvicorn'})"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == ""


# --- download ---


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "needs a token"),
        (["--token", "x", "--url", "localhost"], "--url is like"),
        (["--token", "x", "--url", "http://127.0.0.1:9"], "no service answers"),
    ],
)
def test_a_download_needs_a_service(cli, arguments, word):
    wanted = ["download", "rb2701.SHFE", "--start", "2026-11-20", "--end", "2026-11-20"]
    assert word in cli(*wanted, *arguments, code=1).stderr


# --- serving ---


def test_a_service_names_its_configuration_for_the_processes_it_starts(tmp_path, monkeypatch):
    from vnpy_core.__main__ import _name_configuration

    monkeypatch.chdir(tmp_path)
    for named, config, expected in [
        ("", None, ""),
        ("", "vnpy_config/service.toml", "vnpy_config/service.toml"),
        ("other.toml", None, "other.toml"),
        ("", None, "vnpy_config/service.toml"),
    ]:
        monkeypatch.setenv("VNPYCORE_CONFIG", named)
        _name_configuration(Path(config) if config else None)
        assert os.environ["VNPYCORE_CONFIG"] == (str(tmp_path / expected) if expected else "")
        (tmp_path / "vnpy_config").mkdir(exist_ok=True)
        (tmp_path / "vnpy_config" / "service.toml").touch()
        (tmp_path / "other.toml").touch()
