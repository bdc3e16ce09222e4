import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec
import pytest
from vnpy.event import Event
from vnpy.trader.constant import Status

from testkit.memory_journal import MemoryJournal
from testkit.stage import (
    StageWorld,
    account_event,
    order_data,
    order_event,
    order_events,
    order_intent,
    position_event,
    quote_event,
    tick_event,
    trade_event,
)
from vnpy_core.bus import records, topics
from vnpy_core.domain.books import Books
from vnpy_core.domain.enums import HaltScope, IntentState
from vnpy_core.domain.errors import JournalFailed, StorageFull
from vnpy_core.domain.events import Audit, Halt, RiskEvent
from vnpy_core.engine import stage as stage_module
from vnpy_core.engine.stage import EVENT_AUDIT, EVENT_DENIED, EVENT_HALT, STALL_S, Stage
from vnpy_core.kit.clock import SystemClock
from vnpy_core.kit.flow import CreditFlow

NOW = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
HALT = Halt(scope=HaltScope.ALL, active=True, reason="r", by="ann", at=NOW)


@pytest.fixture
def world():
    return StageWorld()


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def seqs(world) -> list[int]:
    return [row.seq for row in world.journal.rows]


# --- the order of things ---


def test_an_event_is_durable_before_anybody_sees_it(world):
    seen = []
    world.stage._forward = lambda event: seen.append((event.type, world.kinds.copy()))
    world.put(order_event())
    assert seen == []
    world.step()
    assert seen == [("eOrder.", [topics.ORDER_UPDATED])]


def test_a_group_is_one_commit(world):
    world.put(*order_events("1"), *order_events("2"), trade_event("1"))
    world.step()
    assert world.journal.disk.commits == [3]
    assert [event.type for event in world.forwarded] == ["eOrder.", "eOrder.P.1", "eOrder.", "eOrder.P.2", "eTrade."]


def test_a_payload_carries_the_number_of_its_row(world):
    world.put(order_event(), trade_event(), quote_event(), position_event(), account_event(), Event(EVENT_HALT, HALT))
    world.put(Event(EVENT_DENIED, RiskEvent(kind="DENIED", rule="R")))
    world.step()
    decoded = [(row.seq, records.decode(row.kind, row.payload)) for row in world.journal.rows]
    assert [data.seq for _, data in decoded] == [seq for seq, _ in decoded] == list(range(1, 8))


def test_a_tick_does_not_overtake_a_fill_of_its_gateway_but_another_gateways_does(world):
    fill, mine, other = trade_event(), tick_event("P"), tick_event("Q")
    world.put(fill, mine, other)
    assert world.forwarded == [other]
    world.step()
    assert world.forwarded == [other, fill, mine]
    assert world.put_and_step(tick := tick_event("P")) == [tick]


def test_timer_log_and_command_events_pass_by(world):
    from vnpy.trader.object import LogData

    log = Event("eLog", LogData(gateway_name="P", msg="m"))
    events = [Event("eTimer"), log, Event("eCoreCommand", lambda: None)]
    world.put(trade_event(), *events)
    assert world.forwarded == events


def test_the_state_of_a_risk_rule_is_not_journaled_but_a_denial_is(world):
    state = Event("eRiskRule", {"name": "r"})
    denial = Event(EVENT_DENIED, RiskEvent(kind="DENIED", rule="R", message="no"))
    world.put_and_step(state, denial)
    assert world.forwarded == [state, denial]
    assert world.kinds == [topics.RISK_EVENT]


def test_halts_and_changes_of_limits_are_journaled_in_their_place(world):
    change = Audit(who="ann", what="limit", target="r", before={"limit": 1}, after={"limit": 2}, at=NOW)
    world.put_and_step(Event(EVENT_HALT, HALT), Event(EVENT_AUDIT, change), order_event())
    assert world.kinds == [topics.RISK_HALT, records.AUDIT, topics.ORDER_UPDATED]
    assert world.rows(records.AUDIT) == [change]
    assert list(world.restarted().books.halts) == ["all"]


