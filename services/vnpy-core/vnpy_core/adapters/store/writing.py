"""One batch of journal rows into the tables, inside the caller's transaction; on the store's thread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Insert, Select, Table, bindparam, literal_column, select, tuple_
from sqlalchemy.dialects import mysql, postgresql, sqlite

from vnpy_core.adapters.store import tables
from vnpy_core.adapters.store.merge import Record
from vnpy_core.adapters.store.records import ORDERS, TRADES, Fact, State, Target, contradiction, read
from vnpy_core.adapters.store.types import micros
from vnpy_core.ports.journal import Row
from vnpy_core.ports.store import Watermark

_ASKED_AT_ONCE = 500
_HOUR = 3_600_000_000
_KEEPER = 1
"""The id of the only watermark."""
_TIMES = {ORDERS.table.name: "happened_at", TRADES.table.name: "datetime"}
"""The lists that are filtered by time, and by which column."""


def write(connection: Connection, rows: Sequence[Row], now: datetime) -> list[Fact]:
    """Take in rows and move the watermark; returns what contradicts the tables, which is in quarantine then.

    Raises PoisonRow for the first row that cannot be decoded.
    """
    mark = watermark(connection, lock=True)
    fresh = [row for row in rows if mark is None or row.epoch != mark.epoch or row.seq > mark.seq]
    if not fresh:
        return []
    facts: list[Fact] = []
    states: dict[Target, list[tuple[Row, Record]]] = defaultdict(list)
    for row in fresh:
        match read(row):
            case Fact() as fact:
                facts.append(fact)
            case State(target, record):
                states[target].append((row, record))
    contradictions: list[Fact] = []
    for target, arrivals in states.items():
        contradictions += _join(connection, target, arrivals)
    _keep_facts(connection, [*facts, *contradictions])
    move_watermark(connection, fresh[-1], now)
    return contradictions


def watermark(connection: Connection, *, lock: bool = False) -> Watermark | None:
    """How far the journal has been taken in; with `lock`, nobody else writes until the transaction ends."""
    statement = select(tables.watermark.c.epoch, tables.watermark.c.seq)
    row = connection.execute(statement.with_for_update() if lock else statement).first()
    return None if row is None else Watermark(row.epoch, row.seq)


def move_watermark(connection: Connection, row: Row, now: datetime) -> None:
    """Up to and with `row`, the journal has been taken in."""
    upsert(connection, tables.watermark, [{"id": _KEEPER, "epoch": row.epoch, "seq": row.seq, "updated_at": now}])


def upsert(connection: Connection, table: Table, records: Sequence[Record]) -> None:
    """Insert rows, or replace those with the same primary key; all of them have all columns."""
    if records:
        connection.execute(_upsert(table, connection.dialect.name), list(records))


def _join(connection: Connection, target: Target, arrivals: Sequence[tuple[Row, Record]]) -> list[Fact]:
    known = _known(connection, target.table, {record["uid"] for _, record in arrivals})
    states, contradictions = dict(known), []
    for row, record in arrivals:
        uid = record["uid"]
        merged = target.merge(states.get(uid), record)
        if merged.contradicted:
            contradictions.append(contradiction(row, states[uid], record))
        states[uid] = merged.record
    changed = [record for uid, record in states.items() if record != known.get(uid)]
    upsert(connection, target.table, changed)
    if (time := _TIMES.get(target.table.name)) is not None:
        note_hours(connection, target.table.name, [(each[time], each["seq"]) for each in changed if each[time]])
    return contradictions


def _known(connection: Connection, table: Table, uids: Iterable[str]) -> dict[str, Record]:
    statement, found = _select_known(table), {}
    for some in _chunks(sorted(uids)):
        for row in connection.execute(statement, {"uids": some}).mappings():
            found[row["uid"]] = dict(row)
    return found


def note_hours(connection: Connection, list_: str, seen: Sequence[tuple[datetime, int]]) -> None:
    """Remember in which hour each seq of a list is, for filters by time."""
    spans: dict[int, tuple[int, int]] = {}
    for time, seq in seen:
        hour = micros(time) // _HOUR
        spans[hour] = _spanned(spans.get(hour), seq, seq)
    known = _known_hours(connection, list_, spans)
    wider = {hour: _spanned(known.get(hour), *span) for hour, span in spans.items()}
    records = [
        {"list": list_, "hour": hour, "first_seq": span[0], "last_seq": span[1]}
        for hour, span in wider.items()
        if span != known.get(hour)
    ]
    upsert(connection, tables.hours, records)


def _known_hours(connection: Connection, list_: str, hours: Iterable[int]) -> dict[int, tuple[int, int]]:
    table, found = tables.hours, {}
    for some in _chunks(sorted(hours)):
        statement = select(table).where(tuple_(table.c.list, table.c.hour).in_([(list_, hour) for hour in some]))
        found.update({row.hour: (row.first_seq, row.last_seq) for row in connection.execute(statement)})
    return found


def _spanned(span: tuple[int, int] | None, low: int, high: int) -> tuple[int, int]:
    return (low, high) if span is None else (min(span[0], low), max(span[1], high))


def _keep_facts(connection: Connection, facts: Iterable[Fact]) -> None:
    by_table: dict[Table, list[Record]] = defaultdict(list)
    for fact in facts:
        by_table[fact.table].append(fact.record)
    for table, records in by_table.items():
        upsert(connection, table, records)


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while some := list(islice(rest, _ASKED_AT_ONCE)):
        yield some


@cache
def _select_known(table: Table) -> Select[Any]:
    return select(table).where(table.c.uid.in_(bindparam("uids", expanding=True)))


@cache
def _upsert(table: Table, dialect: str) -> Insert:
    keys = [column.name for column in table.primary_key.columns]
    names = [column.name for column in table.columns if column.name not in keys]
    if dialect == "mysql":
        # VALUES() and not MySQL 8's row alias, which MariaDB does not know.
        quote = mysql.dialect().identifier_preparer.quote_identifier  # also "offset", which only MariaDB reserves
        values: dict[str, Any] = {name: literal_column(f"values({quote(name)})") for name in names}
        return mysql.insert(table).on_duplicate_key_update(values)
    insert = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    return insert.on_conflict_do_update(index_elements=keys, set_={name: insert.excluded[name] for name in names})
