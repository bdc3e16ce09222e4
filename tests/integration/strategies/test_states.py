"""How far a strategy is, as it really is: what its callbacks do to it, and what survives a restart."""

import asyncio
import json
import threading

import pytest

from integration.engine.conftest import run_host  # noqa: F401 - a fixture
from integration.engine.test_halts import halt
from integration.engine.test_host import connected, gateway, order, until
from integration.engine.test_restart import fill
from testkit.gateways import HoldingGateway
from vnpy_core.domain.enums import Status, StrategyState
from vnpy_core.domain.errors import Conflict, NotFound, ValidationFailed
from vnpy_core.engine.settings import AppSettings, StrategySettings, default_apps

RB, RU = "rb2701.SHFE", "ru2701.SHFE"
FAILING = "FailingStrategy"


@pytest.fixture(autouse=True)
def no_holdings():
    HoldingGateway.holdings = {}


@pytest.fixture
def trader(run_host):  # noqa: F811
    """`async with trader() as host`: connected and reconciled."""
    return lambda **settings: run_host(gateways={"P": gateway("HoldingGateway")}, **settings)


def venue(host) -> HoldingGateway:
    return host.main_engine.get_gateway("P")


def configured(class_name: str, vt_symbol: str = RB, **settings) -> StrategySettings:
    return StrategySettings(class_name=class_name, vt_symbol=vt_symbol, **settings)


def shown(host, name: str = "s") -> list[StrategyState]:
    """The states that were published, each once."""
    told = [m.data.state for m in host.messages if m.topic == "strategy.updated" and m.data.strategy_name == name]
    return [state for state, before in zip(told, [None, *told], strict=False) if state is not before]


def errors(host, name: str = "s") -> list[str]:
    lines = [m.data for m in host.messages if m.topic == "strategy.log" and m.data.level == "ERROR"]
    return [line.msg for line in lines if line.strategy_name == name]


def said(host, name: str = "s") -> list[str]:
    return [m.data.msg for m in host.messages if m.topic == "strategy.log" and m.data.strategy_name == name]


async def added(host, where: str = "", name: str = "s", class_name: str = FAILING, **more):
    setting = {"where": where} if class_name == FAILING else {}
    options = {"auto_start": False, "by": "ann"} | more
    return await host.strategies.add(class_name, name, RB, setting, **options)


async def running(host, where: str = "", name: str = "s") -> None:
    await connected(host)
    await added(host, where, name)
    await host.strategies.init(name, wait_s=5)
    await host.strategies.start(name)


def resting(host, name: str = "s") -> list[str]:
    """What of a strategy's orders, local stop orders among them, may still trade."""
    orders = [order.vt_orderid for order in host.view.active_orders.values() if order.strategy_name == name]
    return orders + [stop.stop_orderid for stop in host.strategies.stop_orders() if stop.strategy_name == name]


# --- the states ---


async def test_a_strategy_whose_order_is_not_sent_is_told_why_in_its_log(trader):
    async with trader() as host:
        await running(host)
        await host.halt(halt("lunch"), cancel=False)
        strategy = host.strategies.cta.engine.strategies["s"]
        assert await asyncio.to_thread(strategy.buy, 3000, 1) == []
        await until(lambda: [line for line in said(host) if line == f"{RB}: not sent: trading is halted: lunch"])


async def test_a_strategy_goes_from_created_to_running_and_says_so_at_each_step(trader):
    async with trader() as host:
        await connected(host)
        made = await added(host)
        assert (made.state, made.parameters, made.auto_start) == (StrategyState.CREATED, {"where": ""}, False)
        assert made.class_file == "failing_strategies.py"
        assert made.class_hash
        assert not made.class_is_old
        with pytest.raises(Conflict, match="not initialised"):
            await host.strategies.start("s")
        assert (await host.strategies.init("s", wait_s=5)).state is StrategyState.INITED
        with pytest.raises(Conflict, match="initialised already"):
            await host.strategies.init("s")
        assert (await host.strategies.start("s")).state is StrategyState.RUNNING
        with pytest.raises(Conflict, match="trades already"):
            await host.strategies.start("s")
        assert (await host.strategies.stop("s")).state is StrategyState.STOPPED
        assert (await host.strategies.stop("s")).state is StrategyState.STOPPED
        assert (await host.strategies.start("s")).state is StrategyState.RUNNING
        await until(lambda: shown(host)[-1] is StrategyState.RUNNING)
        steps = ["CREATED", "INITIALISING", "INITED", "RUNNING", "STOPPED", "RUNNING"]
        assert shown(host) == steps


