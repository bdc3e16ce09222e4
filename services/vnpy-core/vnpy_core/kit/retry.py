"""Trying again: how long to wait, and how to wait so that somebody can end it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

Wait = Callable[[asyncio.Event, float], Awaitable[None]]
"""Until the event is set, so many seconds at most."""


async def wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Until `event` is set, `seconds` at most."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


class Backoff:
    """Pauses that double from one failure to the next, spread so that many do not come back at one moment."""

    def __init__(self, first_s: float, longest_s: float, jitter: Callable[[], float]) -> None:
        """`jitter`: 0 to 1."""
        self._first_s = first_s
        self._longest_s = longest_s
        self._jitter = jitter
        self.failures = 0

    def failed(self) -> None:
        """Once more."""
        self.failures += 1

    def succeeded(self) -> None:
        """The next pause is a short one again."""
        self.failures = 0

    def pause(self) -> float:
        """How long to wait now, seconds: half of it to all of it."""
        pause: float = min(self._longest_s, self._first_s * 2.0 ** min(max(0, self.failures - 1), 20))
        return pause * (0.5 + self._jitter() / 2)
