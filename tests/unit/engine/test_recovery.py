"""What differs between venue and books after a connect, and how each difference is settled. One process life at a time;
the venue is what a test shows.
"""

import asyncio
from datetime import timedelta

import pytest
from vnpy.event import Event
from vnpy.trader.constant import Direction, Status

from testkit.stage import (
    START,
    StageWorld,
    account_event,
    order_event,
    order_events,
    order_intent,
    position_event,
    trade_event,
)
from vnpy_core.bus import records, topics
from vnpy_core.bus.message import Message
from vnpy_core.domain.enums import IntentState, ReconciliationState
from vnpy_core.domain.enums import Status as DomainStatus
from vnpy_core.domain.errors import Conflict, NotFound
from vnpy_core.domain.reconciliation import DifferenceKind
from vnpy_core.engine import recovery as recovery_module
from vnpy_core.engine import translate
from vnpy_core.engine.recovery import Capabilities, Recovery

ALL = Capabilities(can_query_orders=True, can_query_trades=True)
NOTHING = Capabilities()
FLAT = (account_event(),)
DAY = timedelta(days=1)


class Gateway:
    """What the tests need of one; `positions` is what it answers when it is asked."""

    def __init__(self, world):
        self.world = world
        self.connected = True
        self.positions = []
        self.asked = 0

    def query_position(self):
        self.asked += 1
        self.world.put(*self.positions)


class Life(StageWorld):
    """A process life with a recovery; steps are taken wherever somebody waits."""

    def __init__(self, disk=None, **options):
        super().__init__(disk, **options)
        self.gateway = Gateway(self)
        self.published = 0
        self.cleared = []
        self.recovery = Recovery(
            self.stage, self.clock, settle=self.settle, end_order=self.end_order, clear_position=self.clear,
            silence_s=0.02,
        )  # fmt: skip
        for name in ("record", "barrier", "settle_intent"):
            setattr(self.stage, name, self.stepped(getattr(self.stage, name)))
        self.recovery.expect("P")

    def stepped(self, method):
        def call(*arguments):
            result = method(*arguments)
            self.step()
            return result

        return call

    async def settle(self):
        self.step()
        for event in self.forwarded[self.published :]:
            self.publish(event)
        self.published = len(self.forwarded)

    def publish(self, event):
        if event.type == "ePosition.":
            data, topic = translate.position(event.data, seq=0), topics.POSITION_UPDATED
        elif event.type == "eAccount.":
            data, topic = translate.account(event.data, seq=0), topics.ACCOUNT_UPDATED
        else:
            return
        self.recovery.take(Message(topic, "", "e", 0, self.clock.now(), data))

    def end_order(self, order, reason):
        data = translate.to_vnpy_order(order)
        data.status, data.extra = Status.CANCELLED, {"reason": reason}
        self.put(Event("eOrder.", data), Event("eOrder." + data.vt_orderid, data))

    def clear(self, position):
        self.cleared.append(position.vt_positionid)
        self.put(position_event(0.0))

    async def reconcile(self, *shown, capabilities=ALL, **options):
        """A connect whose venue shows this."""
        self.recovery.begin("P")
        self.put(*shown)
        options.setdefault("shown_all", True)
        is_open = await self.recovery.finish("P", self.gateway, capabilities, **options)
        report = self.recovery.report("P")
        assert is_open == (report.state is ReconciliationState.RECONCILED)
        return report

    def again(self) -> "Life":
        return Life(self.journal.disk)

    def lost_answer(self, number="1", **changes):
        """An intent of which nobody knows whether it reached the venue."""
        intent = order_intent(number, **changes)
        self.stage.record(records.ORDER_INTENT, intent.client_order_id, intent)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(recovery_module, "POSITION_TRIES", 3)
    monkeypatch.setattr(recovery_module, "POSITION_PAUSE_S", 0.0)


@pytest.fixture
def life():
    return Life()


def found(report) -> list[tuple[DifferenceKind, str, bool]]:
    return [(d.kind, d.key, d.resolved) for d in report.differences]


