import threading
import time
from functools import partial
from itertools import count
from types import SimpleNamespace

import pytest
from vnpy.event import EventEngine
from vnpy.trader.constant import Direction, Exchange, Offset, OrderType, Product, Status
from vnpy.trader.engine import MainEngine
from vnpy.trader.object import ContractData, OrderRequest, QuoteRequest

from testkit.gateways import PlainGateway
from testkit.stage import StageWorld, order_event
from vnpy_core.bus import records, topics
from vnpy_core.domain import enums
from vnpy_core.domain.commands import SubmitOrder
from vnpy_core.domain.enums import HaltScope, IntentState
from vnpy_core.domain.errors import (
    GatewayNotReconciled,
    GatewayRefused,
    JournalFailed,
    OutcomeUnknown,
    RiskDenied,
    StorageFull,
    TradingHalted,
    ValidationFailed,
)
from vnpy_core.domain.events import Halt
from vnpy_core.engine.gate import IntentGate, Origin
from vnpy_core.engine.stage import STALL_S, Stage
from vnpy_core.kit.clock import SystemClock


class FakeGateway:
    """Sends by `answer`, and notes what the journal had when it was called."""

    gateway_name = "P"

    def __init__(self, world):
        self.world = world
        self.sent = []
        self.journal_at_send = []
        self.answer = lambda request: f"P.{len(self.sent)}"

    def send_order(self, request):
        return self._send(request)

    def send_quote(self, request):
        return self._send(request)

    def _send(self, request):
        self.sent.append(request)
        self.journal_at_send.append(list(self.world.kinds))
        return self.answer(request)


def require_account(world, gateway_name):
    if holder := world.holders.get(gateway_name):
        raise TradingHalted(f"another core, {holder}, trades account 1", scope="gateway", by=holder)


@pytest.fixture
def world():
    """A stage with its own threads, a gate, and one gateway behind it."""
    world = StageWorld()
    world.clock = SystemClock()
    world.stage = Stage(world.journal, world.books, world.clock, world.forwarded.append, world.flow)
    world.stage.start()
    world.reasons, world.log, world.holders, world.told = {}, [], {}, []
    numbers = count(1)
    world.gate = IntentGate(
        world.stage, world.clock, new_id=lambda: f"g{next(numbers)}",
        reconciliation=lambda name: world.reasons.get(name, ""),
        write_log=lambda text, source: world.log.append((source, text)),
        require_account=partial(require_account, world),
        tell_strategy=lambda name, text: world.told.append((name, text)),
    )  # fmt: skip
    world.gateway = FakeGateway(world)
    world.gate.install(world.gateway)
    yield world
    world.journal.go.set()
    world.stage.stop(5)


def request(**changes) -> OrderRequest:
    values = {
        "symbol": "rb", "exchange": Exchange.SHFE, "direction": Direction.LONG, "type": OrderType.LIMIT,
        "volume": 10, "price": 100, "offset": Offset.OPEN,
    }  # fmt: skip
    return OrderRequest(**{**values, **changes})


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def outcomes(world):
    assert world.stage.settle(5)
    return [(o.client_order_id, o.state) for o in world.rows(records.INTENT_OUTCOME)]


def submit(**changes) -> SubmitOrder:
    values = {
        "client_order_id": "mine", "gateway_name": "P", "symbol": "rb", "exchange": "SHFE",
        "direction": enums.Direction.LONG, "offset": enums.Offset.OPEN, "type": enums.OrderType.LIMIT,
        "price": 100.0, "volume": 10.0,
    }  # fmt: skip
    return SubmitOrder(**{**values, **changes})


# --- intent before send ---


