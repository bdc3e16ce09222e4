"""The client against the real hub on uvicorn, through a network that cuts, delays, half-closes and swallows."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from testkit.checking_client import CheckingClient
from testkit.cutting_proxy import CuttingProxy, Harm
from testkit.streaming import account, order, tick, trade
from testkit.streaming_server import Server
from vnpy_core.client import Client, Connected, Gap, Snapshot, Update
from vnpy_core.client.stream import Stream
from vnpy_core.domain.enums import Status
from vnpy_core.domain.errors import NotAuthenticated

DEADLINE_S = 60
ENDS = [Status.NOTTRADED, Status.PARTTRADED, Status.ALLTRADED, Status.CANCELLED]


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    server = Server(**{"heartbeat_s": 0.2, "check_s": 0.05} | getattr(request, "param", {}))
    await server.start()
    yield server
    await server.stop()


async def soon(delay: float) -> None:
    """Back-off for tests that have no minute to wait."""
    await asyncio.sleep(min(delay, 0.02))


@contextlib.asynccontextmanager
async def checking(proxy_urls: list[str], **options: Any) -> AsyncIterator[CheckingClient]:
    async with (
        Client(proxy_urls[0], token="good", sleep=soon) as client,
        CheckingClient(client, urls=proxy_urls, after_seq=None, **options) as checker,
    ):
        yield checker


async def begin(checker: CheckingClient, proxy: CuttingProxy) -> None:
    """Harm comes once the first state is whole: before it only REST could heal, which this server has not."""
    await checker.until(
        lambda: "order.updated" in checker.stream.place.known or "*" in checker.stream.place.known, "a state"
    )
    proxy.begin()


class Market:
    """Publishes at random, by a seed."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.numbers = 0

    async def step(self) -> None:
        draw, events = self.random, []
        for _ in range(draw.randrange(1, 20)):
            self.numbers += 1
            events.append(
                draw.choice(
                    [
                        order(draw.randrange(200), draw.choice(ENDS)),
                        trade(self.numbers),
                        tick(draw.choice(["a.SHFE", "b.SHFE"]), self.numbers),
                        account(float(self.numbers), str(draw.randrange(3))),
                    ]
                )
            )
        await self.server.publish(*events)


async def assert_equal(checker: CheckingClient, server: Server) -> None:
    """The mirror equals the hub's own view."""
    view, mirror = server.hub.view, checker.mirror

    def plain(items: Any) -> dict[str, Any]:
        return {name: msgspec.structs.replace(item, seq=0) for name, item in items.items()}

    await checker.until(lambda: mirror._last == server.hub.seq, "the last lossless event", DEADLINE_S)
    await checker.until(lambda: mirror.ticks == view.ticks, "the last tick", DEADLINE_S)
    await checker.until(lambda: mirror.accounts == view.accounts, "the last account", DEADLINE_S)
    assert plain(mirror.active_orders) == plain(view.active_orders)
    assert plain(mirror.finished_orders).items() <= plain(view.finished_orders).items()
    report = checker.report()
    assert (report.gaps, report.untold_gaps, report.repeats, report.disorder, report.duplicates_dropped) == (0,) * 5


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_nothing_is_lost_or_doubled_however_often_the_connection_ends(server, encoding):
    market = Market(server, seed=7)
    async with (
        CuttingProxy(
            server.port, seed=f"cuts {encoding}", within_bytes=20_000, within_s=0.2, delay_s=0.05, calm=True
        ) as proxy,
        checking([proxy.url], encoding=encoding) as checker,
    ):
        await begin(checker, proxy)
        async with asyncio.timeout(DEADLINE_S):
            while checker.report().connects < 40:
                await market.step()
                await asyncio.sleep(0.002)
        proxy.calm()
        await assert_equal(checker, server)
        assert len(checker.disconnects) >= 39
        assert proxy.done[Harm.CUT]
        assert proxy.done[Harm.HALF_CLOSE]


async def test_a_connection_that_swallows_everything_is_found_by_its_silence(server):
    async with (
        CuttingProxy(
            server.port, seed="holes", harms=[Harm.BLACK_HOLE], within_bytes=5_000, within_s=0.1, calm=True
        ) as proxy,
        checking([proxy.url]) as checker,
    ):
        market = Market(server, seed=8)
        await begin(checker, proxy)
        async with asyncio.timeout(DEADLINE_S):
            while sum("silent" in reason for reason in checker.disconnects) < 3:
                await market.step()
                await asyncio.sleep(0.01)
        proxy.calm()
        await assert_equal(checker, server)


async def test_topics_that_come_and_go_while_connections_end_stay_right(server):
    market = Market(server, seed=9)
    draw = random.Random(10)
    async with (
        CuttingProxy(server.port, seed="topics", within_bytes=20_000, within_s=0.3, delay_s=0.05, calm=True) as proxy,
        checking([proxy.url], topics=["order.updated", "trade.executed"]) as checker,
    ):
        await begin(checker, proxy)
        async with asyncio.timeout(DEADLINE_S):
            while checker.report().connects < 15:
                await market.step()
                topic = draw.choice(["tick.a.SHFE", "tick.*", "account.updated", "risk.halt"])
                await (checker.stream.add([topic]) if draw.random() < 0.5 else checker.stream.remove([topic]))
                await asyncio.sleep(0.01)
        await checker.stream.add(["tick.*", "account.updated"])
        proxy.calm()
        await assert_equal(checker, server)


@pytest.mark.parametrize("server", [{"resume_events": 20}], indirect=True)
async def test_what_is_out_of_reach_is_told_as_a_gap(server):
    await server.publish(order(1), order(2))
    async with (
        CuttingProxy(server.port, seed=0, calm=True) as proxy,
        Client(proxy.url, token="good", sleep=soon) as client,
        client.stream(["order.updated"]) as stream,
    ):
        await _until(stream, Snapshot)
        target, proxy.target = proxy.target, None
        proxy.cut_all()
        await server.publish(*(order(number, Status.ALLTRADED) for number in range(1, 100)))
        proxy.target = target
        assert (await _until(stream, Connected)).resumed is False
        assert (await _until(stream, Gap)) == Gap("order.updated")
        assert (await _until(stream, Snapshot)).items == ()


async def test_a_wrong_token_is_not_tried_for_ever(server):
    async with Client(f"http://127.0.0.1:{server.port}", token="bad", sleep=soon) as client:
        with pytest.raises(NotAuthenticated):
            await _until(client.stream(["order.updated"]), Snapshot)


async def test_a_stopped_service_is_waited_for(server):
    async with (
        CuttingProxy(server.port, seed=0, calm=True) as proxy,
        Client(proxy.url, token="good", sleep=soon) as client,
        client.stream(["order.updated"]) as stream,
    ):
        await _until(stream, Snapshot)
        target, proxy.target = proxy.target, None
        proxy.cut_all()
        waiting = asyncio.create_task(_until(stream, Update))
        await asyncio.sleep(0.2)
        await server.publish(order(5))
        proxy.target = target
        assert (await waiting).data.vt_orderid == "PAPER.5"


async def _until(stream: Stream, kind: type[Any]) -> Any:
    async with asyncio.timeout(DEADLINE_S):
        async for message in stream:
            if isinstance(message, kind):
                return message
    raise AssertionError("the stream ended")
