"""Pages of bars and ticks: whatever the page size, direction and source, together they are what there is."""

import random

import numpy as np
import pytest

from testkit.memory_timeseries import MemoryTimeSeries
from vnpy_core.domain.bars import Period, bars_from_bars, bars_from_ticks
from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.domain.history import NS, Interval, Series, TickBatch, empty_bars, empty_ticks
from vnpy_core.features.market_data import reading
from vnpy_core.features.market_data.reading import BarSource, Mark, Range, read_bars, read_ticks

SEED = 20261121
RB = Series("rb2505", "SHFE")
BTC = Series("BTCUSDT", "GLOBAL")
MONDAY = 1_763_946_000 * NS
"""Monday 2025-11-24, 01:00 UTC: the day session begins in Shanghai."""
NOW = MONDAY + 30 * reading.DAY
HOUR = 3600 * NS
SESSIONS = [(-12 * HOUR, 5 * HOUR), (0, 2 * HOUR), (4 * HOUR, 2 * HOUR)]
"""Begin, against 01:00 UTC, and length: the night before, the morning, the afternoon."""


def some_ticks(chance, days, per_session=200):
    """Days of sessions with a gap of a month in the middle; some ticks share a microsecond, some have no price."""
    times = []
    for day in range(days):
        begin = MONDAY + (day + (30 if day >= days // 2 else 0)) * reading.DAY
        for offset, length in SESSIONS:
            times += [begin + offset + chance.randrange(length) // 1000 * 1000 for _ in range(per_session)]
    ticks = empty_ticks(len(times))
    ticks["ts"] = sorted(times)
    ticks["ts"][1::7] = ticks["ts"][:-1][::7][: len(ticks["ts"][1::7])]
    ticks["last_price"] = [chance.randrange(90, 110) if chance.random() < 0.95 else 0 for _ in times]
    ticks["volume"] = np.cumsum([chance.randrange(5) for _ in times])
    ticks["turnover"] = ticks["volume"] * 100
    return ticks


@pytest.fixture
def chance():
    return random.Random(SEED)


@pytest.fixture
def store(chance):
    store = MemoryTimeSeries()
    store.append_ticks(TickBatch({RB: some_ticks(chance, 4), BTC: some_ticks(chance, 2)}))
    return store


def all_ticks(store, series):
    return np.concatenate(list(store.ticks(series, 0, reading.LAST_NS)))


def pages(read, **wanted):
    """All pages, in the order in which they came."""
    mark, found = None, []
    while True:
        page = read(Range(mark=mark, **wanted))
        rows = page.bars if isinstance(page, reading.BarPage) else page.ticks
        assert (rows["ts"][1:] > rows["ts"][:-1]).all()
        assert len(rows) <= wanted["limit"]
        found.append(rows)
        if (mark := page.next) is None:
            return found


def joined(found, backward):
    return np.concatenate(found[::-1] if backward else found)


def between(rows, start, end):
    return rows[(rows["ts"] >= start) & (rows["ts"] < end)]


# Ticks


@pytest.mark.parametrize("limit", [1, 7, 250, 10_000])
def test_ticks_in_pages_are_all_ticks_also_those_of_one_microsecond(store, limit):
    expected = all_ticks(store, RB)[:600]
    start, end = int(expected["ts"][0]), int(expected["ts"][-1]) + 1
    assert len(set(expected["ts"] // 1000)) < len(expected)
    for first in (start, None):
        found = pages(lambda wanted: read_ticks(store, wanted), series=RB, start_ns=first, end_ns=end, limit=limit)
        assert (joined(found, first is None) == expected).all()


def test_without_a_start_the_newest_ticks_come(store):
    page = read_ticks(store, Range(series=RB, limit=5))
    assert (page.ticks == all_ticks(store, RB)[-5:]).all()
    assert page.next == Mark(int(page.ticks["ts"][0]), True)


def test_a_cursor_stays_where_it_is_while_ticks_come_in(store):
    start = int(all_ticks(store, RB)["ts"][0])
    before = all_ticks(store, RB)
    forward = read_ticks(store, Range(series=RB, start_ns=start, limit=100))
    newest = read_ticks(store, Range(series=RB, limit=100))
    more = before[-50:].copy()
    more["ts"] += 60 * NS
    store.append_ticks(TickBatch({RB: more}))
    on = read_ticks(store, Range(series=RB, start_ns=start, limit=100, mark=forward.next))
    back = read_ticks(store, Range(series=RB, limit=100, mark=newest.next))
    assert (on.ticks == before[100:200]).all()
    assert (back.ticks == before[-200:-100]).all()


def test_nothing_is_an_empty_page(store):
    nobody = Series("nobody", "SHFE")
    assert read_ticks(store, Range(series=nobody)).next is None
    assert len(read_ticks(store, Range(series=nobody, start_ns=0)).ticks) == 0
    page = read_bars(store, Range(series=nobody), Period.parse("1m"), now_ns=NOW)
    assert (len(page.bars), page.next, page.source) == (0, None, None)


# Bars


@pytest.mark.parametrize("series", [RB, BTC])
@pytest.mark.parametrize("period", ["1s", "30s", "1m", "7m", "15m", "1h", "4h", "d", "w"])
def test_bars_built_of_ticks_page_by_page_are_those_built_at_once(store, chance, series, period):
    period = Period.parse(period)
    ticks = all_ticks(store, series)
    expected = np.concatenate(list(bars_from_ticks([ticks], period, series.exchange)))
    for _ in range(6):
        limit = chance.choice([1, 3, 10, 1000])
        start, end = sorted(chance.randrange(int(ticks["ts"][0]) - HOUR, int(ticks["ts"][-1]) + HOUR) for _ in range(2))
        if limit < 10:
            start = max(start, end - 40 * reading._length(period))
        for first in (start, None):
            if first is None and limit < 10 and len(between(expected, 0, end)) > 500:
                continue
            found = pages(
                lambda wanted: read_bars(store, wanted, period, now_ns=NOW),
                series=series,
                start_ns=first,
                end_ns=end,
                limit=limit,
            )
            assert (joined(found, first is None) == between(expected, first or 0, end)).all()


def test_bars_of_minutes_are_preferred_to_ticks_and_stored_ones_to_both(store):
    minutes = np.concatenate(list(bars_from_ticks([all_ticks(store, RB)], Period.parse("1m"), "SHFE")))
    minutes["open_interest"] = 7
    store.merge_bars(RB, Interval.MINUTE, minutes)
    hours = Period.parse("1h")

    def read(**wanted):
        return read_bars(store, Range(series=RB, **wanted), hours, now_ns=NOW)

    expected = np.concatenate(list(bars_from_bars([minutes], hours, "SHFE")))
    for page in (read(limit=1000), read(start_ns=0, limit=1000)):
        assert (page.source, page.next) == (BarSource.MINUTES, None)
        assert (page.bars == expected).all()
    paged = pages(lambda wanted: read_bars(store, wanted, hours, now_ns=NOW), series=RB, limit=3)
    assert (joined(paged, True) == expected).all()
    own = expected[5:9].copy()
    own["open_interest"] = 9
    store.merge_bars(RB, Interval.HOUR, own)
    page = read(limit=1000)
    assert page.source is BarSource.BARS
    assert (page.bars == own).all()
    forced = read_bars(store, Range(series=RB, limit=1000), hours, now_ns=NOW, source=BarSource.TICKS)
    assert forced.source is BarSource.TICKS
    assert len(forced.bars) == len(expected)
    # Where the stored ones are not, the others serve.
    earlier = read(start_ns=0, end_ns=int(own["ts"][0]), limit=1000)
    assert earlier.source is BarSource.MINUTES
    assert (earlier.bars == expected[:5]).all()


def test_a_cursor_keeps_to_its_source(store):
    minutes = np.concatenate(list(bars_from_ticks([all_ticks(store, RB)], Period.parse("1m"), "SHFE")))
    page = read_bars(store, Range(series=RB, start_ns=0, limit=10), Period.parse("1m"), now_ns=NOW)
    assert page.source is BarSource.TICKS
    store.merge_bars(RB, Interval.MINUTE, minutes[:1])
    on = read_bars(store, Range(series=RB, start_ns=0, limit=10, mark=page.next), Period.parse("1m"), now_ns=NOW)
    assert on.source is BarSource.TICKS
    assert (on.bars == minutes[10:20]).all()


def test_stored_bars_are_found_however_old_and_far_apart(store):
    old = empty_bars(30)
    old["ts"] = [n * 86_400 * NS for n in (*range(10), *range(5_000, 5_010), *range(19_000, 19_010))]
    store.merge_bars(RB, Interval.DAILY, old)
    for start in (0, None):
        found = pages(
            lambda wanted: read_bars(store, wanted, Period.parse("d"), now_ns=NOW), series=RB, start_ns=start, limit=4
        )
        assert (joined(found, start is None) == old).all()


def test_bars_past_the_clock_are_the_newest(store):
    future = empty_bars(3)
    future["ts"] = [NOW - HOUR, NOW + HOUR, NOW + 1000 * reading.DAY]
    store.merge_bars(RB, Interval.HOUR, future)
    page = read_bars(store, Range(series=RB, limit=2), Period.parse("1h"), now_ns=NOW)
    assert (page.bars == future[1:]).all()


@pytest.mark.parametrize("start", [0, None])
def test_a_page_that_takes_much_reading_is_shorter_and_goes_on(store, monkeypatch, start):
    monkeypatch.setattr(reading, "BUDGET", 1)
    found = pages(
        lambda wanted: read_bars(store, wanted, Period.parse("d"), now_ns=NOW), series=RB, start_ns=start, limit=100
    )
    expected = np.concatenate(list(bars_from_ticks([all_ticks(store, RB)], Period.parse("d"), "SHFE")))
    assert len(found) > 1
    assert (joined(found, start is None) == expected).all()


def test_what_bars_cannot_be_made_of_is_refused(store):
    for period, source in (("5s", BarSource.MINUTES), ("5m", BarSource.BARS)):
        with pytest.raises(ValidationFailed):
            read_bars(store, Range(series=RB), Period.parse(period), now_ns=NOW, source=source)
    with pytest.raises(ValidationFailed, match="cursor"):
        read_bars(store, Range(series=RB, mark=Mark(1, True, "")), Period.parse("5m"), now_ns=NOW)
