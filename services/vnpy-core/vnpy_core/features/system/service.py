"""Whether the service lives, can serve, and what it last said: health of each part, status and a ring of log lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import StrEnum

import msgspec

from vnpy_core import __version__
from vnpy_core.bus import topics
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.enums import LogLevel, Status
from vnpy_core.domain.events import Log
from vnpy_core.kit.logging import redact
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.engine import EngineStatus, TradingEngine
from vnpy_core.ports.store import SinkState

LOG_LINES = 2_000
LOG_TOPICS = (topics.LOG, topics.STRATEGY_LOG)
_SEVERITY = {level: rank for rank, level in enumerate(LogLevel)}


class ComponentState(StrEnum):
    """How a part of the service is."""

    OK = "ok"
    DEGRADED = "degraded"
    """It works in part, or without it the rest goes on."""
    DOWN = "down"


Check = Callable[[], tuple[ComponentState, str]]
"""Looks at a part, at once and without waiting: its state and, where that is not OK, why. Must not raise."""


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """One part as it is now; a `critical` one that is down makes the service unready."""

    name: str
    state: ComponentState
    detail: str
    critical: bool


class Components:
    """The parts of the service by name. Loop thread only. Rooms that `app.py` builds later add theirs."""

    def __init__(self) -> None:
        self._checks: dict[str, tuple[Check, bool]] = {}

    def add(self, name: str, check: Check, *, critical: bool = False) -> None:
        """Look at `check` under `name` from now on; a part added again replaces the former."""
        self._checks[name] = (check, critical)

    def remove(self, name: str) -> None:
        """Forget a part. Raises KeyError."""
        del self._checks[name]

    def look(self) -> list[Component]:
        """Every part as it is now, in the order they were added."""
        return [_component(name, check, critical) for name, (check, critical) in self._checks.items()]


class Readiness(msgspec.Struct, frozen=True):
    """Whether requests can be served, and the state of each part without its detail (the answer is public)."""

    status: ComponentState
    components: dict[str, ComponentState]

    @property
    def ready(self) -> bool:
        """Whether no critical part is down."""
        return self.status is not ComponentState.DOWN


class EventThread(msgspec.Struct, frozen=True, kw_only=True):
    """VnPy's event thread."""

    alive: bool
    queue_length: int
    lag_ms: float
    events_handled: int
    handler_errors: int
    slow_events: int
    ticks_conflated: int
    bridge_backlog: int


class JournalFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The journal of everything that happened."""

    epoch: str
    first_seq: int
    """The oldest row kept."""
    last_seq: int
    size_bytes: int
    reserve: bool
    """Whether disk space is held back for the case that the disk is full."""
    waiting: int
    """Events that were acted upon and are not durable yet; 0 when all is well."""
    refusal: str
    """Why no new order is taken; empty when they are."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One WebSocket client; `sent`, `conflated` and `dropped` are totals since it came."""

    id: str
    principal: str
    address: str
    encoding: str
    topics: int
    queued: int
    """Frames that wait."""
    behind: int
    """Orders, trades and their like among them."""
    lag_ms: float
    """Age of the first message that waits; 0 where none does."""
    sent: int
    conflated: int
    dropped: int


class SystemStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about the running service at a glance."""

    version: str
    started_at: datetime
    uptime_s: float
    status: ComponentState
    components: list[Component]
    event_thread: EventThread
    apps: dict[str, str]
    journal: JournalFigures | None
    """Null where nothing is journaled."""
    sessions: list[Session]
    sinks: list[SinkState]
    """What follows the journal, such as the database `store`, and how far each has come."""


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the ring; `number` counts up from 1 since the start."""

    number: int
    level: LogLevel
    source: str
    msg: str
    datetime: datetime


class LogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines: at least `level`, from `source`, with `contains` in the text (any case), not before `start`."""

    level: LogLevel = LogLevel.DEBUG
    source: str | None = None
    contains: str | None = None
    start: datetime | None = None

    def admits(self, line: LogLine) -> bool:
        """Whether `line` is among those asked for."""
        return (
            _SEVERITY[line.level] >= _SEVERITY[self.level]
            and self.source in (None, line.source)
            and (self.contains is None or self.contains.casefold() in line.msg.casefold())
            and (self.start is None or line.datetime >= self.start)
        )


class SystemService:
    """Loop thread only. `sessions` gives objects with the attributes of `Session`; `components` takes more parts.

    `sinks` gives the state of each sink at this moment; a part of the sink's name shows how it is.
    """

    def __init__(
        self,
        engine: TradingEngine,
        view: ReadView,
        clock: Clock,
        *,
        sessions: Callable[[], Iterable[object]] = tuple,
        sinks: Callable[[], Iterable[SinkState]] = tuple,
        components: Components | None = None,
    ) -> None:
        self._engine = engine
        self._view = view
        self._clock = clock
        self._session_objects = sessions
        self._sinks = sinks
        self._started_at = clock.now()
        self._started = clock.monotonic()
        self._lines: deque[LogLine] = deque(maxlen=LOG_LINES)
        self._line_count = 0
        self.components = components or Components()
        self.components.add("event_thread", self._event_thread, critical=True)

    def keep_log(self, message: Message) -> None:
        """Keep a log line, without the secrets that gateways write into theirs; a bus subscriber for `LOG_TOPICS`."""
        event = message.data
        if isinstance(event, Log):
            self._line_count += 1
            self._lines.append(
                LogLine(
                    number=self._line_count,
                    level=event.level,
                    source=event.source,
                    msg=redact(event.msg),
                    datetime=event.datetime,
                )
            )

    def readiness(self) -> Readiness:
        """Whether requests can be served. A gateway or app that is down degrades only: reading goes on."""
        parts = self._parts()
        return Readiness(_overall(parts), {part.name: part.state for part in parts})

    def status(self) -> SystemStatus:
        """Everything at a glance."""
        engine = self._engine.status()
        parts = self._parts()
        return SystemStatus(
            version=__version__,
            started_at=self._started_at,
            uptime_s=round(self._clock.monotonic() - self._started, 3),
            status=_overall(parts),
            components=parts,
            event_thread=_event_thread(engine),
            apps=engine.apps,
            journal=_journal_figures(engine),
            sessions=self.sessions(),
            sinks=self.sinks(),
        )

    def logs(self, wanted: LogFilter, before: int | None, limit: int) -> list[LogLine]:
        """The newest `limit` lines that fit, newest first; with `before` only those numbered lower."""
        found: list[LogLine] = []
        for line in reversed(self._lines):
            if (before is None or line.number < before) and wanted.admits(line):
                found.append(line)
                if len(found) == limit:
                    break
        return found

    def engine_status(self) -> EngineStatus:
        """The event thread's figures."""
        return self._engine.status()

    def sessions(self) -> list[Session]:
        """The WebSocket clients of the moment."""
        return [msgspec.convert(session, Session, from_attributes=True) for session in self._session_objects()]

    def sinks(self) -> list[SinkState]:
        """What follows the journal, and how far it has come."""
        return list(self._sinks())

    def orders_by_status(self) -> dict[str, int]:
        """How many orders the view holds in each status."""
        counts: dict[str, int] = dict.fromkeys(Status, 0)
        for order in self._view.orders():
            counts[order.status] += 1
        return counts

    def gateways_connected(self) -> dict[str, bool]:
        """Which gateways are connected."""
        return {gateway.gateway_name: gateway.connected for gateway in self._engine.gateways()}

    def _parts(self) -> list[Component]:
        return [*self.components.look(), *self._journal(), *self._following(), *self._gateways(), *self._apps()]

    def _event_thread(self) -> tuple[ComponentState, str]:
        status = self._engine.status()
        if status.alive:
            return ComponentState.OK, ""
        return ComponentState.DOWN, f"no answer for {status.lag_ms:.0f} ms, {status.queue_length} events wait"

    def _journal(self) -> list[Component]:
        status = self._engine.status()
        if status.journal is None:
            return []
        state, detail = _journal_state(status)
        return [Component(name="journal", state=state, detail=detail, critical=True)]

    def _following(self) -> list[Component]:
        return [
            Component(
                name=sink.name,
                state=ComponentState.DEGRADED if sink.error else ComponentState.OK,
                detail=f"{sink.lag} rows behind: {sink.error}" if sink.error else "",
                critical=False,
            )
            for sink in self._sinks()
        ]

    def _gateways(self) -> list[Component]:
        return [
            Component(
                name=f"gateway.{gateway.gateway_name}",
                state=ComponentState.OK if gateway.connected else ComponentState.DEGRADED,
                detail="" if gateway.connected else gateway.message or gateway.state.lower(),
                critical=False,
            )
            for gateway in self._engine.gateways()
        ]

    def _apps(self) -> list[Component]:
        return [
            Component(
                name=f"app.{name}",
                state=ComponentState.OK if state == "loaded" else ComponentState.DEGRADED,
                detail="" if state == "loaded" else state,
                critical=False,
            )
            for name, state in self._engine.status().apps.items()
        ]


def _component(name: str, check: Check, critical: bool) -> Component:
    state, detail = check()
    return Component(name=name, state=state, detail=detail, critical=critical)


def _overall(parts: list[Component]) -> ComponentState:
    if any(part.critical and part.state is ComponentState.DOWN for part in parts):
        return ComponentState.DOWN
    if any(part.state is not ComponentState.OK for part in parts):
        return ComponentState.DEGRADED
    return ComponentState.OK


def _journal_state(status: EngineStatus) -> tuple[ComponentState, str]:
    if status.journal_refusal:
        return ComponentState.DOWN, status.journal_refusal
    if status.journal_waiting:
        return ComponentState.DEGRADED, f"{status.journal_waiting} events are not durable yet"
    if status.journal is not None and not status.journal.reserve:
        return ComponentState.DEGRADED, "no disk space is held back for the case that the disk is full"
    return ComponentState.OK, ""


def _journal_figures(status: EngineStatus) -> JournalFigures | None:
    if status.journal is None:
        return None
    return JournalFigures(
        epoch=status.journal.epoch,
        first_seq=status.journal.first_seq,
        last_seq=status.journal.last_seq,
        size_bytes=status.journal.size_bytes,
        reserve=status.journal.reserve,
        waiting=status.journal_waiting,
        refusal=status.journal_refusal,
    )


def _event_thread(status: EngineStatus) -> EventThread:
    return EventThread(
        alive=status.alive,
        queue_length=status.queue_length,
        lag_ms=status.lag_ms,
        events_handled=status.events_handled,
        handler_errors=status.handler_errors,
        slow_events=status.slow_events,
        ticks_conflated=status.ticks_conflated,
        bridge_backlog=status.bridge_backlog,
    )
