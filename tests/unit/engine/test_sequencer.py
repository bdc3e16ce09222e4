"""What becomes of events: names, verdicts, twins, and ids that come again. Through the stage, which calls it."""

import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vnpy.event import Event
from vnpy.trader.constant import Direction, Status
from vnpy.trader.object import OrderData

from testkit.stage import (
    START,
    StageWorld,
    order_data,
    order_event,
    order_events,
    order_intent,
    quote_event,
    trade_event,
)
from vnpy_core.bus import records, topics
from vnpy_core.domain.enums import IntentState
from vnpy_core.domain.enums import Status as DomainStatus
from vnpy_core.engine import sequencer as sequencer_module

DAY = timedelta(days=1)
LIFE = [(Status.SUBMITTING, 0.0), (Status.NOTTRADED, 0.0), (Status.PARTTRADED, 4.0), (Status.ALLTRADED, 10.0)]


@pytest.fixture
def world():
    return StageWorld()


def seen(events) -> list[tuple[Status, float]]:
    return [(event.data.status, event.data.traded) for event in events if isinstance(event.data, OrderData)]


# --- forward only ---


def events_of_a_life() -> list[Event]:
    orders = [order_event(status=status, traded=traded) for status, traded in LIFE]
    return [*orders, trade_event(tradeid="t1", volume=4.0), trade_event(tradeid="t2", volume=6.0)]


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=6))
def test_any_order_and_doubling_of_events_gives_the_same_books(arrival, doubled):
    world = StageWorld()
    for index in [*arrival, *doubled]:
        world.put_and_step(events_of_a_life()[index])
    kept = next(iter(world.books.orders.values())).event
    assert (len(world.books.orders), kept.status, kept.traded) == (1, DomainStatus.ALLTRADED, 10.0)
    assert sorted(kept.event.tradeid for kept in world.books.trades.values()) == ["t1", "t2"]
    assert sorted(fill.tradeid for fill in world.rows(topics.TRADE_EXECUTED)) == ["t1", "t2"]
    assert [row.seq for row in world.journal.rows] == list(range(1, len(world.journal.rows) + 1))


def test_an_event_that_goes_back_is_journaled_as_late_and_neither_it_nor_its_twin_is_shown(world):
    world.put_and_step(*order_events(status=Status.PARTTRADED, traded=4.0))
    assert world.put_and_step(*order_events(status=Status.NOTTRADED)) == []
    assert world.kinds == [topics.ORDER_UPDATED, records.ORDER_LATE]
    late = world.rows(records.ORDER_LATE)[0]
    assert (late.status, late.seq) == (DomainStatus.NOTTRADED, 2)
    assert world.books.order(world.books.uid("P.1")).status is DomainStatus.PARTTRADED


def test_a_repeated_event_is_neither_journaled_nor_shown_nor_is_its_twin(world):
    first = world.put_and_step(*order_events())
    again = world.put_and_step(*order_events())
    assert (len(first), again, world.kinds) == (2, [], [topics.ORDER_UPDATED])


def test_a_merged_event_reaches_vnpy_as_a_changed_copy_and_its_twin_gets_the_same(world):
    world.put_and_step(*order_events(status=Status.CANCELLED, traded=2.0))
    late = order_events(status=Status.PARTTRADED, traded=5.0)
    gateways_own = late[0].data
    base, twin = world.put_and_step(*late)
    assert seen([base]) == [(Status.CANCELLED, 5.0)]
    assert twin.data is base.data is not gateways_own
    assert (gateways_own.status, gateways_own.traded) == (Status.PARTTRADED, 5.0)
    assert (base.staged.data.status, base.staged.data.traded) == (DomainStatus.CANCELLED, 5.0)


def test_an_event_as_it_is_reaches_vnpy_as_the_gateways_own_object(world):
    events = order_events()
    own = events[0].data
    base, twin = world.put_and_step(*events)
    assert base.data is own is twin.data


def test_a_twin_that_comes_after_its_base_was_shown_still_follows_it(world):
    world.put_and_step(*order_events(status=Status.CANCELLED, traded=2.0))
    base, twin = order_events(status=Status.PARTTRADED, traded=5.0)
    world.put_and_step(base)
    assert world.put_and_step(twin)[0].data is base.data
    late, late_twin = order_events(status=Status.NOTTRADED)
    assert world.put_and_step(late) == []
    assert world.put_and_step(late_twin) == []


