"""What every tick and bar store does alike; `testkit.timeseries.KINDS` has the stores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testkit.timeseries import (
    KINDS,
    MINUTE,
    RU,
    START_US,
    Make,
    all_bars,
    all_ticks,
    bars_at,
    odd_ticks,
    prices,
    same_bits,
    ticks_at,
)
from vnpy_core.domain.errors import CoreError
from vnpy_core.domain.history import (
    BAR_DTYPE,
    FIRST_NS,
    LAST_NS,
    TICK_DTYPE,
    US,
    Coverage,
    Interval,
    Merged,
    Series,
    TickBatch,
)
from vnpy_core.ports.timeseries import TimeSeriesStore

CU = Series("cu1901", "SHFE")
DAY_US = 86_400_000_000


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes stores over one place, which are closed afterwards."""
    made: list[TimeSeriesStore] = []
    make_one = KINDS[request.param](request, tmp_path)

    def make() -> TimeSeriesStore:
        made.append(make_one())
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make: Make) -> TimeSeriesStore:
    store = make()
    store.open()
    return store


def append(store: TimeSeriesStore, rows: np.ndarray, series: Series = RU) -> TickBatch:
    batch = TickBatch({series: rows})
    store.append_ticks(batch)
    return batch


def at(us: int) -> int:
    """A tick's time, nanoseconds, from microseconds after START_US."""
    return (START_US + us) * US


class TestTicks:
    def test_an_empty_store_has_nothing(self, store: TimeSeriesStore) -> None:
        assert list(store.ticks(RU, FIRST_NS, LAST_NS)) == []
        assert list(store.bars(RU, Interval.MINUTE, FIRST_NS, LAST_NS)) == []
        assert len(store.last_ticks(RU, LAST_NS, 5)) == 0
        assert store.overview() == []
        assert store.delete_ticks(RU, FIRST_NS, LAST_NS) == 0
        assert store.delete_bars(RU, Interval.DAILY, FIRST_NS, LAST_NS) == 0

    @pytest.mark.parametrize("merge", [False, True])
    def test_all_columns_come_back_to_the_last_bit(self, store: TimeSeriesStore, merge: bool) -> None:
        ticks = odd_ticks(500)
        if merge:
            store.merge_ticks(RU, ticks.copy())
        else:
            append(store, ticks.copy())
        assert same_bits(all_ticks(store), ticks)
        store.flush()
        assert same_bits(all_ticks(store), ticks)

    def test_ticks_of_one_microsecond_are_told_apart_in_their_order(self, store: TimeSeriesStore) -> None:
        batch = append(store, ticks_at([0, 0, 7, 7, 7]))
        assert batch.stamped
        assert list(batch.ticks[RU]["ts"]) == [at(0), at(0) + 1, at(7), at(7) + 1, at(7) + 2]
        append(store, ticks_at([7, 0], first=5))
        store.flush()
        append(store, ticks_at([7], first=7))
        found = all_ticks(store)
        assert prices(found) == [0, 1, 6, 2, 3, 4, 5, 7]
        assert list(found["ts"] - found["ts"] % US) == [at(0)] * 3 + [at(7)] * 5
        assert (np.diff(found["ts"]) > 0).all()

    def test_ticks_that_are_alike_are_all_kept_when_appended(self, store: TimeSeriesStore) -> None:
        alike = np.repeat(ticks_at([3]), 4)
        append(store, alike.copy())
        append(store, alike.copy())
        assert len(all_ticks(store)) == 8
        store.flush()
        assert len(all_ticks(store)) == 8

    def test_a_batch_that_was_stored_already_is_not_stored_again(self, store: TimeSeriesStore) -> None:
        batch = append(store, ticks_at([0, 0, 5]))
        store.append_ticks(batch)
        store.flush()
        store.append_ticks(batch)
        assert prices(all_ticks(store)) == [0, 1, 2]

    def test_a_batch_of_several_series_is_kept_apart(self, store: TimeSeriesStore) -> None:
        store.append_ticks(TickBatch({RU: ticks_at([1, 2]), CU: ticks_at([2, 3, 4], first=10)}))
        assert prices(all_ticks(store, RU)) == [0, 1]
        assert prices(all_ticks(store, CU)) == [10, 11, 12]

    def test_series_with_any_name_are_kept_apart(self, store: TimeSeriesStore) -> None:
        odd = [
            "rb2410",
            "RB2410",
            "c2501-C-2300",
            "a b",
            "a,b=c",
            "q\"uo'te",
            "x/y",
            "..",
            "黄金",
            "back\\slash",
            "a[b]*",
        ]
        names = [Series(symbol, exchange) for symbol in odd for exchange in ("SHFE", "GLOBAL")]
        for number, series in enumerate(names):
            append(store, ticks_at([number], first=number), series)
            store.merge_bars(series, Interval.DAILY, bars_at([number]))
        store.flush()
        for number, series in enumerate(names):
            assert prices(all_ticks(store, series)) == [number]
            assert len(all_bars(store, Interval.DAILY, series)) == 1
        assert {one.series for one in store.overview()} == set(names)

    def test_late_ticks_stand_where_they_belong(self, store: TimeSeriesStore) -> None:
        append(store, ticks_at([10, 20, 30]))
        append(store, ticks_at([25, 5], first=3))
        store.flush()
        append(store, ticks_at([15, 40, 1], first=5))
        assert prices(all_ticks(store)) == [7, 4, 0, 5, 1, 3, 2, 6]

    def test_days_far_apart_and_midnight_are_nothing_special(self, store: TimeSeriesStore) -> None:
        midnight = DAY_US - START_US % DAY_US
        times = [0, midnight - 1, midnight, midnight + 1, 400 * DAY_US]
        append(store, ticks_at(times))
        store.flush()
        append(store, ticks_at([midnight, midnight - 1], first=5))
        assert prices(all_ticks(store)) == [0, 1, 6, 2, 5, 3, 4]
        assert prices(all_ticks(store, start_ns=at(midnight - 1), end_ns=at(midnight))) == [1, 6]