def test_orders_that_an_engine_had_before_us_are_journaled_and_published(world):
    shown = world.put_and_step(Event("eCoreAdoptedOrder", order_data()), Event("eCoreAdoptedTrade", trade_event().data))
    assert world.kinds == [topics.ORDER_UPDATED, topics.TRADE_EXECUTED]
    assert [event.staged.data.seq for event in shown] == [1, 2]


def test_an_event_that_cannot_be_translated_still_reaches_vnpy(world):
    broken = Event("eOrder.", object())
    assert world.put_and_step(broken) == [broken]
    position = Event("ePosition.", object())
    assert world.put_and_step(position) == [position]
    assert (world.stage.untranslatable, world.kinds) == (2, [])


def test_an_event_that_json_cannot_hold_still_reaches_vnpy_and_does_not_stop_the_others(world):
    odd = order_event("1", volume=object())
    assert len(world.put_and_step(odd, order_event("2"))) == 2
    assert (world.stage.untranslatable, seqs(world)) == (1, [1])


# --- positions and accounts ---


def test_a_position_is_journaled_at_most_once_a_second_with_its_newest_state(world):
    for volume in (1.0, 2.0, 3.0):
        world.put_and_step(position_event(volume))
    assert [p.volume for p in world.rows(topics.POSITION_UPDATED)] == [1.0]
    world.clock.advance(1.0)
    world.step()
    assert [p.volume for p in world.rows(topics.POSITION_UPDATED)] == [1.0, 3.0]


def test_a_position_is_never_journaled_for_its_profit_alone(world):
    for pnl in (0.0, 5.0, -5.0):
        world.put_and_step(position_event(1.0, pnl))
        world.clock.advance(2.0)
    assert len(world.rows(topics.POSITION_UPDATED)) == 1


def test_a_position_that_changed_and_changed_back_is_not_journaled_again(world):
    world.put_and_step(position_event(1.0))
    world.put_and_step(position_event(2.0), position_event(1.0))
    world.clock.advance(1.0)
    world.step()
    assert len(world.rows(topics.POSITION_UPDATED)) == 1


def test_an_account_is_journaled_on_change(world):
    world.put_and_step(account_event(100.0), account_event(100.0))
    world.clock.advance(1.0)
    world.put_and_step(account_event(100.0, frozen=10.0))
    assert [a.available for a in world.rows(topics.ACCOUNT_UPDATED)] == [100.0, 90.0]


def test_positions_are_shown_at_once_whether_or_not_they_are_journaled(world):
    events = [position_event(volume) for volume in (1.0, 2.0)]
    world.put(*events)
    assert world.forwarded == events


def test_what_waits_to_be_journaled_is_journaled_at_the_stop(threaded):
    world = threaded()
    world.put(position_event(1.0))
    until(lambda: world.rows(topics.POSITION_UPDATED))
    world.put(position_event(2.0))
    assert world.stage.stop(5)
    assert [p.volume for p in world.rows(topics.POSITION_UPDATED)] == [1.0, 2.0]


# --- a journal that cannot be written ---


def test_a_full_disk_lets_events_pass_refuses_orders_and_loses_nothing(world):
    world.put_and_step(order_event("1"))
    world.journal.is_full = True
    ticket = world.stage.record(records.ORDER_INTENT, "c1", order_intent())
    assert len(world.put_and_step(order_event("2"))) == 1
    assert world.stage.refusal == "the disk is full"
    assert (world.stage.is_full, world.stage.waiting, world.journal.disk.marked) == (True, 2, True)
    with pytest.raises(StorageFull):
        ticket.result(0)
    assert len(world.put_and_step(order_event("3"))) == 1
    world.journal.is_full = False
    world.clock.advance(stage_module.RETRY_S)
    assert world.step()
    assert (world.stage.refusal, world.stage.waiting, world.journal.disk.marked) == ("", 0, False)
    assert seqs(world) == [1, 2, 3, 4]
    assert world.restarted().books.orders.keys() == world.books.orders.keys()


