"""A batch of rows as the bytes that stand in the tail.

All columns are 8 bytes wide. Most of a tick's do not change within a batch (limits, the day's open, levels that a venue
does not send), so that the first row is kept in full and of the others only the columns that differ somewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from vnpy_core.adapters.timeseries.embedded.kinds import Rows

IN_FULL = 0
"""The layout of batches of which every row is there in full."""
_FEW = 4

Packed = tuple[int, int, bytes]
"""How many rows, the layout, the bytes. A layout has a bit for each column that differs."""


def pack(rows: Rows) -> Packed:
    """A batch as bytes; at least one row."""
    matrix = _matrix(np.ascontiguousarray(rows))
    if len(matrix) < _FEW:
        return len(rows), IN_FULL, matrix.tobytes()
    differs = (matrix != matrix[0]).any(axis=0)
    layout = sum(1 << int(column) for column in np.flatnonzero(differs))
    if layout == IN_FULL:  # rows that are all alike
        return len(rows), IN_FULL, matrix.tobytes()
    return len(rows), layout, matrix[0].tobytes() + matrix[:, differs].tobytes()


def unpack(batches: Sequence[Packed], dtype: np.dtype[np.void]) -> Rows:
    """All batches' rows in a new array, in their order."""
    rows = np.empty(sum(batch[0] for batch in batches), dtype)
    matrix, at = _matrix(rows), 0
    for is_plain, group in groupby(batches, lambda batch: batch[1] == IN_FULL):
        if is_plain:
            found = np.frombuffer(b"".join(batch[2] for batch in group), "<i8").reshape(-1, matrix.shape[1])
            matrix[at : at + len(found)] = found
            at += len(found)
            continue
        for count, layout, packed in group:
            _unpack_one(layout, packed, matrix[at : at + count])
            at += count
    return rows


def _unpack_one(layout: int, packed: bytes, into: npt.NDArray[np.int64]) -> None:
    count, width = into.shape
    into[:] = np.frombuffer(packed, "<i8", width)
    differs = [column for column in range(width) if layout >> column & 1]
    into[:, differs] = np.frombuffer(packed, "<i8", offset=8 * width).reshape(count, len(differs))


def _matrix(rows: Rows) -> npt.NDArray[np.int64]:
    return rows.view("<i8").reshape(len(rows), len(rows.dtype.names or ()))
