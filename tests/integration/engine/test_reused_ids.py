"""A venue that numbers its orders anew with each process: a strategy's old id is somebody else's order now."""

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest

from integration.engine.test_host import connected, gateway, order, until
from integration.engine.test_restart import KEEPER, fill, keeper_has_traded
from integration.engine.test_restart import crash as crash_fixture
from testkit.gateways import HoldingGateway
from vnpy_core.domain.enums import Status

ALL_LISTED = {"can_query_orders": True, "can_query_trades": True}


crash = crash_fixture


@pytest.fixture(autouse=True)
def no_holdings():
    HoldingGateway.holdings = {}


async def test_a_fill_of_an_order_that_has_a_strategys_old_id_is_not_counted_for_the_strategy(
    run_host,
    crash,
    vnpy_home,
):
    async with run_host(gateways={"P": gateway("HoldingGateway")}, strategies=KEEPER) as host:
        sent = await keeper_has_traded(host)
        left = crash()
    left.lay_out(vnpy_home)
    listed = gateway("HoldingGateway", capabilities=ALL_LISTED)
    async with run_host(gateways={"P": listed}, strategies=KEEPER, data=left.data) as host:
        await connected(host)
        keeper = host.main_engine.engines["CtaStrategy"].strategies["keeper"]
        await until(lambda: keeper.trading)
        by_hand = (await host.submit_order(order())).order
        assert (by_hand.vt_orderid, by_hand.strategy_name) == (sent.vt_orderid, None)
        fill(host, by_hand, 5, tradeid="2")
        await until(lambda: any(t.volume == 5 for t in host.view.trades.values()))
        await host._settle()
        assert keeper.pos == 1


async def test_a_foreign_order_that_has_a_strategys_old_id_is_not_the_strategys(run_host, crash, vnpy_home):
    from vnpy.trader.constant import Direction, Exchange, Offset
    from vnpy.trader.constant import Status as VnpyStatus
    from vnpy.trader.object import OrderData

    async with run_host(gateways={"P": gateway("HoldingGateway")}, strategies=KEEPER) as host:
        sent = await keeper_has_traded(host)
        left = crash()
    left.lay_out(vnpy_home)
    listed = gateway("HoldingGateway", capabilities=ALL_LISTED)
    async with run_host(gateways={"P": listed}, strategies=KEEPER, data=left.data) as host:
        await connected(host)
        assert host.view.order(sent.vt_orderid).status is Status.CANCELLED
        cta = host.main_engine.engines["CtaStrategy"]
        foreign = OrderData(
            gateway_name="P", symbol="rb2701", exchange=Exchange.SHFE, orderid=sent.orderid, offset=Offset.OPEN,
            direction=Direction.SHORT, price=9, volume=9, status=VnpyStatus.NOTTRADED, datetime=datetime.now(UTC),
        )  # fmt: skip
        host.main_engine.get_gateway("P").on_order(foreign)
        await until(lambda: any(o.volume == 9 for o in host.view.orders()))
        assert sent.vt_orderid not in cta.orderid_strategy_map
        left = crash_again(left)
    async with run_host(gateways={"P": gateway("HoldingGateway")}, strategies=KEEPER, data=left) as host:
        assert sent.vt_orderid not in host.main_engine.engines["CtaStrategy"].orderid_strategy_map


def crash_again(left):
    data = left.data.with_name("again")
    data.mkdir()
    with (
        closing(sqlite3.connect(left.data / "journal.sqlite")) as source,
        closing(sqlite3.connect(data / "journal.sqlite")) as target,
    ):
        source.backup(target)
    shutil.copy(left.data / "journal.mark", data)
    return data
