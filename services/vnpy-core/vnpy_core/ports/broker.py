"""The message bus outside the process: a stream that keeps, and channels that do not.

One `Broker` belongs to one core (`node`). The core writes; edges and foreign services read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One class A or B event in the stream. Nothing that is published lies between `prev_seq` and `seq`."""

    seq: int
    prev_seq: int
    envelope: bytes
    """JSON `{topic, epoch, seq, prev_seq, ts, source, data}`, see `bus.envelope`."""


Signal = tuple[str, bytes]
"""`(topic, envelope)` of what is published at most once: ticks, and the latest of what is not journaled."""


class Broker(Protocol):
    """Loop thread only. Every method raises BrokerUnavailable while the server is away or does not answer in time."""

    async def open(self) -> None:
        """Connect; again does nothing."""
        ...

    async def close(self) -> None:
        """Close all connections. Does not raise."""
        ...

    # --- the core's side ---

    async def begin(self, epoch: str, *, anew: bool = False) -> int | None:
        """Make `epoch` the current one, and let the streams of others expire; said again, it changes nothing.

        Returns the seq of the last entry that its stream ever had, or None where there is no such stream: it is new,
        or the server lost it. With `anew` it is removed first: what follows does not follow on what it has. Raises
        StreamMoved where another core writes under this node's name.
        """
        ...

    async def append(self, epoch: str, entries: Sequence[Entry], *, keep_from: int = 0) -> None:
        """Add entries in one step; the first one's `prev_seq` is the stream's last seq, or there is no stream yet.

        Older entries go where there are too many, and those below the seq `keep_from`, but the 10,000 that clients may
        resume from stay. Raises StreamMoved where the stream's last entry is another one than the first entry's
        `prev_seq` says, where the stream was lost since `begin`, and where `epoch` is not the current one; nothing was
        added then.
        """
        ...

    async def publish(self, signals: Sequence[Signal]) -> None:
        """Send to whoever listens now, in this order; nothing is kept."""
        ...

    # --- the readers' side ---

    async def epoch(self) -> str | None:
        """The current epoch; None before the core published anything."""
        ...

    async def last(self, epoch: str) -> int | None:
        """The seq of the stream's last entry; None where there is no stream."""
        ...

    async def tail(self, epoch: str, limit: int) -> list[Entry]:
        """The newest entries, oldest first."""
        ...

    async def read(self, epoch: str, after: int, limit: int, wait_s: float) -> list[Entry]:
        """Entries with `seq` > `after`, oldest first; where there is none, the first that comes within `wait_s`.

        Whether entries before the first were trimmed is told by its `prev_seq`: it lies above `after` then.
        """
        ...

    def listen(self, patterns: Sequence[str]) -> AbstractAsyncContextManager[AsyncIterator[list[Signal]]]:
        """Hear what is published under topics that match (`*` at the end: the rest), in batches as it comes.

        It is listening when the context is entered. The iterator raises BrokerUnavailable when the connection is lost.
        """
        ...
