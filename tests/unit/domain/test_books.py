from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testkit.journal_rows import at, intent, order, trade
from vnpy_core.domain.books import (
    ALL_SYMBOLS,
    Books,
    Kept,
    Verdict,
    foreign_uid,
    halt_key,
    merge_orders,
    order_verdict,
    signed,
    trade_key,
    trading_day,
    uid_in,
)
from vnpy_core.domain.enums import Direction, HaltScope, IntentState, Offset, Status
from vnpy_core.domain.events import Halt, IntentOutcome, PositionBase, Quote, QuoteIntent, StopOrderUpdate

RECENT = 0


def outcome(number: str, state: IntentState = IntentState.BOUND, **changes) -> IntentOutcome:
    bound = f"PAPER.{number}" if state is IntentState.BOUND else ""
    values = {
        "client_order_id": f"c{number}",
        "gateway_name": "PAPER",
        "state": state,
        "vt_orderid": bound,
        "at": at(0),
    }
    return IntentOutcome(**{**values, **changes})


def base(vt_symbol: str, volume: float, gateway_name: str = "PAPER") -> PositionBase:
    return PositionBase(gateway_name=gateway_name, vt_symbol=vt_symbol, volume=volume, at=at(0))


def fed(*events) -> Books:
    """`(key, event)` in this order."""
    books = Books()
    for seq, (key, event) in enumerate(events, 1):
        books.apply(key, event, seq, seq)
    return books


def contents(books: Books) -> dict:
    """All that counts, whichever rows it came from."""
    return {
        "orders": {uid: kept.event for uid, kept in books.orders.items()},
        "trades": {key: kept.event for key, kept in books.trades.items()},
        "intents": {key: (record.intent, record.outcome) for key, record in books.intents.items()},
        "open": [i.client_order_id for i in books.open_intents("PAPER")],
        "nets": {symbol: books.net("PAPER", symbol) for symbol in books.symbols("PAPER")},
        "other": [
            {key: kept.event for key, kept in table.items()}
            for table in (books.quotes, books.positions, books.accounts, books.halts, books.stop_orders)
        ],
        "uids": {kept.event.vt_orderid: books.uid(kept.event.vt_orderid) for kept in books.orders.values()},
        "owners": {uid: getattr(books.intent_of_order(uid), "intent", None) for uid in books.orders},
    }


def carried_over(books: Books, since_ts: int = RECENT) -> Books:
    fresh = Books()
    for seq, (key, kept) in enumerate(list(books.living(since_ts)), 1000):
        fresh.apply(key, kept.event, seq, kept.ts, carried=True)
    return fresh


# --- one order, many events ---

LIFE = [
    (Status.SUBMITTING, 0.0),
    (Status.NOTTRADED, 0.0),
    (Status.PARTTRADED, 3.0),
    (Status.PARTTRADED, 7.0),
]
ENDS = [(Status.ALLTRADED, 10.0), (Status.CANCELLED, 7.0), (Status.REJECTED, 0.0)]


def life(end: tuple[Status, float]) -> list:
    return [order(0, status=status, traded=traded, datetime=at(0)) for status, traded in [*LIFE, end]]


@given(st.data(), st.sampled_from(ENDS))
def test_whatever_the_order_of_its_events_an_order_ends_alike(data, end):
    events = life(end)
    arriving = data.draw(st.permutations([*events, *data.draw(st.lists(st.sampled_from(events), max_size=5))]))
    known = None
    for event in arriving:
        if known is None or order_verdict(known, event) is Verdict.NEW:
            known = merge_orders(known, event) if known else event
    assert (known.status, known.traded) == (end[0], max(7.0, end[1]))


@given(st.lists(st.sampled_from(life(ENDS[0]) + life(ENDS[1])), min_size=1))
def test_an_order_never_goes_back(events):
    known = events[0]
    for event in events[1:]:
        merged = merge_orders(known, event)
        assert merged.status.rank >= known.status.rank
        assert merged.traded >= known.traded
        known = merged


def test_an_event_is_new_a_repeat_or_late():
    known = order(1, status=Status.PARTTRADED, traded=3.0, datetime=at(0))
    seen_again = msgspec.structs.replace(known, updated_at=at(9), seq=9)
    assert order_verdict(None, known) is Verdict.NEW
    assert order_verdict(known, seen_again) is Verdict.REPEAT
    assert order_verdict(known, msgspec.structs.replace(known, status=Status.NOTTRADED, traded=0.0)) is Verdict.LATE
    assert order_verdict(known, msgspec.structs.replace(known, traded=4.0)) is Verdict.NEW
    assert order_verdict(known, msgspec.structs.replace(known, reason="by the venue")) is Verdict.NEW


