import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testkit.fake_engine import FakeEngine
from vnpy_core.domain.enums import Direction, OrderType, Product
from vnpy_core.features.trading.orders import OrderRequest, wrong_fields

BUY = OrderRequest(symbol="rb2505", exchange="SHFE", direction=Direction.LONG, volume=1.0, price=3500.0)


def complaints(contract_fields: dict | None = None, **changes: object) -> dict[str, str]:
    contract = FakeEngine().add_contract(**(contract_fields or {}))
    return {e.field: e.message for e in wrong_fields(msgspec.structs.replace(BUY, **changes), contract)}


def test_a_good_order_has_no_complaint():
    assert complaints() == {}


@pytest.mark.parametrize("price", [0.3, 0.1, 1.1, 123456.7, 3.0])
def test_a_decimal_multiple_of_the_tick_passes_though_binary_division_leaves_a_rest(price):
    assert complaints({"pricetick": 0.1}, price=price) == {}


def test_noise_of_a_float_sum_is_no_multiple_and_the_nearest_is_named():
    wrong = complaints({"pricetick": 0.1}, price=0.1 + 0.2)
    assert "0.3 is the nearest" in wrong["price"]


@pytest.mark.parametrize("price", [math.nan, math.inf, -math.inf, 1.1e12, 0.0, -1.0, 3500.5])
def test_a_wrong_price_is_named(price):
    assert set(complaints(price=price)) == {"price"}


@pytest.mark.parametrize("volume", [math.nan, math.inf, -math.inf, 1.1e12, 0.0, -1.0, 0.5, 1.5])
def test_a_wrong_volume_is_named(volume):
    assert set(complaints(volume=volume)) == {"volume"}


def test_all_wrong_fields_are_named_at_once():
    assert set(complaints(volume=0.0, price=-1.0, direction=Direction.NET, type=OrderType.RFQ)) == {
        "volume",
        "price",
        "direction",
        "type",
    }


def test_a_volume_above_the_contracts_maximum_is_refused():
    assert "max_volume" in complaints({"max_volume": 10.0}, volume=11.0)["volume"]


@pytest.mark.parametrize("order_type", [OrderType.LIMIT, OrderType.STOP, OrderType.FAK, OrderType.FOK])
def test_priced_orders_need_a_price(order_type):
    assert "price" in complaints(type=order_type, price=0.0)


def test_a_market_order_needs_no_price():
    assert complaints(type=OrderType.MARKET, price=0.0) == {}


@pytest.mark.parametrize("price", [-12.0, 0.0, 12.0])
def test_a_spread_may_have_any_price(price):
    assert complaints({"product": Product.SPREAD}, price=price) == {}


def test_a_contract_without_steps_takes_any():
    assert complaints({"pricetick": 0.0, "min_volume": 0.0}, price=3.14159, volume=0.123) == {}


@given(st.floats(), st.floats(), st.floats(min_value=0, allow_infinity=False), st.floats(min_value=0))
def test_no_number_breaks_the_check(price, volume, tick, lot):
    complaints({"pricetick": tick, "min_volume": lot}, price=price, volume=volume)


@given(st.integers(1, 10**9), st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 5.0, 0.0001, 1e-8]))
def test_every_multiple_as_a_person_would_write_it_passes(count, tick):
    from decimal import Decimal

    assert complaints({"pricetick": tick}, price=float(count * Decimal(repr(tick)))) == {}
