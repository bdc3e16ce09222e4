"""How what arrives is joined with what a table has: pure functions on rows as dictionaries.

Within one epoch of the journal, joining is commutative and associative: rows that come again, late or in other batches
end in the same table. What another epoch said counts as earlier than anything of the one that arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from vnpy_core.adapters.store.types import exact
from vnpy_core.domain.enums import Status

Record = dict[str, Any]
"""A row of a table: column -> value, a float, time or text as the events have them."""


class Merged(NamedTuple):
    """The row as it is to stand; `contradicted` where what arrived may not be in it."""

    record: Record
    contradicted: bool = False


Merge = Callable[[Record | None, Record], Merged]

_RANKS = {str(status): status.rank for status in Status}
_SEQS = ("seq", "state_seq", "time_seq")


def latest(known: Record | None, arrived: Record) -> Merged:
    """The newer one of two states."""
    if known is None or known["epoch"] != arrived["epoch"] or known["seq"] < arrived["seq"]:
        return Merged(arrived)
    return Merged(known)


def first(known: Record | None, arrived: Record) -> Merged:
    """A fact that stands as it first came; a strategy's name that was not known may be added."""
    if known is None:
        return Merged(arrived)
    if not _same(known, arrived, but={"epoch", "seq", "strategy_name"}):
        return Merged(known, contradicted=True)
    if known["strategy_name"] is None and arrived["strategy_name"] is not None:
        return Merged({**known, "strategy_name": arrived["strategy_name"]})
    return Merged(known)


def forward(known: Record | None, arrived: Record) -> Merged:
    """A quote, or what an order has in common with one: it only moves forward, to the highest state.

    The event with the highest state (the newest of equal ones) gives the rest; the time is that of the newest with one.
    """
    if known is None:
        return Merged(arrived)
    known = _in_epoch(known, arrived["epoch"])
    record = dict(arrived if _progress(arrived) > _progress(known) else known)
    record["seq"] = max(known["seq"], arrived["seq"])
    timed = arrived if arrived["time_seq"] > known["time_seq"] else known
    record["datetime"], record["time_seq"] = timed["datetime"], timed["time_seq"]
    return Merged(record)


def forward_order(known: Record | None, arrived: Record) -> Merged:
    """`forward` for an order: also the most traded, and the names that any event had."""
    merged = forward(known, arrived)
    if known is not None:
        record = merged.record
        record["traded"] = max(known["traded"], arrived["traded"])
        record["updated_at"] = max(known["updated_at"], arrived["updated_at"])
        record["happened_at"] = record["datetime"] or record["updated_at"]
        for name in ("client_order_id", "strategy_name"):
            record[name] = max(known[name] or "", arrived[name] or "") or None
    return merged


OUTCOME = ("outcome_epoch", "outcome_seq", "state", "vt_orderid", "reason", "evidence", "by", "settled_at")
"""The columns of an intent that its outcome fills."""


def intent(known: Record | None, arrived: Record) -> Merged:
    """An intent and its outcome, whichever comes first: the first intent, the latest outcome."""
    if known is None:
        return Merged(arrived)
    if arrived["kind"] is None:
        return Merged(_with_outcome(known, arrived))
    if known["kind"] is None:
        return Merged(_with_outcome(arrived, known))
    return Merged(known, contradicted=not _same(known, arrived, but={"epoch", "seq", *OUTCOME}))


def _with_outcome(record: Record, settled: Record) -> Record:
    before, after = record["outcome_seq"], settled["outcome_seq"]
    if before is not None and record["outcome_epoch"] == settled["outcome_epoch"] and before >= after:
        return record
    return {**record, **{name: settled[name] for name in OUTCOME}}


def _progress(record: Record) -> tuple[int, int]:
    return _RANKS[record["status"]], record["state_seq"]


def _in_epoch(known: Record, epoch: str) -> Record:
    """`known` as of before anything of `epoch`."""
    return known if known["epoch"] == epoch else {**known, "epoch": epoch, **dict.fromkeys(_SEQS, 0)}


def _same(known: Record, arrived: Record, *, but: set[str]) -> bool:
    return all(name in but or _equal(value, known[name]) for name, value in arrived.items())


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return exact(one) == exact(other)
    return bool(one == other)
