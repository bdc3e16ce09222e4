"""What happens to files and the tail while and after rows are rolled."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import time
from pathlib import Path

import numpy as np
import pytest

from testkit.clock import FakeClock
from testkit.load import eventually
from testkit.timeseries import RU, all_bars, all_ticks, bars_at, odd_ticks, prices, same_bits, ticks_at
from vnpy_core.adapters.timeseries.embedded import EmbeddedStore, catalog, rolling, worker
from vnpy_core.adapters.timeseries.embedded.kinds import TICKS
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.errors import TimeSeriesUnavailable
from vnpy_core.domain.history import FIRST_NS, LAST_NS, NS, Interval, Merged, Series, TickBatch, to_datetime
from vnpy_core.domain.sessions import SHANGHAI
from vnpy_core.kit.clock import SystemClock

CU = Series("cu1901", "SHFE")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "tick" in path.parts}


def parquet(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet*"))


def test_a_days_files_are_merged_while_no_market_opens() -> None:
    day = TICKS.part(NS)
    end = TICKS.begin(day + 1)
    assert end is not None
    merged = to_datetime(end + int(rolling.OVER_S * NS)).astimezone(SHANGHAI)
    # After the night session, and with half an hour for 500 contracts on a slow machine before 09:00.
    assert time(3) < merged.time() <= time(8, 30)


class TestTheTail:
    def test_rows_wait_in_the_tail_until_they_are_enough(self, make, folder: Path) -> None:
        store: EmbeddedStore = make(roll_rows=10)
        store.append_ticks(TickBatch({RU: ticks_at(range(9))}))
        assert store.state().tail_rows == 9
        store.append_ticks(TickBatch({RU: ticks_at([9])}))
        eventually(lambda: store.state().tail_rows == 0, what="ten rows are not rolled")
        assert len(parquet(folder)) == 1
        assert len(all_ticks(store)) == 10

    def test_rows_wait_no_longer_than_they_may(self, folder: Path) -> None:
        store = EmbeddedStore(folder, TimeSeriesSettings(roll_s=0.1), SystemClock())
        store.open()
        store.append_ticks(TickBatch({RU: ticks_at(range(3))}))
        eventually(lambda: store.state().tail_rows == 0, what="old rows are not rolled")
        store.close()

    def test_a_flushed_store_takes_little_space(self, store: EmbeddedStore, folder: Path) -> None:
        for number in range(30):
            store.append_ticks(TickBatch({RU: ticks_at(range(number * 1000, number * 1000 + 1000))}))
        store.flush()
        on_disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        state = store.state()
        assert state.tail_rows == 0
        assert state.bytes_on_disk is not None
        assert state.bytes_on_disk < 200_000
        assert abs(on_disk - state.bytes_on_disk) <= 32_768  # SQLite's shared memory

    def test_who_reads_the_catalog_for_long_holds_up_no_ticks(self, make, folder: Path) -> None:
        store: EmbeddedStore = make(timeout_s=60)
        store.append_ticks(TickBatch({RU: odd_ticks(5_000)}))
        with closing(sqlite3.connect(folder / "catalog.sqlite", isolation_level=None)) as reader:
            reader.execute("begin")
            reader.execute("select count(*) from tail").fetchone()
            tidying = threading.Thread(target=store.flush)
            tidying.start()
            eventually(lambda: not store.state().tail_rows, what="nothing is rolled")
            writing = threading.Thread(target=store.append_ticks, args=[TickBatch({CU: odd_ticks(1)})])
            writing.start()
            writing.join(20)
            was_held_up = writing.is_alive()
        tidying.join()
        writing.join()
        assert not was_held_up

    def test_files_are_never_larger_than_they_may(self, store: EmbeddedStore, folder: Path, monkeypatch) -> None:
        monkeypatch.setattr(rolling, "CAP_ROWS", 100)
        store.merge_ticks(RU, ticks_at(range(0, 1000, 2)))
        store.merge_ticks(RU, ticks_at(range(1, 1000, 2)))
        store.flush()
        assert len(parquet(folder)) == 10
        found = all_ticks(store)
        assert len(found) == 1000
        assert (np.diff(found["ts"]) > 0).all()
        assert len(all_ticks(store, limit=321)) == 321
        assert same_bits(store.last_ticks(RU, LAST_NS, 321), found[-321:])


class TestMerging:
    def test_small_files_of_a_day_become_one_when_it_is_over(self, make, folder: Path, clock: FakeClock) -> None:
        store: EmbeddedStore = make(roll_rows=10, roll_s=0.05)
        for number in range(3):
            store.append_ticks(TickBatch({RU: ticks_at(range(number * 10, number * 10 + 10), first=number * 10)}))
            eventually(lambda: store.state().tail_rows == 0, what="the tail is not rolled")
        eventually(lambda: len(listed(store)) == 1, what="the files are not merged")
        assert prices(all_ticks(store)) == list(range(30))
        clock.advance(rolling.GRACE_S + 1)
        eventually(lambda: len(parquet(folder)) == 1, what="the old files are not removed")
        assert prices(all_ticks(store)) == list(range(30))

    def test_numbers_of_other_widths_are_merged_to_the_last_bit(self, store: EmbeddedStore, clock: FakeClock) -> None:
        small, large = ticks_at(range(10)), odd_ticks(10)
        store.append_ticks(TickBatch({RU: small.copy()}))
        store.flush()
        large["ts"] += 20_000
        store.append_ticks(TickBatch({RU: large.copy()}))
        store.flush()
        assert len(listed(store)) == 1
        together = np.concatenate((small, large))
        assert same_bits(all_ticks(store), together[np.argsort(together["ts"])])

    def test_bars_of_a_month_are_one_file(self, store: EmbeddedStore) -> None:
        for close in range(3):
            store.merge_bars(RU, Interval.MINUTE, bars_at(range(close, 10 + close), close=close))
            store.flush()
        assert len(listed(store)) == 1
        assert [float(x) for x in all_bars(store)["close_price"]] == [0, 1] + [2] * 10


class TestReaders:
    def test_a_reader_goes_on_while_the_files_it_reads_are_replaced(
        self, store: EmbeddedStore, folder: Path, clock: FakeClock, monkeypatch
    ) -> None:
        monkeypatch.setattr(rolling, "CAP_ROWS", 1000)
        monkeypatch.setattr(rolling, "SMALL_ROWS", 0)
        monkeypatch.setattr(catalog, "SMALL_ROWS", 0)
        store.merge_ticks(RU, ticks_at(range(3000)))
        store.flush()
        reading = store.ticks(RU, FIRST_NS, LAST_NS, columns=("last_price",))
        found = [next(reading)]
        before = set(parquet(folder))
        monkeypatch.setattr(rolling, "SMALL_ROWS", 2000)
        monkeypatch.setattr(catalog, "SMALL_ROWS", 2000)
        monkeypatch.setattr(rolling, "CAP_ROWS", 5000)
        store.append_ticks(TickBatch({RU: ticks_at([5000], first=9999)}))
        store.flush()
        clock.advance(rolling.GRACE_S + 1)
        store.flush()
        assert not before & set(parquet(folder)), "the files that are being read were to be gone"
        found += list(reading)
        assert prices(np.concatenate(found))[:3000] == list(range(3000))

    def test_replaced_files_stay_for_a_while(self, store: EmbeddedStore, folder: Path, clock: FakeClock) -> None:
        for number in range(2):
            store.append_ticks(TickBatch({RU: ticks_at([number])}))
            store.flush()
        assert (len(listed(store)), len(parquet(folder))) == (1, 3)
        clock.advance(rolling.GRACE_S - 1)
        store.flush()
        assert len(parquet(folder)) == 3
        clock.advance(2)
        store.flush()
        assert len(parquet(folder)) == 1

    def test_what_was_read_before_a_delete_is_read_on(self, store: EmbeddedStore, monkeypatch) -> None:
        monkeypatch.setattr(rolling, "CAP_ROWS", 60_000)
        store.merge_ticks(RU, ticks_at(range(120_000)))
        store.flush()
        reading = store.ticks(RU, FIRST_NS, LAST_NS, columns=("last_price",))
        found = [next(reading)]
        assert store.delete_ticks(RU, FIRST_NS, LAST_NS) == 120_000
        assert sum(len(rows) for rows in [*found, *reading]) == 120_000
        assert len(all_ticks(store)) == 0


class TestDamage:
    @pytest.fixture
    def damaged(self, store: EmbeddedStore, folder: Path) -> Path:
        """One of two series has a file that is damaged."""
        for series in (RU, CU):
            store.append_ticks(TickBatch({series: ticks_at(range(100))}))
        store.flush()
        path = next(path for path in parquet(folder) if "ru1901" in str(path))
        path.write_bytes(b"PAR1 is no Parquet file PAR1")
        return path

    def test_a_damaged_file_is_named_and_others_are_read(self, store: EmbeddedStore, damaged: Path) -> None:
        for _ in range(2):
            with pytest.raises(TimeSeriesUnavailable, match=damaged.name):
                all_ticks(store)
        with pytest.raises(TimeSeriesUnavailable, match=damaged.name):
            store.last_ticks(RU, LAST_NS, 3)
        with pytest.raises(TimeSeriesUnavailable, match=damaged.name):
            store.merge_ticks(RU, ticks_at([5]))
        assert len(all_ticks(store, CU)) == 100
        assert store.merge_ticks(CU, ticks_at(range(100))) == Merged(0, 100)
        store.append_ticks(TickBatch({RU: ticks_at([200])}))
        assert len(all_ticks(store, start_ns=int(ticks_at([200])["ts"][0]))) == 1

    def test_late_ticks_of_a_series_with_a_damaged_file_do_not_stop_the_others(
        self, store: EmbeddedStore, damaged: Path
    ) -> None:
        batch = TickBatch({RU: ticks_at([5, 300]), CU: ticks_at([5, 300], first=100)})
        store.append_ticks(batch)
        store.append_ticks(batch)
        assert prices(all_ticks(store, CU))[6] == 100
        assert len(all_ticks(store, CU)) == 102
        assert store.state().tail_rows == 4

    def test_a_file_that_is_missing_is_named(self, store: EmbeddedStore, damaged: Path) -> None:
        damaged.unlink()
        with pytest.raises(TimeSeriesUnavailable, match=f"{damaged.name} is missing"):
            all_ticks(store)
        with pytest.raises(TimeSeriesUnavailable, match=f"{damaged.name} is missing"):
            store.last_ticks(RU, LAST_NS, 3)

    def test_a_damaged_file_can_be_taken_away(self, store: EmbeddedStore, damaged: Path) -> None:
        assert store.delete_ticks(RU, FIRST_NS, LAST_NS) == 100
        assert len(all_ticks(store)) == 0

    def test_a_file_that_lacks_rows_is_damaged(self, store: EmbeddedStore, damaged: Path, folder: Path) -> None:
        store._engine.write(damaged, {name: ticks_at([1])[name] for name in ticks_at([]).dtype.names or ()})
        with pytest.raises(TimeSeriesUnavailable, match="100 rows"):
            all_ticks(store)

    def test_the_worker_says_what_is_in_its_way_and_rolls_the_rest(
        self, store: EmbeddedStore, damaged: Path, make
    ) -> None:
        rolls: EmbeddedStore = make(roll_rows=10, roll_s=0.05)
        rolls.append_ticks(TickBatch({RU: ticks_at([300]), CU: ticks_at(range(300, 400))}))
        rolls.append_ticks(TickBatch({RU: ticks_at(range(301, 350))}))
        eventually(lambda: damaged.name in rolls.state().detail, what="the damage is not told")
        eventually(lambda: rolls.state().tail_rows == 0, what="the tail is not rolled")
        assert len(all_ticks(rolls, CU)) == 200
        threading.Event().wait(0.5)  # some rounds
        assert damaged.name in rolls.state().detail, "it is told only once, though it still is in the way"


class TestManyOfOneMicrosecond:
    def test_more_than_a_thousand_are_all_kept_and_known_again(self, store: EmbeddedStore) -> None:
        ticks = ticks_at([5] * 2500 + [6] * 3 + [9])
        assert store.merge_ticks(RU, ticks.copy()) == Merged(2504, 0)
        assert prices(all_ticks(store)) == list(range(2504))
        assert store.merge_ticks(RU, ticks.copy()) == Merged(0, 2504)
        store.flush()
        assert store.merge_ticks(RU, ticks.copy()) == Merged(0, 2504)
        store.append_ticks(TickBatch({RU: ticks_at([5] * 10, first=3000)}))
        found = all_ticks(store)
        assert len(found) == 2514
        assert (np.diff(found["ts"]) > 0).all()


def test_the_thread_ends_with_the_store(make, folder: Path) -> None:
    before = set(threading.enumerate())
    store: EmbeddedStore = make()
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["timeseries"]
    store.close()
    assert not set(threading.enumerate()) - before


def test_what_holds_the_lock_is_waited_for_no_longer_than_the_timeout(make, folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(worker, "_LOCK_WAIT_S", 0.01)
    store: EmbeddedStore = make(timeout_s=0.1)
    store.append_ticks(TickBatch({RU: ticks_at([1])}))
    with store._roller.holding(1):
        with pytest.raises(TimeSeriesUnavailable, match="held by another"):
            store.flush()
        assert len(all_ticks(store)) == 1
        store.append_ticks(TickBatch({RU: ticks_at([2])}))
    store.flush()
    assert store.state().tail_rows == 0


def listed(store: EmbeddedStore) -> list[str]:
    with store._catalog.reading() as db:
        return [path for (path,) in db.execute("select path from files")]
