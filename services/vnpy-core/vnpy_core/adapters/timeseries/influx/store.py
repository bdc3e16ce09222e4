"""The tick and bar store on an InfluxDB server."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from vnpy_core.adapters.timeseries.influx import queries
from vnpy_core.adapters.timeseries.influx.arrays import answer_type, joined, rows_of, with_columns
from vnpy_core.adapters.timeseries.influx.connection import Connection
from vnpy_core.adapters.timeseries.influx.lines import bar_bodies, name_line, opened_line, tick_bodies
from vnpy_core.adapters.timeseries.influx.places import (
    BARS,
    NAMES,
    OPENED,
    PRESENT,
    TICKS,
    Place,
    of_bars,
    of_ticks,
    original,
)
from vnpy_core.adapters.timeseries.influx.stamping import Stack, Times, known
from vnpy_core.adapters.timeseries.ordinals import REACH_NS, alike_before, microseconds, stamp_among
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.errors import ConfigurationError, TimeSeriesUnavailable
from vnpy_core.domain.history import (
    BAR_DTYPE,
    FIRST_NS,
    NS,
    TICK_DTYPE,
    BarArray,
    Coverage,
    Interval,
    Merged,
    Series,
    TickArray,
    TickBatch,
    empty_ticks,
)
from vnpy_core.ports.timeseries import TimeSeriesState

FEW = 20
"""Symbols that are asked for by name; for more, all are asked for."""
DAY_NS = 86_400 * NS
_INTERVALS = frozenset(Interval)


class InfluxStore:
    """Implements `TimeSeriesStore`.

    Writes of one process come one after the other. Two processes may write at once, but where both add ticks of the
    same microsecond to the same series within the milliseconds between one's question for the ordinals and its write,
    the later one's take the place of the other's.
    """

    def __init__(self, settings: TimeSeriesSettings) -> None:
        self._settings = settings
        self._connection = Connection(settings)
        self._writes = threading.Lock()
        self._handed: dict[Series, int] = {}
        """The last time given to a tick: the server may not have that tick yet."""
        self._named: dict[Series, tuple[str, int]] = {}
        """The names that were written, and for which day."""

    def open(self) -> None:
        """Write something and read it back. Raises ConfigurationError, TimeSeriesUnavailable, StorageFull."""
        self._connection.open()
        now = time.time_ns()
        self._connection.write(opened_line(now))
        back = queries.rows(Place(OPENED, ()), [PRESENT[OPENED]], now, now + 1)
        if not any(record.get("time") == now for table in self._connection.ask(back) for record in table.records()):
            raise ConfigurationError(
                f"timeseries.bucket: what was written to {self._settings.bucket!r} cannot be read back at /query; does"
                " its DBRP mapping lead to another bucket?"
            )

    def close(self) -> None:
        """Let go of the connections; again is harmless."""
        self._connection.close()

    def state(self) -> TimeSeriesState:
        """Never raises; answers within a second."""
        trouble = self._connection.trouble()
        return TimeSeriesState(kind="influxdb", available=not trouble, detail=trouble)

    def flush(self) -> None:
        """The server does that by itself."""

    # --- writing ---

    def append_ticks(self, batch: TickBatch) -> None:
        """See the port."""
        ticks = {series: rows for series, rows in batch.ticks.items() if len(rows)}
        if not ticks:
            return
        with self._writing():
            self._place(ticks, again=batch.stamped)
            batch.stamped = True
            self._write(ticks, batch.names)

    def merge_ticks(self, series: Series, ticks: TickArray, name: str = "") -> Merged:
        """See the port. Reads what the range has, which is quick where it has nothing."""
        if not len(ticks):
            return Merged(0, 0)
        ticks["ts"] = microseconds(ticks["ts"])
        rows = ticks[np.argsort(ticks["ts"], kind="stable")]
        with self._writing():
            stored = self.ticks(series, int(rows["ts"][0]), int(rows["ts"][-1]) + REACH_NS)
            new = rows[~known(rows, stored)]
            if len(new):
                new["ts"] = self._free_times(series, new["ts"])
                self._write({series: new}, {series: name})
        return Merged(len(new), len(rows) - len(new))

    def merge_bars(self, series: Series, interval: Interval, bars: BarArray) -> Merged:
        """See the port."""
        if not len(bars):
            return Merged(0, 0)
        _, last = np.unique(bars["ts"][::-1], return_index=True)
        rows = bars[::-1][last]
        start, end = int(rows["ts"][0]), int(rows["ts"][-1]) + 1
        with self._writing():
            there = 0
            for stored in self._range(of_bars(series, interval), with_columns(BAR_DTYPE, ("ts",)), start, end):
                there += int(np.isin(stored["ts"], rows["ts"]).sum())
            for body in bar_bodies(series, interval, rows):
                self._connection.write(body)
        return Merged(len(rows) - there, len(bars) - len(rows) + there)

    def delete_ticks(self, series: Series, start_ns: int, end_ns: int) -> int:
        """See the port. Raises ConfigurationError where the server cannot delete (InfluxDB 3 Core)."""
        with self._writing():
            count = self._delete(of_ticks(series), start_ns, end_ns)
            self._handed.pop(series, None)
            return count

    def delete_bars(self, series: Series, interval: Interval, start_ns: int, end_ns: int) -> int:
        """See the port. Raises ConfigurationError where the server cannot delete (InfluxDB 3 Core)."""
        with self._writing():
            return self._delete(of_bars(series, interval), start_ns, end_ns)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        if not self._writes.acquire(timeout=self._settings.timeout_s):
            raise TimeSeriesUnavailable("earlier writes still wait for InfluxDB")
        try:
            yield
        finally:
            self._writes.release()

    def _write(self, ticks: dict[Series, TickArray], names: dict[Series, str]) -> None:
        named = {
            series: (name, int(ticks[series]["ts"][-1]) // DAY_NS)
            for series, name in names.items()
            if name and series in ticks
        }
        news = {series: entry for series, entry in named.items() if entry != self._named.get(series)}
        for body in tick_bodies(ticks):
            self._connection.write(body)
        if news:
            lines = [name_line(series, name, day * DAY_NS) for series, (name, day) in news.items()]
            self._connection.write(b"\n".join(lines))
            self._named |= news

    def _delete(self, place: Place, start_ns: int, end_ns: int) -> int:
        if start_ns >= end_ns:
            return 0
        tables = self._connection.ask(queries.count(place, start_ns, end_ns))
        count = sum(int(record["count"]) for table in tables for record in table.records())
        if count:
            list(self._connection.ask(queries.delete(place, start_ns, end_ns), method="POST"))
        return count

    # --- ordinals ---

    def _place(self, ticks: dict[Series, TickArray], *, again: bool) -> None:
        """Sort each series and give its ticks times that are free; nothing is changed where the server is away.

        Ticks that have theirs already (`again`) keep them, unless others have taken them meanwhile.
        """
        stack = Stack(list(ticks.values()))
        latest = self._latest(list(ticks), min(stack.first))
        times = []
        for part, (series, first) in enumerate(zip(ticks, stack.first, strict=True)):
            is_behind = latest.get(series, -1) >= first
            if again:
                times.append(self._kept_times(series, ticks[series]) if is_behind else ticks[series]["ts"])
            elif is_behind or self._handed.get(series, -1) >= first or part in stack.crowded:
                times.append(self._free_times(series, stack.us(part)))
            else:
                times.append(stack.part(part)["ts"])
        for part, (series, rows) in enumerate(ticks.items()):
            if not again:
                rows[:] = stack.part(part)
            rows["ts"] = times[part]
            self._handed[series] = max(int(rows["ts"].max()), self._handed.get(series, -1))

    def _latest(self, ticks: list[Series], since: int) -> dict[Series, int]:
        """The last stored tick of each series that has one since then."""
        symbols = {series.symbol for series in ticks}
        tables = self._connection.ask(queries.latest_ticks(symbols if len(symbols) <= FEW else (), since))
        return {_series(record): record["time"] for table in tables for record in table.records()}

    def _kept_times(self, series: Series, ticks: TickArray) -> Times:
        """The ticks' own times, but free ones for those whose time another tick has."""
        found = self.ticks(series, int(ticks["ts"].min()), int(ticks["ts"].max()) + 1)
        there = joined([empty_ticks(), *(rows[np.isin(rows["ts"], ticks["ts"])] for rows in found)])
        is_stored = alike_before(joined([there, ticks]), np.concatenate([there["ts"], ticks["ts"]]))[len(there) :]
        moved = np.isin(ticks["ts"], there["ts"]) & ~is_stored
        times = ticks["ts"].copy()
        if moved.any():
            times[moved] = self._free_times(series, microseconds(times[moved]))
        return times

    def _free_times(self, series: Series, us: Times) -> Times:
        return stamp_among(us, partial(self._taken, series))

    def _taken(self, series: Series, start_ns: int, end_ns: int) -> Times:
        """The times that stored ticks have, and the last one that was handed out."""
        found = [rows["ts"] for rows in self.ticks(series, start_ns, end_ns, columns=("ts",))]
        handed = [time for time in [self._handed.get(series, -1)] if start_ns <= time < end_ns]
        return np.unique(np.concatenate([*found, np.array(handed, np.int64)]))

    # --- reading ---

    def ticks(
        self, series: Series, start_ns: int, end_ns: int, *, columns: tuple[str, ...] = (), limit: int | None = None
    ) -> Iterator[TickArray]:
        """See the port. What is deleted meanwhile may be missing."""
        return self._range(of_ticks(series), with_columns(TICK_DTYPE, columns), start_ns, end_ns, limit=limit)

    def last_ticks(self, series: Series, end_ns: int, count: int) -> TickArray:
        """See the port."""
        parts = list(self._range(of_ticks(series), TICK_DTYPE, FIRST_NS, end_ns, limit=count, backwards=True))
        return joined(parts)[::-1].copy() if parts else empty_ticks()

    def bars(
        self, series: Series, interval: Interval, start_ns: int, end_ns: int, *, limit: int | None = None
    ) -> Iterator[BarArray]:
        """See the port. What is deleted meanwhile may be missing."""
        return self._range(of_bars(series, interval), BAR_DTYPE, start_ns, end_ns, limit=limit)

    def overview(self) -> list[Coverage]:
        """See the port. The server goes through all that it has, which takes a while where that is much."""
        names = {_series(record): original(record["last"]) for record in self._each("last", NAMES)}
        found = []
        for measurement in (TICKS, BARS):
            first = {_which(record): record["time"] for record in self._each("first", measurement)}
            last = {_which(record): record["time"] for record in self._each("last", measurement)}
            for record in self._each("count", measurement):
                which = series, interval = _which(record)
                if which in first and which in last:  # else deleted meanwhile
                    found.append(
                        Coverage(
                            series=series,
                            interval=interval,
                            count=record["count"],
                            start_ns=first[which],
                            end_ns=last[which],
                            name="" if interval else names.get(series, ""),
                        )
                    )
        return sorted(found, key=lambda coverage: (coverage.series, coverage.interval or ""))

    def _each(self, function: str, measurement: str) -> Iterator[dict[str, Any]]:
        tables = self._connection.ask(queries.of_each(function, measurement))
        return (record for table in tables for record in table.records() if _is_ours(record))

    def _range(
        self,
        place: Place,
        dtype: np.dtype[np.void],
        start_ns: int,
        end_ns: int,
        *,
        limit: int | None = None,
        backwards: bool = False,
    ) -> Iterator[npt.NDArray[np.void]]:
        """The rows of a range as the server sends them."""
        if start_ns >= end_ns or (limit is not None and limit <= 0):
            return
        names = (dtype.names or ())[1:]
        present = PRESENT[place.measurement]
        asked = dtype if present in names else np.dtype([*dtype.descr, (present, "<f8")])
        statement = queries.rows(place, (asked.names or ())[1:], start_ns, end_ns, limit=limit, backwards=backwards)
        for table in self._connection.ask(statement, answer_type(asked)):
            if table.values:
                yield rows_of(table.values, asked, dtype)


def _is_ours(record: dict[str, Any]) -> bool:
    """Others may write to measurements of these names, too."""
    return bool(record["symbol"] and record["exchange"]) and record.get("interval", Interval.MINUTE) in _INTERVALS


def _series(record: dict[str, Any]) -> Series:
    return Series(original(record["symbol"]), original(record["exchange"]))


def _which(record: dict[str, Any]) -> tuple[Series, Interval | None]:
    interval = record.get("interval")
    return _series(record), Interval(interval) if interval else None
