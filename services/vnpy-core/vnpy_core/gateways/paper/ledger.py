"""The venue's books on disk: one SQLite file, everything that one call of the venue changed in one transaction.

WAL with `synchronous = NORMAL`: a killed process loses nothing that was committed; a power cut may lose the last
moments, as it would of a simulation.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

import msgspec

from vnpy_core.domain.enums import Direction, Offset, OrderType, Status
from vnpy_core.domain.errors import ConfigurationError, StorageFull
from vnpy_core.gateways.paper.model import VenueOrder, VenueTrade

APPLICATION_ID = 0x76706C31
VERSION = 2
"""2: orders have their number; before it their ids were the venue's own count."""

_SCHEMA = f"""
create table meta (name text primary key, value text not null) without rowid;
create table orders (
    orderid text primary key, symbol text not null, exchange text not null, direction text not null,
    offset text not null, type text not null, price text not null, volume text not null, traded text not null,
    status text not null, reason text not null, reference text not null, time integer not null,
    triggered integer not null, number integer not null default 0
) without rowid;
create table trades (
    tradeid text primary key, orderid text not null, symbol text not null, exchange text not null,
    direction text not null, offset text not null, price text not null, volume text not null, fee text not null,
    time integer not null
) without rowid;
create table holdings (
    symbol text not null, exchange text not null, direction text not null, today text not null,
    yesterday text not null, cost text not null, primary key (symbol, exchange, direction)
) without rowid;
create table trading_days (
    symbol text not null, exchange text not null, day text not null, primary key (symbol, exchange)
) without rowid;
pragma application_id = {APPLICATION_ID};
pragma user_version = {VERSION};
"""

_UPGRADE = """
begin;
alter table orders add column number integer not null default 0;
update orders set number = cast(orderid as integer);
pragma user_version = 2;
commit;
"""


class HoldingRow(msgspec.Struct, frozen=True):
    """A holding as it is kept."""

    symbol: str
    exchange: str
    direction: Direction
    today: Decimal
    yesterday: Decimal
    cost: Decimal


class Saved(msgspec.Struct, frozen=True):
    """All that a ledger holds; `cash` is None in a new one."""

    orders: list[VenueOrder]
    trades: list[VenueTrade]
    holdings: list[HoldingRow]
    trading_days: dict[tuple[str, str], date]
    cash: Decimal | None


class LedgerTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums that the file itself gives, to check others against. `volumes` is by (vt_symbol, direction, offset)."""

    orders: dict[str, int]
    """Status -> how many."""
    trades: int
    volumes: dict[tuple[str, str, str], Decimal]
    fees: Decimal
    cash: Decimal


class Ledger:
    """One file. One thread at a time; the venue's lock sees to it."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises ConfigurationError for a file that is broken, newer than this code or not ours."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._open()
        except (sqlite3.DatabaseError, OSError) as error:
            raise ConfigurationError(f"the paper ledger {path} cannot be read: {error}; move it away") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def load(self) -> Saved:
        """Everything, orders and trades oldest first. Raises ConfigurationError where the file is damaged."""
        try:
            return self._load()
        except (sqlite3.DatabaseError, InvalidOperation, ValueError) as error:
            raise ConfigurationError(f"the paper ledger {self._path} is damaged: {error}; move it away") from error

    def next_session(self) -> int:
        """Count one more log-in; no number comes twice, also after a restart. Raises StorageFull."""
        count = (
            "insert into meta values ('sessions', '1') "
            "on conflict (name) do update set value = cast(value as integer) + 1 returning value"
        )
        try:
            return int(self._connection.execute(count).fetchall()[0][0])
        except sqlite3.OperationalError as error:
            raise StorageFull(f"the paper ledger {self._path} cannot be written: {error}") from error

    def totals(self) -> LedgerTotals:
        """Plain sums of the rows, reckoned without the venue."""
        read = self._connection.execute
        trades = read("select symbol || '.' || exchange, direction, offset, volume, fee from trades").fetchall()
        volumes: dict[tuple[str, str, str], Decimal] = {}
        for vt_symbol, direction, offset, volume, _ in trades:
            key = (vt_symbol, direction, offset)
            volumes[key] = volumes.get(key, Decimal(0)) + Decimal(volume)
        return LedgerTotals(
            orders=dict(read("select status, count(*) from orders group by status").fetchall()),
            trades=len(trades),
            volumes=volumes,
            fees=sum((Decimal(fee) for *_, fee in trades), Decimal(0)),
            cash=Decimal(read("select value from meta where name = 'cash'").fetchone()[0]),
        )

    def _load(self) -> Saved:
        read = self._connection.execute
        cash = read("select value from meta where name = 'cash'").fetchone()
        return Saved(
            orders=[_order(row) for row in read("select * from orders order by number")],
            trades=[_trade(row) for row in read("select * from trades order by tradeid")],
            holdings=[
                HoldingRow(symbol, exchange, Direction(direction), Decimal(today), Decimal(yesterday), Decimal(cost))
                for symbol, exchange, direction, today, yesterday, cost in read("select * from holdings")
            ],
            trading_days={
                (symbol, exchange): date.fromisoformat(day)
                for symbol, exchange, day in read("select * from trading_days")
            },
            cash=Decimal(cash[0]) if cash else None,
        )

    def save(
        self,
        *,
        orders: Iterable[VenueOrder] = (),
        trades: Iterable[VenueTrade] = (),
        holdings: Iterable[HoldingRow] = (),
        trading_days: Iterable[tuple[str, str, date]] = (),
        cash: Decimal,
    ) -> None:
        """Write what changed, all of it or nothing. Raises StorageFull when it cannot be written now."""
        connection = self._connection
        try:
            connection.execute("begin immediate")
            connection.executemany(
                "insert or replace into orders values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                map(_order_row, orders),
            )
            connection.executemany("insert into trades values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", map(_trade_row, trades))
            connection.executemany(
                "insert or replace into holdings values (?, ?, ?, ?, ?, ?)",
                [(h.symbol, h.exchange, h.direction, str(h.today), str(h.yesterday), str(h.cost)) for h in holdings],
            )
            connection.executemany(
                "insert or replace into trading_days values (?, ?, ?)",
                [(symbol, exchange, day.isoformat()) for symbol, exchange, day in trading_days],
            )
            connection.execute("insert or replace into meta values ('cash', ?)", (str(cash),))
            connection.execute("commit")
        except BaseException as error:
            if connection.in_transaction:  # SQLite may have rolled back already, as it does when the disk is full
                connection.execute("rollback")
            if isinstance(error, sqlite3.OperationalError):
                raise StorageFull(f"the paper ledger {self._path} cannot be written: {error}") from error
            raise

    def _open(self) -> None:
        read = self._connection.execute
        read("pragma journal_mode = wal")
        read("pragma synchronous = normal")
        application, version = read("pragma application_id").fetchone()[0], read("pragma user_version").fetchone()[0]
        if read("select count(*) from sqlite_master").fetchone()[0] == 0:
            self._connection.executescript(f"begin; {_SCHEMA} commit;")
        elif application != APPLICATION_ID:
            raise ConfigurationError(f"{self._path} is not a paper ledger; move it away or name another file")
        elif version > VERSION:
            raise ConfigurationError(f"{self._path} was written by a newer version (schema {version})")
        elif (damage := read("pragma quick_check(1)").fetchone()[0]) != "ok":
            raise ConfigurationError(f"the paper ledger {self._path} is damaged: {damage}; move it away")
        elif version < VERSION:
            self._connection.executescript(_UPGRADE)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _time(micros: int) -> datetime:
    return _EPOCH + micros * _MICROSECOND


def _order_row(order: VenueOrder) -> tuple[object, ...]:
    return (
        order.orderid, order.symbol, order.exchange, order.direction, order.offset, order.type, str(order.price),
        str(order.volume), str(order.traded), order.status, order.reason, order.reference, _micros(order.time),
        order.triggered, order.number,
    )  # fmt: skip


def _order(row: tuple[str, ...]) -> VenueOrder:
    return VenueOrder(
        orderid=row[0],
        symbol=row[1],
        exchange=row[2],
        direction=Direction(row[3]),
        offset=Offset(row[4]),
        type=OrderType(row[5]),
        price=Decimal(row[6]),
        volume=Decimal(row[7]),
        traded=Decimal(row[8]),
        status=Status(row[9]),
        reason=row[10],
        reference=row[11],
        time=_time(int(row[12])),
        triggered=bool(row[13]),
        number=int(row[14]),
    )


def _trade_row(trade: VenueTrade) -> tuple[object, ...]:
    return (
        trade.tradeid, trade.orderid, trade.symbol, trade.exchange, trade.direction, trade.offset, str(trade.price),
        str(trade.volume), str(trade.fee), _micros(trade.time),
    )  # fmt: skip


def _trade(row: tuple[str, ...]) -> VenueTrade:
    return VenueTrade(
        tradeid=row[0],
        orderid=row[1],
        symbol=row[2],
        exchange=row[3],
        direction=Direction(row[4]),
        offset=Offset(row[5]),
        price=Decimal(row[6]),
        volume=Decimal(row[7]),
        fee=Decimal(row[8]),
        time=_time(int(row[9])),
    )
