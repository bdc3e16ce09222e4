"""Stamping many series at once, and which ticks are known."""

from __future__ import annotations

import numpy as np

from vnpy_core.adapters.timeseries.influx.stamping import Stack, known
from vnpy_core.domain.history import TickArray, empty_ticks


def at(*times: int, price: float = 1.0) -> TickArray:
    ticks = empty_ticks(len(times))
    ticks["ts"] = times
    ticks["last_price"] = price
    ticks["volume"] = np.arange(len(times))
    return ticks


def test_each_series_has_its_own_ordinals_in_order_of_arrival():
    stack = Stack([at(5_000, 4_000, 5_000), at(5_000), at(5_007, 5_000, 9_000, 9_999)])
    first, second, third = (stack.part(part) for part in range(3))
    assert first["ts"].tolist() == [4_000, 5_000, 5_001]
    assert first["volume"].tolist() == [1, 0, 2]
    assert second["ts"].tolist() == [5_000]
    assert third["ts"].tolist() == [5_000, 5_001, 9_000, 9_001]
    assert stack.first == [4_000, 5_000, 5_000]
    assert stack.us(2).tolist() == [5_000, 5_000, 9_000, 9_000]
    assert not stack.crowded


def test_what_has_more_ticks_than_a_microsecond_has_room_is_told():
    stack = Stack([at(*[5_000] * 1_000), at(*[5_000] * 1_001), at(5_000)])
    assert stack.crowded == {1}


def test_the_same_tick_is_known_whatever_its_ordinal_and_when_it_was_received():
    ticks = at(5_000, 5_000, 6_000)
    ticks["localtime"] = 77
    assert known(ticks, [at(5_000), at(1, 5_007)[1:]]).tolist() == [True, True, False]


def test_of_ticks_alike_only_the_first_is_new():
    ticks = at(5_000, 5_000, 6_000)
    ticks["volume"] = 0
    ticks["turnover"] = [0.0, -0.0, 0.0]
    assert known(ticks, []).tolist() == [False, True, False]


def test_a_tick_that_spilled_into_the_next_microsecond_is_known():
    stored = at(*range(5_000, 6_002))
    spilled = stored[-1:].copy()
    spilled["ts"] = 5_000
    assert known(spilled, [stored]).tolist() == [True]
