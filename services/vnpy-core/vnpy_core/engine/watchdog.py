"""A ping through the event queue finds an event thread that is dead, stuck or far behind."""

from __future__ import annotations

import asyncio
import sys
import traceback
from types import FrameType

import structlog
from vnpy.event import Event

from vnpy_core.engine.event_engine import EventGuard
from vnpy_core.ports.clock import Clock

EVENT_PING = "eCorePing"
INTERVAL_S = 1.0

_log = structlog.get_logger(__name__)


class Watchdog:
    """Loop thread, but for the ping's own handler."""

    def __init__(self, guard: EventGuard, clock: Clock, *, limit_s: float, interval_s: float = INTERVAL_S) -> None:
        self._guard = guard
        self._clock = clock
        self._limit_s = limit_s
        self._interval_s = interval_s
        self._sent: float | None = None
        self._last_lag_s = 0.0
        self._stuck = False
        self._task: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether the event thread runs and the ping under way is within the limit."""
        return self._guard.thread_alive and self.lag_s < self._limit_s

    @property
    def lag_s(self) -> float:
        """How long the last ping took through the queue; while one is under way and slower, how long it has taken."""
        sent = self._sent
        return self._last_lag_s if sent is None else max(self._last_lag_s, self._clock.monotonic() - sent)

    def start(self) -> None:
        """Begin to ping."""
        self._guard.engine.register(EVENT_PING, self._on_ping)
        self._task = asyncio.create_task(self._run(), name="watchdog")

    async def stop(self) -> None:
        """Stop pinging."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._guard.engine.unregister(EVENT_PING, self._on_ping)
            self._task = None

    async def _run(self) -> None:
        while True:
            if self._sent is None:
                self._sent = self._clock.monotonic()
                self._guard.engine.put(Event(EVENT_PING, self._sent))
            await asyncio.sleep(self._interval_s)
            self._tell()

    def _on_ping(self, event: Event) -> None:
        self._last_lag_s = self._clock.monotonic() - event.data
        self._sent = None

    def _tell(self) -> None:
        if self.alive:
            if self._stuck:
                _log.warning("the event thread answers again", lag_s=round(self.lag_s, 1))
            self._stuck = False
        elif not self._stuck:
            self._stuck = True
            _log.critical(
                "the event thread does not answer",
                running=self._guard.thread_alive,
                lag_s=round(self.lag_s, 1),
                waiting=self._guard.queue_length,
                stack=self._stack(),
            )

    def _stack(self) -> str:
        frame: FrameType | None = sys._current_frames().get(self._guard.engine._thread.ident or 0)
        return "".join(traceback.format_stack(frame)[-6:]) if frame else ""
