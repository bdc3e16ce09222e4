"""The message bus that the settings ask for."""

from __future__ import annotations

from vnpy_core.adapters.broker.memory import MemoryBroker
from vnpy_core.adapters.broker.settings import LEAST, BrokerSettings
from vnpy_core.kit.redis import RedisSettings
from vnpy_core.ports.broker import Broker


def build_broker(settings: BrokerSettings, redis: RedisSettings, node: str, *, owner: str = "") -> Broker:
    """Make the broker of core `node`, not yet opened; only what it needs is imported.

    `owner` tells one core from another of the same name: it is its data folder's. Raises ValueError for a wrong URL.
    """
    if settings.kind == "redis":
        from vnpy_core.adapters.broker.redis import RedisBroker  # noqa: PLC0415

        return RedisBroker(redis, node, settings, owner=owner)
    # Nobody outside reads it: as many as clients may resume from are enough.
    return MemoryBroker(min(settings.length, LEAST))
