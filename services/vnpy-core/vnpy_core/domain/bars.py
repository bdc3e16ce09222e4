"""Bars from ticks, and longer bars from shorter ones, of any length from a second to a week.

Which bar a moment belongs to:

- Lengths that divide the hour are aligned to the clock. Longer hours (and odd lengths such as `7m`) count from the
  trading day's begin, 18:00 local time, and the last of a day ends with it. `start` is the bar's first moment.
- A daily bar is a trading day as `domain.sessions` has it (the night session belongs to the next), a weekly bar the
  trading days from Monday on. `start` is 00:00 local time of that day, so a night session's ticks are before it.
- Local time is Asia/Shanghai, UTC+8 (its summer time of 1986 to 1991 is not regarded). GLOBAL's is UTC; its day begins
  at 00:00 and it has weekends.

What ticks make of a bar:

- A tick without a last price counts for nothing, as in VnPy's BarGenerator.
- Open and close are the first and last `last_price`, high and low the extremes. Ticks are snapshots, trades between
  two of them are not seen: where the day's high moved up since the tick before (of the same trading day), it is a price
  of this bar too; lows alike. 0 is no price.
- Volume is what the running total `volume` grew by. On a new trading day it began at 0 again (never for GLOBAL). Where
  there is no tick before, where the total fell within a day (the venue began anew), or where it always is 0, it is
  `last_volume`.
- Turnover is what `turnover` grew by, likewise, but 0 where volume is `last_volume`; open interest is the last one.

Any thread may call; a BarBuilder belongs to one at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.domain.history import BAR_NUMBERS, NS, BarArray, Interval, TickArray, empty_bars

COLUMNS = ("last_price", "last_volume", "volume", "turnover", "open_interest", "high_price", "low_price")
"""What bars are made of, beside `ts`: ticks with these columns only do as well, and are read much quicker."""

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_HOUR = 3600 * NS
_DAY = 24 * _HOUR
_UTC_PLUS_8 = 8 * _HOUR
_SHANGHAI_18 = 10 * _HOUR
"""When a trading day of Shanghai begins, UTC."""
_TO_WEEKDAY = np.array([0, 0, 0, 0, 0, 2, 1])
"""Days from each day of the week, Monday first, to the next that is traded on."""

_CACHED_ROWS = 65_536
"""So many ticks at once: the arrays between stay in the processor's cache, which is thrice as quick as a million."""

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


class Period(msgspec.Struct, frozen=True):
    """The length of a bar: `count` seconds (`s`), minutes (`m`) or hours (`h`) up to a day; one `d` or one `w`."""

    count: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Period:
        """Of `1s`, `5m`, `4h`, `d`, `1d`, `w`, `1w`. Raises ValidationFailed."""
        found = re.fullmatch(r"([1-9]\d{0,4})([smh])|1?([dw])", text, re.ASCII)
        if found is None:
            raise ValidationFailed(f"{text!r} is no length of a bar: those are like 1s, 5m, 4h, d or w")
        period = cls(1, found[3]) if found[3] else cls(int(found[1]), found[2])
        if period.length_ns is not None and period.length_ns > _DAY:
            raise ValidationFailed(f"{text!r} is longer than a day; there are d and w beyond that")
        return period

    @property
    def length_ns(self) -> int | None:
        """Nanoseconds, where it is not by trading days."""
        seconds = _SECONDS.get(self.unit)
        return None if seconds is None else self.count * seconds * NS

    @property
    def interval(self) -> Interval | None:
        """The stored bars of this length, if such are stored."""
        match self.length_ns:
            case 60_000_000_000:
                return Interval.MINUTE
            case 3_600_000_000_000:
                return Interval.HOUR
            case None:
                return Interval(self.unit)
            case _:
                return None

    def __str__(self) -> str:
        return f"{self.count}{self.unit}" if self.unit in _SECONDS else self.unit


