"""What is stored: ticks, and bars of four lengths; and how each is divided into partitions by time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vnpy_core.domain.history import BAR_DTYPE, NS, TICK_DTYPE, Interval

Rows = npt.NDArray[np.void]
"""One-dimensional, of a kind's dtype or some of its columns, `ts` first."""
Times = npt.NDArray[np.int64]


class Kind(NamedTuple):
    """Ticks, or bars of one interval."""

    name: str
    """As in the catalog and in paths."""
    interval: Interval | None
    dtype: np.dtype[np.void]
    unit: str
    """A partition's length as numpy names it; empty where all is one partition."""
    replaces: bool
    """Whether a row takes the place of one with the same time."""

    def parts(self, ts: Times) -> Times:
        """The partition of each time: days, months or years since 1970, UTC."""
        if not self.unit:
            return np.zeros(len(ts), np.int64)
        return ts.view("<M8[ns]").astype(f"<M8[{self.unit}]").astype(np.int64)

    def part(self, ns: int) -> int:
        """The partition of one time."""
        return int(self.parts(np.array([ns], np.int64))[0])

    def begin(self, part: int) -> int | None:
        """When a partition begins, nanoseconds; None where all is one."""
        if not self.unit:
            return None
        return int(self._moments([part]).astype("<M8[s]").astype(np.int64)[0]) * NS

    def covers(self, part: int, start_ns: int, end_ns: int) -> bool:
        """Whether a range has all of a partition in it."""
        begin, end = self.begin(part), self.begin(part + 1)
        return begin is not None and end is not None and start_ns <= begin and end <= end_ns

    def label(self, part: int) -> str:
        """A partition's name: `2026-11-21`, `2026-11`, `2026` or `all`."""
        return str(self._moments([part])[0]) if self.unit else "all"

    def _moments(self, parts: list[int]) -> npt.NDArray[np.datetime64]:
        return np.array(parts, np.int64).astype(f"<M8[{self.unit}]")


TICKS = Kind("tick", None, TICK_DTYPE, "D", replaces=False)
"""By UTC day: its midnight is 08:00 in China, when no venue trades there, so it cuts neither a day nor a night session;
of GLOBAL it is the trading day."""
BARS = {
    interval: Kind(interval.value, interval, BAR_DTYPE, unit, replaces=True)
    for interval, unit in (
        (Interval.MINUTE, "M"),
        (Interval.HOUR, "Y"),
        (Interval.DAILY, ""),
        (Interval.WEEKLY, ""),
    )
}
KINDS = {kind.name: kind for kind in (TICKS, *BARS.values())}


@lru_cache(maxsize=256)
def columns_of(kind: Kind, columns: tuple[str, ...]) -> np.dtype[np.void]:
    """`ts` and these columns of a kind; all of them where none are named. Raises KeyError for an unknown name."""
    if not columns:
        return kind.dtype
    names = ("ts", *(name for name in dict.fromkeys(columns) if name != "ts"))
    fields: list[tuple[str, Any]] = [(name, kind.dtype[name]) for name in names]
    return np.dtype(fields)


def project(rows: Rows, dtype: np.dtype[np.void]) -> Rows:
    """The columns of `dtype`; the same array where that is all of them."""
    if rows.dtype == dtype:
        return rows
    return from_columns({name: rows[name] for name in dtype.names or ()}, dtype)


def from_columns(columns: dict[str, npt.NDArray[Any]], dtype: np.dtype[np.void]) -> Rows:
    """Rows from columns, of whatever number type."""
    rows = np.empty(len(columns["ts"]), dtype)
    for name in dtype.names or ():
        rows[name] = columns[name]
    return rows


def by_time(rows: Rows) -> Rows:
    """The rows sorted by time, those of one time in their order; the same array where they are."""
    ts = rows["ts"]
    if len(ts) < 2 or bool((ts[1:] >= ts[:-1]).all()):
        return rows
    return rows[np.argsort(ts, kind="stable")]


def last_of_each_time(rows: Rows) -> Rows:
    """Of sorted rows, the last one of each time."""
    ts = rows["ts"]
    keep = np.append(ts[1:] != ts[:-1], np.ones(min(len(ts), 1), bool))
    return rows if keep.all() else rows[keep]


def within(rows: Rows, start_ns: int, end_ns: int) -> Rows:
    """The part of sorted rows with `start_ns` <= ts < `end_ns`; a view."""
    first, last = np.searchsorted(rows["ts"], [start_ns, end_ns])
    return rows[first:last]
