"""Recorded ticks as a feed: which, in what order, with how much memory, and how the gateway plays them."""

import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise, takewhile

import numpy as np
import pytest

from testkit.memory_timeseries import MemoryTimeSeries
from testkit.paper import order, venue
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.cli.data_store import opened
from vnpy_core.domain.enums import Product
from vnpy_core.domain.errors import ConfigurationError, TimeSeriesUnavailable
from vnpy_core.domain.history import Interval, Series, TickBatch, empty_bars, empty_ticks, to_ns
from vnpy_core.features.market_data.importing import ImportSpec, run_import
from vnpy_core.gateways.paper.feeds import stored
from vnpy_core.gateways.paper.feeds.replay import Replay
from vnpy_core.gateways.paper.feeds.stored import ReadAhead, StoredTicks
from vnpy_core.gateways.paper.model import ContractSpec

RB, RU, BTC = Series("rb2701", "SHFE"), Series("ru2701", "SHFE"), Series("BTCUSDT", "GLOBAL")
BEGIN = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)


def ticks(count=1, *, at=BEGIN, gap=0.5, price=3500.0):
    rows = empty_ticks(count)
    rows["ts"] = to_ns(at) + (np.arange(count) * gap * 1e9).astype(np.int64)
    rows["last_price"] = price + np.arange(count)
    for name, value in {"bid_price_1": 3499, "bid_volume_1": 7, "ask_price_1": 3501, "ask_volume_1": 9}.items():
        rows[name] = value
    return rows


@pytest.fixture
def store():
    return MemoryTimeSeries()


def feed(store, *symbols, start="", end="", timezone="Asia/Shanghai"):
    return StoredTicks(store, list(symbols), start=start, end=end, timezone=timezone)


def prices(snapshots):
    return [snapshot.last_price for snapshot in snapshots]


def test_a_tick_becomes_the_snapshot_that_it_was(store):
    rows = ticks()
    for number, name in enumerate(rows.dtype.names[2:]):
        rows[name] = number + 1
    rows["ask_volume_4"] = 0  # the fourth level is not there, and nothing behind it
    store.merge_ticks(RB, rows)
    (shown,) = feed(store)
    assert (shown.vt_symbol, shown.time, shown.trading_day) == ("rb2701.SHFE", BEGIN, date(2026, 11, 20))
    row = rows[0]
    for name in stored._PLAIN:
        assert getattr(shown, name) == row[name]
    assert shown.bids == tuple((row[f"bid_price_{n}"], row[f"bid_volume_{n}"]) for n in range(1, 6))
    assert shown.asks == tuple((row[f"ask_price_{n}"], row[f"ask_volume_{n}"]) for n in range(1, 4))


def test_the_night_belongs_to_the_next_trading_day(store):
    store.merge_ticks(RB, ticks(at=datetime(2026, 11, 20, 13, 0, tzinfo=UTC)))
    store.merge_ticks(BTC, ticks(at=datetime(2026, 11, 20, 13, 0, tzinfo=UTC)))
    assert {s.symbol: s.trading_day for s in feed(store)} == {
        "rb2701": date(2026, 11, 23),
        "BTCUSDT": date(2026, 11, 20),
    }


def test_many_symbols_come_in_the_order_of_time_and_always_the_same(store):
    store.merge_ticks(RB, ticks(300, gap=0.7))
    store.merge_ticks(RU, ticks(300, gap=0.5, price=14000))
    store.merge_ticks(BTC, ticks(300, gap=0.35, price=60000))
    whole = list(feed(store))
    assert len(whole) == 900
    assert all(one.time <= other.time for one, other in pairwise(whole))
    assert [s for s in whole if s.symbol == "ru2701"] == list(feed(store, "ru2701.SHFE"))
    again = feed(store)
    assert list(again) == list(again) == whole


def test_ticks_of_one_microsecond_keep_their_order_also_across_pages(store, monkeypatch):
    monkeypatch.setattr(stored, "PAGE_MIN", 3)
    monkeypatch.setattr(stored, "PAGE_MAX", 3)
    store.append_ticks(TickBatch({RB: ticks(10, gap=0)}))
    assert prices(feed(store)) == [3500.0 + n for n in range(10)]


