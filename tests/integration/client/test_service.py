"""The client at the whole service: a process of its own with the paper venue."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from testkit.checking_client import CheckingClient
from testkit.cutting_proxy import CuttingProxy
from testkit.service_process import PASSWORD, REPOSITORY, SYMBOL, ServiceProcess, environment
from vnpy_core.client import Client
from vnpy_core.domain.errors import (
    Conflict,
    GatewayNotConnected,
    NotAuthenticated,
    NotFound,
    TradingHalted,
    ValidationFailed,
)
from vnpy_core.domain.events import Order

GUIDE = REPOSITORY / "services" / "vnpy-core" / "docs" / "client.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
DEADLINE_S = 60


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    service = ServiceProcess()
    service.start()
    yield service
    service.remove()


@pytest.fixture
async def client(service: ServiceProcess) -> AsyncIterator[Client]:
    async with Client(service.url(), username="admin", password=PASSWORD) as client:
        await client.trading.subscribe(SYMBOL)
        await trades(client)
        yield client


async def trades(client: Client) -> None:
    """Returns when ticks come and orders pass."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.suppress(NotFound, GatewayNotConnected):
                await client.trading.cancel_order((await rest(client)).vt_orderid)
                return
            await asyncio.sleep(0.05)


async def soon(delay: float) -> None:
    await asyncio.sleep(min(delay, 0.05))


async def rest(client: Client) -> Order:
    """An order that will not be filled."""
    tick = await client.trading.tick(SYMBOL)
    return await client.trading.place_order(SYMBOL, "LONG", 1, price=tick.last_price - 50, offset="OPEN")


async def test_an_order_from_its_placing_to_its_end(client):
    order = await rest(client)
    assert order.client_order_id
    assert await client.trading.order_by_client_id(order.client_order_id) == await client.trading.order(
        order.vt_orderid
    )
    again = await client.trading.place_order(
        SYMBOL, "LONG", 1, price=order.price, offset="OPEN", client_order_id=order.client_order_id
    )
    assert again.vt_orderid == order.vt_orderid
    assert order.vt_orderid in [each.vt_orderid async for each in client.trading.orders(active=True)]
    await client.trading.cancel_order(order.vt_orderid)
    async with asyncio.timeout(DEADLINE_S):
        while (await client.trading.order(order.vt_orderid)).is_active:
            await asyncio.sleep(0.02)
    with pytest.raises(Conflict):
        await client.trading.cancel_order(order.vt_orderid)
    await rest(client)
    assert (await client.trading.cancel_all(vt_symbol=SYMBOL)).failed == []


async def test_each_read_answers_in_its_type(client):
    trading, system = client.trading, client.system
    assert [gateway.connected for gateway in await trading.gateways()] == [True]
    assert SYMBOL in [each.vt_symbol for each in await trading.subscriptions()]
    assert SYMBOL in [each.vt_symbol async for each in trading.contracts(gateway_name="PAPER")]
    assert [account.accountid async for account in trading.accounts()] == ["paper"]
    assert all([position.gateway_name == "PAPER" async for position in trading.positions()])
    assert all([trade.gateway_name == "PAPER" async for trade in trading.trades(vt_symbol=SYMBOL)])
    assert (await system.health())["status"] in ("ok", "degraded")
    assert (await system.status())["version"]
    assert (await system.me()).name == "admin"
    assert [node.role for node in await system.nodes()] == ["core"]
    assert isinstance([series.vt_symbol async for series in client.data.overview()], list)
    assert [job.id async for job in client.data.jobs()] == []
    assert isinstance([bar.close_price async for bar in client.data.bars(SYMBOL, "1m")], list)
    assert isinstance([tick.last_price async for tick in client.data.ticks(SYMBOL)], list)


async def test_refusals_are_raised_by_their_class(client, service):
    with pytest.raises(NotFound):
        await client.trading.order("PAPER.unknown")
    with pytest.raises(ValidationFailed) as wrong:
        await client.trading.place_order(SYMBOL, "LONG", -1, price=3000)
    assert [error.field for error in wrong.value.errors] == ["volume"]
    assert wrong.value.extra["request_id"]
    async with Client(service.url(), token="wrong") as stranger:
        with pytest.raises(NotAuthenticated):
            await stranger.trading.gateways()


async def test_a_halt_refuses_orders_until_it_is_taken_back(client):
    halted = await client.risk.halt("a test")
    assert halted.active
    assert [halt.reason for halt in await client.risk.halts()] == ["a test"]
    with pytest.raises(TradingHalted):
        await rest(client)
    await client.risk.resume()
    assert await client.risk.halts() == []


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_a_mirror_equals_the_service_after_trading_over_bad_connections(client, service, encoding):
    """Orders, trades, cuts, and the service itself killed and started again in the middle."""
    async with (
        CuttingProxy(service.port, seed=f"trading {encoding}", within_s=0.5, calm=True) as proxy,
        Client(service.url(), username="admin", password=PASSWORD, sleep=soon) as reader,
        CheckingClient(reader, urls=[proxy.url], encoding=encoding) as checker,
    ):
        await checker.until(lambda: "*" in checker.stream.place.known and not checker.mirror.needs_heal, "a state")
        proxy.begin()
        await _trade(client, 20)
        if encoding == "json":
            await asyncio.to_thread(service.kill)
            await asyncio.to_thread(service.start)
            await trades(client)
        await _trade(client, 20)
        await checker.until(lambda: checker.report().connects > 5, "some connections")
        proxy.calm()
        await client.trading.cancel_all()
        report = await _settled(checker, client)
    assert (report.gaps, report.untold_gaps, report.repeats, report.disorder) == (0, 0, 0, 0)
    assert report.resumed == report.connects - 1
    assert report.differences == []


async def _trade(client: Client, count: int) -> None:
    for number in range(count):
        tick = await client.trading.tick(SYMBOL)
        buys = number % 2 == 0
        price = tick.last_price + (20 if buys else -20) * (number % 3)
        side, offset = ("LONG", "OPEN") if buys else ("SHORT", "OPEN")
        await client.trading.place_order(SYMBOL, side, 1, price=price, offset=offset)
        await asyncio.sleep(0.01)


async def _settled(checker: CheckingClient, client: Client) -> object:
    """Ticks and pnl go on at a market that never rests, so the connection to it ends first."""
    await client.trading.disconnect("PAPER")
    try:
        return await checker.settled()
    finally:
        await client.trading.connect("PAPER")
        await trades(client)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
async def test_the_guides_examples_run(client, service, tmp_path: Path, number):
    script = tmp_path / "example.py"
    script.write_text(EXAMPLES[number].replace("http://127.0.0.1:8006", service.url()), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", str(script), env=environment(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(DEADLINE_S):
        output, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")
    assert output
