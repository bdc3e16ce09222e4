"""1-minute bars of what is being recorded. A bar that is stored is what `bars_from_ticks` makes of the stored ticks.

Bars are made of ticks that the store has, while they are still in memory. Where memory does not suffice the minute is
built anew from the store: with the first ticks after a start (the minute may have begun in an earlier life), and
where ticks came late. What an earlier life left unfinished is found by the store's overview.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vnpy_core.domain.bars import COLUMNS, BarBuilder, Period
from vnpy_core.domain.errors import TryLater
from vnpy_core.domain.history import (
    LAST_NS,
    NS,
    TICK_DTYPE,
    BarArray,
    Interval,
    Series,
    TickArray,
    TickBatch,
    to_ns,
)
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.timeseries import TimeSeriesStore

GRACE_S = 5.0
"""A minute is over when the clock passed its end by so much and no tick came for as long, seconds."""
ADD_ROWS = 2_048
"""A series' ticks that wait to be built into its bar at most; else they are at the end of the minute, all together."""
LOOK_BACK = 24 * 3600 * NS
"""What an earlier life left is built for so long before its last tick at most, nanoseconds."""
LATE = 10 * 60 * NS
"""A tick that was later than this and came in the last seconds before a kill may not be in its bar, nanoseconds."""
BEFORE, MOST_BEFORE = 16, 16_384
"""So many ticks before a minute are looked at for one with a price, at first and at most."""

_MINUTE = Period.parse("1m")
_MINUTE_NS = 60 * NS
_GRACE = int(GRACE_S * NS)
_NAMES = ("ts", *COLUMNS)
_PLACES = [(TICK_DTYPE.names or ()).index(name) for name in _NAMES]
_FEW = np.dtype([(name, TICK_DTYPE[name]) for name in _NAMES])


class _Tape:
    """One series' running minute."""

    def __init__(self, rebuild_from: int) -> None:
        self.builder: BarBuilder | None = None
        self.rebuild_from = rebuild_from
        """The minute from which bars are to be built from the store, where there is no builder."""
        self.waiting: list[TickArray] = []
        self.rows = 0
        self.last = 0
        """The newest tick's `ts`."""
        self.closed_until = 0
        """A tick before this is late."""
        self.seen_at = float("-inf")
        """When the last tick came, by the monotonic clock."""

    def take(self, ticks: TickArray) -> BarArray | None:
        """Ticks that go on from the last one; the bars that this completes, if it is known yet."""
        minute_over = minute_of(int(ticks["ts"][-1])) > minute_of(self.last)
        self.waiting.append(_few(ticks))
        self.rows += ticks.size
        self.last = int(ticks["ts"][-1])
        return self.build() if minute_over or self.rows >= ADD_ROWS else None

    def build(self) -> BarArray | None:
        """Make bars of what waits."""
        if not self.waiting or self.builder is None:
            return None
        ticks = np.concatenate(self.waiting)
        self.waiting, self.rows = [], 0
        return self.builder.add(ticks)

    def start_anew(self, minute: int) -> None:
        """Forget what is known and build from the store, from this minute on or the earliest that is not complete."""
        unfinished = self.rebuild_from if self.builder is None else self.builder.open_ts
        self.rebuild_from = minute if unfinished is None else min(minute, unfinished)
        self.builder, self.waiting, self.rows = None, [], 0

    def is_over(self, now_ns: int, now: float) -> bool:
        """Whether the minute of the newest tick has ended, and nothing of it is on its way."""
        return now_ns >= minute_of(self.last) + _MINUTE_NS + _GRACE and now >= self.seen_at + GRACE_S


