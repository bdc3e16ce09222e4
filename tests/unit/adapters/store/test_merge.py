"""However what arrives is ordered and cut into batches, the same row stands at the end."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.journal_rows import at, order, row, trade_row
from vnpy_core.adapters.store.merge import Merge, Record, first, forward, forward_order, intent, latest
from vnpy_core.adapters.store.records import State, read
from vnpy_core.bus import topics
from vnpy_core.domain.enums import Status
from vnpy_core.domain.events import Order
from vnpy_core.ports.journal import Row


def record_of(journal_row: Row) -> Record:
    kept = read(journal_row)
    assert isinstance(kept, State)
    return kept.record


def order_record(seq: int, **changes: Any) -> Record:
    return record_of(row(seq, topics.ORDER_UPDATED, "c1", order(seq, **changes)))


def joined(merge: Merge, records: list[Record], known: Record | None = None) -> Record:
    def join(state: Record | None, arrived: Record) -> Record:
        return merge(state, dict(arrived)).record

    state = reduce(join, records, known)
    assert state is not None
    return state


@st.composite
def lives(draw: st.DrawFn) -> list[Order]:
    """Events of one order, each with its own place in the journal."""
    seqs = draw(st.lists(st.integers(1, 10_000), min_size=1, max_size=7, unique=True))
    return [
        order(
            seq,
            status=draw(st.sampled_from(Status)),
            traded=float(draw(st.integers(0, 10))),
            price=float(draw(st.integers(1, 3))),
            datetime=draw(st.none() | st.integers(0, 3).map(at)),
            updated_at=at(draw(st.integers(0, 100))),
            strategy_name=draw(st.sampled_from([None, "trend"])),
            client_order_id=draw(st.sampled_from([None, "c1"])),
            reason=draw(st.sampled_from(["", "no money"])),
        )
        for seq in seqs
    ]


@settings(deadline=None)
@given(lives(), st.data())
def test_any_permutation_and_any_batching_of_an_orders_events_end_alike(life: list[Order], data: st.DataObject) -> None:
    records = [record_of(row(each.seq, topics.ORDER_UPDATED, "c1", each)) for each in life]
    expected = joined(forward_order, records)
    shuffled = data.draw(st.permutations(records))
    assert joined(forward_order, shuffled) == expected

    # A batch that is folded by itself and then joined with the table, as a replay in other batches does it.
    cut = data.draw(st.integers(1, len(shuffled)))
    ahead = joined(forward_order, shuffled[:cut])
    rest = [joined(forward_order, shuffled[cut:])] if shuffled[cut:] else []
    assert joined(forward_order, rest, ahead) == expected


@settings(deadline=None)
@given(lives())
def test_an_orders_events_that_come_twice_change_nothing(life: list[Order]) -> None:
    records = [record_of(row(each.seq, topics.ORDER_UPDATED, "c1", each)) for each in life]
    assert joined(forward_order, [*records, *records]) == joined(forward_order, records)


@settings(deadline=None)
@given(lives())
def test_an_order_has_the_highest_state_and_the_most_traded(life: list[Order]) -> None:
    records = [record_of(row(each.seq, topics.ORDER_UPDATED, "c1", each)) for each in life]
    ended = joined(forward_order, records)
    assert Status(ended["status"]).rank == max(each.status.rank for each in life)
    assert ended["traded"] == max(each.traded for each in life)
    assert ended["seq"] == max(each.seq for each in life)
    assert ended["active"] == int(Status(ended["status"]).is_active)
    assert ended["happened_at"] == (ended["datetime"] or ended["updated_at"])


def test_an_event_that_goes_back_gives_none_of_its_fields() -> None:
    ended = joined(
        forward_order,
        [
            order_record(1, status=Status.CANCELLED, reason="by hand", traded=3.0),
            order_record(2, status=Status.NOTTRADED, traded=4.0),
        ],
    )
    assert (ended["status"], ended["reason"], ended["traded"]) == ("CANCELLED", "by hand", 4.0)


def test_another_epoch_goes_on_from_what_is_known() -> None:
    known = order_record(900, status=Status.PARTTRADED, traded=5.0)
    arrived = {**order_record(20, status=Status.PARTTRADED, traded=7.0, reason="new"), "epoch": "e2"}
    ended = joined(forward_order, [known, arrived])
    assert (ended["epoch"], ended["seq"], ended["traded"], ended["reason"]) == ("e2", 20, 7.0, "new")
    back = {**order_record(30, status=Status.NOTTRADED), "epoch": "e2"}
    assert joined(forward_order, [known, back])["status"] == "PARTTRADED"


@settings(deadline=None)
@given(st.permutations([1, 2, 3, 4]))
def test_the_latest_of_one_epoch_stays(seqs: list[int]) -> None:
    assert joined(latest, [{"epoch": "e", "seq": seq, "volume": seq} for seq in seqs])["volume"] == 4


def test_another_epoch_is_always_later() -> None:
    records = [{"epoch": "a", "seq": 900}, {"epoch": "b", "seq": 5}]
    assert joined(latest, records) == {"epoch": "b", "seq": 5}


def test_a_fact_stands_as_it_first_came() -> None:
    known = record_of(trade_row(1))
    assert first(known, record_of(trade_row(9, datetime=at(1)))).record == known
    for changes in ({"price": 9.0}, {"volume": 2.0}, {"vt_symbol": "x.SHFE"}, {"datetime": at(2)}):
        merged = first(known, record_of(trade_row(9, **{"datetime": at(1), **changes})))
        assert (merged.record, merged.contradicted) == (known, True)


def test_a_strategys_name_is_added_and_never_taken_away() -> None:
    bare, named = record_of(trade_row(1)), record_of(trade_row(2, datetime=at(1), strategy_name="trend"))
    assert first(bare, named).record["strategy_name"] == "trend"
    assert first(named, bare).record["strategy_name"] == "trend"


HALVES = {
    "intent": {"uid": "c1", "epoch": "e", "seq": 1, "kind": "ORDER", "volume": 10.0},
    "unknown": {"uid": "c1", "epoch": "e", "seq": 2, "outcome_epoch": "e", "outcome_seq": 2, "state": "UNKNOWN"},
    "bound": {"uid": "c1", "epoch": "e", "seq": 3, "outcome_epoch": "e", "outcome_seq": 3, "state": "BOUND"},
}


@settings(deadline=None)
@given(st.permutations(list(HALVES)))
def test_an_intent_and_its_outcomes_end_alike_in_any_order(names: list[str]) -> None:
    blank = dict.fromkeys(
        [
            "kind",
            "volume",
            "outcome_epoch",
            "outcome_seq",
            "state",
            "vt_orderid",
            "reason",
            "evidence",
            "by",
            "settled_at",
        ]
    )
    ended = joined(intent, [{**blank, **HALVES[name]} for name in names])
    assert (ended["kind"], ended["volume"], ended["state"], ended["outcome_seq"]) == ("ORDER", 10.0, "BOUND", 3)


@pytest.mark.parametrize("status", list(Status))
def test_a_quotes_time_is_that_of_the_newest_event_with_one(status: Status) -> None:
    records = [
        {"epoch": "e", "seq": 1, "state_seq": 1, "time_seq": 1, "status": "NOTTRADED", "datetime": at(1)},
        {"epoch": "e", "seq": 2, "state_seq": 2, "time_seq": 2, "status": str(status), "datetime": at(2)},
        {"epoch": "e", "seq": 3, "state_seq": 3, "time_seq": 0, "status": "SUBMITTING", "datetime": None},
    ]
    for some in (records, records[::-1], [records[1], records[0], records[2]]):
        ended = joined(forward, some)
        assert (ended["datetime"], ended["seq"]) == (at(2), 3)