class TestMerging:
    def test_ticks_that_are_there_are_known(self, store: TimeSeriesStore) -> None:
        ticks = odd_ticks(300)
        assert store.merge_ticks(RU, ticks.copy()) == Merged(300, 0)
        assert store.merge_ticks(RU, ticks.copy()) == Merged(0, 300)
        store.flush()
        assert store.merge_ticks(RU, ticks[100:].copy()) == Merged(0, 200)
        assert same_bits(all_ticks(store), ticks)

    def test_any_number_tells_ticks_apart_but_localtime_does_not(self, store: TimeSeriesStore) -> None:
        tick = odd_ticks(1)
        numbers = [name for name in TICK_DTYPE.names or () if name not in ("ts", "localtime")]
        others = np.repeat(tick, len(numbers))
        for row, name in enumerate(numbers):
            others[name][row] += 1.0 + abs(others[name][row])
        assert store.merge_ticks(RU, np.concatenate((tick, others))) == Merged(len(numbers) + 1, 0)
        later = tick.copy()
        later["localtime"] += 1
        assert store.merge_ticks(RU, later) == Merged(0, 1)
        found = all_ticks(store)
        assert list(found["ts"]) == list(range(tick["ts"][0], tick["ts"][0] + len(numbers) + 1))
        assert same_bits(found[:1], tick)

    def test_twins_within_the_rows_are_one(self, store: TimeSeriesStore) -> None:
        ticks = ticks_at([1, 1, 2])
        assert store.merge_ticks(RU, np.concatenate((ticks, ticks))) == Merged(3, 3)
        assert prices(all_ticks(store)) == [0, 1, 2]

    def test_a_tick_of_before_with_another_order_or_ordinal_is_known(self, store: TimeSeriesStore) -> None:
        append(store, ticks_at([1, 1, 2]))
        rows = all_ticks(store)[::-1].copy()
        assert store.merge_ticks(RU, rows) == Merged(0, 3)

    def test_what_overlaps_is_completed(self, store: TimeSeriesStore) -> None:
        store.merge_ticks(RU, ticks_at(range(0, 100, 2)))
        store.flush()
        every = ticks_at(range(100))
        every["last_price"] = np.arange(100) // 2 + (np.arange(100) % 2) * 1000
        assert store.merge_ticks(RU, every.copy()) == Merged(50, 50)
        assert list(all_ticks(store)["ts"]) == [at(us) for us in range(100)]

    def test_new_ticks_of_a_known_microsecond_come_behind(self, store: TimeSeriesStore) -> None:
        store.merge_ticks(RU, ticks_at([4, 4]))
        rows = np.concatenate((ticks_at([4], first=9), ticks_at([4, 4])))
        assert store.merge_ticks(RU, rows) == Merged(1, 2)
        found = all_ticks(store)
        assert prices(found) == [0, 1, 9]
        assert list(found["ts"]) == [at(4), at(4) + 1, at(4) + 2]

    def test_nothing_to_merge_is_nothing(self, store: TimeSeriesStore) -> None:
        assert store.merge_ticks(RU, ticks_at([])) == Merged(0, 0)
        assert store.merge_bars(RU, Interval.HOUR, bars_at([])) == Merged(0, 0)
        store.append_ticks(TickBatch({RU: ticks_at([])}))
        assert store.overview() == []


