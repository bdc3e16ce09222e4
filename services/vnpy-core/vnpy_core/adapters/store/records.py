"""What a journal row becomes in the tables, and what a table's row becomes as an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Table

from vnpy_core.adapters.store import merge, tables
from vnpy_core.adapters.store.merge import Merge, Record
from vnpy_core.adapters.store.types import moment
from vnpy_core.bus import records, topics
from vnpy_core.domain.errors import PoisonRow, describe
from vnpy_core.domain.events import (
    Audit,
    Event,
    IntentOutcome,
    Order,
    PositionBase,
    Quarantine,
    RiskEvent,
    StrategyDay,
    Trade,
)
from vnpy_core.ports.journal import Row

E = TypeVar("E", Order, Trade, StrategyDay)


class Target(NamedTuple):
    """A table whose rows have a `uid`, and how they are joined."""

    table: Table
    merge: Merge


ORDERS = Target(tables.orders, merge.forward_order)
TRADES = Target(tables.trades, merge.first)
INTENTS = Target(tables.intents, merge.intent)

_STATES: dict[str, Target] = {
    topics.ORDER_UPDATED: ORDERS,
    records.ORDER_SETTLED: ORDERS,
    topics.TRADE_EXECUTED: TRADES,
    topics.QUOTE_UPDATED: Target(tables.quotes, merge.forward),
    topics.POSITION_UPDATED: Target(tables.positions, merge.latest),
    topics.ACCOUNT_UPDATED: Target(tables.accounts, merge.latest),
    topics.STOP_ORDER_UPDATED: Target(tables.stop_orders, merge.latest),
    topics.RISK_HALT: Target(tables.halts, merge.latest),
    records.STRATEGY_SETTING: Target(tables.strategy_settings, merge.latest),
    records.STRATEGY_DATA: Target(tables.strategy_data, merge.latest),
    records.STRATEGY_DAY: Target(tables.strategy_days, merge.latest),
    records.ORDER_INTENT: INTENTS,
    records.QUOTE_INTENT: INTENTS,
    records.INTENT_OUTCOME: INTENTS,
}

_SKIPPED = frozenset({records.ORDER_LATE})
"""An event that goes back in its order's life adds nothing to the order; the journal keeps it as evidence."""

_BLANK_INTENT: Record = {column.name: None for column in tables.intents.columns}


class State(NamedTuple):
    """What a row says about the thing with a `uid`."""

    target: Target
    record: Record


class Fact(NamedTuple):
    """A row that is kept as it is, under its place in the journal."""

    table: Table
    record: Record


def read(row: Row) -> State | Fact | None:
    """What the store keeps of a journal row; None where it keeps nothing. Raises PoisonRow."""
    kind = records.plain_kind(row.kind)
    if kind in _SKIPPED:
        return None
    try:
        event = records.decode(row.kind, row.payload)
        if (target := _STATES.get(kind)) is not None:
            return State(target, _state(row, event))
        # What was carried forward is state to start from: it happened before, and was told then.
        return _fact(row, event) if row.kind == kind else None
    except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
        what = f"unknown kind {row.kind!r}" if isinstance(error, KeyError) else describe(error)
        raise PoisonRow(f"row {row.seq} ({row.kind}): {what}", seq=row.seq) from error


def contradiction(row: Row, known: Record, arrived: Record) -> Fact:
    """What arrived under a known key with another content, kept beside what is known."""
    reason = "another content under a known key"
    place = {"epoch": row.epoch, "seq": row.seq, "at": moment(row.ts)}
    shown = {"known": plain(known), "arrived": plain(arrived)}
    return Fact(tables.quarantine, {**place, "kind": row.kind, "key": row.key, "reason": reason, **shown})


def event_of(type_: type[E], row: Mapping[Any, Any]) -> E:
    """A table's row as the event it was made from."""
    return msgspec.convert({name: row[name] for name in type_.__struct_fields__}, type_)


def columns(event: Event) -> Record:
    """An event's fields as they are stored: enums by name, times as they are. Raises ValueError (no zone)."""
    values: Record = msgspec.to_builtins(event, builtin_types=(datetime,))
    for name, value in values.items():
        if isinstance(value, datetime) and value.tzinfo is None:
            raise ValueError(f"{name} has no time zone")
    return values


def plain(record: Record) -> Record:
    """A row without what is only the store's."""
    hidden = ("state_seq", "time_seq", "active", "happened_at")
    return {name: value for name, value in record.items() if name not in hidden}


def _state(row: Row, event: Event) -> Record:
    values = columns(event)
    # Carried rows keep the seq under which their event was published; events without one count by their row.
    seq = values.get("seq") or row.seq
    place: Record = {"uid": row.key, "epoch": row.epoch, "seq": seq}
    extra = _EXTRAS.get(records.plain_kind(row.kind))
    return {**values, **place} if extra is None else extra(event, values, place)


def _order(event: Event, values: Record, place: Record) -> Record:
    assert isinstance(event, Order)
    happened_at = event.datetime or event.updated_at
    return {**_quote(event, values, place), "active": int(event.is_active), "happened_at": happened_at}


def _quote(_event: Event, values: Record, place: Record) -> Record:
    time_seq = 0 if values["datetime"] is None else place["seq"]
    return {**values, **place, "state_seq": place["seq"], "time_seq": time_seq}


def _intent(event: Event, values: Record, place: Record) -> Record:
    del values["client_order_id"]
    return {**_BLANK_INTENT, **values, **place, "kind": type(event).__name__.removesuffix("Intent").upper()}


def _outcome(event: Event, values: Record, place: Record) -> Record:
    assert isinstance(event, IntentOutcome)
    settled = {name: values[name] for name in ("state", "vt_orderid", "reason", "evidence", "by")}
    outcome = {"outcome_epoch": place["epoch"], "outcome_seq": place["seq"], "settled_at": event.at}
    return {**_BLANK_INTENT, **place, "gateway_name": event.gateway_name, **settled, **outcome}


def _halt(_event: Event, values: Record, place: Record) -> Record:
    return {**values, **place, "active": int(values["active"])}


def _strategy_day(event: Event, values: Record, place: Record) -> Record:
    assert isinstance(event, StrategyDay)
    return {**values, **place, "uid": f"{event.strategy_name}/{event.day}"}


_EXTRAS: dict[str, Callable[[Event, Record, Record], Record]] = {
    topics.ORDER_UPDATED: _order,
    records.ORDER_SETTLED: _order,
    topics.QUOTE_UPDATED: _quote,
    topics.RISK_HALT: _halt,
    records.STRATEGY_DAY: _strategy_day,
    records.ORDER_INTENT: _intent,
    records.QUOTE_INTENT: _intent,
    records.INTENT_OUTCOME: _outcome,
}


def _fact(row: Row, event: Event) -> Fact:
    place = {"epoch": row.epoch, "seq": row.seq}
    match event:
        case Audit():
            return Fact(tables.audit, {**place, **columns(event)})
        case Quarantine():
            return Fact(tables.quarantine, {**place, **columns(event)})
        case RiskEvent():
            words = {"who": "risk", "what": event.kind, "target": event.rule, "reason": event.message}
            return Fact(tables.audit, {**place, **words, "at": moment(row.ts), "before": None, "after": event.data})
        case PositionBase():
            words = {"who": event.by or "reconciliation", "what": row.kind, "target": row.key, "reason": event.reason}
            after = {"volume": event.volume}
            return Fact(tables.audit, {**place, **words, "at": event.at, "before": None, "after": after})
        case _:
            raise ValueError(f"the store has no table for {type(event).__name__}")
