"""What the features may ask of the VnPy host. All coroutines run on the asyncio loop and raise `domain.errors`."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from vnpy_core.domain.commands import SubmitOrder, SubmittedOrder
from vnpy_core.domain.events import Gateway


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


class TradingEngine(Protocol):
    """The door to MainEngine."""

    async def submit_order(self, command: SubmitOrder) -> SubmittedOrder:
        """Send an order and wait (1 s at most) for the engine's first word on it.

        Coroutines that start one after another on the loop send in that order, though they wait together.
        Raises RiskDenied, GatewayNotConnected, GatewayRefused (nothing was sent), Overloaded (not started in time,
        nothing was sent) or OutcomeUnknown (sent, no word yet).
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