class TestReading:
    @pytest.fixture(autouse=True)
    def _ten_ticks(self, store: TimeSeriesStore) -> None:
        append(store, ticks_at(range(0, 60, 10)))
        store.flush()
        append(store, ticks_at(range(60, 100, 10), first=6))

    def test_a_range_begins_with_its_start_and_ends_before_its_end(self, store: TimeSeriesStore) -> None:
        assert prices(all_ticks(store, start_ns=at(20), end_ns=at(80))) == [2, 3, 4, 5, 6, 7]
        assert prices(all_ticks(store, start_ns=at(20) + 1, end_ns=at(80) + 1)) == [3, 4, 5, 6, 7, 8]
        assert prices(all_ticks(store, start_ns=at(20), end_ns=at(20))) == []
        assert prices(all_ticks(store, start_ns=at(80), end_ns=at(20))) == []
        assert prices(all_ticks(store, start_ns=at(91))) == []

    def test_a_limit_is_kept(self, store: TimeSeriesStore) -> None:
        for limit in (0, 1, 4, 6, 7, 10, 11):
            assert prices(all_ticks(store, limit=limit)) == list(range(10))[:limit]

    def test_columns_that_are_asked_for_come_alone(self, store: TimeSeriesStore) -> None:
        found = all_ticks(store, columns=("volume", "last_price"))
        assert set(found.dtype.names or ()) == {"ts", "volume", "last_price"}
        assert prices(found) == list(range(10))
        assert all_ticks(store, columns=("ts",)).dtype.names == ("ts",)

    def test_the_last_ticks_before_a_time_come_by_time(self, store: TimeSeriesStore) -> None:
        for count in (1, 3, 4, 5, 10, 50):
            assert prices(store.last_ticks(RU, LAST_NS, count)) == list(range(10))[-count:]
            assert prices(store.last_ticks(RU, at(70), count)) == list(range(7))[-count:]
            assert prices(store.last_ticks(RU, at(0), count)) == []

    def test_an_iteration_sees_the_store_as_it_was_at_its_first_step(self, store: TimeSeriesStore) -> None:
        ranges = store.ticks(RU, FIRST_NS, LAST_NS)
        first = next(ranges)
        append(store, ticks_at([95, 1000], first=10))
        assert prices(np.concatenate([first, *ranges])) == list(range(10))

    def test_what_is_read_is_the_readers_own(self, store: TimeSeriesStore) -> None:
        for rows in store.ticks(RU, FIRST_NS, LAST_NS):
            rows["last_price"] = -1
        assert prices(all_ticks(store)) == list(range(10))