def outcomes(life) -> dict[str, tuple[IntentState, str]]:
    return {o.client_order_id: (o.state, o.vt_orderid) for o in life.rows(records.INTENT_OUTCOME)}


# --- open or closed ---


async def test_nothing_passes_before_the_venue_was_compared(life):
    assert "PENDING" in life.recovery.reason("P")
    life.recovery.begin("P")
    assert "RUNNING" in life.recovery.reason("P")
    report = await life.reconcile(*FLAT)
    assert (report.state, life.recovery.reason("P"), found(report)) == (ReconciliationState.RECONCILED, "", [])
    assert report.finished_at is not None
    life.recovery.begin("P")  # the connection was lost
    assert life.recovery.reason("P")


def test_a_gateway_that_nobody_announced_is_not_ours_to_close(life):
    assert life.recovery.reason("PAPER") == ""
    with pytest.raises(NotFound):
        life.recovery.report("PAPER")


def test_the_reports_are_listed_by_name(life):
    life.recovery.expect("B")
    assert [report.gateway_name for report in life.recovery.all()] == ["B", "P"]


def test_capabilities_are_the_gateways_and_the_configurations_over_them():
    class Declared:
        capabilities = {"can_query_orders": True, "can_query_trades": True, "history": True}

    declared = Capabilities.of(Declared(), {"can_query_trades": False})
    assert (declared.can_query_orders, declared.can_query_trades) == (True, False)
    assert Capabilities.of(object(), {}) == NOTHING
    assert Capabilities.of(object(), {}).exclusive_account is True
    assert Capabilities.of(Declared(), {"exclusive_account": False}).exclusive_account is False


# --- orders ---


async def test_a_foreign_order_is_taken_into_the_books(life):
    report = await life.reconcile(*order_events(), *FLAT)
    assert found(report) == [(DifferenceKind.FOREIGN_ORDER, "P.1", True)]
    assert report.orders_seen == 1


async def test_an_order_that_went_on_while_we_were_away_is_taken_over(life):
    await life.reconcile(*order_events(), *FLAT)
    after = life.again()
    report = await after.reconcile(*order_events(status=Status.CANCELLED), *FLAT)
    assert found(report) == [(DifferenceKind.ORDER_MOVED, "P.1", True)]
    assert (report.differences[0].venue, report.differences[0].books) == ("CANCELLED 0/10", "NOTTRADED 0/10")


async def test_an_order_that_did_not_change_is_no_difference(life):
    await life.reconcile(*order_events(), *FLAT)
    assert found(await life.again().reconcile(*order_events(), *FLAT)) == []


async def test_an_order_behind_our_books_closes_the_gateway(life):
    await life.reconcile(*order_events(status=Status.CANCELLED), *FLAT)
    after = life.again()
    report = await after.reconcile(*order_events(status=Status.NOTTRADED), *FLAT)
    assert found(report) == [(DifferenceKind.ORDER_BEHIND, "P.1", False)]
    assert "1 differences wait" in after.recovery.reason("P")


async def test_a_venue_that_tells_an_orders_whole_life_again_is_not_behind(life):
    await life.reconcile(*order_events(status=Status.PARTTRADED, traded=4.0), *FLAT)
    told = [(Status.PARTTRADED, 4.0), (Status.SUBMITTING, 0.0), (Status.NOTTRADED, 0.0)]
    events = [order_event(status=status, traded=traded) for status, traded in told]
    assert found(await life.again().reconcile(*events, *FLAT)) == []


async def test_an_order_that_a_venue_which_lists_all_does_not_list_counts_as_cancelled(life):
    await life.reconcile(*order_events(), *FLAT)
    after = life.again()
    report = await after.reconcile(*FLAT)
    assert found(report) == [(DifferenceKind.ORDER_GONE, "P.1", True)]
    assert after.books.order("P.1@2026-11-20").status is DomainStatus.CANCELLED
    assert "not among the orders" in after.rows(topics.ORDER_UPDATED)[-1].reason
    assert [event.type for event in after.forwarded if event.type.startswith("eOrder.")] == ["eOrder.", "eOrder.P.1"]