def test_twins_that_two_threads_mixed_each_follow_their_own(world):
    world.put_and_step(*order_events("1", Status.CANCELLED), *order_events("2", Status.NOTTRADED))
    late, late_twin = order_events("1", Status.NOTTRADED)
    new, new_twin = order_events("2", Status.PARTTRADED, traded=1.0)
    assert world.put_and_step(late, new, late_twin, new_twin) == [new, new_twin]


def test_an_object_that_a_gateway_uses_again_is_shown_again(world):
    data = order_data(status=Status.NOTTRADED)
    world.put_and_step(Event("eOrder.", data), Event("eOrder.P.1", data))
    assert world.put_and_step(Event("eOrder.", data), Event("eOrder.P.1", data)) == []
    data.status = Status.CANCELLED
    assert len(world.put_and_step(Event("eOrder.", data), Event("eOrder.P.1", data))) == 2


def test_what_is_remembered_for_twins_is_bounded(world, monkeypatch):
    monkeypatch.setattr(sequencer_module, "TWINS", 5)
    for _ in range(20):
        world.put_and_step(order_event())
    assert len(world.stage.sequencer._replaced) == 5


def test_what_was_seen_is_remembered_in_bounds(world, monkeypatch):
    monkeypatch.setattr(sequencer_module, "REMEMBERED", 5)
    for number in range(20):
        world.put_and_step(order_event(str(number)))
    assert len(world.stage.sequencer._seen) == 5


def test_a_quote_only_moves_forward_and_is_journaled_once_for_each_change(world):
    assert len(world.put_and_step(quote_event())) == 1
    assert world.put_and_step(quote_event()) == []
    assert len(world.put_and_step(quote_event(Status.PARTTRADED))) == 1
    assert world.put_and_step(quote_event(Status.NOTTRADED)) == []
    assert len(world.put_and_step(quote_event(Status.CANCELLED))) == 1
    assert [quote.seq for quote in world.rows(topics.QUOTE_UPDATED)] == [1, 2, 3]


def test_numbers_that_are_none_are_journaled_as_zero_so_that_the_next_start_can_read_them(world):
    world.put_and_step(order_event(price=float("nan"), volume=float("inf")))
    restarted = world.restarted()
    known = next(iter(restarted.books.orders.values())).event
    assert (known.price, known.volume) == (0.0, 0.0)


# --- after a restart ---


def test_what_is_shown_again_after_a_restart_is_dispatched_once_and_published_not_at_all(world):
    world.put_and_step(*order_events(), trade_event())
    after = world.restarted()
    base, twin, fill = after.put_and_step(*order_events(), trade_event())
    assert base.staged.data is None
    assert fill.staged.data is None
    assert twin.data is base.data
    assert after.put_and_step(*order_events(), trade_event()) == []
    assert len(after.journal.rows) == 2


# --- whose order it is ---


def test_an_order_put_inside_the_call_by_its_thread_is_the_intents(world):
    world.send(order_intent(), "P.1", *order_events(status=Status.SUBMITTING))
    world.step()
    assert world.kinds == [records.ORDER_INTENT, records.INTENT_OUTCOME, topics.ORDER_UPDATED]
    assert world.rows(topics.ORDER_UPDATED)[0].client_order_id == "c1"
    assert world.keys(topics.ORDER_UPDATED) == ["c1"]


def test_an_order_put_by_another_thread_waits_for_the_answer_and_gets_its_name(world):
    intent = order_intent(reference="CtaStrategy_s", strategy_name="s")
    world.stage.record(records.ORDER_INTENT, "c1", intent)
    world.step()
    call = world.stage.begin_call(intent)
    thread = threading.Thread(target=world.put, args=(*order_events(), trade_event()))
    thread.start()
    thread.join()
    world.step()
    assert world.forwarded == []
    world.stage.end_call(call, "P.1")
    world.step()
    assert [event.type for event in world.forwarded] == ["eOrder.", "eOrder.P.1", "eTrade."]
    assert world.kinds[1:] == [records.INTENT_OUTCOME, topics.ORDER_UPDATED, topics.TRADE_EXECUTED]
    assert world.rows(topics.ORDER_UPDATED)[0].strategy_name == "s"
    assert world.rows(topics.TRADE_EXECUTED)[0].strategy_name == "s"
    assert world.keys(topics.TRADE_EXECUTED) == ["P:c1/t1"]


