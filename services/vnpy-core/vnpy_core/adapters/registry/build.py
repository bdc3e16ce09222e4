"""The registry that the settings ask for."""

from __future__ import annotations

from vnpy_core.adapters.registry.memory import MemoryRegistry
from vnpy_core.adapters.registry.settings import RegistrySettings
from vnpy_core.kit.redis import RedisSettings
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.registry import Registry


def build_registry(settings: RegistrySettings, redis: RedisSettings, clock: Clock) -> Registry:
    """Make the registry, not yet opened; only what it needs is imported. Raises ValueError for a wrong URL."""
    if settings.kind == "redis":
        from vnpy_core.adapters.registry.redis import RedisRegistry  # noqa: PLC0415

        return RedisRegistry(redis)
    return MemoryRegistry(clock)
