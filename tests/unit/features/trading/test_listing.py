from datetime import timedelta

import msgspec
import pytest

from testkit.fake_engine import NOON, FakeEngine
from vnpy_core.domain.commands import SubmitOrder
from vnpy_core.domain.enums import Direction, Offset, OrderType, Product, Status
from vnpy_core.features.trading import listing
from vnpy_core.features.trading.listing import ORDER_KEY, TRADE_KEY, StateFilter
from vnpy_core.ports.store import OrderQuery, TradeQuery

START, FIRST = (0, ""), ("", "")
COMMAND = SubmitOrder(
    client_order_id="c",
    gateway_name="PAPER",
    symbol="rb2505",
    exchange="SHFE",
    direction=Direction.LONG,
    offset=Offset.OPEN,
    type=OrderType.LIMIT,
    volume=5.0,
    price=3500.0,
)


@pytest.fixture
def engine():
    return FakeEngine()


def orders(engine, after=START, limit=100, **wanted):
    return listing.first(listing.live_orders(engine.view, OrderQuery(**wanted), after), ORDER_KEY, limit)


def trades(engine, after=START, limit=100, **wanted):
    return listing.first(listing.live_trades(engine.view, TradeQuery(**wanted), after), TRADE_KEY, limit).items


def order_ids(engine, **wanted):
    return [order.vt_orderid for order in orders(engine, **wanted).items]


def read_all(list_page, first, limit):
    items, after = [], first
    while after is not None:
        page = list_page(after, limit)
        items += page.items
        after = page.next_key
    return items


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_together_hold_every_order_once_by_seq(engine, limit):
    for i in range(7):
        engine.add_order(COMMAND, Status.ALLTRADED if i % 2 else Status.NOTTRADED)
    read = read_all(lambda after, n: orders(engine, after, n), START, limit)
    assert [order.seq for order in read] == [1, 2, 3, 4, 5, 6, 7]


def test_an_order_that_changes_while_a_caller_pages_is_not_missed(engine):
    known = [engine.add_order(COMMAND) for _ in range(3)]
    page = orders(engine, START, 1)
    engine.update_order(known[0].vt_orderid, traded=1.0)
    engine.update_order(known[1].vt_orderid, status=Status.CANCELLED)
    rest = orders(engine, page.next_key).items
    assert {order.vt_orderid for order in rest} == {order.vt_orderid for order in known}


def test_orders_that_share_a_seq_are_paged_by_id(engine):
    for _ in range(3):
        engine.add_order(COMMAND, seq=0)
    read = read_all(lambda after, n: orders(engine, after, n), START, 1)
    assert [order.vt_orderid for order in read] == ["PAPER.1", "PAPER.2", "PAPER.3"]


def test_orders_are_filtered_by_each_field(engine):
    active = engine.add_order(COMMAND, strategy_name="s").vt_orderid
    done = engine.add_order(msgspec.structs.replace(COMMAND, symbol="cu2505", gateway_name="CTP"), Status.REJECTED)
    assert order_ids(engine, active=True) == [active]
    assert order_ids(engine, active=False) == [done.vt_orderid]
    assert order_ids(engine, vt_symbol="cu2505.SHFE") == [done.vt_orderid]
    assert order_ids(engine, gateway_name="PAPER") == [active]
    assert order_ids(engine, status=Status.REJECTED) == [done.vt_orderid]
    assert order_ids(engine, strategy_name="s") == [active]
    assert order_ids(engine, strategy_name="s", status=Status.REJECTED) == []


def test_start_counts_in_and_end_does_not(engine):
    for hours in range(3):
        engine.add_order(COMMAND, datetime=NOON + timedelta(hours=hours))
    hour = timedelta(hours=1)
    assert order_ids(engine, start=NOON + hour) == ["PAPER.2", "PAPER.3"]
    assert order_ids(engine, end=NOON + hour) == ["PAPER.1"]


