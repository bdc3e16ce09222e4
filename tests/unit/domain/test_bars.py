"""Bars from ticks and from bars, beside VnPy's BarGenerator, pandas, and `domain.sessions` for the trading days."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnpy_core.domain.bars import (
    COLUMNS,
    BarBuilder,
    Period,
    bars_from_bars,
    bars_from_ticks,
    end_of,
    span_of,
    start_of,
)
from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.domain.history import (
    BAR_NUMBERS,
    NS,
    BarArray,
    Interval,
    TickArray,
    empty_bars,
    empty_ticks,
    to_datetime,
    to_ns,
)
from vnpy_core.domain.sessions import SHANGHAI, trading_day

HOUR = 3600 * NS
EXCHANGES = ["SHFE", "CFFEX", "GLOBAL", "SMART"]
MINUTE = Period.parse("1m")


def shanghai(text: str) -> int:
    """Local time in nanoseconds."""
    return to_ns(datetime.fromisoformat(text).replace(tzinfo=SHANGHAI))


def utc(text: str) -> int:
    return to_ns(datetime.fromisoformat(text).replace(tzinfo=UTC))


def ticks_of(*rows: dict[str, float]) -> TickArray:
    ticks = empty_ticks(len(rows))
    for number, row in enumerate(rows):
        for name, value in {"last_price": 1.0, **row}.items():
            ticks[name][number] = value
    return ticks


def every(chunks: Iterable[BarArray]) -> BarArray:
    return np.concatenate([empty_bars(), *chunks])


def built(
    ticks: TickArray, period: str = "1m", exchange: str = "SHFE", before: TickArray | None = None
) -> list[dict[str, Any]]:
    bars = every(bars_from_ticks([ticks], Period.parse(period), exchange, before))
    return [dict(zip(bars.dtype.names or (), bar.item(), strict=True)) for bar in bars]


# --- lengths ---


@pytest.mark.parametrize("text", ["1s", "5s", "1m", "60m", "1h", "4h", "24h", "d", "w", "7m"])
def test_a_period_reads_as_it_was_written(text):
    assert str(Period.parse(text)) == text


def test_one_day_and_one_week_may_have_their_number():
    assert Period.parse("1d") == Period.parse("d")
    assert Period.parse("1w") == Period.parse("w")


@pytest.mark.parametrize(
    "text", ["", "m", "0m", "-1m", "1", "1.5m", "2d", "2w", "25h", "100000s", "1 m", "1M", "tick", "１m"]
)
def test_what_is_no_period_is_refused(text):
    with pytest.raises(ValidationFailed, match="length|longer"):
        Period.parse(text)


def test_a_period_knows_the_stored_bars_of_its_length():
    same = {
        "1m": Interval.MINUTE,
        "60s": Interval.MINUTE,
        "60m": Interval.HOUR,
        "1h": Interval.HOUR,
        "1d": Interval.DAILY,
    }
    assert {text: Period.parse(text).interval for text in same} == same
    assert Period.parse("w").interval is Interval.WEEKLY
    assert Period.parse("5m").interval is None


# --- where bars begin and end ---

moments = st.integers(utc("1992-01-01"), utc("2099-01-01"))
"""After Shanghai's last summer time."""
periods = st.sampled_from(
    [Period.parse(text) for text in ("1s", "7s", "1m", "7m", "45m", "1h", "4h", "5h", "24h", "d", "w")]
)


@given(st.lists(moments, min_size=1, max_size=20), st.sampled_from(EXCHANGES))
def test_daily_bars_are_the_trading_days_that_sessions_knows(times, exchange):
    ticks = empty_ticks(len(times))
    ticks["ts"], ticks["last_price"] = sorted(times), 1.0
    zone = UTC if exchange == "GLOBAL" else SHANGHAI
    days = {trading_day(to_datetime(ns).astimezone(zone), exchange) for ns in times}
    found = [to_datetime(bar["ts"]).astimezone(zone) for bar in built(ticks, "d", exchange)]
    assert found == [datetime.combine(day, datetime.min.time(), zone) for day in sorted(days)]
    weeks = [to_datetime(bar["ts"]).astimezone(zone).date() for bar in built(ticks, "w", exchange)]
    assert weeks == sorted({day - timedelta(days=day.weekday()) for day in days})