def test_no_more_is_in_memory_than_a_page_of_each(store, monkeypatch):
    monkeypatch.setattr(stored, "PAGE_MAX", 50)
    held, asked = set(), []

    class Watched(MemoryTimeSeries):
        def ticks(self, series, start_ns, end_ns, *, columns=(), limit=None):
            asked.append(limit)
            held.add(series)
            yield from super().ticks(series, start_ns, end_ns, columns=columns, limit=limit)
            held.discard(series)

    watched = Watched()
    watched.merge_ticks(RB, ticks(500))
    watched.merge_ticks(RU, ticks(500))
    for _ in feed(watched):
        assert not held, "a read is left open while the feed waits"
    assert max(asked) == 50
    assert len(asked) >= 20


# --- ranges ---


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("", "", [1, 2, 3, 4, 5]),
        ("2026-11-20", "2026-11-20", [2, 3, 4]),
        ("2026-11-20", "", [2, 3, 4, 5]),
        ("", "2026-11-19", [1]),
        ("2026-11-20T09:00", "2026-11-20T21:00", [3]),
        ("2026-11-20T01:00Z", "2026-11-20T21:00:00.000001+08:00", [3, 4]),
    ],
)
def test_bounds_are_days_of_the_exchange_or_moments(store, start, end, expected):
    shanghai = [(19, 23, 59), (20, 0, 0), (20, 9, 0), (20, 21, 0), (21, 0, 0)]
    for price, (day, hour, minute) in enumerate(shanghai, 1):
        moment = datetime(2026, 11, day, hour, minute, tzinfo=UTC) - timedelta(hours=8)
        store.merge_ticks(RB, ticks(at=moment, price=price))
    assert prices(feed(store, start=start, end=end)) == expected


def test_a_day_of_global_is_utc(store):
    store.merge_ticks(BTC, ticks(at=datetime(2026, 11, 19, 23, 59, tzinfo=UTC), price=1))
    store.merge_ticks(BTC, ticks(at=datetime(2026, 11, 20, 23, 59, tzinfo=UTC), price=2))
    assert prices(feed(store, start="2026-11-20", end="2026-11-20")) == [2]


def test_a_time_without_offset_is_in_the_zone_that_is_set(store):
    store.merge_ticks(BTC, ticks(2, gap=3600))
    assert prices(feed(store, start="2026-11-20T02:00", timezone="UTC")) == [3501]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"start": "yesterday"}, "yesterday"),
        ({"end": "2026-13-01"}, "2026-13-01"),
        ({"start": "2026-11-21", "end": "2026-11-20"}, "is not after"),
        ({"timezone": "Asia/Nowhere"}, "Asia/Nowhere"),
        ({"start": "2027-01-01"}, "no ticks of any symbol from 2027-01-01 to now"),
    ],
)
def test_what_cannot_be_replayed_is_told(store, changes, word):
    store.merge_ticks(RB, ticks())
    with pytest.raises(ConfigurationError, match=word):
        feed(store, **changes)


def test_symbols_may_be_patterns_and_must_be_there(store):
    store.merge_ticks(RB, ticks())
    store.merge_ticks(RU, ticks())
    store.merge_bars(BTC, Interval.MINUTE, empty_bars(1))
    assert feed(store, "r[bu]*.SHFE").series == [RB, RU]
    assert feed(store, "ru2701.SHFE", "rb2701.SHFE").series == [RB, RU]
    with pytest.raises(ConfigurationError, match="no ticks of BTCUSDT.GLOBAL"):
        feed(store, "rb2701.SHFE", "BTCUSDT.GLOBAL")


def test_what_is_recorded_during_the_replay_is_not_replayed(store):
    store.merge_ticks(RB, ticks(2))
    playing = iter(feed(store))
    first = next(playing)
    store.merge_ticks(RB, ticks(at=BEGIN + timedelta(hours=1)))
    assert [first, *playing][-1].time == BEGIN + timedelta(seconds=0.5)


