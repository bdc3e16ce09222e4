"""What strategies rely on and VnPy 4.5 lacks or gives by halves, on the real engine and the paper market."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import count

import numpy as np
import pytest

from integration.engine.conftest import run_host  # noqa: F401 - a fixture
from integration.engine.test_host import gateway, until
from testkit.load import CALM_S
from vnpy_core.adapters.timeseries.build import build_store
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.enums import Direction, StrategyState
from vnpy_core.domain.history import Interval, Series, empty_bars, empty_ticks, to_ns
from vnpy_core.engine.settings import GatewaySettings, StrategySettings
from vnpy_core.features.strategies.rollover import Rollovers
from vnpy_core.features.strategies.rollover_plan import RolloverRequest
from vnpy_core.features.strategies.rollover_records import RolloverState
from vnpy_core.kit.clock import SystemClock

OLD, NEW, BTC = "rb2701.SHFE", "rb2705.SHFE", "BTCUSDT.GLOBAL"
RB = Series("rb2701", "SHFE")
CONTRACTS = """
[rb]
exchange = "SHFE"
size = 10
pricetick = 1
margin_rate = 0.1

[BTCUSDT]
exchange = "GLOBAL"
product = "SWAP"
size = 1
pricetick = 0.1
min_volume = 0.001
net_position = true
"""


@pytest.fixture
def paper(tmp_path):
    """A made-up market of two months of one product and of a perpetual swap, which has no limits of the day."""
    (tmp_path / "contracts.toml").write_text(CONTRACTS)
    setting = {
        "contracts": str(tmp_path / "contracts.toml"),
        "ledger": str(tmp_path / "books.sqlite"),
        "symbols": f"{OLD};{NEW};{BTC}",
        "rate": 20.0,
    }
    target = "vnpy_core.gateways.paper.gateway:PaperGateway"
    return {"PAPER": GatewaySettings(class_=target, setting=setting, auto_connect=True)}


def running(class_name: str, vt_symbol: str = OLD, **setting) -> dict[str, StrategySettings]:
    return {"s": StrategySettings(class_name=class_name, vt_symbol=vt_symbol, auto_start=True, setting=setting)}


def strategy(host):
    return host.main_engine.engines["CtaStrategy"].strategies["s"]


def shown(host):
    return host.strategies.strategy("s")


def held(host, vt_symbol):
    """What the account holds, signed."""
    found = [position for position in host.view.positions.values() if position.vt_symbol == vt_symbol]
    return sum(-p.volume if p.direction is Direction.SHORT else p.volume for p in found)


# --- TargetPosTemplate ---


@pytest.mark.parametrize(("vt_symbol", "lot"), [(OLD, 1), (BTC, 0.01)])
async def test_a_target_is_reached_from_either_side(run_host, paper, vt_symbol, lot):  # noqa: F811
    async with run_host(gateways=paper, strategies=running("WantedPosStrategy", vt_symbol, wanted=2 * lot)) as host:
        for wanted in (2 * lot, -lot, 0):
            await host.strategies.edit("s", {"wanted": wanted}, by="t")
            await until(lambda wanted=wanted: shown(host).pos == pytest.approx(wanted, abs=1e-9), CALM_S)
        assert shown(host).state is StrategyState.RUNNING
        assert shown(host).attributed_pos == pytest.approx(0, abs=1e-9)
        await until(lambda: not host.view.active_orders and held(host, vt_symbol) == 0, CALM_S)


# --- local stop orders ---


@pytest.mark.parametrize(("vt_symbol", "lot"), [(OLD, 1), (BTC, 0.01)])
async def test_a_local_stop_order_is_triggered_and_filled(run_host, paper, vt_symbol, lot):  # noqa: F811
    async with run_host(gateways=paper, strategies=running("StopEntryStrategy", vt_symbol, volume=lot)) as host:
        await until(lambda: shown(host).pos == lot and host.strategies.stop_orders(), CALM_S)
        (waiting,) = host.strategies.stop_orders()
        assert (waiting.stop_orderid, waiting.strategy_name, waiting.offset) == ("STOP.2", "s", "CLOSE")
        first = host.view.stop_orders["STOP.1"]
        assert first.status == "TRIGGERED"
        assert host.view.order(first.vt_orderids[0]).traded == lot
        assert shown(host).variables["triggered"] == 1
        assert shown(host).state is StrategyState.RUNNING


async def test_a_stop_order_has_a_price_where_the_venue_shows_one_level_and_no_limits(run_host):  # noqa: F811
    async with run_host(gateways={"P": gateway("HoldingGateway")}, strategies=running("StopEntryStrategy")) as host:
        await until(lambda: strategy(host).trading)
        venue = host.main_engine.get_gateway("P")
        venue.tick(price=3000.0)
        await until(host.strategies.stop_orders)
        venue.tick(price=3000.0)  # an ask of 3001 and nothing behind it
        await until(lambda: host.view.active_orders)
        (sent,) = host.view.active_orders.values()
        assert sent.price == 3005.0


# --- mails ---


async def test_a_strategy_that_mails_goes_on_where_no_mail_is_set_up(run_host, vnpy_home, monkeypatch):  # noqa: F811
    from vnpy.trader.setting import SETTINGS

    monkeypatch.setitem(SETTINGS, "email.server", "127.0.0.1")
    monkeypatch.setitem(SETTINGS, "email.port", 1)
    async with run_host(gateways={"P": gateway("PlainGateway")}, strategies=running("MailingStrategy")) as host:
        await until(lambda: strategy(host).trading)
        for _ in range(3):
            host.main_engine.get_gateway("P").tick()
        await until(lambda: shown(host).variables["ticks"] == 3)
        assert (shown(host).state, shown(host).error) == (StrategyState.RUNNING, None)
        await until(lambda: "not mailed: s: tick 2" in [m.data.msg for m in host.messages if m.topic == "log"])


# --- history ---


@pytest.fixture
def store(tmp_path, vnpy_home):
    """A store that is VnPy's as long as the test takes."""
    from vnpy_core.engine.database import provide

    store = build_store(TimeSeriesSettings(), tmp_path / "data", SystemClock())
    store.open()
    provide(store)
    yield store
    provide(None)
    store.close()


