import asyncio

import msgspec
import pytest
from structlog.testing import capture_logs

from testkit.clock import FakeClock
from testkit.fake_engine import FakeEngine
from vnpy_core.domain.commands import SubmitOrder, SubmittedOrder
from vnpy_core.domain.enums import Direction, IntentState, Offset, OrderType, Status
from vnpy_core.domain.errors import (
    CoreError,
    GatewayNotConnected,
    GatewayRefused,
    IdempotencyMismatch,
    OutcomeUnknown,
    Overloaded,
    RiskDenied,
    TradingHalted,
    ValidationFailed,
)
from vnpy_core.features.trading.idempotency import Answer, OrderKeys, sortable_ids
from vnpy_core.features.trading.orders import OrderRequest
from vnpy_core.features.trading.service import TradingService

BUY = OrderRequest(symbol="rb2505", exchange="SHFE", direction=Direction.LONG, volume=1.0, price=3500.0)
SELL = msgspec.structs.replace(BUY, direction=Direction.SHORT)


@pytest.fixture
def engine():
    engine = FakeEngine()
    engine.add_gateway()
    engine.add_contract()
    return engine


@pytest.fixture
def service(engine, store):
    return TradingService(engine, engine.view, FakeClock(), store=store)


async def test_the_same_key_and_request_send_once(engine, service):
    first = await service.place(BUY, "k")
    again = await service.place(BUY, "k")
    assert (first.replayed, again.replayed) == (False, True)
    assert again.outcome == first.outcome
    assert len(engine.commands) == 1


async def test_the_replay_is_the_first_answer_though_the_order_went_on(engine, service):
    first = await service.place(BUY, "k")
    engine.update_order(first.outcome.order.vt_orderid, traded=1.0)
    assert (await service.place(BUY, "k")).outcome.order.traded == 0.0


async def test_the_same_key_for_another_request_is_refused(engine, service):
    await service.place(BUY, "k")
    with pytest.raises(IdempotencyMismatch):
        await service.place(SELL, "k")
    assert len(engine.commands) == 1


async def test_a_concurrent_request_waits_for_the_first(engine, service):
    engine.hold = asyncio.Event()
    first = asyncio.create_task(service.place(BUY, "k"))
    second = asyncio.create_task(service.place(BUY, "k"))
    await asyncio.sleep(0.01)
    assert not second.done()
    engine.hold.set()
    assert (await first).outcome == (await second).outcome
    assert len(engine.commands) == 1


async def test_a_concurrent_request_shares_the_denial_of_the_first(engine, service):
    engine.hold, engine.next_errors = asyncio.Event(), [RiskDenied("too big", rule="size")]
    both = [asyncio.create_task(service.place(BUY, "k")) for _ in range(2)]
    await asyncio.sleep(0.01)
    engine.hold.set()
    assert [type(e) for e in await asyncio.gather(*both, return_exceptions=True)] == [RiskDenied, RiskDenied]


async def test_a_caller_that_goes_away_neither_stops_the_order_nor_frees_the_key(engine, service):
    engine.hold = asyncio.Event()
    first = asyncio.create_task(service.place(BUY, "k"))
    await asyncio.sleep(0.01)
    first.cancel()
    second = asyncio.create_task(service.place(BUY, "k"))
    await asyncio.sleep(0.01)
    engine.hold.set()
    assert (await second).replayed
    assert len(engine.commands) == 1


@pytest.mark.parametrize("denial", [RiskDenied, TradingHalted, GatewayNotConnected, GatewayRefused, Overloaded])
async def test_a_denial_sent_nothing_so_its_key_may_be_tried_again(engine, service, denial):
    engine.next_errors = [denial("not now")]
    with pytest.raises(denial):
        await service.place(BUY, "k")
    assert not (await service.place(BUY, "k")).replayed
    assert len(engine.commands) == 2


async def test_a_wrong_request_does_not_use_up_its_key(engine, service):
    with pytest.raises(ValidationFailed):
        await service.place(msgspec.structs.replace(BUY, volume=0.0), "k")
    assert not (await service.place(BUY, "k")).replayed