@pytest.mark.parametrize(("told", "expected"), [(0, [0, 3, 2, 0, 4]), (7, [7, 7, 7, 7, 7])])
def test_what_was_traded_is_the_difference_of_the_days_volume_unless_it_was_told(store, told, expected):
    rows = ticks(5)
    rows["ts"][4] += 86_400 * 10**9 * 3  # the next trading day counts anew
    rows["volume"] = [10, 13, 15, 15, 4]
    rows["last_volume"] = told
    store.merge_ticks(RB, rows)
    assert [snapshot.last_volume for snapshot in feed(store)] == expected


def fills(path, snapshots):
    """What a trader gets who buys and sells by turns every now and then."""
    spec = ContractSpec(
        symbol="ru1901", exchange="SHFE", name="ru", product=Product.FUTURES, size=Decimal(10), pricetick=Decimal(5)
    )
    house = venue(path, specs={("ru1901", "SHFE"): spec}, balance=100_000_000, latency_ms=500)
    for number, snapshot in enumerate(snapshots):
        house.on_snapshot(snapshot)
        if number % 50 == 25:
            side, level = ("LONG", snapshot.bids) if number % 100 == 25 else ("SHORT", snapshot.asks)
            house.place(order(side, 3, level[0][0] if level else 0, spec=spec, type="LIMIT" if level else "MARKET"))
    return house.trades()


@pytest.mark.realdata
def test_a_recording_that_was_imported_plays_as_its_file_and_fills_the_same(shared_data, tmp_path):
    file = shared_data / "ctp" / "shfe_ru1901_20181008-20181012.tick-ctp.zip"
    with opened(TimeSeriesSettings(), tmp_path / "data") as store:
        spec = ImportSpec(path=str(file), kind="tick", vt_symbol="ru1901.SHFE")
        assert run_import(spec, store, lambda symbol: None, lambda fraction, message: None).rows == 192_164
        from_store = list(feed(store, "ru1901.SHFE", end="2018-10-08"))
    end = datetime(2018, 10, 8, 16, tzinfo=UTC)
    from_file = list(takewhile(lambda snapshot: snapshot.time < end, Replay([str(file)], exchange="SHFE")))
    assert len(from_file) > 30_000
    assert from_store == from_file
    filled = [fills(tmp_path / name, played) for name, played in (("a", from_store), ("b", from_file))]
    assert filled[0] == filled[1]
    assert len(filled[0]) > 200


# --- reading ahead ---


def test_whoever_asks_first_never_waits_and_is_told_when_it_is_there():
    may_read, told = threading.Event(), threading.Event()

    def slow():
        may_read.wait(10)
        yield from range(5_000)

    ahead = ReadAhead(slow())
    assert not ahead.ready(told.set)
    may_read.set()
    assert told.wait(10)
    assert list(ahead) == list(range(5_000))
    assert ahead.ready(told.set)
    assert next(ahead, None) is None


def test_it_reads_no_further_than_it_may():
    read = []

    def counted():
        for number in range(100_000):
            read.append(number)
            yield number

    ahead = ReadAhead(counted())
    assert next(ahead) == 0
    limit = (stored._BLOCKS + 2) * stored._BLOCK
    assert len(read) <= limit
    ahead.close()
    ahead._thread.join(10)
    assert not ahead._thread.is_alive()
    assert len(read) <= limit


def test_what_the_store_raises_comes_after_what_was_read():
    def broken():
        yield 1
        raise TimeSeriesUnavailable("away")

    ahead = ReadAhead(broken())
    with pytest.raises(TimeSeriesUnavailable, match="away"):
        list(ahead)


def test_closing_frees_who_waits():
    release = threading.Event()
    ahead = ReadAhead(iter(lambda: release.wait(10) or None, None))
    found = []
    waiting = threading.Thread(target=lambda: found.extend(ahead), daemon=True)
    waiting.start()
    ahead.close()
    waiting.join(10)
    assert not waiting.is_alive()
    assert found == []
    release.set()
    if ahead._thread is not None:
        ahead._thread.join(10)


# --- the gateway ---


@pytest.fixture
def platform(vnpy_home, tmp_path):
    from unit.gateways.paper.test_gateway import Platform

    platform = Platform(tmp_path)
    yield platform
    platform.main.close()