def test_a_fill_that_is_told_after_the_cancel_counts_and_the_order_stays_cancelled():
    cancelled = order(1, status=Status.CANCELLED, traded=2.0)
    late = order(2, status=Status.PARTTRADED, traded=5.0)
    assert order_verdict(cancelled, late) is Verdict.NEW
    merged = merge_orders(cancelled, late)
    assert (merged.status, merged.traded) == (Status.CANCELLED, 5.0)


def test_the_names_of_an_order_survive_events_without_them():
    named = order(1, client_order_id="c1", strategy_name="s")
    bare = order(2, status=Status.ALLTRADED, traded=10.0, client_order_id=None, strategy_name=None, datetime=None)
    merged = merge_orders(named, bare)
    assert (merged.client_order_id, merged.strategy_name, merged.datetime) == ("c1", "s", named.datetime)


# --- names ---


def test_a_trading_day_begins_in_the_evening_before():
    evening = datetime(2026, 11, 20, 12, 59, tzinfo=UTC)  # 20:59 in Shanghai
    assert trading_day(evening) == "2026-11-21"
    assert trading_day(datetime(2026, 11, 20, 11, 59, tzinfo=UTC)) == "2026-11-20"
    assert trading_day(None) == "?"


def test_a_foreign_order_is_named_by_its_day_unless_ids_never_come_again():
    assert foreign_uid("P.1", at(0), ids_unique=True) == "P.1"
    assert foreign_uid("P.1", at(0), ids_unique=False) == "P.1@2026-11-20"


def test_the_order_can_be_read_from_the_key_of_its_fill():
    fill = trade(1, tradeid="4/4")
    assert uid_in(trade_key("P.1@2026-11-20", fill), fill) == "P.1@2026-11-20"


def test_a_halt_is_named_by_what_it_is_about():
    halt = Halt(scope=HaltScope.ALL, active=True, at=at(0))
    assert halt_key(halt) == "all"
    assert halt_key(msgspec.structs.replace(halt, target="P")) == "all:P"


# --- intents ---


def test_an_intent_is_open_until_its_outcome_is_known():
    books = fed(("c1", intent("1")), ("c2", intent("2")), ("c3", intent("3")))
    books.apply("c1", outcome("1"), 4, 4)
    books.apply("c2", outcome("2", IntentState.UNKNOWN), 5, 5)
    assert [i.client_order_id for i in books.open_intents("PAPER")] == ["c2", "c3"]
    assert books.open_intents("OTHER") == []
    assert books.uid("PAPER.1") == "c1"


def test_an_outcome_may_be_taken_in_before_it_has_a_place_in_the_journal():
    books = fed(("c1", intent("1")))
    books.apply("c1", outcome("1"), 0, 0)
    books.apply("c1", outcome("1"), 7, 7)
    assert books.open_intents("PAPER") == []
    assert books.intents["c1"].kept.seq == 1


def test_an_order_that_an_admin_gave_to_an_intent_keeps_its_name_and_is_the_intents():
    books = fed(
        ("c1", intent("1")),
        ("PAPER.9@2026-11-20", order(2, "9", client_order_id=None)),
        ("c1", outcome("1", vt_orderid="PAPER.9", by="admin")),
    )
    assert books.uid("PAPER.9") == "PAPER.9@2026-11-20"
    assert books.intent_of_order("PAPER.9@2026-11-20").intent.client_order_id == "c1"
    assert contents(carried_over(books)) == contents(books)


def test_an_id_that_comes_again_names_the_newer_order_also_after_an_event_of_the_old_one():
    old, new = order(1, "1", client_order_id=None, datetime=at(-86400)), order(3, "1", client_order_id="c7")
    books = fed(
        ("PAPER.1@2026-11-19", old),
        ("c7", intent("7")),
        ("c7", outcome("7", vt_orderid="PAPER.1")),
        ("c7", new),
        ("PAPER.1@2026-11-19", msgspec.structs.replace(old, status=Status.CANCELLED)),
    )
    assert books.uid("PAPER.1") == "c7"
    assert carried_over(books).uid("PAPER.1") == "c7"


# --- positions ---


def test_the_net_position_is_the_base_and_the_fills_since():
    books = fed((f"PAPER.{ALL_SYMBOLS}", base(ALL_SYMBOLS, 0)), ("PAPER.a.SHFE", base("a.SHFE", 5)))
    books.apply("k1", trade(3, "1", vt_symbol="a.SHFE", volume=2.0), 3, 3)
    books.apply("k2", trade(4, "2", vt_symbol="b.SHFE", volume=0.1, direction=Direction.SHORT), 4, 4)
    books.apply("k3", trade(5, "3", vt_symbol="b.SHFE", volume=0.2, direction=Direction.SHORT), 5, 5)
    assert (books.net("PAPER", "a.SHFE"), books.net("PAPER", "b.SHFE")) == (Decimal(7), Decimal("-0.3"))
    assert books.net("PAPER", "never.SHFE") == 0
    assert books.net("OTHER", "a.SHFE") is None
    books.apply("PAPER.b.SHFE", base("b.SHFE", 1), 6, 6)
    assert (books.net("PAPER", "a.SHFE"), books.net("PAPER", "b.SHFE")) == (Decimal(7), Decimal(1))


