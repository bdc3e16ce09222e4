"""The paper gateway with a real VnPy event engine."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from vnpy.event import Event
from vnpy.trader.constant import Direction, Exchange, Interval, Offset, OrderType, Status
from vnpy.trader.object import CancelRequest, HistoryRequest, OrderRequest, SubscribeRequest

from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.engine.event_engine import InterruptibleEventEngine
from vnpy_core.gateways.paper.gateway import EVENT_FINISHED, PaperGateway
from vnpy_core.kit.flow import CreditFlow

CONTRACTS = Path(__file__).resolve().parents[4] / "vnpy_config" / "contracts.toml"
COLUMNS = (
    "symbol,exchange,datetime,volume,last_price,last_volume,"
    "bid_price_1,bid_volume_1,ask_price_1,ask_volume_1,bid_price_2,bid_volume_2"
)


class Desk:
    """A gateway, its event engine and all events in the order in which they were handled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = InterruptibleEventEngine()
        self.events: list[Event] = []
        self.engine.register_general(self.events.append)
        self.engine.start()
        self.gateways: list[PaperGateway] = []
        self.gateway = self.add("PAPER")

    def add(self, name: str) -> PaperGateway:
        gateway = PaperGateway(self.engine, name)
        self.gateways.append(gateway)
        return gateway

    def connect(self, gateway: PaperGateway | None = None, **setting: Any) -> None:
        gateway = gateway or self.gateway
        ledger = str(self.folder / f"{gateway.gateway_name}.sqlite")
        gateway.connect({"contracts": str(CONTRACTS), "ledger": ledger, **setting})

    def of(self, kind: str) -> list[Any]:
        return [event.data for event in list(self.events) if event.type == kind]

    def logs(self) -> list[str]:
        return [log.msg for log in self.of("eLog")]

    def subscribe(self, symbol: str, exchange: Exchange = Exchange.SHFE) -> None:
        self.gateway.subscribe(SubscribeRequest(symbol=symbol, exchange=exchange))

    def wait_for(self, condition: Callable[[], Any], seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, [event.type for event in self.events[-20:]] + self.logs()
            time.sleep(0.005)

    def drain(self) -> None:
        passed = threading.Event()
        self.engine.register("ePassed", lambda event: event.data.set())
        self.engine.put(Event("ePassed", passed))
        assert passed.wait(5)

    def end(self) -> None:
        for gateway in self.gateways:
            gateway.close()
        self.engine.stop()


@pytest.fixture
def desk(tmp_path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.end()


def order(direction=Direction.LONG, type=OrderType.LIMIT, volume=1.0, price=3001.0, **more) -> OrderRequest:
    wanted = {"symbol": "rb2701", "exchange": Exchange.SHFE, "offset": Offset.OPEN, **more}
    return OrderRequest(direction=direction, type=type, volume=volume, price=price, **wanted)


def recording(path: Path, rows: int = 20, symbol: str = "rb2701", step: float = 0.5) -> str:
    """The price walks up and down by whole ticks."""
    lines = [COLUMNS]
    for number in range(rows):
        time_ = datetime(2026, 11, 20, 9) + timedelta(seconds=step * number)
        middle = 3000 + abs(number % 20 - 10)
        lines.append(f"{symbol},SHFE,{time_},{number},{middle},1,{middle - 1},3,{middle + 1},4,{middle - 2},5")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def replay(desk: Desk, rows: int = 20, **setting: Any) -> None:
    desk.connect(market="replay", files=recording(desk.folder / "ticks.csv", rows), **{"speed": 0, **setting})


def finished(desk: Desk) -> list[dict[str, Any]]:
    return desk.of(EVENT_FINISHED)


# --- connecting ---


def test_contracts_come_first_then_the_account(desk):
    replay(desk)
    desk.wait_for(lambda: finished(desk))
    kinds = [event.type for event in desk.events if event.type in ("eContract.", "eAccount.")]
    assert kinds[:2] == ["eContract.", "eAccount."]
    contract, account = desk.of("eContract.")[0], desk.of("eAccount.")[0]
    assert (contract.vt_symbol, contract.size, contract.pricetick) == ("rb2701.SHFE", 10, 1)
    assert (account.balance, account.frozen, account.available) == (1_000_000, 0, 1_000_000)


def test_what_the_ledger_holds_is_told_again_by_the_next_connect_with_the_same_ids(desk):
    class Ask:
        vt_orderid = ""

        def __call__(self, event: Event) -> None:
            self.vt_orderid = self.vt_orderid or desk.gateway.send_order(order(type=OrderType.MARKET, price=0))

    desk.engine.register("eTick.", ask := Ask())
    desk.gateway.bind_flow(CreditFlow())
    replay(desk)
    desk.subscribe("rb2701")
    desk.gateway.open_market()
    desk.wait_for(lambda: finished(desk))
    desk.gateway.close()
    desk.events.clear()
    replay(desk)
    desk.drain()
    [position] = desk.of("ePosition.")
    assert (position.direction, position.volume, position.price) == (Direction.LONG, 1, 3011)
    assert [o.vt_orderid for o in desk.of("eOrder.")] == [ask.vt_orderid]
    assert [t.vt_orderid for t in desk.of("eTrade.")] == [ask.vt_orderid]
    new = desk.gateway.send_order(order())
    assert new not in ("", ask.vt_orderid)


def test_a_second_connect_while_connected_is_refused_by_a_log_line(desk):
    replay(desk)
    replay(desk)
    desk.drain()
    assert any("already" in line for line in desk.logs())


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"contracts": ""}, "contracts"),
        ({"contracts": "/nowhere/contracts.toml"}, "contracts.toml"),
        ({"market": "lunar"}, "market"),
        ({"market": "replay"}, "files"),
        ({"market": "replay", "files": "/nowhere/*.csv"}, "/nowhere"),
        ({"symbols": "rb2701"}, "rb2701"),
        ({"symbols": "zz2701.SHFE"}, "zz2701"),
        ({"symbols": ""}, "contract"),
        ({"rate": 0}, "rate"),
        ({"rate": math.nan}, "rate"),
        ({"speed": -1}, "speed"),
        ({"speed": "fast"}, "speed"),
        ({"balance": math.inf}, "balance"),
        ({"latency_ms": 1e300}, "latency_ms"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_setting_is_named_and_leaves_the_gateway_unconnected(desk, setting, named):
    with pytest.raises(ConfigurationError, match=named):
        desk.connect(**setting)
    assert not desk.gateway.connected
    replay(desk)
    assert desk.gateway.connected


def test_the_market_of_a_hosted_gateway_waits_until_it_is_opened(desk):
    desk.gateway.bind_flow(CreditFlow())
    replay(desk)
    time.sleep(0.1)
    assert desk.gateway.connected
    assert not finished(desk)
    desk.gateway.open_market()
    desk.gateway.open_market()
    desk.wait_for(lambda: finished(desk))
    desk.drain()
    assert len(finished(desk)) == 1


# --- ticks ---


def test_ticks_come_for_subscribed_symbols_only_in_the_venues_time_and_without_ours(desk):
    desk.gateway.bind_flow(CreditFlow())
    replay(desk)
    desk.subscribe("rb2701")
    desk.gateway.open_market()
    desk.wait_for(lambda: finished(desk))
    ticks = desk.of("eTick.")
    assert len(ticks) == finished(desk)[0]["ticks"] == 20
    first = ticks[0]
    assert first.datetime.isoformat() == "2026-11-20T09:00:00+08:00"
    assert first.localtime is None
    assert (first.last_price, first.bid_price_1, first.ask_volume_1, first.bid_price_2) == (3010, 3009, 4, 3008)
    assert (first.ask_price_2, first.bid_price_3, first.bid_volume_5) == (0, 0, 0)


def test_orders_are_matched_though_nobody_subscribed(desk):
    desk.gateway.bind_flow(CreditFlow())
    replay(desk)
    desk.gateway.send_order(order(price=3005))
    desk.gateway.open_market()
    desk.wait_for(lambda: finished(desk))
    assert not desk.of("eTick.")
    assert [trade.price for trade in desk.of("eTrade.")] == [3005]


def test_an_unknown_symbol_is_not_subscribed_and_told(desk):
    replay(desk)
    desk.subscribe("xx9999")
    desk.drain()
    assert any("xx9999" in line for line in desk.logs())


def test_a_generated_market_ticks_now_and_has_history_that_ends_where_it_begins(desk):
    desk.connect(rate=50.0, symbols="rb2701.SHFE;BTCUSDT_SWAP_BINANCE.GLOBAL")
    desk.subscribe("rb2701")
    desk.wait_for(lambda: len(desk.of("eTick.")) > 5)
    tick = desk.of("eTick.")[0]
    assert abs((tick.localtime - tick.datetime).total_seconds()) < 1
    assert tick.bid_price_5 < tick.bid_price_1 < tick.ask_price_1 < tick.ask_price_5
    assert all(contract.history_data for contract in desk.of("eContract."))
    for interval in (Interval.MINUTE, Interval.HOUR, Interval.DAILY):
        start = tick.datetime - timedelta(days=3)
        request = HistoryRequest(symbol="rb2701", exchange=Exchange.SHFE, start=start, interval=interval)
        bars = desk.gateway.query_history(request)
        assert bars == desk.gateway.query_history(request)
        assert [bar.datetime for bar in bars] == sorted({bar.datetime for bar in bars})
        assert all(bar.low_price <= min(bar.open_price, bar.close_price) for bar in bars)
        assert abs(bars[-1].close_price - tick.last_price) < 50


def test_a_recording_has_no_history(desk):
    replay(desk)
    start = datetime(2026, 11, 1)
    request = HistoryRequest(symbol="rb2701", exchange=Exchange.SHFE, start=start, interval=Interval.MINUTE)
    assert desk.gateway.query_history(request) == []


# --- orders ---


@pytest.mark.parametrize(
    "wrong",
    [{"price": math.nan}, {"volume": math.inf}, {"volume": 0}, {"price": 3000.5}, {"offset": Offset.NONE},
     {"symbol": "xx9999"}, {"offset": Offset.CLOSE}, {"volume": 1e6}, {"type": OrderType.RFQ}],
)  # fmt: skip
def test_a_refused_order_has_an_id_and_follows_as_rejected_with_its_reason(desk, wrong):
    replay(desk)
    vt_orderid = desk.gateway.send_order(order(**wrong))
    desk.drain()
    [told] = desk.of("eOrder.")
    assert (told.vt_orderid, told.status) == (vt_orderid, Status.REJECTED)
    assert told.extra["reason"]
    assert told.datetime.tzinfo is not None


def test_a_cancelled_order_says_so_and_what_is_not_there_is_cancelled_without_an_event(desk):
    desk.gateway.bind_flow(CreditFlow())
    replay(desk)
    vt_orderid = desk.gateway.send_order(order(price=2999))
    cancel = CancelRequest(orderid=vt_orderid.partition(".")[2], symbol="rb2701", exchange=Exchange.SHFE)
    desk.gateway.cancel_order(cancel)
    desk.gateway.cancel_order(cancel)
    desk.gateway.cancel_order(CancelRequest(orderid="nope", symbol="", exchange=Exchange.SHFE))
    desk.drain()
    told = desk.of("eOrder.")
    assert [o.status for o in told] == [Status.NOTTRADED, Status.CANCELLED]
    assert told[-1].extra["reason"]
    assert len({id(o) for o in told}) == 2


def test_enums_go_by_their_names(desk):
    desk.gateway.bind_flow(CreditFlow())
    replay(desk)
    desk.gateway.send_order(order(Direction.SHORT, OrderType.STOP, price=2990, reference="mine"))
    desk.drain()
    told = desk.of("eOrder.")[-1]
    assert (told.direction, told.offset, told.type) == (Direction.SHORT, Offset.OPEN, OrderType.STOP)
    assert told.reference == "mine"


def test_queries_tell_account_and_positions_again(desk):
    desk.gateway.bind_flow(CreditFlow())
    replay(desk)
    desk.gateway.send_order(order(price=3005))
    desk.gateway.open_market()
    desk.wait_for(lambda: finished(desk))
    desk.events.clear()
    desk.gateway.query_account()
    desk.gateway.query_position()
    desk.drain()
    assert [account.accountid for account in desk.of("eAccount.")] == ["paper"]
    assert [position.volume for position in desk.of("ePosition.")] == [1]


def test_nothing_is_taken_before_connect_and_after_close(desk):
    assert desk.gateway.send_order(order()) == ""
    replay(desk)
    desk.gateway.close()
    assert desk.gateway.send_order(order()) == ""
    desk.gateway.query_account()
    desk.gateway.query_position()
    desk.gateway.cancel_order(CancelRequest(orderid="1", symbol="rb2701", exchange=Exchange.SHFE))


# --- pace ---


def test_close_ends_the_feeds_thread_at_once_and_connect_opens_again(desk):
    before = set(threading.enumerate())
    for _ in range(3):
        desk.connect(rate=0.01)
        assert set(threading.enumerate()) - before
        started = time.monotonic()
        desk.gateway.close()
        assert time.monotonic() - started < 0.2
        assert set(threading.enumerate()) == before
        assert not desk.gateway.connected
    desk.gateway.close()


def test_a_paced_replay_follows_the_recordings_time(desk):
    started = time.monotonic()
    replay(desk, rows=21, speed=20.0)
    desk.wait_for(lambda: finished(desk))
    assert 0.4 < time.monotonic() - started < 2


def test_a_long_silence_of_a_recording_is_shortened(desk):
    files = recording(desk.folder / "slow.csv", rows=4, step=3600)
    started = time.monotonic()
    desk.connect(market="replay", files=files, speed=1.0, max_gap=0.1)
    desk.wait_for(lambda: finished(desk))
    assert 0.2 < time.monotonic() - started < 2


def test_a_fast_replay_waits_for_a_consumer_that_is_behind(desk):
    flow = CreditFlow()
    desk.gateway.bind_flow(flow)
    replay(desk, rows=2000)
    desk.subscribe("rb2701")
    flow.hold("recorder")
    desk.gateway.open_market()
    time.sleep(0.1)
    assert not desk.of("eTick.")
    flow.release("recorder")
    desk.wait_for(lambda: finished(desk))
    assert len(desk.of("eTick.")) == 2000


def test_all_that_a_tick_caused_is_handled_before_the_next_one(desk):
    """A chain of events that each tick starts never meets a newer tick."""
    seen, wrong = [], []

    def on_tick(event: Event) -> None:
        seen.append(event.data)
        desk.engine.put(Event("eChain", (event.data, 5)))

    def on_chain(event: Event) -> None:
        tick, left = event.data
        if seen[-1] is not tick:
            wrong.append(tick)
        if left:
            desk.engine.put(Event("eChain", (tick, left - 1)))

    desk.engine.register("eTick.", on_tick)
    desk.engine.register("eChain", on_chain)
    desk.gateway.bind_flow(CreditFlow())
    replay(desk, rows=500)
    desk.subscribe("rb2701")
    desk.gateway.open_market()
    desk.wait_for(lambda: finished(desk))
    assert len(seen) == 500
    assert not wrong


def test_a_reconnect_while_a_step_still_waits_plays_from_the_beginning(desk):
    hold = threading.Event()
    desk.engine.register("eHold", lambda event: hold.wait(5))
    desk.engine.put(Event("eHold"))
    replay(desk)
    desk.gateway.close()
    replay(desk)
    hold.set()
    desk.wait_for(lambda: finished(desk))
    desk.drain()
    assert [end["ticks"] for end in finished(desk)] == [20]


def test_two_fast_replays_on_one_engine_both_reach_their_end(desk):
    hold = threading.Event()
    desk.engine.register("eHold", lambda event: hold.wait(5))
    desk.engine.put(Event("eHold"))
    replay(desk, rows=300)
    other = desk.add("OTHER")
    desk.connect(other, market="replay", files=str(desk.folder / "ticks.csv"), speed=0)
    hold.set()
    desk.wait_for(lambda: len(finished(desk)) == 2)
    assert {(end["gateway_name"], end["ticks"]) for end in finished(desk)} == {("PAPER", 300), ("OTHER", 300)}


@pytest.mark.parametrize("speed", [0, 1e6])
def test_a_contract_that_the_table_lacks_ends_no_thread_of_vnpys(desk, speed):
    """It shows only after the part of the recording that connect looks at."""
    path = Path(recording(desk.folder / "late.csv", rows=2100))
    path.write_text(path.read_text() + "zz2701,SHFE,2026-11-20 14:00:00,1,5,1,4,1,6,1,3,1\n")
    desk.connect(market="replay", files=str(path), speed=speed)
    desk.wait_for(lambda: finished(desk))
    assert any("zz2701" in line for line in desk.logs())
    assert desk.engine._thread.is_alive()


class Trader:
    """Trades on every tenth tick, by what it sees."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.count = desk, 0

    def __call__(self, event: Event) -> None:
        tick = event.data
        self.count += 1
        if self.count % 10 == 0:
            long = self.count % 20 == 0
            price = tick.ask_price_1 if long else tick.bid_price_1
            self.desk.gateway.send_order(
                order(Direction.LONG if long else Direction.SHORT, price=price, symbol=tick.symbol)
            )


def play(folder: Path, symbol: str = "rb2701", **setting: Any) -> list[str]:
    """Everything a full-speed replay told of ticks, orders, trades, positions and funds."""
    folder.mkdir()
    desk = Desk(folder)
    try:
        desk.engine.register("eTick.", Trader(desk))
        desk.gateway.bind_flow(CreditFlow())
        desk.connect(market="replay", speed=0, **setting)
        desk.subscribe(symbol)
        desk.gateway.open_market()
        desk.wait_for(lambda: finished(desk), seconds=100)
        kinds = ("eTick.", "eOrder.", "eTrade.", "ePosition.", "eAccount.")
        return [repr(vars(event.data)) for event in desk.events if event.type in kinds]
    finally:
        desk.end()


def test_a_full_speed_replay_gives_the_same_ticks_orders_and_trades_each_time(tmp_path):
    files = recording(tmp_path / "ticks.csv", rows=1000)
    first = play(tmp_path / "first", files=files)
    assert first == play(tmp_path / "second", files=files)
    assert sum("tradeid" in line for line in first) > 50


@pytest.mark.realdata
def test_five_recorded_days_are_played_whole_and_alike(tmp_path, shared_data):
    files = str(shared_data / "ctp" / "shfe_ru1901_20181008-20181012.tick-ctp.zip")
    runs = [play(tmp_path / name, "ru1901", files=files) for name in ("first", "second")]
    assert sum("bid_price_1" in line for line in runs[0]) == 192_164
    assert runs[0] == runs[1]