class TestBars:
    @pytest.mark.parametrize("interval", Interval)
    def test_bars_come_back_to_the_last_bit(self, store: TimeSeriesStore, interval: Interval) -> None:
        bars = bars_at(range(100), close=1 / 3)
        assert store.merge_bars(RU, interval, bars[::-1].copy()) == Merged(100, 0)
        assert same_bits(all_bars(store, interval), bars)
        store.flush()
        assert same_bits(all_bars(store, interval), bars)

    def test_intervals_are_kept_apart(self, store: TimeSeriesStore) -> None:
        for number, interval in enumerate(Interval):
            store.merge_bars(RU, interval, bars_at(range(number + 1)))
        assert [len(all_bars(store, interval)) for interval in Interval] == [1, 2, 3, 4]

    def test_a_bar_takes_the_place_of_one_with_its_start(self, store: TimeSeriesStore) -> None:
        store.merge_bars(RU, Interval.MINUTE, bars_at(range(10), close=1))
        store.flush()
        assert store.merge_bars(RU, Interval.MINUTE, bars_at([3, 4, 10], close=2)) == Merged(1, 2)
        store.merge_bars(RU, Interval.MINUTE, bars_at([4], close=3))
        for _ in range(2):
            assert [float(x) for x in all_bars(store)["close_price"]] == [1, 1, 1, 2, 3, 1, 1, 1, 1, 1, 2]
            store.flush()
        store.merge_bars(RU, Interval.MINUTE, bars_at([4], close=4))
        assert float(all_bars(store)["close_price"][4]) == 4

    def test_the_last_of_bars_with_one_start_wins(self, store: TimeSeriesStore) -> None:
        bars = np.concatenate((bars_at([1], close=1), bars_at([0]), bars_at([1], close=2)))
        assert store.merge_bars(RU, Interval.HOUR, bars) == Merged(2, 1)
        assert float(all_bars(store, Interval.HOUR)["close_price"][1]) == 2

    def test_ranges_and_limits_of_bars(self, store: TimeSeriesStore) -> None:
        store.merge_bars(RU, Interval.MINUTE, bars_at(range(0, 20)))
        store.flush()
        store.merge_bars(RU, Interval.MINUTE, bars_at(range(10, 30), close=2))
        start = START_US * US
        found = all_bars(store, start_ns=start + 5 * MINUTE, end_ns=start + 25 * MINUTE)
        assert same_bits(found, np.concatenate((bars_at(range(5, 10)), bars_at(range(10, 25), close=2))))
        assert same_bits(all_bars(store, start_ns=start + 5 * MINUTE, limit=7), found[:7])

    def test_months_and_years_are_nothing_special(self, store: TimeSeriesStore) -> None:
        days = bars_at(range(0, 800 * 1440, 1440))
        for interval in Interval:
            store.merge_bars(RU, interval, days.copy())
        store.flush()
        for interval in Interval:
            assert same_bits(all_bars(store, interval), days)


class TestOverview:
    def test_counts_bounds_and_names_of_all_that_is_there(self, store: TimeSeriesStore) -> None:
        append(store, ticks_at([5, 9]))
        store.append_ticks(TickBatch({CU: ticks_at([1])}, {CU: "沪铜1901"}))
        store.merge_ticks(RU, ticks_at([5, 6], first=0), name="ru")
        store.merge_bars(RU, Interval.MINUTE, bars_at([1, 2, 3]))
        store.flush()
        store.merge_bars(RU, Interval.MINUTE, bars_at([3, 4]))
        expected = [
            Coverage(series=CU, interval=None, count=1, start_ns=at(1), end_ns=at(1), name="沪铜1901"),
            Coverage(series=RU, interval=None, count=3, start_ns=at(5), end_ns=at(9), name="ru"),
            Coverage(series=RU, interval=Interval.MINUTE, count=4, start_ns=at(0) + MINUTE, end_ns=at(0) + 4 * MINUTE),
        ]
        for _ in range(2):
            found = sorted(store.overview(), key=lambda one: (one.series, one.interval or ""))
            assert found == expected
            store.flush()

    def test_the_state_is_good(self, store: TimeSeriesStore) -> None:
        state = store.state()
        assert (state.available, state.detail) == (True, "")


class TestTakingAway:
    @pytest.mark.parametrize("flush", [False, True])
    def test_a_range_of_ticks(self, store: TimeSeriesStore, flush: bool) -> None:
        append(store, ticks_at(range(0, 100, 10)))
        append(store, ticks_at([50, 5 * DAY_US], first=10))
        if flush:
            store.flush()
        append(store, ticks_at([30], first=12), CU)
        assert store.delete_ticks(RU, at(30), at(60)) == 4
        assert prices(all_ticks(store)) == [0, 1, 2, 6, 7, 8, 9, 11]
        assert prices(all_ticks(store, CU)) == [12]
        assert store.delete_ticks(RU, at(30), at(60)) == 0
        assert store.delete_ticks(RU, at(70), LAST_NS) == 4
        ru = next(one for one in store.overview() if one.series == RU)
        assert (ru.count, ru.start_ns, ru.end_ns) == (4, at(0), at(60))

    @pytest.mark.parametrize("flush", [False, True])
    def test_a_range_of_bars(self, store: TimeSeriesStore, flush: bool) -> None:
        store.merge_bars(RU, Interval.MINUTE, bars_at(range(10)))
        store.merge_bars(RU, Interval.DAILY, bars_at(range(10)))
        if flush:
            store.flush()
        store.merge_bars(RU, Interval.MINUTE, bars_at([4, 5, 11], close=2))
        start = START_US * US
        assert store.delete_bars(RU, Interval.MINUTE, start + 3 * MINUTE, start + 5 * MINUTE) == 2
        found = np.concatenate(
            (bars_at([0, 1, 2]), bars_at([5], close=2), bars_at([6, 7, 8, 9]), bars_at([11], close=2))
        )
        assert same_bits(all_bars(store), found)
        assert len(all_bars(store, Interval.DAILY)) == 10

    def test_a_series_that_is_taken_away_is_not_in_the_overview_and_may_come_again(
        self, store: TimeSeriesStore
    ) -> None:
        append(store, ticks_at([1, 2, 3]))
        store.flush()
        append(store, ticks_at([4], first=3))
        assert store.delete_ticks(RU, FIRST_NS, LAST_NS) == 4
        assert store.overview() == []
        assert len(all_ticks(store)) == 0
        append(store, ticks_at([2], first=7))
        assert prices(all_ticks(store)) == [7]
        assert store.merge_ticks(RU, ticks_at([1])) == Merged(1, 0)