def three_hours() -> datetime:
    """When three whole hours that are over began."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)


def loading() -> dict[str, StrategySettings]:
    return {"s": StrategySettings(class_name="BarLoadingStrategy", vt_symbol=OLD, auto_init=True)}


async def loaded(host):
    await until(lambda: shown(host).state is StrategyState.INITED)
    variables = shown(host).variables
    return variables["minutes"], variables["hours"], variables["last_close"]


async def test_a_strategy_begins_with_the_stored_bars(run_host, store):  # noqa: F811
    for interval, number, length_s in ((Interval.MINUTE, 180, 60), (Interval.HOUR, 3, 3600)):
        rows = empty_bars(number)
        rows["ts"] = to_ns(three_hours()) + np.arange(number) * length_s * 10**9
        rows["close_price"] = 1000 + np.arange(number)
        store.merge_bars(RB, interval, rows)
    async with run_host(gateways={"P": gateway("PlainGateway")}, strategies=loading()) as host:
        assert await loaded(host) == (180, 3, 1179.0)


async def test_a_strategy_begins_with_bars_of_stored_ticks_where_only_those_are_there(run_host, store):  # noqa: F811
    rows = empty_ticks(3 * 3600 // 20)
    rows["ts"] = to_ns(three_hours()) + np.arange(rows.size) * 20 * 10**9
    rows["last_price"] = 1000 + np.arange(rows.size)
    store.merge_ticks(RB, rows)
    async with run_host(gateways={"P": gateway("PlainGateway")}, strategies=loading()) as host:
        assert await loaded(host) == (180, 3, 1539.0)


# --- rollovers ---


async def test_a_rollover_moves_a_strategy_with_its_lots_and_a_restart_knows_it(run_host, paper, tmp_path):  # noqa: F811
    wanted = running("WantedPosStrategy", wanted=3)
    ids = count(1)

    async def opened(host) -> Rollovers:
        rollovers = Rollovers(
            host, host.strategies, host.view, host.bus, SystemClock(),
            file=tmp_path / "rollovers.json", new_id=lambda: f"r{next(ids)}", reprice_s=0.5,
        )  # fmt: skip
        await rollovers.open()
        return rollovers

    async with run_host(gateways=paper, strategies=wanted) as host:
        await until(lambda: shown(host).pos == 3 and held(host, OLD) == 3, CALM_S)
        await host.strategies.stop("s")
        await host.subscribe(NEW, "PAPER")
        await until(lambda: NEW in host.view.ticks and not host.view.active_orders, CALM_S)
        rollovers = await opened(host)
        request = RolloverRequest(from_vt_symbol=OLD, to_vt_symbol=NEW, max_volume=2.0)
        plan = rollovers.plan(request)
        assert (plan.problems, plan.warnings) == ([], [])
        begun = await rollovers.start(request, by="t")
        await until(lambda: rollovers.rollover(begun.id).state is not RolloverState.RUNNING, CALM_S)
        (part,) = rollovers.rollover(begun.id).strategies
        assert (part.closed, part.opened, part.moved, part.problem) == (3.0, 3.0, True, None)
        assert rollovers.rollover(begun.id).state is RolloverState.DONE
        assert (shown(host).vt_symbol, shown(host).pos, shown(host).attributed_pos) == (NEW, 3, 3)
        assert (held(host, OLD), held(host, NEW)) == (0, 3)
        rolled = [o for o in host.view.orders() if (o.client_order_id or "").startswith("ro-")]
        assert {(order.strategy_name, order.reference) for order in rolled} == {("s", "CtaStrategy_s")}
        assert {order.volume for order in rolled} == {2.0, 1.0}
        await rollovers.close()

    async with run_host(gateways=paper, strategies=wanted) as host:
        assert (shown(host).vt_symbol, shown(host).attributed_pos) == (NEW, 3)
        await host.strategies.edit("s", {"wanted": -1}, by="t")
        await until(lambda: shown(host).trading and shown(host).pos == -1, CALM_S)
        await until(lambda: held(host, NEW) == -1, CALM_S)
        assert held(host, OLD) == 0
        rollovers = await opened(host)
        assert [record.state for record in rollovers.rollovers()] == [RolloverState.DONE]
        assert "stop it first" in str(rollovers.plan(RolloverRequest(from_vt_symbol=NEW, to_vt_symbol=OLD)).problems)
        await rollovers.close()
        await asyncio.sleep(0)
