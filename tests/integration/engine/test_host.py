"""The host with a real MainEngine, the real apps and odd gateways."""

import asyncio
import threading

import pytest

from vnpy_core.domain.commands import SubmitOrder
from vnpy_core.domain.enums import Direction, GatewayState, Offset, OrderType, Status
from vnpy_core.domain.errors import (
    ConfigurationError,
    Conflict,
    GatewayNotConnected,
    GatewayRefused,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    RiskDenied,
    StorageFull,
)
from vnpy_core.engine.settings import AppSettings, GatewaySettings, StrategySettings, default_apps


def gateway(name: str, *, auto_connect: bool = True, **settings) -> GatewaySettings:
    return GatewaySettings(class_=f"testkit.gateways:{name}", auto_connect=auto_connect, **settings)


def order(gateway_name: str = "P", **changes) -> SubmitOrder:
    fields = {
        "client_order_id": "c1", "gateway_name": gateway_name, "symbol": "rb2701", "exchange": "SHFE",
        "direction": Direction.LONG, "offset": Offset.OPEN, "type": OrderType.LIMIT, "volume": 1.0, "price": 3000.0,
    }  # fmt: skip
    return SubmitOrder(**{**fields, **changes})


async def until(condition, seconds: float = 5):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def connected(host, name: str = "P"):
    """Connected, and compared with the books, so that orders may pass."""
    await until(lambda: {g.gateway_name: g.state for g in host.gateways()}[name] is GatewayState.CONNECTED)
    await until(lambda: not host._recovery.reason(name))


async def test_all_apps_load_and_the_engine_is_alive(run_host):
    async with run_host() as host:
        status = host.status()
        assert status.apps == dict.fromkeys(["CtaStrategy", "AlgoTrading", "DataManager", "RiskManager"], "loaded")
        assert status.alive


async def test_the_first_contract_shows_that_a_plain_gateway_is_connected(run_host):
    async with run_host(gateways={"P": gateway("PlainGateway")}) as host:
        await connected(host)
        assert sorted(host.view.contracts) == ["rb2701.SHFE", "ru2701.SHFE"]
        states = [m.data.state for m in host.messages if m.topic == "gateway.updated"]
        assert states == ["DISCONNECTED", "CONNECTING", "CONNECTED"]


async def test_a_read_right_after_the_answer_finds_the_order(run_host):
    async with run_host(gateways={"P": gateway("PlainGateway")}) as host:
        await connected(host)
        submitted = await host.submit_order(order())
        assert submitted.order.status is Status.NOTTRADED
        assert submitted.order.client_order_id == "c1"
        assert host.view.order(submitted.order.vt_orderid) == submitted.order
        await host.cancel_order(submitted.order.vt_orderid)
        await until(lambda: host.view.order(submitted.order.vt_orderid).status is Status.CANCELLED)
        with pytest.raises(Conflict, match="CANCELLED"):
            await host.cancel_order(submitted.order.vt_orderid)


async def test_a_denial_by_risk_manager_names_the_rule_and_the_reason(run_host):
    async with run_host(gateways={"P": gateway("PlainGateway")}) as host:
        await connected(host)
        with pytest.raises(RiskDenied, match="501") as denied:
            await host.submit_order(order(volume=501.0))
        assert denied.value.extra["rule"] == "OrderSizeRule"
        assert denied.value.extra["limit"]["order_volume_limit"] == 500
        await until(lambda: any(m.topic == "risk.event" and m.data.kind == "DENIED" for m in host.messages))
        assert (await host.submit_order(order(client_order_id="c2"))).order.is_active


