from __future__ import annotations

import asyncio

import pytest

from testkit.edge_core import EdgeUnderTest, FakeCore, Outage, differences, until
from vnpy_core.bus import topics
from vnpy_core.domain.enums import JobState, Status
from vnpy_core.features.edge.service import SERVICE_RESTART, FeedState
from vnpy_core.ports.broker import Entry


@pytest.fixture
def outage() -> Outage:
    return Outage()


@pytest.fixture
def core(outage: Outage) -> FakeCore:
    return FakeCore(outage)


async def settled(edge: EdgeUnderTest, core: FakeCore) -> None:
    """The edge has all that the core has, and says so."""
    await until(
        lambda: edge.feed.state is FeedState.FOLLOWING and not differences(edge.view, core.view),
        lambda: (edge.feed.status(), differences(edge.view, core.view)),
    )


def busy(core: FakeCore) -> None:
    core.contract("rb2505")
    core.order(1)
    core.order(2)
    core.order(2, Status.ALLTRADED, 10.0)
    core.trade(1)
    core.position("rb2505", 1.0, journaled=True)
    core.position("rb2505", 2.0)
    core.account(1000.0)
    core.halt("rb2505.SHFE", active=True)
    core.tick("rb2505", 3500.0)
    core.job(1)


# The start


async def test_it_has_what_the_core_had_published_before(outage, core):
    busy(core)
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        assert edge.hub.epoch == "e1"
        assert [message.seq for message in edge.hub.recent] == core.class_a
        assert edge.hub.told == [], "what was known before the start is nothing new"
        assert edge.hub.drops == []


async def test_it_waits_for_a_core_that_is_not_there_yet(outage, core):
    async with EdgeUnderTest(outage) as edge:
        await until(lambda: "waiting for the core" in edge.feed.status().detail)
        assert edge.feed.state is FeedState.CONNECTING
        assert not edge.feed.loaded
        busy(core)
        await core.publish()
        await settled(edge, core)


async def test_it_waits_for_a_server_that_is_away(outage, core):
    outage.fail()
    async with EdgeUnderTest(outage) as edge:
        await until(lambda: edge.feed.status().interruptions > 3)
        assert edge.feed.state is FeedState.CONNECTING
        outage.heal()
        busy(core)
        await core.publish()
        await settled(edge, core)


async def test_a_core_without_any_event_is_followed(outage, core):
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        busy(core)
        await core.publish()
        await settled(edge, core)
        assert [message.seq for message in edge.hub.told if message.data_class == "A"] == core.class_a


async def test_it_is_not_ready_before_the_stream_has_what_the_cache_shows(outage, core):
    busy(core)
    await core.publish()
    core.order(3)
    await core.write_cache()
    async with EdgeUnderTest(outage) as edge:
        await until(lambda: "stream is behind" in edge.feed.status().detail)
        assert not edge.feed.loaded
        await core.publish_stream()
        await settled(edge, core)


async def test_the_stream_may_be_ahead_of_the_cache(outage, core):
    busy(core)
    await core.publish()
    core.order(1, Status.CANCELLED)
    core.order(3)
    core.halt("rb2505.SHFE", active=False)
    await core.publish_stream()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        assert edge.view.halts == {}


async def test_many_positions_after_the_last_order_do_not_keep_it_waiting(outage, core):
    busy(core)
    await core.publish()
    for number in range(30):
        core.position("rb2505", float(number), journaled=True)
    await core.publish()
    async with EdgeUnderTest(outage, recent=10) as edge:
        await until(lambda: edge.feed.state is FeedState.FOLLOWING)
        assert edge.view.positions == core.view.positions
        core.order(9)
        await core.publish()
        await settled(edge, core)
        assert [message.seq for message in edge.hub.of(topics.ORDER_UPDATED)] == [core.seq]


async def test_a_cache_far_behind_a_stream_that_was_cut_is_waited_for(outage, core):
    busy(core)
    await core.publish()
    for number in range(10, 50):
        core.order(number)
    await core.publish_stream()
    outage.broker.trimmed_to = core.seq - 20
    async with EdgeUnderTest(outage, recent=10) as edge:
        await until(lambda: "cache is behind" in edge.feed.status().detail)
        assert not edge.feed.loaded
        await core.write_cache()
        await settled(edge, core)


async def test_a_cache_that_is_being_written_anew_is_waited_for(outage, core):
    busy(core)
    await core.publish()
    mark, _ = await outage.cache.load(())
    half = type(mark)(epoch="e1", seq=0, complete_from=mark.seq)
    await outage.cache.put({"contract": {"P.rb2505.SHFE": None}}, half)
    async with EdgeUnderTest(outage) as edge:
        await until(lambda: "is writing the cache" in edge.feed.status().detail)
        assert not edge.feed.loaded
        outage.cache.forget()
        await core.write_cache()
        await settled(edge, core)


