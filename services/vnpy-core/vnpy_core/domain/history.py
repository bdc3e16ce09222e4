"""Ticks and bars in bulk: numpy record arrays, the carrier between stores, files, the recorder and the API.

Times are int64 nanoseconds since 1970 UTC. A tick's `ts` is the venue's time in whole microseconds x 1000 plus an
ordinal (0 to 999) that tells ticks of one microsecond apart, in order of arrival; so it is unique within a series.
Numbers are finite: what was absent, NaN or infinite is 0.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vnpy_core.domain.symbols import vt_symbol

LEVELS = range(1, 6)
TICK_NUMBERS = (
    "volume",
    "turnover",
    "open_interest",
    "last_price",
    "last_volume",
    "limit_up",
    "limit_down",
    "open_price",
    "high_price",
    "low_price",
    "pre_close",
    *(f"{side}_{what}_{n}" for side in ("bid", "ask") for what in ("price", "volume") for n in LEVELS),
)
"""VnPy's names of a tick's numbers; `volume` and `turnover` are the trading day's running totals."""
BAR_NUMBERS = ("open_price", "high_price", "low_price", "close_price", "volume", "turnover", "open_interest")

TICK_DTYPE = np.dtype([("ts", "<i8"), ("localtime", "<i8"), *((name, "<f8") for name in TICK_NUMBERS)])
"""`localtime` is when we received it, nanoseconds, 0 where unknown; it does not tell ticks apart."""
BAR_DTYPE = np.dtype([("ts", "<i8"), *((name, "<f8") for name in BAR_NUMBERS)])
"""`ts` is the bar's start. Of daily and weekly bars: 00:00 of the trading day (of the week's Monday), local time."""

TickArray = npt.NDArray[np.void]
"""One-dimensional, of TICK_DTYPE, by time."""
BarArray = npt.NDArray[np.void]
"""One-dimensional, of BAR_DTYPE, by time."""

NS = 1_000_000_000
US = 1_000
"""Nanoseconds in a second and in a microsecond."""
FIRST_NS, LAST_NS = 0, 2**63 - 1
"""Bounds of a range that has none."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Series(msgspec.Struct, frozen=True, order=True):
    """Whose ticks or bars: `exchange` is the exchange's name."""

    symbol: str
    exchange: str

    @property
    def vt_symbol(self) -> str:
        """VnPy's name of the contract."""
        return vt_symbol(self.symbol, self.exchange)


class Interval(StrEnum):
    """The bars that are stored."""

    MINUTE = "1m"
    HOUR = "1h"
    DAILY = "d"
    WEEKLY = "w"


class TickBatch:
    """Ticks of several series on their way into a store."""

    def __init__(self, ticks: dict[Series, TickArray], names: dict[Series, str] | None = None) -> None:
        """`names` are the contracts' names, where known."""
        self.ticks = ticks
        self.names = names or {}
        self.stamped = False
        """Whether the store has given the ticks their ordinals."""


class Merged(msgspec.Struct, frozen=True):
    """What a write did."""

    added: int
    known: int
    """Rows that were there already, alike (ticks) or written over (bars)."""

    def __add__(self, other: Merged) -> Merged:
        return Merged(self.added + other.added, self.known + other.known)


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """What a store has of one series: ticks (`interval` is None) or bars. Times are the first and last row's."""

    series: Series
    interval: Interval | None
    count: int
    start_ns: int
    end_ns: int
    name: str = ""
    """The contract's name as ticks gave it."""


def to_ns(moment: datetime) -> int:
    """An aware time in nanoseconds, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * US


def to_datetime(ns: int) -> datetime:
    """The microsecond that a nanosecond falls into, aware, in UTC."""
    return _EPOCH + timedelta(microseconds=ns // US)


def empty_ticks(size: int = 0) -> TickArray:
    """Ticks of zeros."""
    return np.zeros(size, TICK_DTYPE)


def empty_bars(size: int = 0) -> BarArray:
    """Bars of zeros."""
    return np.zeros(size, BAR_DTYPE)


def tick_values(tick: Any) -> tuple[Any, ...]:
    """A VnPy or domain tick as a row of TICK_DTYPE, its ordinal still 0: both have the same names."""
    received = tick.localtime
    numbers = (getattr(tick, name) for name in TICK_NUMBERS)
    return (to_ns(tick.datetime), 0 if received is None else to_ns(received), *numbers)


def finite(rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """The rows with 0 for what is no number or beyond 1e300 (CTP's mark for absent); changes them in place."""
    for name in rows.dtype.names or ():
        column = rows[name]
        if column.dtype.kind == "f":
            column[~(np.abs(column) < 1e300)] = 0.0
    return rows