async def test_an_unknown_outcome_is_remembered_and_never_sent_again(engine, service):
    engine.next_errors = [OutcomeUnknown("no word", vt_orderid="PAPER.1")]
    first, again = await service.place(BUY, "k"), await service.place(BUY, "k")
    assert isinstance(first.outcome, OutcomeUnknown)
    assert again.outcome is first.outcome
    assert again.replayed
    assert len(engine.commands) == 1


async def test_after_a_fault_of_ours_the_key_is_never_sent_again(engine, service):
    engine.next_errors = [RuntimeError("bug")]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="bug"):
            await service.place(BUY, "k")
    assert len(engine.commands) == 1


async def test_an_order_that_outlived_the_memory_of_its_key_is_answered_as_it_is_now(engine, service):
    first = await service.place(BUY, "k")
    engine.update_order(first.outcome.order.vt_orderid, traded=1.0)
    restarted = TradingService(engine, engine.view, FakeClock())
    again = await restarted.place(BUY, "k")
    assert (again.replayed, again.outcome.order.traded) == (True, 1.0)
    with pytest.raises(IdempotencyMismatch):
        await restarted.place(SELL, "k")
    assert len(engine.commands) == 1


# After a restart: what the memory lost, the journal knows


@pytest.mark.parametrize("state", [None, IntentState.UNKNOWN])
async def test_an_intent_of_which_nobody_knows_what_became_is_never_sent_again(engine, service, state):
    engine.add_intent(command("k"), state)
    for _ in range(2):
        answer = await service.place(BUY, "k")
        assert isinstance(answer.outcome, OutcomeUnknown)
        assert (answer.replayed, answer.outcome.extra) == (True, {"client_order_id": "k"})
    assert engine.commands == []


@pytest.mark.parametrize("state", [None, *IntentState])
async def test_the_key_of_an_intent_for_another_order_is_refused_unless_nothing_was_sent(engine, service, state):
    engine.add_intent(command("k"), state, "PAPER.1")
    if state in (IntentState.DENIED, IntentState.REFUSED, IntentState.NOT_SENT):
        assert not (await service.place(SELL, "k")).replayed
    else:
        with pytest.raises(IdempotencyMismatch):
            await service.place(SELL, "k")
        assert engine.commands == []


@pytest.mark.parametrize("state", [IntentState.DENIED, IntentState.REFUSED, IntentState.NOT_SENT])
async def test_an_intent_that_was_never_sent_leaves_its_key_free(engine, service, state):
    engine.add_intent(command("k"), state)
    answer = await service.place(BUY, "k")
    assert not answer.replayed
    assert len(engine.commands) == 1


async def test_a_bound_intent_is_answered_with_its_order_from_the_view(engine, service):
    engine.add_intent(command("k"), IntentState.BOUND, "PAPER.1")
    known = engine.add_order(command("k"), client_order_id=None)
    assert known.vt_orderid == "PAPER.1"
    assert (await service.place(BUY, "k")) == Answer(SubmittedOrder(order=known), replayed=True)
    assert engine.commands == []


@pytest.mark.parametrize("other", [{"client_order_id": "other"}, {"client_order_id": None, "volume": 9.0}])
async def test_an_id_that_the_venue_used_again_is_not_taken_for_the_bound_order(engine, store, service, other):
    engine.add_intent(command("k"), IntentState.BOUND, "PAPER.1")
    mine = engine.add_order(command("k"), Status.ALLTRADED)
    store.take(mine)
    engine.add_order(command("x"), **other, vt_orderid="PAPER.1")
    assert (await service.place(BUY, "k")).outcome.order == mine


async def test_a_bound_intent_is_answered_with_its_order_from_the_store(engine, store, service):
    engine.add_intent(command("k"), IntentState.BOUND, "PAPER.1")
    engine.view.seed(complete_from=5)
    old = FakeEngine().add_order(command("k"), Status.ALLTRADED)
    store.take(old)
    store.seq = 5
    answer = await service.place(BUY, "k")
    assert (answer.outcome.order, answer.replayed) == (old, True)


