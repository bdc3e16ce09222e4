"""The tick and bar store in the data folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import structlog

from vnpy_core.adapters.timeseries import ordinals
from vnpy_core.adapters.timeseries.embedded.catalog import Catalog
from vnpy_core.adapters.timeseries.embedded.kinds import (
    BARS,
    TICKS,
    Kind,
    Rows,
    Times,
    by_time,
    columns_of,
    last_of_each_time,
    project,
)
from vnpy_core.adapters.timeseries.embedded.parquet import Engine, FileGone
from vnpy_core.adapters.timeseries.embedded.reading import Query, Reader, Snapshot, Source, in_order, last_in_order
from vnpy_core.adapters.timeseries.embedded.rolling import Roller
from vnpy_core.adapters.timeseries.embedded.worker import Worker
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.errors import CoreError, TimeSeriesUnavailable, describe
from vnpy_core.domain.history import BarArray, Coverage, Interval, Merged, Series, TickArray, TickBatch
from vnpy_core.kit.failpoints import hit
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.timeseries import TimeSeriesState

_TIMES = columns_of(TICKS, ("ts",))
_log = structlog.get_logger(__name__)


class EmbeddedStore:
    """Implements `ports.timeseries.TimeSeriesStore`.

    A microsecond has room for 1000 ticks of a series; those beyond go into the next free places behind, in the
    microseconds after. Files that are replaced while an iteration goes on are kept for a minute; an iteration that
    takes longer goes on with those that took their place, and may see rows that came in meanwhile.
    """

    def __init__(self, folder: Path, settings: TimeSeriesSettings, clock: Clock) -> None:
        self._folder = folder
        self._settings = settings
        self._clock = clock
        self._catalog = Catalog(folder, settings.timeout_s)
        self._engine = Engine()
        self._reader = Reader(folder, self._engine)
        self._roller = Roller(folder, self._catalog, self._engine, clock)
        self._worker = Worker(self._roller, self._catalog, settings, clock)

    def open(self) -> None:
        """See the port."""
        self._catalog.open()
        self._worker.start()

    def close(self) -> None:
        """See the port."""
        self._worker.stop()
        self._catalog.close()
        self._engine.close()
        self._reader.forget()

    def state(self) -> TimeSeriesState:
        """See the port. `detail` also says why rows wait in the tail for longer than they should."""
        try:
            with self._catalog.reading() as db:
                size, waiting = self._catalog.sizes(db)
        except CoreError as error:
            return TimeSeriesState(kind="embedded", available=False, detail=describe(error))
        return TimeSeriesState(
            kind="embedded", available=True, detail=self._worker.problem,
            bytes_on_disk=size + self._catalog.bytes_on_disk(), tail_rows=waiting,
        )  # fmt: skip

    # --- writing ---

    def append_ticks(self, batch: TickBatch) -> None:
        """See the port."""
        most = 0
        with self._catalog.writing() as db:
            for series, ticks in batch.ticks.items():
                if len(ticks):
                    id_ = self._catalog.series_for(db, TICKS, series, batch.names.get(series, ""))
                    rows = self._not_stored(db, id_, ticks) if batch.stamped else self._stamp(db, id_, ticks)
                    most = max(most, self._add(db, TICKS, id_, rows, rows))
            batch.stamped = True
        self._wake_for(most)

    def merge_ticks(self, series: Series, ticks: TickArray, name: str = "") -> Merged:
        """See the port."""
        if not len(ticks):
            return Merged(0, 0)
        rows = by_time(ticks)
        rows["ts"] = ordinals.microseconds(rows["ts"])
        with self._catalog.writing() as db:
            id_ = self._catalog.series_for(db, TICKS, series, name)
            new = rows[~self._known(db, id_, rows)]
            most = 0
            if len(new):
                new["ts"] = self._free_times(db, id_, new["ts"])
                most = self._add(db, TICKS, id_, new, new)
        self._wake_for(most)
        return Merged(len(new), len(rows) - len(new))

    def merge_bars(self, series: Series, interval: Interval, bars: BarArray) -> Merged:
        """See the port."""
        if not len(bars):
            return Merged(0, 0)
        kind = BARS[interval]
        rows = last_of_each_time(by_time(bars))
        with self._catalog.writing() as db:
            id_ = self._catalog.series_for(db, kind, series)
            there = self._times(db, kind, id_, int(rows["ts"][0]), int(rows["ts"][-1]) + 1)
            new = rows[~np.isin(rows["ts"], there)]
            most = self._add(db, kind, id_, rows, new)
        self._wake_for(most)
        return Merged(len(new), len(bars) - len(new))

    def _stamp(self, db: sqlite3.Connection, series: int, ticks: TickArray) -> Rows:
        """Sort ticks in place and give them their ordinals."""
        rows = by_time(ticks)
        if rows is not ticks:
            ticks[:] = rows

        def taken(start_ns: int, end_ns: int) -> Times:
            times: Times = self._readable(db, series, start_ns, end_ns, _TIMES)["ts"]
            return times

        ticks["ts"] = ordinals.stamp_among(ordinals.microseconds(ticks["ts"]), taken)
        return ticks

    def _not_stored(self, db: sqlite3.Connection, series: int, ticks: TickArray) -> Rows:
        """Of stamped ticks those that no earlier try has stored; with new times where others have taken theirs."""
        start, end = int(ticks["ts"][0]), int(ticks["ts"][-1]) + 1
        if self._catalog.is_free(db, TICKS, series, start, end):
            return ticks
        there = self._readable(db, series, start, end, TICKS.dtype)
        there = there[np.isin(there["ts"], ticks["ts"])]
        both = np.concatenate((there, ticks))
        rows = ticks[~ordinals.alike_before(both, both["ts"])[len(there) :]]
        if np.isin(rows["ts"], there["ts"]).any():
            rows["ts"] = self._free_times(db, series, ordinals.microseconds(rows["ts"]))
        return rows

    def _readable(
        self, db: sqlite3.Connection, series: int, start_ns: int, end_ns: int, dtype: np.dtype[np.void]
    ) -> Rows:
        """The range's ticks; of the tail alone where a file cannot be read, for the market waits for nobody."""
        try:
            return np.concatenate([np.empty(0, dtype), *self._now_there(db, TICKS, series, start_ns, end_ns, dtype)])
        except TimeSeriesUnavailable as error:
            _log.error("late ticks may get times that others have in a file", reason=describe(error))
            return project(self._catalog.tail(db, TICKS, series, start_ns, end_ns), dtype)

    def _known(self, db: sqlite3.Connection, series: int, rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which of the rows, by microsecond, are stored already or stand there twice."""
        us = np.ascontiguousarray(rows["ts"])
        known = np.zeros(len(rows), bool)
        there, there_us = self._stored_alike(db, series, us)
        again = np.append(False, us[1:] == us[:-1])
        again[:-1] |= again[1:]
        asked = again | np.isin(us, there_us)
        if asked.any():
            both = np.concatenate((there, rows[asked]))
            alike = ordinals.alike_before(both, np.concatenate((there_us, us[asked])))
            known[asked] = alike[len(there) :]
        return known

    def _stored_alike(self, db: sqlite3.Connection, series: int, us: Times) -> tuple[Rows, Times]:
        """The stored ticks that may have come from one of these microseconds, and which."""
        found, homes = [np.empty(0, TICKS.dtype)], [np.empty(0, np.int64)]
        for rows in self._now_there(db, TICKS, series, int(us[0]), int(us[-1]) + ordinals.REACH_NS):
            which, home = ordinals.homes(rows["ts"])
            asked = np.isin(home, us)
            found.append(rows[which[asked]])
            homes.append(home[asked])
        return np.concatenate(found), np.concatenate(homes)

    def _free_times(self, db: sqlite3.Connection, series: int, us: Times) -> Times:
        return ordinals.stamp_among(us, partial(self._times, db, TICKS, series))

    def _times(self, db: sqlite3.Connection, kind: Kind, series: int, start_ns: int, end_ns: int) -> Times:
        """The times there are in a range."""
        found = [rows["ts"] for rows in self._now_there(db, kind, series, start_ns, end_ns, _TIMES)]
        return np.concatenate([np.empty(0, np.int64), *found])

    def _now_there(
        self, db: sqlite3.Connection, kind: Kind, series: int, start_ns: int, end_ns: int,
        dtype: np.dtype[np.void] | None = None,
    ) -> Iterator[Rows]:  # fmt: skip
        """The range's rows as the transaction sees them; within one that writes no file of them can go."""
        if self._catalog.is_free(db, kind, series, start_ns, end_ns):
            return
        query = Query(kind, dtype or kind.dtype, start_ns, end_ns)
        try:
            yield from in_order(self._reader.sources(query, self._snapshot(db, query, series)))
        except FileGone as gone:
            raise _missing(gone) from gone

    def _add(self, db: sqlite3.Connection, kind: Kind, series: int, rows: Rows, new: Rows) -> int:
        if not len(rows):
            return 0
        return self._catalog.add(db, kind, series, rows, new, self._clock.now().timestamp())

    def _wake_for(self, waiting: int) -> None:
        hit("timeseries.written")
        if waiting >= self._settings.roll_rows:
            self._worker.wake()

    # --- reading ---

    def ticks(
        self, series: Series, start_ns: int, end_ns: int, *, columns: tuple[str, ...] = (), limit: int | None = None
    ) -> Iterator[TickArray]:
        """See the port."""
        return self._rows(series, Query(TICKS, columns_of(TICKS, columns), start_ns, end_ns), limit)

    def bars(
        self, series: Series, interval: Interval, start_ns: int, end_ns: int, *, limit: int | None = None
    ) -> Iterator[BarArray]:
        """See the port."""
        kind = BARS[interval]
        return self._rows(series, Query(kind, kind.dtype, start_ns, end_ns), limit)

    def last_ticks(self, series: Series, end_ns: int, count: int) -> TickArray:
        """See the port."""
        query = Query(TICKS, TICKS.dtype, 0, end_ns)
        gone: FileGone | None = None
        while True:
            try:
                return last_in_order(self._sources(series, query), count, query.dtype)
            except FileGone as error:
                if gone is not None and error.path == gone.path:
                    raise _missing(error) from error
                gone = error

    def overview(self) -> list[Coverage]:
        """See the port."""
        with self._catalog.reading() as db:
            return self._catalog.overview(db)

    def _rows(self, series: Series, query: Query, limit: int | None) -> Iterator[Rows]:
        """A range's rows. Where a file has gone meanwhile, goes on behind the last row with a new snapshot."""
        gone: FileGone | None = None
        while limit is None or limit > 0:
            try:
                for rows in in_order(self._sources(series, query), limit):
                    yield rows
                    query = query._replace(start_ns=int(rows["ts"][-1]) + 1)
                    limit = None if limit is None else limit - len(rows)
                return
            except FileGone as error:
                if gone is not None and error.path == gone.path:
                    raise _missing(error) from error
                gone = error

    def _sources(self, series: Series, query: Query) -> list[Source]:
        """What there is of a range at this moment."""
        if query.start_ns >= query.end_ns:
            return []
        with self._catalog.reading() as db:
            id_ = self._catalog.series_id(db, query.kind, series)
            snapshot = None if id_ is None else self._snapshot(db, query, id_)
        return [] if snapshot is None else self._reader.sources(query, snapshot)

    def _snapshot(self, db: sqlite3.Connection, query: Query, series: int) -> Snapshot:
        span = query.kind, series, query.start_ns, query.end_ns
        return Snapshot(self._catalog.files(db, *span), self._catalog.tail(db, *span))

    # --- taking away, tidying ---

    def delete_ticks(self, series: Series, start_ns: int, end_ns: int) -> int:
        """See the port."""
        return self._delete(TICKS, series, start_ns, end_ns)

    def delete_bars(self, series: Series, interval: Interval, start_ns: int, end_ns: int) -> int:
        """See the port."""
        return self._delete(BARS[interval], series, start_ns, end_ns)

    def _delete(self, kind: Kind, series: Series, start_ns: int, end_ns: int) -> int:
        with self._catalog.reading() as db:
            id_ = self._catalog.series_id(db, kind, series)
        if id_ is None or start_ns >= end_ns:
            return 0
        with self._roller.holding(self._settings.timeout_s):
            return self._roller.delete(kind, id_, start_ns, end_ns)

    def flush(self) -> None:
        """See the port."""
        with self._roller.holding(self._settings.timeout_s):
            for place in self._roller.due(0):
                while self._roller.roll(place):
                    pass
            for place in self._roller.crowded(now=True):
                self._roller.merge(place)
            self._roller.remove_doomed()
        self._catalog.shrink()


def _missing(gone: FileGone) -> TimeSeriesUnavailable:
    return TimeSeriesUnavailable(f"{gone.path} is missing: put it back from a backup")
