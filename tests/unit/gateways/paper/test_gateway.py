"""The gateway in a real VnPy: MainEngine, OmsEngine and an event thread."""

import copy
import gzip
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.domain.sessions import SHANGHAI
from vnpy_core.gateways.paper.ledger import Ledger
from vnpy_core.kit.flow import CreditFlow

CONTRACTS = """
[rb]
exchange = "SHFE"
size = 10
pricetick = 1
max_volume = 500

[IF]
exchange = "CFFEX"
size = 300
pricetick = 0.2

[BTCUSDT]
exchange = "GLOBAL"
product = "SWAP"
size = 1
pricetick = 0.1
min_volume = 0.001
net_position = true
"""
HEADER = "vt_symbol,datetime,last_price,volume,bid_price_1,bid_volume_1,ask_price_1,ask_volume_1\n"
BEGIN = datetime(2026, 11, 20, 9, 0)


def rows(count: int, *, gap: float = 0.5, vt_symbol="rb2701.SHFE", begin=BEGIN) -> str:
    lines = []
    for n in range(count):
        price = 3500 + (n * 7) % 11
        moment = begin + timedelta(seconds=n * gap)
        lines.append(f"{vt_symbol},{moment},{price},{n * 3},{price},20,{price + 1},20\n")
    return "".join(lines)


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


class Platform:
    """A running VnPy that notes every event."""

    def __init__(self, folder) -> None:
        from vnpy.event import EVENT_TIMER
        from vnpy.trader.engine import MainEngine

        from vnpy_core.engine.event_engine import EventGuard, InterruptibleEventEngine

        self.folder = folder
        self.events: list[tuple[str, object]] = []
        self.event_engine = InterruptibleEventEngine()
        self.guard = EventGuard(self.event_engine)
        self.guard.install()
        self.main = MainEngine(self.event_engine)
        self.event_engine.register_general(
            lambda event: None if event.type == EVENT_TIMER else self.events.append((event.type, copy.copy(event.data)))
        )
        (folder / "contracts.toml").write_text(CONTRACTS)

    def add(self, name="PAPER", *, flow=None):
        from vnpy_core.gateways.paper.gateway import PaperGateway

        gateway = self.main.add_gateway(PaperGateway, name)
        if flow is not None:
            gateway.bind_flow(flow)
        return gateway

    def setting(self, **changes):
        return {
            "contracts": str(self.folder / "contracts.toml"), "ledger": str(self.folder / "books.sqlite"),
            "symbols": "rb2701.SHFE;BTCUSDT.GLOBAL", **changes,
        }  # fmt: skip

    def replay(self, text: str, **changes):
        path = self.folder / "ticks.csv"
        path.write_text(text if text.startswith("vt_symbol") else HEADER + text)
        return self.setting(market="replay", files=str(path), symbols="", **changes)

    def data(self, kind: str) -> list:
        return [data for type_, data in list(self.events) if type_ == kind]

    @property
    def logs(self) -> list[str]:
        return [log.msg for log in self.data("eLog")]

    @property
    def finished(self) -> list[dict]:
        return self.data("ePaperFinished")

    def settle(self) -> None:
        assert self.guard.drain(5)

    def stop(self) -> None:
        for gateway in self.main.gateways.values():
            gateway.close()
        self.main.close()
        assert self.guard.handler_errors == 0


@pytest.fixture
def platform(vnpy_home, tmp_path):
    platform = Platform(tmp_path)
    yield platform
    platform.stop()


def request(direction="LONG", volume=1.0, price=3510.0, *, type="LIMIT", offset="OPEN", symbol="rb2701", reference=""):
    from vnpy.trader.constant import Direction, Exchange, Offset, OrderType
    from vnpy.trader.object import OrderRequest

    return OrderRequest(
        symbol=symbol, exchange=Exchange.SHFE, direction=Direction[direction], type=OrderType[type], volume=volume,
        price=price, offset=Offset[offset], reference=reference,
    )  # fmt: skip


def subscription(symbol="rb2701", exchange="SHFE"):
    from vnpy.trader.constant import Exchange
    from vnpy.trader.object import SubscribeRequest

    return SubscribeRequest(symbol=symbol, exchange=Exchange(exchange))


