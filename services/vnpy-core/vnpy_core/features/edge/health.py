"""How an edge is: its parts, its figures, its clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from enum import StrEnum

import msgspec

from vnpy_core import __version__
from vnpy_core.features.edge.service import EdgeFeed, FeedState, FeedStatus
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.registry import NodeRole


class ComponentState(StrEnum):
    """How a part is."""

    OK = "ok"
    DEGRADED = "degraded"
    """What is served may be old, or it is served in part."""
    DOWN = "down"


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """One part as it is now; a `critical` one that is down makes the edge unready."""

    name: str
    state: ComponentState
    detail: str
    critical: bool


class Readiness(msgspec.Struct, frozen=True):
    """Whether requests can be served, and the state of each part without its detail (the answer is public)."""

    status: ComponentState
    components: dict[str, ComponentState]

    @property
    def ready(self) -> bool:
        """Whether no critical part is down."""
        return self.status is not ComponentState.DOWN


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One WebSocket client; `sent`, `conflated` and `dropped` are totals since it came."""

    id: str
    principal: str
    address: str = ""
    """Where it connects from, `host:port`."""
    encoding: str = "json"
    topics: int
    queued: int
    """Frames that wait."""
    behind: int = 0
    """Class A messages among them, those of a replay included."""
    lag_ms: float = 0.0
    """Age of the first message that waits, milliseconds; 0 where none does."""
    sent: int
    conflated: int
    dropped: int


class EdgeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a running edge at a glance."""

    role: NodeRole = NodeRole.EDGE
    version: str
    node: str
    """The core that it follows."""
    started_at: datetime
    uptime_s: float
    status: ComponentState
    components: list[Component]
    feed: FeedStatus
    sessions: list[Session]


class EdgeHealth:
    """Loop thread only. `sessions` gives objects with the attributes of `Session`.

    `others`: more parts, each with what says why it is degraded (empty: it is not).
    """

    def __init__(
        self,
        feed: EdgeFeed,
        clock: Clock,
        *,
        node: str,
        sessions: Callable[[], Iterable[object]],
        others: dict[str, Callable[[], str]] | None = None,
    ) -> None:
        self.node = node
        self.feed = feed
        self._clock = clock
        self._sessions = sessions
        self._others = others or {}
        self.started_at = clock.now()
        self._started = clock.monotonic()
        self.core_address = ""
        """Where the core answers, as far as the registry says so."""

    def readiness(self) -> Readiness:
        """Whether requests can be served. Old state is served, and shown as degraded; none at all is not."""
        parts = self._parts()
        return Readiness(_overall(parts), {part.name: part.state for part in parts})

    def status(self) -> EdgeStatus:
        """Everything at a glance."""
        parts = self._parts()
        return EdgeStatus(
            version=__version__,
            node=self.node,
            started_at=self.started_at,
            uptime_s=round(self._clock.monotonic() - self._started, 3),
            status=_overall(parts),
            components=parts,
            feed=self.feed.status(),
            sessions=self.sessions(),
        )

    def sessions(self) -> list[Session]:
        """The WebSocket clients of the moment."""
        return [msgspec.convert(session, Session, from_attributes=True) for session in self._sessions()]

    def _parts(self) -> list[Component]:
        return [self._core(), self._channels(), *(_other(name, why()) for name, why in self._others.items())]

    def _core(self) -> Component:
        feed = self.feed.status()
        state = ComponentState.OK if feed.state is FeedState.FOLLOWING else ComponentState.DEGRADED
        if not self.feed.loaded:
            state = ComponentState.DOWN
        detail = f"{feed.state}: {feed.detail}" if feed.detail else ""
        return Component(name="core", state=state, detail=detail, critical=True)

    def _channels(self) -> Component:
        return _other(
            "channels", "" if self.feed.status().listening else "ticks and other passing messages do not come"
        )


def _other(name: str, why: str) -> Component:
    state = ComponentState.DEGRADED if why else ComponentState.OK
    return Component(name=name, state=state, detail=why, critical=False)


def _overall(parts: list[Component]) -> ComponentState:
    if any(part.critical and part.state is ComponentState.DOWN for part in parts):
        return ComponentState.DOWN
    if any(part.state is not ComponentState.OK for part in parts):
        return ComponentState.DEGRADED
    return ComponentState.OK