@given(moments, periods, st.sampled_from(EXCHANGES))
def test_a_bar_is_all_moments_between_its_begin_and_its_end(ns, period, exchange):
    start, (begin, end) = start_of(ns, period, exchange), span_of(ns, period, exchange)
    assert begin <= ns < end
    assert end_of(ns, period, exchange) == end
    for inside in (begin, end - 1):
        assert start_of(inside, period, exchange) == start
    for outside in (begin - 1, end):
        assert start_of(outside, period, exchange) != start
    assert span_of(start, period, exchange) == (begin, end)
    if period.length_ns is not None:
        assert start == begin
        assert end - begin <= period.length_ns


@given(st.lists(moments, min_size=1, max_size=20), periods, st.sampled_from(EXCHANGES))
def test_each_tick_is_in_the_bar_that_start_of_says(times, period, exchange):
    ticks = empty_ticks(len(times))
    ticks["ts"], ticks["last_price"] = sorted(times), 1.0
    bars = every(bars_from_ticks([ticks], period, exchange))
    assert bars["ts"].tolist() == sorted({start_of(ns, period, exchange) for ns in times})


def test_four_hours_count_from_the_evening_before():
    starts = {
        text: start_of(shanghai(f"2024-08-07T{text}"), Period.parse("4h"), "SHFE")
        for text in ("09:00", "21:00", "23:30")
    }
    assert starts == {
        "09:00": shanghai("2024-08-07T06:00"), "21:00": shanghai("2024-08-07T18:00"),
        "23:30": shanghai("2024-08-07T22:00"),
    }  # fmt: skip
    assert start_of(utc("2024-08-07T09:00"), Period.parse("4h"), "GLOBAL") == utc("2024-08-07T08:00")


def test_an_odd_length_begins_anew_each_day_and_its_last_bar_ends_with_the_day():
    assert span_of(shanghai("2024-08-07T17:59"), Period.parse("5h"), "SHFE") == (
        shanghai("2024-08-07T14:00"), shanghai("2024-08-07T18:00"),
    )  # fmt: skip


def test_a_week_of_futures_ends_on_friday_evening_and_one_of_crypto_on_sunday_midnight():
    friday_night = shanghai("2024-08-09T21:00")
    assert span_of(friday_night, Period.parse("w"), "SHFE") == (
        shanghai("2024-08-09T18:00"), shanghai("2024-08-16T18:00"),
    )  # fmt: skip
    assert span_of(friday_night, Period.parse("w"), "GLOBAL") == (utc("2024-08-05"), utc("2024-08-12"))


# --- what ticks make of a bar ---

T = shanghai("2024-08-07T10:00:30")


def test_prices_are_the_first_the_extremes_and_the_last():
    prices = [5.0, 7.0, 3.0, 4.0]
    (bar,) = built(
        ticks_of(*({"ts": T + n, "last_price": price, "open_interest": n} for n, price in enumerate(prices)))
    )
    assert [bar[f"{name}_price"] for name in ("open", "high", "low", "close")] == [5.0, 7.0, 3.0, 4.0]
    assert bar["ts"] == shanghai("2024-08-07T10:00")
    assert bar["open_interest"] == 3.0


def test_a_new_high_of_the_day_between_two_ticks_is_a_price_of_the_bar():
    first = {"ts": T, "last_price": 5.0, "high_price": 6.0, "low_price": 4.0}
    (bar,) = built(ticks_of(first, {"ts": T + 1, "last_price": 5.5, "high_price": 8.0, "low_price": 3.0}))
    assert (bar["high_price"], bar["low_price"]) == (8.0, 3.0)


def test_a_high_of_the_day_that_is_not_new_is_none_of_the_bar():
    first = {"ts": T, "last_price": 5.0, "high_price": 8.0, "low_price": 3.0}
    (bar,) = built(ticks_of(first, {**first, "ts": T + 1}))
    assert (bar["high_price"], bar["low_price"]) == (5.0, 5.0)


@pytest.mark.parametrize(
    "before", [{"high_price": 0.0, "low_price": 0.0}, {"ts": T - 24 * HOUR, "high_price": 6.0, "low_price": 9.0}]
)
def test_a_high_is_not_new_where_the_one_before_is_unknown_or_of_yesterday(before):
    ticks = ticks_of(
        {"ts": T, "last_price": 5.0, **before}, {"ts": T + 1, "last_price": 5.0, "high_price": 8.0, "low_price": 3.0}
    )
    assert [(bar["high_price"], bar["low_price"]) for bar in built(ticks)][-1] == (5.0, 5.0)


