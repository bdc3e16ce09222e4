"""Who runs, where, and who trades which account."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec


class NodeRole(StrEnum):
    """What a process does."""

    CORE = "core"
    """It trades."""
    EDGE = "edge"
    """It serves what a core publishes."""


class NodeLoad(msgspec.Struct, frozen=True, kw_only=True):
    """How busy it is."""

    cpu: float = 0.0
    """Share of one processor since the last announcement, 0 to 1 and above."""
    memory_mb: float = 0.0
    sessions: int = 0
    """WebSocket clients."""
    events_per_s: float = 0.0
    """Messages published (core) or taken in (edge)."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One process as it announced itself. Times are UTC."""

    id: str
    """One of its own for each data folder (core) or process (edge)."""
    node: str
    """The core's name in Redis; an edge says whose it is."""
    role: NodeRole
    address: str
    """Where others reach it, `http://host:port`."""
    version: str
    pid: int
    epoch: str
    seq: int
    gateways: dict[str, bool] = {}
    """Name -> whether it is connected; of a core."""
    load: NodeLoad = NodeLoad()
    started_at: datetime
    seen_at: datetime


class Registry(Protocol):
    """Loop thread only. Every method raises RegistryUnavailable while the server is away or does not answer in time."""

    async def open(self) -> None:
        """Connect; again does nothing."""
        ...

    async def close(self) -> None:
        """Close all connections. Does not raise."""
        ...

    async def announce(self, node: Node, lease_s: float) -> None:
        """Be listed for `lease_s` seconds from now."""
        ...

    async def withdraw(self, node_id: str) -> None:
        """Be listed no longer."""
        ...

    async def nodes(self) -> list[Node]:
        """All that are listed now, by role, name and id."""
        ...

    async def hold(self, name: str, owner: str, lease_s: float) -> str:
        """Take a lease or renew one's own for `lease_s` seconds; returns who holds it: `owner`, or who was earlier."""
        ...

    async def release(self, name: str, owner: str) -> None:
        """Give a lease back, if it is `owner`'s."""
        ...
