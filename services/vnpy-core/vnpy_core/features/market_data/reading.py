"""Pages of ticks and bars from the store. Everything here blocks, and any thread may call.

Ticks and bars have unique times, so a page goes on where the last one ended whatever was stored meanwhile.

Bars come from the first of these that has any in the range: stored bars of that length, stored 1-minute bars, stored
ticks. Those that must be built are built of whole windows of time, from where the caller looks, until there are enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from functools import cached_property
from itertools import chain
from typing import Annotated, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from vnpy_core.domain.bars import COLUMNS, Period, bars_from_bars, bars_from_ticks, span_of, start_of
from vnpy_core.domain.errors import FieldError, ValidationFailed
from vnpy_core.domain.history import (
    FIRST_NS,
    LAST_NS,
    NS,
    BarArray,
    Series,
    TickArray,
    empty_bars,
    empty_ticks,
)
from vnpy_core.ports.timeseries import TimeSeriesStore

DAY = 86_400 * NS
BUDGET = 1_000_000
"""Rows that are read to build one page; it is shorter then than was asked for, and another follows."""
TICK_WINDOW, MINUTE_WINDOW = DAY, 180 * DAY
"""The first window of time that bars are built of is no longer; each next one is twice as long."""
LOOK_BACK = 600 * NS
"""How long before a range the last price is looked for, nanoseconds: where markets are open it is there."""
PRICED = 10
"""Where it is not, so many ticks before are looked at."""

Rows = npt.NDArray[np.void]


class BarSource(StrEnum):
    """What bars were made of."""

    BARS = "bars"
    MINUTES = "1m"
    TICKS = "ticks"


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """Where the next page begins: after `ns`, or (`backward`) before it."""

    ns: Annotated[int, msgspec.Meta(ge=FIRST_NS, le=LAST_NS)]
    backward: bool
    source: str = ""


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows of a series. Without `start_ns` those nearest to the end are wanted, page by page into the past."""

    series: Series
    start_ns: int | None = None
    end_ns: int | None = None
    limit: int = 100
    mark: Mark | None = None

    @property
    def backward(self) -> bool:
        """Whether pages go into the past."""
        return self.mark.backward if self.mark else self.start_ns is None

    @property
    def bounds(self) -> tuple[int, int]:
        """The half-open range that is left to read."""
        start = FIRST_NS if self.start_ns is None else max(self.start_ns, FIRST_NS)
        end = LAST_NS if self.end_ns is None else self.end_ns
        if self.mark is None:
            return start, end
        return (start, min(end, self.mark.ns)) if self.mark.backward else (max(start, self.mark.ns + 1), end)

    def cut(self, rows: Rows, *, more: bool = False, source: str = "") -> tuple[Rows, Mark | None]:
        """At most `limit` of `rows`, from the end that was asked for, and where the next page begins."""
        shown = rows[-self.limit :] if self.backward else rows[: self.limit]
        if not len(shown) or (len(rows) <= self.limit and not more):
            return shown, None
        edge = shown["ts"][0] if self.backward else shown["ts"][-1]
        return shown, Mark(int(edge), self.backward, source)


class BarPage(msgspec.Struct, frozen=True):
    """Bars by time."""

    bars: BarArray
    next: Mark | None
    source: BarSource | None
    """None where there are none."""


class TickPage(msgspec.Struct, frozen=True):
    """Ticks by time."""

    ticks: TickArray
    next: Mark | None


def read_ticks(store: TimeSeriesStore, wanted: Range) -> TickPage:
    """One page. Raises TimeSeriesUnavailable."""
    start, end = wanted.bounds
    if wanted.backward:
        ticks = store.last_ticks(wanted.series, end, wanted.limit + 1)
        return TickPage(*wanted.cut(ticks[ticks["ts"] >= start]))
    parts = list(store.ticks(wanted.series, start, end, limit=wanted.limit + 1))
    return TickPage(*wanted.cut(np.concatenate(parts) if parts else empty_ticks()))