async def test_while_its_on_init_runs_it_is_initialising_and_others_answer(trader, monkeypatch):
    go = threading.Event()
    async with trader() as host:
        await connected(host)
        for name in ("s", "behind"):
            await added(host, name=name)
        held = host.strategies.cta.engine.strategies["s"]
        monkeypatch.setattr(held, "on_init", lambda: go.wait(5))
        for name in ("s", "behind"):
            assert (await host.strategies.init(name)).state is StrategyState.INITIALISING
        assert (await host.strategies.init("s", wait_s=0.05)).state is StrategyState.INITIALISING
        for refused in (
            host.strategies.edit("s", {"where": "on_tick"}, by="ann"),
            host.strategies.remove("s", by="ann"),
            host.strategies.move("s", RU, by="ann"),
        ):
            with pytest.raises(Conflict, match="is being initialised"):
                await refused
        go.set()
        await until(lambda: host.strategies.strategy("behind").state is StrategyState.INITED)
        assert host.strategies.strategy("s").state is StrategyState.INITED


async def test_a_contract_that_no_gateway_offers_is_told_before_on_init_runs(run_host):  # noqa: F811
    async with run_host(gateways={"P": gateway("HoldingGateway", auto_connect=False)}) as host:
        await added(host)
        with pytest.raises(Conflict, match="no connected gateway offers"):
            await host.strategies.init("s")


async def test_what_is_not_there_is_not_found(trader):
    async with trader() as host:
        for refused in (host.strategies.init("x"), host.strategies.start("x"), host.strategies.remove("x", by="ann")):
            with pytest.raises(NotFound):
                await refused
        with pytest.raises(NotFound, match="NoSuchStrategy"):
            await added(host, class_name="NoSuchStrategy")
        await added(host)
        with pytest.raises(Conflict, match="already"):
            await added(host)
        for vt_symbol in ("rb2701", "rb2701.MOON", "rb.2701.SHFE"):
            with pytest.raises(ValidationFailed):
                await host.strategies.add(FAILING, "n", vt_symbol, {}, auto_start=False, by="ann")
        assert [update.strategy_name for update in host.strategies.strategies()] == ["s"]


async def test_without_the_app_every_question_says_that_it_is_not_there(run_host):  # noqa: F811
    risk = default_apps()["RiskManager"]
    for apps in ({"RiskManager": risk}, {"RiskManager": risk, "CtaStrategy": AppSettings(class_="no_such:App")}):
        async with run_host(apps=apps, strategies={"s": configured(FAILING)}) as host:
            assert host.status().apps["RiskManager"] == "loaded"
            for ask in (host.strategies.classes, host.strategies.strategies, host.strategies.stop_orders):
                with pytest.raises(Conflict, match="CtaStrategy app is not loaded"):
                    ask()
            with pytest.raises(Conflict, match="CtaStrategy app is not loaded"):
                await added(host)


# --- failures ---


@pytest.mark.parametrize("where", ["on_init", "on_start"])
async def test_one_that_raises_before_it_trades_fails_and_says_why(trader, where):
    async with trader() as host:
        await connected(host)
        await added(host, where)
        with pytest.raises(Conflict, match=f"no {where} today") as refused:
            await host.strategies.init("s", wait_s=5)
            await host.strategies.start("s")
        assert refused.value.extra["state"] == "FAILED"
        await failed_and_begins_anew(host, where)


async def test_one_that_fails_and_cannot_be_shown_does_not_trade(trader):
    async with trader() as host:
        await connected(host)
        await added(host, "on_start")
        await host.strategies.init("s", wait_s=5)
        strategy = host.strategies.cta.engine.strategies["s"]
        strategy.variables.append("nothing")
        with pytest.raises(AttributeError):
            await host.strategies.start("s")
        assert not strategy.trading


