"""The implementation of `ports.flow.Flow`."""

import threading
from collections.abc import Callable
from contextlib import ExitStack


class CreditFlow:
    """Open while nobody holds it. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: set[str] = set()
        self._waiting: list[Callable[[], None]] = []

    @property
    def open(self) -> bool:
        """Whether no consumer is behind."""
        return not self._holders

    def hold(self, consumer: str) -> None:
        """`consumer` is behind."""
        with self._lock:
            self._holders.add(consumer)

    def release(self, consumer: str) -> None:
        """`consumer` caught up; the last one resumes those who wait. One that raises is heard after all have run."""
        with self._lock:
            self._holders.discard(consumer)
            if self._holders:
                return
            waiting, self._waiting = self._waiting, []
        with ExitStack() as calls:  # calls all, last in first out, and then raises what one of them raised
            for resume in reversed(waiting):
                calls.callback(resume)

    def when_open(self, resume: Callable[[], None]) -> None:
        """Call `resume` as soon as the flow is open, at once if it is."""
        with self._lock:
            if self._holders:
                self._waiting.append(resume)
                return
        resume()