async def test_a_denial_on_another_thread_is_journaled_and_published_with_its_seq(run_host):
    from vnpy.trader.constant import Direction, Exchange, OrderType
    from vnpy.trader.object import OrderRequest

    async with run_host(gateways={"P": gateway("PlainGateway")}) as host:
        await connected(host)
        request = OrderRequest("rb2701", Exchange.SHFE, Direction.LONG, OrderType.LIMIT, 501, 3000)
        assert await asyncio.to_thread(host.main_engine.send_order, request, "P") == ""
        await until(lambda: any(m.topic == "risk.event" and m.data.kind == "DENIED" for m in host.messages))
        denial = next(m for m in host.messages if m.topic == "risk.event" and m.data.kind == "DENIED")
        rows = [row for row in host._journal.read(0, 1000) if row.kind == "risk.event"]
        assert [row.seq for row in rows] == [denial.seq] == [denial.data.seq]


async def test_a_rule_that_raises_refuses_the_order(run_host):
    async with run_host(gateways={"P": gateway("PlainGateway")}) as host:
        await connected(host)
        rule = next(iter(host.main_engine.engines["RiskManager"].rules.values()))

        class Broken:
            active, name, parameters = True, "x", {}

            def check_allowed(self, request, gateway_name):
                raise ZeroDivisionError("oops")

        host.main_engine.engines["RiskManager"].rules[rule.name] = Broken()
        with pytest.raises(RiskDenied, match="ZeroDivisionError: oops"):
            await host.submit_order(order())


async def test_a_gateway_that_takes_no_order_is_quoted(run_host):
    async with run_host(gateways={"P": gateway("RefusingGateway")}) as host:
        await connected(host)
        with pytest.raises(GatewayRefused, match="market is closed"):
            await host.submit_order(order())


async def test_an_order_without_a_word_from_the_venue_has_an_unknown_outcome(run_host):
    async with run_host(gateways={"P": gateway("MuteGateway")}, engine={"order_answer_s": 0.05}) as host:
        await connected(host)
        with pytest.raises(OutcomeUnknown) as unknown:
            await host.submit_order(order())
        assert unknown.value.extra == {"client_order_id": "c1", "vt_orderid": "P.77"}


async def test_orders_are_refused_without_a_connection_and_for_unknown_gateways(run_host):
    async with run_host(gateways={"P": gateway("PlainGateway", auto_connect=False)}) as host:
        with pytest.raises(GatewayNotConnected):
            await host.submit_order(order())
        with pytest.raises(NotFound, match="no gateway Q"):
            await host.submit_order(order("Q"))
        with pytest.raises(NotFound):
            await host.cancel_order("P.1")


async def test_a_second_connect_is_refused_and_a_connect_after_disconnect_gets_a_fresh_gateway(run_host):
    async with run_host(gateways={"P": gateway("PlainGateway")}) as host:
        await connected(host)
        with pytest.raises(Conflict):
            await host.connect("P", {})
        first = host.main_engine.gateways["P"]
        await host.disconnect("P")
        assert first.closed == 1
        with pytest.raises(Conflict):
            await host.disconnect("P")
        with pytest.raises(GatewayNotConnected):
            await host.submit_order(order())
        await host.connect("P", {"user": "me"})
        await connected(host)
        second = host.main_engine.gateways["P"]
        assert second is not first
        assert second.settings == [{"user": "me", "password": ""}]
        assert (await host.submit_order(order())).order.is_active


@pytest.fixture
def slow():
    from testkit.gateways import SlowGateway

    SlowGateway.go.clear()
    yield SlowGateway
    SlowGateway.go.set()


async def test_a_disconnect_outlasts_the_connect_that_it_overtook(run_host, slow):
    async with run_host(gateways={"P": gateway("SlowGateway")}) as host:
        overtaken = host.main_engine.gateways["P"]
        await until(lambda: overtaken.entered)
        await host.disconnect("P")
        slow.go.set()
        await until(lambda: overtaken.connected)
        await asyncio.sleep(0.1)
        assert host.gateways()[0].state is GatewayState.DISCONNECTED


