"""The door in: from the asyncio loop to VnPy's event thread, with a deadline and a typed outcome."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Generic, TypeVar

from vnpy.event import Event, EventEngine

from vnpy_core.domain.errors import OutcomeUnknown, Overloaded, describe

EVENT_COMMAND = "eCoreCommand"

T = TypeVar("T")


class _State(Enum):
    WAITING = auto()
    STARTED = auto()
    ABANDONED = auto()


class _Command(Generic[T]):
    """One function on its way to the event thread; exactly one side moves it out of WAITING."""

    def __init__(self, function: Callable[[], T], loop: asyncio.AbstractEventLoop) -> None:
        self.outcome: asyncio.Future[T] = loop.create_future()
        self._function = function
        self._loop = loop
        self._state = _State.WAITING
        self._lock = threading.Lock()

    def claim(self, state: _State) -> bool:
        """Leave WAITING for `state`; False when the other side was first."""
        with self._lock:
            if self._state is not _State.WAITING:
                return False
            self._state = state
            return True

    def execute(self) -> None:
        """Run it and hand the outcome to the loop. Event thread."""
        if not self.claim(_State.STARTED):
            return
        try:
            result = self._function()
        except BaseException as error:  # noqa: BLE001 - a guarded door: the caller gets what VnPy's code raised
            self._hand_over(self._fail, error)
        else:
            self._hand_over(self._succeed, result)

    def _hand_over(self, setter: Callable[[Any], None], value: object) -> None:
        # A loop that closed meanwhile has nobody left who waits.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(setter, value)

    def _succeed(self, result: T) -> None:
        if not self.outcome.done():
            self.outcome.set_result(result)

    def _fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            known = isinstance(error, Exception)
            self.outcome.set_exception(error if known else RuntimeError(describe(error)))


class CommandDoor:
    """Runs functions on the event thread in the order in which `run` was called."""

    def __init__(self, event_engine: EventEngine, loop: asyncio.AbstractEventLoop, *, deadline_s: float) -> None:
        self._event_engine = event_engine
        self._loop = loop
        self._deadline_s = deadline_s

    def open(self) -> None:
        """Begin to execute. Any thread."""
        self._event_engine.register(EVENT_COMMAND, self._execute)

    def close(self) -> None:
        """Stop executing; commands that wait are never run. Any thread."""
        self._event_engine.unregister(EVENT_COMMAND, self._execute)

    async def run(self, function: Callable[[], T], *, deadline_s: float | None = None) -> T:
        """Run `function` on the event thread and return its result or raise its error.

        Raises Overloaded when it was not started within the deadline (it never will be) and OutcomeUnknown when it was
        started but did not return. A cancelled caller abandons a command that has not started.
        """
        deadline = self._deadline_s if deadline_s is None else deadline_s
        command: _Command[T] = _Command(function, self._loop)
        self._event_engine.put(Event(EVENT_COMMAND, command))
        try:
            return await asyncio.wait_for(asyncio.shield(command.outcome), deadline)
        except TimeoutError:
            if command.claim(_State.ABANDONED):
                raise Overloaded(f"the event thread did not start the command within {deadline:g} s") from None
            raise OutcomeUnknown(f"the command was started but did not return within {deadline:g} s") from None
        finally:
            command.claim(_State.ABANDONED)
            if not command.outcome.done():
                command.outcome.cancel()

    def _execute(self, event: Event) -> None:
        event.data.execute()