async def test_a_variable_that_does_not_take_its_saved_value_fails_its_strategy_only(trader, monkeypatch):
    class Picky:
        def __get__(self, strategy, owner):
            return 0

        def __set__(self, strategy, value):
            raise SystemExit(1)

    async with trader() as host:
        await connected(host)
        for name in ("s", "behind"):
            await added(host, name=name)
        cta = host.strategies.cta.engine
        cta.strategy_data["s"]["picky"] = 1
        cta.strategies["s"].variables.append("picky")
        monkeypatch.setattr(type(cta.strategies["s"]), "picky", Picky(), raising=False)
        with pytest.raises(Conflict, match="SystemExit"):
            await host.strategies.init("s", wait_s=5)
        assert (await host.strategies.init("behind", wait_s=5)).state is StrategyState.INITED


@pytest.mark.parametrize("where", ["on_tick", "on_bar", "on_order", "on_trade", "on_stop_order", "on_timer"])
async def test_one_that_raises_while_it_trades_fails_and_leaves_no_order_behind(trader, where):
    async with trader() as host:
        await running(host, where)
        await added(host, name="other")
        await host.strategies.init("other", wait_s=5)
        venue(host).tick()
        if where == "on_trade":
            await until(lambda: host.view.active_orders)
            fill(host, next(iter(host.view.active_orders.values())), 1)
        await until(lambda: host.strategies.strategy("s").state is StrategyState.FAILED)
        await until(lambda: not resting(host), 2.5)
        await failed_and_begins_anew(host, where)
        venue(host).tick()
        await until(lambda: host.strategies.strategy("other").variables["ticks"] == 2)


async def failed_and_begins_anew(host, where: str) -> None:
    failed = host.strategies.strategy("s")
    assert (failed.state, failed.inited, failed.trading) == (StrategyState.FAILED, False, False)
    assert failed.error.endswith(f"RuntimeError: no {where} today")
    assert "failing_strategies.py" in failed.error
    assert "vnpy_core" not in failed.error
    await until(lambda: shown(host)[-1] is StrategyState.FAILED)
    await until(lambda: errors(host))
    [line] = errors(host)
    assert f"no {where} today" in line
    await host.strategies.edit("s", {"where": ""}, by="ann")
    again = await host.strategies.init("s", wait_s=5)
    assert (again.state, again.error) == (StrategyState.INITED, None)
    assert (await host.strategies.start("s")).state is StrategyState.RUNNING


async def test_one_whose_on_stop_raises_is_stopped_and_failed_and_its_orders_are_cancelled(trader):
    async with trader() as host:
        await running(host, "on_stop")
        venue(host).tick()
        await until(lambda: len(resting(host)) == 2)
        with pytest.raises(Conflict, match="no on_stop today"):
            await host.strategies.stop("s")
        assert host.strategies.strategy("s").state is StrategyState.FAILED
        await until(lambda: not resting(host))


async def test_one_that_begins_anew_does_not_wait_for_orders_that_ended_while_it_had_failed(trader):
    def fail():
        raise RuntimeError("not today")

    async with trader() as host:
        await connected(host)
        await added(host, class_name="MomentumTargetStrategy")
        engine = host.strategies.cta.engine
        for _ in range(2):
            await host.strategies.init("s", wait_s=5)
            await host.strategies.start("s")
            venue(host).tick()
            await host._settle()
            await host._commands.run(lambda: engine.strategies["s"].set_target_pos(1))
            await until(lambda: len(resting(host)) == 1)
            await host._commands.run(lambda: engine.call_strategy_func(engine.strategies["s"], fail))
            assert host.strategies.strategy("s").state is StrategyState.FAILED
            await until(lambda: not resting(host))


async def test_a_handler_of_its_own_is_silent_while_it_has_failed_and_hears_again_after(trader):
    from vnpy.event import EVENT_TIMER

    async with trader() as host:
        await running(host, "on_tick")
        strategy = host.strategies.cta.engine.strategies["s"]
        handlers = host.main_engine.event_engine._handlers
        assert strategy.on_timer in handlers[EVENT_TIMER]
        venue(host).tick()
        await until(lambda: host.strategies.strategy("s").state is StrategyState.FAILED)
        assert strategy.on_timer not in handlers.get(EVENT_TIMER, [])
        await host.strategies.init("s", wait_s=5)
        strategy = host.strategies.cta.engine.strategies["s"]
        assert handlers[EVENT_TIMER].count(strategy.on_timer) == 1
        await host.strategies.remove("s", by="ann")
        assert strategy.on_timer not in handlers.get(EVENT_TIMER, [])


