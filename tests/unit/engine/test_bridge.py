import asyncio
import threading
from datetime import UTC, datetime

import msgspec
import pytest
from vnpy.event import Event
from vnpy.trader.constant import Direction, Exchange, Status
from vnpy.trader.object import OrderData, TickData

from testkit.clock import FakeClock
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.read_view import ReadView
from vnpy_core.engine import bridge as bridge_module
from vnpy_core.engine import translate
from vnpy_core.engine.bridge import EventBridge
from vnpy_core.engine.event_engine import EventGuard, InterruptibleEventEngine
from vnpy_core.engine.sequencer import Staged
from vnpy_core.kit.flow import CreditFlow


@pytest.fixture
async def world():
    class World:
        engine = InterruptibleEventEngine()
        bus, view, flow = Bus(), ReadView(), CreditFlow()
        bridge = EventBridge(
            asyncio.get_running_loop(), bus, view, FakeClock(), flow, epoch="e1", seq=0,
        )  # fmt: skip

    World.detach = staticmethod(World.bridge.attach(World.engine))
    World.messages = []
    World.bus.subscribe(["*"], World.messages.append)
    World.engine.start()
    yield World
    await asyncio.to_thread(World.engine.stop)


def tick(symbol: str, price: float = 1.0) -> TickData:
    return TickData(
        gateway_name="P",
        symbol=symbol,
        exchange=Exchange.SHFE,
        last_price=price,
        datetime=datetime(2026, 1, 1, tzinfo=UTC),
    )


def order(number: int, status: Status = Status.NOTTRADED) -> OrderData:
    return OrderData(
        gateway_name="P", symbol="rb", exchange=Exchange.SHFE, orderid=str(number), status=status,
        direction=Direction.LONG, volume=1, price=1, reference="s",
    )  # fmt: skip


def staged(number: int, *, client_order_id: str | None = None) -> Event:
    """An order's event as the stage forwards it."""
    event = Event("eOrder.", order(number))
    data = translate.order(event.data, seq=number + 1, updated_at=datetime(2026, 1, 1, tzinfo=UTC))
    event.staged = Staged(msgspec.structs.replace(data, client_order_id=client_order_id, strategy_name="s"))
    return event


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_every_event_arrives_in_order_with_gapless_sequences(world):
    for number in range(1000):
        world.engine.put(Event("eTick.", tick("rb")))
        world.engine.put(staged(number))
    await until(lambda: len(world.messages) == 2000)
    ticks = [m.data.tick_seq for m in world.messages if m.topic == "tick.rb.SHFE"]
    orders = [m for m in world.messages if m.topic == "order.updated"]
    assert ticks == list(range(1, 1001))
    assert [m.seq for m in orders] == [m.data.seq for m in orders] == list(range(1, 1001))
    assert [m.data.orderid for m in orders] == [str(n) for n in range(1000)]
    assert world.view.seq == 1000


async def test_the_view_has_taken_in_an_event_before_subscribers_see_it(world):
    seen = []
    world.bus.subscribe(["order.updated"], lambda m: seen.append(world.view.order(m.key) is m.data))
    world.engine.put(staged(1))
    await until(lambda: seen)
    assert seen == [True]


async def test_a_staged_order_is_published_as_it_was_journaled(world):
    world.engine.put(staged(7, client_order_id="mine"))
    found = await world.view.wait_for_order("P.7", 5)
    assert (found.client_order_id, found.strategy_name, found.seq) == ("mine", "s", 8)
    assert world.view.order_by_client_id("mine") is found


async def test_an_event_without_news_is_not_published(world):
    repeated = staged(1)
    repeated.staged = Staged(None)
    world.engine.put(repeated)
    world.engine.put(staged(2))
    await until(lambda: world.messages)
    assert [m.data.orderid for m in world.messages] == ["2"]


async def test_a_subscriber_that_raises_does_not_keep_events_from_the_others(world):
    def raising(message):
        raise RuntimeError("no")

    seen = []
    world.bus.subscribe(["order.updated"], raising)
    world.bus.subscribe(["order.updated"], seen.append)
    world.engine.put(staged(1))
    await until(lambda: seen)
    assert world.bus.subscriber_errors == 1


