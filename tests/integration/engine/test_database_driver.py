"""`database.name = "core"`: VnPy's own apps on the store, in the service's process and in others beside it."""

import csv
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from integration.engine.test_host import gateway, until
from vnpy_core.adapters.timeseries.build import build_store
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.domain.history import Interval, Series, empty_bars, empty_ticks, to_ns
from vnpy_core.engine.settings import StrategySettings
from vnpy_core.kit.clock import SystemClock

RB = Series("rb2701", "SHFE")
STRATEGIES = Path(__file__).parents[2] / "testkit" / "strategies"


def open_store(data):
    store = build_store(TimeSeriesSettings(), data, SystemClock())
    store.open()
    return store


def minutes(count, *, end=None):
    """Bars that end with the minute `end`, closing at 0, 1, 2, …"""
    rows = empty_bars(count)
    last = (end or datetime.now(UTC)).replace(second=0, microsecond=0)
    rows["ts"] = to_ns(last) - np.arange(count)[::-1] * 60_000_000_000
    rows["close_price"] = np.arange(count)
    rows["high_price"] = rows["open_price"] = rows["low_price"] = rows["close_price"]
    return rows


@pytest.fixture
def store(tmp_path, vnpy_home):
    """A store that is VnPy's as long as the test takes."""
    from vnpy_core.engine.database import provide

    store = open_store(tmp_path / "data")
    provide(store)
    yield store
    provide(None)
    store.close()


def in_process(script, home, *, environ=None, check=True):
    """Run a script as VnPy's users do, in a folder with `.vntrader`; its last line as JSON."""
    (home / ".vntrader").mkdir(parents=True, exist_ok=True)
    environ = (
        {k: v for k, v in os.environ.items() if not k.startswith("VNPYCORE")} | {"HOME": str(home)} | (environ or {})
    )
    command = [sys.executable, "-c", script]
    outcome = subprocess.run(command, cwd=home, env=environ, capture_output=True, text=True, check=False, timeout=60)
    if check:
        assert outcome.returncode == 0, outcome.stderr
        return json.loads(outcome.stdout.splitlines()[-1])
    return outcome


# --- which database ---

CHOSEN = """
import json, sys
from pathlib import Path
from vnpy_core.engine.home import prepare_home
here = Path.cwd()
(here / "strategies").mkdir(exist_ok=True)
prepare_home(here / "data", here / "strategies", config_folder=here / "config")
from vnpy.trader.database import get_database
from vnpy.trader.setting import SETTINGS
kind = type(get_database()).__name__
assert "vnpy_core.app" not in sys.modules
print(json.dumps([kind, SETTINGS["database.name"]]))
"""


