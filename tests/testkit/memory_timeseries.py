"""A tick and bar store in memory: the port's promises, simply kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from vnpy_core.domain.errors import CoreError, TimeSeriesUnavailable
from vnpy_core.domain.history import (
    TICK_DTYPE,
    US,
    BarArray,
    Coverage,
    Interval,
    Merged,
    Series,
    TickArray,
    TickBatch,
    empty_bars,
    empty_ticks,
)
from vnpy_core.ports.timeseries import TimeSeriesState

ARRAY = 100_000
"""Rows of an array that a range is read in."""


class MemoryTimeSeries:
    """Implements `TimeSeriesStore`. An array that is stored is never changed again, so readers keep what they saw."""

    def __init__(self) -> None:
        self.failures: list[CoreError] = []
        """Each write raises the next one of these and stores nothing."""
        self.array = ARRAY
        self.is_open = True
        """Ready from the beginning, for tests that have nobody to open it."""
        self._lock = threading.Lock()
        self._ticks: dict[Series, TickArray] = {}
        self._bars: dict[tuple[Series, Interval], BarArray] = {}
        self._names: dict[Series, str] = {}

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def flush(self) -> None:
        pass

    def state(self) -> TimeSeriesState:
        return TimeSeriesState(kind="memory", available=self.is_open)

    def append_ticks(self, batch: TickBatch) -> None:
        with self._opened():
            self._fail()
            if not batch.stamped:
                batch.ticks = {series: self._stamped(series, ticks) for series, ticks in batch.ticks.items()}
                batch.stamped = True
            for series, ticks in batch.ticks.items():
                stored = self._stored(series)
                self._ticks[series] = _sorted(np.concatenate([stored, ticks[~np.isin(ticks["ts"], stored["ts"])]]))
                self._name(series, batch.names.get(series, ""))

    def merge_ticks(self, series: Series, ticks: TickArray, name: str = "") -> Merged:
        with self._opened():
            self._fail()
            ticks[:] = _sorted(ticks)
            stored = self._stored(series)
            seen = set(_alike(stored[np.isin(stored["ts"] // US, ticks["ts"] // US)]))
            new = np.array([not (key in seen or seen.add(key)) for key in _alike(ticks)], bool)
            added = self._stamped(series, ticks[new])
            self._ticks[series] = _sorted(np.concatenate([stored, added]))
            self._name(series, name)
            return Merged(len(added), len(ticks) - len(added))

    def merge_bars(self, series: Series, interval: Interval, bars: BarArray) -> Merged:
        with self._opened():
            self._fail()
            stored = self._bars.get((series, interval), empty_bars())
            together = np.concatenate([stored, bars])
            # Of equal starts the last one wins, which is the first one from behind.
            _, first = np.unique(together["ts"][::-1], return_index=True)
            self._bars[series, interval] = together[::-1][first]
            added = len(first) - len(stored)
            return Merged(added, len(bars) - added)

    def ticks(
        self, series: Series, start_ns: int, end_ns: int, *, columns: tuple[str, ...] = (), limit: int | None = None
    ) -> Iterator[TickArray]:
        with self._opened():
            rows = _between(self._stored(series), start_ns, end_ns)
        if columns:
            rows = _only(rows, columns)
        yield from self._arrays(rows[:limit])

    def last_ticks(self, series: Series, end_ns: int, count: int) -> TickArray:
        with self._opened():
            rows = _between(self._stored(series), 0, end_ns)
        return rows[max(len(rows) - count, 0) :].copy()

    def bars(
        self, series: Series, interval: Interval, start_ns: int, end_ns: int, *, limit: int | None = None
    ) -> Iterator[BarArray]:
        with self._opened():
            rows = _between(self._bars.get((series, interval), empty_bars()), start_ns, end_ns)
        yield from self._arrays(rows[:limit])

    def overview(self) -> list[Coverage]:
        with self._opened():
            tables = [((series, None), rows) for series, rows in self._ticks.items()] + list(self._bars.items())
            found = [
                Coverage(
                    series=series,
                    interval=interval,
                    count=len(rows),
                    start_ns=int(rows["ts"][0]),
                    end_ns=int(rows["ts"][-1]),
                    name="" if interval else self._names.get(series, ""),
                )
                for (series, interval), rows in tables
                if len(rows)
            ]
        return sorted(found, key=lambda coverage: (coverage.series, coverage.interval or ""))

    def delete_ticks(self, series: Series, start_ns: int, end_ns: int) -> int:
        with self._opened():
            self._fail()
            self._ticks[series], count = _without(self._stored(series), start_ns, end_ns)
            return count

    def delete_bars(self, series: Series, interval: Interval, start_ns: int, end_ns: int) -> int:
        with self._opened():
            self._fail()
            stored = self._bars.get((series, interval), empty_bars())
            self._bars[series, interval], count = _without(stored, start_ns, end_ns)
            return count

    @contextmanager
    def _opened(self) -> Iterator[None]:
        with self._lock:
            if not self.is_open:
                raise TimeSeriesUnavailable("the store is closed")
            yield

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    def _stored(self, series: Series) -> TickArray:
        return self._ticks.get(series, empty_ticks())

    def _name(self, series: Series, name: str) -> None:
        if name:
            self._names[series] = name

    def _stamped(self, series: Series, ticks: TickArray) -> TickArray:
        """By time, each at the next place that is free in its microsecond, or behind it where that is full."""
        ticks = _sorted(ticks)
        taken = self._stored(series)["ts"]
        moments = ticks["ts"] // US * US
        ticks["ts"] = moments + np.arange(len(ticks)) - np.searchsorted(moments, moments)
        if (np.diff(ticks["ts"]) <= 0).any() or np.isin(ticks["ts"], taken).any():
            last, places = -1, set(taken.tolist())
            for row, moment in enumerate(moments.tolist()):
                place = max(moment, last + 1)
                while place in places:
                    place += 1
                ticks["ts"][row] = last = place
        return ticks

    def _arrays(self, rows: TickArray | BarArray) -> Iterator[TickArray | BarArray]:
        for start in range(0, len(rows), self.array):
            yield rows[start : start + self.array].copy()


def _sorted(rows: TickArray) -> TickArray:
    return rows[np.argsort(rows["ts"], kind="stable")]


def _alike(ticks: TickArray) -> list[bytes]:
    """What tells ticks apart: the microsecond and the numbers."""
    plain = ticks.copy()
    plain["ts"] //= US
    plain["localtime"] = 0
    for name in TICK_DTYPE.names or ():
        if plain[name].dtype.kind == "f":
            plain[name] += 0.0  # makes -0.0 the 0.0 that it equals
    return plain.view(f"V{plain.dtype.itemsize}").tolist()


def _only(ticks: TickArray, columns: tuple[str, ...]) -> TickArray:
    wanted = [field for field in TICK_DTYPE.descr if field[0] == "ts" or field[0] in columns]
    rows = np.empty(len(ticks), wanted)
    for name, *_ in wanted:
        rows[name] = ticks[name]
    return rows


def _between(rows: TickArray | BarArray, start_ns: int, end_ns: int) -> TickArray | BarArray:
    start, end = np.searchsorted(rows["ts"], [start_ns, end_ns])
    return rows[start:end]


def _without(rows: TickArray | BarArray, start_ns: int, end_ns: int) -> tuple[TickArray | BarArray, int]:
    kept = rows[(rows["ts"] < start_ns) | (rows["ts"] >= end_ns)]
    return kept, len(rows) - len(kept)