def test_the_intent_is_durable_before_the_gateway_is_called(world):
    assert world.gateway.send_order(request(reference="CtaStrategy_s")) == "P.1"
    assert world.gateway.journal_at_send == [[records.ORDER_INTENT]]
    intent = world.rows(records.ORDER_INTENT)[0]
    assert (intent.client_order_id, intent.gateway_name, intent.vt_symbol) == ("g1", "P", "rb.SHFE")
    assert (intent.price, intent.volume, intent.strategy_name) == (100.0, 10.0, "s")
    assert outcomes(world) == [("g1", IntentState.BOUND)]


def test_a_quote_passes_the_same_way(world):
    quote = QuoteRequest(symbol="rb", exchange=Exchange.SHFE, bid_price=1.0, bid_volume=1, ask_price=2.0, ask_volume=1)
    assert world.gateway.send_quote(quote) == "P.1"
    assert world.gateway.journal_at_send == [[records.QUOTE_INTENT]]
    assert outcomes(world) == [("g1", IntentState.BOUND)]


def test_a_commit_that_hangs_refuses_within_its_time_closes_the_intent_and_the_next_ones_at_once(world):
    world.journal.go.clear()
    started = time.monotonic()
    assert world.gateway.send_order(request()) == ""
    assert STALL_S * 0.9 < time.monotonic() - started < STALL_S + 1
    assert isinstance(world.gate.take_refusal(), JournalFailed)
    assert world.gate.take_refusal() is None
    started = time.monotonic()
    assert world.gateway.send_order(request()) == ""
    assert time.monotonic() - started < STALL_S / 2
    assert world.gateway.sent == []
    assert world.log[0][0] == "P"
    world.journal.go.set()
    until(lambda: not world.stage.refusal)
    assert outcomes(world) == [("g1", IntentState.DENIED)]
    assert world.gateway.send_order(request()) == "P.1"


def test_a_full_disk_refuses(world):
    world.journal.is_full = True
    assert world.gateway.send_order(request()) == ""
    assert isinstance(world.gate.take_refusal(), StorageFull)
    assert world.gateway.sent == []
    assert world.gateway.send_order(request()) == ""
    assert isinstance(world.gate.take_refusal(), StorageFull)
    world.journal.is_full = False
    until(lambda: not world.stage.refusal)
    assert outcomes(world) == [("g1", IntentState.DENIED)]
    assert world.gateway.send_order(request()) == "P.1"


def test_a_journal_at_its_limit_refuses(world):
    world.journal.refusal = "the journal is at its limit"
    until(lambda: world.stage.refusal)
    assert world.gateway.send_order(request()) == ""
    assert isinstance(world.gate.take_refusal(), JournalFailed)


# --- the answer ---


def test_an_event_of_another_thread_before_the_answer_waits_and_gets_the_callers_name(world):
    def answer(_):
        thread = threading.Thread(target=world.stage.put, args=(order_event("1"),))
        thread.start()
        thread.join()
        time.sleep(0.05)
        assert world.forwarded == []
        return "P.1"

    world.gateway.answer = answer
    assert world.gateway.send_order(request()) == "P.1"
    until(lambda: world.forwarded)
    assert world.rows(topics.ORDER_UPDATED)[0].client_order_id == "g1"


def test_a_gateway_that_takes_nothing_closes_the_intent(world):
    world.gateway.answer = lambda _: ""
    assert world.gateway.send_order(request()) == ""
    assert outcomes(world) == [("g1", IntentState.REFUSED)]


def test_a_gateway_that_shows_the_order_and_answers_nothing_did_send_it(world):
    def answer(_):
        world.stage.put(order_event("9", Status.REJECTED))
        return ""

    world.gateway.answer = answer
    assert world.gateway.send_order(request()) == ""
    assert outcomes(world) == [("g1", IntentState.BOUND)]
    assert world.rows(topics.ORDER_UPDATED)[0].client_order_id == "g1"


def fails_with(error):
    def answer(_):
        raise error

    return answer


def test_a_gateway_that_raises_leaves_the_intent_open_because_it_may_have_sent_it(world):
    world.gateway.answer = fails_with(OSError("the socket broke"))
    with pytest.raises(OSError, match="socket"):
        world.gateway.send_order(request())
    assert outcomes(world) == []
    assert [i.client_order_id for i in world.stage.sequencer.open_orphans("P")] == ["g1"]


