"""Ticks and bars for years. One contract suite tries every implementation: `tests/contract/test_timeseries.py`.

All calls block and may come from any thread, several at once, but not from the event thread nor the loop: go through
`asyncio.to_thread`. Several processes may use one store together.

Ranges are half open: `start_ns <= ts < end_ns`. Arrays are those of `domain.history`. What a write returned for has
been made durable: neither a kill nor a power cut loses it.

Errors: TimeSeriesUnavailable (the store is away, or did not answer in time), StorageFull, ConfigurationError (a server
will not take it: retention, another's types, a log-in withdrawn, no deleting). Nothing of that call was stored then, or
all of it; with InfluxDB maybe a part, until it is repeated. Each call may simply be repeated with the same arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from vnpy_core.domain.history import BarArray, Coverage, Interval, Merged, Series, TickArray, TickBatch


class TimeSeriesState(msgspec.Struct, frozen=True, kw_only=True):
    """How the store is, for the status page."""

    kind: str
    """`embedded` or `influxdb`."""
    available: bool
    detail: str = ""
    """Why it is not available."""
    bytes_on_disk: int | None = None
    tail_rows: int | None = None
    """Rows that wait for being rolled into a file; None where the store has no tail."""


class TimeSeriesStore(Protocol):
    """Ticks and bars by series."""

    def open(self) -> None:
        """Make ready; again is harmless. Raises ConfigurationError (wrong path or log-in), TimeSeriesUnavailable,
        StorageFull.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections, and end own threads; again is harmless."""
        ...

    def state(self) -> TimeSeriesState:
        """Never raises; answers within a second."""
        ...

    def append_ticks(self, batch: TickBatch) -> None:
        """Add ticks as they came, all series at once; nothing collapses, however alike.

        Gives each tick its ordinal (in place, rows sorted by it) and marks the batch as stamped; a stamped batch keeps
        its ordinals, so that repeating the call after an error stores nothing twice.
        """
        ...

    def merge_ticks(self, series: Series, ticks: TickArray, name: str = "") -> Merged:
        """Add the ticks that are not there yet: alike in microsecond and all numbers (not `localtime`) is the same
        tick, also within `ticks`. Others of the same microsecond are kept, in their order. Changes the array.
        """
        ...

    def merge_bars(self, series: Series, interval: Interval, bars: BarArray) -> Merged:
        """Write bars; one with the same start takes the other's place, and the last of `bars` wins."""
        ...

    def ticks(
        self, series: Series, start_ns: int, end_ns: int, *, columns: tuple[str, ...] = (), limit: int | None = None
    ) -> Iterator[TickArray]:
        """The range's ticks by time, in arrays of some 100,000 or fewer; `limit` rows at most.

        With `columns` (names of TICK_DTYPE) the arrays have `ts` and those only, which is much quicker. The whole
        iteration sees the store as it was at its first step.
        """
        ...

    def last_ticks(self, series: Series, end_ns: int, count: int) -> TickArray:
        """The last `count` ticks before `end_ns`, by time."""
        ...

    def bars(
        self, series: Series, interval: Interval, start_ns: int, end_ns: int, *, limit: int | None = None
    ) -> Iterator[BarArray]:
        """The range's bars by time, in arrays of some 100,000 or fewer; `limit` rows at most."""
        ...

    def overview(self) -> list[Coverage]:
        """All that is there, by series and interval."""
        ...

    def delete_ticks(self, series: Series, start_ns: int, end_ns: int) -> int:
        """Take a range away; returns how many rows. A store that cannot count them beforehand counts by reading."""
        ...

    def delete_bars(self, series: Series, interval: Interval, start_ns: int, end_ns: int) -> int:
        """Take a range away; returns how many rows."""
        ...

    def flush(self) -> None:
        """Bring what waits into its final form now (roll the tail); only speed and space change."""
        ...
