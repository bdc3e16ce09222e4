"""Two cores, one account, a real Redis: who may send."""

from __future__ import annotations

import asyncio
import threading
from itertools import count
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis
from vnpy.trader.constant import Direction, Exchange, Offset, OrderType
from vnpy.trader.object import OrderRequest

from testkit.stage import StageWorld
from vnpy_core.adapters.registry.redis import RedisRegistry
from vnpy_core.bus import topics
from vnpy_core.bus.message import Message
from vnpy_core.domain.enums import GatewayState
from vnpy_core.domain.errors import TradingHalted
from vnpy_core.domain.events import Account, Gateway
from vnpy_core.engine.gate import IntentGate
from vnpy_core.engine.stage import Stage
from vnpy_core.features.nodes.leases import AccountLeases
from vnpy_core.kit.clock import SystemClock
from vnpy_core.kit.redis import RedisSettings

LEASE_S = 1.5
NAME = "account:venue:Gateway:1"


class Venue:
    """Takes orders, and knows from whom."""

    def __init__(self):
        self.orders = []

    def gateway(self, owner):
        def send_order(request):
            self.orders.append(owner)
            return f"P.{len(self.orders)}"

        return SimpleNamespace(gateway_name="P", send_order=send_order)


class Core:
    """A gate on a stage of its own, and the account leases that it asks."""

    def __init__(self, owner, url, venue):
        self.owner = owner
        self.reconciled = 0
        self._log = []
        clock = SystemClock()
        self._registry = RedisRegistry(RedisSettings(url=url, timeout_s=1.0))
        self.leases = AccountLeases(
            self._registry, clock, owner=owner, lease_s=LEASE_S,
            scope=lambda gateway_name: "venue:Gateway", reconcile=self._reconcile,
        )  # fmt: skip
        world = StageWorld()
        self._stage = Stage(world.journal, world.books, clock, world.forwarded.append, world.flow)
        self._stage.start()
        numbers = count(1)
        self.gate = IntentGate(
            self._stage, clock, new_id=lambda: f"{owner}{next(numbers)}", reconciliation=lambda gateway_name: "",
            write_log=lambda text, source: self._log.append(text), require_account=self.leases.require,
        )  # fmt: skip
        self._gateway = venue.gateway(owner)
        self.gate.install(self._gateway)
        self.leases.start()
        self._tell(topics.GATEWAY_UPDATED, _gateway(GatewayState.CONNECTING))
        self._tell(topics.ACCOUNT_UPDATED, _account())
        self._tell(topics.GATEWAY_UPDATED, _gateway(GatewayState.CONNECTED))

    def send(self):
        """As a strategy does; whether it was sent."""
        return bool(self._gateway.send_order(_request()))

    @property
    def may_trade(self):
        try:
            self.gate.require_open("P")
        except TradingHalted:
            return False
        return True

    @property
    def said(self):
        return self._log[-1] if self._log else ""

    async def die(self):
        """Without a word to Redis."""
        self.leases._task.cancel()
        await asyncio.wait({self.leases._task})
        await self.leases._tasks.cancel()
        await self._registry.close()

    async def close(self):
        await self.leases.close()
        await self._registry.close()
        await asyncio.to_thread(self._stage.stop, 5)

    async def _reconcile(self, gateway_name):
        self.reconciled += 1

    def _tell(self, topic, event):
        self.leases.take(Message(topic, "P", "e", 0, SystemClock().now(), event))


def _gateway(state):
    return Gateway(
        gateway_name="P", connected=state is GatewayState.CONNECTED, state=state, exchanges=[], default_setting={},
        capabilities={},
    )  # fmt: skip


def _account():
    return Account(vt_accountid="P.1", accountid="1", balance=1.0, frozen=0.0, available=1.0, gateway_name="P")


def _request():
    return OrderRequest(
        symbol="rb", exchange=Exchange.SHFE, direction=Direction.LONG, type=OrderType.LIMIT, volume=1, price=100,
        offset=Offset.OPEN,
    )  # fmt: skip


