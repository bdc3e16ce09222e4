"""What a crash leaves behind, and what the next start makes of it; the crash is a copy of the files at one instant."""

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from integration.engine.test_host import gateway, order, until
from testkit.gateways import HoldingGateway
from vnpy_core.bus import records
from vnpy_core.domain.enums import HaltScope, IntentState, ReconciliationState, Status
from vnpy_core.domain.errors import GatewayNotReconciled, TradingHalted
from vnpy_core.domain.events import Halt
from vnpy_core.domain.reconciliation import DifferenceKind
from vnpy_core.engine.apps.cta_files import DATA, FILES, SEALS
from vnpy_core.engine.apps.cta_memory import MARK
from vnpy_core.engine.settings import StrategySettings

ALL_LISTED = {"can_query_orders": True, "can_query_trades": True}
KEEPER = {"keeper": StrategySettings(class_name="StopKeeperStrategy", vt_symbol="rb2701.SHFE", auto_start=True)}


@dataclass
class Crash:
    """The files as they were."""

    data: Path
    cta_files: dict[str, bytes]

    def lay_out(self, home: Path) -> None:
        for name in (*FILES, SEALS):
            path = home / ".vntrader" / name
            path.unlink(missing_ok=True)
            if name in self.cta_files:
                path.write_bytes(self.cta_files[name])


@pytest.fixture(autouse=True)
def no_holdings():
    HoldingGateway.holdings = {}


@pytest.fixture
def crash(vnpy_home, tmp_path):
    def take() -> Crash:
        data = tmp_path / "after"
        data.mkdir()
        with (
            closing(sqlite3.connect(tmp_path / "journal.sqlite")) as source,
            closing(sqlite3.connect(data / "journal.sqlite")) as target,
        ):
            source.backup(target)
        shutil.copy(tmp_path / "journal.mark", data)
        paths = [vnpy_home / ".vntrader" / name for name in (*FILES, SEALS)]
        return Crash(data, {path.name: path.read_bytes() for path in paths if path.exists()})

    return take


def fill(host, sent, volume: float, tradeid: str = "1") -> None:
    from vnpy.trader.constant import Direction, Exchange, Offset
    from vnpy.trader.object import TradeData

    venue = host.main_engine.get_gateway("P")
    venue.on_trade(
        TradeData(
            gateway_name="P", symbol="rb2701", exchange=Exchange.SHFE, orderid=sent.orderid, tradeid=tradeid,
            direction=Direction.LONG, offset=Offset.OPEN, price=3000, volume=volume, datetime=datetime.now(UTC),
        )
    )  # fmt: skip
    HoldingGateway.holdings["rb2701"] = HoldingGateway.holdings.get("rb2701", 0) + volume
    venue.query_position()


def report(host, name: str = "P"):
    return next(r for r in host.reconciliations() if r.gateway_name == name)


async def finished(host, name: str = "P"):
    await until(lambda: report(host, name).finished_at is not None)
    return report(host, name)


async def starts(host):
    await until(lambda: host.main_engine.engines["CtaStrategy"].strategies["keeper"].trading)


async def keeper_has_traded(host):
    await starts(host)
    host.main_engine.get_gateway("P").tick()
    await until(lambda: host.view.active_orders and host.view.stop_orders)
    sent = next(iter(host.view.active_orders.values()))
    fill(host, sent, 1)
    await until(lambda: host.main_engine.engines["CtaStrategy"].strategies["keeper"].pos == 1)
    return sent


