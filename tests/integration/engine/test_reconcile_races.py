"""Two comparisons of one gateway at once: the one that was overtaken must not judge by what the other began to see."""

import asyncio

import pytest

from integration.engine.test_host import connected, order
from vnpy_core.domain.enums import ReconciliationState, Status
from vnpy_core.domain.errors import GatewayNotConnected
from vnpy_core.engine.settings import GatewaySettings

QUERYING = {"P": GatewaySettings(class_="testkit.querying:QueryingGateway", auto_connect=True)}


@pytest.fixture
async def resting(run_host):
    async with run_host(gateways=QUERYING) as host:
        await connected(host)
        sent = (await host.submit_order(order())).order
        yield host, host.main_engine.get_gateway("P"), sent.vt_orderid


async def reached(pair):
    assert await asyncio.to_thread(pair[0].wait, 5)


async def test_a_second_comparison_does_not_let_the_first_take_a_live_order_for_gone(resting):
    host, venue, vt_orderid = resting
    in_first = venue.hold("query_trades")
    first = asyncio.create_task(host._gateways.reconcile("P"))
    await reached(in_first)  # it has listed the order already
    in_second = venue.hold("query_account")
    second = asyncio.create_task(host._gateways.reconcile("P"))
    await reached(in_second)
    in_first[1].set()
    await first
    assert host.view.order(vt_orderid).status is Status.NOTTRADED
    assert host._recovery.report("P").state is ReconciliationState.RUNNING
    in_second[1].set()
    await second
    assert host.view.order(vt_orderid).status is Status.NOTTRADED
    assert host._recovery.report("P").state is ReconciliationState.RECONCILED


async def test_a_reconnect_during_a_comparison_is_compared_by_what_it_shows_itself(resting):
    host, venue, vt_orderid = resting
    in_first = venue.hold("query_trades")
    first = asyncio.create_task(host._gateways.reconcile("P"))
    await reached(in_first)
    in_second = venue.hold("query_orders")
    venue.session += 1  # lost and back between two looks
    host.gateways()
    await reached(in_second)
    in_first[1].set()
    await first
    assert host.view.order(vt_orderid).status is Status.NOTTRADED
    in_second[1].set()
    await connected(host)
    assert host.view.order(vt_orderid).status is Status.NOTTRADED


async def test_a_resume_that_was_cut_short_leaves_the_next_one_alone(resting):
    host, venue, _ = resting
    in_first = venue.hold("query_trades")
    venue.session += 1
    host.gateways()
    await reached(in_first)
    venue.connected = False
    host.gateways()
    in_second = venue.hold("query_account")
    venue.session += 1
    venue.connected = True
    host.gateways()
    await reached(in_second)
    venue.connected = False  # as the first query finds it
    in_first[1].set()
    await asyncio.sleep(0.1)
    venue.connected = True
    in_second[1].set()
    await connected(host)


async def test_a_query_that_raises_ends_the_comparison_and_the_next_one_opens_the_gateway(resting):
    host, venue, _ = resting
    venue.query_trades = lambda: 1 / 0
    with pytest.raises(GatewayNotConnected):
        await host._gateways.reconcile("P")
    assert host._recovery.report("P").state is ReconciliationState.PENDING
    del venue.query_trades
    await host._gateways.reconcile("P")
    assert not host._recovery.reason("P")
