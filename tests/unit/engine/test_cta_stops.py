"""The prices at which triggered stop orders are sent."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from vnpy.trader.constant import Direction, Exchange, Offset
from vnpy.trader.object import TickData
from vnpy_ctastrategy.base import StopOrder

from vnpy_core.domain.errors import GatewayNotConnected
from vnpy_core.engine.apps import cta_stops
from vnpy_core.engine.interrupt import CallbackInterrupted

MOMENT = datetime(2026, 11, 20, tzinfo=UTC)


def tick(**values) -> TickData:
    return TickData("X", "rb2701", Exchange.SHFE, MOMENT, **({"last_price": 3000.0} | values))


@pytest.mark.parametrize(
    ("values", "ask", "bid"),
    [
        ({"ask_price_5": 3009.0, "bid_price_5": 2991.0}, 3009.0, 2991.0),
        ({"ask_price_1": 3001.0, "bid_price_1": 2999.0}, 3005.0, 2995.0),
        ({"ask_price_1": 3001.0, "ask_price_2": 3004.0, "bid_price_1": 2999.0}, 3007.0, 2995.0),
        ({}, 3005.0, 2995.0),
        ({"ask_price_1": 3001.0}, 3005.0, 2995.0),
        ({"last_price": 2.0}, 7.0, 1.0),
    ],
)
def test_the_fifth_level_is_where_the_book_would_go_on(values, ask, bid):
    given = tick(**values)
    before = dict(vars(given))
    found = cta_stops.with_prices(given, 1.0)
    assert (found.ask_price_5, found.bid_price_5) == (ask, bid)
    assert vars(given) == before


def test_small_steps_are_exact():
    found = cta_stops.with_prices(tick(last_price=0.7, ask_price_1=0.7, bid_price_1=0.6), 0.1)
    assert (found.ask_price_5, found.bid_price_5) == (1.1, 0.2)


def test_a_side_that_the_venue_gives_a_price_is_left_alone():
    given = tick(limit_up=3100.0, limit_down=2900.0)
    assert cta_stops.with_prices(given, 1.0) is given
    found = cta_stops.with_prices(tick(limit_up=3100.0), 1.0)
    assert (found.ask_price_5, found.bid_price_5) == (0, 2995.0)


def test_prices_below_nought_stay_below():
    found = cta_stops.with_prices(tick(last_price=-5.0, ask_price_1=-4.0, bid_price_1=-6.0), 1.0)
    assert (found.ask_price_5, found.bid_price_5) == (0.0, -10.0)


class Engine:
    """CtaEngine as far as its stop orders go; `send` is its `send_limit_order` for the number of the stop order."""

    def __init__(self, *prices: float, contract=True) -> None:
        self.strategies = {"s": SimpleNamespace(on_stop_order=lambda stop_order: None)}
        self.stop_orders = {
            f"STOP.{n}": StopOrder(
                "rb2701.SHFE", Direction.LONG, Offset.OPEN, price, n, f"STOP.{n}", "s", MOMENT
            )
            for n, price in enumerate(prices, 1)
        }  # fmt: skip
        self.strategy_orderid_map = {"s": set(self.stop_orders)}
        found = SimpleNamespace(pricetick=1.0) if contract else None
        self.main_engine = SimpleNamespace(get_contract=lambda vt_symbol: found)
        self.sent: list[tuple[int, float]] = []
        self.told: list[tuple[str, str]] = []
        self.failed: list[BaseException] = []
        self.lines: list[str] = []
        self.send = lambda number: [f"P.{number}"]

    def check_stop_order(self, tick) -> None:
        self.sent.append((0, tick.ask_price_5))

    def send_limit_order(self, strategy, contract, direction, offset, price, volume, lock, net):
        self.sent.append((volume, price))
        return self.send(volume)

    def call_strategy_func(self, strategy, function, params=None) -> None:
        try:
            function(*([params] if params else []))
        except BaseException as error:  # noqa: BLE001 - as CtaCalls does
            self.failed.append(error)

    def cancel_local_stop_order(self, strategy, stop_orderid) -> None:
        if self.stop_orders.pop(stop_orderid, None) is not None:
            self.told.append((stop_orderid, "CANCELLED"))

    def put_stop_order_event(self, stop_order) -> None:
        self.told.append((stop_order.stop_orderid, stop_order.status.name))

    def write_log(self, msg, strategy) -> None:
        self.lines.append(msg)


def test_the_engine_checks_with_prices_until_it_is_left():
    engine = Engine(2900.0, 3000.0, 3100.0)
    cta_stops.install(engine)
    engine.check_stop_order(tick())
    assert engine.sent == [(1, 3005.0), (2, 3005.0)]
    assert engine.told == [("STOP.1", "TRIGGERED"), ("STOP.2", "TRIGGERED")]
    assert (list(engine.stop_orders), engine.strategy_orderid_map["s"]) == (["STOP.3"], {"STOP.3"})
    cta_stops.uninstall(engine)
    engine.check_stop_order(tick())
    assert engine.sent[2:] == [(0, 0)]


def test_without_stop_orders_or_a_contract_nothing_is_made_up():
    for engine in (Engine(), Engine(2900.0, contract=False)):
        cta_stops.install(engine)
        engine.check_stop_order(tick())
        assert engine.sent == []


def test_one_that_the_callback_of_another_cancels_is_not_sent():
    engine = Engine(2900.0, 2901.0)
    engine.strategies["s"].on_stop_order = lambda stop_order: engine.cancel_local_stop_order(None, "STOP.2")
    cta_stops.install(engine)
    engine.check_stop_order(tick())
    assert [number for number, _ in engine.sent] == [1]
    assert engine.told == [("STOP.1", "TRIGGERED"), ("STOP.2", "CANCELLED")]


@pytest.mark.parametrize("error", [OSError("the socket broke"), CallbackInterrupted()])
def test_one_that_may_have_been_sent_is_not_sent_again_and_its_strategy_hears_it(error):
    engine = Engine(2900.0)

    def send(number):
        raise error

    engine.send = send
    cta_stops.install(engine)
    for _ in range(2):
        engine.check_stop_order(tick())
    assert (engine.sent, engine.failed) == ([(1, 3005.0)], [error])
    assert engine.told == [("STOP.1", "CANCELLED")]


def test_one_that_was_not_sent_waits_for_the_next_tick():
    engine = Engine(2900.0)

    def refuse(number):
        raise GatewayNotConnected("P is not connected")

    for engine.send in (refuse, lambda number: []):
        cta_stops.install(engine)
        engine.check_stop_order(tick())
        assert list(engine.stop_orders) == ["STOP.1"]
    assert (len(engine.lines), engine.failed, engine.told) == (1, [], [])
    assert "P is not connected" in engine.lines[0]