async def test_a_disconnect_before_the_connect_began_leaves_the_gateway_alone(run_host, slow):
    async with run_host(gateways={"P": gateway("SlowGateway", auto_connect=False)}) as host:
        made = host.main_engine.gateways["P"]
        await host.connect("P", {})
        await host.disconnect("P")
        slow.go.set()
        await asyncio.sleep(0.1)
        assert host.main_engine.gateways["P"] is made
        assert not made.entered
        assert host.gateways()[0].state is GatewayState.DISCONNECTED


async def test_a_subscription_that_fails_keeps_neither_the_next_nor_the_strategies_back(run_host, slow, tmp_path):
    slow.go.set()
    (tmp_path / "subscriptions.json").write_text('{"rb2701.SHFE": "P", "ru2701.SHFE": "P"}')
    on_ru = StrategySettings(class_name="QuietStrategy", vt_symbol="ru2701.SHFE", auto_start=True)
    strategies = {"refused": strategy("QuietStrategy"), "next": on_ru}
    async with run_host(gateways={"P": gateway("SlowGateway")}, strategies=strategies) as host:
        await until(lambda: "ru2701.SHFE" in host.main_engine.gateways["P"].subscribed)
        await running(host, "next")


async def test_a_gateway_that_the_host_connects_after_we_attached_counts_as_connected(run_host, slow):
    from vnpy.event import EventEngine
    from vnpy.trader.engine import MainEngine

    slow.go.set()
    main_engine = MainEngine(EventEngine())
    try:
        main_engine.add_gateway(slow, "P")
        async with run_host(main_engine=main_engine) as host:
            main_engine.connect({}, "P")
            await connected(host)
    finally:
        main_engine.close()


async def test_connect_settings_come_from_vnpys_own_file_under_those_of_the_service(run_host, vnpy_home):
    path = vnpy_home / ".vntrader" / "connect_p.json"
    path.write_text('{"user": "file", "password": "file"}')
    try:
        async with run_host(gateways={"P": gateway("PlainGateway", setting={"user": "toml"})}) as host:
            await connected(host)
            assert host.main_engine.gateways["P"].settings == [{"user": "toml", "password": "file"}]
            await host.disconnect("P")
            path.write_text('{"user": ')
            with pytest.raises(Conflict, match="connect_p.json"):
                await host.connect("P", {})
    finally:
        path.unlink()


async def test_gateways_that_fail_to_load_or_connect_are_shown_and_the_others_work(run_host):
    gateways = {
        "GONE": GatewaySettings(class_="no_such_module:Gateway", auto_connect=True),
        "LEFT": GatewaySettings(class_="testkit.leaving:Gateway", auto_connect=True),
        "BAD": gateway("UnloadableGateway"),
        "DOWN": gateway("RaisingGateway"),
        "P": gateway("PlainGateway"),
    }
    async with run_host(gateways=gateways) as host:
        await connected(host)
        await until(lambda: {g.gateway_name: g.state for g in host.gateways()}["DOWN"] is GatewayState.FAILED)
        messages = {g.gateway_name: g.message for g in host.gateways()}
        assert "no_such_module" in messages["GONE"]
        assert "SystemExit" in messages["LEFT"]
        assert "the broker's library is missing" in messages["BAD"]
        assert "no route to the broker" in messages["DOWN"]
        assert (await host.submit_order(order())).order.is_active


async def test_subscriptions_are_remembered_across_restarts(run_host):
    gateways = {"P": gateway("PlainGateway")}
    async with run_host(gateways=gateways) as host:
        await connected(host)
        await host.subscribe("rb2701.SHFE", "P")
        await host.subscribe("ru2701.SHFE", "P")
        await host.unsubscribe("ru2701.SHFE")
        with pytest.raises(NotFound):
            await host.subscribe("xx.SHFE", "P")
        with pytest.raises(NotFound):
            await host.unsubscribe("ru2701.SHFE")
    async with run_host(gateways=gateways) as host:
        await until(lambda: host.main_engine.gateways["P"].subscribed == ["rb2701.SHFE"])
        assert host.subscriptions() == [("rb2701.SHFE", "P")]


