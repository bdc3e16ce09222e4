"""The publisher's own faults: a journal that fails, a driver that raises what nobody expects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from testkit.clock import FakeClock
from testkit.journal_rows import order_row
from testkit.memory_journal import MemoryJournal
from vnpy_core.adapters.broker.build import build_broker
from vnpy_core.adapters.broker.memory import MemoryBroker
from vnpy_core.adapters.broker.redis import RedisBroker
from vnpy_core.adapters.broker.settings import BrokerSettings
from vnpy_core.adapters.broker.sink import FIRST_WAIT_S, LONGEST_WAIT_S, BrokerSink
from vnpy_core.domain.errors import JournalFailed
from vnpy_core.kit.redis import RedisSettings
from vnpy_core.ports.broker import Entry


class World:
    """Waiting costs no time; pauses are written down."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.journal = MemoryJournal()
        self.pauses: list[float] = []
        self.sink = BrokerSink(
            self.broker, self.journal, FakeClock(), node="core", wait=self._wait, jitter=lambda: 1.0
        )  # fmt: skip

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    async def until_drained(self) -> None:
        async with asyncio.timeout(20):
            while self.sink.drained < self.journal.state().last_seq:
                await asyncio.sleep(0.001)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.sink.close(5)


async def test_rows_go_to_the_stream(world):
    world.journal.append([order_row(n) for n in range(1, 1_201)])
    world.sink.start()
    await world.until_drained()
    assert [entry.seq for entry in await world.broker.read("e1", 0, 2_000, 0)] == list(range(1, 1_201))


async def test_pauses_double_up_to_the_longest_while_the_server_is_away(world, monkeypatch):
    failures = 10

    async def begin(epoch: str, *, anew: bool = False) -> int | None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise OSError("nobody expects this")
        return await MemoryBroker.begin(world.broker, epoch, anew=anew)

    monkeypatch.setattr(world.broker, "begin", begin)
    world.journal.append([order_row(1)])
    world.sink.start()
    await world.until_drained()
    doubled = [min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**n) for n in range(10)]
    assert [pause for pause in world.pauses if pause >= FIRST_WAIT_S][:10] == pytest.approx(doubled)
    assert world.sink.state().error == ""


async def test_a_journal_that_cannot_be_read_is_told_and_tried_again(world, monkeypatch):
    read = world.journal.read

    def broken(after: int, limit: int) -> list[object]:
        raise JournalFailed("bad block")

    monkeypatch.setattr(world.journal, "read", broken)
    world.journal.append([order_row(1)])
    world.sink.start()
    async with asyncio.timeout(20):
        while world.sink.state().error != "bad block":
            await asyncio.sleep(0.001)
    assert world.sink.state().lag == 1
    monkeypatch.setattr(world.journal, "read", read)
    await world.until_drained()


async def test_closing_before_the_start_does_nothing(world):
    await world.sink.close(1)


async def test_what_came_before_the_end_is_published(world):
    world.sink.start()
    await asyncio.sleep(0)
    world.journal.append([order_row(n) for n in range(1, 700)])
    await world.sink.close(10)
    assert world.sink.state().lag == 0


def test_the_broker_is_the_one_of_the_settings():
    redis = RedisSettings()
    assert isinstance(build_broker(BrokerSettings(), redis, "core"), MemoryBroker)
    assert isinstance(build_broker(BrokerSettings(kind="redis"), redis, "core"), RedisBroker)


async def test_rows_that_were_cut_before_they_were_carried_leave_no_silent_gap(world, monkeypatch):
    append = world.broker.append

    async def cut_meanwhile(epoch: str, entries: list[Entry], *, keep_from: int = 0) -> None:
        await append(epoch, entries, keep_from=keep_from)
        if entries[-1].seq == 1_000:
            world.journal.cut(1_500, 1_500)

    monkeypatch.setattr(world.broker, "append", cut_meanwhile)
    world.journal.append([order_row(n) for n in range(1, 1_501)])
    world.journal.append([order_row(n) for n in range(1_501, 2_001)])
    world.sink.start()
    await world.until_drained()
    entries = await world.broker.read("e1", 0, 3_000, 0)
    claimed = [seq for entry in entries for seq in range(entry.prev_seq + 1, entry.seq)]
    assert claimed == []
    assert entries[-1].seq == 2_000