def history(symbol="rb2701", interval="1m", hours=2, exchange="SHFE"):
    from vnpy.trader.constant import Exchange, Interval
    from vnpy.trader.object import HistoryRequest

    now = datetime.now(SHANGHAI)
    return HistoryRequest(
        symbol=symbol, exchange=Exchange(exchange), start=now - timedelta(hours=hours), end=now,
        interval=Interval(interval),
    )  # fmt: skip


# --- connecting ---


def test_connecting_shows_contracts_funds_and_what_the_books_hold(platform):
    gateway = platform.add(flow=CreditFlow())
    gateway.connect(platform.setting(balance=5000))
    platform.settle()
    rb = platform.main.get_contract("rb2701.SHFE")
    assert (rb.size, rb.pricetick, rb.min_volume, rb.max_volume, rb.history_data) == (10, 1, 1, 500, True)
    btc = platform.main.get_contract("BTCUSDT.GLOBAL")
    assert (btc.pricetick, btc.min_volume, btc.net_position, btc.product.name) == (0.1, 0.001, True, "SWAP")
    [account] = platform.main.get_all_accounts()
    assert (account.vt_accountid, account.balance, account.available) == ("PAPER.paper", 5000, 5000)
    assert platform.main.get_all_orders() == platform.main.get_all_trades() == platform.main.get_all_positions() == []


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"speeed": 1}, "speeed"),
        ({"speed": "fast"}, "speed"),
        ({"speed": -1}, "speed"),
        ({"speed": float("nan")}, "speed"),
        ({"max_gap": float("inf")}, "max_gap"),
        ({"max_gap": 1e300}, "max_gap"),
        ({"latency_ms": 1e18}, "latency_ms"),
        ({"balance": -1}, "balance"),
        ({"rate": 0}, "rate"),
        ({"rate": 1e9}, "rate"),
        ({"seed": 1.5}, "seed"),
        ({"market": "real"}, "market"),
        ({"market": "replay"}, "files"),
        ({"market": "replay", "files": "absent.csv"}, "absent.csv"),
        ({"contracts": ""}, "contracts"),
        ({"contracts": "absent.toml"}, "absent.toml"),
        ({"symbols": "rb2701"}, "symbols"),
        ({"symbols": "xx2701.SHFE"}, "xx2701.SHFE"),
        ({"symbols": "rb2701.NOWHERE"}, "NOWHERE"),
        ({"symbols": ""}, "contract"),
    ],
)
def test_a_wrong_setting_is_named_and_a_right_one_connects_after_it(platform, setting, named):
    gateway = platform.add()
    with pytest.raises(ConfigurationError, match=named):
        gateway.connect(platform.setting(**setting))
    assert not gateway.connected
    gateway.close()
    gateway.connect(platform.setting())
    assert gateway.connected


def test_a_wrong_time_zone_is_named(platform):
    with pytest.raises(ConfigurationError, match="Nowhere/Land"):
        platform.add().connect(platform.replay(rows(3), timezone="Nowhere/Land"))


def test_the_default_setting_is_accepted_once_it_has_contracts(platform):
    from vnpy_core.gateways.paper.gateway import PaperGateway

    texts = {name: str(value) for name, value in PaperGateway.default_setting.items()}
    symbols = {"symbols": "rb2701.SHFE"}
    gateway = platform.add()
    gateway.connect(texts | platform.setting(**symbols))
    assert gateway.connected


def test_books_of_a_contract_that_the_table_lacks_are_named_and_closed_again(platform):
    gateway = platform.add(flow=CreditFlow())
    gateway.connect(platform.setting())
    gateway.send_order(request(price=3000.0))
    gateway.close()
    table = platform.folder / "contracts.toml"
    table.write_text(CONTRACTS.replace("[rb]", "[hc]"))
    with pytest.raises(ConfigurationError, match=r"rb2701\.SHFE"):
        gateway.connect(platform.setting(symbols="hc2701.SHFE"))
    with pytest.raises(ConfigurationError, match="closed database"):
        gateway._ledger.load()
    table.write_text(CONTRACTS)
    gateway.connect(platform.setting())
    assert gateway.connected


def test_a_second_connect_is_only_logged(platform):
    gateway = platform.add(flow=CreditFlow())
    gateway.connect(platform.setting())
    gateway.connect({"nonsense": True})
    platform.settle()
    assert platform.logs[-1] == "paper: connected already"


