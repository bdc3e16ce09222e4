"""The same strategies on the same ticks, in the service and in VnPy by itself: trade by trade the same.

VnPy's eight as they are shipped, and four of ours: two as third parties write them, one on TargetPosTemplate, one that
trades by local stop orders alone. All share an account, so one that differs would soon make the others differ.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import pytest

from testkit.bare_vnpy import VT_SYMBOL, ZONE, Plan, Strategy, recorded_days, run_bare, write_history
from testkit.load import eventually
from testkit.service_process import PASSWORD, REPOSITORY, ServiceProcess, environment

pytestmark = [pytest.mark.realdata, pytest.mark.timeout(400)]  # a busy machine takes its time

ONE_LOT = {"fixed_size": 1}
PLAYED = {
    "atr_rsi": Strategy("AtrRsiStrategy", ONE_LOT),
    # Its 3.4 deviations are hardly left in a day: a narrower channel, and a closer stop to come back by.
    "boll_channel": Strategy("BollChannelStrategy", {**ONE_LOT, "boll_dev": 0.8, "sl_multiplier": 1.0}),
    "double_ma": Strategy("DoubleMaStrategy", {}),  # always one lot
    # It enters each side once a day: nearer to the open, that both are.
    "dual_thrust": Strategy("DualThrustStrategy", {**ONE_LOT, "k1": 0.1, "k2": 0.1}),
    "king_keltner": Strategy("KingKeltnerStrategy", ONE_LOT),
    "multi_signal": Strategy("MultiSignalStrategy", {}),  # a lot for each of its three signals
    # The trend of twenty quarters of an hour turns once a day, if at all: a quicker one.
    "multi_timeframe": Strategy(
        "MultiTimeframeStrategy",
        {**ONE_LOT, "rsi_signal": 5, "rsi_window": 6, "fast_window": 2, "slow_window": 5},
    ),
    "turtle_signal": Strategy("TurtleSignalStrategy", ONE_LOT),
    "ama_channel": Strategy("AmaChannelStrategy", {}),
    "vwap_reversal": Strategy("VwapReversalStrategy", {"entry_ticks": 5}),
    "momentum_target": Strategy("MomentumTargetStrategy", {}),
    "stop_breakout": Strategy("StopBreakoutStrategy", {}),
}
FEWEST = 4
"""Trades that each makes at least: one that does not trade proves nothing."""
FILES = [
    "ama_channel_strategy.py", "channel_tools.py", "stop_breakout_strategy.py", "target_pos_strategy.py",
    "vwap_reversal_strategy.py",
]  # fmt: skip
FIELDS = ["direction", "offset", "price", "volume", "orderid", "tradeid"]
CONFIG = """
[log]
format = "json"

[gateways.PAPER]
class = "vnpy_core.gateways.paper.gateway:PaperGateway"
auto_connect = true

[gateways.PAPER.setting]
{gateway}
"""
STRATEGY = """
[strategies.{name}]
class_name = "{class_name}"
vt_symbol = "{vt_symbol}"
auto_start = true

[strategies.{name}.setting]
{setting}
"""


class Service(ServiceProcess):
    """A service that plays a plan as soon as it is started."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._history = plan.history
        self._config = CONFIG.format(gateway=toml(plan.gateway)) + "".join(
            STRATEGY.format(name=name, class_name=each.class_name, vt_symbol=VT_SYMBOL, setting=toml(each.setting))
            for name, each in plan.strategies.items()
        )

    @property
    def home(self) -> Path:
        """VnPy's own folder."""
        return self.folder / "vnpy_data" / ".vntrader"

    def played(self) -> dict[str, Any]:
        """Wait for the recording's end; then what REST shows, and what VnPy has saved when all has stopped."""
        eventually(lambda: "paper: replay " in self.log(), 240, "the replay does not end")
        with httpx2.Client(base_url=f"{self.url()}/api/v1", timeout=30, trust_env=False) as client:
            login = client.post("/auth/token", data={"username": "admin", "password": PASSWORD})
            client.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
            eventually(lambda: len(get_all(client, "/trading/trades")) == self._fills(), what="not all fills are shown")
            shown = {
                "trades": {name: get_all(client, "/trading/trades", strategy_name=name) for name in PLAYED},
                "all_trades": get_all(client, "/trading/trades"),
                "orders": get_all(client, "/trading/orders"),
                "status": client.get("/system/status").json(),
            }
        self.stop()
        return shown | {"saved": json.loads((self.home / "cta_strategy_data.json").read_text())}

    def _install(self) -> None:
        super()._install()
        (self.folder / "strategies").unlink()
        copy_strategies(self.folder / "strategies")
        self.home.mkdir(parents=True)
        # RiskManager is there as always; bare VnPy has none, so it must not refuse the tenth order of a kind.
        limits = {"重复报单检查": {"duplicate_order_limit": 10**9}, "活动委托检查": {"active_order_limit": 10**9}}
        (self.home / "risk_manager_setting.json").write_text(json.dumps(limits))
        importing = ["data", "import", "--kind", "bar", "--config", "vnpy_config/service.toml", self._history]
        command = [sys.executable, "-m", "vnpy_core", *importing]
        subprocess.run(command, cwd=self.folder, env=environment(), stdout=subprocess.DEVNULL, check=True)

    def _fills(self) -> int:
        """As the venue's own books have them."""
        [path] = self.home.glob("paper*.sqlite")
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return int(database.execute("select count(*) from trades").fetchone()[0])