async def test_a_bound_intent_whose_order_cannot_be_read_is_not_sent_again(engine, store, service):
    engine.add_intent(command("k"), IntentState.BOUND, "PAPER.1")
    engine.view.seed(complete_from=5)
    store.away = True
    answer = await service.place(BUY, "k")
    assert isinstance(answer.outcome, OutcomeUnknown)
    assert answer.outcome.extra == {"client_order_id": "k", "vt_orderid": "PAPER.1"}
    assert engine.commands == []


async def test_evidence_that_nothing_was_sent_frees_a_key_of_this_run_too(engine, service):
    engine.next_errors = [OutcomeUnknown("no word")]
    await service.place(BUY, "k")
    engine.add_intent(command("k"))
    assert (await service.place(BUY, "k")).replayed
    engine.add_intent(command("k"), IntentState.NOT_SENT)
    assert not (await service.place(BUY, "k")).replayed
    assert len(engine.commands) == 2


async def test_the_venues_own_words_for_an_order_do_not_make_another_order_of_it(engine, service):
    engine.add_intent(command("k"), IntentState.BOUND, "PAPER.1")
    shown = engine.add_order(command("k"), offset=Offset.OPEN, reference="")
    assert (await service.place(BUY, "k")).outcome.order == shown


async def test_a_closing_order_that_was_split_is_recognised_by_its_parts(engine, service):
    close = msgspec.structs.replace(BUY, offset=Offset.CLOSE, volume=5.0)
    parts = [("k", Offset.CLOSETODAY, 2.0), ("k.2", Offset.CLOSEYESTERDAY, 3.0)]
    for name, offset, volume in parts:
        part = msgspec.structs.replace(command(name), offset=offset, volume=volume)
        engine.add_intent(part, IntentState.BOUND, f"PAPER.{name}")
        engine.add_order(part)
    answer = await service.place(close, "k")
    assert [order.client_order_id for order in answer.outcome.children] == ["k", "k.2"]
    assert engine.commands == []
    with pytest.raises(IdempotencyMismatch):
        await service.place(msgspec.structs.replace(close, volume=1.0), "k")


async def test_only_the_newest_keys_are_kept(engine):
    keys = OrderKeys(capacity=2)

    async def submit() -> SubmittedOrder:
        return SubmittedOrder(order=engine.add_order(command("x")))

    for key in ("a", "b", "c"):
        await keys.once(key, BUY, submit)
    assert [key in keys for key in ("a", "b", "c")] == [False, True, True]


async def test_without_a_key_every_request_sends(engine, service):
    first, second = await service.place(BUY), await service.place(BUY)
    ids = [answer.outcome.order.client_order_id for answer in (first, second)]
    assert ids[0] != ids[1]
    assert len(engine.commands) == 2


def test_made_ids_sort_by_time_and_are_valid_keys():
    clock = FakeClock()
    make = sortable_ids(clock)
    early = make()
    clock.advance(0.001)
    assert early < make()
    assert len(early) == 32


async def test_a_batch_sends_in_order_and_waits_for_all_together(engine, service):
    engine.hold = asyncio.Event()
    prices = [float(3000 + i) for i in range(100)]
    batch = asyncio.create_task(
        service.place_all([(msgspec.structs.replace(BUY, price=price), None) for price in prices])
    )
    await asyncio.sleep(0.01)
    assert [command.price for command in engine.commands] == prices
    engine.hold.set()
    answers = await batch
    assert [answer.outcome.order.price for answer in answers] == prices


async def test_a_fault_in_one_item_of_a_batch_does_not_hide_the_others(engine, service):
    engine.next_errors = [None, RuntimeError("bug")]
    with capture_logs():
        answers = await service.place_all([(BUY, None), (BUY, "k"), (SELL, None)])
    assert [type(answer) for answer in answers] == [Answer, CoreError, Answer]
    assert answers[1].extra == {"client_order_id": "k"}


def command(client_order_id: str) -> SubmitOrder:
    return SubmitOrder(
        client_order_id=client_order_id,
        gateway_name="PAPER",
        symbol="rb2505",
        exchange="SHFE",
        direction=Direction.LONG,
        offset=Offset.NONE,
        type=OrderType.LIMIT,
        volume=1.0,
        price=3500.0,
    )
