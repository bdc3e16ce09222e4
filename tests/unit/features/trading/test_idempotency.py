import asyncio

import msgspec
import pytest
from structlog.testing import capture_logs

from testkit.clock import FakeClock
from testkit.fake_engine import FakeEngine
from vnpy_core.domain.commands import SubmittedOrder
from vnpy_core.domain.enums import Direction
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
def service(engine):
    return TradingService(engine, engine.view, FakeClock())


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


async def test_only_the_newest_keys_are_kept(engine):
    keys = OrderKeys(capacity=2)

    async def submit() -> SubmittedOrder:
        return SubmittedOrder(order=engine.add_order(_command()))

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


def _command():
    from vnpy_core.domain.commands import SubmitOrder
    from vnpy_core.domain.enums import Offset, OrderType

    return SubmitOrder(
        client_order_id="x",
        gateway_name="PAPER",
        symbol="rb2505",
        exchange="SHFE",
        direction=Direction.LONG,
        offset=Offset.NONE,
        type=OrderType.LIMIT,
        volume=1.0,
    )