def test_in_a_plain_vnpy_the_market_opens_with_connect(platform):
    gateway = platform.add()
    gateway.connect(platform.replay(rows(20), speed=0))
    until(lambda: bool(platform.finished))
    assert platform.finished == [{"gateway_name": "PAPER", "ticks": 20, "reason": ""}]
    assert "paper: replay finished: 20 ticks" in platform.logs


@pytest.mark.parametrize("speed", [0, 1000])
def test_a_host_opens_the_market_itself_and_only_once(platform, speed):
    gateway = platform.add(flow=CreditFlow())
    gateway.open_market()
    gateway.connect(platform.replay(rows(20), speed=speed))
    gateway.subscribe(subscription())
    time.sleep(0.05)
    platform.settle()
    assert platform.data("eTick.rb2701.SHFE") == []
    for _ in range(3):
        gateway.open_market()
    until(lambda: bool(platform.finished))
    gateway.open_market()
    time.sleep(0.02)
    platform.settle()
    assert len(platform.data("eTick.rb2701.SHFE")) == 20
    assert len(platform.finished) == 1


# --- closing ---


@pytest.mark.parametrize("changes", [{"speed": 1.0, "max_gap": 60.0}, {"speed": 0}])
def test_closing_ends_the_feed_at_once(platform, changes):
    gateway = platform.add()
    text = rows(3, gap=3600) if changes["speed"] else rows(20_000)
    gateway.connect(platform.replay(text, **changes))
    gateway.subscribe(subscription())
    until(lambda: gateway._played > 0)
    started = time.monotonic()
    gateway.close()
    assert time.monotonic() - started < 0.3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("paper ")]
    platform.settle()
    played = len(platform.data("eTick.rb2701.SHFE"))
    time.sleep(0.03)
    platform.settle()
    assert len(platform.data("eTick.rb2701.SHFE")) == played
    assert platform.finished == []


def test_closing_twice_or_before_connecting_does_nothing(platform):
    gateway = platform.add()
    gateway.close()
    gateway.connect(platform.setting())
    gateway.close()
    gateway.close()


def test_after_closing_the_same_books_are_opened_again(platform):
    gateway = platform.add(flow=CreditFlow())
    setting = platform.setting()
    gateway.connect(setting)
    sent = gateway.send_order(request(price=3000.0))
    gateway.close()
    platform.settle()
    assert gateway.send_order(request()) == ""
    platform.events.clear()
    gateway.connect(setting)
    platform.settle()
    assert [(each.vt_orderid, each.price) for each in platform.data("eOrder.")] == [(sent, 3000.0)]
    assert gateway.send_order(request(price=3000.0)) == "PAPER.000000000002"


@pytest.mark.parametrize("speed", [0, 1000])
def test_a_replay_that_has_finished_is_played_again_after_close_and_connect(platform, speed):
    gateway = platform.add()
    setting = platform.replay(rows(15), speed=speed)
    for run in (1, 2, 3):
        gateway.connect(setting)
        gateway.subscribe(subscription())
        until(lambda run=run: len(platform.finished) == run)
        gateway.close()
    assert [each["ticks"] for each in platform.finished] == [15, 15, 15]


@pytest.mark.parametrize("speed", [0, 1000])
def test_closing_and_connecting_quickly_never_leaves_two_feeds(platform, speed):
    """A step that waits in the queue, or in a held flow, belongs to its own connection only."""
    flow = CreditFlow()
    gateway = platform.add(flow=flow)
    setting = platform.replay(rows(200), speed=speed)
    for n in range(10):
        gateway.connect(setting)
        opener = threading.Thread(target=gateway.open_market)
        opener.start()
        if n % 2:
            flow.hold("test")
            time.sleep(0.002)
        gateway.close()
        opener.join()
        flow.release("test")
    gateway.connect(setting)
    gateway.subscribe(subscription())
    platform.settle()
    platform.events.clear()
    gateway.open_market()
    until(lambda: bool(platform.finished))
    platform.settle()
    times = [tick.datetime for tick in platform.data("eTick.rb2701.SHFE")]
    assert len(times) == len(set(times)) == 200
    assert times == sorted(times)


# --- ticks ---


