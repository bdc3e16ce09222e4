"""What came and was not recorded."""

from __future__ import annotations

import threading
from collections import deque
from datetime import datetime

from vnpy_core.ports.clock import Clock
from vnpy_core.ports.recorder import Gap

MOST_GAPS = 1_000
JOIN_S = 5.0
"""Lost ticks of a contract with less between them make one gap, seconds."""


class _Loss:
    """A gap that may still grow."""

    __slots__ = ("at", "count", "end", "reason", "start", "vt_symbol")

    def __init__(self, vt_symbol: str, start: datetime, end: datetime, reason: str) -> None:
        self.vt_symbol, self.start, self.end, self.reason = vt_symbol, start, end, reason
        self.count = 0
        self.at = 0.0

    def gap(self) -> Gap:
        return Gap(vt_symbol=self.vt_symbol, start=self.start, end=self.end, count=self.count, reason=self.reason)


class Losses:
    """Counts by contract, and the last gaps. Any thread may call; no call waits for anything but another's."""

    def __init__(self, clock: Clock) -> None:
        self.count = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._by_symbol: dict[str, int] = {}
        self._latest: dict[str, _Loss] = {}
        self._gaps: deque[_Loss] = deque(maxlen=MOST_GAPS)

    def add(self, vt_symbol: str, start: datetime, end: datetime, count: int, reason: str) -> None:
        """`count` ticks with times from `start` to `end` are lost."""
        now = self._clock.monotonic()
        with self._lock:
            loss = self._latest.get(vt_symbol)
            if loss is None or loss.reason != reason or now - loss.at > JOIN_S:
                loss = self._latest[vt_symbol] = _Loss(vt_symbol, start, end, reason)
                self._gaps.append(loss)
            loss.start, loss.end = min(loss.start, start), max(loss.end, end)
            loss.count += count
            loss.at = now
            self._by_symbol[vt_symbol] = self._by_symbol.get(vt_symbol, 0) + count
            self.count += count

    def by_symbol(self) -> dict[str, int]:
        """How many by vt_symbol."""
        with self._lock:
            return dict(self._by_symbol)

    def gaps(self) -> tuple[Gap, ...]:
        """The last ones, oldest first."""
        with self._lock:
            return tuple(loss.gap() for loss in self._gaps)
