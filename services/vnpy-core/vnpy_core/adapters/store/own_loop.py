"""An event loop in a thread of its own, so that a database's driver never keeps the service's loop from answering."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class OwnLoop:
    """`run` may be called from any loop; `close` from the one that is left last."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def run(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run `work` there and wait for it. Raises TimeoutError after `timeout_s`, even if `work` does not end then."""
        loop = self._loop or self._start()
        future = asyncio.run_coroutine_threadsafe(work, loop)
        return await asyncio.wait_for(asyncio.wrap_future(future), timeout_s)

    async def close(self) -> None:
        """Cancel what still runs and end the thread."""
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_serve, args=(loop,), name=self._name, daemon=True)
        self._thread.start()
        return loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait(left, timeout=1) if left else asyncio.sleep(0))
    finally:
        loop.close()