def test_ticks_come_for_what_is_subscribed_and_an_unknown_contract_is_logged(platform):
    gateway = platform.add(flow=CreditFlow())
    gateway.connect(platform.replay(rows(5) + rows(5, vt_symbol="IF2612.CFFEX"), speed=0))
    gateway.subscribe(subscription())
    gateway.subscribe(subscription("xx9999"))
    gateway.open_market()
    until(lambda: bool(platform.finished))
    ticks = platform.data("eTick.")
    assert {tick.vt_symbol for tick in ticks} == {"rb2701.SHFE"}
    assert platform.finished[0]["ticks"] == 10
    first = ticks[0]
    assert first.datetime.isoformat() == "2026-11-20T09:00:00+08:00"
    assert (first.last_price, first.bid_price_1, first.ask_price_1, first.ask_volume_1) == (3500, 3500, 3501, 20)
    assert first.localtime is None
    assert any("xx9999.SHFE" in line and "no such contract" in line for line in platform.logs)


def test_a_contract_that_appears_late_is_announced_before_its_ticks(platform):
    gateway = platform.add()
    late = rows(3, vt_symbol="IF2612.CFFEX", begin=BEGIN + timedelta(days=3))
    gateway.connect(platform.replay(rows(3000) + late, speed=0))
    until(lambda: bool(platform.finished))
    assert [contract.symbol for contract in platform.data("eContract.")] == ["rb2701", "IF2612"]


def test_generated_ticks_carry_our_time_too(platform):
    gateway = platform.add(flow=CreditFlow())
    gateway.connect(platform.setting(rate=200))
    gateway.subscribe(subscription())
    gateway.open_market()
    until(lambda: len(platform.data("eTick.")) > 20)
    assert all(tick.localtime for tick in platform.data("eTick."))
    assert all(tick.bid_price_5 < tick.ask_price_1 < tick.ask_price_5 for tick in platform.data("eTick."))


def test_n_times_real_time_keeps_the_recordings_pace_and_long_silences_are_shortened(platform):
    gateway = platform.add()
    silence = rows(1, begin=BEGIN + timedelta(hours=5))
    begun = time.monotonic()
    gateway.connect(platform.replay(rows(21, gap=0.1) + silence, speed=10, max_gap=0.1))
    until(lambda: bool(platform.finished))
    assert 0.28 <= time.monotonic() - begun < 5


def test_a_held_flow_pauses_a_fast_replay_and_the_release_resumes_it(platform):
    flow = CreditFlow()
    gateway = platform.add(flow=flow)
    gateway.connect(platform.replay(rows(500), speed=0))
    gateway.subscribe(subscription())

    def hold(event) -> None:
        if event.data.volume == 60:  # the 21st
            flow.hold("test")

    platform.event_engine.register("eTick.rb2701.SHFE", hold)
    gateway.open_market()
    until(lambda: not flow.open)
    time.sleep(0.03)
    platform.settle()
    assert len(platform.data("eTick.rb2701.SHFE")) == 21
    flow.release("test")
    until(lambda: bool(platform.finished))
    assert len(platform.data("eTick.rb2701.SHFE")) == 500


def test_two_fast_replays_in_one_engine_take_turns(platform):
    other = platform.add("OTHER", flow=CreditFlow())
    gateway = platform.add(flow=CreditFlow())
    setting = platform.replay(rows(300), speed=0)
    other.connect(setting | {"ledger": str(platform.folder / "other.sqlite")})
    gateway.connect(setting)
    for each in (gateway, other):
        each.subscribe(subscription())
    gateway.open_market()
    other.open_market()
    until(lambda: len(platform.finished) == 2)
    names = [tick.gateway_name for tick in platform.data("eTick.rb2701.SHFE")]
    assert len(names) == 600
    assert {"PAPER", "OTHER"} == set(names[20:24]), "neither waits for the other's end"


# --- feeds that break off ---