def test_a_gateway_that_shows_the_order_and_raises_did_send_it(world):
    def answer(_):
        world.stage.put(order_event("9"))
        raise OSError("the socket broke")

    world.gateway.answer = answer
    with pytest.raises(OSError, match="socket"):
        world.gateway.send_order(request())
    assert outcomes(world) == [("g1", IntentState.BOUND)]
    assert world.stage.sequencer.open_orphans("P") == []


@pytest.mark.parametrize("error", [GatewayRefused("closed"), StorageFull("full"), ValidationFailed("wrong")])
def test_one_of_our_own_gateways_that_says_it_sent_nothing_closes_the_intent(world, error):
    world.gateway.answer = fails_with(error)
    with pytest.raises(type(error)):
        world.gateway.send_order(request())
    assert outcomes(world) == [("g1", IntentState.REFUSED)]


def test_one_that_does_not_know_leaves_it_open(world):
    world.gateway.answer = fails_with(OutcomeUnknown("no answer"))
    with pytest.raises(OutcomeUnknown):
        world.gateway.send_order(request())
    assert outcomes(world) == []


def test_a_system_exit_inside_a_gateway_leaves_the_intent_open(world):
    world.gateway.answer = fails_with(SystemExit())
    with pytest.raises(SystemExit):
        world.gateway.send_order(request())
    assert len(world.stage.sequencer.open_orphans("P")) == 1
    assert not world.stage.sequencer.is_calling("P")