async def test_where_a_venue_may_not_list_all_a_missing_order_waits_for_an_admin(life):
    await life.reconcile(*order_events(), *FLAT)
    after = life.again()
    report = await after.reconcile(*FLAT, capabilities=NOTHING)
    assert found(report) == [(DifferenceKind.ORDER_GONE, "P.1", False)]
    accepted = await after.recovery.accept("P", reason="seen at the broker's", by="ann")
    assert (accepted.state, accepted.accepted_by) == (ReconciliationState.ACCEPTED, "ann")
    assert after.recovery.reason("P") == ""
    assert after.books.order("P.1@2026-11-20").status is DomainStatus.CANCELLED


async def test_where_a_gateway_was_not_made_to_show_its_orders_a_missing_one_says_nothing(life):
    await life.reconcile(*order_events(), *FLAT)
    report = await life.reconcile(*FLAT, capabilities=NOTHING, asked_orders=False)
    assert found(report) == []
    assert life.books.order("P.1@2026-11-20").is_active


async def test_an_order_that_is_gone_does_not_take_with_it_the_one_that_has_its_id_now(life):
    await life.reconcile(*order_events(), *FLAT)
    after = life.again()
    report = await after.reconcile(*order_events(datetime=START + DAY), *FLAT)
    assert (DifferenceKind.ORDER_GONE, "P.1", True) in found(report)
    assert after.books.order("P.1@2026-11-20").status is DomainStatus.CANCELLED
    assert after.books.order("P.1@2026-11-21").status is DomainStatus.NOTTRADED
    assert [e.data.status for e in after.forwarded if e.type == "eOrder."] == [Status.NOTTRADED]


async def test_an_event_that_was_put_before_the_connect_shows_nothing(life):
    await life.reconcile(*FLAT)
    life.send(order_intent(), "P.1", *order_events(status=Status.SUBMITTING))  # and never reaches the venue
    report = await life.reconcile(*FLAT)
    assert (DifferenceKind.ORDER_GONE, "P.1", True) in found(report)


# --- fills ---


async def test_a_fill_that_happened_while_we_were_away_is_taken_in(life):
    await life.reconcile(*order_events(), *FLAT)
    after = life.again()
    shown = (*order_events(status=Status.ALLTRADED, traded=10.0), trade_event(volume=10.0), *FLAT, position_event(10.0))
    report = await after.reconcile(*shown)
    assert found(report) == [
        (DifferenceKind.ORDER_MOVED, "P.1", True),
        (DifferenceKind.MISSED_TRADE, "P.t1", True),
    ]
    assert report.trades_seen == 1


async def test_a_fill_of_today_that_the_venue_does_not_show_closes_the_gateway(life):
    order = order_events(status=Status.PARTTRADED, traded=1.0)
    await life.reconcile(*order, trade_event(), *FLAT, position_event(1.0))
    report = await life.again().reconcile(*order, *FLAT, position_event(1.0))
    assert found(report) == [(DifferenceKind.TRADE_GONE, "P.t1", False)]


async def test_where_fills_are_not_listed_or_not_of_today_a_missing_one_says_nothing(life):
    order = order_events(status=Status.PARTTRADED, traded=1.0)
    await life.reconcile(*order, trade_event(), *FLAT, position_event(1.0))
    shown = (*order, *FLAT, position_event(1.0))
    assert found(await life.again().reconcile(*shown, capabilities=Capabilities(can_query_orders=True))) == []
    tomorrow = life.again()
    tomorrow.clock.advance(86_400)
    assert found(await tomorrow.reconcile(*shown)) == []


# --- intents of which nobody knows what became ---


