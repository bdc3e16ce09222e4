"""VnPy's enums by their *names*, which never change with the locale (VnPy's values are translated texts)."""

from enum import StrEnum


class Direction(StrEnum):
    """Which side of the market."""

    LONG = "LONG"
    SHORT = "SHORT"
    NET = "NET"


class Offset(StrEnum):
    """Whether an order opens or closes a position."""

    NONE = "NONE"
    OPEN = "OPEN"
    CLOSE = "CLOSE"
    CLOSETODAY = "CLOSETODAY"
    CLOSEYESTERDAY = "CLOSEYESTERDAY"


class OrderType(StrEnum):
    """How an order is to be executed."""

    LIMIT = "LIMIT"
    MARKET = "MARKET"
    STOP = "STOP"
    FAK = "FAK"
    FOK = "FOK"
    RFQ = "RFQ"
    ETF = "ETF"


class Status(StrEnum):
    """Where an order is in its life."""

    SUBMITTING = "SUBMITTING"
    NOTTRADED = "NOTTRADED"
    PARTTRADED = "PARTTRADED"
    ALLTRADED = "ALLTRADED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"

    @property
    def is_active(self) -> bool:
        """Whether an order in this state may still trade."""
        return self in ACTIVE_STATUSES

    @property
    def rank(self) -> int:
        """How far in its life an order is; of two events about one order the higher one holds, whichever came first."""
        return _RANKS[self]


_RANKS = {
    Status.SUBMITTING: 0,
    Status.NOTTRADED: 1,
    Status.PARTTRADED: 2,
    Status.REJECTED: 3,
    Status.CANCELLED: 4,
    Status.ALLTRADED: 5,
}
ACTIVE_STATUSES = frozenset({Status.SUBMITTING, Status.NOTTRADED, Status.PARTTRADED})


class Product(StrEnum):
    """What kind of thing a contract is."""

    EQUITY = "EQUITY"
    FUTURES = "FUTURES"
    OPTION = "OPTION"
    INDEX = "INDEX"
    FOREX = "FOREX"
    SPOT = "SPOT"
    ETF = "ETF"
    BOND = "BOND"
    WARRANT = "WARRANT"
    SPREAD = "SPREAD"
    FUND = "FUND"
    CFD = "CFD"
    SWAP = "SWAP"


class GatewayState(StrEnum):
    """How far a gateway's connection is."""

    DISCONNECTED = "DISCONNECTED"
    CONNECTING = "CONNECTING"
    CONNECTED = "CONNECTED"
    FAILED = "FAILED"


class LogLevel(StrEnum):
    """How serious a log line is."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


class IntentState(StrEnum):
    """What is known of an order that was about to be sent."""

    UNKNOWN = "UNKNOWN"
    """Journaled, perhaps sent; nothing says yet what became of it."""
    BOUND = "BOUND"
    """The venue's id is known."""
    DENIED = "DENIED"
    """Never sent: refused by us after it was journaled, or its send was given up."""
    REFUSED = "REFUSED"
    """The gateway took no order and said so at once."""
    NOT_SENT = "NOT_SENT"
    """Evidence says that it never reached the venue."""


class HaltMode(StrEnum):
    """What a halt still lets through."""

    HALTED = "HALTED"
    """No new order; cancels always pass."""


class HaltScope(StrEnum):
    """What a halt is about."""

    ALL = "all"


class ReconciliationState(StrEnum):
    """Whether a gateway's venue and our books agree, so that it may be traded through."""

    PENDING = "PENDING"
    """Not compared since the last connect."""
    RUNNING = "RUNNING"
    RECONCILED = "RECONCILED"
    DIFFERENT = "DIFFERENT"
    """Differences wait for a decision; no order passes."""
    ACCEPTED = "ACCEPTED"
    """An admin accepted the differences."""


class StrategyState(StrEnum):
    """How far a CTA strategy is, as it really is."""

    CREATED = "CREATED"
    INITIALISING = "INITIALISING"
    """Its on_init runs, or waits for those before it."""
    INITED = "INITED"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    """One of its callbacks raised or did not return: it gets no event any more and its orders are cancelled."""


class JobState(StrEnum):
    """How far long work is."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
