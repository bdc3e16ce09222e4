"""The prices at which triggered stop orders are sent."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from vnpy.trader.constant import Exchange
from vnpy.trader.object import TickData

from vnpy_core.engine.apps import cta_stops

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
    """CtaEngine as far as its stop orders go."""

    def __init__(self, contract) -> None:
        self.stop_orders = {"STOP.1": object()}
        self.main_engine = SimpleNamespace(get_contract=lambda vt_symbol: contract)
        self.checked = []

    def check_stop_order(self, tick) -> None:
        self.checked.append(tick)


def test_the_engine_checks_with_prices_until_it_is_left():
    engine = Engine(SimpleNamespace(pricetick=1.0))
    cta_stops.install(engine)
    engine.check_stop_order(tick())
    cta_stops.uninstall(engine)
    engine.check_stop_order(tick())
    assert [each.ask_price_5 for each in engine.checked] == [3005.0, 0]


def test_without_stop_orders_or_a_contract_nothing_is_made_up():
    engine = Engine(None)
    cta_stops.install(engine)
    engine.check_stop_order(tick())
    engine.stop_orders.clear()
    engine.check_stop_order(tick())
    assert [each.ask_price_5 for each in engine.checked] == [0]