def test_a_fill_counts_once():
    books = fed((f"PAPER.{ALL_SYMBOLS}", base(ALL_SYMBOLS, 0)), ("k", trade(2)), ("k", trade(3)))
    assert books.net("PAPER", "rb2505.SHFE") == signed(trade(1)) == 1


# --- carrying forward ---


def stop(number: int, status: str = "WAITING") -> StopOrderUpdate:
    return StopOrderUpdate(
        stop_orderid=f"STOP.{number}", vt_symbol="rb2505.SHFE", direction=Direction.LONG, offset=Offset.OPEN, price=1.0,
        volume=1.0, strategy_name="s", status=status, vt_orderids=[],
    )  # fmt: skip


def quote(status: Status = Status.NOTTRADED) -> Quote:
    return Quote(
        vt_quoteid="PAPER.q", quoteid="q", gateway_name="PAPER", vt_symbol="a.SHFE", symbol="a", exchange="SHFE",
        bid_price=1.0, bid_volume=1.0, ask_price=2.0, ask_volume=1.0, bid_offset=Offset.OPEN, ask_offset=Offset.OPEN,
        status=status,
    )  # fmt: skip


@st.composite
def histories(draw):
    """Some orders' lives with their intents, fills and bases, mixed but each in its own order."""
    events = [(f"PAPER.{ALL_SYMBOLS}", base(ALL_SYMBOLS, 0))]
    for number in map(str, range(draw(st.integers(1, 4)))):
        uid = draw(st.sampled_from([f"c{number}", f"PAPER.{number}@2026-11-20"]))
        own = uid.startswith("c")
        steps = LIFE[: draw(st.integers(0, 4))] + draw(st.sampled_from([[], ENDS[:1], ENDS[1:2]]))
        if own:
            events.append((uid, intent(number)))
            if steps:
                events.append((uid, outcome(number)))
        client_id = uid if own else None
        filled = 0.0
        for status, traded in steps:
            events.append((uid, order(0, number, status=status, traded=traded, client_order_id=client_id)))
            if traded > filled:  # a fill that is known is not journaled again (`Sequencer._take_known_trade`)
                filled = traded
                fill = trade(0, f"{number}.{traded}", vt_orderid=f"PAPER.{number}", volume=traded)
                events.append((trade_key(uid, fill), fill))
        if draw(st.booleans()):
            events.append(("PAPER.rb2505.SHFE", base("rb2505.SHFE", draw(st.integers(-3, 3)))))
        if draw(st.booleans()):  # its id comes again
            again = order(0, number, client_order_id=None, price=1.0, datetime=at(86400))
            events.append((f"PAPER.{number}@2026-11-21", again))
    for number in range(draw(st.integers(0, 3))):
        for key in ("all", "all:P", "all:Q"):
            events.append((key, Halt(scope=HaltScope.ALL, active=number % 2 == 0, at=at(0))))
        events.append(("STOP.3", stop(3, "CANCELLED" if number else "WAITING")))
        events.append(("PAPER.q", quote(Status.CANCELLED if number else Status.NOTTRADED)))
    return events


@given(histories())
def test_books_that_are_carried_forward_are_the_same_books(history):
    books = fed(*history)
    assert contents(carried_over(books)) == contents(books)


@given(histories(), st.data())
def test_carried_rows_on_top_of_what_they_carry_change_nothing_however_few_were_written(history, data):
    books = fed(*history)
    before = contents(books)
    living = list(books.living(RECENT))
    for seq, (key, kept) in enumerate(living[: data.draw(st.integers(0, len(living)))], 1000):
        books.apply(key, kept.event, seq, kept.ts, carried=True)
    assert contents(books) == before


def test_open_intents_are_told_oldest_first_whatever_order_they_were_carried_in():
    books = Books()
    for number in (3, 0, 2):
        books.apply(f"c{number}", intent(number), 1000 + number, number, carried=True)
    assert [i.client_order_id for i in books.open_intents("PAPER")] == ["c0", "c2", "c3"]


