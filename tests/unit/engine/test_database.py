"""VnPy's database on the tick and bar store: what VnPy saves, loads, counts and deletes."""

import copy
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from vnpy.trader.constant import Exchange
from vnpy.trader.constant import Interval as VnpyInterval
from vnpy.trader.database import BarOverview, TickOverview
from vnpy.trader.object import BarData, TickData

from testkit.clock import FakeClock
from testkit.memory_timeseries import MemoryTimeSeries
from vnpy_core.domain.errors import TimeSeriesUnavailable, ValidationFailed
from vnpy_core.domain.history import TICK_NUMBERS, Interval, Series, empty_bars, to_ns
from vnpy_core.engine import database as module

NEW_YORK = ZoneInfo("America/New_York")
RB = Series("rb2701", "SHFE")


@pytest.fixture
def store():
    return MemoryTimeSeries()


@pytest.fixture
def db_tz(monkeypatch):
    """Another DB_TZ than the machine's, and one with summer time."""
    monkeypatch.setattr(module, "DB_TZ", NEW_YORK)
    return NEW_YORK


@pytest.fixture
def database(store, db_tz, monkeypatch):
    monkeypatch.setattr(module, "_provided", None)
    return module.CoreDatabase(store)


def at(minute=0, *, second=0, tz=NEW_YORK, **more):
    return datetime(2026, 7, 1, 9, minute, second, tzinfo=tz, **more)


def bar(minute=0, symbol="rb2701", exchange="SHFE", interval="1m", moment=None, **numbers):
    return BarData("X", symbol, Exchange(exchange), moment or at(minute), VnpyInterval(interval), **numbers)


def tick(moment=None, symbol="rb2701", exchange="SHFE", **values):
    return TickData("X", symbol, Exchange(exchange), moment or at(), **values)


def bars(database, start=None, end=None, symbol="rb2701", exchange="SHFE", interval="1m"):
    return database.load_bar_data(
        symbol, Exchange(exchange), VnpyInterval(interval), start or at(0), end or at(59, second=59)
    )


def ticks(database, start=None, end=None, symbol="rb2701", exchange="SHFE"):
    return database.load_tick_data(symbol, Exchange(exchange), start or at(0), end or at(59, second=59))


def full_tick(moment=None, **values):
    return tick(moment, name="螺纹钢", **{name: n + 1.5 for n, name in enumerate(TICK_NUMBERS)}, **values)


# --- saving and loading ---


def test_a_tick_comes_back_whole_as_vnpys_drivers_give_it(database):
    given = full_tick(localtime=at(0, second=1))
    assert database.save_tick_data([given])
    (found,) = ticks(database)
    assert asdict(found) == asdict(given) | {"gateway_name": "DB"}
    assert found.vt_symbol == "rb2701.SHFE"
    assert found.datetime.tzinfo is NEW_YORK
    assert found.localtime.tzinfo is NEW_YORK


def test_a_bar_comes_back_whole_as_vnpys_drivers_give_it(database):
    given = bar(
        open_price=1.5, high_price=2.5, low_price=0.5, close_price=2.0, volume=7.0, turnover=8.5, open_interest=9.0
    )
    assert database.save_bar_data([given])
    (found,) = bars(database)
    assert asdict(found) == asdict(given) | {"gateway_name": "DB"}
    assert found.vt_symbol == "rb2701.SHFE"
    assert found.datetime.tzinfo is NEW_YORK


def test_what_is_saved_is_left_as_it_was(database):
    given = [bar(1), bar(0)]
    seen = [tick(at(2)), tick(at(1))]
    before = copy.deepcopy((given, seen))
    database.save_bar_data(given)
    database.save_tick_data(seen)
    assert (given, seen) == before
    assert vars(given[0]) == vars(before[0][0])


def test_nothing_may_be_saved(database):
    assert database.save_bar_data([])
    assert database.save_tick_data([], stream=True)
    assert database.get_bar_overview() == database.get_tick_overview() == []