def test_the_first_tick_of_a_bar_brings_the_new_extremes_since_the_bar_before():
    bars = built(ticks_of({"ts": T, "high_price": 5.0}, {"ts": T + 60 * NS, "high_price": 6.0}))
    assert [bar["high_price"] for bar in bars] == [1.0, 6.0]


def test_ticks_without_a_price_count_for_nothing():
    ticks = ticks_of(
        {"ts": T - 60 * NS, "last_price": 0.0}, {"ts": T, "volume": 5.0, "last_price": 2.0},
        {"ts": T + 1, "last_price": 0.0, "volume": 0.0, "high_price": 9.0},
        {"ts": T + 2, "last_price": 2.0, "volume": 8.0},
        {"ts": T + 60 * NS, "last_price": 0.0},
    )  # fmt: skip
    (bar,) = built(ticks)
    assert (bar["volume"], bar["low_price"], bar["high_price"]) == (3.0, 2.0, 2.0)
    assert built(ticks[:1]) == []


def test_negative_prices_are_prices():
    (bar,) = built(
        ticks_of(
            {"ts": T, "last_price": -37.0, "high_price": -30.0}, {"ts": T + 1, "last_price": -36.0, "high_price": -35.0}
        )
    )
    assert (bar["high_price"], bar["low_price"]) == (-36.0, -37.0)


def volumes(*rows: dict[str, float], exchange: str = "SHFE", period: str = "d") -> list[tuple[float, float]]:
    return [(bar["volume"], bar["turnover"]) for bar in built(ticks_of(*rows), period, exchange)]


def test_volume_is_what_the_total_grew_by():
    rows = [{"ts": T + n, "volume": 10.0 + n * n, "turnover": 100.0 * n, "last_volume": 2.0} for n in range(4)]
    assert volumes(*rows) == [(2.0 + 9.0, 300.0)]


def test_a_total_that_begins_anew_with_the_trading_day_counts_from_zero_even_if_it_is_above_yesterdays():
    friday = {"ts": shanghai("2024-08-09T14:59"), "volume": 50.0, "turnover": 500.0}
    night = {"ts": shanghai("2024-08-09T21:00"), "volume": 60.0, "turnover": 600.0}
    assert volumes(friday, night)[1] == (60.0, 600.0)
    assert volumes(friday, night, period="w") == [(0.0, 0.0), (60.0, 600.0)]
    monday = {"ts": shanghai("2024-08-12T09:00"), "volume": 70.0, "turnover": 700.0}
    assert volumes(friday, night, monday)[1] == (70.0, 700.0)


def test_a_week_counts_each_of_its_days():
    rows = [{"ts": shanghai(f"2024-08-{day:02}T10:00"), "volume": 10.0 * day} for day in (5, 6, 7)]
    assert volumes(*rows, period="w") == [(60.0 + 70.0, 0.0)]


def test_crypto_totals_go_on_over_midnight():
    rows = [
        {"ts": utc("2024-08-08T23:59:59"), "volume": 50.0},
        {"ts": utc("2024-08-09T00:00"), "volume": 60.0, "last_volume": 3.0},
    ]
    assert volumes(*rows, exchange="GLOBAL")[1] == (10.0, 0.0)
    assert volumes(rows[0], {**rows[1], "volume": 40.0}, exchange="GLOBAL")[1] == (3.0, 0.0)


def test_a_total_that_falls_within_the_day_is_replaced_by_the_last_volume():
    rows = [
        {"ts": T, "volume": 50.0, "turnover": 9.0},
        {"ts": T + 1, "volume": 4.0, "turnover": 1.0, "last_volume": 3.0},
    ]
    assert volumes(*rows) == [(3.0, 0.0)]


def test_a_feed_without_totals_is_counted_by_last_volume_over_days_too():
    rows = [{"ts": T + n * 24 * HOUR, "last_volume": 2.0} for n in range(2)]
    assert volumes(*rows) == [(2.0, 0.0), (2.0, 0.0)]


def test_the_tick_before_the_first_is_regarded_and_the_last_with_a_price_of_several():
    before = ticks_of({"ts": T - 2, "volume": 7.0, "turnover": 10.0}, {"ts": T - 1, "last_price": 0.0})
    ticks = ticks_of({"ts": T, "volume": 9.0, "turnover": 14.0, "last_volume": 100.0})
    (bar,) = built(ticks, before=before)
    assert (bar["volume"], bar["turnover"]) == (2.0, 4.0)
    assert built(ticks, before=empty_ticks())[0]["volume"] == 100.0


# --- in portions ---

