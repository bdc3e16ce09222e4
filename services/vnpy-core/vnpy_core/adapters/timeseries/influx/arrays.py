"""Record arrays from many others, and from what the server answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def joined(parts: Sequence[npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
    """`parts`, all of one type, as one. np.concatenate takes 70 us for each of them, to compare their types."""
    return np.frombuffer(bytearray().join([part.tobytes() for part in parts]), parts[0].dtype)


def with_columns(dtype: np.dtype[np.void], columns: tuple[str, ...]) -> np.dtype[np.void]:
    """`ts` and these columns of a type; all of them where none are named. Raises KeyError for an unknown name."""
    names = [name for name in dict.fromkeys(columns) if name != "ts"]
    return np.dtype([("ts", dtype["ts"]), *((name, dtype[name]) for name in names)]) if columns else dtype


def answer_type(dtype: np.dtype[np.void]) -> Any:
    """The type of a row of an answer that has a `dtype`'s columns: the time, and numbers that may be null."""
    kinds = [int | None if dtype[name].kind == "i" else float | None for name in (dtype.names or ())[1:]]
    return tuple[(int, *kinds)]  # type: ignore[valid-type]


def rows_of(values: list[Any], asked: np.dtype[np.void], dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """Rows of `answer_type(asked)` as an array of `dtype`, which has no other columns; null is 0."""
    raw = np.array(values, [(name, "O" if asked[name].kind == "i" else asked[name]) for name in asked.names or ()])
    rows = np.empty(len(raw), dtype)
    for name in dtype.names or ():
        column = raw[name]
        rows[name] = np.where(np.isnan(column), 0, column) if column.dtype.kind == "f" else [n or 0 for n in column]
    return rows
