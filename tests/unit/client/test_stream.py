"""A stream at a scripted server: reconnecting, tokens, slow readers. Deadlines are generous; no times are asserted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from testkit.clock import FakeClock
from testkit.scripted_server import ScriptedServer, serving
from testkit.scripted_stream import History, Node
from vnpy_core.client import Connected, Disconnected, Snapshot, Stream, Update
from vnpy_core.client.tokens import FixedToken, Token
from vnpy_core.domain.errors import ConfigurationError, Conflict, NotAuthenticated, NotFound, NotPermitted, Overloaded

DEADLINE_S = 20


class Sleeps:
    """Sleeps at once and remembers for how long it should have."""

    def __init__(self) -> None:
        self.delays: list[float] = []

    async def __call__(self, delay: float) -> None:
        self.delays.append(round(delay, 6))
        await asyncio.sleep(0)


class Numbered:
    """Tokens t1, t2, …: a new one whenever the last was refused or is spent."""

    def __init__(self, clock: FakeClock, life_s: float | None = None) -> None:
        self.clock = clock
        self.life_s = life_s
        self.given = 0
        self.failures: list[Exception] = []
        self.token_: Token | None = None

    async def token(self, *, refused: str | None = None) -> Token:
        now = self.clock.monotonic()
        last = self.token_
        if last is not None and last.text != refused and (last.renew_at is None or now < last.renew_at):
            return last
        if self.failures:
            raise self.failures.pop(0)
        self.given += 1
        text = f"t{self.given}"
        self.token_ = Token(text) if self.life_s is None else Token(text, now + self.life_s / 2, now + self.life_s)
        return self.token_


class World:
    """A history, nodes of it and streams."""

    def __init__(self) -> None:
        self.history = History()
        self.node = Node(self.history)
        self.clock = FakeClock()
        self.sleeps = Sleeps()
        self.server: ScriptedServer

    def stream(self, *topics: str, **options: Any) -> Stream:
        options = {
            "urls": [self.server.url],
            "tokens": FixedToken("good"),
            "clock": self.clock,
            "sleep": self.sleeps,
            "uniform": lambda low, high: high,
            **options,
        }
        return Stream(topics, **options)

    def order(self, number: int) -> None:
        self.history.order(number)
        self.node.catch_up()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with serving(world.node) as [world.server]:
        yield world


async def until(stream: Stream, wanted: Callable[[Any], bool] | type[Any]) -> Any:
    """The next message of a kind."""
    async with asyncio.timeout(DEADLINE_S):
        async for message in stream:
            if isinstance(message, wanted) if isinstance(wanted, type) else wanted(message):
                return message
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_messages_are_typed_in_both_encodings(world, encoding):
    world.order(1)
    async with world.stream("order.updated", encoding=encoding) as stream:
        snapshot = await until(stream, Snapshot)
        assert list(snapshot.items) == list(world.history.orders().values())
        world.order(2)
        update = await until(stream, Update)
    assert (update.topic, update.seq, update.prev_seq) == ("order.updated", 2, 1)
    assert update.data == world.history.orders()["PAPER.2"]
    assert update.ts.utcoffset() is not None


@pytest.mark.parametrize("code", [1001, 1006, 1011, 1012, 1013])
async def test_it_comes_back_after_any_end_and_goes_on(world, code):
    async with world.stream("order.updated") as stream:
        await until(stream, Snapshot)
        await world.server.close(code)
        world.order(1)
        lost = await until(stream, Disconnected)
        assert lost.retry_in_s == (0.1 if code in (1012, 1013) else 1.0)
        assert (await until(stream, Connected)).resumed is True
        assert (await until(stream, Update)).seq == 1


async def test_the_waits_grow_and_begin_again_once_a_connection_lived(world):
    async with world.stream("order.updated") as stream:
        world.server.statuses = [503, 500, 502]
        await until(stream, Snapshot)
        world.clock.advance(60)
        await world.server.close(1006)
        assert (await until(stream, Disconnected)).retry_in_s == 1.0
        await until(stream, Connected)
    assert world.sleeps.delays == [1.0, 2.0, 4.0, 1.0]


async def test_a_connection_that_ends_at_once_does_not_begin_the_waits_again(world):
    world.server.closes = [1013, 1013, 1013]
    async with world.stream("order.updated") as stream:
        await until(stream, Snapshot)
    assert world.sleeps.delays == [1.0, 2.0, 4.0]


async def test_it_goes_from_edge_to_edge(world):
    other = Node(world.history)
    async with (
        serving(other) as [second],
        world.stream("order.updated", urls=[world.server.url, second.url]) as stream,
    ):
        await until(stream, Snapshot)
        world.order(1)
        await until(stream, Update)
        await world.server.close(1006)
        connected = await until(stream, Connected)
        assert second.url.removeprefix("http://") in connected.url
        assert connected.resumed is True
        world.order(2)
        other.catch_up()
        assert (await until(stream, Update)).seq == 2


async def test_nobody_there_is_tried_again(world):
    async with serving(world.node) as [gone]:
        pass
    async with world.stream("order.updated", urls=[gone.url, world.server.url]) as stream:
        assert isinstance(await until(stream, lambda _: True), Disconnected)
        assert world.server.url.removeprefix("http://") in (await until(stream, Connected)).url


async def test_silence_ends_a_connection(world):
    world.node.heartbeat_s = 10.0
    async with world.stream("order.updated") as stream:
        await until(stream, Snapshot)
        world.server.silent = True
        reading = asyncio.create_task(until(stream, Disconnected))
        await asyncio.sleep(0.05)
        world.clock.advance(24)
        await asyncio.sleep(0.6)
        assert not reading.done()
        world.clock.advance(2)
        assert "silent for 25 s" in (await reading).reason
        world.server.silent = False
        assert (await until(stream, Connected)).resumed is True


async def test_a_reader_that_does_not_read_finds_no_silence(world):
    async with world.stream("order.updated") as stream:
        await until(stream, Snapshot)
        world.clock.advance(1000)
        await asyncio.sleep(0.6)
        world.order(1)
        assert isinstance(await until(stream, lambda _: True), Update)


async def test_a_refused_token_is_replaced_once(world):
    tokens = Numbered(world.clock)
    world.server.closes = [4401]
    async with world.stream("order.updated", tokens=tokens) as stream:
        await until(stream, Snapshot)
        assert world.server.tokens == ["t1", "t2"]
        await world.server.close(4401)
        assert (await until(stream, Connected)).resumed is True
    assert world.server.tokens == ["t1", "t2", "t3"]


@pytest.mark.parametrize("trouble", [{"closes": [4401, 4401]}, {"statuses": [401, 401]}])
async def test_a_fresh_token_that_is_refused_too_is_the_readers_business(world, trouble):
    for name, value in trouble.items():
        setattr(world.server, name, value)
    async with world.stream("order.updated", tokens=Numbered(world.clock)) as stream:
        with pytest.raises(NotAuthenticated):
            await until(stream, Snapshot)


@pytest.mark.parametrize("trouble", [{"closes": [4403]}, {"statuses": [403]}])
async def test_not_permitted_is_not_tried_again(world, trouble):
    for name, value in trouble.items():
        setattr(world.server, name, value)
    async with world.stream("order.updated") as stream:
        with pytest.raises(NotPermitted):
            await until(stream, Snapshot)


async def test_a_token_is_renewed_on_the_open_connection(world):
    tokens = Numbered(world.clock, life_s=100)
    async with world.stream("order.updated", tokens=tokens) as stream:
        await until(stream, Snapshot)
        tokens.failures = [Overloaded("later")]
        world.clock.advance(60)
        async with asyncio.timeout(DEADLINE_S):
            while not world.server.sessions[0].tokens:
                await asyncio.sleep(0.01)
        assert world.server.sessions[0].tokens == ["t2"]
        world.order(1)
        assert isinstance(await until(stream, lambda _: True), Update)  # no reconnect


async def test_where_no_token_is_to_be_had_it_waits_and_asks_again(world):
    tokens = Numbered(world.clock)
    tokens.failures = [Overloaded("later"), Overloaded("later")]
    async with world.stream("order.updated", tokens=tokens) as stream:
        await until(stream, Snapshot)
    assert world.sleeps.delays == [1.0, 2.0]


async def test_a_cancelled_wait_loses_nothing(world):
    async with world.stream("order.updated") as stream:
        await until(stream, Snapshot)
        for number in range(20):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.001):
                    await anext(stream)
                    raise AssertionError("nothing was published")
            world.order(number)
            assert (await until(stream, Update)).seq == number + 1


async def test_a_wait_cancelled_while_it_connects_goes_on(world):
    stream = world.stream("order.updated")
    for _ in range(200):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.002):
                message = await anext(stream)
                if isinstance(message, Snapshot):
                    break
    else:
        await until(stream, Snapshot)
    await stream.close()


async def test_a_slow_reader_holds_back_the_socket(world):
    """Nothing piles up here: what is not read waits at the service."""
    async with world.stream("order.updated") as stream:
        await until(stream, Snapshot)
        for number in range(20_000):
            world.history.order(number)
        world.node.catch_up()
        before = -1
        async with asyncio.timeout(DEADLINE_S):
            while world.server.sent != before:
                before = world.server.sent
                await asyncio.sleep(0.5)
        assert world.server.sent < 20_000
        assert len(stream._ready) <= 1
        seqs = [(await until(stream, Update)).seq for _ in range(20_000)]
        assert seqs == list(range(1, 20_001))


async def test_topics_come_and_go_while_it_runs(world):
    async with world.stream("order.updated") as stream:
        await until(stream, Snapshot)
        reading = asyncio.create_task(until(stream, lambda message: isinstance(message, Update)))
        await stream.add(["tick.*"])
        world.history.tick(1)
        async with asyncio.timeout(DEADLINE_S):
            while "tick.*" not in world.server.sessions[0].patterns:
                await asyncio.sleep(0.01)
        world.node.catch_up()
        world.history.tick(2)
        world.node.catch_up()
        assert (await reading).topic == "tick.rb2505.SHFE"
        await stream.remove(["tick.*"])
        async with asyncio.timeout(DEADLINE_S):
            while "tick.*" in world.server.sessions[0].patterns:
                await asyncio.sleep(0.01)
        assert stream.topics == ("order.updated",)
        await world.server.close(1006)
        await until(stream, Connected)
        assert list(world.server.sessions[1].patterns) == ["order.updated"]


async def test_topics_added_without_a_connection_are_asked_for_with_the_next(world):
    stream = world.stream()
    await stream.add(["order.updated"])
    async with stream:
        assert (await until(stream, Snapshot)).topic == "order.updated"


async def test_a_thousand_topics_are_asked_for_in_parts(world):
    names = [f"tick.s{number}.SHFE" for number in range(900)]
    async with world.stream("order.updated", *names) as stream:
        for _ in range(901):
            await until(stream, Snapshot)
        assert set(world.server.sessions[0].patterns) == {"order.updated", *names}


def test_a_topic_that_does_not_exist_is_refused_here(world):
    for topic in ("orders", "tick.", "", "x*"):
        with pytest.raises(NotFound):
            world.stream(topic)


@pytest.mark.parametrize("url", ["127.0.0.1:8006", "ftp://x", "", "http://"])
def test_a_wrong_address_is_refused(world, url):
    with pytest.raises(ConfigurationError):
        world.stream(urls=[url])


async def test_what_the_service_refuses_is_raised(world):
    world.node.max_topics = 1
    async with world.stream("order.updated") as stream:
        await until(stream, Snapshot)
        await stream.add(["trade.executed"])
        with pytest.raises(Conflict, match="1 topics at most"):
            await until(stream, Snapshot)


async def test_closing_ends_the_iteration(world):
    stream = world.stream("order.updated")
    await until(stream, Snapshot)
    await stream.close()
    assert [message async for message in stream] == []
    await stream.close()