def test_the_outcome_stands_before_the_first_row_of_its_order_so_that_a_crash_between_them_harms_nothing(world):
    intent = order_intent()
    world.stage.record(records.ORDER_INTENT, "c1", intent)
    world.step()
    call = world.stage.begin_call(intent)
    in_thread(world.put, order_event())
    world.step()
    world.stage.end_call(call, "P.1")
    world.step()
    disk = world.journal.disk
    disk.rows = disk.rows[:2]
    after = world.restarted()
    assert after.stage.sequencer.open_orphans("P") == []
    after.put_and_step(order_event())
    assert after.keys(topics.ORDER_UPDATED) == ["c1"]


def in_thread(call, *arguments) -> None:
    thread = threading.Thread(target=call, args=arguments)
    thread.start()
    thread.join()


def test_an_event_about_a_known_order_does_not_wait_for_a_call(world):
    world.put_and_step(order_event("1"))
    call = world.stage.begin_call(order_intent())
    assert len(world.put_and_step(order_event("1", Status.CANCELLED))) == 1
    world.stage.end_call(call, "P.2")


def test_an_event_waits_for_a_call_for_a_while_only(world):
    world.stage.begin_call(order_intent())
    in_thread(world.put, order_event(price=1.0))
    world.step()
    assert world.forwarded == []
    world.clock.advance(sequencer_module.HOLD_CALL_S)
    world.step()
    assert len(world.forwarded) == 1
    assert world.keys(topics.ORDER_UPDATED) == ["P.1@2026-11-20"]


def test_a_call_that_raised_leaves_an_orphan_that_the_only_order_of_its_content_settles(world):
    intent = order_intent()
    world.stage.record(records.ORDER_INTENT, "c1", intent)
    call = world.stage.begin_call(intent)
    world.stage.end_call(call, "", unknown=True)
    world.step()
    assert [i.client_order_id for i in world.stage.sequencer.open_orphans("P")] == ["c1"]
    world.put_and_step(order_event("7"))
    assert world.rows(records.INTENT_OUTCOME)[0].vt_orderid == "P.7"
    assert world.keys(topics.ORDER_UPDATED) == ["c1"]


def test_of_two_alike_orphans_no_order_says_which_it_is(world):
    for number in "12":
        intent = order_intent(number)
        world.stage.record(records.ORDER_INTENT, intent.client_order_id, intent)
        world.stage.end_call(world.stage.begin_call(intent), "", unknown=True)
    world.put_and_step(order_event("7"))
    assert len(world.stage.sequencer.open_orphans("P")) == 2
    assert world.keys(topics.ORDER_UPDATED) == ["P.7@2026-11-20"]


def test_an_order_of_an_earlier_runs_orphan_is_not_guessed_outside_a_reconciliation(world):
    world.stage.record(records.ORDER_INTENT, "c1", order_intent())
    world.step()
    after = world.restarted()
    after.put_and_step(order_event("7"))
    assert [i.client_order_id for i in after.stage.sequencer.open_orphans("P")] == ["c1"]


def test_where_an_alike_send_is_in_doubt_only_the_answer_names_the_order(world):
    doubtful, intent = order_intent("1"), order_intent("2")
    for each in (doubtful, intent):
        world.stage.record(records.ORDER_INTENT, each.client_order_id, each)
    world.step()
    world.stage.end_call(world.stage.begin_call(doubtful), "", unknown=True)
    call = world.stage.begin_call(intent)
    world.put_and_step(order_event("1"))  # the first one's, arriving inside the second one's call
    assert world.forwarded == []
    world.stage.end_call(call, "P.2")
    world.put_and_step(order_event("2"))
    assert {o.orderid: o.client_order_id for o in world.rows(topics.ORDER_UPDATED)} == {"1": "c1", "2": "c2"}


def test_an_answer_that_names_another_order_than_the_event_of_the_call_is_right(world):
    intent = order_intent()
    world.send(intent, "P.2", order_event("1"))
    world.step()
    bound = [outcome.vt_orderid for outcome in world.rows(records.INTENT_OUTCOME)]
    assert (bound, world.books.uid("P.2")) == (["P.1", "P.2"], "c1")


def test_the_strategys_engine_hears_of_its_orders_id(world):
    told = []
    world.stage.sequencer.bound = lambda vt_orderid, strategy_name: told.append((vt_orderid, strategy_name))
    world.send(order_intent(strategy_name="s"), "P.1")
    assert told == [("P.1", "s")]


def test_an_order_is_its_strategys_by_its_reference_where_nothing_else_says_so(world):
    world.put_and_step(order_event(reference="CtaStrategy_s"), trade_event())
    assert world.rows(topics.ORDER_UPDATED)[0].strategy_name == "s"
    assert world.rows(topics.TRADE_EXECUTED)[0].strategy_name == "s"


