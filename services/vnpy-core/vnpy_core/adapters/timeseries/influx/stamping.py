"""Ticks of many series on their way to their ordinals, and which of a series' ticks are stored already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from vnpy_core.adapters.timeseries import ordinals
from vnpy_core.adapters.timeseries.influx.arrays import joined
from vnpy_core.domain.history import US, TickArray, empty_ticks

Times = npt.NDArray[np.int64]


class Stack:
    """Ticks of some series, none of them without any. All are stamped at once, as if the store had none of their
    microseconds: 500 series with a tick each are no rarity, and series that the store has are.
    """

    def __init__(self, parts: Sequence[TickArray]) -> None:
        """Takes a copy."""
        sizes = [len(part) for part in parts]
        self._ends = np.cumsum(sizes).tolist()
        owners = np.repeat(np.arange(len(parts)), sizes)
        rows = joined(parts)
        rows["ts"] = ordinals.microseconds(rows["ts"])
        self._rows = rows[np.lexsort((rows["ts"], owners))]
        self._us: Times = self._rows["ts"].copy()
        begins = np.ones(len(rows), np.bool_)
        begins[1:] = (np.diff(self._us) != 0) | (np.diff(owners) != 0)
        row = np.arange(len(rows))
        places = row - np.maximum.accumulate(np.where(begins, row, 0))
        self._rows["ts"] += places
        self.crowded = frozenset(owners[places >= US].tolist())
        """The series that have more ticks in a microsecond than it has room for."""

    @property
    def first(self) -> list[int]:
        """Each series' first microsecond."""
        times: list[int] = self._us[[0, *self._ends[:-1]]].tolist()
        return times

    def us(self, part: int) -> Times:
        """A series' microseconds, sorted."""
        return self._us[self._slice(part)]

    def part(self, part: int) -> TickArray:
        """A series' ticks by time. What is changed in it is changed here."""
        return self._rows[self._slice(part)]

    def _slice(self, part: int) -> slice:
        return slice(self._ends[part - 1] if part else 0, self._ends[part])


def known(ticks: TickArray, stored: Iterable[TickArray]) -> npt.NDArray[np.bool_]:
    """Which of a series' ticks, which have no ordinals, are like one of `stored` or like one before them.

    `stored` has what may be of their microseconds: from the first one on, to REACH_NS after the last one.
    """
    us = np.ascontiguousarray(ticks["ts"])
    found, homes = [empty_ticks()], [us[:0]]
    for rows in stored:
        which, home = ordinals.homes(rows["ts"])
        is_wanted = np.isin(home, us)
        found.append(rows[which[is_wanted]])
        homes.append(home[is_wanted])
    there = joined(found)
    return ordinals.alike_before(joined([there, ticks]), np.concatenate([*homes, us]))[len(there) :]