class _Calendar:
    """Where bars of one length begin and end on one exchange."""

    def __init__(self, period: Period, exchange: str) -> None:
        self.sleeps = exchange != "GLOBAL"
        """Whether there are sessions, weekends and totals that begin anew each day."""
        self._length = period.length_ns
        self._weekly = period.unit == "w"
        self._local = _UTC_PLUS_8 if self.sleeps else 0
        self._night = _SHANGHAI_18 if self.sleeps else 0
        self._by_clock = self._length is not None and _HOUR % self._length == 0

    def rows(self, ts: _Ints) -> tuple[_Ints, _Ints, _Ints]:
        """Of times in order: where each bar's rows begin, its start, and its first row's trading day (since 1970).

        Bars of a week have several rows here, one for each trading day.
        """
        if self._by_clock or self._length is None:
            length, phase = (self._length, 0) if self._length is not None else (_DAY, self._night)
            first = _changes(ts // length if not phase else (ts - phase) // length)
        else:
            night = (ts - self._night) // _DAY
            first = _changes(night * _DAY + (ts - self._night - night * _DAY) // self._length)
        day = self.day(ts[first])
        return first, self.start(ts[first], day), day

    def day(self, ts: Any) -> Any:
        """The trading day, in days since 1970."""
        day = (ts - self._night) // _DAY
        if not self.sleeps:
            return day
        day = day + 1  # from 18:00 on it is the next
        return day + _TO_WEEKDAY[(day + 3) % 7]  # 1970 began on a Thursday

    def start(self, ts: Any, day: Any) -> Any:
        """The starts of the bars that these times, of these trading days, belong to."""
        if self._length is None:
            return (self._first_day(day)) * _DAY - self._local
        if self._by_clock:
            return ts - ts % self._length
        since = (ts - self._night) % _DAY
        return ts - since % self._length

    def span(self, ns: int) -> tuple[int, int]:
        """The first moment of a moment's bar, and the first after it."""
        day = int(self.day(ns))
        start = int(self.start(ns, day))
        if self._length is not None:
            night_over = ns - (ns - self._night) % _DAY + _DAY
            return start, start + self._length if self._by_clock else min(start + self._length, night_over)
        first = int(self._first_day(day))
        if not self.sleeps:
            return start, start + (7 if self._weekly else 1) * _DAY
        opened = first - (3 if first % 7 == 4 else 1)  # Monday's night was on Friday
        closed = first + 4 if self._weekly else first
        return opened * _DAY + self._night, closed * _DAY + self._night

    def _first_day(self, day: Any) -> Any:
        return day - (day + 3) % 7 if self._weekly else day


def start_of(ns: int, period: Period, exchange: str) -> int:
    """The `ts` of the bar that a moment belongs to; daily and weekly bars begin before it, see `span_of`."""
    calendar = _Calendar(period, exchange)
    return int(calendar.start(ns, calendar.day(ns)))


def end_of(ns: int, period: Period, exchange: str) -> int:
    """The first moment after the bar that a moment (or a bar's `ts`) belongs to."""
    return span_of(ns, period, exchange)[1]


def span_of(ns: int, period: Period, exchange: str) -> tuple[int, int]:
    """The first moment of the bar that a moment (or a bar's `ts`) belongs to, and the first after it."""
    return _Calendar(period, exchange).span(ns)


class BarBuilder:
    """Makes the ticks of one series, given in order and in any portions, into bars of one period.

    The bars are the same, to the last bit, whatever the portions were.
    """

    def __init__(self, period: Period, exchange: str, before: TickArray | None = None) -> None:
        """`before`: ticks before the first one, if known; the last of them with a price counts."""
        self._calendar = _Calendar(period, exchange)
        self._fold = _Fold()
        self._last: TickArray | None = None
        if before is not None and (priced := before[before["last_price"] != 0]).size:
            self._last = priced[-1:].copy()

    @property
    def open_ts(self) -> int | None:
        """The open bar's `ts`."""
        return self._fold.open_ts

    def add(self, ticks: TickArray) -> BarArray:
        """The bars that are complete now, since a tick of a later one came. Ticks are by `ts`, with `COLUMNS`."""
        if ticks.size > _CACHED_ROWS:
            portions = (ticks[n : n + _CACHED_ROWS] for n in range(0, ticks.size, _CACHED_ROWS))
            return np.concatenate([self.add(portion) for portion in portions])
        price = np.ascontiguousarray(ticks["last_price"])
        if not price.all():
            ticks, price = ticks[price != 0], price[price != 0]
        if not ticks.size:
            return empty_bars()
        first, start, day = self._calendar.rows(np.ascontiguousarray(ticks["ts"]))
        new_days = self._new_days(first, day)
        volumes, turnovers = self._after_last(ticks, "volume"), self._after_last(ticks, "turnover")
        highs, lows = self._after_last(ticks, "high_price"), self._after_last(ticks, "low_price")
        bars = self._fold.add(
            first,
            start,
            open_price=price,
            high_price=_with_extremes(price, highs, new_days, np.greater),
            low_price=_with_extremes(price, lows, new_days, np.less),
            close_price=price,
            volume=self._growth(volumes, new_days, otherwise=ticks["last_volume"]),
            turnover=self._growth(turnovers, new_days, otherwise=np.zeros(1)),
            open_interest=ticks["open_interest"],
        )
        self._last = ticks[-1:].copy()
        return bars

    def finish(self) -> BarArray:
        """The open bar, if there is one; it ends with this."""
        return self._fold.finish()

    def close_until(self, ns: int) -> BarArray:
        """The open bar, if it has ended by `ns`; a tick of it that comes later would begin it anew."""
        open_ts = self._fold.open_ts
        return self.finish() if open_ts is not None and self._calendar.span(open_ts)[1] <= ns else empty_bars()

    def _new_days(self, first: _Ints, day: _Ints) -> Any:
        """The ticks with which another trading day began than that of the tick before."""
        last = day[0] if self._last is None else self._calendar.day(self._last["ts"][0])
        return first[np.flatnonzero(np.diff(day, prepend=last))]

    def _after_last(self, ticks: TickArray, name: str) -> _Floats:
        """A column, after the number of the tick before the first; that is infinite where there was none."""
        column = np.empty(ticks.size + 1)
        column[0] = np.inf if self._last is None else self._last[name][0]
        column[1:] = ticks[name]
        return column

    def _growth(self, totals: _Floats, new_days: _Ints, otherwise: _Floats) -> _Floats:
        """What a running total grew by with each tick; `otherwise` where that is not known."""
        before, total = totals[:-1], totals[1:]
        growth = total - before
        if self._calendar.sleeps:
            growth[new_days] = total[new_days]
        unknown = growth < 0
        if not total.all():
            unknown |= (total == 0) & (before == 0)
        if unknown.any():
            np.copyto(growth, otherwise, where=unknown)
        return growth


def _with_extremes(price: _Floats, extremes: _Floats, new_days: _Ints, beyond: np.ufunc) -> _Floats:
    """The prices, or the day's high (low) where it is further out and new since the tick before."""
    before, extreme = extremes[:-1], extremes[1:]
    moved = np.flatnonzero(beyond(extreme, before))
    moved = moved[beyond(extreme[moved], price[moved])]
    if not moved.size:
        return price
    known = (extreme[moved] != 0) & (before[moved] != 0) & np.isfinite(before[moved])
    moved = np.setdiff1d(moved[known], new_days, assume_unique=True)
    price = price.copy()
    price[moved] = extreme[moved]
    return price


class _Fold:
    """Brings rows together into bars, and keeps the last one open."""

    def __init__(self) -> None:
        self._open = empty_bars()

    @property
    def open_ts(self) -> int | None:
        return int(self._open["ts"][0]) if self._open.size else None

    def add(self, first: _Ints, start: _Ints, **columns: Any) -> BarArray:
        """`first` says where rows of each `start` begin; those of one bar may be in several pieces."""
        if start.size > 1:
            pieces = _changes(start)
            first, start = first[pieces], start[pieces]
        bars = empty_bars(start.size)
        bars["ts"] = start
        last = np.append(first[1:], columns["open_price"].size) - 1
        bars["open_price"] = columns["open_price"][first]
        bars["high_price"] = np.maximum.reduceat(columns["high_price"], first)
        bars["low_price"] = np.minimum.reduceat(columns["low_price"], first)
        bars["close_price"] = columns["close_price"][last]
        bars["open_interest"] = columns["open_interest"][last]
        bar_of_row = np.repeat(np.arange(start.size), np.diff(first, append=columns["open_price"].size))
        goes_on = self.open_ts == int(start[0])
        for name in ("volume", "turnover"):
            bars[name] = _sums(bar_of_row, columns[name], self._open[name][0] if goes_on else 0.0)
        if goes_on:
            opened = self._open[0]
            bars["open_price"][0] = opened["open_price"]
            bars["high_price"][0] = max(opened["high_price"], bars["high_price"][0])
            bars["low_price"][0] = min(opened["low_price"], bars["low_price"][0])
        complete = bars[:-1] if goes_on else np.concatenate((self._open, bars[:-1]))
        self._open = bars[-1:].copy()
        return complete

    def finish(self) -> BarArray:
        bar, self._open = self._open, empty_bars()
        return bar


def bars_from_ticks(
    chunks: Iterable[TickArray], period: Period, exchange: str, before: TickArray | None = None
) -> Iterator[BarArray]:
    """The bars of one series' ticks, the last and the first as far as there are ticks; see BarBuilder."""
    builder = BarBuilder(period, exchange, before)
    for ticks in chunks:
        if (bars := builder.add(ticks)).size:
            yield bars
    if (bars := builder.finish()).size:
        yield bars


def bars_from_bars(chunks: Iterable[BarArray], period: Period, exchange: str) -> Iterator[BarArray]:
    """Longer bars from one series' shorter ones, whose length the longer are to be a multiple of."""
    calendar, fold = _Calendar(period, exchange), _Fold()
    for shorter in chunks:
        if not shorter.size:
            continue
        first, start, _ = calendar.rows(np.ascontiguousarray(shorter["ts"]))
        if (bars := fold.add(first, start, **{name: shorter[name] for name in BAR_NUMBERS})).size:
            yield bars
    if (bars := fold.finish()).size:
        yield bars


def _changes(values: _Ints) -> _Ints:
    """Where a value begins that the one before was not."""
    return np.concatenate((np.zeros(1, np.int64), np.flatnonzero(values[1:] != values[:-1]) + 1))


def _sums(bar_of_row: _Ints, values: _Floats, carried: float) -> _Floats:
    """Each bar's sum, added up one by one: so the portions in which the rows came do not show in the result."""
    if carried:
        values = values.copy()
        values[0] += carried
    return np.asarray(np.bincount(bar_of_row, values), np.float64)