async def until(condition, seconds=60.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def world(redis):
    world = SimpleNamespace(url=redis.url(database=redis.fresh_database()), venue=Venue(), cores=[], redis=redis)

    def core(owner):
        world.cores.append(core := Core(owner, world.url, world.venue))
        return core

    world.core, world.client = core, lambda: Redis.from_url(world.url)
    yield world
    redis.resume()
    for core in world.cores:
        await core.close()


async def both(world):
    a = world.core("a")
    await until(lambda: a.may_trade)
    b = world.core("b")
    await until(lambda: "another core" in b.leases.problem)
    return a, b


async def never_together(a, b, done, seconds=60.0):
    """Until `done()`, look again and again that not both may send."""
    async with asyncio.timeout(seconds):
        while not done():
            # a before and after b, because the looks are not one.
            assert not (a.may_trade and b.may_trade and a.may_trade)
            await asyncio.sleep(0.005)


async def test_exactly_one_of_two_cores_may_trade(world):
    a, b = world.core("a"), world.core("b")
    await until(lambda: a.may_trade or b.may_trade)
    await until(lambda: a.leases.problem or b.leases.problem)
    for _ in range(20):
        a.send()
        b.send()
        await asyncio.sleep(LEASE_S / 10)
    assert len(set(world.venue.orders)) == 1
    assert len(world.venue.orders) == 20
    holder, other = (a, b) if a.may_trade else (b, a)
    assert other.said == f"vnpy_core: rb.SHFE: not sent: another core, {holder.owner}, trades account venue:Gateway:1"


async def test_a_killed_cores_account_goes_to_the_other_after_it_is_reconciled(world):
    a, b = await both(world)
    await a.die()
    await until(lambda: b.may_trade)
    assert b.reconciled == 1
    assert b.send()
    assert world.venue.orders == ["b"]


async def test_a_stop_gives_the_account_back_at_once(world):
    a, b = await both(world)
    await a.leases.close()
    async with world.client() as client:
        assert await client.get(f"vnpy_core:registry:lease:{NAME}") in (None, b"b")
    await until(lambda: b.may_trade)


async def test_a_core_that_starts_again_trades_at_once(world):
    a, b = await both(world)
    await a.die()
    again = world.core("a")
    await until(lambda: again.may_trade)
    assert (again.reconciled, b.may_trade) == (0, False)


async def test_a_core_whose_loop_stood_still_refuses_though_its_other_threads_go_on(world):
    """Its strategies' thread may come before its next look at Redis."""
    b_may, sent, go_on = threading.Event(), [], threading.Event()
    ready, done = threading.Event(), threading.Event()
    a_core: list[Core] = []

    async def live_a():
        a_core.append(core := Core("a", world.url, world.venue))
        await until(lambda: core.may_trade)
        ready.set()
        b_may.wait(60)  # the loop stands still
        go_on.wait(60)
        await until(lambda: "another core, b" in core.leases.problem)
        sent.append(core.send())
        await core.close()
        done.set()

    thread = threading.Thread(target=lambda: asyncio.run(live_a()))
    thread.start()
    try:
        await until(ready.is_set)
        b = world.core("b")
        await until(lambda: b.may_trade)
        b_may.set()
        assert not await asyncio.to_thread(a_core[0].send)
        assert "it is not decided yet" in a_core[0].said
    finally:
        b_may.set()
        go_on.set()
    await until(done.is_set)
    await asyncio.to_thread(thread.join, 10)
    assert sent == [False]
    assert b.send()
    assert world.venue.orders == ["b"]


async def test_a_flush_leaves_one_who_may_trade_and_never_both(world):
    a, b = await both(world)
    for _ in range(5):
        async with world.client() as client:
            await client.flushall()
        taken = asyncio.Event()
        noticing = asyncio.create_task(_notice(world, taken))
        await never_together(a, b, taken.is_set)
        await noticing
        await never_together(a, b, lambda: sorted((a.may_trade, b.may_trade)) == [False, True])


async def _notice(world, taken):
    """When somebody has the lease again."""
    async with world.client() as client:
        while not await client.get(f"vnpy_core:registry:lease:{NAME}"):
            await asyncio.sleep(0.005)
    taken.set()


async def test_a_flush_in_favour_of_the_other_makes_the_first_one_refuse(world):
    a, b = await both(world)
    async with world.client() as client:
        await client.set(f"vnpy_core:registry:lease:{NAME}", b"b", px=int(LEASE_S * 1000))
    await never_together(a, b, lambda: b.may_trade)
    assert not a.send()
    assert "another core, b" in a.said
    assert b.send()


async def test_without_redis_the_one_goes_on_and_the_other_does_not_begin(world):
    a, b = await both(world)
    world.redis.kill()
    await until(lambda: "without account leases" in a.leases.problem and "without account leases" in b.leases.problem)
    for _ in range(10):
        assert a.send()
        assert not b.send()
        await asyncio.sleep(LEASE_S / 5)
    world.redis.start()  # with nothing in it
    await until(lambda: not (a.leases.problem and b.leases.problem))
    await never_together(a, b, lambda: sorted((a.may_trade, b.may_trade)) == [False, True])
    await until(lambda: sorted((a.leases.problem == "", b.leases.problem == "")) == [False, True])


async def test_a_redis_that_hangs_does_not_stop_trading(world):
    a, b = await both(world)
    world.redis.pause()
    await until(lambda: "without account leases" in a.leases.problem)
    for _ in range(10):
        assert a.send()
        assert not b.send()
        await asyncio.sleep(LEASE_S / 5)
    world.redis.resume()
    await until(lambda: sorted((a.leases.problem == "", b.leases.problem == "")) == [False, True])
    await never_together(a, b, lambda: sorted((a.may_trade, b.may_trade)) == [False, True])


async def test_a_core_that_starts_without_redis_may_trade(world):
    world.redis.kill()
    a = world.core("a")
    await until(lambda: a.may_trade)
    assert a.send()
    assert "without account leases" in a.leases.problem
    world.redis.start()
    await until(lambda: a.leases.problem == "")
    assert a.leases.holders() == {NAME: "a"}
