from datetime import UTC, datetime
from enum import Enum

import msgspec
import numpy as np
from vnpy.trader.constant import Direction, Exchange, Offset, OrderType, Product, Status
from vnpy.trader.object import AccountData, ContractData, LogData, OrderData, PositionData, TickData, TradeData

from vnpy_core.domain import events
from vnpy_core.engine import translate

NOW = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
NIGHT = datetime(2018, 10, 12, 21, 0, 0, 500_000, tzinfo=translate.SHANGHAI)


def test_a_tick_keeps_every_field_and_its_time_is_utc():
    levels = {
        f"{side}_{what}_{level}": float(level) + offset
        for side, offset in (("bid", 100), ("ask", 200))
        for what in ("price", "volume")
        for level in range(1, 6)
    }
    data = TickData(
        gateway_name="PAPER",
        symbol="ru1901",
        exchange=Exchange.SHFE,
        datetime=NIGHT,
        last_price=12000,
        volume=7,
        **levels,
    )
    tick = translate.tick(data, 5)
    assert tick.datetime == datetime(2018, 10, 12, 13, 0, 0, 500_000, tzinfo=UTC)
    assert tick.tick_seq == 5
    assert (tick.vt_symbol, tick.exchange, tick.last_price, tick.volume) == ("ru1901.SHFE", "SHFE", 12000, 7)
    assert {name: getattr(tick, name) for name in levels} == levels


def numbered_tick(kind=TickData):
    """A tick of which no two numbers are the same."""
    data = kind(gateway_name="PAPER", symbol="ru1901", exchange=Exchange.EUREX, datetime=NIGHT)
    for number, name in enumerate(events.Tick.__struct_fields__[7:-1]):
        setattr(data, name, float(number))
    data.name, data.localtime = "rubber", datetime(2018, 10, 12, 21, 0, 1)
    return data


def test_every_field_of_a_tick_is_the_one_of_its_name():
    data = numbered_tick()
    tick = translate.tick(data, 5)
    same = [name for name in tick.__struct_fields__ if name not in ("exchange", "datetime", "localtime", "tick_seq")]
    assert {name: getattr(tick, name) for name in same} == {name: getattr(data, name) for name in same}
    assert (tick.exchange, tick.tick_seq) == ("EUREX", 5)
    assert tick.localtime == datetime(2018, 10, 12, 13, 0, 1, tzinfo=UTC)


def test_a_gateways_own_kind_of_tick_may_have_properties():
    class Doubled(TickData):
        @property
        def last_price(self):
            return 2.0 * self.ask_price_1

        @last_price.setter
        def last_price(self, value):
            pass

    tick = translate.tick(numbered_tick(Doubled), 1)
    assert tick.last_price == 2.0 * tick.ask_price_1 > 0
    assert tick.last_price != translate.tick(numbered_tick(), 1).last_price


def test_a_naive_time_is_taken_as_shanghai_time():
    data = TickData(gateway_name="X", symbol="a", exchange=Exchange.DCE, datetime=datetime(2026, 1, 5, 9, 0))
    assert translate.tick(data, 1).datetime == datetime(2026, 1, 5, 1, 0, tzinfo=UTC)


def test_enums_travel_by_name_and_the_exchange_of_eurex_keeps_vnpys_suffix():
    order = OrderData(
        gateway_name="IB",
        symbol="FDAX",
        exchange=Exchange.EUREX,
        orderid="1",
        type=OrderType.LIMIT,
        direction=Direction.LONG,
        offset=Offset.CLOSETODAY,
        price=1,
        volume=2,
        status=Status.REJECTED,
        datetime=NIGHT,
        reference="CtaStrategy_x",
    )
    order.extra = {"reason": "market closed"}
    wire = msgspec.json.decode(msgspec.json.encode(translate.order(order, seq=9, updated_at=NOW, client_order_id="c")))
    assert wire["exchange"] == "EUREX"
    assert wire["vt_symbol"] == "FDAX.EUX"
    assert (wire["direction"], wire["offset"], wire["type"], wire["status"]) == (
        "LONG", "CLOSETODAY", "LIMIT", "REJECTED",
    )  # fmt: skip
    assert wire["reason"] == "market closed"
    assert wire["datetime"] == "2018-10-12T13:00:00.500000Z"
    assert wire["seq"] == 9
    assert wire["client_order_id"] == "c"


def test_a_position_id_ends_in_the_directions_name():
    position = PositionData(gateway_name="P", symbol="rb", exchange=Exchange.SHFE, direction=Direction.SHORT, volume=1)
    assert translate.position(position, seq=1).vt_positionid == "P.rb.SHFE.SHORT"


def test_an_account_keeps_the_available_that_the_gateway_set():
    account = AccountData(gateway_name="P", accountid="a", balance=100, frozen=10)
    account.available = 80
    assert translate.account(account, seq=1).available == 80


def test_trade_contract_and_log_are_translated():
    trade = TradeData(
        gateway_name="P", symbol="rb", exchange=Exchange.SHFE, orderid="1", tradeid="2",
        direction=Direction.LONG, offset=Offset.OPEN, price=3, volume=4, datetime=NIGHT,
    )  # fmt: skip
    assert translate.trade(trade, seq=3, strategy_name="s").strategy_name == "s"
    contract = ContractData(
        gateway_name="P", symbol="rb", exchange=Exchange.SHFE, name="n", product=Product.FUTURES, size=10, pricetick=1
    )
    assert translate.contract(contract).product == "FUTURES"
    log = translate.log(LogData(gateway_name="P", msg="hello", level=40))
    assert (log.level, log.source, log.msg, log.datetime.tzinfo) == ("ERROR", "P", "hello", UTC)


def test_variables_of_any_kind_become_what_json_can_hold():
    class Colour(Enum):
        RED = "红"

    class Strange:
        def __repr__(self):
            return "<strange>"

    value = {
        Colour.RED: np.int64(3), "f": np.float64(1.5), "set": {2, 1}, "t": NIGHT, "x": Strange(), "n": None,
        "deep": [{"a": (1, Colour.RED)}],
    }  # fmt: skip
    assert translate.plain(value) == {
        "RED": 3, "f": 1.5, "set": [1, 2], "t": datetime(2018, 10, 12, 13, 0, 0, 500_000, tzinfo=UTC), "x": "<strange>",
        "n": None, "deep": [{"a": [1, "RED"]}],
    }  # fmt: skip