def copy_strategies(folder: Path) -> None:
    folder.mkdir()
    for name in FILES:
        shutil.copy(REPOSITORY / "tests" / "testkit" / "strategies" / name, folder)


def toml(values: dict[str, Any]) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def get_all(client: httpx2.Client, path: str, **query: str) -> list[dict[str, Any]]:
    """Every page of a list."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get(path, params={"limit": 1000, **query, **cursor})
        assert page.status_code == 200, page.text
        items += page.json()["items"]
        if not page.json()["next_cursor"]:
            return items
        cursor = {"cursor": page.json()["next_cursor"]}


@pytest.fixture(scope="module")
def plan(shared_data) -> Iterator[Plan]:
    """The recording's last day, with the night that begins the next trading day; three days before it as history."""
    with TemporaryDirectory(prefix="vnpy-core-market-") as name:
        folder = Path(name)
        days = recorded_days(shared_data, folder)
        yesterday = (datetime.now(ZoneInfo(ZONE)) - timedelta(days=1)).date()
        write_history(days[1:4], folder / "history.csv", until=yesterday)
        gateway = {
            "market": "replay",
            "files": str(days[4]),
            "exchange": "SHFE",
            "speed": 0,
            "balance": 10_000_000,
            "contracts": str(REPOSITORY / "vnpy_config" / "contracts.toml"),
        }
        yield Plan(str(folder / "history.csv"), gateway, PLAYED)


@pytest.fixture(scope="module")
def runs(plan, tmp_path_factory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What came of it in VnPy by itself, and in the service."""
    home = tmp_path_factory.mktemp("bare")
    copy_strategies(home / "strategies")
    service = Service(plan)
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setenv("TZ", ZONE)
        bare = pool.submit(run_bare, home, plan)
        try:
            service.start()
            played = service.played()
        finally:
            service.remove()
        return bare.result(), played


def comparable(trades: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The venue numbers orders and fills of all strategies: the same ids mean the same order among all."""
    return [(datetime.fromisoformat(t["datetime"]).timestamp(), *(t[field] for field in FIELDS)) for t in trades]


@pytest.mark.parametrize("name", PLAYED)
def test_a_strategy_makes_the_trades_that_it_makes_in_vnpy_by_itself(runs, name):
    bare, service = runs
    expected = comparable([trade for trade in bare["trades"] if trade["strategy_name"] == name])
    made = comparable(sorted(service["trades"][name], key=lambda trade: trade["seq"]))
    print(f"{name}: {len(expected)} trades in VnPy by itself, {len(made)} in the service")
    assert len(expected) >= FEWEST
    assert made == expected


@pytest.mark.parametrize("name", PLAYED)
def test_a_strategy_ends_with_the_variables_that_it_ends_with_in_vnpy_by_itself(runs, name):
    bare, service = runs
    saved = {key: value for key, value in service["saved"][name].items() if not key.startswith("vnpy_core")}
    assert saved == bare["saved"][name]


def test_every_strategy_runs_to_the_end_and_no_trade_is_anybody_elses(runs):
    bare, service = runs
    print(f"{bare['ticks']} ticks, {bare['orders']} orders, {len(bare['trades'])} trades")
    assert bare["running"] == list(PLAYED)
    assert len(service["all_trades"]) == len(bare["trades"]) == sum(map(len, service["trades"].values()))
    assert len(service["orders"]) == bare["orders"]
    assert service["status"]["event_thread"]["handler_errors"] == 0


def test_nothing_in_the_service_suffers_from_what_the_strategies_hold(runs):
    """Their variables are numpy's."""
    _, service = runs
    assert [part for part in service["status"]["components"] if part["state"] != "ok"] == []
