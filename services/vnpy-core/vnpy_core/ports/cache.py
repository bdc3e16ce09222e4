"""The latest of everything, where other processes can read it. Nothing that matters lives only there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec


class CacheMark(msgspec.Struct, frozen=True, kw_only=True):
    """How far the cache is: it holds the effect of every class A event up to `seq` of `epoch`.

    Finished orders and trades below `complete_from` may be missing.
    """

    epoch: str
    seq: int
    complete_from: int


class Cache(Protocol):
    """Loop thread only. Every method raises CacheUnavailable while the server is away or does not answer in time.

    `kind` is one of `bus.envelope.CACHED`, as `order`; `key` names the thing, as a vt_orderid; the value is its last
    envelope (JSON). All of a kind expires together, some time after it was last written.
    """

    async def open(self) -> None:
        """Connect; again does nothing."""
        ...

    async def close(self) -> None:
        """Close all connections. Does not raise."""
        ...

    async def put(self, changes: Mapping[str, Mapping[str, bytes | None]], mark: CacheMark) -> None:
        """Set what changed, kind by kind, remove what is None, and set the mark, in one step.

        Raises CacheUnavailable, too, where the cache is not as this process left it: all must be put again then.
        """
        ...

    async def clear(self) -> None:
        """Remove everything, the mark too: it is of another epoch."""
        ...

    async def load(self, kinds: Sequence[str]) -> tuple[CacheMark | None, dict[str, dict[str, bytes]]]:
        """The mark, then everything of some kinds: kind -> key -> envelope. It is at least as new as the mark.

        None where nothing was ever put, or all of it was lost.
        """
        ...

    async def get(self, kind: str, key: str) -> bytes | None:
        """One envelope."""
        ...

    async def once(self, name: str, seconds: float) -> bool:
        """Whether nobody said `name` within the last `seconds`; it is said now."""
        ...