class LiveBars:
    """One thread at a time. `step` writes; the store's errors come from there, and nothing is lost by them."""

    def __init__(self, store: TimeSeriesStore, clock: Clock) -> None:
        self.written = 0
        """Bars that the store has taken."""
        self._store = store
        self._clock = clock
        self._tapes: dict[Series, _Tape] = {}
        self._complete: dict[Series, list[BarArray]] = {}

    def find_unfinished(self, wanted: Callable[[str], bool]) -> None:
        """Look for what an earlier life left: the last minutes, and ticks after their series' last bar.

        Ticks of long ago that have no bars near them were not recorded but imported, and are left alone. Raises
        TimeSeriesUnavailable.
        """
        coverage = self._store.overview()
        bars_end = {each.series: each.end_ns + _MINUTE_NS for each in coverage if each.interval is Interval.MINUTE}
        yesterday = to_ns(self._clock.now()) - LOOK_BACK
        for each in coverage:
            if each.interval is not None or not wanted(each.series.vt_symbol):
                continue
            last, after = each.end_ns, bars_end.get(each.series, 0)
            if last >= yesterday:
                after = min(after, last - LATE)
            elif after > last or after < last - LOOK_BACK:
                continue
            self._unfinished(each.series, minute_of(max(after, each.start_ns, last - LOOK_BACK)), last)

    def take(self, batch: TickBatch) -> None:
        """Ticks that the store has just taken in."""
        now = self._clock.monotonic()
        for series, ticks in batch.ticks.items():
            first, last = int(ticks["ts"][0]), int(ticks["ts"][-1])
            tape = self._tapes.get(series)
            if tape is None:
                tape = self._tapes[series] = _Tape(minute_of(first))
            tape.seen_at = now
            if tape.builder is not None and first > tape.last and first >= tape.closed_until:
                self._completed(series, tape.take(ticks))
            else:
                tape.start_anew(minute_of(first))
                tape.last = max(tape.last, last)

    def step(self, until: float, *, ending: bool = False) -> bool:
        """Write complete bars, close and build what is due; whether all was done `until` (monotonic seconds).

        With `ending` no more ticks come: minutes that have ended are closed at once. Raises TimeSeriesUnavailable,
        StorageFull.
        """
        now_ns, now = to_ns(self._clock.now()) + ending * _GRACE, float("inf") if ending else self._clock.monotonic()
        for series, tape in self._tapes.items():
            if self._clock.monotonic() >= until:
                return False
            if tape.builder is None and (tape.is_over(now_ns, now) or minute_of(tape.last) > tape.rebuild_from):
                self._rebuild_or_forget(series, tape)
            if tape.builder is not None and tape.closed_until <= tape.last and tape.is_over(now_ns, now):
                self._completed(series, tape.build())
                self._completed(series, tape.builder.finish())
                tape.closed_until = minute_of(tape.last) + _MINUTE_NS
        return self._write(until)

    def _unfinished(self, series: Series, minute: int, last: int) -> None:
        tape = self._tapes.setdefault(series, _Tape(minute))
        tape.start_anew(minute)
        tape.last = max(tape.last, last)

    def _rebuild_or_forget(self, series: Series, tape: _Tape) -> None:
        try:
            self._rebuild(series, tape)
        except TryLater:
            raise
        except Exception:
            del self._tapes[series]  # its next tick begins anew; the others' bars must not wait for it
            raise

    def _rebuild(self, series: Series, tape: _Tape) -> None:
        """Build from the store, and go on from there with what comes."""
        start = tape.rebuild_from
        builder = BarBuilder(_MINUTE, series.exchange, self._priced_before(series, start))
        bars = []
        for ticks in self._store.ticks(series, start, LAST_NS, columns=COLUMNS):
            bars.append(builder.add(ticks))
            tape.last = max(tape.last, int(ticks["ts"][-1]))
        for each in bars:
            self._completed(series, each)
        tape.builder, tape.closed_until = builder, 0

    def _priced_before(self, series: Series, ns: int) -> TickArray:
        """Ticks before a moment, the last with a price among them."""
        count = BEFORE
        while True:
            ticks = self._store.last_ticks(series, ns, count)
            if ticks.size < count or count >= MOST_BEFORE or ticks["last_price"].any():
                return ticks
            count *= 8

    def _completed(self, series: Series, bars: BarArray | None) -> None:
        if bars is not None and bars.size:
            self._complete.setdefault(series, []).append(bars)

    def _write(self, until: float) -> bool:
        while self._complete:
            if self._clock.monotonic() >= until:
                return False
            series = next(iter(self._complete))
            parts = self._complete.pop(series)
            bars = np.concatenate(parts)
            try:
                self._store.merge_bars(series, Interval.MINUTE, bars)
            except TryLater:
                self._complete[series] = parts
                raise
            self.written += bars.size
        return True


def minute_of(ns: int) -> int:
    """Where a moment's minute began."""
    return ns - ns % _MINUTE_NS


def _few(ticks: TickArray) -> TickArray:
    """A copy with the columns that bars are made of: 64 bytes a tick instead of 264."""
    whole = np.ascontiguousarray(ticks).view(np.int64).reshape(ticks.size, -1)
    return whole.take(_PLACES, axis=1).view(_FEW)[:, 0]
