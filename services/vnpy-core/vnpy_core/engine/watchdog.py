"""Finds an event thread that is dead, stuck or far behind, and brings one that hangs in a callback to an end.

A ping through the event queue measures how far behind the thread is. A callback that does not return is another
matter: then nothing trades, nothing is cancelled and no fill is seen. Decision 0012 says what is done about it and why.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

import structlog
from vnpy.event import Event
from vnpy_ctastrategy import CtaTemplate

from vnpy_core.engine.event_engine import EventGuard
from vnpy_core.engine.interrupt import Callbacks
from vnpy_core.engine.last_resort import LastResort
from vnpy_core.kit.tasks import in_own_thread
from vnpy_core.ports.clock import Clock

EVENT_PING = "eCorePing"
INTERVAL_S = 1.0
"""Between two looks, seconds; a quarter of the limit where that is shorter."""
PATIENCE_S = 5.0
"""How long an interrupt may take to work before the process ends, seconds; the limit where that is shorter."""
WRITE_PATIENCE_S = 2.0
EXIT_CODE = 70
"""What the process ends with when its event thread cannot be brought back (EX_SOFTWARE)."""
_STACK_DEPTH = 12

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Hang:
    """A callback that does not return."""

    callback: str
    """The qualified name of what VnPy's event thread called last."""
    strategy_name: str | None
    """The strategy whose code was on the stack."""
    stack: str

    @property
    def culprit(self) -> str:
        """The name under which it is held: the strategy's, else the callback's."""
        return self.strategy_name or self.callback