async def test_a_stop_order_whose_sending_raised_is_not_sent_again_and_its_strategy_fails(trader, monkeypatch):
    sent, send_order = [], HoldingGateway.send_order

    def send(self, req):
        sent.append(send_order(self, req))
        raise ConnectionError("no answer")

    def place(strategy):
        strategy.ticks = 1
        strategy.buy(3100, 1, stop=True)

    monkeypatch.setattr(HoldingGateway, "send_order", send)
    async with trader() as host:
        await running(host)
        await host._commands.run(lambda: place(host.strategies.cta.engine.strategies["s"]))
        for _ in range(3):
            venue(host).tick(price=3200)
            await host._settle()
        assert len(sent) == 1
        assert host.strategies.strategy("s").state is StrategyState.FAILED
        assert "no answer" in host.strategies.strategy("s").error
        await until(lambda: not resting(host))  # it had reached the venue


async def test_an_order_that_passed_the_cancel_is_asked_for_again(trader, monkeypatch):
    async with trader() as host:
        await running(host)
        gateway_, asked = venue(host), []
        cancel = gateway_.cancel_order
        monkeypatch.setattr(gateway_, "cancel_order", lambda req: asked.append(req) or len(asked) < 2 or cancel(req))
        gateway_.tick()
        await until(lambda: host.view.active_orders)
        await host.strategies.stop("s")
        assert len(asked) == 1  # and the venue did not hear it
        await until(lambda: not host.view.active_orders)
        assert len(asked) == 2


# --- an on_init that does not return ---


@pytest.mark.parametrize("class_name", ["LoopingOnInitStrategy", "StubbornOnInitStrategy"])
async def test_an_on_init_that_does_not_return_is_ended_and_the_next_one_gets_its_turn(trader, class_name):
    limits = {"init_limit_s": 0.3}
    async with trader(engine=limits) as host:
        await connected(host)
        await added(host, class_name=class_name)
        await added(host, name="next")
        await host.strategies.init("s")
        assert (await host.strategies.init("next", wait_s=15)).state is StrategyState.INITED
        held = host.strategies.strategy("s")
        assert held.state is StrategyState.FAILED
        assert "on_init did not return within 0.3 s" in held.error
        with pytest.raises(Conflict, match="vnpy-core quarantine release s"):
            await host.strategies.init("s")
    async with trader() as host:
        await connected(host)
        assert host.strategies.strategy("s").state is StrategyState.FAILED  # after the restart too
        host._quarantine.release("s")
        assert host.strategies.strategy("s").state is StrategyState.CREATED


# --- what is kept ---


async def test_all_of_a_strategy_outlives_a_restart_without_vnpys_files(trader, vnpy_home):
    async with trader() as host:
        await running(host)
        venue(host).tick()
        await until(lambda: host.view.active_orders)
        fill(host, next(iter(host.view.active_orders.values())), 1)
        await until(lambda: host.strategies.strategy("s").pos == 1)
        await host.strategies.edit("s", {"where": "on_bar"}, by="ann")
        await host.strategies.stop("s")
    for name in ("cta_strategy_setting.json", "cta_strategy_data.json"):
        (vnpy_home / ".vntrader" / name).unlink()
    async with trader() as host:
        back = host.strategies.strategy("s")
        assert (back.state, back.class_name, back.vt_symbol) == (StrategyState.CREATED, FAILING, RB)
        assert back.parameters == {"where": "on_bar"}
        assert (back.pos, back.attributed_pos, back.variables["ticks"]) == (1, 1, 1)
        await connected(host)
        inited = await host.strategies.init("s", wait_s=5)
        assert (inited.pos, inited.variables["ticks"]) == (1, 1)


async def test_one_that_was_removed_is_not_brought_back_by_the_configuration(trader, capsys):
    strategies = {"s": configured(FAILING, auto_init=False)}
    async with trader(strategies=strategies) as host:
        assert host.strategies.strategy("s").state is StrategyState.CREATED
        await host.strategies.remove("s", by="ann")
        assert host.strategies.strategies() == []
        assert "s" not in host.view.strategies
    capsys.readouterr()
    async with trader(strategies=strategies) as host:
        assert host.strategies.strategies() == []
        assert "POST /strategies brings it back" in capsys.readouterr().out
        await added(host)
    async with trader(strategies=strategies) as host:
        assert host.strategies.strategy("s").pos == 0