def broken_recording(folder) -> str:
    path = folder / "ticks.gz"
    whole = gzip.compress((HEADER + rows(30_000)).encode())
    path.write_bytes(whole[: len(whole) * 2 // 3])
    return str(path)


@pytest.mark.parametrize("speed", [0, 1e9])
def test_a_recording_that_breaks_off_is_logged_and_finishes_with_the_reason(platform, speed):
    gateway = platform.add()
    files = broken_recording(platform.folder)
    gateway.connect(platform.setting(market="replay", files=files, symbols="", speed=speed))
    until(lambda: bool(platform.finished))
    [finished] = platform.finished
    assert finished["ticks"] > 2000
    assert "ticks.gz cannot be read after line" in finished["reason"]
    assert any("ended: " in line and "ticks.gz cannot be read" in line for line in platform.logs)
    assert gateway.send_order(request(price=3500.0)), "trading goes on with the last book"


@pytest.mark.parametrize("speed", [0, 1e9])
def test_a_contract_without_a_product_in_mid_recording_finishes_with_the_reason(platform, speed):
    gateway = platform.add()
    gateway.connect(
        platform.replay(rows(2500) + rows(1, vt_symbol="xx1.SHFE", begin=BEGIN + timedelta(1)), speed=speed)
    )
    until(lambda: bool(platform.finished))
    assert "xx1.SHFE has no product" in platform.finished[0]["reason"]


@pytest.mark.parametrize("speed", [0, 1e9])
def test_books_that_cannot_be_written_finish_the_feed_with_the_reason(platform, speed, monkeypatch):
    gateway = platform.add(flow=CreditFlow())
    gateway.connect(platform.replay(rows(10), speed=speed))

    def full(**changes):
        raise OSError("the disk is full")

    monkeypatch.setattr(gateway._ledger, "save", full)
    gateway.open_market()
    until(lambda: bool(platform.finished))
    assert platform.finished[0]["reason"] == "the disk is full"


def test_bad_rows_are_logged_when_the_replay_finishes(platform):
    gateway = platform.add()
    gateway.connect(
        platform.replay(rows(3) + "rb2701.SHFE,never,1,1,1,1,1,1\n" + rows(1, begin=BEGIN.replace(hour=10)))
    )
    gateway.close()
    gateway.connect(platform.replay(rows(3) + "rb2701.SHFE,never,1,1,1,1,1,1\n", speed=0))
    until(lambda: bool(platform.finished))
    [line] = [line for line in platform.logs if "left out" in line]
    assert "1 rows were left out" in line
    assert "ticks.csv:5: " in line


# --- orders ---


@pytest.fixture
def trading(platform):
    """A gateway whose book shows 3499 and 3500 x 20, standing still."""
    gateway = platform.add(flow=CreditFlow())
    platform.trader = gateway
    gateway.connect(platform.replay(f"rb2701.SHFE,{BEGIN},3500,1,3499,20,3500,20\n", speed=0))
    gateway.open_market()
    until(lambda: bool(platform.finished))
    platform.events.clear()
    return gateway


def test_an_order_fills_and_every_book_of_vnpy_knows(platform, trading):
    vt_orderid = trading.send_order(request(volume=3, price=3500.0, reference="mine"))
    platform.settle()
    done = platform.main.get_order(vt_orderid)
    assert (done.status.name, done.traded, done.price, done.reference) == ("ALLTRADED", 3, 3500, "mine")
    [trade] = platform.main.get_all_trades()
    assert (trade.vt_orderid, trade.price, trade.volume) == (vt_orderid, 3500, 3)
    assert trade.datetime.isoformat() == "2026-11-20T09:00:00+08:00", "the feed's time"
    [position] = platform.main.get_all_positions()
    assert (position.volume, position.price, position.direction.name) == (3, 3500, "LONG")
    [account] = platform.main.get_all_accounts()
    assert account.frozen == pytest.approx(3 * 3500 * 10 * 0.1)
    assert [type_ for type_, _ in platform.events if type_ in ("eOrder.", "eTrade.")] == ["eOrder.", "eTrade."]


@pytest.mark.parametrize(
    ("type_", "price", "outcome"),
    [
        ("LIMIT", 3490.0, "NOTTRADED"),
        ("LIMIT", 3500.0, "ALLTRADED"),
        ("MARKET", 0.0, "ALLTRADED"),
        ("FAK", 3490.0, "CANCELLED"),
        ("FOK", 3500.0, "ALLTRADED"),
        ("STOP", 3600.0, "NOTTRADED"),
        ("RFQ", 3500.0, "REJECTED"),
        ("ETF", 3500.0, "REJECTED"),
    ],
)
def test_orders_of_every_type_keep_their_type(platform, trading, type_, price, outcome):
    vt_orderid = trading.send_order(request(price=price, type=type_))
    platform.settle()
    sent = platform.main.get_order(vt_orderid)
    assert (sent.type.name, sent.status.name) == (type_, outcome)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"symbol": "xx2701"}, "unknown contract xx2701.SHFE"),
        ({"volume": 0.5}, "multiple of the lot"),
        ({"volume": float("nan")}, "volume"),
        ({"volume": 1e30}, "volume"),
        ({"volume": 1e308}, "volume"),
        ({"price": 1e30}, "price|funds"),
        ({"price": 1e308}, "price|funds"),
        ({"price": 3500.5}, "price tick"),
        ({"price": float("inf")}, "price"),
        ({"offset": "CLOSE"}, "not enough long"),
        ({"offset": "NONE"}, "offset"),
        ({"direction": "NET"}, "LONG or SHORT"),
        ({"volume": 400.0}, "funds"),
    ],
)
def test_a_refused_order_has_an_id_and_says_why(platform, trading, changes, reason):
    import re

    if changes.get("offset") == "CLOSE":
        changes = changes | {"direction": "SHORT"}
    vt_orderid = trading.send_order(request(**changes))
    platform.settle()
    refused = platform.main.get_order(vt_orderid)
    assert refused.status.name == "REJECTED"
    assert re.search(reason, refused.extra["reason"])
    assert platform.main.get_all_trades() == []