async def test_past_the_limit_ticks_are_conflated_per_symbol_and_orders_are_not(world, monkeypatch):
    monkeypatch.setattr(bridge_module, "TICK_LIMIT", 10)
    # The loop is kept busy, so nothing is published meanwhile.
    for number in range(100):
        for handler in world.engine._handlers["eOrder."]:
            handler(staged(number))
        for symbol in ("rb", "ru"):
            for handler in world.engine._handlers["eTick."]:
                handler(Event("eTick.", tick(symbol, number)))
    await world.bridge.flush()
    orders = [m for m in world.messages if m.topic == "order.updated"]
    last = {m.topic: m.data for m in world.messages if m.topic.startswith("tick.")}
    assert len(orders) == 100
    assert last["tick.rb.SHFE"].last_price == last["tick.ru.SHFE"].last_price == 99
    ticks = [m.data.tick_seq for m in world.messages if m.topic == "tick.rb.SHFE"]
    assert ticks == sorted(set(ticks))
    assert world.bridge.ticks_conflated == 200 - len([m for m in world.messages if m.topic.startswith("tick.")]) > 0


async def test_the_flow_is_held_while_the_loop_is_behind_and_released_after(world, monkeypatch):
    monkeypatch.setattr(bridge_module, "HOLD_AT", 50)
    for number in range(100):
        for handler in world.engine._handlers["eTick."]:
            handler(Event("eTick.", tick("rb", number)))
    assert not world.flow.open
    await world.bridge.flush()
    assert world.flow.open


async def test_after_detach_nothing_more_is_published(world):
    world.detach()
    world.engine.put(staged(1))
    await asyncio.sleep(0.05)
    assert world.messages == []


@pytest.fixture
async def guarded(world):
    """A world whose bridge hears of its guard, and whose event thread can be kept waiting."""
    world.detach()
    world.guard = EventGuard(world.engine)
    world.guard.install()
    world.detach = staticmethod(world.bridge.attach(world.engine, world.guard))
    world.go_on = {name: threading.Event() for name in ("eFirst", "eLast")}
    world.waits = {name: threading.Event() for name in world.go_on}

    def wait(event):
        world.waits[event.type].set()
        world.go_on[event.type].wait(10)

    for name in world.go_on:
        world.engine.register(name, wait)
    world.engine.put(Event("eFirst"))
    await asyncio.to_thread(world.waits["eFirst"].wait, 10)
    yield world
    for event in world.go_on.values():
        event.set()


async def test_for_ticks_that_come_together_the_loop_is_woken_once(guarded, monkeypatch):
    loop, wakes, after_each_tick = asyncio.get_running_loop(), [], []
    call = loop.call_soon_threadsafe
    guarded.engine.register("eTick.", lambda event: after_each_tick.append(len(wakes)))
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *args, **how: (wakes.append(args[0]), call(*args, **how)))
    for number in range(20):
        guarded.engine.put(Event("eTick.", tick("rb", number)))
    guarded.go_on["eFirst"].set()
    await until(lambda: len(guarded.messages) == 20)
    assert after_each_tick == [0] * 19 + [1]
    assert [message.data.tick_seq for message in guarded.messages] == list(range(1, 21))


async def test_a_tick_that_comes_alone_is_published_before_its_strategies_have_returned(guarded):
    guarded.go_on["eFirst"].set()
    assert await asyncio.to_thread(guarded.guard.drain, 10)
    guarded.engine.register("eTick.", lambda event: guarded.go_on["eLast"].wait(10))
    guarded.engine.put(Event("eTick.", tick("rb")))
    await until(lambda: guarded.messages)
    assert guarded.guard.busy_since is not None


async def test_of_many_ticks_nearly_all_are_published_before_a_callback_behind_them_returns(guarded):
    for number in range(100):
        guarded.engine.put(Event("eTick.", tick("rb", number)))
    guarded.engine.put(Event("eLast"))
    guarded.go_on["eFirst"].set()
    await asyncio.to_thread(guarded.waits["eLast"].wait, 10)
    await until(lambda: len(guarded.messages) >= 100 - bridge_module.BURST)
    assert guarded.guard.busy_since is not None


async def test_a_tick_is_published_also_where_what_comes_behind_it_is_of_no_interest(guarded):
    guarded.engine.put(Event("eTick.", tick("rb")))
    guarded.engine.put(Event("eSomething"))
    guarded.go_on["eFirst"].set()
    await until(lambda: guarded.messages)


async def test_flush_publishes_ticks_for_which_the_loop_has_not_been_woken_yet(guarded):
    guarded.engine.put(Event("eTick.", tick("rb")))
    guarded.engine.put(Event("eLast"))
    guarded.go_on["eFirst"].set()
    await asyncio.to_thread(guarded.waits["eLast"].wait, 10)
    assert not guarded.messages
    async with asyncio.timeout(10):
        await guarded.bridge.flush()
    assert guarded.messages
