"""The relational store: a projection of the journal that lasts for years, and what history is read from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from vnpy_core.domain.enums import Status
from vnpy_core.domain.events import Contract, Order, StrategyDay, StrategyUpdate, Trade
from vnpy_core.ports.journal import Row

SeqKey = tuple[int, str]
"""`(seq, vt_orderid or vt_tradeid)` of the last item shown: where a list goes on."""


class Watermark(msgspec.Struct, frozen=True):
    """How far the journal has been taken in."""

    epoch: str
    seq: int


class OrderQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which orders: each field that is not None must fit. `start` counts in, `end` does not.

    Times are the venue's; an order that has none counts by `updated_at`.
    """

    active: bool | None = None
    vt_symbol: str | None = None
    gateway_name: str | None = None
    status: Status | None = None
    strategy_name: str | None = None
    start: datetime | None = None
    end: datetime | None = None


class TradeQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which trades; as for orders. A trade without a time is in no interval."""

    vt_symbol: str | None = None
    gateway_name: str | None = None
    vt_orderid: str | None = None
    strategy_name: str | None = None
    start: datetime | None = None
    end: datetime | None = None


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A row that could not be stored, parked with the reason so that those behind it can."""

    epoch: str
    seq: int
    kind: str
    key: str
    payload: str
    reason: str
    parked_at: datetime


class SinkState(msgspec.Struct, frozen=True, kw_only=True):
    """How far the store has come; `error` is why it does not get on, empty when it does."""

    name: str
    seq: int
    lag: int
    """Rows of the journal that are not stored yet."""
    written: int
    """Rows stored since the start."""
    dead_letters: int
    error: str


class Store(Protocol):
    """Loop thread only. Every method raises StoreUnavailable while the server is away or does not answer in time."""

    async def open(self) -> None:
        """Connect and bring the schema up to date. Raises ConfigurationError for a newer schema or a wrong URL."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...

    async def watermark(self) -> Watermark | None:
        """How far the journal has been taken in; None in a new store."""
        ...

    async def write(self, rows: Sequence[Row]) -> None:
        """Take in rows and move the watermark to the last one, in one transaction; rows known already change nothing.

        Orders move forward only, trades are inserted or known; other content under a known key goes to quarantine.
        Raises PoisonRow where one of the rows can never be stored.
        """
        ...

    async def park(self, row: Row, reason: str) -> None:
        """Put a poison row aside as a dead letter and move the watermark over it, in one transaction."""
        ...

    async def save_contracts(self, contracts: Sequence[Contract]) -> None:
        """Insert or replace, by gateway and symbol. Contracts are not journaled."""
        ...

    async def save_strategies(self, strategies: Sequence[StrategyUpdate]) -> None:
        """Insert or replace, by name."""
        ...

    async def orders(self, query: OrderQuery, after: SeqKey, limit: int) -> list[Order]:
        """By `(seq, vt_orderid)`, those after `after`, `limit` at most."""
        ...

    async def trades(self, query: TradeQuery, after: SeqKey, limit: int) -> list[Trade]:
        """By `(seq, vt_tradeid)`, those after `after`, `limit` at most."""
        ...

    async def order(self, vt_orderid: str) -> Order | None:
        """The newest order with this id."""
        ...

    async def order_by_client_id(self, client_order_id: str) -> Order | None:
        """The newest order that a caller named so."""
        ...

    async def strategy_days(self, name: str, start_day: str = "", end_day: str = "") -> list[StrategyDay]:
        """A strategy's days from `start_day` to `end_day` (ISO dates, both counting in; empty: no bound), by day."""
        ...

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The newest ones."""
        ...