def test_contracts_and_intervals_may_be_mixed(database):
    database.save_bar_data([bar(0), bar(0, "cu2701"), bar(0, interval="d"), bar(1), bar(0, "6J", "EUX")])
    database.save_tick_data([tick(), tick(symbol="cu2701"), tick(at(1))])
    assert [len(bars(database)), len(bars(database, symbol="cu2701")), len(bars(database, interval="d"))] == [2, 1, 1]
    assert len(bars(database, symbol="6J", exchange="EUX")) == 1
    assert [len(ticks(database)), len(ticks(database, symbol="cu2701"))] == [2, 1]


def test_a_bar_takes_the_place_of_the_one_before_and_an_equal_tick_is_the_same(database):
    database.save_bar_data([bar(0, close_price=1.0)])
    database.save_bar_data([bar(0, close_price=2.0)], stream=True)
    assert [each.close_price for each in bars(database)] == [2.0]
    database.save_tick_data([tick(last_price=1.0)])
    database.save_tick_data([tick(last_price=1.0), tick(last_price=2.0)])
    assert [each.last_price for each in ticks(database)] == [1.0, 2.0]


def test_rows_in_any_order_come_back_by_time(database):
    database.save_bar_data([bar(2), bar(0), bar(1)])
    database.save_tick_data([tick(at(2)), tick(at(0)), tick(at(1))])
    assert [each.datetime.minute for each in bars(database)] == [0, 1, 2]
    assert [each.datetime.minute for each in ticks(database)] == [0, 1, 2]


def test_numbers_that_are_none_become_nought(database):
    given = full_tick()
    given.bid_price_5 = given.ask_volume_5 = None
    given.turnover = float("nan")
    database.save_tick_data([given, full_tick(at(1))])
    first, second = ticks(database)
    assert (first.bid_price_5, first.ask_volume_5, first.turnover, first.volume) == (0, 0, 0, 1.5)
    assert second.turnover == 2.5


def test_many_arrays_are_one_list(database, store):
    store.array = 7
    database.save_tick_data([tick(at(0) + timedelta(seconds=n), name="rb", last_price=n) for n in range(30)])
    database.save_bar_data([bar(n) for n in range(30)])
    assert [each.last_price for each in ticks(database)] == list(range(30))
    assert {each.name for each in ticks(database)} == {"rb"}
    assert len(bars(database)) == 30


def test_microseconds_survive_wherever_they_are(database):
    moments = [at(microsecond=us) + timedelta(days=days) for us in (0, 1, 333_333, 999_999) for days in (0, 9_000)]
    database.save_tick_data([tick(moment) for moment in moments])
    found = ticks(database, end=datetime(2100, 1, 1, tzinfo=UTC))
    assert [each.datetime for each in found] == sorted(moments)


def test_only_ticks_that_were_received_have_a_local_time(database):
    database.save_tick_data(
        [tick(at(0)), tick(at(1), localtime=at(1, second=2)), tick(at(2), localtime=datetime(2026, 7, 1, 9))]
    )
    assert [each.localtime for each in ticks(database)] == [None, at(1, second=2), at(0)]


# --- bars of what else is stored ---


def prices(database, *moments_and_prices):
    """Ticks that trade one lot each."""
    database.save_tick_data(
        [
            tick(moment, last_price=price, volume=float(n + 1), turnover=price * (n + 1))
            for n, (moment, price) in enumerate(moments_and_prices)
        ]
    )


def test_bars_are_built_of_ticks_where_only_ticks_are_stored(database):
    prices(database, (at(0, second=5), 10.0), (at(0, second=40), 12.0), (at(1, second=1), 11.0), (at(3), 9.0))
    found = bars(database)
    assert [(each.datetime, each.open_price, each.high_price, each.low_price, each.close_price) for each in found] == [
        (at(0), 10.0, 12.0, 10.0, 12.0),
        (at(1), 11.0, 11.0, 11.0, 11.0),
        (at(3), 9.0, 9.0, 9.0, 9.0),
    ]
    assert {(each.interval, each.gateway_name, each.vt_symbol) for each in found} == {
        (VnpyInterval.MINUTE, "DB", "rb2701.SHFE")
    }
    assert [each.volume for each in found][1:] == [1.0, 1.0]