def test_an_outcome_may_say_again_that_nobody_knows(world):
    intent = order_intent()
    world.stage.record(records.ORDER_INTENT, "c1", intent)
    world.stage.end_call(world.stage.begin_call(intent), "", unknown=True)
    world.stage.close_intent(intent, IntentState.UNKNOWN)
    world.step()
    assert len(world.stage.sequencer.open_orphans("P")) == 1


# --- ids that come again ---


def test_the_same_id_on_the_next_day_is_another_order(world):
    world.put_and_step(order_event(status=Status.ALLTRADED, traded=10.0), trade_event())
    after = world.restarted()
    tomorrow = {"datetime": START + DAY}
    assert len(after.put_and_step(order_event(**tomorrow), trade_event(**tomorrow))) == 2
    assert after.keys(topics.ORDER_UPDATED) == ["P.1@2026-11-20", "P.1@2026-11-21"]
    assert after.keys(topics.TRADE_EXECUTED) == ["P:P.1@2026-11-20/t1", "P:P.1@2026-11-21/t1"]
    assert after.books.order("P.1@2026-11-21").status is DomainStatus.NOTTRADED


def test_the_id_of_an_order_that_ended_may_come_again_within_a_run(world):
    world.put_and_step(order_event(status=Status.CANCELLED))
    assert world.put_and_step(order_event()) == []  # late
    assert len(world.put_and_step(order_event(datetime=START + DAY))) == 1
    assert world.keys(topics.ORDER_UPDATED) == ["P.1@2026-11-20", "P.1@2026-11-21"]


def test_the_same_id_for_another_content_on_the_same_day_is_another_order(world):
    world.put_and_step(order_event(status=Status.ALLTRADED, traded=10.0))
    after = world.restarted()
    after.put_and_step(order_event(price=101.0))
    assert after.keys(topics.ORDER_UPDATED) == ["P.1@2026-11-20", "P.1@2026-11-20#2"]
    again = after.restarted()
    again.put_and_step(order_event(price=101.0, status=Status.CANCELLED))
    assert again.books.order("P.1@2026-11-20#2").status is DomainStatus.CANCELLED


def test_an_id_that_is_given_again_to_an_order_of_ours_names_that_one(world):
    world.put_and_step(order_event(status=Status.ALLTRADED, traded=10.0, price=1.0))
    after = world.restarted()
    after.send(order_intent(), "P.1", order_event(status=Status.SUBMITTING))
    after.put_and_step(order_event())
    assert after.keys(topics.ORDER_UPDATED) == ["P.1@2026-11-20", "c1", "c1"]


def test_where_ids_never_come_again_one_id_is_one_order(world):
    world = StageWorld(ids_unique=True)
    world.put_and_step(order_event())
    after = world.restarted(ids_unique=True)
    after.put_and_step(order_event(status=Status.CANCELLED, datetime=START + DAY, price=101.0))
    assert after.keys(topics.ORDER_UPDATED) == ["P.1", "P.1"]


def test_a_fill_that_is_shown_again_under_a_new_order_id_counts_once(world):
    world.put_and_step(order_event("1", Status.ALLTRADED, traded=1.0, volume=1.0), trade_event("1"))
    after = world.restarted()
    after.put_and_step(order_event("900", Status.ALLTRADED, traded=1.0, volume=1.0), trade_event("900"))
    assert after.keys(topics.TRADE_EXECUTED) == ["P:P.1@2026-11-20/t1"]
    assert records.QUARANTINE not in after.kinds


def test_two_orders_that_were_filled_alike_in_one_run_are_two_fills(world):
    world.put_and_step(order_event("1"), order_event("2"), trade_event("1"), trade_event("2"))
    assert len(world.rows(topics.TRADE_EXECUTED)) == 2
    after = world.restarted()
    after.put_and_step(order_event("1"), order_event("2"), trade_event("1"), trade_event("2"))
    assert len(after.rows(topics.TRADE_EXECUTED)) == 2


def test_a_fill_of_a_known_order_is_its_own_however_alike_anothers_is(world):
    world.put_and_step(order_event("1"), order_event("2"), trade_event("1"))
    after = world.restarted()
    after.put_and_step(order_event("2"), trade_event("2"))
    assert after.keys(topics.TRADE_EXECUTED) == ["P:P.1@2026-11-20/t1", "P:P.2@2026-11-20/t1"]


