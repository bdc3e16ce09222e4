"""Columns that are read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from testkit.timeseries import RU, all_ticks, prices, ticks_at
from vnpy_core.adapters.timeseries.embedded import EmbeddedStore
from vnpy_core.adapters.timeseries.embedded.cache import ColumnCache
from vnpy_core.domain.errors import TimeSeriesUnavailable
from vnpy_core.domain.history import LAST_NS, US

ONE, TWO = Path("one"), Path("two")


def column(size: int) -> np.ndarray:
    return np.zeros(size, np.int8)


def test_columns_are_there_all_or_not_at_all() -> None:
    cache = ColumnCache()
    cache.put(ONE, {"ts": column(1), "volume": column(1)})
    assert list(cache.get(ONE, ("volume", "ts")) or ()) == ["volume", "ts"]
    assert cache.get(ONE, ("ts", "turnover")) is None
    assert cache.get(TWO, ("ts",)) is None
    cache.clear()
    assert cache.get(ONE, ("ts",)) is None


def test_what_was_not_asked_for_the_longest_goes_when_there_is_too_much() -> None:
    cache = ColumnCache(100)
    cache.put(ONE, {"ts": column(40), "volume": column(40)})
    assert cache.get(ONE, ("ts",))
    cache.put(TWO, {"ts": column(40)})
    assert cache.get(ONE, ("volume",)) is None
    assert cache.get(ONE, ("ts",))
    assert cache.get(TWO, ("ts",))
    for _ in range(10):
        cache.put(TWO, {"ts": column(40)})
    assert cache.get(ONE, ("ts",))
    cache.put(TWO, {"volume": column(101)})
    assert cache.get(ONE, ("ts",)) is None


def test_columns_that_were_read_need_no_file_but_those_that_are_read_whole_do(
    store: EmbeddedStore, folder: Path
) -> None:
    store.merge_ticks(RU, ticks_at(range(100)))
    store.flush()
    assert len(all_ticks(store, columns=("last_price",))) == 100
    for path in folder.rglob("*.parquet"):
        path.unlink()
    first = int(ticks_at([0])["ts"][0])
    assert prices(all_ticks(store, columns=("last_price",))) == list(range(100))
    found = all_ticks(store, start_ns=first + 10 * US, end_ns=first + 20 * US, columns=("last_price",), limit=5)
    assert prices(found) == [10, 11, 12, 13, 14]
    found["last_price"] = -1
    assert prices(all_ticks(store, columns=("last_price",), limit=2)) == [0, 1]
    with pytest.raises(TimeSeriesUnavailable):
        all_ticks(store)
    with pytest.raises(TimeSeriesUnavailable):
        store.last_ticks(RU, LAST_NS, 1)


def test_the_last_rows_of_a_file_are_found_by_their_times_wherever_the_range_ends(store: EmbeddedStore) -> None:
    rows = ticks_at(range(0, 100, 2))
    store.merge_ticks(RU, rows.copy())
    store.flush()
    first = int(rows["ts"][0])
    for end, count in ((0, 5), (1, 5), (3, 1), (51, 3), (51, 26), (51, 49), (51, 50), (99, 2), (200, 7)):
        found = store.last_ticks(RU, first + end * US, count)
        assert prices(found) == prices(rows[rows["ts"] < first + end * US][-count:])
    asked = store._reader._cache.get(next(store._folder.rglob("*.parquet")), ("ts",))
    assert asked is not None, "so that of the other columns only what is needed is decoded"