def play(platform, store, **changes):
    from vnpy.trader.constant import Exchange
    from vnpy.trader.object import SubscribeRequest

    gateway = platform.add(flow=Open())
    gateway.history = store
    gateway.connect(platform.setting(market="store", **changes))
    for symbol, exchange in list(gateway._market.contracts):
        gateway.subscribe(SubscribeRequest(symbol=symbol, exchange=Exchange(exchange)))
    return gateway


class Open:
    """A flow that is always open: the host's, that opens the market itself."""

    open = True

    def when_open(self, resume):
        resume()


@pytest.mark.parametrize("speed", [0, 1_000_000])
def test_the_gateway_plays_a_range_of_many_symbols(platform, store, speed):
    from unit.gateways.paper.test_gateway import until

    store.merge_ticks(RB, ticks(3_000, gap=0.002))
    store.merge_ticks(BTC, ticks(3_000, gap=0.003, price=60_000))
    gateway = play(platform, store, symbols="rb2701.SHFE;BTC*.GLOBAL", speed=speed)
    assert gateway.replays
    gateway.open_market()
    until(lambda: platform.finished)
    platform.settle()
    assert platform.finished == [{"gateway_name": "PAPER", "ticks": 6_000, "reason": ""}]
    shown = platform.data("eTick.")
    expected = [(s.vt_symbol, s.time, s.last_price) for s in feed(store)]
    assert [(tick.vt_symbol, tick.datetime.astimezone(UTC), tick.last_price) for tick in shown] == expected


def test_without_symbols_all_that_is_there_is_played(platform, store):
    from vnpy_core.gateways.paper.settings import PaperSettings

    store.merge_ticks(RB, ticks())
    gateway = play(platform, store, symbols=PaperSettings().symbols)
    assert list(gateway._market.contracts) == [("rb2701", "SHFE")]


@pytest.mark.parametrize(
    ("changes", "word"), [({"symbols": "IF2612.CFFEX"}, "IF2612"), ({"start": "2030-01-01", "symbols": ""}, "2030")]
)
def test_the_gateway_refuses_what_is_not_there_and_can_be_asked_again(platform, store, changes, word):
    store.merge_ticks(RB, ticks())
    gateway = platform.add()
    gateway.history = store
    with pytest.raises(ConfigurationError, match=word):
        gateway.connect(platform.setting(market="store", **changes))
    assert not gateway.connected
    gateway.connect(platform.setting(market="store", symbols="rb2701.SHFE"))
    assert gateway.connected


def test_without_a_store_it_says_so(platform):
    with pytest.raises(ConfigurationError, match="no tick store here"):
        platform.add().connect(platform.setting(market="store"))


def test_a_store_that_fails_on_the_way_ends_the_replay_with_its_reason(platform, store, monkeypatch):
    from unit.gateways.paper.test_gateway import until

    monkeypatch.setattr(stored, "PAGE_MAX", 500)
    store.merge_ticks(RB, ticks(2_000))
    gateway = play(platform, store, symbols="rb2701.SHFE", speed=0)
    reads = iter([True])

    def ticks_then_nothing(*arguments, read=store.ticks, **named):
        if next(reads, False):
            return read(*arguments, **named)
        raise TimeSeriesUnavailable("the server is away")

    monkeypatch.setattr(store, "ticks", ticks_then_nothing)
    gateway.open_market()
    until(lambda: platform.finished)
    assert "the server is away" in platform.finished[0]["reason"]


def test_the_event_thread_does_not_wait_for_the_store(platform, store, monkeypatch):
    from unit.gateways.paper.test_gateway import until

    store.merge_ticks(RB, ticks(10))
    may_read = threading.Event()
    gateway = play(platform, store, symbols="rb2701.SHFE", speed=0)

    def held(*arguments, read=store.ticks, **named):
        may_read.wait(10)
        return read(*arguments, **named)

    monkeypatch.setattr(store, "ticks", held)
    gateway.open_market()
    platform.settle()  # the event thread goes on
    assert not platform.finished
    may_read.set()
    until(lambda: platform.finished)
    assert platform.finished[0]["ticks"] == 10
