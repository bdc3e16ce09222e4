"""What the features may ask of the VnPy host. All coroutines run on the asyncio loop and raise `domain.errors`."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from vnpy_core.domain.commands import SubmitOrder, SubmittedOrder
from vnpy_core.domain.enums import IntentState
from vnpy_core.domain.events import Audit, Gateway, Halt, IntentOutcome, OrderIntent
from vnpy_core.domain.reconciliation import Reconciliation
from vnpy_core.ports.journal import JournalState


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The event thread as the watchdog last saw it."""

    alive: bool
    """A ping went through the event queue within the watchdog's limit."""
    lag_ms: float
    """How long the last ping took through the queue; while one is under way, how long it has taken."""
    queue_length: int
    events_handled: int
    handler_errors: int
    slow_events: int
    """Events whose handlers together took longer than 50 ms."""
    ticks_conflated: int
    """Ticks that a newer one replaced in the event queue or in the bridge, because more than 20,000 events waited."""
    bridge_backlog: int
    apps: dict[str, str]
    """App name -> "loaded" or the error that kept it out."""
    journal: JournalState | None = None
    journal_waiting: int = 0
    """Events acted upon that are not durable yet, because the journal cannot be written; 0 when all is well."""
    journal_refusal: str = ""
    """Why the gate takes no new order (the journal is slow, full or fails); empty when it does."""


class TradingEngine(Protocol):
    """The door to MainEngine."""

    async def submit_order(self, command: SubmitOrder) -> SubmittedOrder:
        """Send an order and wait (1 s at most) for the engine's first word on it.

        Coroutines that start one after another on the loop send in that order, though they wait together.
        Raises RiskDenied, TradingHalted, GatewayNotConnected, GatewayNotReconciled, GatewayRefused, StorageFull,
        JournalFailed, Overloaded (nothing was sent) or OutcomeUnknown (sent or perhaps sent, no word yet).
        """
        ...

    async def cancel_order(self, vt_orderid: str) -> None:
        """Ask the venue to cancel; the outcome follows as an order event.

        Raises NotFound, Conflict (no longer active), GatewayNotConnected, Overloaded.
        """
        ...

    async def subscribe(self, vt_symbol: str, gateway_name: str) -> None:
        """Ask for a contract's ticks, and remember it across restarts. Raises NotFound, GatewayNotConnected."""
        ...

    async def unsubscribe(self, vt_symbol: str) -> None:
        """Forget the subscription (VnPy's gateways cannot take one back from the venue). Raises NotFound."""
        ...

    def subscriptions(self) -> list[tuple[str, str]]:
        """Remembered `(vt_symbol, gateway_name)`, in order of subscription."""
        ...

    async def connect(self, gateway_name: str, setting: dict[str, Any]) -> None:
        """Start connecting; success shows as a gateway event. Raises NotFound, Conflict (connected or connecting)."""
        ...

    async def disconnect(self, gateway_name: str) -> None:
        """Close the connection. Raises NotFound, Conflict (not connected)."""
        ...

    def gateways(self) -> list[Gateway]:
        """All gateways and their states."""
        ...

    def status(self) -> EngineStatus:
        """The event thread's health."""
        ...

    # Intents: orders that were about to be sent

    def intent(self, client_order_id: str) -> tuple[OrderIntent, IntentOutcome | None] | None:
        """What was last meant to be sent under this name and what became of it (None: UNKNOWN or under way)."""
        ...

    async def resolve_intent(
        self, client_order_id: str, state: IntentState, *, vt_orderid: str, evidence: str, by: str
    ) -> IntentOutcome:
        """An admin says what became of an UNKNOWN intent: BOUND to `vt_orderid`, or NOT_SENT. Journaled.

        Raises NotFound, Conflict (its outcome is known), ValidationFailed, StorageFull, JournalFailed.
        """
        ...

    # Reconciliation

    def reconciliations(self) -> list[Reconciliation]:
        """The last comparison of each gateway, by name."""
        ...

    async def reconcile(self, gateway_name: str | None) -> None:
        """Begin to compare one gateway, or every connected one, again. Raises NotFound, GatewayNotConnected."""
        ...

    async def accept_differences(self, gateway_name: str, *, reason: str, by: str) -> Reconciliation:
        """Trade through a gateway although it differs; the venue's positions become where our books begin. Journaled.

        Raises NotFound, Conflict (nothing to accept), StorageFull, JournalFailed.
        """
        ...

    # Halts

    def halts(self) -> list[Halt]:
        """The halts in force."""
        ...

    async def halt(self, halt: Halt, *, cancel: bool) -> tuple[Halt, int]:
        """Stop new orders at once, journal it, and cancel what is active where `cancel`; returns it and how many
        orders were asked to cancel. It holds though the journal fails, and though the event thread hangs.
        """
        ...

    async def resume(self, halt: Halt) -> Halt:
        """Take a halt back, once that is durable. Raises Conflict (there is none), StorageFull, JournalFailed."""
        ...

    async def record_audit(self, audit: Audit) -> None:
        """Journal what somebody did. Raises StorageFull, JournalFailed."""
        ...
