"""The registry in Redis, whose time counts.

Keys, after `vnpy_core:registry:` — `node:<id>` an announcement, `nodes` their ids, `lease:<name>` who holds it.
"""

from __future__ import annotations

import msgspec

from vnpy_core.domain.errors import RegistryUnavailable
from vnpy_core.kit.redis import PREFIX, RedisSettings, close, connect, unavailable_as
from vnpy_core.ports.registry import Node

_NODES = """
-- KEYS: ids. ARGV: the announcements' prefix
local found = {}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local node = redis.call('GET', ARGV[1] .. id)
  if node then found[#found + 1] = node else redis.call('SREM', KEYS[1], id) end
end
return found
"""
_HOLD = """
-- KEYS: lease. ARGV: owner, milliseconds
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""
_nodes = msgspec.json.Decoder(Node)


class RedisRegistry:
    """Implements `ports.registry.Registry`."""

    def __init__(self, redis: RedisSettings) -> None:
        """Raises ValueError for a wrong URL."""
        self._client = connect(redis)
        self._prefix = f"{PREFIX}:registry:"
        self._ids = f"{self._prefix}nodes"
        self._nodes = self._client.register_script(_NODES)
        self._hold = self._client.register_script(_HOLD)
        self._release = self._client.register_script(_RELEASE)

    async def open(self) -> None:
        """See whether the server answers."""
        with unavailable_as(RegistryUnavailable):
            await self._client.ping()

    async def close(self) -> None:
        """Close all connections."""
        await close(self._client)

    async def announce(self, node: Node, lease_s: float) -> None:
        """Write it, to expire by itself."""
        with unavailable_as(RegistryUnavailable):
            pipeline = self._client.pipeline(transaction=True)
            pipeline.set(f"{self._prefix}node:{node.id}", msgspec.json.encode(node), px=_milliseconds(lease_s))
            pipeline.sadd(self._ids, node.id)
            await pipeline.execute()

    async def withdraw(self, node_id: str) -> None:
        """Remove it."""
        with unavailable_as(RegistryUnavailable):
            pipeline = self._client.pipeline(transaction=True)
            pipeline.unlink(f"{self._prefix}node:{node_id}")
            pipeline.srem(self._ids, node_id)
            await pipeline.execute()

    async def nodes(self) -> list[Node]:
        """Those that have not expired. What another version announced and this one cannot read is left out."""
        with unavailable_as(RegistryUnavailable):
            found = await self._nodes(keys=[self._ids], args=[f"{self._prefix}node:"])
        nodes = []
        for announcement in found:
            try:
                nodes.append(_nodes.decode(announcement))
            except msgspec.DecodeError:
                continue
        return sorted(nodes, key=lambda node: (node.role, node.node, node.id))

    async def hold(self, name: str, owner: str, lease_s: float) -> str:
        """One script, so that one of many is the first."""
        with unavailable_as(RegistryUnavailable):
            args: list[str | int] = [owner, _milliseconds(lease_s)]
            holder: bytes = await self._hold(keys=[f"{self._prefix}lease:{name}"], args=args)
        return holder.decode()

    async def release(self, name: str, owner: str) -> None:
        """One script, so that another's stays."""
        with unavailable_as(RegistryUnavailable):
            await self._release(keys=[f"{self._prefix}lease:{name}"], args=[owner])


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
