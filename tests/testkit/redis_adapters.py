"""The adapters that reach Redis, for one node of its own each: channels know no databases."""

from __future__ import annotations

from itertools import count
from typing import Any

from pydantic import SecretStr

from testkit.redis import RedisServer
from vnpy_core.adapters.broker.redis import RedisBroker
from vnpy_core.adapters.broker.settings import BrokerSettings
from vnpy_core.adapters.cache.redis import RedisCache
from vnpy_core.adapters.cache.settings import CacheSettings
from vnpy_core.adapters.registry.redis import RedisRegistry
from vnpy_core.kit.redis import RedisSettings, connect

_nodes = count(1)


class RedisPlace:
    """An own database of a server, and an own node name; all that it made is closed by `close`."""

    def __init__(self, server: RedisServer, *, timeout_s: float = 2.0) -> None:
        self.server = server
        self.node = f"n{next(_nodes)}"
        self.url = server.url(database=server.fresh_database())
        self.settings = RedisSettings(url=SecretStr(self.url), timeout_s=timeout_s)
        self._patient = self.settings.model_copy(update={"timeout_s": 30.0})
        self.client: Any = connect(self._patient)
        """What a stranger would use."""
        self._made: list[Any] = [self.client]

    def broker(self, *, owner: str = "core-1", **settings: Any) -> RedisBroker:
        return self._keep(RedisBroker(self.settings, self.node, BrokerSettings(**settings), owner=owner))

    def cache(self, **settings: Any) -> RedisCache:
        return self._keep(RedisCache(self.settings, self.node, CacheSettings(**settings)))

    def reader(self) -> RedisBroker:
        """One that waits long for an answer."""
        return self._keep(RedisBroker(self._patient, self.node))

    def reading_cache(self) -> RedisCache:
        """One that waits long for an answer."""
        return self._keep(RedisCache(self._patient, self.node))

    def registry(self) -> RedisRegistry:
        return self._keep(RedisRegistry(self.settings))

    async def close(self) -> None:
        for made in self._made:
            await (made.aclose() if made is self.client else made.close())

    def _keep(self, made: Any) -> Any:
        self._made.append(made)
        return made