async def test_the_configuration_says_what_starts_until_somebody_else_does(trader):
    def with_auto_start(auto_start: bool) -> dict[str, StrategySettings]:
        return {"s": configured(FAILING, auto_start=auto_start, auto_init=False)}

    async with trader(strategies=with_auto_start(False)) as host:
        assert not host.strategies.strategy("s").auto_start
    async with trader(strategies=with_auto_start(True)) as host:
        await until(lambda: host.strategies.strategy("s").state is StrategyState.RUNNING)
        assert (await host.strategies.set_auto_start("s", False, by="ann")).auto_start is False
    async with trader(strategies=with_auto_start(True)) as host:
        await connected(host)
        await asyncio.sleep(0.2)
        assert host.strategies.strategy("s").state is StrategyState.CREATED
        await host.strategies.set_auto_start("s", True, by="ann")
    async with trader() as host:
        await until(lambda: host.strategies.strategy("s").state is StrategyState.RUNNING)


async def test_one_whose_class_is_gone_is_there_failed_and_comes_back_with_its_class(trader, vnpy_home, tmp_path):
    async with trader() as host:
        await added(host)
    folder = tmp_path / "strategies"
    folder.mkdir()

    def look_there(host) -> None:
        install = host.strategies.install

        def installed():
            undo = install()
            if undo is not None:
                host.strategies.cta.classes._folders["strategies"] = folder
            return undo

        host.strategies.install = installed

    async with trader(before=look_there) as host:
        gone = host.strategies.strategy("s")
        assert (gone.state, gone.class_name, gone.parameters) == (StrategyState.FAILED, FAILING, {"where": ""})
        assert "there is no strategy class FailingStrategy" in gone.error
        await until(lambda: host.view.strategies.get("s") == gone)
        for refused in (host.strategies.init("s"), host.strategies.move("s", RU, by="ann")):
            with pytest.raises(Conflict, match="could not be made"):
                await refused
        with pytest.raises(Conflict, match="already"):
            await added(host)
        (folder / "failing.py").write_text((vnpy_home / "strategies" / "failing_strategies.py").read_text())
        assert FAILING in (await host.strategies.reload()).loaded
        assert host.strategies.strategy("s").state is StrategyState.CREATED


async def test_one_that_could_not_be_made_is_neither_kept_nor_held_against_it_later(trader, vnpy_home):
    unfinished = vnpy_home / "unfinished"
    unfinished.touch()
    strategies = {"s": configured("UnfinishedStrategy", auto_init=False)}
    try:
        async with trader(strategies=strategies) as host:
            assert host.strategies.strategies() == []
            with pytest.raises(ValidationFailed, match="no attribute 'total'"):
                await added(host, name="t", class_name="UnfinishedStrategy")
    finally:
        unfinished.unlink()
    async with trader(strategies=strategies) as host:
        [made] = host.strategies.strategies()
        assert (made.strategy_name, made.state) == ("s", StrategyState.CREATED)


async def test_one_that_cannot_be_made_after_a_restart_keeps_its_pos_until_it_can(trader, vnpy_home):
    async with trader() as host:
        await connected(host)
        await added(host, class_name="UnfinishedStrategy")
        await host.strategies.init("s", wait_s=5)
        strategy = host.strategies.cta.engine.strategies["s"]
        strategy.total = 7
        await host._commands.run(lambda: host.strategies.cta.engine.sync_strategy_data(strategy))
    unfinished = vnpy_home / "unfinished"
    unfinished.touch()
    try:
        async with trader() as host:
            await host.strategies.reload()
            broken = host.strategies.strategy("s")
            assert (broken.state, broken.variables["total"]) == (StrategyState.FAILED, 7)
            assert "no attribute 'total'" in broken.error
            unfinished.unlink()
            await host.strategies.reload()
            assert host.strategies.strategy("s").state is StrategyState.CREATED
    finally:
        unfinished.unlink(missing_ok=True)
    async with trader() as host:
        await connected(host)
        assert (await host.strategies.init("s", wait_s=5)).variables["total"] == 7