def test_an_order_without_venue_time_counts_by_its_last_change_and_a_trade_without_is_in_no_interval(engine):
    order = engine.add_order(COMMAND, datetime=None)
    engine.add_trade(order, datetime=None)
    assert order_ids(engine, start=NOON) == [order.vt_orderid]
    assert trades(engine, start=NOON) == []
    assert len(trades(engine)) == 1


def test_trades_are_filtered_and_read_on_from_a_seq(engine):
    order, other = engine.add_order(COMMAND), engine.add_order(msgspec.structs.replace(COMMAND, symbol="cu2505"))
    fills = [engine.add_trade(order), engine.add_trade(other), engine.add_trade(order)]
    assert trades(engine, vt_orderid=order.vt_orderid) == [fills[0], fills[2]]
    assert trades(engine, (fills[0].seq + 1, "")) == fills[1:]
    assert trades(engine, vt_symbol="cu2505.SHFE") == [fills[1]]


def test_a_list_ends_where_it_is_told_to(engine):
    for seq in (4, 5, 5, 6):
        engine.add_order(COMMAND, seq=seq)

    def between(after, through):
        return [order.vt_orderid for order in listing.live_orders(engine.view, OrderQuery(), after, through)]

    assert between((4, "PAPER.1"), (5, "PAPER.2")) == ["PAPER.2"]
    assert between((4, ""), (5, "PAPER.3")) == ["PAPER.1", "PAPER.2", "PAPER.3"]
    assert between((5, "PAPER.3"), (9, "")) == ["PAPER.4"]
    assert between((6, "PAPER.4"), None) == []


def test_contracts_that_several_gateways_offer_are_paged_by_gateway(engine):
    for gateway_name in ("B", "A"):
        for vt_symbol in ("rb2505.SHFE", "ag2505.SHFE"):
            engine.add_contract(vt_symbol, gateway_name)
    read = read_all(lambda after, n: listing.contracts(engine.view, StateFilter(), after, n), FIRST, 1)
    assert [(c.vt_symbol, c.gateway_name) for c in read] == [
        ("ag2505.SHFE", "A"),
        ("ag2505.SHFE", "B"),
        ("rb2505.SHFE", "A"),
        ("rb2505.SHFE", "B"),
    ]


def test_contracts_are_filtered_by_each_field(engine):
    engine.add_contract("rb2505.SHFE", "A")
    engine.add_contract("i2505.DCE", "B", product=Product.OPTION)

    def found(**wanted):
        page = listing.contracts(engine.view, StateFilter(**wanted), FIRST, 10)
        return [contract.vt_symbol for contract in page.items]

    assert found(vt_symbol="rb2505.SHFE") == ["rb2505.SHFE"]
    assert found(vt_symbol="none.SHFE") == []
    assert found(exchange="DCE") == ["i2505.DCE"]
    assert found(product=Product.OPTION) == ["i2505.DCE"]
    assert found(gateway_name="A") == ["rb2505.SHFE"]


def test_positions_accounts_and_ticks_are_paged_by_id(engine):
    for direction in (Direction.SHORT, Direction.LONG):
        engine.add_position(direction=direction)
    for name in ("2", "1"):
        engine.add_account(name)
    for vt_symbol in ("rb2505.SHFE", "ag2505.SHFE"):
        engine.add_tick(vt_symbol)
    view, everything = engine.view, StateFilter()
    positions = read_all(lambda after, n: listing.positions(view, everything, after, n), FIRST, 1)
    accounts = read_all(lambda after, n: listing.accounts(view, everything, after, n), FIRST, 1)
    ticks = read_all(lambda after, n: listing.ticks(view, everything, after, n), FIRST, 1)
    assert [p.direction for p in positions] == ["LONG", "SHORT"]
    assert [a.accountid for a in accounts] == ["1", "2"]
    assert [t.vt_symbol for t in ticks] == ["ag2505.SHFE", "rb2505.SHFE"]