def test_that_something_is_not_written_is_marked_before_anybody_acts_on_it(world):
    marks = []
    world.stage._forward = lambda event: marks.append(world.journal.disk.marked)
    world.journal.is_full = True
    world.put_and_step(order_event())
    assert marks == [True]


def test_a_mark_that_comes_late_does_not_outlive_the_reason_for_it(threaded):
    world = threaded()
    go, mark = threading.Event(), world.journal.mark_undurable

    def slow(undurable):
        assert not undurable or go.wait(10)
        mark(undurable)

    world.journal.mark_undurable = slow
    with hanging(world):
        world.put(order_event())
        until(lambda: world.stage.refusal)
    until(lambda: not world.stage.refusal)
    go.set()
    until(lambda: not world.stage._marker.is_alive())
    until(lambda: not world.stage._marked)
    assert not world.journal.disk.marked


def test_a_failing_disk_is_tried_again_now_and_then_not_at_every_event(world):
    world.journal.failures = [JournalFailed("no")] * 5
    for number in range(20):
        assert len(world.put_and_step(order_event(str(number)))) == 1
    assert len(world.journal.failures) == 4
    world.clock.advance(stage_module.RETRY_S)
    world.step()
    assert len(world.journal.failures) == 3


def test_a_journal_that_fails_in_an_unknown_way_does_not_end_its_thread(world, monkeypatch):
    monkeypatch.setattr(world.journal, "append", lambda rows: 1 / 0)
    assert len(world.put_and_step(order_event())) == 1
    assert "ZeroDivisionError" in world.stage.refusal


def test_rows_that_waited_are_written_in_parts_while_events_go_on(world, monkeypatch):
    monkeypatch.setattr(stage_module, "BACKLOG_ROWS", 3)
    world.journal.is_full = True
    for number in range(10):
        world.put_and_step(order_event(str(number)))
    world.journal.is_full = False
    world.clock.advance(stage_module.RETRY_S)
    assert len(world.put_and_step(order_event("10"))) == 1
    assert (len(world.journal.rows), bool(world.stage.refusal)) == (3, True)
    while not world.step():
        pass
    assert (seqs(world), world.stage.refusal) == (list(range(1, 12)), "")


def test_what_cannot_be_written_is_kept_in_bounds(world, monkeypatch):
    monkeypatch.setattr(stage_module, "UNDURABLE_LIMIT", 5)
    world.journal.is_full = True
    for number in range(20):
        world.put_and_step(order_event(str(number)))
    assert (world.stage.waiting, len(world.forwarded)) == (6, 6)
    world.journal.is_full = False
    world.clock.advance(stage_module.RETRY_S)
    world.step()
    world.step()
    assert (len(world.forwarded), world.stage.waiting) == (20, 0)


def test_after_undurable_events_were_lost_in_a_crash_the_next_start_begins_a_new_epoch(world):
    world.put_and_step(order_event("1"))
    world.journal.is_full = True
    world.put_and_step(order_event("2"))
    after = world.restarted()
    assert after.journal.epoch == "e2"
    after.put_and_step(order_event("2"))
    assert [(row.seq, row.epoch) for row in after.journal.rows] == [(1, "e1"), (2, "e2")]


@pytest.fixture
def threaded():
    """A stage with its own threads on the real clock."""
    worlds = []

    def make(**options):
        world = StageWorld()
        world.clock = SystemClock()
        world.stage = Stage(world.journal, world.books, world.clock, world.forwarded.append, world.flow, **options)
        world.stage.start()
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        world.journal.go.set()
        world.stage.stop(5)


@contextmanager
def hanging(world):
    world.journal.go.clear()
    yield
    world.journal.go.set()


def test_put_never_waits_for_the_disk(threaded):
    world = threaded()
    with hanging(world):
        world.put(order_event("1"))
        assert world.journal.hanging.wait(5)
        started = time.monotonic()
        for number in range(2, 200):
            world.put(*order_events(str(number)), tick_event())
        assert time.monotonic() - started < STALL_S