async def test_an_intent_is_the_only_order_of_its_content(life):
    life.lost_answer()
    after = life.again()
    assert [u.intent.client_order_id for u in after.recovery.report("P").unknown_intents] == ["c1"]
    report = await after.reconcile(*order_events("9"), trade_event("9"), *FLAT, position_event(1.0))
    assert found(report)[0] == (DifferenceKind.INTENT_BOUND, "c1", True)
    assert outcomes(after) == {"c1": (IntentState.BOUND, "P.9")}
    assert after.rows(topics.ORDER_UPDATED)[-1].client_order_id == "c1"
    assert after.keys(topics.TRADE_EXECUTED) == ["P:c1/t1"]
    assert report.unknown_intents == []


async def test_an_intent_that_is_not_listed_where_all_are_was_not_sent(life):
    life.lost_answer()
    after = life.again()
    report = await after.reconcile(*FLAT)
    assert found(report) == [(DifferenceKind.INTENT_NOT_SENT, "c1", True)]
    assert "not among the orders" in report.differences[0].evidence
    assert after.again().stage.sequencer.orphans == set()


async def test_an_intent_of_another_day_stays_unknown_because_a_venue_lists_what_is_of_today(life):
    life.lost_answer()
    after = life.again()
    after.clock.advance(86_400)
    report = await after.reconcile(*FLAT)
    assert found(report) == [(DifferenceKind.INTENT_UNKNOWN, "c1", False)]


async def test_a_fill_that_arrives_in_the_instant_of_the_comparison_is_not_gone(life):
    order = order_events(status=Status.PARTTRADED, traded=1.0)
    await life.reconcile(*order, *FLAT)
    close = life.stage.close_showing

    def close_and_fill(*arguments):
        missing = close(*arguments)
        life.put_and_step(trade_event(), order_event("7"))
        return missing

    life.stage.close_showing = close_and_fill
    report = await life.reconcile(*order, *FLAT)
    assert found(report) == []
    assert life.books.order(life.books.uid("P.7")).is_active


async def test_where_a_venue_may_not_list_all_an_intent_stays_unknown_and_closes_the_gateway(life):
    life.lost_answer()
    after = life.again()
    report = await after.reconcile(*FLAT, capabilities=NOTHING)
    assert found(report) == [(DifferenceKind.INTENT_UNKNOWN, "c1", False)]
    assert outcomes(after) == {}
    assert after.again().stage.sequencer.orphans == {"c1"}


async def test_as_many_alike_orders_as_alike_intents_are_theirs(life):
    for number in "12":
        life.lost_answer(number)
    after = life.again()
    await after.reconcile(*order_events("8"), *order_events("9"), *FLAT)
    assert outcomes(after) == {"c1": (IntentState.BOUND, "P.8"), "c2": (IntentState.BOUND, "P.9")}


async def test_of_alike_intents_that_nothing_tells_apart_those_without_an_order_were_not_sent(life):
    for number in "12":
        life.lost_answer(number)
    after = life.again()
    await after.reconcile(*order_events("8"), *FLAT)
    assert sorted(state for state, _ in outcomes(after).values()) == [IntentState.BOUND, IntentState.NOT_SENT]


async def test_where_not_all_is_listed_fewer_orders_than_intents_settle_nothing(life):
    for number in "12":
        life.lost_answer(number)
    after = life.again()
    report = await after.reconcile(*order_events("8"), *FLAT, capabilities=NOTHING)
    assert outcomes(after) == {}
    assert len(report.unknown_intents) == 2


async def test_more_alike_orders_than_intents_settle_nothing(life):
    life.lost_answer()
    after = life.again()
    report = await after.reconcile(*order_events("8"), *order_events("9"), *FLAT)
    assert outcomes(after) == {}
    assert (DifferenceKind.INTENT_UNKNOWN, "c1", False) in found(report)
    assert len(after.rows(topics.ORDER_UPDATED)) == 2  # they are in the books all the same


async def test_alike_intents_of_two_strategies_are_not_guessed(life):
    life.lost_answer("1", strategy_name="a")
    life.lost_answer("2", strategy_name="b")
    after = life.again()
    await after.reconcile(*order_events("8"), *order_events("9"), *FLAT)
    assert outcomes(after) == {}


