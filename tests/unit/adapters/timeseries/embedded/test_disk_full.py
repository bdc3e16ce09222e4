"""A disk that is full: nothing of a call is stored, nothing stored is lost, and all goes on when there is space."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from testkit.load import eventually
from testkit.small_disk import fill, small_disk
from testkit.timeseries import RU, all_bars, all_ticks, bars_at, odd_ticks, prices, ticks_at
from vnpy_core.adapters.timeseries.embedded import EmbeddedStore
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.errors import StorageFull
from vnpy_core.domain.history import FIRST_NS, LAST_NS, Interval, Merged, Series, TickBatch
from vnpy_core.kit.clock import SystemClock

DISK_MB = 64


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    with small_disk(tmp_path / "disk", DISK_MB) as folder:
        yield folder


def opened(disk: Path, **settings: float) -> EmbeddedStore:
    store = EmbeddedStore(disk / "timeseries", TimeSeriesSettings(**settings), SystemClock())
    store.open()
    return store


def test_a_full_disk_stores_all_of_a_call_or_nothing_and_goes_on_later(disk: Path) -> None:
    (disk / "ballast").write_bytes(bytes(30 << 20))
    with closing(opened(disk)) as store:
        batches = [TickBatch({RU: odd_ticks(5000, seed)}) for seed in range(40)]
        for number, batch in enumerate(batches):
            batch.ticks[RU]["ts"] += number * 10**13
            batch.ticks[RU]["last_price"] = number
        stored = 0
        with pytest.raises(StorageFull, match="disk is full"):
            for batch in batches:
                store.append_ticks(batch)
                stored += 1
        assert 1 < stored < len(batches)
        expected = [float(number) for number in range(stored) for _ in range(5000)]
        assert prices(all_ticks(store)) == expected
        fill(disk)
        with pytest.raises(StorageFull):
            store.append_ticks(batches[stored])
        with pytest.raises(StorageFull):
            store.merge_ticks(RU, odd_ticks(3000, seed=99))
        with pytest.raises(StorageFull):
            store.flush()
        assert prices(all_ticks(store)) == expected
        assert store.overview()[0].count == len(expected)
        (disk / "ballast").unlink()
        store.flush()
        store.append_ticks(batches[stored])
        store.append_ticks(batches[stored])
        assert prices(all_ticks(store)) == [*expected, *([float(stored)] * 5000)]
    with closing(opened(disk)) as store:
        assert len(all_ticks(store)) == len(expected) + 5000


def test_rolling_that_met_a_full_disk_is_tried_again(disk: Path) -> None:
    with closing(opened(disk, roll_s=0.5)) as store:
        store.append_ticks(TickBatch({RU: ticks_at([0])}))
        eventually(lambda: store.state().tail_rows == 0, what="the tail is not rolled")
        store.append_ticks(TickBatch({RU: odd_ticks(5000)}))
        store.merge_bars(RU, Interval.MINUTE, bars_at(range(10)))
        fill(disk)
        stored = all_ticks(store)
        eventually(lambda: "full" in store.state().detail, what="the full disk is not told")
        assert store.state().available
        assert (store.state().tail_rows or 0) >= 5000
        (disk / "ballast").unlink()
        eventually(lambda: store.state().tail_rows == 0, what="the tail is not rolled when there is space again")
        eventually(lambda: not store.state().detail, what="the problem that is over is still told")
        assert (all_ticks(store) == stored).all()
        assert len(stored) == 5001
        assert len(all_bars(store)) == 10


def test_a_store_opens_and_reads_on_a_full_disk(disk: Path) -> None:
    with closing(opened(disk)) as store:
        store.merge_ticks(RU, ticks_at(range(100)))
        store.flush()
        store.append_ticks(TickBatch({RU: ticks_at([200], first=100)}))
    fill(disk)
    try:
        store = opened(disk)
    except StorageFull:
        (disk / "ballast").unlink()
        store = opened(disk)
    with closing(store):
        assert prices(all_ticks(store)) == list(range(101))


def test_space_is_given_back_by_taking_ranges_away(disk: Path) -> None:
    """Which needs some itself, for the WAL."""
    other = Series("cu1901", "SHFE")
    (disk / "ballast").write_bytes(bytes(20 << 20))
    with closing(opened(disk)) as store:
        store.merge_ticks(other, odd_ticks(5000))
        store.flush()
        with pytest.raises(StorageFull):
            for number in range(100):
                rows = odd_ticks(5000, number)
                rows["ts"] += number * 10**13
                store.append_ticks(TickBatch({RU: rows}))
        count = store.overview()[1].count
        (disk / "ballast").unlink()
        assert store.delete_ticks(RU, FIRST_NS, LAST_NS) == count
        store.flush()
        assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > (DISK_MB - 4) << 20
        assert store.merge_ticks(RU, odd_ticks(5000)) == Merged(5000, 0)
        assert len(all_ticks(store, other)) == 5000