def test_not_connected_there_is_no_order_and_a_log(platform):
    from vnpy.trader.object import CancelRequest

    gateway = platform.add()
    assert gateway.send_order(request()) == ""
    gateway.cancel_order(CancelRequest(orderid="1", symbol="rb2701", exchange=subscription().exchange))
    gateway.query_account()
    gateway.query_position()
    assert gateway.query_history(history()) == []
    platform.settle()
    assert any("not connected" in line for line in platform.logs)


def test_a_cancel_ends_the_order_and_one_of_an_unknown_order_does_nothing(platform, trading):
    vt_orderid = trading.send_order(request(price=3400.0))
    platform.settle()
    cancel = platform.main.get_order(vt_orderid).create_cancel_request()
    platform.main.cancel_order(cancel, "PAPER")
    platform.settle()
    cancelled = platform.main.get_order(vt_orderid)
    assert (cancelled.status.name, cancelled.extra["reason"]) == ("CANCELLED", "cancelled on request")
    platform.events.clear()
    cancel.orderid = "999"
    platform.main.cancel_order(cancel, "PAPER")
    cancel.orderid = vt_orderid.partition(".")[2]
    platform.main.cancel_order(cancel, "PAPER")
    platform.settle()
    assert {kind for kind, _ in platform.events} <= {"eLog"}


def test_funds_and_positions_are_sent_again_on_request(platform, trading):
    trading.send_order(request(volume=2, price=3500.0))
    platform.settle()
    platform.events.clear()
    trading.query_account()
    trading.query_position()
    platform.settle()
    assert len(platform.data("eAccount.")) == 1
    assert [position.volume for position in platform.data("ePosition.")] == [2]


def test_what_vnpys_own_objects_are_told_later_cannot_change_the_books(platform, trading):
    vt_orderid = trading.send_order(request(price=3400.0))
    platform.settle()
    platform.main.get_order(vt_orderid).volume = 99
    trading.close()
    with closing(Ledger(platform.folder / "books.sqlite")) as ledger:
        assert [each.volume for each in ledger.load().orders] == [Decimal(1)]


# --- history ---


def test_the_generated_market_has_history_up_to_its_first_tick(platform):
    gateway = platform.add(flow=CreditFlow())
    gateway.connect(platform.setting(rate=100))
    bars = platform.main.query_history(history(), "PAPER")
    assert 119 <= len(bars) <= 121
    gateway.subscribe(subscription())
    gateway.open_market()
    until(lambda: bool(platform.data("eTick.")))
    assert bars[-1].close_price == platform.data("eTick.")[0].last_price
    assert bars[0].vt_symbol == "rb2701.SHFE"
    assert bars[0].interval.value == "1m"
    assert bars[0].datetime.utcoffset() == timedelta(hours=8)
    assert len(gateway.query_history(history(interval="1h", hours=24))) in (24, 25)
    assert gateway.query_history(history(interval="w")) == []
    assert gateway.query_history(history("xx2701")) == []
    assert len(gateway.query_history(history("BTCUSDT", exchange="GLOBAL"))) >= 119