class TestLasting:
    def test_a_store_that_is_opened_again_has_it_all(self, make: Make, store: TimeSeriesStore) -> None:
        ticks = odd_ticks(50)
        append(store, ticks[:20].copy())
        store.flush()
        append(store, ticks[20:].copy())
        store.merge_bars(RU, Interval.HOUR, bars_at(range(5)))
        before = store.overview()
        store.close()
        again = make()
        again.open()
        assert same_bits(all_ticks(again), ticks)
        assert same_bits(all_bars(again, Interval.HOUR), bars_at(range(5)))
        assert again.overview() == before
        append(again, ticks_at([0], first=99))
        assert len(all_ticks(again)) == 51

    def test_opening_and_closing_again_is_harmless(self, store: TimeSeriesStore) -> None:
        store.open()
        append(store, ticks_at([1]))
        store.close()
        store.close()
        assert not store.state().available
        with pytest.raises(CoreError):
            all_ticks(store)
        store.open()
        assert len(all_ticks(store)) == 1

    def test_two_stores_over_one_place_see_each_other(self, make: Make, store: TimeSeriesStore) -> None:
        other = make()
        other.open()
        append(store, ticks_at([1, 1]))
        append(other, ticks_at([1, 0], first=2))
        store.flush()
        assert prices(all_ticks(store)) == prices(all_ticks(other)) == [3, 0, 1, 2]