def test_a_commit_that_hangs_lets_events_pass_refuses_orders_and_leaves_no_gap(threaded):
    world = threaded()
    with hanging(world):
        world.put(order_event("1"))
        assert world.journal.hanging.wait(5)
        world.put(trade_event("1"), tick_event())
        assert world.forwarded == []
        until(lambda: len(world.forwarded) == 3)
        assert "hangs" in world.stage.refusal
        assert world.journal.rows == []
        until(lambda: world.journal.disk.marked)
        world.put(order_event("2"))
        until(lambda: len(world.forwarded) == 4)
        assert world.stage.waiting == 3
    until(lambda: not world.stage.refusal and len(world.journal.rows) == 3)
    assert seqs(world) == [1, 2, 3]
    until(lambda: not world.journal.disk.marked)
    assert [event.type for event in world.forwarded] == ["eOrder.", "eTrade.", "eTick.", "eOrder."]


def test_who_waits_for_a_commit_that_hangs_hears_of_its_late_success_once(threaded):
    world = threaded()
    with hanging(world):
        first = world.stage.record(records.ORDER_INTENT, "c1", order_intent("1"))
        assert world.journal.hanging.wait(5)
        until(lambda: world.stage.refusal)
        second = world.stage.record(records.ORDER_INTENT, "c2", order_intent("2"))
        with pytest.raises(JournalFailed):
            second.result(5)
        assert not first.done()
        assert not first.cancel()
    assert first.result(5) == 1
    until(lambda: world.keys(records.ORDER_INTENT) == ["c1", "c2"])


def test_upkeep_that_hangs_is_a_commit_that_hangs(threaded, monkeypatch):
    world = threaded()
    hangs, go = threading.Event(), threading.Event()
    monkeypatch.setattr(world.journal, "maintain", lambda drained: (hangs.set(), go.wait(10)))
    try:
        assert hangs.wait(5)
        world.put(order_event())
        until(lambda: len(world.forwarded) == 1)
        assert world.stage.refusal
    finally:
        go.set()
    until(lambda: len(world.journal.rows) == 1 and not world.stage.refusal)


def test_one_slow_commit_refuses_until_the_next_one_succeeds(world):
    world.stage.note_slow()
    assert "250 ms" in world.stage.refusal
    world.put_and_step(order_event())
    assert world.stage.refusal == ""


def test_upkeep_that_succeeds_takes_the_refusal_back_too(world):
    world.stage.note_slow()
    world.clock.advance(stage_module.MAINTAIN_S)
    world.step()
    assert world.stage.refusal == ""


def test_what_the_journal_itself_refuses_is_refused(world):
    world.journal.refusal = "the journal is at its limit"
    world.clock.advance(stage_module.MAINTAIN_S)
    world.step()
    assert world.stage.refusal == "the journal is at its limit"
    assert not world.stage.is_full


def test_what_fails_outside_does_not_end_the_journals_thread(threaded):
    world = threaded(on_commit=lambda: 1 / 0)
    world.journal.mark_undurable = lambda undurable: 1 / 0
    world.journal.failures = [JournalFailed("once")]
    world.put(order_event("1"))
    until(lambda: len(world.journal.rows) == 1)
    world.put(order_event("2"))
    until(lambda: len(world.journal.rows) == 2)


def test_a_step_that_fails_unexpectedly_holds_nothing_back_and_refuses_orders(threaded, monkeypatch):
    world = threaded()
    monkeypatch.setattr(world.stage, "_due_rows", lambda is_behind, now: 1 / 0)
    world.put(order_event("1"))
    until(lambda: len(world.forwarded) == 1)
    assert "ZeroDivisionError" in world.stage.refusal
    monkeypatch.undo()
    until(lambda: len(world.journal.rows) == 1 and not world.stage.refusal)


# --- records, publications, barriers ---


def test_a_record_gives_its_place_once_it_is_durable(world):
    ticket = world.stage.record(records.AUDIT, "t", Audit(who="a", what="w", at=NOW))
    assert not ticket.done()
    world.step()
    assert ticket.result(0) == 1