numbers = st.sampled_from([0.0, 0.1, 0.3, 1.7, 5.5, 1e6 + 0.1])
rows = st.fixed_dictionaries(
    {"ts": st.integers(0, 40 * 24 * 60).map(lambda n: T + n * 47 * NS), **dict.fromkeys(COLUMNS, numbers)}
)


@given(st.lists(rows, max_size=30), st.sets(st.integers(0, 30)), periods, st.sampled_from(EXCHANGES))
def test_portions_make_the_same_bars_as_all_at_once(rows, cuts, period, exchange):
    ticks = ticks_of(*sorted(rows, key=lambda row: row["ts"]))
    parts = np.split(ticks, sorted(cuts))
    assert (
        every(bars_from_ticks(parts, period, exchange)).tobytes()
        == every(bars_from_ticks([ticks], period, exchange)).tobytes()
    )
    few = ticks[["ts", *COLUMNS]]
    assert (
        every(bars_from_ticks([few], period, exchange)).tobytes()
        == every(bars_from_ticks([ticks], period, exchange)).tobytes()
    )


@given(st.lists(rows, min_size=2, max_size=30), st.integers(1, 29), periods, st.sampled_from(EXCHANGES))
def test_the_ticks_before_stand_for_all_that_was_before(rows, cut, period, exchange):
    ticks = ticks_of(*sorted(rows, key=lambda row: row["ts"]))
    cut = next((n for n in range(min(cut, len(ticks) - 1), len(ticks)) if begins(ticks, n, period, exchange)), None)
    if cut is None:
        return
    whole = every(bars_from_ticks([ticks], period, exchange))
    part = every(bars_from_ticks([ticks[cut:]], period, exchange, before=ticks[:cut]))
    assert part.tobytes() == whole[whole.size - part.size :].tobytes()


def begins(ticks: TickArray, n: int, period: Period, exchange: str) -> bool:
    return start_of(int(ticks["ts"][n]), period, exchange) != start_of(int(ticks["ts"][n - 1]), period, exchange)


def test_more_ticks_than_fit_the_cache_make_the_same_bars():
    ticks = empty_ticks(200_000)
    ticks["ts"] = T + np.arange(ticks.size) * NS // 3
    ticks["last_price"] = 100 + np.sin(np.arange(ticks.size))
    ticks["volume"] = np.cumsum(np.full(ticks.size, 0.1))
    whole = every(bars_from_ticks([ticks], MINUTE, "SHFE"))
    assert whole.tobytes() == every(bars_from_ticks(np.array_split(ticks, 977), MINUTE, "SHFE")).tobytes()


def test_bars_come_out_as_soon_as_they_are_complete():
    builder = BarBuilder(MINUTE, "SHFE")
    assert builder.open_ts is None
    assert builder.add(ticks_of({"ts": T})).size == 0
    assert builder.open_ts == T - 30 * NS
    assert builder.add(ticks_of({"ts": T + 60 * NS}))["ts"].tolist() == [T - 30 * NS]
    assert builder.close_until(T + 90 * NS - 1).size == 0
    assert builder.close_until(T + 90 * NS)["ts"].tolist() == [T + 30 * NS]
    assert builder.finish().size == 0


def test_bars_that_were_given_out_do_not_change_later():
    builder = BarBuilder(MINUTE, "SHFE")
    first = builder.add(ticks_of({"ts": T}, {"ts": T + 60 * NS}))
    kept = first.copy()
    builder.add(ticks_of({"ts": T + 61 * NS, "last_price": 9.0}, {"ts": T + 180 * NS}))
    assert first.tobytes() == kept.tobytes()


# --- from bars ---