async def test_one_that_could_not_be_made_has_its_orders_and_fills_of_meanwhile_when_it_can(trader, vnpy_home):
    unfinished = vnpy_home / "unfinished"
    async with trader() as host:
        await connected(host)
        await added(host, class_name="UnfinishedStrategy")
    unfinished.touch()
    try:
        async with trader() as host:
            await connected(host)
            assert host.strategies.strategy("s").state is StrategyState.FAILED
            sent = (await host.submit_order(order(reference="CtaStrategy_s", volume=3))).order
            fill(host, sent, 1, "1")
            await until(lambda: len(host.view.trades) == 1)
            unfinished.unlink()
            await host.strategies.reload()
            found = host.strategies.strategy("s")
            assert (found.pos, found.attributed_pos) == (1, 1)
            fill(host, sent, 1, "2")
            await until(lambda: host.strategies.strategy("s").pos == 2)
            assert host.strategies.strategy("s").attributed_pos == 2
    finally:
        unfinished.unlink(missing_ok=True)
    async with trader() as host:
        assert host.strategies.strategy("s").pos == 2


async def test_one_that_exists_keeps_its_code_when_its_file_is_edited(trader, vnpy_home, tmp_path):
    source = (vnpy_home / "strategies" / "failing_strategies.py").read_text()
    async with trader() as host:
        await running(host)
        folder = host.strategies.cta.classes._folders["strategies"] = tmp_path / "strategies"
        folder.mkdir()
        (folder / "failing_strategies.py").write_text(source.replace("self.ticks += 1", "self.ticks += 100"))
        reloaded = await host.strategies.reload()
        assert FAILING in reloaded.changed
        assert reloaded.kept == ["s"]
        assert host.strategies.strategy("s").class_is_old
        await until(lambda: host.view.strategies["s"].class_is_old)
        venue(host).tick()
        await until(lambda: host.strategies.strategy("s").variables["ticks"] == 1)


# --- changing them ---


async def test_a_running_one_has_new_parameters_at_its_next_callback(trader, vnpy_home):
    async with trader() as host:
        await running(host)
        venue(host).tick()
        await until(lambda: host.strategies.strategy("s").variables["bars"] == 1)
        edited = await host.strategies.edit("s", {"where": "on_bar"}, by="ann")
        assert (edited.state, edited.parameters) == (StrategyState.RUNNING, {"where": "on_bar"})
        venue(host).tick()
        await until(lambda: host.strategies.strategy("s").state is StrategyState.FAILED)
    saved = json.loads((vnpy_home / ".vntrader" / "cta_strategy_setting.json").read_text())
    assert saved["s"]["setting"] == {"where": "on_bar"}


async def test_parameters_that_it_does_not_take_leave_those_that_it_had(trader):
    async with trader() as host:
        await added(host, class_name="PickyStrategy")
        with pytest.raises(ValidationFailed, match="no such window"):
            await host.strategies.edit("s", {"window": -1}, by="ann")
        assert host.strategies.strategy("s").parameters == {"window": 10}


async def test_parameters_that_were_refused_are_not_those_of_the_next_start(trader):
    async with trader() as host:
        await added(host)
        host.strategies.cta.engine.strategies["s"].variables.append("nothing")
        with pytest.raises(ValidationFailed, match="nothing"):
            await host.strategies.edit("s", {"where": "on_init"}, by="ann")
    async with trader() as host:
        assert host.strategies.strategy("s").parameters == {"where": ""}


async def test_one_that_is_removed_leaves_nothing_that_trades_or_counts(trader, vnpy_home):
    async with trader() as host:
        await running(host)
        venue(host).tick()
        await until(lambda: len(resting(host)) == 2)
        order = next(iter(host.view.active_orders.values()))
        with pytest.raises(Conflict, match="stop it first"):
            await host.strategies.remove("s", by="ann")
        await host.strategies.stop("s")
        await until(lambda: not resting(host))
        await host.strategies.remove("s", by="ann")
        with pytest.raises(NotFound):
            host.strategies.strategy("s")
        fill(host, order, 1)  # late: it was on its way as the cancel came
        venue(host).tick(price=3200)
        await until(lambda: host.view.trades)
        await host._settle()
        assert host.status().handler_errors == 0
        assert "s" not in host.view.strategies
        assert "s" not in host.strategies.cta.engine.strategy_data
    saved = json.loads((vnpy_home / ".vntrader" / "cta_strategy_data.json").read_text())
    assert "s" not in saved