def test_a_published_event_is_shown_once_it_is_durable(world):
    ticket = world.stage.publish(Event(EVENT_HALT, HALT))
    world.step()
    assert (ticket.result(0), [event.type for event in world.forwarded]) == (1, [EVENT_HALT])


def test_a_published_event_that_cannot_be_written_is_not_shown(world):
    world.journal.is_full = True
    ticket = world.stage.publish(Event(EVENT_HALT, msgspec.structs.replace(HALT, active=False)))
    world.step()
    with pytest.raises(StorageFull):
        ticket.result(0)
    assert world.forwarded == []


def test_a_barrier_is_passed_when_all_before_it_is_forwarded_durable_or_not(world):
    world.journal.is_full = True
    world.put(order_event())
    barrier = world.stage.barrier()
    world.step()
    assert (barrier.result(0), len(world.forwarded)) == (1, 1)


def test_settle_waits_until_all_is_forwarded(threaded):
    world = threaded()
    with hanging(world):
        world.put(order_event())
        assert not world.stage.settle(0.02)
    assert world.stage.settle(5)
    assert len(world.forwarded) == 1


def test_a_replay_pauses_while_something_waits_here(world):
    world.put(order_event())
    assert not world.flow.open
    world.step()
    assert world.flow.open


def test_a_replay_pauses_while_something_waits_for_a_call(world):
    call = world.stage.begin_call(order_intent())
    world.put_and_step(order_event(price=7.0))
    assert not world.flow.open
    world.stage.end_call(call, "P.9")
    world.step()
    assert world.flow.open


# --- what waits for a call ---


def test_all_that_comes_behind_a_waiting_event_of_its_gateway_waits_and_others_do_not(world):
    call = world.stage.begin_call(order_intent())
    unknown, tick, other = order_event("5", price=7.0), tick_event("P"), order_event("1", gateway_name="Q")
    world.put(unknown, tick, other)
    world.step()
    assert world.forwarded == [other]
    assert not world.stage.settle(0)
    world.stage.end_call(call, "P.9")
    world.step()
    assert world.forwarded == [other, unknown, tick]
    assert world.stage.settle(0)


def test_what_waits_is_not_looked_at_again_for_every_event_behind_it(world, monkeypatch):
    world.stage.begin_call(order_intent())
    world.put_and_step(order_event("5", price=7.0))
    looks = []
    ask = world.stage.sequencer.must_wait
    monkeypatch.setattr(world.stage.sequencer, "must_wait", lambda item: looks.append(item) or ask(item))
    for _ in range(100):
        world.put_and_step(tick_event("P"))
    assert len(looks) == 100  # the head, once a step


def test_the_end_of_a_call_wakes_the_journal(threaded):
    world = threaded()
    call = world.stage.begin_call(order_intent())
    world.put(order_event("5", price=7.0))
    until(lambda: world.stage._parked)
    started = time.monotonic()
    world.stage.end_call(call, "P.9")
    until(lambda: world.forwarded)
    assert time.monotonic() - started < stage_module.RETRY_S


def test_behind_an_unknown_order_that_is_being_shown_contracts_and_ticks_pass(world):
    world.stage.record(records.ORDER_INTENT, "c1", order_intent())
    world.step()
    after = world.restarted()
    after.stage.begin_showing("P")
    unknown, account = order_event("5"), account_event()
    after.put(unknown, trade_event("5"), account)
    after.step()
    assert after.forwarded == [account]
    after.stage.end_showing("P", lambda unknown, ownerless, intents: [])
    after.step()
    assert after.forwarded[1:] == [unknown, after.forwarded[2]]


def test_what_is_being_shown_waits_for_a_while_only(world):
    world.stage.record(records.ORDER_INTENT, "c1", order_intent())
    world.step()
    after = world.restarted()
    after.stage.begin_showing("P")
    after.put_and_step(order_event("5"))
    assert after.forwarded == []
    after.clock.advance(61)
    after.step()
    assert len(after.forwarded) == 1
    ownerless = []
    after.stage.end_showing("P", lambda unknown, others, intents: ownerless.extend(others) or [])
    assert [order.orderid for order in ownerless] == ["5"]  # whoever matches is told of it


