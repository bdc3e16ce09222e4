"""Ending one call on the event thread from another thread, and never any other call.

Python can raise an exception in a thread (`PyThreadState_SetAsyncExc`), but says only which thread, not what of it: by
the time it is raised the thread may run something else. So the event thread numbers its steps, each begin and each end
of a callback, and who interrupts names the step. No lock is taken where nobody interrupts.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, TypeVar

A = TypeVar("A")
R = TypeVar("R")

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
_set_async_exc.restype = ctypes.c_int
_NOTHING = ctypes.py_object()


class CallbackInterrupted(BaseException):
    """Raised in a callback that did not return. No Exception: a strategy's own `except Exception` must not keep it."""

    def __str__(self) -> str:
        return "the callback did not return in time and was ended"


class Callbacks:
    """What one thread is calling. `run` is that thread's; `interrupt` and the properties are anybody's."""

    def __init__(self) -> None:
        self.current: Callable[[Any], Any] | None = None
        """The innermost callback that runs; None between callbacks."""
        self.steps = 0
        """Grows by one when a callback begins and when it ends: as long as it stands still, nothing was done."""
        self._aim: int | None = None
        self._lock = threading.Lock()

    def run(self, function: Callable[[A], R], argument: A) -> R:
        """`function(argument)`, interruptible; calls may lie within calls.

        Raises what the function raises, and CallbackInterrupted, which is never raised outside of `run`.
        """
        outer = self.current
        self.current = function
        try:
            self.steps += 1
            if self._aim is not None:
                self._withdraw()
            return function(argument)
        finally:
            # From this step on nobody aims at us any more; who did so just before is found by the question below.
            self.current = outer
            self.steps += 1
            if self._aim is not None:
                self._withdraw()

    def interrupt(self, thread_id: int, step: int) -> bool:
        """Raise CallbackInterrupted in the thread if it is still at `step`; False when it has gone on.

        Pure Python ends at once, code in C when it returns to Python, code that catches BaseException perhaps never.
        """
        with self._lock:
            # Aim first, then look: the other side steps first, then looks for an aim, so that one of both sees it.
            self._aim = step
            if self.steps != step:
                self._aim = None
                return False
            return bool(_set_async_exc(thread_id, CallbackInterrupted) == 1)

    def _withdraw(self) -> None:
        """Wait until who aimed at the last step is done, and take back what was not raised yet."""
        with self._lock:
            _set_async_exc(threading.get_ident(), _NOTHING)
            self._aim = None