async def test_an_order_of_the_same_side_whose_price_the_venue_changed_leaves_the_intent_unknown(life):
    life.lost_answer(price=100.4)
    after = life.again()
    report = await after.reconcile(*order_events("9"), *FLAT)
    assert (DifferenceKind.INTENT_UNKNOWN, "c1", False) in found(report)
    assert outcomes(after) == {}


async def test_an_order_of_the_other_side_says_that_the_intent_was_not_sent(life):
    life.lost_answer()
    after = life.again()
    await after.reconcile(*order_events("9", direction=Direction.SHORT), *FLAT)
    assert outcomes(after) == {"c1": (IntentState.NOT_SENT, "")}


async def test_an_order_that_was_taken_for_foreign_meanwhile_leaves_the_intent_unknown(life):
    life.lost_answer()
    after = life.again()
    after.put_and_step(*order_events("9"))  # before anybody asked
    report = await after.reconcile(*order_events("9"), *FLAT)
    assert (DifferenceKind.INTENT_UNKNOWN, "c1", False) in found(report)


async def test_so_does_one_that_is_shown_behind_an_order_that_waits(life):
    life.lost_answer()
    after = life.again()
    after.put_and_step(*order_events("9"))
    report = await after.reconcile(*order_events("8", direction=Direction.SHORT), *order_events("9"), *FLAT)
    assert (DifferenceKind.INTENT_UNKNOWN, "c1", False) in found(report)


async def test_an_intent_whose_send_raised_in_this_run_is_settled_the_same_way(life):
    await life.reconcile(*FLAT)
    intent = order_intent()
    life.stage.record(records.ORDER_INTENT, "c1", intent)
    life.stage.end_call(life.stage.begin_call(intent), "", unknown=True)
    await life.reconcile(*FLAT)
    assert outcomes(life) == {"c1": (IntentState.NOT_SENT, "")}


async def test_an_intent_that_is_being_sent_is_left_alone(life):
    await life.reconcile(*FLAT)
    intent = order_intent()
    life.stage.record(records.ORDER_INTENT, "c1", intent)
    call = life.stage.begin_call(intent)
    await life.reconcile(*FLAT)
    assert outcomes(life) == {}
    with pytest.raises(Conflict, match="being sent"):
        await life.recovery.resolve("c1", IntentState.NOT_SENT, vt_orderid="", evidence="e", by="ann")
    life.stage.end_call(call, "P.1")


# --- an admin says so ---


async def test_an_admin_says_that_an_intent_was_not_sent(life):
    life.lost_answer()
    after = life.again()
    await after.reconcile(*FLAT, capabilities=NOTHING)
    outcome = await after.recovery.resolve("c1", IntentState.NOT_SENT, vt_orderid="", evidence="the log", by="ann")
    assert (outcome.by, outcome.evidence) == ("ann", "the log")
    report = after.recovery.report("P")
    assert (report.state, report.unknown_intents) == (ReconciliationState.RECONCILED, [])
    assert report.differences[0].resolution == "NOT_SENT by ann"
    with pytest.raises(Conflict):
        await after.recovery.resolve("c1", IntentState.NOT_SENT, vt_orderid="", evidence="e", by="ann")


async def test_an_admin_says_which_order_an_intent_became(life):
    life.lost_answer(price=100.4)
    after = life.again()
    await after.reconcile(*order_events("9"), *FLAT)
    with pytest.raises(NotFound):
        await after.recovery.resolve("c1", IntentState.BOUND, vt_orderid="P.77", evidence="e", by="ann")
    await after.recovery.resolve("c1", IntentState.BOUND, vt_orderid="P.9", evidence="e", by="ann")
    assert after.recovery.reason("P") == ""
    uid = after.books.uid("P.9")
    assert after.books.intent_of_order(uid).intent.client_order_id == "c1"
    after.put_and_step(Event("eCoreAdoptedOrder", order_event("9").data))
    assert after.rows(topics.ORDER_UPDATED)[-1].client_order_id == "c1"
    assert after.again().books.intent_of_order(uid).intent.client_order_id == "c1"