def vt_setting(folder, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vt_setting.json").write_text(json.dumps({f"database.{k}": v for k, v in settings.items()}))


def test_a_new_service_keeps_its_data_in_the_store_and_so_do_its_children(tmp_path):
    assert in_process(CHOSEN, tmp_path) == ["CoreDatabase", "core"]
    assert json.loads((tmp_path / "data" / ".vntrader" / "vt_setting.json").read_text()) == {"database.name": "core"}
    assert (tmp_path / "data" / "timeseries").is_dir()


def test_a_database_that_was_chosen_stays(tmp_path):
    vt_setting(tmp_path / "config", name="sqlite")
    assert in_process(CHOSEN, tmp_path) == ["SqliteDatabase", "sqlite"]
    assert not (tmp_path / "data" / "timeseries").exists()


# --- VnPy's apps in the service's process ---


async def test_a_strategy_begins_with_the_bars_and_ticks_of_the_store(run_host, store, vnpy_home):
    store.merge_bars(RB, Interval.MINUTE, minutes(30))
    seen = empty_ticks(5)
    seen["ts"] = to_ns(datetime.now(UTC)) - np.arange(5)[::-1] * 10**9
    seen["last_price"] = 100 + np.arange(5)
    store.merge_ticks(RB, seen)
    loading = {"s": StrategySettings(class_name="LoadingStrategy", vt_symbol="rb2701.SHFE", auto_init=True)}
    async with run_host(gateways={"P": gateway("HoldingGateway")}, strategies=loading) as host:
        await until(lambda: host.main_engine.engines["CtaStrategy"].strategies["s"].inited)
        strategy = host.main_engine.engines["CtaStrategy"].strategies["s"]
        assert strategy.closes == [float(n) for n in range(30)]
        assert strategy.prices == [100.0 + n for n in range(5)]


def test_the_data_manager_imports_exports_lists_and_deletes(store, tmp_path):
    from vnpy.trader.constant import Exchange
    from vnpy.trader.constant import Interval as VnpyInterval
    from vnpy.trader.database import DB_TZ
    from vnpy.trader.engine import MainEngine
    from vnpy_datamanager import DataManagerApp

    from vnpy_core.engine.event_engine import InterruptibleEventEngine

    rows = [
        {"t": f"2026-11-20 09:{n:02}:00", "o": n, "h": n + 2, "l": n - 1, "c": n + 1, "v": 7, "m": 8.5, "i": 9}
        for n in range(10)
    ]
    with (tmp_path / "in.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    main_engine = MainEngine(InterruptibleEventEngine())
    try:
        manager = main_engine.add_app(DataManagerApp)
        names = ("t", "o", "h", "l", "c", "v", "m", "i", "%Y-%m-%d %H:%M:%S")
        whose = ("rb2701", Exchange.SHFE, VnpyInterval.MINUTE)
        start, end, count = manager.import_data_from_csv(str(tmp_path / "in.csv"), *whose, "Asia/Shanghai", *names)
        assert (count, end - start) == (10, timedelta(minutes=9))
        (overview,) = manager.get_bar_overview()
        assert (overview.symbol, overview.exchange, overview.interval, overview.count) == (*whose, 10)
        assert (overview.start.replace(tzinfo=DB_TZ), overview.end.replace(tzinfo=DB_TZ)) == (start, end)
        assert manager.output_data_to_csv(str(tmp_path / "out.csv"), *whose, start, end)
        with (tmp_path / "out.csv").open() as file:
            written = list(csv.DictReader(file))
        assert [float(row["close"]) for row in written] == [n + 1 for n in range(10)]
        assert {row["turnover"] for row in written} == {"8.5"}
        assert store.overview()[0].start_ns == to_ns(datetime(2026, 11, 20, 1, tzinfo=UTC))
        assert manager.delete_bar_data(*whose) == 10
        assert manager.get_bar_overview() == []
    finally:
        main_engine.close()


# --- beside the service ---

BACKTEST = """
import json, sys
from datetime import datetime
from pathlib import Path
sys.path.insert(0, str(Path.cwd()))
from vnpy.trader.constant import Interval
from vnpy_ctastrategy import backtesting
from vnpy_ctastrategy.backtesting import BacktestingEngine
from strategies.loading_strategies import LoadingStrategy

def run():
    engine = BacktestingEngine()
    engine.output = lambda text: None
    engine.set_parameters("rb2701.SHFE", Interval.MINUTE, datetime(2026, 11, 19), 0, 0, 10, 1, 1_000_000,
                          datetime(2026, 11, 21))
    engine.add_strategy(LoadingStrategy, {})
    engine.load_data()
    return [len(engine.history_data), engine.history_data[-1].close_price if engine.history_data else None]

def run_again():
    backtesting.load_bar_data.cache_clear()  # VnPy keeps what it has loaded
    return run()

if __name__ == "__main__":
    print(json.dumps(run()))
"""

SERVICE = """
import json, multiprocessing, sys
from datetime import UTC, datetime
from pathlib import Path

from vnpy_core.engine.home import prepare_home
data = Path.cwd()
prepare_home(data, data / "own")
from vnpy_core.adapters.timeseries.build import build_store
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.domain.history import Interval, Series
from vnpy_core.engine.database import CoreDatabase, provide
from vnpy_core.kit.clock import SystemClock
from vnpy.trader.database import get_database

sys.path.insert(0, str(data))
import backtest
from integration.engine.test_database_driver import RB, minutes

if __name__ == "__main__":
    store = build_store(TimeSeriesSettings(), data, SystemClock())
    store.open()
    provide(store)
    assert get_database().store is store
    found = []
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for count in (5, 8):  # the one process sees what the other wrote a moment ago
            store.merge_bars(RB, Interval.MINUTE, minutes(count, end=datetime(2026, 11, 20, 3, tzinfo=UTC)))
            found.append(pool.apply(backtest.run_again))
    store.close()
    print(json.dumps(found))
"""


def write_backtest(home):
    (home / ".vntrader").mkdir(parents=True, exist_ok=True)
    if not (home / "strategies").exists():
        (home / "strategies").symlink_to(STRATEGIES, target_is_directory=True)
    (home / "backtest.py").write_text(BACKTEST)


def test_a_backtest_in_a_spawned_process_reads_what_the_service_writes(tmp_path):
    write_backtest(tmp_path)
    (tmp_path / "strategies").rename(tmp_path / "own")
    (tmp_path / "service.py").write_text(SERVICE)
    environ = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(STRATEGIES.parents[1])}
    command = [sys.executable, "service.py"]
    outcome = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=90, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    assert json.loads(outcome.stdout.splitlines()[-1]) == [[5, 4.0], [8, 7.0]]


def test_a_process_of_its_own_finds_the_store_by_vnpys_settings(tmp_path):
    home, service = tmp_path / "home", tmp_path / "service"
    store = open_store(service / "data")
    store.merge_bars(RB, Interval.MINUTE, minutes(7, end=datetime(2026, 11, 20, 3, tzinfo=UTC)))
    store.close()
    (service / "service.toml").write_text('[paths]\ndata = "data"\n')
    vt_setting(home / ".vntrader", name="core", database="../service/service.toml")
    write_backtest(home)
    assert in_process(BACKTEST, home) == [7, 6.0]


@pytest.fixture
def configured(vnpy_home, tmp_path, monkeypatch):
    """`configured(database.database)`: the settings it leads to, in a VnPy whose home is `tmp_path`."""
    from vnpy.trader.setting import SETTINGS

    from vnpy_core.plugin import database

    (tmp_path / ".vntrader").mkdir()
    monkeypatch.setattr(database, "TRADER_DIR", tmp_path)
    monkeypatch.setattr(database, "TEMP_DIR", tmp_path / ".vntrader")
    monkeypatch.delenv("VNPYCORE_CONFIG", raising=False)

    def find(named):
        monkeypatch.setitem(SETTINGS, "database.database", named)
        return database.configured()

    return find


@pytest.mark.parametrize("unset", ["", "database.db", None])
def test_where_nothing_is_said_the_store_is_in_vnpys_folder(configured, tmp_path, unset):
    assert configured(unset).paths.data == tmp_path


def test_a_data_folder_may_be_named(configured, tmp_path):
    (tmp_path / "data").mkdir()
    assert configured("data").paths.data == configured(str(tmp_path / "data")).paths.data == tmp_path / "data"


def test_the_environment_speaks_as_it_does_to_the_service(configured, tmp_path, monkeypatch):
    monkeypatch.setenv("VNPYCORE__TIMESERIES__KIND", "influxdb")
    assert configured("").timeseries.kind == "influxdb"
    (tmp_path / "other.toml").write_text('[paths]\ndata = "there"\n[timeseries]\nbucket = "b"\n')
    monkeypatch.setenv("VNPYCORE_CONFIG", str(tmp_path / "other.toml"))
    found = configured("database.db")
    assert (found.paths.data, found.timeseries.bucket) == (tmp_path / "there", "b")


def test_the_plugins_store_is_the_one_of_its_vnpy(configured, tmp_path, monkeypatch):
    plugin = tmp_path / ".vntrader" / "vnpy_core"
    plugin.mkdir()
    monkeypatch.chdir(tmp_path)
    assert configured("").paths.data == plugin


@pytest.mark.parametrize("named", ["nowhere", "file.txt"])
def test_a_place_that_is_none_is_told(configured, tmp_path, named):
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(ConfigurationError, match=rf"{named} is neither a service\.toml nor a data folder"):
        configured(named)


def test_the_package_comes_without_vnpy_until_vnpy_asks_for_the_driver():
    script = (
        "import sys, vnpy_core; print(any(m.partition('.')[0] in ('vnpy', 'numpy', 'pydantic') for m in sys.modules))"
    )
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "False"
    import vnpy_core

    with pytest.raises(AttributeError, match="Datenbank"):
        _ = vnpy_core.Datenbank