def test_a_sender_that_is_ended_while_it_waits_for_the_journal_has_sent_nothing(world, monkeypatch):
    journal = world.gate.journal

    def interrupted(intent):
        ticket = journal(intent)
        monkeypatch.setattr(ticket, "result", fails_with(KeyboardInterrupt()))
        return ticket

    monkeypatch.setattr(world.gate, "journal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.gateway.send_order(request())
    assert world.gateway.sent == []
    assert outcomes(world) == [("g1", IntentState.DENIED)]


# --- what refuses ---


def test_a_halt_refuses_before_anything_is_journaled(world):
    world.gate.halts = {"all": Halt(scope=HaltScope.ALL, active=True, reason="r", by="ann", at=world.clock.now())}
    assert world.gateway.send_order(request()) == ""
    assert isinstance(world.gate.take_refusal(), TradingHalted)
    assert (world.gateway.sent, world.journal.rows) == ([], [])


def test_a_halt_that_comes_while_the_intent_is_journaled_refuses(world):
    halt = Halt(scope=HaltScope.ALL, active=True, at=world.clock.now())
    append = world.journal.append

    def append_and_halt(rows):
        append(rows)
        world.gate.halts = {"all": halt}

    world.journal.append = append_and_halt
    assert world.gateway.send_order(request()) == ""
    assert world.gateway.sent == []
    assert outcomes(world) == [("g1", IntentState.DENIED)]


def test_a_gateway_that_is_not_reconciled_refuses_and_another_one_does_not(world):
    world.reasons["P"] = "not compared yet"
    assert world.gateway.send_order(request()) == ""
    assert isinstance(world.gate.take_refusal(), GatewayNotReconciled)
    world.gate.install(other := FakeGateway(world), "Q")
    assert other.send_order(request()) == "P.1"


def test_a_strategy_is_told_why_its_order_was_not_sent(world):
    world.reasons["P"] = "not compared yet"
    assert world.gateway.send_order(request(reference="CtaStrategy_s")) == ""
    assert world.gateway.send_order(request()) == ""
    [(name, text)] = world.told
    assert name == "s"
    assert text.startswith("rb.SHFE: not sent: ")


def test_an_account_that_another_core_trades_refuses_and_says_so_and_another_gateway_does_not(world):
    world.holders["P"] = "core-2"
    assert world.gateway.send_order(request()) == ""
    refusal = world.gate.take_refusal()
    assert isinstance(refusal, TradingHalted)
    assert refusal.extra == {"scope": "gateway", "by": "core-2"}
    assert (world.gateway.sent, world.journal.rows) == ([], [])
    assert world.log == [("P", "vnpy_core: rb.SHFE: not sent: another core, core-2, trades account 1")]
    world.gate.install(other := FakeGateway(world), "Q")
    assert other.send_order(request()) == "P.1"
    world.holders.clear()
    assert world.gateway.send_order(request()) == "P.1"


def test_an_account_that_is_lost_while_the_intent_is_journaled_refuses(world):
    append = world.journal.append

    def append_and_lose(rows):
        append(rows)
        world.holders["P"] = "core-2"

    world.journal.append = append_and_lose
    assert world.gateway.send_order(request()) == ""
    assert world.gateway.sent == []
    assert outcomes(world) == [("g1", IntentState.DENIED)]


@pytest.mark.parametrize("changes", [{"price": float("nan")}, {"volume": float("inf")}])
def test_numbers_that_are_none_are_refused(world, changes):
    assert world.gateway.send_order(request(**changes)) == ""
    assert isinstance(world.gate.take_refusal(), RiskDenied)
    assert world.journal.rows == []


# --- commands ---


def test_a_command_whose_intent_is_durable_is_sent_under_its_name_without_another(world):
    intent = world.gate.intent_of(submit())
    world.gate.journal(intent).result(5)
    with world.gate.sending(Origin("mine", intent)):
        assert world.gateway.send_order(request()) == "P.1"
    assert world.keys(records.ORDER_INTENT) == ["mine"]
    assert outcomes(world) == [("mine", IntentState.BOUND)]


def test_a_command_that_is_refused_at_the_gate_closes_its_intent(world):
    intent = world.gate.intent_of(submit())
    world.gate.journal(intent).result(5)
    world.gate.halts = {"all": Halt(scope=HaltScope.ALL, active=True, at=world.clock.now())}
    with world.gate.sending(Origin("mine", intent)):
        assert world.gateway.send_order(request()) == ""
    assert outcomes(world) == [("mine", IntentState.DENIED)]


def test_the_parts_of_one_command_have_names_of_their_own(world):
    with world.gate.sending(Origin("mine")):
        world.gateway.send_order(request(volume=1))
        world.gateway.send_order(request(volume=2))
    world.gateway.send_order(request())
    assert world.keys(records.ORDER_INTENT) == ["mine", "mine.2", "g1"]


def test_the_intent_of_a_command_names_its_contract_as_vnpy_does(world):
    intent = world.gate.intent_of(submit(symbol="FDAX", exchange="EUREX"))
    sent = request(symbol="FDAX", exchange=Exchange.EUREX)
    assert (intent.exchange, intent.vt_symbol) == ("EUREX", sent.vt_symbol)


def test_the_command_of_one_thread_names_no_order_of_another(world):
    with world.gate.sending(Origin("mine")):
        thread = threading.Thread(target=world.gateway.send_order, args=(request(),))
        thread.start()
        thread.join()
    assert world.keys(records.ORDER_INTENT) == ["g1"]


# --- on and off ---


def test_uninstalling_gives_every_gateway_its_own_methods_back(world):
    wrapped = world.gateway.send_order
    world.gate.install(world.gateway)
    assert world.gateway.send_order is wrapped
    world.gate.uninstall()
    assert "send_order" not in vars(world.gateway)
    assert wrapped(request()) == "P.1"  # who still holds the wrap reaches the gateway
    assert world.journal.rows == []


def test_a_wrap_that_was_there_before_comes_back(world):
    own = FakeGateway(world)
    own.send_order = before = lambda request: "P.77"
    world.gate.install(own, "Q")
    assert own.send_order(request()) == "P.77"
    world.gate.uninstall()
    assert own.send_order is before


def test_a_gateway_that_was_made_anew_is_wrapped_and_the_old_one_forgotten(world):
    for _ in range(3):
        fresh = FakeGateway(world)
        world.gate.install(fresh)
    assert fresh.send_order(request()) == "P.1"
    assert world.keys(records.ORDER_INTENT) == ["g1"]
    assert len(world.gate._wrapped) == 1


# --- PaperAccount and RiskManager, in both orders ---


@pytest.fixture
def trader(world, vnpy_home):
    """A real MainEngine whose events go through the stage; `load("RiskManager", …)` adds apps in this order."""
    for path in (vnpy_home / ".vntrader").glob("*.json"):
        path.unlink()
    event_engine = EventEngine()
    put = event_engine.put
    world.stage._forward = put
    event_engine.put = world.stage.put
    main_engine = MainEngine(event_engine)
    main_engine.add_gateway(PlainGateway, "P1")

    def load(*names):
        from vnpy_paperaccount import PaperAccountApp
        from vnpy_riskmanager import RiskManagerApp

        for name in names:
            main_engine.add_app({"PaperAccount": PaperAccountApp, "RiskManager": RiskManagerApp}[name])
        event_engine.put(contract_event())
        until(lambda: main_engine.get_contract("rb.SHFE"))

    yield SimpleNamespace(main=main_engine, load=load)
    event_engine.put = put
    main_engine.close()


def contract_event():
    from vnpy.event import Event

    contract = ContractData(
        gateway_name="P1", symbol="rb", exchange=Exchange.SHFE, name="rb", product=Product.FUTURES, size=10, pricetick=1
    )
    return Event("eContract.", contract)


@pytest.mark.parametrize("apps", [("RiskManager", "PaperAccount"), ("PaperAccount", "RiskManager")])
@pytest.mark.parametrize("installed", ["between", "after"])
def test_orders_to_paper_account_pass_the_gate_in_whichever_order_the_apps_are_loaded(world, trader, apps, installed):
    world.gate.install(trader.main.get_gateway("P1"))
    for app in apps:
        trader.load(app)
        if installed == "between":
            world.gate.install_paper_account(trader.main)
    world.gate.install_paper_account(trader.main)
    vt_orderid = trader.main.send_order(request(), "P1")
    assert vt_orderid.startswith("PAPER.")
    assert world.keys(records.ORDER_INTENT) == ["g1"]
    assert outcomes(world) == [("g1", IntentState.BOUND)]
    until(lambda: world.rows(topics.ORDER_UPDATED))
    assert world.rows(topics.ORDER_UPDATED)[0].client_order_id == "g1"
    world.gate.halts = {"all": Halt(scope=HaltScope.ALL, active=True, at=world.clock.now())}
    assert trader.main.send_order(request(), "P1") == ""
    assert len(world.rows(records.ORDER_INTENT)) == 1


def test_what_the_gate_did_to_paper_account_is_undone(world, trader):
    trader.load("PaperAccount", "RiskManager")
    engine, risk = trader.main.engines["PaperAccount"], trader.main.engines["RiskManager"]
    before = (trader.main.send_order, trader.main.send_quote, risk._send_order)
    world.gate.install_paper_account(trader.main)
    assert risk._send_order != before[2]
    world.gate.uninstall()
    assert (trader.main.send_order, trader.main.send_quote, risk._send_order) == before
    assert {"send_order", "send_quote"}.isdisjoint(vars(engine))


def test_orders_to_a_gateway_pass_the_gate_below_risk_manager(world, trader):
    trader.load("RiskManager")
    world.gate.install(trader.main.get_gateway("P1"))
    assert trader.main.send_order(request(), "P1") == "P1.000001"
    assert trader.main.send_order(request(volume=100_000), "P1") == ""  # RiskManager's, before the gate
    assert world.keys(records.ORDER_INTENT) == ["g1"]
