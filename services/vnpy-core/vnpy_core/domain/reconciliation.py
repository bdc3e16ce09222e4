"""What differs between a venue and our books, how that was settled and on what evidence."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from vnpy_core.domain.enums import ReconciliationState
from vnpy_core.domain.events import OrderIntent


class DifferenceKind(StrEnum):
    """What is found at one side only, or otherwise at the two."""

    INTENT_BOUND = "INTENT_BOUND"
    """An intent without an outcome was found among the venue's orders."""
    INTENT_NOT_SENT = "INTENT_NOT_SENT"
    """An intent without an outcome is not among the venue's orders, which were all listed."""
    INTENT_UNKNOWN = "INTENT_UNKNOWN"
    """Nothing says what became of an intent."""
    FOREIGN_ORDER = "FOREIGN_ORDER"
    """The venue has an order that nobody sent through us."""
    ORDER_MOVED = "ORDER_MOVED"
    """An order went on while we were away."""
    ORDER_BEHIND = "ORDER_BEHIND"
    """The venue shows an order in an earlier state than our books."""
    ORDER_GONE = "ORDER_GONE"
    """An order that is active in our books is not among the venue's orders."""
    MISSED_TRADE = "MISSED_TRADE"
    """A fill that happened while we were away."""
    TRADE_GONE = "TRADE_GONE"
    """A fill of today in our books that the venue does not show."""
    POSITION_BASE = "POSITION_BASE"
    """The first look at a position: the venue's is where our books begin."""
    POSITION = "POSITION"
    """The position does not equal the sum of the trades."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. `resolved` ones need nobody; the others hold the gateway until an admin decides."""

    kind: DifferenceKind
    key: str
    """A client_order_id, vt_orderid, vt_tradeid or vt_symbol."""
    venue: str
    books: str
    resolved: bool
    resolution: str
    evidence: str


class UnknownIntent(msgspec.Struct, frozen=True, kw_only=True):
    """An intent whose outcome nobody knows; `POST …/reconciliation/{client_order_id}/resolve` settles it."""

    intent: OrderIntent
    evidence: str


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """The last comparison of one gateway. Trading through it is open in RECONCILED and ACCEPTED."""

    gateway_name: str
    state: ReconciliationState
    started_at: datetime | None = None
    finished_at: datetime | None = None
    orders_seen: int = 0
    trades_seen: int = 0
    differences: list[Difference] = []
    unknown_intents: list[UnknownIntent] = []
    accepted_by: str = ""
    accepted_reason: str = ""