async def test_an_order_of_another_intent_cannot_be_given_away(life):
    life.send(order_intent("2"), "P.2", *order_events("2"))
    life.step()
    life.lost_answer("1")
    after = life.again()
    with pytest.raises(Conflict, match="c2"):
        await after.recovery.resolve("c1", IntentState.BOUND, vt_orderid="P.2", evidence="e", by="ann")


async def test_nobody_knows_an_intent_that_is_not_there(life):
    with pytest.raises(NotFound):
        await life.recovery.resolve("c77", IntentState.NOT_SENT, vt_orderid="", evidence="e", by="ann")


async def test_there_is_nothing_to_accept_where_nothing_differs(life):
    await life.reconcile(*FLAT)
    with pytest.raises(Conflict):
        await life.recovery.accept("P", reason="r", by="ann")


# --- positions ---


async def test_the_first_look_at_a_position_is_where_the_books_begin(life):
    report = await life.reconcile(*FLAT, position_event(5.0))
    assert found(report) == [(DifferenceKind.POSITION_BASE, "rb.SHFE", True)]
    assert life.books.net("P", "rb.SHFE") == 5
    assert life.books.net("P", "other.SHFE") == 0


async def test_a_position_that_the_fills_explain_is_no_difference(life):
    await life.reconcile(*FLAT, position_event(5.0))
    life.put_and_step(*order_events(), trade_event(volume=2.0))
    shown = (*order_events(), trade_event(volume=2.0), *FLAT, position_event(7.0))
    assert found(await life.again().reconcile(*shown)) == []


async def test_a_position_that_no_fill_explains_closes_the_gateway_until_it_is_accepted(life):
    await life.reconcile(*FLAT, position_event(5.0))
    after = life.again()
    report = await after.reconcile(*FLAT, position_event(8.0))
    assert found(report) == [(DifferenceKind.POSITION, "rb.SHFE", False)]
    assert (report.differences[0].venue, report.differences[0].books) == ("8.0", "5.0")
    assert after.gateway.asked == 2
    await after.recovery.accept("P", reason="a transfer", by="ann")
    assert after.books.net("P", "rb.SHFE") == 8
    assert [(b.volume, b.by) for b in after.rows(records.POSITION_BASE)][-1] == (8.0, "ann")
    assert found(await after.again().reconcile(*FLAT, position_event(8.0))) == []


async def test_a_position_in_a_contract_that_was_flat_closes_the_gateway_too(life):
    await life.reconcile(*FLAT)
    report = await life.again().reconcile(*FLAT, position_event(3.0))
    assert found(report) == [(DifferenceKind.POSITION, "rb.SHFE", False)]


async def test_a_position_that_is_held_no_more_is_said_to_be_zero(life):
    await life.reconcile(*FLAT, position_event(5.0))
    after = life.again()
    report = await after.reconcile(*FLAT)
    assert after.cleared == ["P.rb.SHFE.LONG"]
    assert found(report) == [(DifferenceKind.POSITION, "rb.SHFE", False)]


async def test_a_position_is_asked_for_again_while_a_fill_may_be_on_its_way(life):
    await life.reconcile(*FLAT)
    life.gateway.positions = [position_event(2.0)]
    shown = (*order_events(), trade_event(volume=2.0), *FLAT)  # the position comes a moment later
    report = await life.reconcile(*shown)
    assert DifferenceKind.POSITION not in [d.kind for d in report.differences]


async def test_a_gateway_that_fails_to_tell_its_positions_does_not_end_the_comparison(life):
    await life.reconcile(*FLAT)

    def fail():
        raise OSError("no answer")

    life.gateway.query_position = fail
    report = await life.reconcile(*FLAT, position_event(3.0))
    assert found(report) == [(DifferenceKind.POSITION, "rb.SHFE", False)]


