"""The registry of one process: it lists itself."""

from __future__ import annotations

from vnpy_core.ports.clock import Clock
from vnpy_core.ports.registry import Node


class MemoryRegistry:
    """Implements `ports.registry.Registry`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._nodes: dict[str, tuple[float, Node]] = {}
        self._leases: dict[str, tuple[float, str]] = {}

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nothing to close."""

    async def announce(self, node: Node, lease_s: float) -> None:
        """List it."""
        self._nodes[node.id] = (self._clock.monotonic() + lease_s, node)

    async def withdraw(self, node_id: str) -> None:
        """Forget it."""
        self._nodes.pop(node_id, None)

    async def nodes(self) -> list[Node]:
        """Those whose lease runs."""
        now = self._clock.monotonic()
        self._nodes = {name: listed for name, listed in self._nodes.items() if listed[0] > now}
        return sorted((node for _, node in self._nodes.values()), key=lambda node: (node.role, node.node, node.id))

    async def hold(self, name: str, owner: str, lease_s: float) -> str:
        """Take it where it is free or one's own."""
        now = self._clock.monotonic()
        until, holder = self._leases.get(name, (now, owner))
        if holder != owner and until > now:
            return holder
        self._leases[name] = (now + lease_s, owner)
        return owner

    async def release(self, name: str, owner: str) -> None:
        """Give it back."""
        if name in self._leases and self._leases[name][1] == owner:
            del self._leases[name]
