"""What is in a strategy's data file is what it traded, also where it fails while it is saved."""

import json
import threading

import pytest
from structlog.testing import capture_logs

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


def data_file(vnpy_home):
    return vnpy_home / ".vntrader" / "cta_strategy_data.json"


def saved_pos(vnpy_home) -> float:
    return json.loads(data_file(vnpy_home).read_text())["s"].get("pos", 0)


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
        await until(lambda: "s" in host.strategies.cta.calls.failures)
    assert saved_pos(vnpy_home) == 1


async def test_the_file_follows_a_fill_and_no_thread_that_trades_writes_it(run_host, vnpy_home, monkeypatch):
    from vnpy_core.engine.apps import cta_files

    writers = set()

    def write(*args, real=cta_files.write_atomic, **options):
        writers.add(threading.current_thread().name)
        real(*args, **options)

    async with run_host(gateways={"P": gateway("HoldingGateway")}, strategies=bought("BuyingOnceStrategy")) as host:
        monkeypatch.setattr(cta_files, "write_atomic", write)
        await has_bought(host)
        await until(lambda: saved_pos(vnpy_home) == 1)
        assert writers == {"cta-files"}


async def test_what_somebody_changed_between_two_runs_wins_and_is_shown_beside_the_fills(run_host, vnpy_home):
    setting = vnpy_home / ".vntrader" / "cta_strategy_setting.json"
    async with run_host(gateways={"P": gateway("HoldingGateway")}, strategies=bought("BuyingOnceStrategy")) as host:
        await has_bought(host)
    for path, old, new in ((data_file(vnpy_home), '"pos": 1', '"pos": 7'), (setting, "rb2701", "rb2705")):
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    for _ in range(2):  # once taken it is ours
        async with run_host(strategies=bought("BuyingOnceStrategy")) as host:
            found = host.strategies.strategy("s")
            assert (found.pos, found.attributed_pos, found.vt_symbol) == (7, 7, "rb2705.SHFE")
            assert host.strategies.cta.memory.setting("s").by == "file"


@pytest.mark.parametrize("name", ["cta_strategy_setting.json", "cta_strategy_data.json"])
async def test_a_file_that_was_torn_is_put_aside_and_made_anew_from_the_journal(run_host, vnpy_home, name):
    async with run_host(gateways={"P": gateway("HoldingGateway")}, strategies=bought("BuyingOnceStrategy")) as host:
        await has_bought(host)
    path = vnpy_home / ".vntrader" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with capture_logs() as lines:
        async with run_host() as host:  # nor is it in service.toml
            assert host.status().apps["CtaStrategy"] == "loaded"
            assert host.strategies.strategy("s").pos == 1
    assert path.read_bytes() == whole
    aside = list(path.parent.glob(f"{name}.*.broken"))
    assert [one.read_bytes() for one in aside] == [whole[:-9]]
    assert [line["log_level"] for line in lines if "file of strategies is broken" in line["event"]] == ["error"]
    aside[0].unlink()