def test_news_of_a_gateway_are_what_it_had_not_sent_before(world):
    shown = world.stage.begin_showing("P")
    world.clock.advance(1)
    world.put(position_event(1.0))
    assert shown.last_news == world.clock.monotonic()
    world.clock.advance(1)
    world.put(position_event(1.0, pnl=3.0), tick_event())
    assert shown.last_news == world.clock.monotonic() - 1
    world.put_and_step(order_event())
    assert shown.last_news == world.clock.monotonic()


# --- the end ---


def test_a_stop_writes_all_that_is_staged_and_waits_for_no_call(threaded):
    world = threaded()
    world.stage.begin_call(order_intent())
    world.put(order_event("5", price=7.0), tick_event())
    until(lambda: world.stage._parked)
    assert world.stage.stop(5)
    assert (len(world.forwarded), len(world.journal.rows)) == (2, 1)


def test_a_stop_says_that_something_was_not_written(threaded):
    world = threaded()
    world.journal.is_full = True
    world.put(order_event())
    until(lambda: world.forwarded)
    assert not world.stage.stop(5)


def test_a_stop_with_a_hanging_disk_takes_no_longer_than_it_may(threaded):
    world = threaded()
    with hanging(world):
        world.put(order_event())
        assert world.journal.hanging.wait(5)
        started = time.monotonic()
        assert not world.stage.stop(0.3)
        assert time.monotonic() - started < 2


def test_events_after_the_end_still_reach_vnpy_and_records_are_refused(threaded):
    world = threaded()
    assert world.stage.stop(5)
    event = order_event()
    world.put(event)
    assert world.forwarded == [event]
    with pytest.raises(JournalFailed):
        world.stage.record(records.ORDER_INTENT, "c1", order_intent()).result(0)
    assert world.journal.rows == []


def test_no_thread_runs_before_the_start_so_that_a_process_may_fork():
    before = threading.active_count()
    StageWorld()
    assert threading.active_count() == before


