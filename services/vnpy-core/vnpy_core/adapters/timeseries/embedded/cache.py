"""Columns that were read of whole files, kept for the next one who asks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy.typing as npt

from vnpy_core.adapters.timeseries.embedded.parquet import Columns

BYTES = 64 << 20


class ColumnCache:
    """The columns used last, of `size` bytes at most; any thread. A file never changes, so nothing gets stale.

    For reads of a few columns, which come again and again (bars made from ticks for a chart); whoever streams all
    columns would only push the others out.
    """

    def __init__(self, size: int = BYTES) -> None:
        self._size = size
        self._used = 0
        self._columns: OrderedDict[tuple[Path, str], npt.NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path, names: tuple[str, ...]) -> Columns | None:
        """A file's columns, if all of them are there; not to be changed."""
        with self._lock:
            if any((path, name) not in self._columns for name in names):
                return None
            for name in names:
                self._columns.move_to_end((path, name))
            return {name: self._columns[path, name] for name in names}

    def put(self, path: Path, columns: Columns) -> None:
        """Keep a file's columns; those not asked for the longest go."""
        with self._lock:
            for name, column in columns.items():
                before = self._columns.pop((path, name), None)
                self._used += column.nbytes - (0 if before is None else before.nbytes)
                self._columns[path, name] = column
            while self._used > self._size:
                _, gone = self._columns.popitem(last=False)
                self._used -= gone.nbytes

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._columns.clear()
            self._used = 0