def read_bars(
    store: TimeSeriesStore, wanted: Range, period: Period, *, now_ns: int, source: BarSource | None = None
) -> BarPage:
    """One page, made of `source` or of the first that there is. Raises ValidationFailed, TimeSeriesUnavailable."""
    if wanted.mark:
        source = _source(wanted.mark.source)
    sources = [one for one in _sources(store, wanted.series, period) if source in (None, one.kind)]
    if not sources:
        message = f"bars of {period} cannot be made of {source}"
        raise ValidationFailed(message, errors=[FieldError("source", message)])
    for one in sources:
        bars, more = _gather(one, wanted, now_ns)
        if len(bars):
            shown, mark = wanted.cut(bars, more=more, source=one.kind)
            return BarPage(shown, mark, one.kind)
    return BarPage(empty_bars(), None, None)


class _Bars(Protocol):
    """Bars of one series and period; all ranges are of the bars' `ts`."""

    kind: BarSource
    read: int
    """Rows that were read to make them."""

    def window(self, count: int, *, backward: bool) -> int:
        """A length of time to begin with, where `count` bars are wanted, nanoseconds."""
        ...

    def between(self, start: int, end: int, limit: int | None) -> BarArray:
        """The bars of a range; those after the first `limit` may be left out."""
        ...

    def nearest(self, start: int, end: int, *, backward: bool) -> int | None:
        """A `ts` before which (`backward`: after which) the range has no bars; None where it has none at all."""
        ...


def _gather(source: _Bars, wanted: Range, now_ns: int) -> tuple[BarArray, bool]:
    """One bar more than a page where there are so many, and whether the range was not read to its end."""
    start, end = wanted.bounds
    backward, need = wanted.backward, wanted.limit + 1
    window = source.window(need, backward=backward)
    parts: list[BarArray] = []
    found = 0
    while start < end and found < need and (not found or source.read < BUDGET):
        if backward:
            # Beyond now there is hardly anything, so the first window reaches back from there.
            cut = max(start, (end if parts else min(end, now_ns)) - window)
            part, end = source.between(cut, end, None), cut
        else:
            cut = min(end, start + window)
            part, start = source.between(start, cut, need), cut
        parts.append(part)
        found += len(part)
        window *= 2
        if not len(part) and start < end:
            start, end = _without_gap(source, start, end, backward=backward)
    return (np.concatenate(parts[::-1] if backward else parts) if found else empty_bars()), start < end


def _without_gap(source: _Bars, start: int, end: int, *, backward: bool) -> tuple[int, int]:
    nearest = source.nearest(start, end, backward=backward)
    if nearest is None:
        return end, end
    return (start, min(end, nearest + 1)) if backward else (max(start, nearest), end)


class _StoredBars:
    """Bars as they are in the store."""

    kind = BarSource.BARS

    def __init__(self, store: TimeSeriesStore, series: Series, period: Period) -> None:
        assert period.interval is not None
        self.read = 0
        self._store = store
        self._series = series
        self._interval = period.interval
        self._period = period

    def window(self, count: int, *, backward: bool) -> int:
        # Forward the store itself stops at `limit`.
        return _window(count, self._period, self._series.exchange) if backward else LAST_NS

    def between(self, start: int, end: int, limit: int | None) -> BarArray:
        return _joined(self._store.bars(self._series, self._interval, start, end, limit=limit))

    def nearest(self, start: int, end: int, *, backward: bool) -> int | None:
        if not backward:
            first = next(self._store.bars(self._series, self._interval, start, end, limit=1), None)
            return None if first is None else int(first["ts"][0])
        return self._last if self._last is not None and self._last >= start else None

    @cached_property
    def _last(self) -> int | None:
        ends = (
            covered.end_ns
            for covered in self._store.overview()
            if (covered.series, covered.interval) == (self._series, self._interval)
        )
        return next(ends, None)


class _FromMinutes:
    """Longer bars of stored 1-minute bars."""

    kind = BarSource.MINUTES

    def __init__(self, store: TimeSeriesStore, series: Series, period: Period) -> None:
        self.read = 0
        self._minutes = _StoredBars(store, series, _MINUTE)
        self._period = period
        self._exchange = series.exchange

    def window(self, count: int, *, backward: bool) -> int:
        return min(_window(count, self._period, self._exchange), MINUTE_WINDOW)

    def between(self, start: int, end: int, limit: int | None) -> BarArray:
        first, last = _span(start, end, self._period, self._exchange)
        minutes = self._minutes.between(first, last, None)
        self.read += len(minutes)
        return _within(bars_from_bars([minutes], self._period, self._exchange), start, end)

    def nearest(self, start: int, end: int, *, backward: bool) -> int | None:
        first, last = _span(start, end, self._period, self._exchange)
        nearest = self._minutes.nearest(first, last, backward=backward)
        return None if nearest is None else start_of(nearest, self._period, self._exchange)


