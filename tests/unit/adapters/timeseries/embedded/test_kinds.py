"""Partitions by time."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from vnpy_core.adapters.timeseries.embedded.kinds import BARS, TICKS, columns_of
from vnpy_core.domain.history import FIRST_NS, LAST_NS, Interval, to_ns

MOMENT = to_ns(datetime(2026, 11, 21, 23, 59, 59, tzinfo=UTC))


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        (TICKS, "2026-11-21"),
        (BARS[Interval.MINUTE], "2026-11"),
        (BARS[Interval.HOUR], "2026"),
        (BARS[Interval.DAILY], "all"),
        (BARS[Interval.WEEKLY], "all"),
    ],
)
def test_a_partition_has_its_times_and_no_others(kind, label: str) -> None:
    part = kind.part(MOMENT)
    assert kind.label(part) == label
    begin, end = kind.begin(part), kind.begin(part + 1)
    if begin is None:
        assert not kind.covers(part, FIRST_NS, LAST_NS)
        return
    assert begin <= MOMENT < end
    assert list(kind.parts(np.array([begin - 1, begin, end - 1, end]))) == [part - 1, part, part, part + 1]
    assert kind.covers(part, begin, end)
    assert not kind.covers(part, begin + 1, end)
    assert not kind.covers(part, begin, end - 1)


def test_the_first_and_the_last_time_have_partitions() -> None:
    for kind in (TICKS, *BARS.values()):
        assert kind.part(FIRST_NS) == 0
        assert kind.part(LAST_NS - 1) >= 0


def test_columns_come_after_the_time_and_an_unknown_one_is_refused() -> None:
    assert columns_of(TICKS, ("volume", "ts", "volume")).names == ("ts", "volume")
    with pytest.raises(KeyError):
        columns_of(TICKS, ("no_such",))