def test_stored_bars_go_first_and_then_shorter_ones(database):
    prices(database, *((at(n), 1.0) for n in range(10)))
    database.save_bar_data([bar(5, close_price=2.0, open_price=2.0, high_price=2.0, low_price=2.0)])
    assert [(each.datetime, each.close_price) for each in bars(database)] == [(at(5), 2.0)]
    assert [(each.datetime, each.close_price) for each in bars(database, interval="1h")] == [(at(0), 2.0)]
    database.save_bar_data([bar(0, interval="1h", close_price=3.0)])
    assert [each.close_price for each in bars(database, interval="1h")] == [3.0]


def test_built_bars_begin_in_the_range_and_are_whole(database):
    prices(database, *((at(n, second=s), 5.0) for n in range(4) for s in (0, 30)))
    found = bars(database, at(0, second=1), at(2))
    assert [(each.datetime.minute, each.volume) for each in found] == [(1, 2.0), (2, 2.0)]
    assert [each.volume for each in bars(database, at(1), at(2))] == [2.0, 2.0]  # counted from the tick before


def test_a_day_begins_with_the_night_before(database):
    shanghai = ZoneInfo("Asia/Shanghai")
    night, morning = (datetime(2026, 7, day, hour, tzinfo=shanghai) for day, hour in ((1, 21), (2, 10)))
    prices(database, (night, 5.0), (morning, 6.0))
    (day,) = bars(database, night, morning, interval="d")
    assert (day.open_price, day.close_price) == (5.0, 6.0)
    assert day.datetime == datetime(2026, 7, 2, tzinfo=shanghai)


@pytest.mark.parametrize(("now", "closed"), [(at(2, second=59), 2), (at(3), 3), (at(0), 0)])
def test_a_bar_that_goes_on_is_not_built(store, db_tz, monkeypatch, now, closed):
    monkeypatch.setattr(module, "_provided", None)
    database = module.CoreDatabase(store, FakeClock(now))
    prices(database, *((at(n), 1.0) for n in range(3)))
    assert len(bars(database, end=now)) == closed


def test_where_nothing_is_stored_there_are_no_bars(database):
    prices(database, (at(30), 1.0))
    assert bars(database, at(0), at(10)) == bars(database, at(10), at(0)) == bars(database, symbol="cu2701") == []
    assert bars(database, datetime(2090, 1, 1), datetime.max) == []
    assert len(bars(database, datetime(1, 1, 2), datetime.max)) == 1


# --- times ---


def test_times_without_a_zone_are_the_databases(database, store):
    naive = datetime(2026, 7, 1, 9, 30)
    database.save_bar_data([bar(moment=naive)])
    database.save_tick_data([tick(naive)])
    assert [each.datetime for each in (*bars(database), *ticks(database))] == [at(30)] * 2
    assert next(store.bars(RB, Interval.MINUTE, 0, 2**62))["ts"] == to_ns(at(30))


def test_other_zones_are_converted(database):
    database.save_bar_data([bar(moment=datetime(2026, 7, 1, 13, 30, tzinfo=UTC))])
    (found,) = bars(database)
    assert found.datetime == at(30)
    assert found.datetime.hour == 9


@pytest.mark.parametrize("tz", [None, NEW_YORK, UTC])
def test_both_bounds_count_in_whatever_their_zone(database, tz):
    database.save_bar_data([bar(n) for n in range(5)])
    database.save_tick_data([tick(at(n)) for n in range(5)])
    bounds = [at(minute).astimezone(tz) if tz else at(minute).replace(tzinfo=None) for minute in (1, 3)]
    assert [each.datetime.minute for each in bars(database, *bounds)] == [1, 2, 3]
    assert [each.datetime.minute for each in ticks(database, *bounds)] == [1, 2, 3]


def test_the_longest_range_is_all_there_is(database):
    database.save_bar_data([bar(n) for n in range(3)])
    database.save_tick_data([tick()])
    assert len(bars(database, datetime(1, 1, 2), datetime.max)) == 3
    assert len(ticks(database, datetime(1, 1, 2), datetime.max)) == 1


