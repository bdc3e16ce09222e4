"""Batches of rows as the tail keeps them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testkit.timeseries import bars_at, odd_ticks, same_bits, ticks_at
from vnpy_core.adapters.timeseries.embedded.packing import pack, unpack
from vnpy_core.domain.history import BAR_DTYPE, TICK_DTYPE


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 100])
def test_rows_come_back_to_the_last_bit(count: int) -> None:
    for rows in (odd_ticks(count), ticks_at(range(count)), bars_at(range(count))):
        assert same_bits(unpack([pack(rows)], rows.dtype), rows)


def test_minus_zero_and_rows_that_are_all_alike_come_back() -> None:
    rows = np.repeat(ticks_at([1]), 10)
    rows["volume"] = -0.0
    assert same_bits(unpack([pack(rows)], TICK_DTYPE), rows)
    rows["volume"][3] = 0.0
    assert same_bits(unpack([pack(rows)], TICK_DTYPE), rows)


@given(st.lists(st.integers(1, 9), max_size=8), st.integers(0, 2))
def test_many_batches_come_back_in_their_order(sizes: list[int], seed: int) -> None:
    batches = [odd_ticks(size, seed + number) for number, size in enumerate(sizes)]
    together = np.concatenate([np.empty(0, TICK_DTYPE), *batches])
    assert same_bits(unpack([pack(rows) for rows in batches], TICK_DTYPE), together)


def test_columns_that_do_not_change_take_no_space() -> None:
    rows = ticks_at(range(1000))
    assert len(pack(rows)[2]) < 1000 * 17 + 300


def test_no_batches_are_no_rows() -> None:
    assert len(unpack([], BAR_DTYPE)) == 0