class TestTogether:
    def test_readers_see_every_acknowledged_tick_once_while_it_is_written_and_rolled(
        self, store: TimeSeriesStore
    ) -> None:
        batches, size = 60, 20
        acknowledged = 0
        problems: list[str] = []
        done = threading.Event()

        def guarded(work: Callable[[], None]) -> None:
            try:
                work()
            except BaseException as error:
                problems.append(repr(error))
                raise
            finally:
                done.set()

        def write() -> None:
            nonlocal acknowledged
            for number in range(batches):
                first = number * size
                append(store, ticks_at(range(first, first + size), first=first))
                acknowledged = first + size

        def roll() -> None:
            while not done.wait(0.01):
                store.flush()

        def read() -> None:
            while not done.wait(0.001):
                least = acknowledged
                found = prices(all_ticks(store, columns=("last_price",)))
                if found[:least] != list(range(least)) or found != sorted(set(found)):
                    problems.append(f"{len(found)} ticks, wrong ones among them; {least} were acknowledged")

        threads = [threading.Thread(target=guarded, args=(work,)) for work in (write, roll, read, read)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert prices(all_ticks(store)) == list(range(batches * size))

    def test_ticks_of_one_series_written_by_several_threads_are_all_kept(self, store: TimeSeriesStore) -> None:
        def write(thread: int) -> None:
            for number in range(20):
                append(store, ticks_at([0, number, number], first=thread * 1000 + number * 3))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = all_ticks(store)
        assert sorted(prices(found)) == sorted(t * 1000 + n for t in range(3) for n in range(60))
        assert (np.diff(found["ts"]) > 0).all()


US_TIMES = st.integers(0, 6).map(lambda number: number * (DAY_US // 3) if number > 3 else number)
TICKS = st.lists(st.tuples(US_TIMES, st.integers(0, 3)), max_size=8)
BARS = st.lists(st.tuples(st.integers(0, 5).map(lambda number: number * 9_000), st.integers(0, 3)), max_size=8)
BOUNDS = st.tuples(US_TIMES, US_TIMES)
TICK_STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["append", "merge"]), TICKS),
        st.tuples(st.just("delete"), BOUNDS),
        st.tuples(st.just("flush"), st.none()),
    ),
    max_size=8,
)
BAR_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("merge"), BARS),
        st.tuples(st.just("delete"), st.tuples(st.integers(0, 50_000), st.integers(0, 50_000))),
        st.tuples(st.just("flush"), st.none()),
    ),
    max_size=8,
)
modelled = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class TestAgainstAModel:
    numbers = iter(range(10**9))

    @modelled
    @given(steps=TICK_STEPS, bounds=BOUNDS, limit=st.integers(0, 10))
    def test_ticks_are_as_in_a_simple_list(self, store: TimeSeriesStore, steps, bounds, limit: int) -> None:
        series = Series(f"m{next(self.numbers)}", "SHFE")
        model: list[tuple[int, int]] = []
        for step, given_rows in steps:
            if step == "append":
                append(store, self.ticks(given_rows), series)
                model += given_rows
            elif step == "merge":
                new = [row for row in dict.fromkeys(given_rows) if row not in model]
                merged = store.merge_ticks(series, self.ticks(given_rows))
                assert merged == Merged(len(new), len(given_rows) - len(new))
                model += new
            elif step == "delete":
                start, end = given_rows
                kept = [row for row in model if not start <= row[0] < end]
                assert store.delete_ticks(series, at(start), at(end)) == len(model) - len(kept)
                model = kept
            else:
                store.flush()
            model.sort(key=lambda row: row[0])
        self.compare(store, series, model, bounds, limit)

    def compare(self, store: TimeSeriesStore, series: Series, model: list, bounds: tuple[int, int], limit: int) -> None:
        found = all_ticks(store, series)
        assert (np.diff(found["ts"]) > 0).all()
        assert self.rows(found) == model
        start, end = bounds
        within = [row for row in model if start <= row[0] < end]
        assert self.rows(all_ticks(store, series, at(start), at(end))) == within
        assert self.rows(all_ticks(store, series, at(start), at(end), limit=limit)) == within[:limit]
        before = [row for row in model if row[0] < end]
        assert self.rows(store.last_ticks(series, at(end), 3)) == before[-3:]
        count = sum(one.count for one in store.overview() if one.series == series)
        assert count == len(model)

    @modelled
    @given(steps=BAR_STEPS)
    def test_bars_are_as_in_a_simple_dict(self, store: TimeSeriesStore, steps) -> None:
        series = Series(f"m{next(self.numbers)}", "SHFE")
        model: dict[int, int] = {}
        for step, given_rows in steps:
            if step == "merge":
                bars = np.concatenate(
                    [np.empty(0, BAR_DTYPE), *(bars_at([start], close) for start, close in given_rows)]
                )
                new = {start for start, _ in given_rows} - set(model)
                merged = store.merge_bars(series, Interval.MINUTE, bars)
                assert merged == Merged(len(new), len(given_rows) - len(new))
                model.update(given_rows)
            elif step == "delete":
                start, end = given_rows
                span = START_US * US + start * MINUTE, START_US * US + end * MINUTE
                kept = {at: close for at, close in model.items() if not start <= at < end}
                assert store.delete_bars(series, Interval.MINUTE, *span) == len(model) - len(kept)
                model = kept
            else:
                store.flush()
        found = all_bars(store, Interval.MINUTE, series)
        starts = (found["ts"] - START_US * US) // MINUTE
        assert list(zip(starts, found["close_price"], strict=True)) == sorted(model.items())
        assert sum(one.count for one in store.overview() if one.series == series) == len(model)

    @staticmethod
    def ticks(rows: list[tuple[int, int]]) -> np.ndarray:
        found = ticks_at([us for us, _ in rows])
        found["last_price"] = [price for _, price in rows]
        return found

    @staticmethod
    def rows(found: np.ndarray) -> list[tuple[int, int]]:
        us = found["ts"] // US - START_US
        return [(int(at), int(price)) for at, price in zip(us, found["last_price"], strict=True)]
