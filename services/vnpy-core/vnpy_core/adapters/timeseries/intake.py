"""Which of the ticks that came are recorded, and their layout for the store."""

from __future__ import annotations

import threading
from collections import deque
from datetime import timedelta

from vnpy_core.adapters.timeseries.losses import Losses
from vnpy_core.adapters.timeseries.tick_rows import UNREADABLE, TickPacker
from vnpy_core.domain.events import Tick
from vnpy_core.domain.history import Series, TickBatch, to_datetime
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.recorder import RecordedSymbol

SILENT_S = 60.0
"""After so long without a tick of a contract from one gateway another's are recorded, seconds."""
STALE = timedelta(days=1)
"""Ticks that are further off the clock are of a replay, or wrong: they would stand among the live ones twice."""
MOST_ROWS = 20_000
"""Ticks that are written at once."""
NOT_READABLE = "a field of the tick is not what it should be"


class _Symbol:
    """What is known of a contract. Only the recorder's thread changes it."""

    __slots__ = ("gateway", "key", "last_ns", "name", "recorded", "seen_at", "series")

    def __init__(self, tick: Tick, key: int) -> None:
        self.series = Series(tick.symbol, tick.exchange)
        self.key = key
        self.gateway = tick.gateway_name
        """Whose ticks are recorded."""
        self.seen_at = float("-inf")
        self.name = ""
        self.recorded = 0
        self.last_ns = 0


class Intake:
    """Two gateways may offer one contract: the first that ticks is recorded, until it is silent.

    The recorder's thread only, but for `symbols`.
    """

    def __init__(self, clock: Clock, losses: Losses) -> None:
        self.ignored = 0
        """Ticks of a second gateway."""
        self.stale = 0
        self._clock = clock
        self._losses = losses
        self._packer = TickPacker()
        self._lock = threading.Lock()
        self._symbols: dict[str, _Symbol] = {}
        self._series: list[Series] = []
        self._by_series: dict[Series, _Symbol] = {}

    def __len__(self) -> int:
        """Ticks that wait for `batch`."""
        return len(self._packer)

    def take(self, ring: deque[Tick], count: int) -> int:
        """Take the first `count` from the ring; how many of them are to be recorded."""
        before = len(self._packer)
        now, clock = self._clock.monotonic(), self._clock.now()
        earliest, latest = clock - STALE, clock + STALE
        for _ in range(count):
            tick = ring.popleft()
            symbol = self._symbols.get(tick.vt_symbol) or self._new_symbol(tick)
            if not earliest < tick.datetime < latest:
                self.stale += 1
            elif symbol.gateway != tick.gateway_name and now - symbol.seen_at < SILENT_S:
                self.ignored += 1
            else:
                self._pack(tick, symbol, now)
        return len(self._packer) - before

    def batch(self) -> TickBatch:
        """The next ticks for the store; there must be some."""
        batch = self._packer.batch(self._series, MOST_ROWS)
        batch.names = {series: name for series in batch.ticks if (name := self._by_series[series].name)}
        return batch

    def recorded(self, batch: TickBatch) -> int:
        """The store has these; how many they were."""
        for series, ticks in batch.ticks.items():
            symbol = self._by_series[series]
            symbol.recorded += ticks.size
            symbol.last_ns = max(symbol.last_ns, int(ticks["ts"][-1]))
        return sum(ticks.size for ticks in batch.ticks.values())

    def symbols(self) -> dict[str, RecordedSymbol]:
        """What became of each contract's ticks. Any thread."""
        lost = self._losses.by_symbol()
        with self._lock:
            known = dict(self._symbols)
        return {
            vt_symbol: RecordedSymbol(
                recorded=symbol.recorded if symbol else 0,
                dropped=lost.get(vt_symbol, 0),
                last_tick=to_datetime(symbol.last_ns) if symbol and symbol.last_ns else None,
            )
            for vt_symbol, symbol in {**dict.fromkeys(lost), **known}.items()
        }

    def _new_symbol(self, tick: Tick) -> _Symbol:
        with self._lock:
            symbol = self._symbols[tick.vt_symbol] = _Symbol(tick, len(self._series))
        self._series.append(symbol.series)
        self._by_series[symbol.series] = symbol
        return symbol

    def _pack(self, tick: Tick, symbol: _Symbol, now: float) -> None:
        symbol.gateway, symbol.seen_at = tick.gateway_name, now
        if tick.name:
            symbol.name = tick.name
        try:
            self._packer.add(tick, symbol.key)
        except UNREADABLE:
            self._losses.add(tick.vt_symbol, tick.datetime, tick.datetime, 1, NOT_READABLE)