async def test_a_core_that_wrote_long_ago_and_has_no_stream_is_followed_after_a_while(outage, core):
    busy(core)
    await core.write_cache()
    await outage.broker.begin("e1")
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        assert edge.hub.recent == []
        core.forget_rows(core.seq)
        core.order(9)
        await core.publish()
        await settled(edge, core)
        assert edge.hub.drops == []


# Following


async def test_class_a_events_come_in_order_with_their_own_numbers(outage, core):
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        for number in range(50):
            core.order(number)
            core.position("rb2505", float(number), journaled=True)
            await core.publish()
        await settled(edge, core)
        assert [message.seq for message in edge.hub.of(topics.ORDER_UPDATED)] == core.class_a


async def test_other_messages_carry_the_edges_own_last_number(outage, core):
    core.order(1)
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        at = edge.feed.seq
        core.order(2)
        core.tick("rb2505", 3600.0)
        await core.publish_signals()  # the stream is slower
        await until(lambda: bool(edge.hub.of("tick.rb2505.SHFE")))
        assert edge.hub.of("tick.rb2505.SHFE")[-1].seq == at
        await core.publish_stream()
        await until(lambda: edge.feed.seq == core.seq)
        seqs = [message.seq for message in edge.hub.told]
        assert seqs == sorted(seqs)


async def test_a_position_told_twice_is_published_once(outage, core):
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        core.position("rb2505", 5.0, journaled=True)
        await core.publish_signals()
        await until(lambda: bool(edge.hub.of(topics.POSITION_UPDATED)))
        await core.publish()
        core.order(1)
        await core.publish()
        await settled(edge, core)
        assert [message.data.volume for message in edge.hub.of(topics.POSITION_UPDATED)] == [5.0]


async def test_a_position_that_is_journaled_late_does_not_replace_what_was_shown_since(outage, core):
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        await until(lambda: edge.feed.status().listening)
        core.position("rb2505", 4.0)
        core.position("rb2505", 5.0)
        await core.publish_signals()
        await until(lambda: len(edge.hub.of(topics.POSITION_UPDATED)) == 2)
        core.journal_position("rb2505", 4.0)
        core.order(1)
        await core.publish()
        await settled(edge, core)
        assert [message.data.volume for message in edge.hub.of(topics.POSITION_UPDATED)] == [4.0, 5.0]
    async with EdgeUnderTest(outage) as begun_later:
        await settled(begun_later, core)


async def test_what_cannot_be_understood_is_counted_and_left_out(outage, core):
    core.order(1)
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        last = core.seq
        bad = [
            b"\xff",
            b"{}",
            b'{"topic":"order.updated","epoch":"e1","seq":3,"ts":"2026-11-20T02:00:00Z","data":{"a":1}}',
        ]
        await outage.broker.append("e1", [Entry(last + n + 1, last + n, text) for n, text in enumerate(bad)])
        await outage.broker.publish([("nothing", b'{"topic":"nothing"}'), ("log", b"[" * 5000)])
        core._last_row = last + len(bad)
        core.order(2)
        await core.publish()
        await settled(edge, core)
        assert edge.feed.status().undecodable == 5
        assert edge.feed.status().faults == 0
        assert edge.hub.drops == []


async def test_messages_of_another_epoch_are_left_out(outage, core):
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        other = FakeCore(outage, "other")
        other.tick("rb2505", 1.0)
        await other.publish_signals()
        core.tick("rb2505", 2.0)
        await core.publish()
        await settled(edge, core)
        assert [message.data.last_price for message in edge.hub.of("tick.rb2505.SHFE")] == [2.0]
        assert edge.feed.status().foreign == 1


# Faults


async def test_a_lost_connection_costs_nothing_and_closes_nobody(outage, core):
    busy(core)
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        before = core.seq
        outage.fail()
        await until(lambda: edge.feed.state is FeedState.LOST)
        assert edge.feed.loaded
        for number in range(10, 700):
            core.order(number)
        core.contract("ag2506")
        core.account(5.0)
        core._signals.clear()  # nobody listened
        outage.heal()
        await core.publish()
        await settled(edge, core)
        assert edge.hub.drops == []
        assert [m.seq for m in edge.hub.of(topics.ORDER_UPDATED)] == [seq for seq in core.class_a if seq > before]
        assert [m.data.symbol for m in edge.hub.of(topics.CONTRACT_UPDATED)] == ["ag2506"]
        assert [m.data.balance for m in edge.hub.of(topics.ACCOUNT_UPDATED)] == [5.0]


async def test_a_flushed_server_that_the_core_fills_again_costs_nothing(outage, core):
    busy(core)
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        outage.flush()
        await until(lambda: edge.feed.state is FeedState.LOST)
        core.order(9)
        await core.publish()
        await settled(edge, core)
        assert edge.hub.drops == []
        assert [message.seq for message in edge.hub.of(topics.ORDER_UPDATED)] == [core.seq]