class Watchdog:
    """Loop thread only, but for the ping's own handler; the event thread is watched, never waited for."""

    def __init__(
        self,
        guard: EventGuard,
        clock: Clock,
        *,
        limit_s: float,
        interval_s: float | None = None,
        patience_s: float | None = None,
        callbacks: Callbacks | None = None,
        on_hang: Callable[[Hang], None] = lambda hang: None,
        quarantine: Callable[[Hang, str], None] = lambda hang, reason: None,
        exit_process: Callable[[int], None] | None = None,
        last_resort: LastResort | None = None,
    ) -> None:
        """Nothing is watched before `start`.

        `callbacks` is what the event thread runs its handlers in; without it only the ping is watched. `on_hang` halts
        trading and begins to cancel; on the loop, must not wait. `quarantine` writes a culprit and the reason down; it
        runs in a thread of its own. `exit_process` ends the process at once, without cleaning up: None in a process
        that is not ours. `last_resort` is put off as long as the loop runs.
        """
        self._guard = guard
        self._clock = clock
        self._limit_s = limit_s
        self._interval_s = min(INTERVAL_S, limit_s / 4) if interval_s is None else interval_s
        self._patience_s = min(PATIENCE_S, limit_s) if patience_s is None else patience_s
        self._callbacks = callbacks
        self._on_hang = on_hang
        self._quarantine = quarantine
        self._exit_process = exit_process
        self._last_resort = last_resort
        self._sent: float | None = None
        self._last_lag_s = 0.0
        self._silent = False
        self._looked = clock.monotonic()
        self._step = -1
        self._still_s = 0.0
        self._hang: Hang | None = None
        self._given_up = False
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
        """Begin to watch."""
        self._guard.engine.register(EVENT_PING, self._on_ping)
        self._looked = self._clock.monotonic()
        self._task = asyncio.create_task(self._run(), name="watchdog")

    async def stop(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._guard.engine.unregister(EVENT_PING, self._on_ping)
            self._task = None
        if self._last_resort is not None:
            self._last_resort.close()

    async def _run(self) -> None:
        while True:
            if self._last_resort is not None:
                self._last_resort.put_off()
            if self._sent is None:
                self._sent = self._clock.monotonic()
                self._guard.engine.put(Event(EVENT_PING, self._sent))
            await asyncio.sleep(self._interval_s)
            self._tell()
            try:
                if self._callbacks is not None:
                    await self._look(self._callbacks)
            except Exception:  # noqa: BLE001 - a guarded door: the last one that watches must not fall asleep
                _log.exception("the watchdog failed at a look; it goes on")

    def _on_ping(self, event: Event) -> None:
        self._last_lag_s = self._clock.monotonic() - event.data
        self._sent = None

    def _tell(self) -> None:
        if self.alive:
            if self._silent:
                _log.warning("the event thread answers again", lag_s=round(self.lag_s, 1))
            self._silent = False
        elif not self._silent:
            self._silent = True
            _log.critical(
                "the event thread does not answer",
                running=self._guard.thread_alive,
                lag_s=round(self.lag_s, 1),
                waiting=self._guard.queue_length,
                stack=self._stack(),
            )

    async def _look(self, callbacks: Callbacks) -> None:
        """Whether the thread has taken a step since the last look, and what follows where it has not for too long."""
        now, step = self._clock.monotonic(), callbacks.steps
        # Time that we did not see pass either is nobody's fault: a suspended machine, a process that was stopped.
        seen_s = min(now - self._looked, 2 * self._interval_s)
        self._looked = now
        if step != self._step:
            self._step, self._still_s, self._hang = step, 0.0, None
            return
        self._still_s += seen_s
        if self._still_s < self._limit_s or self._given_up:
            return
        if self._hang is None:
            self._hang = self._describe(callbacks)
            await self._respond(self._hang, callbacks, step)
        elif self._still_s < self._limit_s + self._patience_s:
            self._interrupt(callbacks, step)
        else:
            await self._give_up(self._hang)

    async def _respond(self, hang: Hang, callbacks: Callbacks, step: int) -> None:
        """Halt first: what is freed by the interrupt must not send; write down last, it may take as long as a disk."""
        _log.critical(
            "a callback does not return; trading is halted",
            callback=hang.callback,
            strategy_name=hang.strategy_name,
            since_s=round(self._still_s, 1),
            stack=hang.stack,
        )
        try:
            self._on_hang(hang)
        finally:
            self._interrupt(callbacks, step)
            if hang.strategy_name is not None:
                await self._hold(hang, f"a callback did not return within {self._limit_s:g} s")

    def _interrupt(self, callbacks: Callbacks, step: int) -> None:
        # Between callbacks there is nothing to interrupt, and the exception would end the thread.
        if callbacks.current is not None:
            callbacks.interrupt(self._guard.engine._thread.ident or 0, step)

    async def _give_up(self, hang: Hang) -> None:
        self._given_up = True
        ending = self._exit_process is not None
        _log.critical(
            "the event thread cannot be brought back" + ("; this process ends" if ending else ""),
            callback=hang.callback,
            strategy_name=hang.strategy_name,
            since_s=round(self._still_s, 1),
        )
        try:
            await self._hold(hang, "a callback did not return and could not be interrupted")
        finally:
            if self._exit_process is not None:
                self._exit_process(EXIT_CODE)

    async def _hold(self, hang: Hang, reason: str) -> None:
        write = in_own_thread(partial(self._quarantine, hang, reason))
        try:
            await asyncio.wait_for(write, WRITE_PATIENCE_S)
        except Exception:  # noqa: BLE001 - a guarded door: a full or dead disk must not keep a hung process alive
            _log.exception("the quarantine could not be written", culprit=hang.culprit)

    def _describe(self, callbacks: Callbacks) -> Hang:
        return Hang(callback=_name(callbacks.current), strategy_name=_strategy_on(self._frame()), stack=self._stack())

    def _frame(self) -> FrameType | None:
        # A garbage collection inside the call can deadlock all threads (python/cpython#106883, before 3.11.9).
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames().get(self._guard.engine._thread.ident or 0)
        finally:
            if was_enabled:
                gc.enable()

    def _stack(self) -> str:
        frame = self._frame()
        return "".join(traceback.format_stack(frame)[-_STACK_DEPTH:]) if frame else ""


def _strategy_on(frame: FrameType | None) -> str | None:
    """The name of the strategy in whose method a thread is, at whatever depth; the innermost where there are several.

    By the type of `self`: a strategy's instance never runs code that is not its own.
    """
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, CtaTemplate) and hasattr(owner, "strategy_name"):
            return str(owner.strategy_name)
        frame = frame.f_back
    return None


def _name(callback: Callable[[Any], Any] | None) -> str:
    if callback is None:
        return "none: the event thread is between callbacks"
    named = callback.func if isinstance(callback, partial) else callback
    return f"{getattr(named, '__module__', '?')}.{getattr(named, '__qualname__', repr(named))}"