async def test_a_broken_optional_app_is_left_out_with_its_error(run_host):
    apps = {**default_apps(), "Broken": AppSettings(class_="testkit.gateways:PlainGateway")}
    async with run_host(apps=apps, gateways={"P": gateway("PlainGateway")}) as host:
        await connected(host)
        assert host.status().apps["Broken"] != "loaded"
        assert (await host.submit_order(order())).order.is_active


async def test_a_broken_risk_rule_refuses_the_start(run_host, vnpy_home):
    rules = vnpy_home / "rules"
    rules.mkdir()
    (rules / "broken_rule.py").write_text("raise ValueError('broken rule')\n")
    try:
        with pytest.raises(ConfigurationError, match="RiskManager"):
            async with run_host():
                raise AssertionError("started without risk control")
    finally:
        (rules / "broken_rule.py").unlink()
        for left in sorted(rules.rglob("*"), reverse=True):
            left.rmdir() if left.is_dir() else left.unlink()
        rules.rmdir()


async def test_a_stuck_event_thread_refuses_commands_in_time(run_host):
    async with run_host(gateways={"P": gateway("PlainGateway")}, engine={"command_deadline_s": 0.1}) as host:
        await connected(host)
        release = threading.Event()
        host.main_engine.event_engine.register("eX", lambda event: release.wait(10))
        from vnpy.event import Event

        host.main_engine.event_engine.put(Event("eX"))
        with pytest.raises(Overloaded):
            await host.submit_order(order())
        release.set()
        await until(lambda: host.status().queue_length == 0)
        assert host.main_engine.gateways["P"].orders == {}


async def test_stop_cancels_active_orders_and_publishes_their_end(run_host):
    async with run_host(gateways={"P": gateway("PlainGateway")}) as host:
        await connected(host)
        submitted = await host.submit_order(order())
    last = [m.data for m in host.messages if m.topic == "order.updated"][-1]
    assert (last.vt_orderid, last.status) == (submitted.order.vt_orderid, Status.CANCELLED)
    assert host.main_engine.gateways["P"].closed == 1
    assert not host.main_engine.event_engine._thread.is_alive()
    with pytest.raises(Overloaded, match="stopping"):
        await host.submit_order(order())


async def test_an_order_that_cannot_be_cancelled_does_not_keep_the_others_in_the_market(run_host):
    async with run_host(gateways={"P": gateway("StubbornGateway")}, engine={"drain_s": 0.2}) as host:
        await connected(host)
        for number in range(3):
            await host.submit_order(order(client_order_id=f"c{number}", price=3000.0 + number))
    assert list(host.view.active_orders) == ["P.000001"]


async def test_a_strategy_that_does_not_stop_well_does_not_keep_the_next_ones_trading(run_host):
    strategies = {"stuck": strategy("RaisingOnTickStrategy"), "next": strategy("QuietStrategy")}
    async with run_host(
        gateways={"P": gateway("StubbornGateway")}, strategies=strategies, engine={"drain_s": 0.2}
    ) as host:
        await connected(host)
        await running(host, "next")
        host.main_engine.gateways["P"].tick()
        await until(lambda: list(host.view.orders()))
        await host.strategies.stop_all()
        assert [s.trading for s in host.strategies.cta.engine.strategies.values()] == [False, False]


async def test_a_handler_that_hangs_does_not_hang_the_stop(run_host):
    from vnpy.event import Event

    release = threading.Event()
    settings = {"command_deadline_s": 0.2, "drain_s": 0.2}
    try:
        async with asyncio.timeout(8), run_host(gateways={"P": gateway("PlainGateway")}, engine=settings) as host:
            await connected(host)
            host.main_engine.event_engine.register("eX", lambda event: release.wait(30))
            host.main_engine.event_engine.put(Event("eX"))
        assert host.main_engine.gateways["P"].closed == 1
    finally:
        release.set()


