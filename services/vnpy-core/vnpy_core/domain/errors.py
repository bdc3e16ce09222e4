"""Every error that a caller may see, named by the reaction it requires.

    CoreError
    ├── RequestError             change the request, then ask again
    │   ├── ValidationFailed        a field is wrong
    │   ├── NotFound                no such thing
    │   ├── Conflict                the thing is not in a state for this
    │   ├── IdempotencyMismatch     the key was used for another request
    │   ├── PayloadTooLarge         send less
    │   ├── NotAuthenticated        log in
    │   └── NotPermitted            ask somebody with the role
    ├── OrderDenied              nothing was sent; ask again when the cause is gone
    │   ├── RiskDenied              a risk rule said no
    │   ├── TradingHalted           trading is halted
    │   ├── GatewayNotConnected     connect the gateway first
    │   │   └── GatewayNotReconciled   wait, or accept what differs between venue and books
    │   └── GatewayRefused          the gateway took no order
    ├── TryLater                 the same request may pass later
    │   ├── RateLimited
    │   ├── Overloaded              the event thread or a queue is busy
    │   │   ├── JournalFailed          the journal cannot be written or read
    │   │   ├── StoreUnavailable       the database is away
    │   │   ├── TimeSeriesUnavailable  the tick and bar store is away
    │   │   ├── BrokerUnavailable      the message bus is away
    │   │   ├── CacheUnavailable       the cache is away
    │   │   └── RegistryUnavailable    the registry of nodes is away
    │   └── StorageFull             the disk is full
    ├── PoisonRow                park this row, go on with the next
    ├── StreamMoved              look where the stream is, then go on from there
    ├── OutcomeUnknown           do not send again: look whether it happened
    └── ConfigurationError       the operator must change the configuration

They become status codes once, in `web.problems`.
"""

from __future__ import annotations

from typing import Any, ClassVar


class FieldError:
    """One wrong field: its path (`orders.0.price`) and what is wrong with it."""

    __slots__ = ("field", "message")

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message

    def as_dict(self) -> dict[str, str]:
        """The wire form."""
        return {"field": self.field, "message": self.message}


class CoreError(Exception):
    """Base of all; `code` is the stable word that clients switch on, `extra` more members of the answer."""

    code: ClassVar[str] = "INTERNAL"

    def __init__(self, detail: str, *, errors: list[FieldError] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []
        self.extra = extra


class RequestError(CoreError):
    """Change the request, then ask again."""


class ValidationFailed(RequestError):
    """A field of the request is wrong."""

    code = "VALIDATION_FAILED"


class NotFound(RequestError):
    """There is no such thing."""

    code = "NOT_FOUND"


class Conflict(RequestError):
    """The thing exists but is not in a state for this."""

    code = "CONFLICT"


class IdempotencyMismatch(RequestError):
    """The key was used before for another request."""

    code = "IDEMPOTENCY_MISMATCH"


class PayloadTooLarge(RequestError):
    """The request is larger than the limit."""

    code = "PAYLOAD_TOO_LARGE"


class NotAuthenticated(RequestError):
    """No valid credential came with the request."""

    code = "NOT_AUTHENTICATED"


class NotPermitted(RequestError):
    """The credential's role does not allow this."""

    code = "NOT_PERMITTED"


class OrderDenied(CoreError):
    """Nothing was sent to the venue; ask again when the cause is gone."""


class RiskDenied(OrderDenied):
    """A risk rule said no; `extra` has `rule` and, where the rule has one, `limit`."""

    code = "RISK_DENIED"


class TradingHalted(OrderDenied):
    """Trading is halted."""

    code = "TRADING_HALTED"


class GatewayNotConnected(OrderDenied):
    """The gateway has no connection."""

    code = "GATEWAY_NOT_CONNECTED"


class GatewayNotReconciled(GatewayNotConnected):
    """Connected, but what its venue says was not yet found equal to our books; `extra` has `reconciliation`."""


class GatewayRefused(OrderDenied):
    """The gateway (or the engine on its way there) took no order."""

    code = "GATEWAY_REFUSED"


class TryLater(CoreError):
    """The same request may pass later."""


class RateLimited(TryLater):
    """Too many requests; `extra` may have `retry_after` seconds."""

    code = "RATE_LIMITED"


class Overloaded(TryLater):
    """A bounded queue is full or the event thread did not answer in time; nothing was done."""

    code = "OVERLOADED"


class StorageFull(TryLater):
    """The disk is full."""

    code = "STORAGE_FULL"


class JournalFailed(Overloaded):
    """The journal's file cannot be written or read (not for want of space), or did not answer in time."""


class StoreUnavailable(Overloaded):
    """The database is away or does not answer in time."""


class TimeSeriesUnavailable(Overloaded):
    """The tick and bar store is away or does not answer in time."""


class BrokerUnavailable(Overloaded):
    """The message bus is away or does not answer in time."""


class CacheUnavailable(Overloaded):
    """The cache is away or does not answer in time."""


class RegistryUnavailable(Overloaded):
    """The registry of nodes is away or does not answer in time."""


class StreamMoved(CoreError):
    """The message bus' stream ends elsewhere than was thought: it was lost, or (`by_other`) somebody else writes it."""


class PoisonRow(CoreError):
    """A journal row that no retry can store; `seq` says which."""

    def __init__(self, detail: str, *, seq: int) -> None:
        super().__init__(detail, seq=seq)
        self.seq = seq


class OutcomeUnknown(CoreError):
    """It was started and may have happened: look before sending again."""

    code = "OUTCOME_UNKNOWN"


class ConfigurationError(CoreError):
    """The configuration is wrong; the detail says what and where."""

    code = "CONFIGURATION"


def describe(error: BaseException) -> str:
    """One line about any error, for logs and messages: ours in its own words, others with their type."""
    return error.detail if isinstance(error, CoreError) else f"{type(error).__name__}: {error}"