def test_a_recording_has_no_history(platform, trading):
    assert trading.query_history(history()) == []
    assert platform.main.get_contract("rb2701.SHFE").history_data is False


# --- determinism, time and threads ---


def traded_replay(folder) -> list[tuple]:
    """What a strategy that sends and cancels orders on ticks sees and does, in order."""
    folder.mkdir()
    platform = Platform(folder)
    try:
        gateway = platform.add(flow=CreditFlow())
        gateway.connect(platform.replay(rows(400), speed=0, latency_ms=700))
        gateway.subscribe(subscription())
        seen: list[tuple] = []
        sent: list[str] = []

        def on_tick(event) -> None:
            tick = event.data
            seen.append(("tick", tick.datetime, tick.last_price, tick.last_volume, tick.localtime))
            if tick.last_price % 3 == 0:
                side, offset = (("LONG", "OPEN"), ("SHORT", "CLOSETODAY"), ("SHORT", "OPEN"))[len(sent) % 3]
                sent.append(gateway.send_order(request(side, 2, tick.last_price, offset=offset)))
            elif sent and tick.last_price % 5 == 0:
                known = platform.main.get_order(sent[-1])
                gateway.cancel_order(known.create_cancel_request())

        def on_order(event) -> None:
            each = event.data
            seen.append(("order", each.orderid, each.status, each.traded, each.price, each.datetime, str(each.extra)))

        def on_trade(event) -> None:
            each = event.data
            seen.append(("trade", each.tradeid, each.orderid, each.price, each.volume, each.datetime))

        platform.event_engine.register("eTick.rb2701.SHFE", on_tick)
        platform.event_engine.register("eOrder.", on_order)
        platform.event_engine.register("eTrade.", on_trade)
        gateway.open_market()
        until(lambda: bool(platform.finished))
        platform.settle()
        return seen
    finally:
        platform.stop()


def test_two_fast_replays_with_orders_are_identical(vnpy_home, tmp_path):
    first, second = traded_replay(tmp_path / "first"), traded_replay(tmp_path / "second")
    assert first == second
    kinds = [each[0] for each in first]
    assert kinds.count("tick") == 400
    assert kinds.count("order") > 100
    assert kinds.count("trade") > 30


def test_what_a_tick_causes_is_handled_before_the_next_tick(platform):
    gateway = platform.add(flow=CreditFlow())
    gateway.connect(platform.replay(rows(50), speed=0))
    gateway.subscribe(subscription())
    order_of_things: list[str] = []

    def on_tick(event) -> None:
        order_of_things.append("tick")
        gateway.send_order(request(volume=1, price=3400.0))

    platform.event_engine.register("eTick.rb2701.SHFE", on_tick)
    platform.event_engine.register("eOrder.", lambda event: order_of_things.append("order"))
    gateway.open_market()
    until(lambda: bool(platform.finished))
    assert order_of_things == ["tick", "order"] * 50


def test_a_replay_from_the_start_on_old_books_begins_a_new_day(platform):
    """Its time is before the books': what was opened then is yesterday's, resting orders are over, nothing is lost."""
    later = BEGIN + timedelta(days=3)
    gateway = platform.add()
    text = rows(1, begin=BEGIN) + f"rb2701.SHFE,{later},3500,1,3499,20,3500,20\n"
    setting = platform.replay(text, speed=0)
    gateway.connect(setting)
    until(lambda: len(platform.finished) == 1)
    gateway.send_order(request(volume=2, price=3500.0))
    resting = gateway.send_order(request(price=3400.0))
    gateway.close()
    gateway.connect(setting)
    until(lambda: len(platform.finished) == 2)
    platform.settle()
    ended = platform.main.get_order(resting)
    assert (ended.status.name, ended.extra["reason"]) == ("CANCELLED", "end of trading day")
    [position] = platform.main.get_all_positions()
    assert (position.volume, position.yd_volume) == (2, 2)
    gateway.send_order(request(price=3500.0))
    platform.settle()
    assert len(platform.main.get_all_trades()) == 2