async def test_orders_are_their_strategies_again_and_stop_orders_keep_their_ids(run_host, crash, vnpy_home):
    async with run_host(gateways={"P": gateway("HoldingGateway")}, strategies=KEEPER) as host:
        sent = await keeper_has_traded(host)
        assert (sent.strategy_name, list(host.view.stop_orders)) == ("keeper", ["STOP.1"])
        left = crash()
    left.lay_out(vnpy_home)
    async with run_host(gateways={"P": gateway("HoldingGateway")}, strategies=KEEPER, data=left.data) as host:
        cta = host.main_engine.engines["CtaStrategy"]
        found = await finished(host)
        assert found.state is ReconciliationState.DIFFERENT  # nothing says whether the gateway lists every order
        assert [(d.kind, d.key) for d in found.differences if not d.resolved] == [("ORDER_GONE", sent.vt_orderid)]
        assert cta.orderid_strategy_map[sent.vt_orderid].strategy_name == "keeper"
        assert host.view.order(sent.vt_orderid).strategy_name == "keeper"
        with pytest.raises(GatewayNotReconciled):
            await host.submit_order(order())
        assert not cta.strategies["keeper"].trading

        await host.accept_differences("P", reason="looked at the broker's window", by="admin")
        await starts(host)
        assert "STOP.1" in cta.stop_orders
        host.main_engine.get_gateway("P").tick()  # it sends again, because it does not remember that it did
        await until(lambda: "STOP.2" in cta.stop_orders)
        assert cta.strategies["keeper"].pos == 1
        assert host.view.order(sent.vt_orderid).seq  # known, whatever became of its id


async def test_stop_orders_of_one_that_is_removed_are_not_those_of_the_next_one_of_its_name(run_host, crash, vnpy_home):
    async with run_host(gateways={"P": gateway("HoldingGateway")}, strategies=KEEPER) as host:
        await keeper_has_traded(host)
        left = crash()
    left.lay_out(vnpy_home)
    listed = gateway("HoldingGateway", capabilities=ALL_LISTED, auto_connect=False)
    async with run_host(gateways={"P": listed}, data=left.data) as host:
        assert [stop.stop_orderid for stop in host.strategies.stop_orders()] == ["STOP.1"]  # it has not started yet
        await host.strategies.remove("keeper", by="ann")
        await until(lambda: not host.strategies.stop_orders())
        await host.strategies.add("StopKeeperStrategy", "keeper", "rb2701.SHFE", {}, auto_start=True, by="ann")
    listed = gateway("HoldingGateway", capabilities=ALL_LISTED)
    async with run_host(gateways={"P": listed}, data=left.data) as host:
        await starts(host)
        assert host.main_engine.engines["CtaStrategy"].stop_orders == {}


async def test_a_fill_that_was_journaled_but_not_counted_is_counted_at_the_start_and_only_once(
    run_host, crash, vnpy_home
):
    async with run_host(gateways={"P": gateway("HoldingGateway")}, strategies=KEEPER) as host:
        await keeper_has_traded(host)
        left = crash()
    # As if the process had ended before CtaEngine saved it.
    left.cta_files[DATA] = json.dumps({"keeper": {"traded": 0, "pos": 0, MARK: 0}}).encode()
    left.lay_out(vnpy_home)
    listed = gateway("HoldingGateway", capabilities=ALL_LISTED)
    async with run_host(gateways={"P": listed}, strategies=KEEPER, data=left.data) as host:
        cta = host.main_engine.engines["CtaStrategy"]
        await starts(host)
        assert cta.strategies["keeper"].pos == 1
    assert json.loads((vnpy_home / ".vntrader" / DATA).read_text())["keeper"]["pos"] == 1


async def test_an_order_that_a_venue_which_lists_all_does_not_list_counts_as_cancelled(run_host, crash):
    async with run_host(gateways={"P": gateway("HoldingGateway")}) as host:
        await until(lambda: not host._recovery.reason("P"))
        sent = (await host.submit_order(order())).order
        left = crash()
    listed = gateway("HoldingGateway", capabilities=ALL_LISTED)
    async with run_host(gateways={"P": listed}, data=left.data) as host:
        found = await finished(host)
        assert found.state is ReconciliationState.RECONCILED
        assert [d.kind for d in found.differences] == [DifferenceKind.ORDER_GONE]
        gone = host.view.order(sent.vt_orderid)
        assert (gone.status, gone.client_order_id) == (Status.CANCELLED, "c1")
        assert "not among the orders" in gone.reason


