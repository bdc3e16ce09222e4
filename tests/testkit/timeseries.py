"""The tick and bar stores that the contract suite runs on, and ticks and bars for them.

A kind is added by one line in `KINDS`: a function that takes the test's request (to ask for a server's fixture) and a
folder, and returns what makes stores over one and the same, empty place: each call makes another one, not yet opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from testkit.influx import influxdb
from testkit.memory_timeseries import MemoryTimeSeries
from vnpy_core.adapters.timeseries.embedded import EmbeddedStore
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.history import (
    BAR_NUMBERS,
    FIRST_NS,
    LAST_NS,
    NS,
    TICK_NUMBERS,
    US,
    BarArray,
    Interval,
    Series,
    TickArray,
    empty_bars,
    empty_ticks,
)
from vnpy_core.kit.clock import SystemClock
from vnpy_core.ports.timeseries import TimeSeriesStore

Make = Callable[[], TimeSeriesStore]


def embedded(_request: pytest.FixtureRequest, folder: Path, **settings: float) -> Make:
    """In a folder; with `settings` of its own."""
    return lambda: EmbeddedStore(folder / "timeseries", TimeSeriesSettings(**settings), SystemClock())


def memory(_request: pytest.FixtureRequest, _folder: Path) -> Make:
    """The model that other tests use as a store."""
    store = MemoryTimeSeries()
    return lambda: store


KINDS: dict[str, Callable[[pytest.FixtureRequest, Path], Make]] = {
    "embedded": embedded,
    "embedded-rolling": partial(embedded, roll_rows=1, roll_s=0.02),  # all goes into files at once
    "influxdb": influxdb,
    "memory": memory,
}

RU = Series("ru1901", "SHFE")
START_US = 1_538_960_400_000_000
"""2018-10-08 09:00:00 in China, microseconds."""
MINUTE = 60 * NS


def ticks_at(us: Iterable[int], first: int = 0) -> TickArray:
    """Ticks at these microseconds after START_US; `last_price` counts them from `first`, no two are alike."""
    times = np.array(list(us), np.int64)
    rows = empty_ticks(len(times))
    rows["ts"] = (START_US + times) * US
    rows["last_price"] = np.arange(first, first + len(rows))
    return rows


def odd_ticks(count: int, seed: int = 1) -> TickArray:
    """Ticks with something else in each column: whole, decimal, huge and tiny numbers, five levels, localtime."""
    chance = np.random.default_rng(seed)
    rows = empty_ticks(count)
    rows["ts"] = (START_US + np.arange(count) * 500_000) * US
    rows["localtime"] = rows["ts"] + chance.integers(0, 10**9, count)
    for number, name in enumerate(TICK_NUMBERS):
        scale = (1.0, 0.2, 1e-8, 1e15, 1.0 / 3.0)[number % 5]
        rows[name] = chance.integers(0, 10_000, count) * scale
    return rows


def bars_at(minutes: Iterable[int], close: float = 1.0) -> BarArray:
    """Bars that start at these minutes after START_US, with different numbers in each column."""
    starts = np.array(list(minutes), np.int64)
    rows = empty_bars(len(starts))
    rows["ts"] = START_US * US + starts * MINUTE
    for number, name in enumerate(BAR_NUMBERS):
        rows[name] = starts * 0.1 + number
    rows["close_price"] = close
    return rows


def all_ticks(
    store: TimeSeriesStore, series: Series = RU, start_ns: int = FIRST_NS, end_ns: int = LAST_NS,
    columns: tuple[str, ...] = (), limit: int | None = None,
) -> TickArray:  # fmt: skip
    """A range's ticks in one array."""
    found = list(store.ticks(series, start_ns, end_ns, columns=columns, limit=limit))
    return np.concatenate(found) if found else empty_ticks()


def all_bars(
    store: TimeSeriesStore, interval: Interval = Interval.MINUTE, series: Series = RU, start_ns: int = FIRST_NS,
    end_ns: int = LAST_NS, limit: int | None = None,
) -> BarArray:  # fmt: skip
    """A range's bars in one array."""
    found = list(store.bars(series, interval, start_ns, end_ns, limit=limit))
    return np.concatenate(found) if found else empty_bars()


def prices(rows: TickArray) -> list[float]:
    """The ticks' last prices: which ones they are."""
    return [float(price) for price in rows["last_price"]]


def same_bits(rows: np.ndarray, others: np.ndarray) -> bool:
    """Whether all columns are alike to the last bit."""
    return rows.dtype == others.dtype and rows.tobytes() == others.tobytes()