async def test_one_that_is_moved_takes_its_pos_along_and_trades_the_other_contract(trader, vnpy_home):
    async with trader() as host:
        await running(host)
        venue(host).tick()
        await until(lambda: len(resting(host)) == 2)
        with pytest.raises(Conflict, match="waits for orders"):
            await host.strategies.move("s", RU, by="ann")
        fill(host, next(iter(host.view.active_orders.values())), 1)
        await until(lambda: host.strategies.strategy("s").pos == 1)
        await host.strategies.stop("s")
        await until(lambda: not resting(host))
        moved = await host.strategies.move("s", RU, by="ann")
        assert (moved.state, moved.vt_symbol, moved.pos) == (StrategyState.CREATED, RU, 1)
        assert (moved.attributed_pos, moved.parameters, moved.variables["ticks"]) == (1, {"where": ""}, 1)
        await host.strategies.init("s", wait_s=5)
        await host.strategies.start("s")
        assert RU in venue(host).subscribed
        venue(host).tick()
        venue(host).tick("ru2701")
        await until(lambda: host.strategies.strategy("s").variables["ticks"] == 2)
        await host.strategies.stop("s")
    saved = json.loads((vnpy_home / ".vntrader" / "cta_strategy_setting.json").read_text())
    assert saved["s"]["vt_symbol"] == RU
    async with trader() as host:
        back = host.strategies.strategy("s")
        assert (back.vt_symbol, back.pos, back.variables["ticks"]) == (RU, 1, 2)


# --- logs, and a host that was there before us ---


async def test_each_line_says_whose_it_is(trader):
    async with trader() as host:
        await connected(host)
        await added(host)
        await host.strategies.init("s", wait_s=5)
        await host._settle()
        lines = [m.data for m in host.messages if m.topic == "strategy.log"]
        own = [line.msg for line in lines if line.strategy_name == "s"]
        assert own == ["is being initialised", "on_init says hello", "is initialised"]


async def test_one_that_shows_itself_all_the_time_is_published_now_and_then_and_as_it_is_at_last(trader):
    async with trader() as host:
        await connected(host)
        await added(host, class_name="ShowingStrategy")
        await host.strategies.init("s", wait_s=5)
        for _ in range(500):
            venue(host).tick()
        await until(lambda: host.view.strategies["s"].variables["ticks"] == 500)
        ticks = [m.data.variables["ticks"] for m in host.messages if m.topic == "strategy.updated"]
        assert len(ticks) < 100
        assert ticks == sorted(ticks)


async def test_strategies_of_a_running_engine_are_served_and_left_as_they_were(run_host, vnpy_home):  # noqa: F811
    from vnpy.event import EventEngine
    from vnpy.trader.engine import MainEngine
    from vnpy_ctastrategy import CtaStrategyApp

    main_engine = MainEngine(EventEngine())
    try:
        cta = main_engine.add_app(CtaStrategyApp)
        cta.init_engine()
        cta.add_strategy(FAILING, "s", RB, {"where": "on_tick"})
        before = dict(vars(cta))
        main_engine.add_gateway(HoldingGateway, "P").connect({})
        async with run_host(main_engine=main_engine) as host:
            await connected(host)
            assert not host.strategies.strategy("s").class_is_old
            await host.strategies.init("s", wait_s=5)
            await host.strategies.start("s")
            venue(host).tick()
            await until(lambda: host.strategies.strategy("s").state is StrategyState.FAILED)
            await until(lambda: [order.status for order in host.view.orders()] == [Status.CANCELLED])
            cta.add_strategy(FAILING, "later", RB, {})
            await until(lambda: host.strategies.cta.memory.setting("later") is not None)
        assert set(cta.strategies) == {"s", "later"}
        assert vars(cta).keys() == before.keys()
        saved = json.loads((vnpy_home / ".vntrader" / "cta_strategy_setting.json").read_text())
        assert set(saved) == {"s", "later"}
    finally:
        main_engine.close()