def test_a_market_order_that_was_on_its_way_when_the_venue_closed_arrives_after_it(platform):
    gateway = platform.add()
    gateway.connect(platform.replay(rows(1), speed=0, latency_ms=1000))
    until(lambda: len(platform.finished) == 1)
    sent = gateway.send_order(request(type="MARKET", price=0.0))
    platform.settle()
    assert platform.main.get_order(sent).status.name == "SUBMITTING"
    gateway.close()
    gateway.connect(platform.replay(rows(5), speed=0, latency_ms=1000))
    until(lambda: len(platform.finished) == 2)
    platform.settle()
    assert [(trade.vt_orderid, trade.price) for trade in platform.main.get_all_trades()] == [(sent, 3504)]


def test_orders_from_many_threads_while_the_market_moves_keep_the_books_consistent(platform):
    gateway = platform.add(flow=CreditFlow())
    gateway.connect(platform.replay(rows(20_000, gap=0.01), speed=10, balance=100_000_000.0))
    gateway.subscribe(subscription())
    gateway.open_market()
    until(lambda: gateway._played > 0)
    ids: list[str] = []
    failures: list[BaseException] = []

    def trade(number: int) -> None:
        try:
            for n in range(60):
                side = ("LONG", "SHORT")[(n + number) % 2]
                sent = gateway.send_order(request(side, 1 + n % 3, 3500.0 + n % 12))
                ids.append(sent)
                if n % 4 == 0:
                    from vnpy.trader.object import CancelRequest

                    orderid = sent.partition(".")[2]
                    gateway.cancel_order(CancelRequest(orderid, "rb2701", subscription().exchange))
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=trade, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gateway.close()
    platform.settle()
    assert failures == []
    assert len(set(ids)) == 300

    orders = {each.vt_orderid: each for each in platform.main.get_all_orders()}
    trades = platform.main.get_all_trades()
    assert set(ids) == set(orders)
    assert len({each.tradeid for each in trades}) == len(trades) == len(platform.data("eTrade."))
    for vt_orderid, each in orders.items():
        assert each.traded == sum(t.volume for t in trades if t.vt_orderid == vt_orderid)
    for side in ("LONG", "SHORT"):
        held = sum(p.volume for p in platform.main.get_all_positions() if p.direction.name == side)
        assert held == sum(t.volume for t in trades if t.direction.name == side)
    with closing(Ledger(platform.folder / "books.sqlite")) as ledger:
        saved = ledger.load()
    assert [t.tradeid for t in saved.trades] == sorted(t.tradeid for t in trades)
    assert {o.orderid: float(o.traded) for o in saved.orders} == {o.orderid: o.traded for o in orders.values()}


def test_a_generated_market_that_opens_late_is_not_behind_the_clock(platform):
    gateway = platform.add(flow=CreditFlow())
    gateway.connect(platform.setting(rate=20))
    gateway.subscribe(subscription())
    time.sleep(1.6)
    gateway.open_market()
    until(lambda: len(platform.data("eTick.")) > 25)
    last = platform.data("eTick.")[-1]
    assert (last.localtime - last.datetime).total_seconds() < 1


def test_a_connect_shows_what_is_active_or_of_today_so_that_daily_limits_count_today_only(platform):
    from testkit.paper import order, snapshot, venue

    books = venue(platform.folder / "books.sqlite")  # its time is a day that is over
    books.on_snapshot(snapshot([(3000, 5)], [(3001, 5)]))
    books.place(order("LONG", 1, 3001))
    resting, _ = books.place(order("LONG", 1, 2900))
    books._ledger.close()
    gateway = platform.add(flow=CreditFlow())
    gateway.connect(platform.setting())
    platform.settle()
    assert platform.data("eTrade.") == []
    assert [shown.orderid for shown in platform.data("eOrder.")] == [resting]
    assert [position.volume for position in platform.data("ePosition.")] == [1]


def test_orders_and_trades_are_shown_again_on_request(platform):
    gateway = platform.add(flow=CreditFlow())
    assert gateway.query_orders() is gateway.query_trades() is False
    gateway.connect(platform.replay(rows(50), speed=0))
    gateway.open_market()
    until(lambda: platform.finished)
    gateway.send_order(request(price=3520.0))
    platform.settle()
    orders, trades = platform.data("eOrder."), platform.data("eTrade.")
    assert len(trades) == 1
    assert gateway.query_orders() is gateway.query_trades() is True
    platform.settle()
    assert platform.data("eOrder.")[len(orders) :] == orders[-1:]
    assert platform.data("eTrade.") == trades * 2
