"""The threads that ask the store: few, and with a bounded queue, so that a slow store cannot pile up requests.

They are daemons: the end of the process waits for no store that hangs, which writes nothing in halves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from vnpy_core.domain.errors import Overloaded
from vnpy_core.kit.tasks import Daemons

T = TypeVar("T")

THREADS = 4
WAITING = 64
"""Calls that may wait for a thread."""


class Workers:
    """Loop thread only."""

    def __init__(self, *, threads: int = THREADS, waiting: int = WAITING) -> None:
        self._pool = Daemons("data", threads)
        self._limit = threads + waiting
        self._calls = 0
        self._closed = False

    async def call(self, function: Callable[[], T]) -> T:
        """What `function` returns or raises. Raises Overloaded where it was not called: too many wait, or `close`."""
        if self._closed or self._calls >= self._limit:
            waiting = f"{self._calls} requests wait for the tick and bar store already"
            raise Overloaded("the service is ending" if self._closed else waiting)
        self._calls += 1
        call = asyncio.wrap_future(self._pool.submit(function))
        call.add_done_callback(self._done)
        return await call

    def close(self) -> None:
        """Take no more; what runs ends by itself, or with the process."""
        self._closed = True

    def _done(self, call: asyncio.Future[T]) -> None:
        self._calls -= 1
        if not call.cancelled():
            call.exception()  # whoever asked may be gone; the others have it raised
