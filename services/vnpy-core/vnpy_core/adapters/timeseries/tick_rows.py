"""Lays ticks out as record arrays, many times quicker than field by field."""

from __future__ import annotations

import struct

import numpy as np
from msgspec.structs import astuple

from vnpy_core.domain.events import Tick
from vnpy_core.domain.history import TICK_DTYPE, TICK_NUMBERS, US, Series, TickBatch

UNREADABLE = (struct.error, AttributeError, TypeError, ValueError, OverflowError)
"""What a tick whose fields are no times and numbers leads to."""

_FIELDS = Tick.__struct_fields__
_DATETIME, _LOCALTIME = _FIELDS.index("datetime"), _FIELDS.index("localtime")
_FIRST = min(_FIELDS.index(name) for name in TICK_NUMBERS)
_NUMBERS = slice(_FIRST, _FIRST + len(TICK_NUMBERS))
"""A tick's numbers, which stand together."""
_ORDER = [0, 1, *(2 + _FIELDS[_NUMBERS].index(name) for name in TICK_NUMBERS)]
"""Where they belong in TICK_DTYPE."""
_pack = struct.Struct(f"<{len(_ORDER)}d").pack


class TickPacker:
    """Takes ticks one by one and gives them out as batches. One thread at a time."""

    def __init__(self) -> None:
        self._rows: list[bytes] = []
        self._keys: list[int] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, tick: Tick, key: int) -> None:
        """Take in a tick; `key` says of which series. Raises one of `UNREADABLE`, and nothing was taken in then."""
        fields = astuple(tick)
        received = fields[_LOCALTIME]
        # A double holds the microseconds of a unix time until the year 2106, once it is rounded to them.
        row = _pack(fields[_DATETIME].timestamp(), 0.0 if received is None else received.timestamp(), *fields[_NUMBERS])
        self._rows.append(row)
        self._keys.append(key)

    def batch(self, series: list[Series], most: int) -> TickBatch:
        """Gives out the first `most`, by series, each in the order they came; `series` by key."""
        rows, keys = np.frombuffer(b"".join(self._rows[:most])).reshape(-1, len(_ORDER)), np.array(self._keys[:most])
        del self._rows[:most], self._keys[:most]
        by_series = np.argsort(keys, kind="stable")
        rows, keys = rows.take(by_series, axis=0).take(_ORDER, axis=1), keys[by_series]
        times = np.rint(rows[:, :2] * 1e6).astype(np.int64) * US
        numbers = rows[:, 2:]
        numbers[~(np.abs(numbers) < 1e300)] = 0.0
        ticks = rows.view(TICK_DTYPE)[:, 0]
        ticks["ts"], ticks["localtime"] = times[:, 0], times[:, 1]
        begins = np.flatnonzero(np.diff(keys, prepend=-1))
        parts = np.split(ticks, begins[1:])
        return TickBatch({series[keys[begin]]: part for begin, part in zip(begins, parts, strict=True)})
