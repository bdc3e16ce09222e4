"""Which tick is which: ordinals within a microsecond, and which ticks are there already. Pure functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vnpy_core.domain.history import TICK_NUMBERS, US

Rows = npt.NDArray[np.void]
"""Of TICK_DTYPE."""
Times = npt.NDArray[np.int64]

REACH_NS = 100 * US
"""How far behind its microsecond a tick is looked for that found no place there, nanoseconds: 100,000 ticks."""
_NUMBERS_FROM = 2
"""The first columns are `ts` and `localtime`, which say nothing of the content."""
_SHIFT = np.uint64(29)
_FACTORS = np.random.default_rng(0).integers(1, 2**63, len(TICK_NUMBERS), np.uint64) | np.uint64(1)


def microseconds(ts: Times) -> Times:
    """The times without their ordinals, nanoseconds."""
    return ts - ts % US


def stamp(us: Times, taken: Times) -> Times:
    """A free time for each of the sorted microseconds `us`, rising strictly: behind what is `taken` (sorted) there.

    A microsecond has 1000 places. What does not find one takes the next free place behind, in the microseconds after,
    and pushes on what comes there: nothing is lost, and the order stays.
    """
    wanted = us
    if len(taken):
        last = np.searchsorted(taken, us + US) - 1
        wanted = np.maximum(us, np.where(last >= 0, taken[last] + 1, us))
    places = np.arange(len(us))
    behind = _behind_each(taken)
    while True:
        ts = np.maximum.accumulate(wanted - places) + places
        at = np.searchsorted(taken, ts)
        hits = at < len(taken)
        hits[hits] = taken[at[hits]] == ts[hits]
        if not hits.any():
            return ts
        wanted = ts.copy()
        wanted[hits] = behind[at[hits]]


def stamp_among(us: Times, taken_between: Callable[[int, int], Times]) -> Times:
    """`stamp`, given what is taken from one time to before another, sorted; asked for as far as need be."""
    end = int(us[-1]) + US
    while True:
        ts = stamp(us, taken_between(int(us[0]), end))
        if ts[-1] < end:
            return ts
        end = int(ts[-1]) + 1 + US


def _behind_each(taken: Times) -> Times:
    """For each taken time the first one behind it that is not."""
    if not len(taken):
        return taken
    ends = np.append(np.flatnonzero(np.diff(taken) != 1), len(taken) - 1)
    behind: Times = taken[ends[np.searchsorted(ends, np.arange(len(taken)))]] + 1
    return behind


def alike_before(rows: Rows, us: Times) -> npt.NDArray[np.bool_]:
    """For each row whether one before it has the same microsecond (as given in `us`) and the same numbers."""
    known = np.zeros(len(rows), bool)
    if len(rows) < 2:
        return known
    numbers = rows.view("<f8").reshape(len(rows), -1)[:, _NUMBERS_FROM:] + 0.0  # -0.0 becomes 0.0
    hashes = _hash(numbers)
    order = np.lexsort((hashes, us))
    first, second = order[:-1], order[1:]
    near = (us[first] == us[second]) & (hashes[first] == hashes[second])
    near[near] = (numbers[first[near]] == numbers[second[near]]).all(axis=1)
    known[second[near]] = True
    return known


def _hash(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    """64 bits of each row; floats have their differences in the high bits, so those are brought down first."""
    bits = numbers.view(np.uint64)
    mixed = (bits ^ (bits >> _SHIFT)) * _FACTORS
    mixed ^= mixed >> _SHIFT
    hashes: npt.NDArray[np.uint64] = (mixed * _FACTORS[::-1]).sum(axis=1, dtype=np.uint64)
    return hashes


def homes(ts: Times) -> tuple[npt.NDArray[np.intp], Times]:
    """The microseconds that stored times (sorted) may stem from, each with its time's number: its own, and where times
    follow each other without a gap from an earlier microsecond on, also those, for they may have spilled over.
    """
    own = microseconds(ts)
    if not len(ts):
        return np.empty(0, np.intp), own
    starts = np.append(0, np.flatnonzero(np.diff(ts) != 1) + 1)
    run = starts[np.searchsorted(starts, np.arange(len(ts)), side="right") - 1]
    counts = (own - own[run]) // US + 1
    which = np.repeat(np.arange(len(ts)), counts)
    back = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    return which, own[which] - back * US
