import json
from datetime import UTC, datetime

import msgspec
import numpy as np

from vnpy_core.domain.bars import Period
from vnpy_core.domain.events import Tick
from vnpy_core.domain.history import BAR_NUMBERS, TICK_NUMBERS, Series, empty_bars, empty_ticks, to_ns
from vnpy_core.features.market_data.reading import BarPage, BarSource, Mark, Range, TickPage
from vnpy_core.features.market_data.wire import bar_page, tick_page
from vnpy_core.web.paging import decode_cursor

RB = Series("rb2505", "SHFE")
MOMENT = datetime(2026, 11, 20, 13, 0, 0, 500_001, tzinfo=UTC)


def test_stored_ticks_read_as_ticks():
    ticks = empty_ticks(2)
    ticks["ts"] = [to_ns(MOMENT) + 1, to_ns(MOMENT) + 2]  # ordinals of one microsecond
    ticks["localtime"] = [0, to_ns(MOMENT)]
    for number, name in enumerate(TICK_NUMBERS):
        ticks[name] = number + 0.25
    text = tick_page(Range(series=RB), TickPage(ticks, Mark(5, True)))
    page = json.loads(text)
    items = msgspec.convert(page["items"], list[Tick], strict=True)
    expected = Tick(
        gateway_name="DB",
        vt_symbol="rb2505.SHFE",
        symbol="rb2505",
        exchange="SHFE",
        datetime=MOMENT,
        **{name: number + 0.25 for number, name in enumerate(TICK_NUMBERS)},
    )
    assert items == [expected, msgspec.structs.replace(expected, localtime=MOMENT)]
    assert list(page["items"][0]) == list(msgspec.to_builtins(expected))
    assert decode_cursor(page["next_cursor"], Mark) == Mark(5, True)


def bars_of(series, period, *moments):
    bars = empty_bars(len(moments))
    bars["ts"] = [to_ns(moment) for moment in moments]
    for number, name in enumerate(BAR_NUMBERS):
        bars[name] = number
    return json.loads(bar_page(Range(series=series), Period.parse(period), BarPage(bars, None, BarSource.BARS)))


def test_bars_have_vnpys_names_and_their_trading_day():
    friday_night = datetime(2026, 11, 20, 13, 0, tzinfo=UTC)
    page = bars_of(RB, "5m", friday_night, datetime(2026, 11, 23, 1, 0, tzinfo=UTC))
    assert page["source"] == "bars"
    assert page["next_cursor"] is None
    first, second = page["items"]
    assert first == {
        "vt_symbol": "rb2505.SHFE",
        "interval": "5m",
        "datetime": "2026-11-20T13:00:00.000000Z",
        "trading_day": "2026-11-23",
        **{name: float(number) for number, name in enumerate(BAR_NUMBERS)},
    }
    assert (second["datetime"], second["trading_day"]) == ("2026-11-23T01:00:00.000000Z", "2026-11-23")


def test_a_daily_bar_is_of_the_day_that_it_begins_with_there():
    monday = bars_of(RB, "d", datetime(2026, 11, 22, 16, 0, tzinfo=UTC))["items"][0]
    assert (monday["datetime"], monday["trading_day"]) == ("2026-11-22T16:00:00.000000Z", "2026-11-23")
    sunday = bars_of(Series("BTCUSDT", "GLOBAL"), "1d", datetime(2026, 11, 22, tzinfo=UTC))["items"][0]
    assert (sunday["interval"], sunday["trading_day"]) == ("d", "2026-11-22")


def test_crypto_trades_on_the_utc_day():
    late = bars_of(Series("BTCUSDT", "GLOBAL"), "1h", datetime(2026, 11, 21, 23, 0, tzinfo=UTC))["items"][0]
    assert late["trading_day"] == "2026-11-21"


def test_an_empty_page():
    page = json.loads(tick_page(Range(series=RB), TickPage(empty_ticks(), None)))
    assert page == {"items": [], "next_cursor": None}
    assert bars_of(RB, "1m")["items"] == []


def test_numbers_keep_all_their_digits():
    ticks = empty_ticks(3)
    ticks["ts"] = range(0, 3_000, 1_000)
    ticks["last_price"] = [0.1 + 0.2, 1e-8, 123456789.12345678]
    page = json.loads(tick_page(Range(series=RB), TickPage(ticks, None)))
    assert (np.array([item["last_price"] for item in page["items"]]) == ticks["last_price"]).all()
