"""What of a journal row the store keeps."""

from __future__ import annotations

from datetime import datetime
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import pytest

from testkit.journal_rows import at, order, row
from vnpy_core.adapters.store.records import Fact, State, read
from vnpy_core.bus import records, topics
from vnpy_core.domain.errors import PoisonRow
from vnpy_core.domain.events import StrategyDay

S = TypeVar("S", bound=msgspec.Struct)


def sample(type_: type[S]) -> S:
    """An event or a part of one with something in every field."""

    def value(hint: Any) -> Any:
        if isinstance(hint, UnionType):
            hint = next(option for option in get_args(hint) if option is not type(None))
        kind = get_origin(hint) or hint
        if isinstance(kind, type) and issubclass(kind, str):
            return next(iter(kind)) if kind is not str else "x"  # type: ignore[call-overload]
        if kind is list and (inner := get_args(hint)[0]) is not str:
            return [sample(inner)]
        plain: dict[Any, Any] = {float: 1.5, int: 7, bool: True, datetime: at(0), list: ["x"], dict: {"x": 1}}
        return plain[kind]

    hints = get_type_hints(type_)
    return type_(**{name: value(hints[name]) for name in type_.__struct_fields__})


@pytest.mark.parametrize("kind", list(records.TYPES))
def test_every_kind_of_the_journal_has_a_place(kind: str) -> None:
    kept = read(row(3, kind, "key", sample(records.TYPES[kind])))
    if kind == records.ORDER_LATE:
        assert kept is None
        return
    table = kept.target.table if isinstance(kept, State) else kept.table if isinstance(kept, Fact) else None
    assert table is not None
    assert isinstance(kept, State | Fact)
    assert set(kept.record) == {column.name for column in table.columns}


@pytest.mark.parametrize("kind", list(records.TYPES))
def test_carried_rows_are_state_only(kind: str) -> None:
    event = sample(records.TYPES[kind])
    plain, carried = (read(row(3, prefix + kind, "key", event)) for prefix in ("", records.CARRIED))
    assert carried == (plain if isinstance(plain, State) else None)


def test_a_state_keeps_the_seq_under_which_it_was_published() -> None:
    kept = read(row(50, records.CARRIED + topics.ORDER_UPDATED, "c1", order(3)))
    assert isinstance(kept, State)
    assert (kept.record["seq"], kept.record["epoch"], kept.record["uid"]) == (3, "e1", "c1")


def test_each_day_of_a_strategy_has_a_row_of_its_own_also_when_it_is_carried() -> None:
    day = sample(StrategyDay)
    read_rows = [read(row(9, prefix + records.STRATEGY_DAY, "x", day)) for prefix in ("", records.CARRIED)]
    assert [each.record["uid"] for each in read_rows if isinstance(each, State)] == ["x/x", "x/x"]


def test_a_state_without_a_seq_counts_by_its_row() -> None:
    kept = read(row(50, topics.ORDER_UPDATED, "c1", order(3, seq=0)))
    assert isinstance(kept, State)
    assert kept.record["seq"] == 50


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("no.such.kind", b"{}"),
        (topics.ORDER_UPDATED, b"{"),
        (topics.ORDER_UPDATED, b'{"vt_orderid": 1}'),
        (topics.TRADE_EXECUTED, b"\xff"),
        (topics.ORDER_UPDATED, msgspec.json.encode(order(1, updated_at=datetime(2026, 1, 1)))),
    ],
)
def test_what_cannot_be_read_is_poison(kind: str, payload: bytes) -> None:
    with pytest.raises(PoisonRow) as caught:
        read(row(9, kind, "key", payload))
    assert caught.value.seq == 9
