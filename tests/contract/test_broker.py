"""What every message bus does, in memory and in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from testkit.journal_rows import order_row
from testkit.redis_adapters import RedisPlace
from vnpy_core.adapters.broker.memory import UNHEARD, MemoryBroker
from vnpy_core.adapters.broker.settings import LEAST
from vnpy_core.bus.envelope import decode, entry_of
from vnpy_core.domain.errors import BrokerUnavailable, StreamMoved
from vnpy_core.ports.broker import Broker, Entry, Signal

MakeBroker = Callable[[], Broker]


@pytest.fixture(params=["memory", "redis"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[MakeBroker]:
    """Makes brokers of one node that keep 10,000 entries; in memory there is but one."""
    if request.param == "memory":
        broker = MemoryBroker(LEAST)
        yield lambda: broker
        await broker.close()
        return
    place = RedisPlace(request.getfixturevalue("redis_server"))
    yield lambda: place.broker(length=LEAST)
    await place.close()


@pytest.fixture
async def broker(make: MakeBroker) -> Broker:
    broker = make()
    await broker.open()
    return broker


def entries(*seqs: int, after: int) -> list[Entry]:
    made = []
    for seq in seqs:
        entry = entry_of(order_row(seq), after, "core")
        assert entry is not None
        made.append(entry)
        after = seq
    return made


def seqs(found: list[Entry]) -> list[int]:
    return [entry.seq for entry in found]


async def test_nothing_is_there_before_a_core_begins(broker):
    assert await broker.epoch() is None
    assert await broker.last("e1") is None
    assert await broker.tail("e1", 10) == []
    assert await broker.read("e1", 0, 10, 0) == []


async def test_a_new_epoch_has_no_stream(broker):
    assert await broker.begin("e1") is None
    assert await broker.epoch() == "e1"
    assert await broker.last("e1") is None


async def test_entries_are_read_as_they_were_appended(broker):
    await broker.begin("e1")
    added = entries(3, 5, 9, after=2)
    await broker.append("e1", added)

    assert await broker.read("e1", 0, 10, 0) == added
    assert await broker.tail("e1", 10) == added
    assert await broker.last("e1") == 9
    envelope = decode(added[1].envelope)
    assert (envelope.topic, envelope.seq, envelope.prev_seq, envelope.source) == ("order.updated", 5, 3, "core")


async def test_reading_goes_on_after_a_seq_in_pieces(broker):
    await broker.begin("e1")
    await broker.append("e1", entries(1, 2, 3, 4, 5, after=0))

    assert seqs(await broker.read("e1", 1, 2, 0)) == [2, 3]
    assert seqs(await broker.read("e1", 3, 10, 0)) == [4, 5]
    assert seqs(await broker.read("e1", 5, 10, 0)) == []
    assert seqs(await broker.tail("e1", 2)) == [4, 5]


async def test_a_reader_waits_for_what_comes(broker, make):
    reader = make()
    await broker.begin("e1")
    waiting = asyncio.create_task(reader.read("e1", 0, 10, 30))
    await asyncio.sleep(0.05)
    await broker.append("e1", entries(1, after=0))
    assert seqs(await waiting) == [1]


async def test_a_reader_waits_no_longer_than_told(broker):
    await broker.begin("e1")
    async with asyncio.timeout(10):
        assert await broker.read("e1", 0, 10, 0.05) == []


async def test_beginning_again_tells_where_the_stream_ends(broker, make):
    await broker.begin("e1")
    await broker.append("e1", entries(1, 2, after=0))
    assert await broker.begin("e1") == 2
    assert await make().begin("e1") == 2


async def test_nothing_is_appended_behind_another_entry_than_said(broker):
    await broker.begin("e1")
    await broker.append("e1", entries(1, 2, after=0))
    with pytest.raises(StreamMoved):
        await broker.append("e1", entries(4, after=3))
    with pytest.raises(StreamMoved):
        await broker.append("e1", entries(2, 3, after=1))
    assert seqs(await broker.read("e1", 0, 10, 0)) == [1, 2]


async def test_appending_nothing_changes_nothing(broker):
    await broker.begin("e1")
    await broker.append("e1", [])
    assert await broker.last("e1") is None


async def test_nothing_is_appended_to_an_epoch_that_is_not_current(broker):
    await broker.begin("e1")
    await broker.append("e1", entries(1, after=0))
    await broker.begin("e2")
    with pytest.raises(StreamMoved):
        await broker.append("e1", entries(2, after=1))


async def test_another_epoch_has_a_stream_of_its_own(broker):
    await broker.begin("e1")
    await broker.append("e1", entries(1, 2, after=0))
    assert await broker.begin("e2") is None
    await broker.append("e2", entries(3, after=2))
    assert await broker.epoch() == "e2"
    assert seqs(await broker.read("e2", 0, 10, 0)) == [3]


async def test_beginning_anew_forgets_what_was_there(broker):
    await broker.begin("e1")
    await broker.append("e1", entries(1, 2, after=0))
    assert await broker.begin("e1", anew=True) is None
    await broker.append("e1", entries(9, after=8))
    [entry] = await broker.read("e1", 2, 10, 0)
    assert (entry.seq, entry.prev_seq) == (9, 8)  # 8 > 2: the reader sees that something is missing


async def test_a_stream_keeps_about_its_length(broker):
    await broker.begin("e1")
    total = LEAST + 2_000
    for first in range(1, total, 500):
        await broker.append("e1", entries(*range(first, first + 500), after=first - 1))
    kept = seqs(await broker.tail("e1", 2 * LEAST))
    assert kept[-1] == total
    assert kept == list(range(kept[0], total + 1))
    assert LEAST <= len(kept) <= LEAST + 200
    [first] = await broker.read("e1", 0, 1, 0)
    assert first.prev_seq == first.seq - 1 > 0


async def test_what_is_listened_to_is_heard_in_order(broker, make):
    async with make().listen(["tick.*", "log"]) as batches:
        sent = [(f"tick.s{n}.X", b"%d" % n) for n in range(50)]
        await broker.publish([*sent, ("position.updated", b"p"), ("log", b"l")])
        assert await hear(batches, 51) == [*sent, ("log", b"l")]


async def test_what_two_patterns_match_is_heard_once(broker, make):
    async with make().listen(["tick.rb*", "tick.*", "tick.rb1.SHFE", "log", "log"]) as batches:
        await broker.publish([("tick.rb1.SHFE", b"1"), ("log", b"2"), ("tick.a.X", b"3")])
        assert await hear(batches, 3) == [("tick.rb1.SHFE", b"1"), ("log", b"2"), ("tick.a.X", b"3")]


async def test_signs_in_names_are_only_signs(broker, make):
    async with make().listen(["tick.[a]?\\^.*", "tick.b*"]) as batches:
        await broker.publish([("tick.a?x.X", b"no"), ("tick.[a]?\\^.X", b"yes"), ("tick.bé*.X", b"too")])
        assert await hear(batches, 2) == [("tick.[a]?\\^.X", b"yes"), ("tick.bé*.X", b"too")]


async def test_several_hear_the_same(broker, make):
    async with make().listen(["*"]) as one, make().listen(["log"]) as other:
        await broker.publish([("log", b"1")])
        assert await hear(one, 1) == await hear(other, 1) == [("log", b"1")]


async def test_nobody_needs_to_listen(broker):
    await broker.publish([("log", b"1")])
    await broker.publish([])


async def test_opening_and_closing_again_does_nothing(broker):
    await broker.open()
    await broker.close()
    await broker.close()


async def test_a_slow_listener_in_memory_is_cut_off():
    broker = MemoryBroker()
    async with broker.listen(["*"]) as batches:
        await broker.publish([("log", b"")] * (UNHEARD + 1))
        with pytest.raises(BrokerUnavailable):
            await anext(batches)


async def hear(batches: AsyncIterator[list[Signal]], count: int) -> list[Signal]:
    heard: list[Signal] = []
    async with asyncio.timeout(20):
        while len(heard) < count:
            heard += await anext(batches)
    return heard


# --- age ---


async def test_old_entries_go_but_those_that_clients_may_resume_from(broker):
    await broker.begin("e1")
    for first in range(1, 6_001, 500):
        await broker.append("e1", entries(*range(first, first + 500), after=first - 1))
    await broker.append("e1", entries(6_001, after=6_000), keep_from=6_001)
    assert len(await broker.tail("e1", 2 * LEAST)) == 6_001


async def test_old_entries_beyond_those_go_in_redis(redis_server):
    place = RedisPlace(redis_server)
    broker = place.broker()
    await broker.begin("e1")
    for first in range(1, 15_001, 500):
        await broker.append("e1", entries(*range(first, first + 500), after=first - 1))
    await broker.append("e1", entries(15_001, after=15_000), keep_from=3_001)
    kept = seqs(await broker.tail("e1", 2 * LEAST))
    assert 2_801 <= kept[0] <= 3_001  # in whole nodes of a hundred
    await broker.append("e1", entries(15_002, after=15_001), keep_from=15_002)
    assert LEAST <= len(await broker.tail("e1", 2 * LEAST)) <= LEAST + 100
    await place.close()
