"""Ordinals, and which tick is which."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from testkit.timeseries import ticks_at
from vnpy_core.adapters.timeseries.ordinals import alike_before, homes, stamp, stamp_among

US = st.lists(st.integers(0, 4), max_size=40)


def times(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


@given(US, st.sets(st.integers(0, 6000), max_size=50), st.integers(0, 3))
def test_stamped_times_rise_are_free_and_never_before_their_microsecond(
    us: list[int], taken: set[int], full: int
) -> None:
    occupied = times(sorted(taken | set(range(full * 1000, full * 1000 + 1000))))
    wanted = times(sorted(us)) * 1000
    found = stamp(wanted, occupied)
    assert (np.diff(found) > 0).all()
    assert not np.isin(found, occupied).any()
    assert (found >= wanted).all()


def test_ticks_come_behind_those_of_their_microsecond() -> None:
    assert list(stamp(times([1000, 1000, 2000]), times([1000, 1004, 3000]))) == [1005, 1006, 2000]


def test_a_full_microsecond_spills_into_the_next_and_pushes_on_what_is_there() -> None:
    found = stamp(times([1000] * 1001 + [2000]), times([]))
    assert list(found[-3:]) == [1999, 2000, 2001]
    assert list(stamp(times([1000]), np.arange(1000, 2500))) == [2500]


def test_what_is_taken_is_asked_for_as_far_as_ticks_spill() -> None:
    taken = np.arange(1000, 4500)

    def between(start: int, end: int) -> np.ndarray:
        return taken[(taken >= start) & (taken < end)]

    assert list(stamp_among(times([1000, 1000]), between)) == [4500, 4501]


def test_a_spilled_tick_may_stem_from_any_microsecond_of_its_run() -> None:
    which, home = homes(np.append(np.arange(5998, 7001), 9000))
    assert list(which[:4]) == [0, 1, 2, 2]
    assert list(home[:4]) == [5000, 5000, 6000, 5000]
    assert list(which[-4:]) == [1002, 1002, 1002, 1003]
    assert list(home[-4:]) == [7000, 6000, 5000, 9000]
    assert [len(part) for part in homes(times([]))] == [0, 0]


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e-9, 1e15])), max_size=30))
def test_a_row_is_known_when_one_alike_came_before(rows: list[tuple[int, float]]) -> None:
    ticks = ticks_at([us for us, _ in rows])
    ticks["last_price"] = [price for _, price in rows]
    ticks["localtime"] = np.arange(len(rows))
    expected = [row in rows[:number] for number, row in enumerate(rows)]
    assert list(alike_before(ticks, ticks["ts"])) == expected


def test_rows_that_differ_in_two_columns_by_the_same_are_different() -> None:
    ticks = np.repeat(ticks_at([1]), 64 * 64)
    first, second = np.divmod(np.arange(len(ticks)), 64)
    ticks["last_price"] = 1.0
    ticks["bid_price_1"], ticks["ask_price_1"] = first * 2.0**40, second * 2.0**40
    assert not alike_before(ticks, ticks["ts"]).any()
