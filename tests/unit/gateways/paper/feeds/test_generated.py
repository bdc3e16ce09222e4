from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby, islice, pairwise

import msgspec
import pytest

from testkit.paper import BTC, MA, RB
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.domain.sessions import SHANGHAI
from vnpy_core.gateways.paper.feeds.generated import MAX_BARS, GeneratedMarket

START = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)
"""Friday, 9:00 in Shanghai."""
MANY = 20_000


def market(*specs, rate=2.0, seed=1, start=START) -> GeneratedMarket:
    return GeneratedMarket(list(specs or (RB,)), rate=rate, seed=seed, start=start)


def first(feed: GeneratedMarket, count: int):
    return list(islice(feed, count))


def in_ticks(price: float, spec) -> Decimal:
    return Decimal(repr(price)) / spec.pricetick


def test_the_same_seed_gives_the_same_market_and_another_seed_another_one():
    assert first(market(RB, BTC), 1000) == first(market(RB, BTC), 1000)
    assert first(market(RB, BTC), 1000) != first(market(RB, BTC, seed=2), 1000)


def test_iterating_again_begins_anew():
    feed = market(RB, BTC)
    assert first(feed, 500) == first(feed, 500)


def test_a_contract_walks_the_same_way_whatever_else_is_traded():
    def prices(feed, count):
        return [tick.last_price for tick in first(feed, count) if tick.symbol == RB.symbol]

    assert prices(market(RB), 300) == prices(market(BTC, RB, MA), 900)


@pytest.mark.parametrize("spec", [RB, BTC, MA], ids=lambda spec: spec.symbol)
def test_prices_move_in_whole_ticks_with_five_levels_and_a_spread(spec):
    for tick in first(market(spec), MANY):
        assert len(tick.bids) == len(tick.asks) == 5
        prices = [price for price, _ in (*reversed(tick.bids), *tick.asks)]
        steps = [in_ticks(price, spec) for price in (*prices, tick.last_price, tick.high_price, tick.low_price)]
        assert all(step == int(step) > 0 for step in steps)
        assert all(b - a >= 1 for a, b in pairwise(steps[:10]))
        assert all(
            volume > 0 and Decimal(repr(volume)) % spec.min_volume == 0 for _, volume in (*tick.bids, *tick.asks)
        )
        assert tick.low_price <= tick.last_price <= tick.high_price
        assert tick.low_price <= tick.open_price <= tick.high_price


def test_futures_have_limits_that_no_price_passes_and_crypto_has_none():
    for tick in first(market(RB, rate=0.01), MANY):
        assert 0 < tick.limit_down <= min(tick.low_price, tick.bids[-1][0])
        assert tick.limit_up >= max(tick.high_price, tick.asks[-1][0])
        assert tick.limit_down < tick.pre_close < tick.limit_up
    assert {(tick.limit_up, tick.limit_down) for tick in first(market(BTC), 100)} == {(0.0, 0.0)}


def test_a_day_begins_with_new_volumes_and_the_last_price_as_its_close_before():
    """Friday 9:00 until Tuesday; one snapshot a minute."""
    ticks = first(market(RB, rate=1 / 60), 5 * 24 * 60)
    days = [list(group) for _, group in groupby(ticks, key=lambda tick: tick.trading_day)]
    assert [day[0].trading_day.day for day in days] == [20, 23, 24, 25]
    assert days[1][0].time.astimezone(SHANGHAI).hour == 18
    for day in days:
        assert all(b.volume - a.volume == b.last_volume >= 0 for a, b in pairwise(day))
        assert all(b.turnover >= a.turnover for a, b in pairwise(day))
        assert day[0].volume == day[0].last_volume > 0
        assert day[-1].high_price == max(tick.last_price for tick in day)
    for before, after in pairwise(days):
        assert after[0].pre_close == before[-1].last_price


def test_crypto_days_change_at_midnight_utc():
    ticks = first(market(BTC, rate=1 / 60), 24 * 60)
    assert {tick.trading_day for tick in ticks} == {START.date(), START.date() + timedelta(days=1)}
    assert all(tick.trading_day == tick.time.date() for tick in ticks)


