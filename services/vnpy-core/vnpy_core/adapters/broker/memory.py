"""The message bus within one process: nobody outside reads it, and it ends with the process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import dropwhile, islice

from vnpy_core.adapters.broker.settings import LEAST
from vnpy_core.bus import topics
from vnpy_core.domain.errors import BrokerUnavailable, StreamMoved
from vnpy_core.ports.broker import Entry, Signal

UNHEARD = 100_000
"""Messages that wait for a listener at most; then it is cut off, as Redis does it."""


class _Stream:
    def __init__(self, first: int) -> None:
        self.entries: deque[Entry] = deque()
        self.last = first


class _Listener:
    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = tuple(patterns)
        self._waiting: list[Signal] = []
        self._woken = asyncio.Event()
        self._cut_off = False

    def hear(self, signals: Sequence[Signal]) -> None:
        self._waiting += [signal for signal in signals if any(topics.matches(p, signal[0]) for p in self._patterns)]
        if len(self._waiting) > UNHEARD:
            self.cut_off()
        if self._waiting:
            self._woken.set()

    def cut_off(self) -> None:
        self._cut_off = True
        self._waiting.clear()
        self._woken.set()

    async def batches(self) -> AsyncIterator[list[Signal]]:
        while True:
            await self._woken.wait()
            if self._cut_off:
                raise BrokerUnavailable("the message bus cut off a listener: it is closed, or the listener too slow")
            self._woken.clear()
            batch, self._waiting = self._waiting, []
            yield batch


class MemoryBroker:
    """Implements `ports.broker.Broker`."""

    def __init__(self, length: int = LEAST) -> None:
        """`length`: events that are kept."""
        self._length = length
        self._epoch: str | None = None
        self._streams: dict[str, _Stream] = {}
        self._listeners: set[_Listener] = set()
        self._added = asyncio.Condition()

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Listeners are cut off."""
        for listener in self._listeners:
            listener.cut_off()

    async def begin(self, epoch: str, *, anew: bool = False) -> int | None:
        """Streams of other epochs go at once: whoever could read on is in this process, and knows."""
        self._epoch = epoch
        self._streams = {} if anew else {name: stream for name, stream in self._streams.items() if name == epoch}
        return await self.last(epoch)

    async def append(self, epoch: str, entries: Sequence[Entry], *, keep_from: int = 0) -> None:
        """Add entries; the oldest go past the length, and by age, but `LEAST` stay."""
        if not entries:
            return
        if epoch != self._epoch:
            raise StreamMoved(f"the current epoch is {self._epoch}, not {epoch}")
        stream = self._streams.setdefault(epoch, _Stream(entries[0].prev_seq))
        if stream.last != entries[0].prev_seq:
            raise StreamMoved(f"the stream ends at {stream.last}, not at {entries[0].prev_seq}")
        stream.entries += entries
        stream.last = entries[-1].seq
        while len(stream.entries) > self._length or (len(stream.entries) > LEAST and stream.entries[0].seq < keep_from):
            stream.entries.popleft()
        async with self._added:
            self._added.notify_all()

    async def publish(self, signals: Sequence[Signal]) -> None:
        """To whoever listens in this process."""
        for listener in self._listeners:
            listener.hear(signals)

    async def epoch(self) -> str | None:
        """The current epoch."""
        return self._epoch

    async def last(self, epoch: str) -> int | None:
        """The seq of the last entry."""
        stream = self._streams.get(epoch)
        return stream.last if stream else None

    async def tail(self, epoch: str, limit: int) -> list[Entry]:
        """The newest entries, oldest first."""
        stream = self._streams.get(epoch)
        return list(islice(reversed(stream.entries), limit))[::-1] if stream else []

    async def read(self, epoch: str, after: int, limit: int, wait_s: float) -> list[Entry]:
        """Entries after a seq, waiting for the first."""
        deadline = asyncio.get_running_loop().time() + wait_s
        while not (found := self._after(epoch, after, limit)):
            try:
                async with asyncio.timeout_at(deadline), self._added:
                    await self._added.wait()
            except TimeoutError:
                return self._after(epoch, after, limit)
        return found

    @asynccontextmanager
    async def listen(self, patterns: Sequence[str]) -> AsyncIterator[AsyncIterator[list[Signal]]]:
        """Hear what is published from now on."""
        listener = _Listener(patterns)
        self._listeners.add(listener)
        try:
            yield listener.batches()
        finally:
            self._listeners.discard(listener)

    def _after(self, epoch: str, after: int, limit: int) -> list[Entry]:
        stream = self._streams.get(epoch)
        if stream is None or stream.last <= after:
            return []
        return list(islice(dropwhile(lambda entry: entry.seq <= after, stream.entries), limit))
