"""The client's room of strategies at the real routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date

import httpx2
import msgspec
import pytest

from testkit.fake_strategies import DOUBLE_MA
from testkit.strategies_api import StrategiesApi, fields
from vnpy_core.client import Client
from vnpy_core.client import strategies as room
from vnpy_core.domain.commands import SubmitOrder
from vnpy_core.domain.enums import Direction, LogLevel, Offset, OrderType, StrategyState
from vnpy_core.domain.errors import Conflict, NotFound, Overloaded, ValidationFailed
from vnpy_core.domain.strategies import LoadError
from vnpy_core.features.strategies import logs, schemas

COMMAND = SubmitOrder(
    client_order_id="c",
    gateway_name="PAPER",
    symbol="rb2505",
    exchange="SHFE",
    direction=Direction.LONG,
    offset=Offset.OPEN,
    type=OrderType.LIMIT,
    volume=1.0,
    price=3500.0,
)


@pytest.fixture
def api() -> StrategiesApi:
    return StrategiesApi()


@pytest.fixture
async def strategies(api: StrategiesApi) -> AsyncIterator[room.Strategies]:
    transport = httpx2.ASGITransport(api.app, raise_app_exceptions=False)
    async with Client("http://test", token="trader", transport=transport) as client:
        yield client.strategies


async def test_a_strategy_from_its_making_to_its_end(strategies, api):
    made = await strategies.add("DoubleMa", "双均线", "rb2505.SHFE", {"fast": 5}, auto_start=True)
    name = made.strategy_name
    assert (made.parameters["fast"], made.auto_start) == (5, True)
    assert (await strategies.init(name, wait_s=2.5)).state is StrategyState.INITED
    assert (await strategies.start(name)).trading
    with pytest.raises(Conflict) as refused:
        await strategies.remove(name)
    assert refused.value.extra["state"] == "RUNNING"
    assert (await strategies.stop(name)).state is StrategyState.STOPPED
    assert await strategies.change_parameters(name, {"slow": 50}) == made.parameters | {"slow": 50}
    assert (await strategies.set_parameters(name, {}))["fast"] == 10
    assert (await strategies.set_auto_start(name, False)).auto_start is False
    assert await strategies.parameters(name) == (await strategies.get(name)).parameters
    assert await strategies.variables(name) == {"fast_ma": 0.0, "slow_ma": 0.0}
    await strategies.remove(name)
    with pytest.raises(NotFound):
        await strategies.get(name)


async def test_it_waits_for_on_init_as_long_as_it_is_told(strategies, api):
    waited = []
    init = api.engine.init

    async def remembering(name: str, *, wait_s: float = 0.0):
        waited.append(wait_s)
        return await init(name, wait_s=wait_s)

    api.engine.init = remembering
    api.engine.put("demo")
    await strategies.init("demo", wait_s=12.5)
    assert waited == [12.5]


async def test_what_was_set_wrongly_is_named(strategies):
    with pytest.raises(ValidationFailed) as refused:
        await strategies.add("DoubleMa", "demo", "rb2505.SHFE", {"fasst": 5})
    assert [error.field for error in refused.value.errors] == ["setting.fasst"]


async def test_names_that_hold_anything_are_found(strategies, api):
    api.engine.put("rb/多 头?", StrategyState.INITED)
    assert (await strategies.start("rb/多 头?")).strategy_name == "rb/多 头?"


async def test_lists_are_read_to_their_end(strategies, api):
    for number in range(1_005):
        api.engine.put(f"s{number:04}", StrategyState.RUNNING if number % 2 else StrategyState.CREATED)
    assert len([each async for each in strategies.all()]) == 1_005
    assert len([each async for each in strategies.all(state=StrategyState.RUNNING)]) == 502
    for number in range(1_001):
        api.engine.known_classes[f"C{number:04}"] = msgspec.structs.replace(DOUBLE_MA, class_name=f"C{number:04}")
    api.engine.failed = [LoadError(file="draft.py", error="SyntaxError")]
    classes = await strategies.classes()
    assert (len(classes.items), classes.failed) == (1_002, api.engine.failed)
    assert await strategies.strategy_class("C0007") == api.engine.known_classes["C0007"]
    assert (await strategies.reload()).failed == api.engine.failed


async def test_orders_trades_and_stop_orders_are_the_strategys(strategies, api):
    api.engine.put("demo")
    order = api.trading.add_order(COMMAND, strategy_name="demo")
    fill = api.trading.add_trade(order)
    api.trading.add_trade(api.trading.add_order(COMMAND, strategy_name="other"))
    stop = api.engine.put_stop(1)
    assert [each async for each in strategies.orders("demo", active=True)] == [order]
    assert [each async for each in strategies.trades("demo")] == [fill]
    assert [each async for each in strategies.stop_orders(strategy_name="demo")] == [stop]


async def test_the_last_lines_of_its_log(strategies, api):
    api.engine.put("demo")
    for level in LogLevel:
        api.write("demo", f"a {level} line", level)
    lines = await strategies.logs("demo", level=LogLevel.WARNING, lines=2)
    assert [(line.number, line.msg) for line in lines] == [(4, "a ERROR line"), (5, "a CRITICAL line")]


async def test_all_of_them_at_once_with_what_went_wrong(strategies, api):
    for name in ("a", "b"):
        api.engine.put(name)
    assert [each.state for each in await strategies.init_all()] == [StrategyState.INITED] * 2
    assert [each.problem for each in await strategies.start_all()] == [None, None]
    api.engine.errors["stop", "a"] = Overloaded("busy")
    a, b = await strategies.stop_all()
    assert (a.state, a.problem["code"], a.problem["detail"]) == (StrategyState.RUNNING, "OVERLOADED", "busy")
    assert (b.state, b.problem) == (StrategyState.STOPPED, None)


async def test_profit_as_the_service_tells_it(strategies, api):
    api.engine.put("demo")
    api.ledger.answer = schemas.PNL_EXAMPLE
    pnl = await strategies.pnl("demo", start=date(2026, 11, 1))
    assert (pnl.net, pnl.days[0].day, pnl.legs[0].pos) == (4_415.8, "2026-11-20", 2.0)
    api.ledger.answer = schemas.EQUITY_EXAMPLE
    equity = await strategies.equity("demo", "trade")
    assert equity.points[0].equity == 4_415.8
    assert [asked["start"] for asked in api.ledger.asked] == ["2026-11-01", ""]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (room.Classes, schemas.ClassesPage),
        (room.StrategyLogLine, logs.StrategyLogLine),
        (room.StrategyOutcome, schemas.AllItem),
    ],
)
def test_the_fields_are_the_services(ours, theirs):
    assert fields(ours) == fields(theirs)
