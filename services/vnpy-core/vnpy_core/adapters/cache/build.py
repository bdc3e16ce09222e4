"""The cache that the settings ask for."""

from __future__ import annotations

from vnpy_core.adapters.cache.memory import MemoryCache
from vnpy_core.adapters.cache.settings import CacheSettings
from vnpy_core.kit.redis import RedisSettings
from vnpy_core.ports.cache import Cache
from vnpy_core.ports.clock import Clock


def build_cache(settings: CacheSettings, redis: RedisSettings, node: str, clock: Clock) -> Cache:
    """Make the cache of core `node`, not yet opened; only what it needs is imported. ValueError for a wrong URL."""
    if settings.kind == "redis":
        from vnpy_core.adapters.cache.redis import RedisCache  # noqa: PLC0415

        return RedisCache(redis, node, settings)
    return MemoryCache(clock)
