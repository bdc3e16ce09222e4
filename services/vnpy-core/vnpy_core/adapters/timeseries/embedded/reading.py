"""Rows of files and of the tail, in the order of time, however they overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vnpy_core.adapters.timeseries.embedded.cache import ColumnCache
from vnpy_core.adapters.timeseries.embedded.catalog import FileRow
from vnpy_core.adapters.timeseries.embedded.kinds import Kind, Rows, by_time, columns_of, from_columns, project
from vnpy_core.adapters.timeseries.embedded.parquet import Columns, Engine
from vnpy_core.domain.errors import TimeSeriesUnavailable

CHUNK_ROWS = 100_000


class Source(NamedTuple):
    """Sorted rows that need not be in memory yet; no two sources have a row of the same time."""

    min_ts: int
    max_ts: int
    load: Callable[[int | None, int | None], Rows]
    """The rows; of them the first or the last so many where a number is given."""


class Snapshot(NamedTuple):
    """What a range held at one moment: the files that are to be read, and the rows of the tail, sorted."""

    files: list[FileRow]
    tail: Rows


class Query(NamedTuple):
    """Which rows, and which columns of them."""

    kind: Kind
    dtype: np.dtype[np.void]
    start_ns: int
    end_ns: int


class Reader:
    """Turns snapshots into rows; any thread."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._folder = folder
        self._engine = engine
        self._cache = ColumnCache()

    def forget(self) -> None:
        """Let go of memory."""
        self._cache.clear()

    def sources(self, query: Query, snapshot: Snapshot) -> list[Source]:
        """The snapshot's parts. Their `load` raises FileGone, TimeSeriesUnavailable."""
        tail = project(snapshot.tail, query.dtype)
        hidden = snapshot.tail["ts"] if query.kind.replaces else None
        sources = [
            Source(
                max(file.min_ts, query.start_ns),
                min(file.max_ts, query.end_ns - 1),
                partial(self._file, query, file, hidden),
            )
            for file in snapshot.files
        ]
        if len(tail):
            sources.append(Source(int(tail["ts"][0]), int(tail["ts"][-1]), partial(_part, tail)))
        return sources

    def _file(
        self, query: Query, file: FileRow, hidden: Rows | None, first: int | None = None, last: int | None = None
    ) -> Rows:
        """A file's rows, but for those that newer ones of the tail have replaced."""
        if hidden is not None and len(hidden):
            rows = self._whole(query, file, None, None)
            at = np.minimum(np.searchsorted(hidden, rows["ts"]), len(hidden) - 1)
            return _part(rows[hidden[at] != rows["ts"]], first, last)
        return self._whole(query, file, first, last)

    def _whole(self, query: Query, file: FileRow, first: int | None, last: int | None) -> Rows:
        start = query.start_ns if file.min_ts < query.start_ns else None
        end = query.end_ns if file.max_ts >= query.end_ns else None
        if last is not None and last < file.rows:
            # Of columns that it sorts DuckDB reads all, of those within bounds what is needed.
            times = self._columns(query._replace(dtype=columns_of(query.kind, ("ts",))), file)
            found = _cut(times, start, end, None, last)["ts"]
            start = int(found[0]) if len(found) else start
        return from_columns(self._columns(query, file, start, end, first), query.dtype)

    def _columns(
        self, query: Query, file: FileRow, start: int | None = None, end: int | None = None, first: int | None = None
    ) -> Columns:
        path = self._folder / file.path
        names = query.dtype.names or ()
        columns = self._cache.get(path, names)
        if columns is not None:
            return _cut(columns, start, end, first)
        columns = self._engine.read(path, names, start_ns=start, end_ns=end, first=first)
        if start is end is first is None:
            if len(columns["ts"]) != file.rows:
                raise TimeSeriesUnavailable(f"{path} is damaged: it has not the {file.rows} rows that were written")
            if query.dtype != query.kind.dtype:
                self._cache.put(path, columns)
        return columns


def _cut(
    columns: Columns, start_ns: int | None, end_ns: int | None, first: int | None, last: int | None = None
) -> Columns:
    """A part of columns as `Engine.read` would have read it; or the `last` rows of it."""
    ts = columns["ts"]
    begin = 0 if start_ns is None else int(np.searchsorted(ts, start_ns))
    end = len(ts) if end_ns is None else int(np.searchsorted(ts, end_ns))
    if first is not None:
        end = min(end, begin + first)
    if last is not None:
        begin = max(begin, end - last)
    return {name: column[begin:end] for name, column in columns.items()}


def in_order(sources: Iterable[Source], limit: int | None = None) -> Iterator[Rows]:
    """All rows by time, `limit` at most, each source being loaded when its turn comes."""
    left = limit
    for rows in _merged(sources, limit):
        for at in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[at : at + CHUNK_ROWS]
            if left is not None:
                chunk = chunk[:left]
                left -= len(chunk)
            if len(chunk):
                yield chunk
            if left == 0:
                return


def last_in_order(sources: Iterable[Source], count: int, dtype: np.dtype[np.void]) -> Rows:
    """The last `count` rows by time."""
    rows = np.empty(0, dtype)
    for source in sorted(sources, key=lambda source: source.max_ts, reverse=True):
        if len(rows) >= count and source.max_ts < rows["ts"][len(rows) - count]:
            break
        rows = by_time(np.concatenate((source.load(None, count), rows)))
    return rows[max(0, len(rows) - count) :]


def _merged(sources: Iterable[Source], limit: int | None) -> Iterator[Rows]:
    """Sorted arrays one after the other; what overlaps with a source still to come waits for it."""
    pending: Rows | None = None
    for source in sorted(sources, key=lambda source: source.min_ts):
        if pending is not None:
            cut = int(np.searchsorted(pending["ts"], source.min_ts))
            yield pending[:cut]
            pending = pending[cut:]
        rows = source.load(limit, None)
        pending = rows if pending is None or not len(pending) else by_time(np.concatenate((pending, rows)))
    if pending is not None:
        yield pending


def _part(rows: Rows, first: int | None = None, last: int | None = None) -> Rows:
    if last is not None:
        return rows[max(0, len(rows) - last) :]
    return rows[:first]