def test_every_contract_ticks_at_the_rate_and_all_take_turns():
    ticks = first(market(RB, BTC, MA, rate=4), 1200)
    assert [tick.symbol for tick in ticks[:6]] == ["rb2701", "BTCUSDT", "MA701"] * 2
    assert ticks[0].time == START
    assert {round((b.time - a.time).total_seconds(), 4) for a, b in pairwise(ticks)} == {0.0833}
    rb = [tick for tick in ticks if tick.symbol == "rb2701"]
    assert (rb[-1].time - rb[0].time).total_seconds() == pytest.approx(99.75)


def test_prices_stay_plausible_for_a_long_time():
    """Two months of one snapshot a minute."""
    for spec, usual in ((RB, 3500), (BTC, 60_000)):
        prices = [tick.last_price for tick in first(market(spec, rate=1 / 60), 80_000)]
        assert 0.5 * usual < min(prices) < max(prices) < 2 * usual
        assert len(set(prices)) > 20


def test_a_cheap_coarse_and_unknown_contract_stays_positive():
    odd = msgspec.structs.replace(BTC, symbol="ODDUSDT", pricetick=Decimal("0.00000001"))
    coarse = msgspec.structs.replace(BTC, symbol="BTCCOARSE", pricetick=Decimal(5000))
    for spec in (odd, coarse):
        assert all(tick.bids[-1][0] > 0 for tick in first(market(spec), MANY))


def test_a_wrong_market_is_refused():
    with pytest.raises(ConfigurationError, match="at least one contract"):
        GeneratedMarket([], start=START)
    for rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError, match="rate"):
            market(rate=rate)
    with pytest.raises(ValueError, match="aware"):
        market(start=START.replace(tzinfo=None))


# --- history ---


def bars(feed, interval, since, until=START, spec=RB):
    return feed.history(spec.symbol, spec.exchange, interval, START - since, until)


@pytest.mark.parametrize(
    ("interval", "since", "step"),
    [
        ("1m", timedelta(hours=4), timedelta(minutes=1)),
        ("1h", timedelta(days=4), timedelta(hours=1)),
        ("d", timedelta(days=90), timedelta(days=1)),
    ],
)
@pytest.mark.parametrize("spec", [RB, BTC], ids=lambda spec: spec.symbol)
def test_history_has_a_bar_for_each_interval_and_ends_at_the_first_price(interval, since, step, spec):
    feed = market(spec)
    found = bars(feed, interval, since, spec=spec)
    assert {b.time - a.time for a, b in pairwise(found)} == {step}
    assert found[0].time >= START - since > found[0].time - step
    assert found[-1].time < START <= found[-1].time + step
    assert found[-1].close == first(feed, 1)[0].last_price
    assert all(b.open == a.close for a, b in pairwise(found))
    for bar in found:
        assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
        assert bar.volume > 0
        assert in_ticks(bar.close, spec) == int(in_ticks(bar.close, spec))


def test_days_begin_at_midnight_of_shanghai_and_of_utc_for_crypto():
    assert bars(market(RB), "d", timedelta(days=3))[0].time.astimezone(SHANGHAI).hour == 0
    assert bars(market(BTC), "d", timedelta(days=3), spec=BTC)[0].time.hour == 0


def test_history_is_the_same_for_the_same_seed_and_whatever_window_is_asked_for():
    long, short = bars(market(), "1m", timedelta(days=2)), bars(market(), "1m", timedelta(hours=1))
    assert long[-60:] == short
    assert bars(market(seed=2), "1m", timedelta(hours=1)) != short


def test_history_gives_the_newest_bars_up_to_a_cap():
    found = bars(market(), "1m", timedelta(days=400))
    assert len(found) == MAX_BARS
    assert found[-1].time == START - timedelta(minutes=1)


def test_there_is_no_history_after_the_start_nor_for_a_window_without_bars():
    feed = market()
    assert bars(feed, "1m", timedelta(minutes=2), START + timedelta(days=1)) == bars(feed, "1m", timedelta(minutes=2))
    assert bars(feed, "1m", -timedelta(hours=1), START + timedelta(days=1)) == []
    assert bars(feed, "1m", timedelta(hours=1), START - timedelta(hours=2)) == []


def test_an_unknown_contract_has_no_history_and_an_unknown_interval_is_an_error():
    assert bars(market(RB), "1m", timedelta(hours=1), spec=BTC) == []
    with pytest.raises(ValueError, match="tick"):
        bars(market(), "tick", timedelta(hours=1))