@given(histories(), st.data())
def test_books_may_change_while_they_are_carried_forward(history, data):
    """What is carried little by little, between rows of what happens meanwhile, gives the same books too."""
    cut_at = data.draw(st.integers(0, len(history)))
    books = fed(*history[:cut_at])
    fresh, living = Books(), books.living(RECENT)
    rest = iter(history[cut_at:])
    for seq in range(cut_at + 1, 1000):
        chunk = list(islice(living, data.draw(st.integers(0, 3))))
        for key, kept in chunk:
            fresh.apply(key, kept.event, seq, kept.ts, carried=True)
        happened = next(rest, None)
        if happened is not None:
            books.apply(*happened, seq, seq)
            fresh.apply(*happened, seq, seq)
        elif not chunk:
            for key, kept in living:
                fresh.apply(key, kept.event, seq, kept.ts, carried=True)
            break
    assert contents(fresh) == contents(books)


def test_a_halt_that_is_lifted_while_the_books_are_carried_is_not_carried_any_more():
    halt = Halt(scope=HaltScope.ALL, active=True, at=at(0))
    books = fed(("all", halt), ("all:P", halt))
    living = books.living(RECENT)
    assert next(living)[0] == "all"
    books.apply("all:P", msgspec.structs.replace(halt, active=False), 9, 9)
    assert list(living) == []


def test_what_is_over_and_old_is_not_carried():
    old, recent = 1, 2_000_000
    books = Books()
    books.apply("c1", intent("1"), 1, old)
    books.apply("c1", outcome("1", IntentState.REFUSED), 2, old)
    books.apply("c2", intent("2"), 3, old)
    books.apply("c3", order(4, "3", status=Status.ALLTRADED, traded=10.0), 4, old)
    books.apply("c4", order(5, "4"), 5, old)
    books.apply("c5", order(6, "5", status=Status.CANCELLED), 6, recent)
    books.apply("k1", trade(7, "1"), 7, old)
    books.apply("k2", trade(8, "2"), 8, recent)
    living = [key for key, _ in books.living(1_000_000)]
    assert sorted(living) == ["c2", "c4", "c5", "k2"]


def test_the_intent_of_an_order_that_still_trades_is_carried_however_old():
    books = fed(("c1", intent("1")), ("c1", outcome("1")), ("c1", order(3, "1")))
    kinds = [type(kept.event).__name__ for key, kept in books.living(1_000_000_000)]
    assert sorted(kinds) == ["IntentOutcome", "Order", "OrderIntent"]


# --- bounds ---


def test_the_oldest_finished_things_are_forgotten_and_what_may_still_change_is_not():
    books = Books(keep=3)
    for number in range(20):
        name = str(number)
        alive = number in (0, 5)
        books.apply(f"c{name}", intent(name), number, number)
        if number != 5:
            books.apply(f"c{name}", outcome(name), number, number)
        status = Status.NOTTRADED if alive else Status.ALLTRADED
        books.apply(f"c{name}", order(number, name, status=status), number, number)
        fill = trade(number, name, vt_orderid=f"PAPER.{name}")
        books.apply(trade_key(f"c{name}", fill), fill, number, number)
    assert {"c0", "c5"} <= set(books.orders)
    assert "c5" in books.intents
    assert max(map(len, (books.orders, books.intents, books.trades))) <= 5
    assert len(books._uids) <= 10
    assert len(books._trade_contents) <= 3
    assert len(books._open_intents) == 1


def test_the_ids_of_quotes_are_forgotten_with_their_intents():
    books = Books(keep=3)
    for number in range(20):
        key = f"q{number}"
        asked = QuoteIntent(
            client_order_id=key, gateway_name="PAPER", vt_symbol="a.SHFE", symbol="a", exchange="SHFE", bid_price=1.0,
            bid_volume=1.0, ask_price=2.0, ask_volume=1.0, created_at=at(0),
        )  # fmt: skip
        books.apply(key, asked, number, number)
        books.apply(key, outcome("1", client_order_id=key, vt_orderid=f"PAPER.{key}"), number, number)
    assert len(books._uids) <= 4


def test_stop_orders_are_kept_while_they_wait_and_the_highest_number_for_ever():
    books = fed(("STOP.3", stop(3)), ("STOP.9", stop(9)), ("STOP.9", stop(9, "TRIGGERED")))
    assert (list(books.stop_orders), books.highest_stop) == (["STOP.3"], 9)


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.ALLTRADED, Status.REJECTED])
def test_a_quote_is_kept_while_it_is_active(status):
    assert list(fed(("PAPER.q", quote())).quotes) == ["PAPER.q"]
    assert fed(("PAPER.q", quote()), ("PAPER.q", quote(status))).quotes == {}


def test_a_kept_event_has_its_place():
    books = Books()
    books.apply("c1", order(1), 41, 42)
    assert books.orders["c1"] == Kept(order(1), 41, 42)
    assert books.order("c1") == order(1)
    assert books.order("unknown") is None
