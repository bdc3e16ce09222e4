"""Brings the tail into files, small files into large ones, and takes ranges away.

Who does that holds the lock of `files.lock`, in whichever process, so that nobody else changes what it has read.
A file's path is written into the catalog as doomed before the file is made; the transaction that lists it spares it.
So a kill at any moment leaves nothing that would not be removed later, and nothing that was not known is ever removed.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np

from vnpy_core.adapters.timeseries.embedded.catalog import (
    CAP_ROWS,
    LOCK_NAME,
    SMALL_ROWS,
    Catalog,
    FileRow,
    Place,
)
from vnpy_core.adapters.timeseries.embedded.disk import locked, meaning
from vnpy_core.adapters.timeseries.embedded.kinds import Kind, by_time, from_columns, last_of_each_time
from vnpy_core.adapters.timeseries.embedded.parquet import Columns, Engine, FileGone
from vnpy_core.domain.errors import TimeSeriesUnavailable
from vnpy_core.kit.failpoints import hit
from vnpy_core.ports.clock import Clock

GRACE_S = 60.0
"""A file that was replaced stays so long for those who are reading it, seconds."""
MANY = 4
"""So many small files of a partition are merged; and any two when its time is over."""
OVER_S = 900.0
"""So long after its end a partition is taken for complete, seconds: all of a day are merged then, and as days end at
08:00 in China, that has to be done well before 09:00, when the market opens."""

_ATTEMPTS = 20


class _Cut(NamedTuple):
    """What is to become of a partition from which a range is taken."""

    place: Place
    old: list[FileRow]
    new: list[FileRow]
    removed: int


class Roller:
    """Any thread, `holding` the lock. Errors: TimeSeriesUnavailable, StorageFull; then nothing has changed."""

    def __init__(self, folder: Path, catalog: Catalog, engine: Engine, clock: Clock) -> None:
        self._folder = folder
        self._catalog = catalog
        self._engine = engine
        self._clock = clock

    def holding(self, timeout_s: float) -> AbstractContextManager[None]:
        """The lock. Raises LockHeld when it is not free in time."""
        return locked(self._folder / LOCK_NAME, timeout_s)

    # --- the tail ---

    def due(self, rows: int, older_s: float = 0.0) -> list[Place]:
        """The partitions in which so many rows wait, or some for so long; the longest waiting first."""
        with self._catalog.reading() as db:
            return self._catalog.due(db, rows, self._now() - older_s)

    def roll(self, place: Place) -> bool:
        """Bring the oldest rows of a partition's tail into files; whether there were any."""
        with self._catalog.reading() as db:
            waiting = self._catalog.waiting(db, place, 2 * CAP_ROWS)
            old = self._catalog.files_of(db, place) if place.kind.replaces else []
        if not waiting.ids:
            return False
        rows = by_time(np.concatenate([*(self._rows(place.kind, file) for file in old), waiting.rows]))
        if place.kind.replaces:
            rows = last_of_each_time(rows)
        new = self._write(place, {name: rows[name] for name in place.kind.dtype.names or ()})
        with self._catalog.writing() as db:
            self._put(db, place, old, new)
            self._catalog.drop_waiting(db, place, waiting, self._now())
        return True

    # --- small files ---

    def crowded(self, *, now: bool = False) -> list[Place]:
        """The partitions with small files to merge; those with any two where they are over, or at `now`."""
        with self._catalog.reading() as db:
            found = self._catalog.small(db)
        return [place for place, small in found if now or small >= MANY or self._is_over(place)]

    def merge(self, place: Place) -> None:
        """Bring a partition's small files together."""
        with self._catalog.reading() as db:
            small = [file for file in self._catalog.files_of(db, place) if file.rows < SMALL_ROWS]
        for files in _groups(small):
            new = self._write(place, self._together(place.kind, files))
            with self._catalog.writing() as db:
                self._put(db, place, files, new)

    def _together(self, kind: Kind, files: Sequence[FileRow]) -> Columns:
        """Columns of several files by time, in the narrow types of the files: so they take less memory than rows."""
        parts = [self._columns(kind, file) for file in files]
        order = np.argsort(np.concatenate([part["ts"] for part in parts]), kind="stable")
        return {name: np.concatenate([part.pop(name) for part in parts])[order] for name in kind.dtype.names or ()}

    def _is_over(self, place: Place) -> bool:
        end = place.kind.begin(place.part + 1)
        return end is not None and end / 1e9 + OVER_S < self._now()

    # --- taking away ---

    def delete(self, kind: Kind, series: int, start_ns: int, end_ns: int) -> int:
        """Take a range away, all at once; how many rows that were."""
        first, last = kind.part(start_ns), kind.part(end_ns - 1)
        edges = [part for part in sorted({first, last}) if not kind.covers(part, start_ns, end_ns)]
        inner = first + (first in edges), last - (last in edges)
        places = [Place(kind, series, part) for part in edges]
        for _ in range(_ATTEMPTS):
            cuts = [self._cut(place, start_ns, end_ns) for place in places]
            with self._catalog.writing() as db:
                if any(self._catalog.has_waiting(db, place, start_ns, end_ns) for place in places):
                    continue
                count = self._catalog.drop_partitions(db, series, *inner, self._now())
                for cut in cuts:
                    self._put(db, cut.place, cut.old, cut.new)
                    self._catalog.took_away(db, cut.place, cut.removed)
                return count + sum(cut.removed for cut in cuts)
        raise TimeSeriesUnavailable("the range is being written to all the time")

    def _cut(self, place: Place, start_ns: int, end_ns: int) -> _Cut:
        """Write anew what stays of the files that reach into a range, the tail's rows first brought into some."""
        with self._catalog.reading() as db:
            waits = self._catalog.has_waiting(db, place, start_ns, end_ns)
        while waits and self.roll(place):
            pass
        with self._catalog.reading() as db:
            old = self._catalog.files(db, place.kind, place.series, start_ns, end_ns)
        old = [file for file in old if file.part == place.part]
        new: list[FileRow] = []
        for file in old:
            if start_ns <= file.min_ts and file.max_ts < end_ns:
                continue
            columns = self._columns(place.kind, file)
            stays = (columns["ts"] < start_ns) | (columns["ts"] >= end_ns)
            new += self._write(place, {name: column[stays] for name, column in columns.items()})
        return _Cut(place, old, new, sum(file.rows for file in old) - sum(file.rows for file in new))

    # --- files ---

    def remove_doomed(self) -> None:
        """Remove the files that nobody needs any more."""
        with self._catalog.reading() as db:
            paths = self._catalog.doomed(db, self._now() - GRACE_S)
        if not paths:
            return
        hit("timeseries.before_removal")
        for path in paths:
            self._remove(path)
        with self._catalog.writing() as db:
            self._catalog.spare(db, paths)

    def _put(self, db: sqlite3.Connection, place: Place, old: Sequence[FileRow], new: Sequence[FileRow]) -> None:
        self._catalog.list_files(db, place, new)
        self._catalog.drop_files(db, old, self._now())
        self._catalog.count_small(db, place)

    def _write(self, place: Place, columns: Columns) -> list[FileRow]:
        """Write sorted columns into files of CAP_ROWS at most, which nothing lists yet."""
        rows = len(columns["ts"])
        cuts = np.linspace(0, rows, -(-rows // CAP_ROWS) + 1, dtype=int)
        pieces = [slice(int(begin), int(end)) for begin, end in pairwise(cuts)]
        paths = [self._path(place) for _ in pieces]
        if not paths:
            return []
        with self._catalog.writing() as db:
            self._catalog.doom(db, paths, self._now())
        files = []
        try:
            for path, piece in zip(paths, pieces, strict=True):
                part = {name: column[piece] for name, column in columns.items()}
                size = self._engine.write(self._folder / path, part)
                bounds = int(part["ts"][0]), int(part["ts"][-1])
                files.append(FileRow(0, place.part, path, len(part["ts"]), *bounds, size))
        except BaseException:
            for path in paths:
                self._remove(path)
            raise
        return files

    def _remove(self, path: str) -> None:
        try:
            for name in (path, f"{path}.tmp"):
                (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise meaning(error, f"{path} cannot be removed") from error

    def _path(self, place: Place) -> str:
        """A new name: never one that was used before, also if the catalog is put back from a backup."""
        with self._catalog.reading() as db:
            series = self._catalog.series(db, place.series)
        folder = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', series.vt_symbol)[:100]}~{place.series}"
        return f"{place.kind.name}/{folder}/{place.kind.label(place.part)}.{uuid4().hex[:16]}.parquet"

    def _columns(self, kind: Kind, file: FileRow) -> Columns:
        path = self._folder / file.path
        try:
            columns = self._engine.read(path, kind.dtype.names or ())
        except FileGone as gone:
            raise TimeSeriesUnavailable(f"{path} is missing: put it back from a backup") from gone
        if len(columns["ts"]) != file.rows:
            raise TimeSeriesUnavailable(f"{path} is damaged: it has not the {file.rows} rows that were written")
        return columns

    def _rows(self, kind: Kind, file: FileRow) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        return from_columns(self._columns(kind, file), kind.dtype)

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _groups(files: Sequence[FileRow]) -> list[list[FileRow]]:
    """Neighbours that fit into one file, two or more."""
    groups: list[list[FileRow]] = [[]]
    for file in files:
        if sum(other.rows for other in groups[-1]) + file.rows > CAP_ROWS:
            groups.append([])
        groups[-1].append(file)
    return [group for group in groups if len(group) > 1]