async def test_a_gateway_that_shows_neither_account_nor_positions_is_not_compared_by_them(life):
    report = await life.reconcile()
    assert (found(report), life.rows(records.POSITION_BASE)) == ([], [])


async def test_long_and_short_positions_of_a_contract_count_together(life):
    await life.reconcile(*FLAT, position_event(5.0), position_event(3.0, direction=Direction.SHORT))
    assert life.books.net("P", "rb.SHFE") == 2


# --- when all is shown ---


async def test_silence_says_that_a_gateway_has_shown_all_where_it_does_not_say_so(life, monkeypatch):
    steps = []

    async def sleep(seconds):
        steps.append(seconds)
        life.clock.advance(seconds)
        if len(steps) == 5:
            life.put_and_step(*order_events())

    monkeypatch.setattr(recovery_module.asyncio, "sleep", sleep)
    report = await life.reconcile(*FLAT, shown_all=False)
    assert found(report) == [(DifferenceKind.FOREIGN_ORDER, "P.1", True)]
    assert sum(steps) == pytest.approx(5 * 0.002 + 0.02, abs=0.005)


async def test_a_gateway_that_is_never_silent_is_done_after_a_while(life, monkeypatch):
    async def sleep(seconds):
        life.clock.advance(seconds)
        life.put_and_step(*order_events(str(life.clock.monotonic())))

    monkeypatch.setattr(recovery_module, "SETTLE_LIMIT_S", 0.2)
    monkeypatch.setattr(recovery_module.asyncio, "sleep", sleep)
    report = await life.reconcile(*FLAT, shown_all=False)
    assert report.state is ReconciliationState.RECONCILED


async def test_a_connection_that_broke_while_it_was_shown_counts_for_nothing(life):
    await life.reconcile(*order_events(), *FLAT)
    life.lost_answer()
    after = life.again()
    after.gateway.connected = False
    report = await after.reconcile(*FLAT)
    assert (report.state, found(report)) == (ReconciliationState.PENDING, [])
    assert after.books.order("P.1@2026-11-20").is_active
    assert outcomes(after) == {}


async def test_a_connect_that_another_one_overtook_concludes_nothing(life):
    await life.reconcile(*order_events(), *FLAT)
    after = life.again()
    settle = after.settle

    async def overtaken():
        after.recovery._settle = settle
        after.recovery.begin("P")
        await settle()

    after.recovery._settle = overtaken
    report = await after.reconcile(*FLAT)
    assert report.state is ReconciliationState.RUNNING
    assert after.books.order("P.1@2026-11-20").is_active
    assert found(await after.reconcile(*order_events(), *FLAT)) == []


async def test_a_comparison_that_fails_leaves_the_gateway_closed_and_holds_nothing_back(life):
    life.lost_answer()
    after = life.again()

    async def fail():
        raise RuntimeError("the event thread is gone")

    after.recovery._settle = fail
    after.recovery.begin("P")
    after.put_and_step(*order_events("9"))
    assert after.forwarded == []
    with pytest.raises(RuntimeError):
        await after.recovery.finish("P", after.gateway, NOTHING, shown_all=True)
    after.step()
    assert len(after.forwarded) == 2
    assert after.recovery.reason("P")


async def test_a_connect_that_is_given_up_lets_go_what_waited(life):
    life.lost_answer()
    after = life.again()
    after.recovery.begin("P")
    after.put_and_step(*order_events("9"))
    assert after.forwarded == []
    assert after.recovery.showing("P")
    after.recovery.abandon("P")
    after.step()
    assert (len(after.forwarded), after.recovery.showing("P")) == (2, None)
    assert "PENDING" in after.recovery.reason("P")


async def test_a_full_disk_does_not_keep_a_comparison_from_its_end(life):
    life.journal.is_full = True
    report = await asyncio.wait_for(life.reconcile(*order_events(), *FLAT), 5)
    assert report.state is ReconciliationState.RECONCILED
    assert life.stage.refusal
