"""Which logins have ended: told by the core through the cache, for tokens that are valid for minutes yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

import msgspec
import structlog

from vnpy_core.domain.errors import CacheUnavailable, describe
from vnpy_core.kit.tasks import BackgroundTasks
from vnpy_core.ports.cache import Cache
from vnpy_core.ports.clock import Clock

KIND: Final = "ended_session"
"""In the cache: session id -> until when its tokens would be valid, as ISO text."""

_log = structlog.get_logger(__name__)


class EndedSessions:
    """Loop thread only. While the cache is away, or has lost what it had, those stay ended that were known to be."""

    def __init__(
        self,
        cache: Cache,
        clock: Clock,
        *,
        every_s: float,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """They are read every `every_s` seconds."""
        self.error = ""
        """Why they cannot be read; empty when they can."""
        self._cache = cache
        self._clock = clock
        self._every_s = every_s
        self._wait = wait
        self._ended: dict[str, datetime] = {}
        self._tasks = BackgroundTasks()

    def is_ended(self, session_id: str) -> bool:
        """Whether this login has ended."""
        return session_id in self._ended

    def start(self) -> None:
        """Begin to read them."""
        self._tasks.spawn(self._run(), "ended logins")

    async def close(self) -> None:
        """Stop."""
        await self._tasks.cancel()

    async def load(self) -> None:
        """Once. Raises CacheUnavailable."""
        _, kinds = await self._cache.load([KIND])
        now = self._clock.now()
        told = {sid: until for sid, value in kinds.get(KIND, {}).items() if (until := _time(value)) is not None}
        self._ended = {sid: until for sid, until in (self._ended | told).items() if until > now}

    async def _run(self) -> None:
        while True:
            try:
                await self._cache.open()
                await self.load()
                self.error = ""
            except CacheUnavailable as error:
                self.error = describe(error)
            except Exception as error:  # noqa: BLE001 - a guarded door: a logout must take effect whatever came before
                self.error = describe(error)
                _log.exception("the ended logins cannot be read")
            await self._wait(self._every_s)


def _time(value: bytes) -> datetime | None:
    """None for what is no time: nothing is known of it."""
    try:
        return msgspec.convert(value.decode().strip('"'), datetime)
    except (msgspec.ValidationError, UnicodeDecodeError):
        return None