def test_the_hour_that_comes_twice_is_told_apart(database):
    twice = [datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK, fold=fold) for fold in (0, 1)]
    database.save_bar_data([bar(moment=moment) for moment in twice])
    found = bars(database, datetime(2026, 11, 1), datetime(2026, 11, 2))
    assert [each.datetime.fold for each in found] == [0, 1]
    assert [each.datetime.astimezone(UTC).hour for each in found] == [5, 6]


# --- what there is ---


def test_the_overview_has_times_without_a_zone(database):
    database.save_bar_data([bar(0), bar(5)])
    database.save_tick_data([tick(at(1)), tick(at(2))])
    times = {"start": datetime(2026, 7, 1, 9, 0), "end": datetime(2026, 7, 1, 9, 5)}
    assert database.get_bar_overview() == [BarOverview("rb2701", Exchange.SHFE, VnpyInterval.MINUTE, 2, **times)]
    times = {"start": datetime(2026, 7, 1, 9, 1), "end": datetime(2026, 7, 1, 9, 2)}
    assert database.get_tick_overview() == [TickOverview("rb2701", Exchange.SHFE, 2, **times)]


def test_what_vnpy_has_no_name_for_is_not_in_its_overview(database, store):
    store.merge_bars(Series("X", "MOON"), Interval.MINUTE, empty_bars(1))
    assert database.get_bar_overview() == []


def test_deleting_takes_all_of_a_contract_and_says_how_much(database):
    database.save_bar_data([bar(0), bar(1), bar(0, interval="d"), bar(0, "cu2701")])
    database.save_tick_data([tick(), tick(symbol="cu2701")])
    assert database.delete_bar_data("rb2701", Exchange.SHFE, VnpyInterval.MINUTE) == 2
    assert database.delete_tick_data("rb2701", Exchange.SHFE) == 1
    assert database.delete_tick_data("rb2701", Exchange.SHFE) == 0
    assert bars(database) == ticks(database) == []
    assert len(bars(database, interval="d")) == len(bars(database, symbol="cu2701")) == 1


def test_ticks_are_no_bars(database):
    with pytest.raises(ValidationFailed, match="tick"):
        database.save_bar_data([bar(), bar(interval="tick")])
    without = bar()
    without.interval = None
    with pytest.raises(ValidationFailed, match="None"):
        database.save_bar_data([without])
    assert bars(database) == [], "nothing of a refused list is written"
    assert bars(database, interval="tick") == []
    assert database.delete_bar_data("rb2701", Exchange.SHFE, VnpyInterval.TICK) == 0


# --- whose store ---


def test_it_is_on_the_store_that_is_provided_else_on_its_own(store, monkeypatch):
    monkeypatch.setattr(module, "_provided", None)
    own, without = module.CoreDatabase(store), module.CoreDatabase()
    with pytest.raises(TimeSeriesUnavailable):
        without.get_bar_overview()
    own.save_bar_data([bar()])
    provided = MemoryTimeSeries()
    module.provide(provided)
    assert module.provided() is provided
    assert own.get_bar_overview() == without.get_bar_overview() == []
    module.provide(None)
    assert len(own.get_bar_overview()) == 1


def test_what_the_store_raises_reaches_vnpy(database, store):
    store.failures.append(TimeSeriesUnavailable("away"))
    with pytest.raises(TimeSeriesUnavailable, match="away"):
        database.save_bar_data([bar()])


def test_the_constructors_parameters_are_all_given():
    """Objects are made by position: a parameter that VnPy adds must not shift the others."""
    rows = np.zeros(1, module.history.TICK_DTYPE)
    for n, name in enumerate(TICK_NUMBERS):
        rows[name] = n + 1
    (made,) = module._objects(TickData, RB, rows, TICK_NUMBERS, name=["rb"])
    assert [getattr(made, name) for name in TICK_NUMBERS] == [float(n + 1) for n in range(len(TICK_NUMBERS))]
    assert made.localtime is None
    assert {field.name for field in fields(TickData)} <= vars(made).keys() | {"extra"}