@given(
    st.lists(rows, max_size=40),
    st.sets(st.integers(0, 30)),
    st.sampled_from(["5m", "1h", "4h", "d", "w"]),
    st.sampled_from(EXCHANGES),
)
def test_longer_bars_from_minutes_are_those_from_the_ticks(rows, cuts, period, exchange):
    whole = [
        {**row, "volume": row["volume"] // 1, "turnover": row["turnover"] // 1, "last_volume": 0.0} for row in rows
    ]
    ticks = ticks_of(*sorted(whole, key=lambda row: row["ts"]))
    minutes = every(bars_from_ticks([ticks], MINUTE, exchange))
    longer = every(bars_from_bars(np.split(minutes, sorted(cuts)), Period.parse(period), exchange))
    assert longer.tobytes() == every(bars_from_ticks([ticks], Period.parse(period), exchange)).tobytes()


def test_weeks_come_from_days():
    days = empty_bars(4)
    days["ts"] = [shanghai(f"2024-08-{day:02}T00:00") for day in (8, 9, 12, 13)]
    days["high_price"] = days["volume"] = [1, 2, 3, 4]
    weeks = every(bars_from_bars([days], Period.parse("w"), "SHFE"))
    assert weeks["ts"].tolist() == [shanghai("2024-08-05T00:00"), shanghai("2024-08-12T00:00")]
    assert weeks["volume"].tolist() == [3.0, 7.0]
    assert weeks["high_price"].tolist() == [2.0, 4.0]


# --- real ticks ---


@pytest.fixture(scope="module")
def ru1901(shared_data: Path) -> pd.DataFrame:
    """The 192,164 ticks as pandas reads them: `local` time as the columns say it, and the venue's own trading day."""
    import zipfile

    frames = []
    with zipfile.ZipFile(shared_data / "ctp" / "shfe_ru1901_20181008-20181012.tick-ctp.zip") as archive:
        for name in sorted(archive.namelist()):
            with archive.open(name) as file:
                frames.append(pd.read_csv(file, dtype={"TradingDay": str, "ActionDay": str}, na_values=["N/A"]))
    frame = pd.concat(frames, ignore_index=True)
    clock = pd.to_datetime(frame["ActionDay"] + " " + frame["UpdateTime"], format="%Y%m%d %H:%M:%S")
    frame["local"] = clock + pd.to_timedelta(frame["UpdateMillisec"], unit="ms")
    return frame.sort_values("local", kind="stable", ignore_index=True)


def ru1901_ticks(frame: pd.DataFrame) -> TickArray:
    ticks = empty_ticks(len(frame))
    ticks["ts"] = (frame["local"] - pd.Timedelta(hours=8)).astype("datetime64[ns]").astype("int64") + frame.groupby(
        "local"
    ).cumcount()
    names = {
        "last_price": "LastPrice", "volume": "Volume", "turnover": "Turnover", "open_interest": "OpenInterest",
        "high_price": "HighestPrice", "low_price": "LowestPrice",
    }  # fmt: skip
    for name, column in names.items():
        ticks[name] = frame[column].fillna(0)
    return ticks


def by_pandas(frame: pd.DataFrame, key: pd.Series) -> pd.DataFrame:
    """The same bars, by group-by: `key` says which bar a row is of."""
    priced = frame[frame["LastPrice"] > 0].copy()
    day, key = priced["TradingDay"], key[priced.index]
    before = priced.groupby("TradingDay").shift()
    highest = priced["HighestPrice"].where(priced["HighestPrice"] > before["HighestPrice"])
    lowest = priced["LowestPrice"].where(priced["LowestPrice"] < before["LowestPrice"])
    grown = {name: priced.groupby(day)[name].diff().fillna(priced[name]) for name in ("Volume", "Turnover")}
    for growth in grown.values():
        growth.iloc[0] = 0.0  # nobody knows how much of it came with the very first tick
    last = priced["LastPrice"]
    return pd.DataFrame(
        {
            "open_price": last.groupby(key).first(),
            "high_price": pd.concat([last, highest], axis=1).max(axis=1).groupby(key).max(),
            "low_price": pd.concat([last, lowest], axis=1).min(axis=1).groupby(key).min(),
            "close_price": last.groupby(key).last(),
            "volume": grown["Volume"].groupby(key).sum(),
            "turnover": grown["Turnover"].groupby(key).sum(),
            "open_interest": priced["OpenInterest"].groupby(key).last(),
        }
    )


def assert_equal(bars: BarArray, expected: pd.DataFrame, *, hours: int) -> None:
    starts = (expected.index - pd.Timedelta(hours=hours)).astype("datetime64[ns]").astype("int64")
    assert bars["ts"].tolist() == starts.tolist()
    for name in BAR_NUMBERS:
        np.testing.assert_allclose(bars[name], expected[name], rtol=1e-12, err_msg=name)


@pytest.mark.realdata
def test_minutes_of_ru1901_are_those_of_pandas(ru1901):
    bars = every(bars_from_ticks([ru1901_ticks(ru1901)], MINUTE, "SHFE"))
    assert_equal(bars, by_pandas(ru1901, ru1901["local"].dt.floor("min")), hours=8)
    assert bars.size > 1500


@pytest.mark.realdata
def test_days_of_ru1901_are_the_venues_trading_days_with_their_nights(ru1901):
    bars = every(bars_from_ticks([ru1901_ticks(ru1901)], Period.parse("d"), "SHFE"))
    assert_equal(bars, by_pandas(ru1901, pd.to_datetime(ru1901["TradingDay"])), hours=8)
    assert [to_datetime(int(ns)).astimezone(SHANGHAI).strftime("%Y%m%d") for ns in bars["ts"]] == [
        "20181008", "20181009", "20181010", "20181011", "20181012", "20181015",
    ]  # fmt: skip


@pytest.mark.realdata
@pytest.mark.parametrize("period", ["5m", "1h", "4h", "d", "w"])
def test_longer_bars_of_ru1901_are_the_same_from_its_minutes(ru1901, period):
    ticks = ru1901_ticks(ru1901)
    minutes = bars_from_ticks([ticks], MINUTE, "SHFE")
    longer = every(bars_from_bars(minutes, Period.parse(period), "SHFE"))
    assert longer.tobytes() == every(bars_from_ticks([ticks], Period.parse(period), "SHFE")).tobytes()


@pytest.mark.realdata
def test_minutes_of_ru1901_are_those_of_vnpys_bar_generator(ru1901, vnpy_home):
    """All numbers, but for the volume and turnover of a trading day's first tick: VnPy takes the difference to the day
    before, which is mostly negative and then counts for nothing."""
    from vnpy.trader.constant import Exchange
    from vnpy.trader.object import BarData, TickData
    from vnpy.trader.utility import BarGenerator

    made: list[BarData] = []
    generator = BarGenerator(made.append)
    names = ["local", "LastPrice", "Volume", "Turnover", "OpenInterest", "HighestPrice", "LowestPrice"]
    for local, last, volume, turnover, interest, high, low in ru1901[names].fillna(0.0).itertuples(index=False):
        generator.update_tick(
            TickData(
                symbol="ru1901",
                exchange=Exchange.SHFE,
                datetime=local.to_pydatetime(),
                gateway_name="X",
                last_price=last,
                volume=volume,
                turnover=turnover,
                open_interest=interest,
                high_price=high,
                low_price=low,
            )
        )
    generator.generate()
    bars = every(bars_from_ticks([ru1901_ticks(ru1901)], MINUTE, "SHFE"))
    expected = pd.DataFrame(
        {name: [getattr(bar, name) for bar in made] for name in BAR_NUMBERS},
        index=pd.DatetimeIndex([bar.datetime for bar in made]),
    )
    first_of_day = by_pandas(ru1901, ru1901["local"].dt.floor("min")).index.isin(
        ru1901.groupby("TradingDay")["local"].min().dt.floor("min")
    )
    assert first_of_day.sum() == 6
    for name in ("volume", "turnover"):
        assert (bars[name][first_of_day] >= expected[name][first_of_day]).all()
        expected.loc[first_of_day, name] = bars[name][first_of_day]
    assert_equal(bars, expected, hours=8)


@pytest.mark.realdata
@pytest.mark.parametrize(("period", "rule"), [("1s", "s"), ("1m", "min"), ("1h", "h"), ("d", "D")])
def test_bars_of_21313_trades_of_btcusdt_are_those_of_pandas(shared_data, period, rule):
    with gzip.open(shared_data / "binance" / "usdm_btcusdt_20240808.gz", "rt") as lines:
        frames = (json.loads(line.split(" ", 1)[1]) for line in lines)
        trades = [each["data"] for each in frames if each.get("stream") == "btcusdt@trade"]
    assert len(trades) == 21313
    frame = pd.DataFrame(
        {
            "time": [each["T"] for each in trades],
            "price": [float(each["p"]) for each in trades],
            "size": [float(each["q"]) for each in trades],
        }
    )
    frame["time"] = pd.to_datetime(frame["time"], unit="ms")
    frame = frame.sort_values("time", kind="stable", ignore_index=True)
    ticks = empty_ticks(len(frame))
    ticks["ts"] = frame["time"].astype("datetime64[ns]").astype("int64") + frame.groupby("time").cumcount()
    ticks["last_price"], ticks["last_volume"] = frame["price"], frame["size"]
    grouped = frame.groupby(frame["time"].dt.floor(rule))
    expected = grouped["price"].ohlc().set_axis(["open_price", "high_price", "low_price", "close_price"], axis=1)
    expected = expected.assign(volume=grouped["size"].sum(), turnover=0.0, open_interest=0.0)
    assert_equal(every(bars_from_ticks([ticks], Period.parse(period), "GLOBAL")), expected, hours=0)
