"""Background work of one owner: named, logged when it fails, cancelled together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

import structlog

T = TypeVar("T")

AGAIN_S = 0.2
"""After so many seconds a task that still runs is cancelled again."""

_log = structlog.get_logger(__name__)


async def in_own_thread(function: Callable[[], T]) -> T:
    """`asyncio.to_thread` for foreign code that may never return: it must not keep the process from ending.

    asyncio and the interpreter wait at their end for the threads of the default executor, for daemons they do not.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 - a guarded door: the caller gets what foreign code raised
            outcome.set_exception(error)

    threading.Thread(target=run, name=f"own-{getattr(function, '__name__', 'call')}", daemon=True).start()
    return await asyncio.wrap_future(outcome)


async def together(*work: Awaitable[None]) -> None:
    """All of it at once; raises what one of them raised, after all have ended."""
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


class Daemons:
    """What of an executor's `submit` is used, for calls that may never return: a few threads, by default one.

    They begin as they are needed and end with the process, which does not wait for them.
    """

    def __init__(self, name: str, threads: int = 1) -> None:
        self._name = name
        self._most = threads
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._threads = 0
        self._lock = threading.Lock()

    def submit(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Call `function(*args)` behind what was submitted before. Any thread."""
        outcome: Future[T] = Future()

        def call() -> None:
            if outcome.set_running_or_notify_cancel():
                try:
                    outcome.set_result(function(*args))
                except BaseException as error:  # noqa: BLE001 - a guarded door: the caller gets what foreign code raised
                    outcome.set_exception(error)

        self._calls.put(call)
        with self._lock:
            if self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._run, name=f"{self._name}-{self._threads}", daemon=True).start()
        return outcome

    def _run(self) -> None:
        while True:
            self._calls.get()()


class BackgroundTasks:
    """Loop thread only. Holds its tasks, which asyncio itself would not."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` by itself; what it raises is logged."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    async def cancel(self) -> None:
        """Cancel all, also what they spawn while they end, and wait until they have ended.

        One that goes on is cancelled again: libraries that wait with a time limit lose a cancellation that comes at the
        moment of their answer.
        """
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=AGAIN_S)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("background work failed", task=task.get_name(), exc_info=error)
