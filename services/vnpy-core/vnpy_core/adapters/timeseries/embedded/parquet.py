"""Parquet files, written and read by DuckDB, which keeps nothing of its own on the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from vnpy_core.adapters.timeseries.embedded.disk import is_full, make_folder, meaning, sync
from vnpy_core.domain.errors import StorageFull, TimeSeriesUnavailable
from vnpy_core.kit.failpoints import hit

Columns = dict[str, npt.NDArray[Any]]
"""Columns of one length by name, `ts` among them."""

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": "256MB",
    "threads": 1,
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_IDLE = 4


class FileGone(Exception):
    """The file is not there: another thread or process has replaced it."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path


class Engine:
    """One DuckDB for the store; any thread may call, several at once. It starts at the first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._duck: duckdb.DuckDBPyConnection | None = None
        self._idle: list[duckdb.DuckDBPyConnection] = []

    def close(self) -> None:
        """Let go of memory; the next use starts it again."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()
            if self._duck is not None:
                self._duck.close()
                self._duck = None

    def read(
        self, path: Path, names: tuple[str, ...], *, start_ns: int | None = None, end_ns: int | None = None,
        first: int | None = None,
    ) -> Columns:  # fmt: skip
        """A file's columns, of the numbers' types as written; within the bounds that are given, and of those rows the
        `first` so many. Raises FileGone; TimeSeriesUnavailable where the file is damaged.
        """
        bounds = [f"ts {sign} {ns}" for sign, ns in ((">=", start_ns), ("<", end_ns)) if ns is not None]
        sql = f"select {', '.join(names)} from read_parquet({_quoted(path)})"  # noqa: S608 - names and numbers
        if bounds:
            sql += f" where {' and '.join(bounds)}"
        if first is not None:
            sql += f" limit {first:d}"
        with self._cursor() as cursor:
            try:
                columns: Columns = cursor.execute(sql).fetchnumpy()
            except duckdb.Error as error:
                if not path.exists():
                    raise FileGone(path) from error
                raise TimeSeriesUnavailable(f"{path} cannot be read, it may be damaged: {error}") from error
        return columns

    def write(self, path: Path, columns: Columns) -> int:
        """Write a file that is complete and durable, or not there; its size in bytes. Raises StorageFull,
        TimeSeriesUnavailable.
        """
        unfinished = path.with_name(path.name + ".tmp")
        try:
            make_folder(path.parent)
            self._copy(unfinished, {name: narrow(column) for name, column in columns.items()})
            sync(unfinished)
            hit("timeseries.before_rename")
            unfinished.rename(path)
            hit("timeseries.after_rename")
            sync(path.parent)
            return os.stat(path).st_size
        except OSError as error:
            raise meaning(error, f"{path} cannot be written") from error

    def _copy(self, path: Path, columns: Columns) -> None:
        with self._cursor() as cursor:
            cursor.register("rows_to_write", columns)
            try:
                cursor.execute(
                    f"copy rows_to_write to {_quoted(path)} (format parquet, compression zstd, parquet_version v2)"
                )
            except duckdb.Error as error:
                if is_full(path.parent, error):
                    raise StorageFull(f"the disk is full: {path} cannot be written") from error
                raise TimeSeriesUnavailable(f"{path} cannot be written: {error}") from error
            finally:
                cursor.unregister("rows_to_write")

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._lock:
            if self._duck is None:
                self._duck = duckdb.connect(config=_SETTINGS)
            cursor = self._idle.pop() if self._idle else self._duck.cursor()
        try:
            yield cursor
        except BaseException:
            cursor.close()
            raise
        with self._lock:
            if self._duck is not None and len(self._idle) < _IDLE:
                self._idle.append(cursor)
                return
        cursor.close()


def narrow(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The column as whole numbers of 4 or 8 bytes where each comes back to the same bits, else as it is.

    Whole numbers are written as differences, which takes less space and is quicker to read.
    """
    if column.dtype.kind != "f":
        return np.ascontiguousarray(column)
    column = np.ascontiguousarray(column)
    for smaller in (np.int32, np.int64):
        with np.errstate(invalid="ignore"):
            whole = column.astype(smaller)
        if np.array_equal(whole.astype(column.dtype).view(np.int64), column.view(np.int64)):
            return whole
    return column


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