def test_many_threads_leave_one_sequence_without_gap_or_double(threaded):
    world = threaded()

    def run(gateway):
        for number in range(100):
            world.put(*order_events(str(number), gateway_name=gateway), tick_event(gateway))

    threads = [threading.Thread(target=run, args=(f"G{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.stage.stop(10)
    assert seqs(world) == list(range(1, 401))
    assert len(world.forwarded) == 1200
    for gateway in ("G0", "G3"):
        own = [event for event in world.forwarded if event.data.gateway_name == gateway]
        assert [event.data.orderid for event in own if event.type == "eOrder."] == [str(n) for n in range(100)]
        assert [event.type[:6] for event in own[:3]] == ["eOrder", "eOrder", "eTick."]


# --- keeping the file in bounds ---


def churn(world, count, *, first=0):
    for number in range(first, first + count):
        world.put_and_step(order_event(str(number), Status.ALLTRADED, traded=10.0))


def upkeep(world, seconds=61.0):
    world.clock.advance(seconds)
    world.step()
    while world.stage._carry is not None:
        world.step()
    world.clock.advance(stage_module.MAINTAIN_S)
    world.step()


@pytest.fixture
def small_bounds(monkeypatch):
    monkeypatch.setattr(stage_module, "CARRY_ROWS", 50)
    monkeypatch.setattr(stage_module, "CARRY_ROWS_TO_CUT", 10)
    monkeypatch.setattr(stage_module, "CARRY_CHUNK", 7)


def test_the_living_state_is_carried_forward_so_that_no_start_reads_much(small_bounds, monkeypatch):
    from datetime import timedelta

    monkeypatch.setattr(stage_module, "CARRY_RECENT", timedelta(seconds=1))
    world = StageWorld()
    world.put_and_step(order_event("keep"))
    churn(world, 60)
    world.clock.advance(5)
    upkeep(world)
    assert world.journal.replay_from() == 61
    read = Books()
    assert stage_module.load_books(world.journal, read) == 1
    assert list(read.orders) == ["P.keep@2026-11-20"]
    assert world.journal.disk.anchor == 0  # nothing was removed: the store may not have it


def test_rows_go_that_the_store_has_and_a_start_finds_the_same_books(small_bounds):
    world = StageWorld(drained=lambda: 1_000_000)
    world.journal.retain_rows = 20
    world.put_and_step(Event(EVENT_HALT, HALT), trade_event("1"), order_event("1"))
    churn(world, 40, first=2)
    upkeep(world)
    upkeep(world)
    assert world.journal.disk.anchor > 0
    after = world.restarted()
    assert after.books.orders.keys() == world.books.orders.keys()
    assert after.books.trades.keys() == world.books.trades.keys()
    assert list(after.books.halts) == ["all"]
    assert seqs(world) == list(range(world.journal.disk.anchor + 1, world.stage.last_seq + 1))


def test_a_carry_makes_way_for_events(small_bounds):
    world = StageWorld()
    churn(world, 60)
    world.clock.advance(stage_module.MAINTAIN_S)
    world.step()
    assert world.stage._carry is not None
    assert len(world.put_and_step(order_event("next"))) == 1
    while world.stage._carry is not None:
        world.step()
    assert "next" in world.restarted().books.orders["P.next@2026-11-20"].event.orderid


def test_what_is_carried_does_not_grow_by_itself(small_bounds):
    world = StageWorld(drained=lambda: 1_000_000)
    world.journal.retain_rows = 0
    churn(world, 60)
    sizes = []
    for _ in range(20):
        upkeep(world)
        sizes.append(len(world.journal.rows))
    assert sizes[-1] == sizes[3]


def test_a_crash_in_the_middle_of_a_carry_changes_nothing(small_bounds):
    world = StageWorld()
    churn(world, 60)
    world.clock.advance(stage_module.MAINTAIN_S)
    world.step()
    world.step()
    assert world.kinds[-1].startswith(records.CARRIED)
    assert world.restarted().books.orders.keys() == world.books.orders.keys()


def test_a_carry_that_cannot_be_written_is_written_later(small_bounds):
    world = StageWorld()
    churn(world, 60)
    world.clock.advance(stage_module.MAINTAIN_S)
    world.step()
    world.journal.is_full = True
    world.step()
    assert world.stage.refusal
    assert len(world.put_and_step(order_event("next"))) == 1
    world.journal.is_full = False
    upkeep(world)
    assert seqs(world) == list(range(1, world.stage.last_seq + 1))
    assert world.journal.replay_from() >= 60


def test_a_cut_that_fails_does_not_end_anything(small_bounds, monkeypatch):
    world = StageWorld()

    def fail(through, carried_from):
        raise JournalFailed("the disk is broken")

    monkeypatch.setattr(world.journal, "cut", fail)
    churn(world, 60)
    upkeep(world)
    assert len(world.put_and_step(order_event("next"))) == 1


# --- outcomes ---


def test_closing_an_intent_is_known_at_once_and_journaled(world):
    intent = order_intent()
    world.stage.record(records.ORDER_INTENT, "c1", intent)
    world.step()
    world.stage.close_intent(intent, IntentState.DENIED, reason="why")
    assert world.stage.inspect(lambda books: books.open_intents("P")) == []
    world.step()
    assert [(o.state, o.reason) for o in world.rows(records.INTENT_OUTCOME)] == [(IntentState.DENIED, "why")]


def test_a_disk_that_outlives_the_process_is_all_that_a_start_needs():
    world = StageWorld()
    world.send(order_intent(), "P.1", order_event(status=Status.SUBMITTING))
    world.put_and_step(order_event(), trade_event())
    after = world.restarted()
    assert after.stage.last_seq == world.stage.last_seq == 5
    assert after.books.intents["c1"].outcome.state is IntentState.BOUND
    assert isinstance(after.journal, MemoryJournal)
    assert isinstance(after.flow, CreditFlow)
