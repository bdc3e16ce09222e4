"""History: what the API's filters become in SQL, so that each page is a stretch of one index."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, func, not_, select

from vnpy_core.adapters.store import tables
from vnpy_core.adapters.store.records import event_of
from vnpy_core.adapters.store.types import micros
from vnpy_core.domain.events import Order, Quarantine, StrategyDay, Trade
from vnpy_core.ports.store import DeadLetter, OrderQuery, SeqKey, TradeQuery

_HOUR = 3_600_000_000
_Span = tuple[int | None, int | None]


def orders(connection: Connection, query: OrderQuery, after: SeqKey, limit: int) -> list[Order]:
    """See the port."""
    span = _seqs_between(connection, "orders", query.start, query.end)
    rows = connection.execute(orders_statement(query, after, limit, span)).mappings()
    return [event_of(Order, row) for row in rows]


def trades(connection: Connection, query: TradeQuery, after: SeqKey, limit: int) -> list[Trade]:
    """See the port."""
    span = _seqs_between(connection, "trades", query.start, query.end)
    rows = connection.execute(trades_statement(query, after, limit, span)).mappings()
    return [event_of(Trade, row) for row in rows]


def newest_order(connection: Connection, **wanted: str) -> Order | None:
    """The newest order whose one column has this value."""
    table = tables.orders
    statement = select(table).filter_by(**wanted).order_by(table.c.seq.desc()).limit(1)
    row = connection.execute(statement).mappings().first()
    return None if row is None else event_of(Order, row)


def strategy_days(connection: Connection, name: str, start_day: str, end_day: str) -> list[StrategyDay]:
    """See the port."""
    table = tables.strategy_days
    wanted = [
        table.c.strategy_name == name,
        *([table.c.day >= start_day] if start_day else []),
        *([table.c.day <= end_day] if end_day else []),
    ]
    rows = connection.execute(select(table).where(*wanted).order_by(table.c.day)).mappings()
    return [event_of(StrategyDay, row) for row in rows]


def dead_letters(connection: Connection, limit: int) -> list[DeadLetter]:
    """See the port."""
    rows = connection.execute(_newest(tables.dead_letters, limit))
    return [
        DeadLetter(
            epoch=row.epoch,
            seq=row.seq,
            kind=row.kind,
            key=row.key,
            payload=row.payload,
            reason=row.reason,
            parked_at=row.at,
        )
        for row in rows
    ]


def quarantine(connection: Connection, limit: int) -> list[Quarantine]:
    """The newest contradictions."""
    rows = connection.execute(_newest(tables.quarantine, limit))
    return [
        Quarantine(kind=row.kind, key=row.key, reason=row.reason, known=row.known, arrived=row.arrived, at=row.at)
        for row in rows
    ]


def plan(connection: Connection, query: OrderQuery | TradeQuery, after: SeqKey, limit: int) -> list[str]:
    """How the database would go about a page, in its own words; for tests and benchmarks."""
    if isinstance(query, OrderQuery):
        span = _seqs_between(connection, "orders", query.start, query.end)
        statement = orders_statement(query, after, limit, span)
    else:
        span = _seqs_between(connection, "trades", query.start, query.end)
        statement = trades_statement(query, after, limit, span)
    compiled = statement.compile(connection.engine, compile_kwargs={"literal_binds": True})
    explain = "explain query plan" if connection.dialect.name == "sqlite" else "explain"
    rows = connection.exec_driver_sql(f"{explain} {str(compiled).replace('%', '%%')}").mappings()
    return [" ".join(f"{name}={value}" for name, value in row.items()) for row in rows]


def orders_statement(query: OrderQuery, after: SeqKey, limit: int, span: _Span = (None, None)) -> Select[Any]:
    """A page of orders whose seq lies within `span`."""
    table = tables.orders
    wanted = {
        "vt_symbol": query.vt_symbol,
        "gateway_name": query.gateway_name,
        "status": None if query.status is None else str(query.status),
        "strategy_name": query.strategy_name,
        "active": None if query.active is None else int(query.active),
    }
    times = _within(table.c.happened_at, query.start, query.end)
    return _page(table, "vt_orderid", wanted, times, after, limit, span)


def trades_statement(query: TradeQuery, after: SeqKey, limit: int, span: _Span = (None, None)) -> Select[Any]:
    """A page of trades whose seq lies within `span`."""
    table = tables.trades
    wanted = {
        "vt_symbol": query.vt_symbol,
        "gateway_name": query.gateway_name,
        "vt_orderid": query.vt_orderid,
        "strategy_name": query.strategy_name,
    }
    times = _within(table.c.datetime, query.start, query.end)
    return _page(table, "vt_tradeid", wanted, times, after, limit, span)


def _page(
    table: Table,
    id_: str,
    wanted: dict[str, Any],
    times: list[ColumnElement[bool]],
    after: SeqKey,
    limit: int,
    span: _Span,
) -> Select[Any]:
    seq, name = table.c.seq, table.c[id_]
    first, last = span
    start = max(after[0], first or 0)
    conditions = [
        *(table.c[column] == value for column, value in wanted.items() if value is not None),
        *times,
        # Not `(seq, id) > (…)`: MySQL does not see a range of the index in that.
        seq >= start,
        not_(and_(seq == after[0], name <= after[1])),
        *([seq <= last] if last is not None else []),
    ]
    page = select(table).where(*conditions).order_by(seq, name).limit(limit)
    return page.with_hint(table, _paging_indexes(table, id_, wanted), "mysql")


def _paging_indexes(table: Table, id_: str, wanted: dict[str, Any]) -> str:
    """MySQL's hint. It would take `column = …` alone for the stretch of an index and walk it up to the page's seq."""
    filtered = [f"{column}_" for column, value in wanted.items() if value is not None] or [""]
    return f"force index ({', '.join(f'ix_{table.name}_{column}seq_{id_}' for column in filtered)})"


def _within(column: ColumnElement[Any], start: datetime | None, end: datetime | None) -> list[ColumnElement[bool]]:
    return [*([column >= start] if start else []), *([column < end] if end else [])]


def _seqs_between(connection: Connection, list_: str, start: datetime | None, end: datetime | None) -> _Span:
    """The lowest and highest seq that rows of this time can have; `(0, -1)` where there are none."""
    if start is None and end is None:
        return None, None
    table = tables.hours
    conditions = [
        table.c.list == list_,
        *([table.c.hour >= micros(start) // _HOUR] if start else []),
        *([table.c.hour <= micros(end) // _HOUR] if end else []),
    ]
    row = connection.execute(select(func.min(table.c.first_seq), func.max(table.c.last_seq)).where(*conditions)).one()
    return (0, -1) if row[0] is None else (row[0], row[1])


def _newest(table: Table, limit: int) -> Select[Any]:
    return select(table).order_by(table.c.at.desc(), table.c.seq.desc()).limit(limit)