def strategy(class_name: str, **settings) -> StrategySettings:
    return StrategySettings(class_name=class_name, vt_symbol="rb2701.SHFE", auto_start=True, **settings)


async def running(host, name: str):
    await until(
        lambda: name in host.strategies.cta.engine.strategies and host.strategies.cta.engine.strategies[name].trading
    )


async def test_strategies_that_fail_in_a_callback_are_stopped_and_the_others_go_on(run_host):
    strategies = {
        "init": strategy("RaisingOnInitStrategy"),
        "start": strategy("RaisingOnStartStrategy"),
        "tick": strategy("RaisingOnTickStrategy"),
        "exit": strategy("ExitingStrategy"),
        "undeclared": strategy("UndeclaredParameterStrategy"),
        "nowhere": strategy("NoSuchStrategy"),
        "unsavable": strategy("UnsavableVariableStrategy"),
        "quiet": strategy("QuietStrategy"),
    }
    async with run_host(gateways={"P": gateway("PlainGateway")}, strategies=strategies) as host:
        await connected(host)
        await running(host, "quiet")
        engine, plain = host.strategies.cta.engine, host.main_engine.gateways["P"]
        assert {"undeclared", "nowhere"}.isdisjoint(engine.strategies)
        plain.tick()
        await until(lambda: plain.orders)
        plain.tick()
        await until(lambda: {"init", "start", "tick", "exit"} <= host.strategies.cta.calls.failures.keys())
        await until(lambda: all(not o.is_active for o in host.view.orders()) and list(host.view.orders()))
        for name in ("init", "start", "tick", "exit"):
            assert (engine.strategies[name].inited, engine.strategies[name].trading) == (False, False), name
        assert "no tick today" in host.strategies.cta.calls.failures["tick"]
        [rested] = host.view.orders()
        assert (rested.strategy_name, rested.status) == ("tick", Status.CANCELLED)
        before = engine.strategies["quiet"].ticks
        plain.tick()
        await until(lambda: engine.strategies["quiet"].ticks > before)
        assert "broken_file" in host.strategies.load_errors()[0].file
    assert host.status().handler_errors == 0


async def test_an_order_sent_in_the_callback_that_raised_is_cancelled(run_host):
    strategies = {"s": strategy("RaisingAfterBuyingStrategy")}
    async with run_host(gateways={"P": gateway("PlainGateway")}, strategies=strategies) as host:
        await connected(host)
        await running(host, "s")
        host.main_engine.gateways["P"].tick()
        await until(lambda: [o.status for o in host.view.orders()] == [Status.CANCELLED])


async def test_what_is_published_of_a_strategy_that_failed_is_that_it_does_not_run(run_host):
    strategies = {"init": strategy("RaisingOnInitStrategy"), "start": strategy("RaisingOnStartStrategy")}
    async with run_host(gateways={"P": gateway("PlainGateway")}, strategies=strategies) as host:
        await connected(host)
        await until(lambda: {"init", "start"} <= host.strategies.cta.calls.failures.keys())
        shown = host.view.strategies
        await until(lambda: not shown["start"].variables["trading"] and not shown["init"].variables["inited"])


async def test_a_strategy_that_cannot_be_made_does_not_keep_the_others_out_at_the_next_start(run_host, vnpy_home):
    broken, quiet = strategy("UndeclaredParameterStrategy"), strategy("QuietStrategy")
    gateways = {"P": gateway("PlainGateway")}
    file = vnpy_home / ".vntrader" / "cta_strategy_setting.json"
    async with run_host(gateways=gateways, strategies={"broken": broken, "quiet": quiet}) as host:
        await connected(host)
        await running(host, "quiet")
        assert "broken" not in file.read_text()
    # A class that was whole when it was added and is not any more.
    file.write_text(file.read_text().replace('"quiet": {', '"old": {"class_name": "UndeclaredParameterStrategy", '
                    '"vt_symbol": "rb2701.SHFE", "setting": {}}, "quiet": {'))  # fmt: skip
    async with run_host(gateways=gateways, strategies={"quiet": quiet}) as host:
        await connected(host)
        await running(host, "quiet")
        host.main_engine.gateways["P"].tick()
        await until(lambda: host.strategies.cta.engine.strategies["quiet"].ticks)
        assert host.status().apps["CtaStrategy"] == "loaded"
        assert host.strategies.strategy("old").state == "FAILED"
        assert "no attribute missing" in host.strategies.strategy("old").error


