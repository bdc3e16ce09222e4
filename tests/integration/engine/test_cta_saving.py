"""What is in a strategy's data file is what it traded, also where it fails while it is saved."""

import json

import pytest

from integration.engine.test_host import gateway, order, until
from integration.engine.test_restart import fill
from testkit.gateways import HoldingGateway
from vnpy_core.engine.settings import StrategySettings


@pytest.fixture(autouse=True)
def no_holdings():
    HoldingGateway.holdings = {}


def bought(name: str) -> dict[str, StrategySettings]:
    return {"s": StrategySettings(class_name=name, vt_symbol="rb2701.SHFE", auto_start=True)}


async def has_bought(host):
    cta = host.main_engine.engines["CtaStrategy"]
    await until(lambda: cta.strategies["s"].trading)
    host.main_engine.get_gateway("P").tick()
    await until(lambda: host.view.active_orders)
    fill(host, next(iter(host.view.active_orders.values())), 1)
    await until(lambda: cta.strategies["s"].pos == 1)


def saved_pos(vnpy_home) -> float:
    return json.loads((vnpy_home / ".vntrader" / "cta_strategy_data.json").read_text())["s"]["pos"]


async def test_a_strategy_that_raises_while_it_stops_keeps_the_pos_that_it_has(run_host, vnpy_home):
    async with run_host(gateways={"P": gateway("HoldingGateway")}, strategies=bought("RaisingOnStopStrategy")) as host:
        await has_bought(host)
        by_hand = (await host.submit_order(order())).order
        fill(host, by_hand, 5, tradeid="2")  # somebody else's fill is the last one
        await until(lambda: len(host.view.trades) == 2)
    assert saved_pos(vnpy_home) == 1


async def test_a_fill_that_a_strategy_saved_itself_before_it_raised_counts_once(run_host, vnpy_home):
    async with run_host(
        gateways={"P": gateway("HoldingGateway")}, strategies=bought("RaisingAfterSavingStrategy")
    ) as host:
        await has_bought(host)
        await until(lambda: "s" in host._cta.failures)
    assert saved_pos(vnpy_home) == 1