class _FromTicks:
    """Bars of stored ticks."""

    kind = BarSource.TICKS

    def __init__(self, store: TimeSeriesStore, series: Series, period: Period) -> None:
        self.read = 0
        self._store = store
        self._series = series
        self._period = period

    def window(self, count: int, *, backward: bool) -> int:
        return min(_window(count, self._period, self._series.exchange), TICK_WINDOW)

    def between(self, start: int, end: int, limit: int | None) -> BarArray:
        series = self._series
        first, last = _span(start, end, self._period, series.exchange)
        earlier = max(first - LOOK_BACK, FIRST_NS)
        before, ticks = _split(self._counted(self._store.ticks(series, earlier, last, columns=COLUMNS)), first)
        if (begun := next(ticks, None)) is None:
            return empty_bars()
        if not before["last_price"].any():
            before = self._store.last_ticks(series, earlier, PRICED)
        return _within(bars_from_ticks(chain([begun], ticks), self._period, series.exchange, before), start, end)

    def nearest(self, start: int, end: int, *, backward: bool) -> int | None:
        first, last = _span(start, end, self._period, self._series.exchange)
        if backward:
            ticks = self._store.last_ticks(self._series, last, 1)
        else:
            ticks = next(self._store.ticks(self._series, first, last, limit=1), empty_ticks())
        if not len(ticks) or ticks["ts"][0] < first:
            return None
        return start_of(int(ticks["ts"][0]), self._period, self._series.exchange)

    def _counted(self, chunks: Iterable[TickArray]) -> Iterator[TickArray]:
        for ticks in chunks:
            self.read += len(ticks)
            yield ticks


_MINUTE = Period.parse("1m")


def _sources(store: TimeSeriesStore, series: Series, period: Period) -> list[_Bars]:
    """Where bars of this length can come from, the best first."""
    found: list[_Bars] = []
    if period.interval is not None:
        found.append(_StoredBars(store, series, period))
    if period != _MINUTE and _length(period) % _length(_MINUTE) == 0:
        found.append(_FromMinutes(store, series, period))
    return [*found, _FromTicks(store, series, period)]


def _source(name: str) -> BarSource:
    try:
        return BarSource(name)
    except ValueError:
        message = "use next_cursor of the page before"
        raise ValidationFailed("cursor is not one of this list", errors=[FieldError("cursor", message)]) from None


def _length(period: Period) -> int:
    return period.length_ns or (7 * DAY if period.unit == "w" else DAY)


def _window(count: int, period: Period, exchange: str) -> int:
    """About the time in which so many bars come: markets have nights, weekends and holidays, crypto has none."""
    factor = 1 if exchange == "GLOBAL" else 5 if period.length_ns else 2
    return factor * count * _length(period)


def _span(start: int, end: int, period: Period, exchange: str) -> tuple[int, int]:
    """When the bars that begin in a range began and ended to gather; a day's night session is before its `ts`."""
    first, last = span_of(start, period, exchange)[0], span_of(end - 1, period, exchange)[1]
    return max(first, FIRST_NS), min(last, LAST_NS)


def _split(chunks: Iterator[TickArray], at: int) -> tuple[TickArray, Iterator[TickArray]]:
    """The ticks before a time, and those from it on."""
    before: list[TickArray] = [empty_ticks()[["ts", *COLUMNS]]]
    for ticks in chunks:
        cut = int(np.searchsorted(ticks["ts"], at))
        before.append(ticks[:cut][["ts", *COLUMNS]])
        if cut < len(ticks):
            return np.concatenate(before), chain([ticks[cut:]], chunks)
    return np.concatenate(before), iter(())


def _within(chunks: Iterable[BarArray], start: int, end: int) -> BarArray:
    bars = _joined(chunks)
    return bars[(bars["ts"] >= start) & (bars["ts"] < end)]


def _joined(chunks: Iterable[BarArray]) -> BarArray:
    parts = list(chunks)
    return np.concatenate(parts) if parts else empty_bars()
