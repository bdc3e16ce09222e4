"""The cache in Redis: a hash for each kind, and the mark.

Keys, after `vnpy_core:<node>:` — `cache:<kind>` the hashes (field = key), `cache:mark` the mark, `cache:kinds` the
kinds there are, `once:<name>` what was said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from vnpy_core.adapters.cache.settings import CacheSettings
from vnpy_core.domain.errors import CacheUnavailable
from vnpy_core.kit.redis import PREFIX, RedisSettings, close, connect, unavailable_as
from vnpy_core.ports.cache import CacheMark

_CLEAR = """
-- KEYS: mark, kinds. ARGV: the hashes' prefix
for _, kind in ipairs(redis.call('SMEMBERS', KEYS[2])) do redis.call('UNLINK', ARGV[1] .. kind) end
redis.call('UNLINK', KEYS[1], KEYS[2])
"""
_MARK = """
-- KEYS: mark. ARGV: the new one, milliseconds, the one that must be there ('': any). Returns the one that was there.
local found = redis.call('GET', KEYS[1])
if ARGV[3] == '' or found == ARGV[3] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
return found
"""
"""A cache that is not as it was left gets no mark: readers would take what is left of it for all there is."""
_marks = msgspec.json.Decoder(CacheMark)


class RedisCache:
    """Implements `ports.cache.Cache`. A put without changes keeps all kinds of this process from expiring."""

    def __init__(self, redis: RedisSettings, node: str, settings: CacheSettings | None = None) -> None:
        """`node`: the core's name. Raises ValueError for a wrong URL."""
        self._client = connect(redis)
        self._expire_ms = int((settings or CacheSettings()).expire_hours * 3_600_000)
        self._prefix = f"{PREFIX}:{node}:cache:"
        self._mark_key = f"{self._prefix}mark"
        self._kinds_key = f"{self._prefix}kinds"
        self._once = f"{PREFIX}:{node}:once:"
        self._clear = self._client.register_script(_CLEAR)
        self._kinds: set[str] = set()
        self._left: bytes | None = None
        """The mark as this process put it last; None where that is not known."""

    async def open(self) -> None:
        """See whether the server answers."""
        with unavailable_as(CacheUnavailable):
            await self._client.ping()

    async def close(self) -> None:
        """Close all connections."""
        await close(self._client)

    async def put(self, changes: Mapping[str, Mapping[str, bytes | None]], mark: CacheMark) -> None:
        """One transaction, one round trip."""
        self._kinds.update(changes)
        left, self._left = self._left, None
        encoded = msgspec.json.encode(mark)
        with unavailable_as(CacheUnavailable):
            pipeline = self._client.pipeline(transaction=True)
            for kind, values in changes.items():
                name = self._prefix + kind
                if held := [part for key, value in values.items() if value is not None for part in (key, value)]:
                    pipeline.hset(name, items=held)
                if removed := [key for key, value in values.items() if value is None]:
                    pipeline.hdel(name, *removed)
            if changes:
                pipeline.sadd(self._kinds_key, *changes)
            for kind in changes or self._kinds:
                pipeline.pexpire(self._prefix + kind, self._expire_ms)
            pipeline.pexpire(self._kinds_key, self._expire_ms)
            pipeline.eval(_MARK, 1, self._mark_key, encoded, self._expire_ms, left or b"")
            *_, found = await pipeline.execute()
        if left is not None and found != left:
            raise CacheUnavailable("Redis: the cache is not as it was left: it was lost, or another core writes it")
        self._left = encoded

    async def clear(self) -> None:
        """Remove the kinds that were ever put, and the mark."""
        self._left = None
        with unavailable_as(CacheUnavailable):
            await self._clear(keys=[self._mark_key, self._kinds_key], args=[self._prefix])

    async def load(self, kinds: Sequence[str]) -> tuple[CacheMark | None, dict[str, dict[str, bytes]]]:
        """All as of one moment."""
        with unavailable_as(CacheUnavailable):
            pipeline = self._client.pipeline(transaction=True)
            pipeline.get(self._mark_key)
            for kind in kinds:
                pipeline.hgetall(self._prefix + kind)
            mark, *found = await pipeline.execute()
        held = {
            kind: {key.decode(): value for key, value in values.items()}
            for kind, values in zip(kinds, found, strict=True)
        }
        return _marks.decode(mark) if mark else None, held

    async def get(self, kind: str, key: str) -> bytes | None:
        """One envelope."""
        with unavailable_as(CacheUnavailable):
            value: Any = await self._client.hget(self._prefix + kind, key)
        return cast(bytes | None, value)

    async def once(self, name: str, seconds: float) -> bool:
        """By SET NX PX, so that one of many processes is the first."""
        with unavailable_as(CacheUnavailable):
            return bool(await self._client.set(self._once + name, b"1", nx=True, px=max(1, int(seconds * 1000))))