async def test_attaching_serves_a_running_engine_and_leaves_it_as_it_was(run_host, vnpy_home):
    from vnpy.event import EventEngine
    from vnpy.trader.engine import MainEngine
    from vnpy_ctastrategy import CtaStrategyApp
    from vnpy_riskmanager import RiskManagerApp

    from testkit.gateways import PlainGateway

    main_engine = MainEngine(EventEngine())
    try:
        main_engine.add_gateway(PlainGateway, "P")
        for app in (RiskManagerApp, CtaStrategyApp):
            main_engine.add_app(app)
        main_engine.connect({}, "P")
        await until(lambda: main_engine.get_contract("rb2701.SHFE"))
        mine = main_engine.event_engine
        before = {name: getattr(o, name) for o, name in _wrapped(main_engine)}
        handlers = {k: list(v) for k, v in mine._handlers.items() if v}
        async with run_host(main_engine=main_engine) as host:
            await connected(host)
            submitted = await host.submit_order(order())
            assert submitted.order.is_active
            with pytest.raises(RiskDenied):
                await host.submit_order(order(volume=501.0))
        assert {name: getattr(o, name) for o, name in _wrapped(main_engine)} == before
        assert {k: list(v) for k, v in mine._handlers.items() if v} == handlers
        assert mine._thread.is_alive()
        assert main_engine.get_order(submitted.order.vt_orderid).is_active()
        assert main_engine.gateways["P"].closed == 0
    finally:
        main_engine.close()


def _wrapped(main_engine):
    risk, cta = main_engine.engines["RiskManager"], main_engine.engines["CtaStrategy"]
    names = [(main_engine.event_engine, n) for n in ("put", "_process", "stop")]
    return [
        *names,
        (risk, "check_allowed"),
        (risk, "write_log"),
        (cta, "call_strategy_func"),
        (main_engine, "send_order"),
    ]


async def test_a_gateway_that_raises_while_sending_leaves_the_outcome_unknown(run_host):
    async with run_host(gateways={"P": gateway("ThrowingGateway")}) as host:
        await connected(host)
        with pytest.raises(OutcomeUnknown, match="the socket broke") as unknown:
            await host.submit_order(order())
        assert unknown.value.extra["client_order_id"] == "c1"
        assert host.status().alive


async def test_an_exchange_whose_suffix_is_not_its_name_can_be_traded(run_host):
    from vnpy_core.features.trading.orders import OrderRequest
    from vnpy_core.features.trading.service import TradingService
    from vnpy_core.kit.clock import SystemClock

    async with run_host(gateways={"E": gateway("EurexGateway")}) as host:
        await connected(host, "E")
        service = TradingService(host, host.view, SystemClock())
        for exchange in ("EUREX", "EUX"):
            request = OrderRequest(symbol="FDAX", exchange=exchange, direction=Direction.LONG, volume=1.0, price=100.0)
            answer = await service.place(request)
            assert (answer.outcome.order.vt_symbol, answer.outcome.order.exchange) == ("FDAX.EUX", "EUREX")


async def test_a_gateway_that_did_nothing_for_a_full_disk_says_so_and_the_outcome_is_known(run_host):
    async with run_host(gateways={"P": gateway("FullGateway")}) as host:
        await connected(host)
        with pytest.raises(StorageFull):
            await host.submit_order(order())