def test_an_alike_fill_under_a_new_id_is_another_one_where_the_order_of_the_known_one_is_shown_too(world):
    world.put_and_step(order_event("1"), trade_event("1"))
    after = world.restarted()
    after.put_and_step(order_event("1"), order_event("900"), trade_event("900"))
    assert after.keys(topics.TRADE_EXECUTED) == ["P:P.1@2026-11-20/t1", "P:P.900@2026-11-20/t1"]


def test_an_alike_fill_of_an_order_of_ours_is_another_one(world):
    world.put_and_step(order_event("1"), trade_event("1"))
    after = world.restarted()
    after.send(order_intent(), "P.900", order_event("900"))
    after.put_and_step(trade_event("900"))
    assert after.keys(topics.TRADE_EXECUTED) == ["P:P.1@2026-11-20/t1", "P:c1/t1"]


def test_a_fill_of_which_nothing_tells_whether_it_is_known_is_put_aside(world):
    timeless = {"datetime": None}
    world.put_and_step(order_event("1"), trade_event("1", **timeless))
    after = world.restarted()
    shown = after.put_and_step(order_event("900", price=5.0), trade_event("900", **timeless))
    assert [event.type for event in shown] == ["eOrder."]
    assert "nothing tells" in after.rows(records.QUARANTINE)[0].reason


def test_a_fill_with_another_content_under_a_known_key_is_put_aside(world):
    world.put_and_step(order_event(), trade_event(volume=1.0))
    assert world.put_and_step(trade_event(volume=2.0)) == []
    kept = world.rows(records.QUARANTINE)[0]
    assert (kept.known["volume"], kept.arrived["volume"]) == (1.0, 2.0)
    assert len(world.books.trades) == 1


def test_a_fill_that_is_told_again_with_a_coarser_time_is_the_same(world):
    world.put_and_step(order_event(), trade_event(datetime=START + timedelta(microseconds=1234)))
    assert world.put_and_step(trade_event(datetime=START)) == []
    assert records.QUARANTINE not in world.kinds


def test_a_fill_before_its_order_counts_once_whatever_the_order_is_named_later(world):
    world.put_and_step(trade_event())
    world.put_and_step(order_event(datetime=None), trade_event())
    world.put_and_step(trade_event())
    assert len(world.rows(topics.TRADE_EXECUTED)) == 1
    assert world.keys(topics.ORDER_UPDATED) == ["P.1@2026-11-20"]


def test_a_fill_on_the_other_side_is_not_of_the_order_that_had_its_id_before(world):
    world.put_and_step(order_event(status=Status.ALLTRADED, traded=10.0))
    after = world.restarted()
    after.put_and_step(trade_event(direction=Direction.SHORT, tradeid="t9"))
    after.put_and_step(order_event(direction=Direction.SHORT, datetime=START + timedelta(hours=1)))
    assert after.keys(topics.TRADE_EXECUTED) == ["P:P.1@2026-11-20#2/t9"]
    assert after.keys(topics.ORDER_UPDATED) == ["P.1@2026-11-20", "P.1@2026-11-20#2"]


def test_a_fill_of_an_order_whose_id_was_anothers_yesterday_is_taken_in_though_both_count_their_fills_from_one(world):
    world.put_and_step(order_event(status=Status.PARTTRADED, traded=1.0), trade_event())
    after = world.restarted()
    after.put_and_step(order_event(status=Status.CANCELLED, traded=1.0))
    after.put_and_step(trade_event(volume=2.0, datetime=START + DAY))
    after.put_and_step(order_event(datetime=START + DAY, price=101.0))
    assert after.keys(topics.TRADE_EXECUTED) == ["P:P.1@2026-11-20/t1", "P:P.1@2026-11-21/t1"]
    assert records.QUARANTINE not in after.kinds


def test_an_orders_row_that_names_its_order_itself_does_not_touch_the_one_that_has_its_id_now(world):
    world.put_and_step(order_event())
    after = world.restarted()
    after.put_and_step(order_event(datetime=START + DAY))
    old = after.books.order("P.1@2026-11-20")
    from msgspec.structs import replace

    after.stage.record(records.ORDER_SETTLED, "P.1@2026-11-20", replace(old, status=DomainStatus.CANCELLED))
    after.step()
    assert after.books.order("P.1@2026-11-20").status is DomainStatus.CANCELLED
    assert after.books.order("P.1@2026-11-21").status is DomainStatus.NOTTRADED
    assert after.keys(topics.ORDER_UPDATED) == ["P.1@2026-11-20", "P.1@2026-11-21"]  # who reads those is not told of it
    again = after.restarted()
    assert again.books.uid("P.1") == "P.1@2026-11-21"