async def test_where_the_chain_broke_the_state_is_read_anew_and_the_sessions_come_again(outage, core):
    busy(core)
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        view = edge.view
        outage.fail()
        for number in range(10, 30):
            core.order(number)
        outage.flush()
        core.forget_rows(core.seq - 5)
        outage.heal()
        await core.publish()
        await settled(edge, core)
        assert edge.hub.drops == [SERVICE_RESTART]
        assert edge.view is view
        assert edge.hub.complete_from == core.seq - 5
        assert edge.hub.of(topics.ORDER_UPDATED) == [], "the sessions get them from their snapshots"


async def restored_from_before(edge: EdgeUnderTest, outage: Outage, core: FakeCore) -> FakeCore:
    """The server has gone back to what another epoch of the core had published before; returns the core as it is."""
    later = FakeCore(outage, "e2")
    later._now = core._now
    later.order(1)
    later.order(1, Status.CANCELLED)
    await later.publish()
    await settled(edge, later)
    outage.fail()
    await until(lambda: edge.feed.state is FeedState.LOST)
    outage.flush()
    await asyncio.sleep(0)
    outage.heal()
    await core.publish()
    return later


async def test_a_server_restored_from_a_copy_does_not_bring_back_an_older_state(outage, core):
    core.order(1)
    async with EdgeUnderTest(outage) as edge:
        later = await restored_from_before(edge, outage, core)
        await until(lambda: "older state" in edge.feed.status().detail)
        outage.flush()
        await later.publish()
        later.order(2)
        await later.publish()
        await settled(edge, later)
        assert {epoch for epoch, _, _ in edge.hub.eras} == {"e2"}


async def test_an_older_state_is_believed_in_the_end_where_the_core_has_no_other(outage, core):
    core.order(1)
    async with EdgeUnderTest(outage) as edge:
        await restored_from_before(edge, outage, core)
        await until(lambda: edge.feed.epoch == "e1")


async def test_another_epoch_closes_the_sessions_and_is_followed(outage, core):
    busy(core)
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        core.new_epoch("e2")
        await core.publish()
        await until(lambda: edge.feed.epoch == "e2")
        core.order(77)
        await core.publish()
        await settled(edge, core)
        assert edge.hub.drops == [SERVICE_RESTART]
        assert edge.hub.epoch == "e2"


async def test_a_core_that_died_is_shown_and_what_it_said_last_is_served(outage, core):
    busy(core)
    await core.publish()
    async with EdgeUnderTest(outage, stale_s=15.0) as edge:
        await settled(edge, core)
        await until(lambda: edge.feed.state is FeedState.STALE)
        assert "no sign of the core" in edge.feed.status().detail
        assert not differences(edge.view, core.view)
        assert edge.hub.drops == []
        core.tick("rb2505", 1.0)
        await core.publish_signals()
        await until(lambda: edge.feed.state is FeedState.FOLLOWING)


async def test_somebody_elses_word_that_the_core_lives_counts(outage, core):
    await core.publish()
    async with EdgeUnderTest(outage, stale_s=15.0) as edge:
        await until(lambda: edge.feed.state is FeedState.STALE)
        edge.feed.core_seen()
        assert edge.feed.state is FeedState.FOLLOWING


async def test_what_has_vanished_goes(outage, core):
    busy(core)
    core.contract("ag2506")
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        core.vanish(core.view.contracts["ag2506.SHFE"]["P"])
        core.vanish(core.view.jobs["1"])
        await core.publish()
        await settled(edge, core)


async def test_a_halt_that_ended_while_nobody_listened_is_no_longer_in_force(outage, core):
    busy(core)
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        outage.fail()
        core.halt("rb2505.SHFE", active=False)
        outage.heal()
        await core.publish()
        await settled(edge, core)
        assert edge.view.halts == {}
        assert [message.data.active for message in edge.hub.of(topics.RISK_HALT)] == [False]


async def test_jobs_that_ended_long_ago_are_not_remembered_for_ever(outage, core):
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        for number in range(100):
            core.job(number, JobState.DONE)
            await core.publish()
        await until(lambda: len(edge.view.jobs) == 20)
        for event in list(core.view.jobs.values())[:-1]:
            core.vanish(event)
        await core.publish()
        await until(lambda: len([name for name in edge.feed._held if name[0] == "job"]) <= 20)


async def test_an_error_of_our_own_is_logged_and_followed_on(outage, core):
    busy(core)
    await core.publish()
    async with EdgeUnderTest(outage) as edge:
        await settled(edge, core)
        real = outage.broker.read

        async def read(*_: object) -> list[Entry]:
            outage.broker.read = real
            raise ZeroDivisionError

        outage.broker.read = read
        core.order(5)
        await core.publish()
        await settled(edge, core)
        assert edge.feed.status().faults == 1
        assert edge.hub.drops == []


async def test_closing_ends_everything_at_once(outage, core):
    async with EdgeUnderTest(outage, wait=asyncio.sleep) as edge:
        await edge.feed.close()
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("edge ")]