async def test_a_halt_outlives_the_restart_and_refuses_until_it_is_taken_back(run_host, crash):
    halt = Halt(scope=HaltScope.ALL, active=True, reason="test", by="ann", at=datetime.now(UTC))
    async with run_host(gateways={"P": gateway("HoldingGateway")}) as host:
        await until(lambda: not host._recovery.reason("P"))
        await host.submit_order(order())
        halted, cancelled = await host.halt(halt, cancel=True)
        assert (halted.seq > 0, cancelled) == (True, 1)
        await until(lambda: not host.view.active_orders)
        with pytest.raises(TradingHalted):
            await host.submit_order(order(client_order_id="c2"))
        left = crash()
    async with run_host(gateways={"P": gateway("HoldingGateway")}, data=left.data) as host:
        await until(lambda: not host._recovery.reason("P"))
        assert [h.reason for h in host.halts()] == ["test"]
        with pytest.raises(TradingHalted):
            await host.submit_order(order(client_order_id="c3"))
        assert host.intent("c3") is None  # refused before anything was written down
        back = Halt(scope=HaltScope.ALL, active=False, reason="fine again", by="ann", at=datetime.now(UTC))
        assert (await host.resume(back)).seq > 0
        await host.submit_order(order(client_order_id="c4"))


async def test_what_a_denied_order_meant_is_in_the_journal_with_its_outcome(run_host):
    async with run_host(gateways={"P": gateway("RefusingGateway")}) as host:
        await until(lambda: not host._recovery.reason("P"))
        with pytest.raises(Exception, match="market is closed"):
            await host.submit_order(order())
        intent, outcome = host.intent("c1")
        assert (intent.volume, outcome.state) == (1.0, IntentState.REFUSED)


async def test_a_position_that_was_closed_while_we_were_away_is_zero_afterwards(run_host, crash):
    async with run_host(gateways={"P": gateway("HoldingGateway")}) as host:
        await until(lambda: not host._recovery.reason("P"))
        fill(host, (await host.submit_order(order())).order, 1)
        await until(lambda: any(row.kind == "position.updated" for row in host._journal.read(0, 1000)))
        left = crash()
    HoldingGateway.holdings = {}
    async with run_host(gateways={"P": gateway("HoldingGateway")}, data=left.data) as host:
        found = await finished(host)
        assert [d.kind for d in found.differences if not d.resolved] == [
            "ORDER_GONE",
            "POSITION",
        ]  # nobody saw the fill
        assert [p.volume for p in host.view.positions.values()] == [0]
        await until(lambda: [k.event.volume for k in host._stage.books.positions.values()] == [0])


async def test_what_a_strategy_counted_is_journaled_in_one_row_with_its_pos(run_host, vnpy_home):
    async with run_host(gateways={"P": gateway("HoldingGateway")}, strategies=KEEPER) as host:
        await keeper_has_traded(host)
        await asyncio.wrap_future(host._stage.barrier())
        rows = [row for row in host._journal.read(0, 1000) if row.kind == records.STRATEGY_DATA]
        saved = [records.decode(row.kind, row.payload) for row in rows]
        counted = [data for data in saved if data.variables.get("pos") == 1]
        assert counted
        assert all(data.counted_seq > 0 and data.attributed_pos == 1 for data in counted)
    data = json.loads((vnpy_home / ".vntrader" / "cta_strategy_data.json").read_text())["keeper"]
    assert (data["pos"], data[MARK]) == (1, counted[-1].counted_seq)


async def test_a_stop_order_whose_order_was_on_its_way_as_the_process_ended_is_not_sent_twice(
    run_host, crash, vnpy_home
):
    async with run_host(gateways={"P": gateway("HoldingGateway")}, strategies=KEEPER) as host:
        await starts(host)
        host.main_engine.get_gateway("P").tick()
        await until(lambda: host.view.stop_orders)
        keeper = host.main_engine.engines["CtaStrategy"].strategies["keeper"]
        await host._commands.run(lambda: keeper.buy(3200, 1))  # what the stop order sends; its end is not journaled yet
        await until(lambda: len(host.view.active_orders) == 2)
        left = crash()
    left.lay_out(vnpy_home)
    listed = gateway("HoldingGateway", capabilities=ALL_LISTED)
    async with run_host(gateways={"P": listed}, strategies=KEEPER, data=left.data) as host:
        await starts(host)
        assert "STOP.1" not in host.main_engine.engines["CtaStrategy"].stop_orders
        await until(lambda: host.view.stop_orders["STOP.1"].status == "CANCELLED")
        await until(lambda: "STOP.1" not in host._stage.books.stop_orders)  # nor after the next start
