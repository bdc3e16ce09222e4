"""The publisher between a real journal and a real Redis that is killed, flushed, hung and slow."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from testkit.journal_rows import order, row
from testkit.publishing import Core, assert_chained, open_journal, until, whole_stream
from testkit.redis_adapters import RedisPlace
from vnpy_core.adapters.broker.redis import BATCH, FORMER_EXPIRES_S
from vnpy_core.adapters.broker.settings import LEAST, BrokerSettings
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.bus import records, topics
from vnpy_core.bus.envelope import decode
from vnpy_core.domain.errors import BrokerUnavailable, StreamMoved
from vnpy_core.domain.events import StrategyUpdate
from vnpy_core.kit.clock import SystemClock

MakeCore = Callable[..., Core]


@pytest.fixture
async def make_core(place: RedisPlace, journal: SqliteJournal) -> AsyncIterator[MakeCore]:
    cores: list[Core] = []

    def make(journal: SqliteJournal = journal, owner: str = "core-1", **settings: Any) -> Core:
        made = BrokerSettings(kind="redis", **settings)
        core = Core(journal, place.broker(owner=owner, **settings), node=place.node, broker_settings=made)
        cores.append(core)
        core.start()
        return core

    yield make
    place.server.resume()
    for core in cores:
        await core.close(5)


async def test_every_published_row_stands_in_the_stream_once_in_order(make_core, place, journal):
    core = make_core()
    for _ in range(20):
        core.happen(37)
        journal.append([row(core.last + 1, records.INTENT_OUTCOME, "x", b"{}", epoch="e1")])
        await asyncio.sleep(0)
    await core.published()

    entries = await whole_stream(core.broker, "e1")
    assert_chained(entries, 0)
    assert [e.seq for e in entries] == [r.seq for r in journal.read(0, 10_000) if r.kind == topics.ORDER_UPDATED]
    envelope = decode(entries[0].envelope)
    assert (envelope.source, envelope.epoch, envelope.message().data) == (place.node, "e1", order(1, "1"))
    state = core.sink.state()
    assert (state.name, state.seq, state.lag, state.written, state.error) == ("broker", core.last, 0, 740, "")


async def test_a_restart_goes_on_after_the_last_entry(make_core, journal):
    core = make_core()
    core.happen(100)
    await core.published()
    await core.close()
    core.happen(50)

    again = make_core()
    again.happen(10)
    await again.published()
    entries = await whole_stream(again.broker, "e1")
    assert_chained(entries, 0)
    assert len(entries) == 160
    assert again.sink.state().written == 60


async def test_redis_killed_and_started_empty_is_filled_again(make_core, server, journal):
    core = make_core()
    core.happen(300)
    await core.published()
    former = await whole_stream(core.broker, "e1")

    await asyncio.to_thread(server.kill)
    core.happen(200)
    await until(lambda: bool(core.sink.state().error))
    assert core.sink.state().lag >= 200
    await asyncio.to_thread(server.start)
    await core.published()

    entries = await whole_stream(core.broker, "e1")
    assert_chained(entries, 0)
    assert entries[:300] == former  # the same ids, and the same words
    assert len(entries) == 500


async def test_a_flushed_redis_is_filled_again_while_nothing_happens(make_core, place):
    core = make_core()
    core.happen(50)
    await core.published()
    before = await whole_stream(core.broker, "e1")
    await place.client.flushall()
    await until_async(lambda: has_last(core, 50))
    await core.published()
    assert await whole_stream(core.broker, "e1") == before
    assert await core.broker.epoch() == "e1"


async def test_a_flush_between_two_events_loses_none(make_core, place):
    core = make_core()
    core.happen(50)
    await core.published()
    await place.client.flushall()
    core.happen(10)
    await core.published()
    entries = await whole_stream(core.broker, "e1")
    assert_chained(entries, 0)
    assert len(entries) == 60


async def test_a_stream_that_alone_was_deleted_is_filled_again(make_core, place):
    core = make_core()
    core.happen(50)
    await core.published()
    await place.client.delete(f"vnpy_core:{place.node}:events:e1")
    core.happen(10)
    await core.published()
    entries = await whole_stream(core.broker, "e1")
    assert_chained(entries, 0)
    assert len(entries) == 60


async def test_only_the_newest_events_are_filled_in_again(make_core, place):
    core = make_core(refill=LEAST)
    core.happen(LEAST + 2_000)
    await core.published()
    await place.client.flushall()
    core.happen(1)
    await core.published()
    entries = await whole_stream(core.broker, "e1")
    assert_chained(entries)
    assert entries[0].prev_seq == core.last - LEAST
    assert entries[-1].seq == core.last


async def test_a_redis_that_hangs_holds_up_nothing_and_catches_up(make_core, server):
    core = make_core()
    core.happen(100)
    await core.published()
    server.pause()
    longest = 0.0
    for _ in range(100):
        began = time.monotonic()
        core.happen(10)
        await asyncio.sleep(0.005)
        longest = max(longest, time.monotonic() - began)
    await until(lambda: bool(core.sink.state().error))
    assert longest < 5  # no event waited for Redis
    server.resume()
    await core.published()
    entries = await whole_stream(core.broker, "e1")
    assert_chained(entries, 0)
    assert len(entries) == 1_100


async def test_an_append_whose_answer_was_lost_is_not_repeated(make_core, server, place, journal):
    """The server takes what waits in its sockets when it goes on, after the publisher has given up."""
    core = make_core()
    core.happen(10)
    await core.published()
    for _ in range(3):
        server.pause()
        core.happen(100)
        await until(lambda: bool(core.sink.state().error))
        server.resume()
        await core.published()
    entries = await whole_stream(core.broker, "e1")
    assert_chained(entries, 0)
    assert len(entries) == 310


async def test_a_stranger_that_keeps_redis_busy_only_slows_it_down(make_core, place):
    core = make_core()
    core.happen(100)
    busy = asyncio.create_task(keep_busy(place, 1.0))
    for _ in range(50):
        core.happen(10)
        await asyncio.sleep(0.01)
    await busy
    await core.published()
    entries = await whole_stream(core.broker, "e1")
    assert_chained(entries, 0)
    assert len(entries) == 600


async def test_a_full_redis_is_told_and_caught_up_with(make_core, place):
    core = make_core()
    core.happen(10)
    await core.published()
    await place.client.config_set("maxmemory", 1)
    try:
        core.happen(100)
        await until(lambda: "memory" in core.sink.state().error)
    finally:
        await place.client.config_set("maxmemory", 0)
    await core.published()
    assert len(await whole_stream(core.broker, "e1")) == 110


async def test_a_consumer_that_stopped_while_200_000_events_pass_catches_up(make_core, place):
    core = make_core()
    core.happen(1_000)
    await core.published()
    consumer = place.reader()
    seen = await consumer.read("e1", 0, 400, 0)  # then it stops
    total = 201_000
    for _ in range(40):
        await asyncio.to_thread(core.crowd, 5_000)
        core.sink.wake()
    await core.published()
    started = time.monotonic()
    rest = await whole_stream(consumer, "e1", seen[-1].seq)
    print(f"caught up at {len(rest) / (time.monotonic() - started):,.0f} events/s")
    assert_chained([*seen, *rest], 0)
    assert len(seen) + len(rest) == total


async def test_a_consumer_that_stopped_for_longer_than_the_stream_keeps_sees_the_gap(make_core):
    core = make_core(length=LEAST)
    core.happen(100)
    await core.published()
    core.happen(12_000)
    await core.published()
    entries = await core.broker.read("e1", 100, 10, 0)
    assert entries[0].prev_seq > 100
    assert LEAST <= len(await whole_stream(core.broker, "e1")) <= LEAST + 200


async def test_old_events_are_trimmed_by_the_age_that_the_journal_tells(make_core):
    now = int(SystemClock().now().timestamp() * 1e6)
    core = make_core(keep_hours=1)
    await asyncio.to_thread(core.crowd, 12_000, ts=now - 2 * 3_600_000_000)
    core.sink.wake()
    await core.published()
    await asyncio.to_thread(core.crowd, 500, ts=now)
    core.sink._aged_at = 0.0  # a minute later
    core.sink.wake()
    await core.published()
    assert LEAST <= len(await whole_stream(core.broker, "e1")) <= LEAST + 200


async def test_two_cores_of_one_name_do_not_mix(make_core, place, tmp_path):
    core = make_core()
    core.happen(10)
    await core.published()

    (tmp_path / "other").mkdir()
    journal = open_journal(tmp_path / "other", epoch="e9")
    try:
        other = make_core(journal, owner="core-2")
        other.happen(5)
        await until(lambda: "another core calls itself" in other.sink.state().error)
        assert place.node in other.sink.state().error
        assert other.sink.state().lag == 5
        other.passing(strategy())
        core.happen(10)
        await core.published()
        assert await core.broker.epoch() == "e1"
        assert_chained(await whole_stream(core.broker, "e1"), 0)

        await core.close()  # the other one takes over
        await other.published()
        assert await other.broker.epoch() == "e9"
        assert len(await whole_stream(other.broker, "e9")) == 5
        assert 0 < await place.client.ttl(f"vnpy_core:{place.node}:events:e1") <= FORMER_EXPIRES_S
        await other.close()
    finally:
        journal.close()


async def test_a_copied_data_folder_is_told(make_core, place, tmp_path):
    """Whoever has the same epoch but fewer rows did not write that stream."""
    core = make_core()
    core.happen(10)
    await core.published()
    await core.close()
    (tmp_path / "copy").mkdir()
    journal = open_journal(tmp_path / "copy")
    try:
        copy = make_core(journal, owner="core-2")
        copy.happen(4)
        await until(lambda: "the journal at 4" in copy.sink.state().error)
        await copy.close()
    finally:
        journal.close()


async def test_a_new_epoch_begins_a_new_stream(make_core, journal):
    core = make_core()
    core.happen(10)
    await core.published()
    journal._make_epoch = lambda: "e2"
    journal.new_epoch()
    core.happen(7)
    await core.published()
    assert await core.broker.epoch() == "e2"
    assert len(await whole_stream(core.broker, "e1")) == 10
    entries = await whole_stream(core.broker, "e2")
    assert_chained(entries)
    assert [entry.seq for entry in entries] == list(range(11, 18))
    assert {decode(entry.envelope).epoch for entry in entries} == {"e2"}


async def test_a_stream_that_the_journal_cannot_continue_is_begun_anew(make_core, place, tmp_path):
    """Redis was away for longer than the journal keeps rows."""
    core = make_core()
    core.happen(10)
    await core.published()
    await core.close()
    core.happen(40)
    journal = CutJournal(core.journal, 30)
    again = Core(journal, place.broker(), node=place.node)  # type: ignore[arg-type]
    again.start()
    with capture_logs() as logs:
        await until(lambda: again.sink.drained == 50)
    entries = await whole_stream(again.broker, "e1", 10)
    assert entries[0].prev_seq == 30 > 10  # whoever stopped at 10 sees the gap
    assert_chained(entries, 30)
    assert any("lacks rows" in line["event"] for line in logs)
    await again.close()


async def test_a_row_that_no_reader_could_decode_is_left_out(make_core, journal):
    core = make_core()
    core.happen(3)
    journal.append([row(4, topics.ORDER_UPDATED, "x", b'{"vt_orderid":', epoch="e1")])
    core.happen(3)
    await core.published()
    entries = await whole_stream(core.broker, "e1")
    assert_chained(entries, 0)
    assert [entry.seq for entry in entries] == [1, 2, 3, 5, 6, 7]
    assert core.sink.state().dead_letters == 1


async def test_closing_while_redis_hangs_ends_in_time(place, server, journal):
    core = Core(journal, place.broker(), node=place.node)
    core.start()
    core.happen(10)
    await core.published()
    server.pause()
    core.happen(10)
    core.passing(strategy(), topic=topics.STRATEGY_UPDATED)
    async with asyncio.timeout(60):
        await core.sink.close(0.2)
    server.resume()


async def test_a_hung_server_is_noticed_by_readers_and_listeners(place, server):
    broker = place.broker()
    await broker.begin("e1")
    async with broker.listen(["*"]) as batches:
        server.pause()
        async with asyncio.timeout(60):
            with pytest.raises(BrokerUnavailable):
                await broker.read("e1", 0, 10, 3600)
            with pytest.raises(BrokerUnavailable):
                await anext(batches)


async def test_a_listener_is_told_when_the_server_is_killed(place, server):
    broker = place.broker()
    async with broker.listen(["*"]) as batches:
        await asyncio.to_thread(server.kill)
        with pytest.raises(BrokerUnavailable):
            await anext(batches)
        with pytest.raises(BrokerUnavailable):
            async with broker.listen(["*"]):
                pass


async def test_a_listener_survives_silence(place):
    broker = place.broker()
    async with broker.listen(["*"]) as batches:
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(2.2)  # more than two timeouts
        await broker.publish([("log", b"1")])
        assert await waiting == [("log", b"1")]


async def test_a_flood_comes_in_batches_that_leave_the_loop_to_others(place):
    broker, total = place.reader(), 20_000
    async with broker.listen(["tick.*"]) as batches:
        flood = asyncio.create_task(publish_flood(place.reader(), total))
        heard: list[bytes] = []
        async with asyncio.timeout(60):
            while len(heard) < total:
                batch = await anext(batches)
                assert len(batch) <= BATCH
                heard += [text for _, text in batch]
        assert heard == [b"%d" % n for n in range(total)]
        await flood


async def publish_flood(broker: Any, total: int) -> None:
    for first in range(0, total, 1_000):
        await broker.publish([("tick.s", b"%d" % n) for n in range(first, first + 1_000)])


async def test_an_unopened_broker_says_that_redis_is_away(place, server):
    await asyncio.to_thread(server.kill)
    broker = place.broker()
    for call in (
        broker.open(),
        broker.begin("e1"),
        broker.last("e1"),
        broker.tail("e1", 1),
        broker.publish([("a", b"")]),
    ):
        with pytest.raises(BrokerUnavailable):
            await call
    await broker.close()


async def test_a_core_that_was_killed_leaves_its_name_to_itself_at_once_and_to_others_soon(place):
    first = place.broker(owner="core-1")
    await first.begin("e1")
    assert await place.broker(owner="core-1").begin("e2") is None
    with pytest.raises(StreamMoved):
        await place.broker(owner="core-2").begin("e3")
    assert 0 < await place.client.pttl(f"vnpy_core:{place.node}:writer") <= 10_000


def strategy(**variables: Any) -> StrategyUpdate:
    return StrategyUpdate(
        strategy_name="s", class_name="S", vt_symbol="rb.X", author="", parameters={}, variables=variables
    )


async def has_last(core: Core, seq: int) -> bool:
    with contextlib.suppress(BrokerUnavailable):
        return await core.broker.last("e1") == seq
    return False


async def until_async(condition: Callable[[], Awaitable[bool]], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not await condition():
        assert time.monotonic() < deadline, "it does not come to pass"
        await asyncio.sleep(0.02)


async def keep_busy(place: RedisPlace, seconds: float) -> None:
    """Scripts that each hold the server up for a while."""
    script = "local t = redis.call('TIME')[2] + 0 for i = 1, 3000000 do t = t + i end return t"
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await place.client.eval(script, 0)


class CutJournal:
    """A journal whose rows up to `through` are gone."""

    def __init__(self, journal: SqliteJournal, through: int) -> None:
        self._journal = journal
        self._through = through

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def read(self, after: int, limit: int) -> list[Any]:
        return self._journal.read(max(after, self._through), limit)

    def state(self) -> Any:
        return msgspec.structs.replace(self._journal.state(), first_seq=self._through + 1)
