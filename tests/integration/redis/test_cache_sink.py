"""The cache is as the read view is, in a real Redis that is killed, flushed, hung and shared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from testkit.journal_rows import at, contract, order, trade
from testkit.publishing import Core, until
from testkit.redis_adapters import RedisPlace
from vnpy_core.adapters.cache import sink as sink_module
from vnpy_core.adapters.cache.settings import CacheSettings
from vnpy_core.adapters.cache.sink import CONFIRM_S, KINDS
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.bus import topics
from vnpy_core.bus.envelope import CACHED, TICK, decode, encode_message
from vnpy_core.bus.message import Message
from vnpy_core.domain.enums import HaltScope, Status
from vnpy_core.domain.events import Event, Halt, StrategyUpdate, Tick
from vnpy_core.ports.cache import Cache, CacheMark

MakeCore = Callable[..., Core]


@pytest.fixture
async def make_core(place: RedisPlace, journal: SqliteJournal) -> AsyncIterator[MakeCore]:
    cores: list[Core] = []

    def make(**settings: Any) -> Core:
        made = CacheSettings(kind="redis", flush_ms=10, **settings)
        core = Core(journal, place.broker(), place.cache(**settings), node=place.node, cache_settings=made)
        cores.append(core)
        return core

    yield make
    place.server.resume()
    for core in cores:
        await core.close(5)


@pytest.fixture
def cache(place: RedisPlace) -> Cache:
    return place.reading_cache()


def known(core: Core, keep: int | None = None) -> dict[str, dict[str, Event]]:
    """What the cache must hold: the read view, finished things beyond `keep` left out."""
    view = core.view
    kinds: dict[str, dict[str, Event]] = {kind: dict(view.snapshot(topic)) for topic, kind in CACHED.items()}
    kinds["order"] |= dict(list(view.finished_orders.items())[-keep if keep else 0 :])
    kinds["trade"] = dict(list(view.trades.items())[-keep if keep else 0 :])
    kinds["quote"] |= dict(view.finished_quotes)
    kinds[TICK] = dict(view.ticks)
    return kinds


async def held(cache: Cache) -> tuple[CacheMark | None, dict[str, dict[str, Event]]]:
    mark, kinds = await cache.load(KINDS)
    return mark, {kind: {k: decode(v).message().data for k, v in values.items()} for kind, values in kinds.items()}


async def assert_same(core: Core, cache: Cache, keep: int | None = None) -> None:
    async with asyncio.timeout(60):
        while True:
            mark, kinds = await held(cache)
            if mark is not None and mark.seq >= core.view.seq and kinds == known(core, keep):
                break
            await asyncio.sleep(0.02)
    assert mark.epoch == core.journal.epoch


def tick(symbol: str, price: float) -> Tick:
    return Tick("PAPER", f"{symbol}.SHFE", symbol, "SHFE", at(price), last_price=float(price))


def strategy(**variables: Any) -> StrategyUpdate:
    return StrategyUpdate(
        strategy_name="s", class_name="S", vt_symbol="rb.X", author="", parameters={}, variables=variables
    )


def life(core: Core) -> None:
    """A bit of everything."""
    core.happen(20)
    core.trade(10)
    last = core.last
    core.journalled([core.row(order(last + 1, "1", Status.ALLTRADED, traded=10.0))])
    core.passing(*(contract(n) for n in range(30)), topic=topics.CONTRACT_UPDATED)
    core.passing(*(tick(f"rb{n % 5}", n) for n in range(50)))
    core.passing(strategy(pos=1), topic=topics.STRATEGY_UPDATED)


async def test_the_cache_follows_the_read_view(make_core, cache):
    core = make_core()
    core.start()
    await assert_same(core, cache)
    for _ in range(3):
        life(core)
        await assert_same(core, cache)
    assert core.cache_sink is not None
    state = core.cache_sink.state()
    assert (state.name, state.seq, state.lag, state.error, state.dead_letters) == ("cache", core.last, 0, "", 0)
    envelope = decode((await cache.get("order", "PAPER.2")) or b"")
    assert (envelope.seq, envelope.topic) == (core.view.order("PAPER.2").seq, "order.updated")


async def test_what_was_known_before_the_start_is_there_too(make_core, cache):
    core = make_core()
    core.view.seed(
        orders=[order(3, "1", Status.CANCELLED), order(5, "2")], trades=[trade(4, "1")], seq=9, complete_from=2
    )
    core.start()
    await assert_same(core, cache)
    mark, kinds = await held(cache)
    assert mark == CacheMark(epoch="e1", seq=9, complete_from=2)
    assert set(kinds["order"]) == {"PAPER.1", "PAPER.2"}
    assert decode((await cache.get("order", "PAPER.1")) or b"").seq == 3  # its own place


async def test_what_an_earlier_run_left_and_this_one_does_not_know_goes(make_core, cache):
    mark = CacheMark(epoch="e1", seq=1, complete_from=0)
    await cache.put({"order": {"PAPER.old": OLD}, "halt": {"all": HALT}}, mark)
    core = make_core()
    core.happen(5)
    core.start()
    await assert_same(core, cache)


async def test_a_cache_of_another_epoch_is_cleared(make_core, cache):
    await cache.put({"order": {"x": OLD}, "strange": {"y": b"{}"}}, CacheMark(epoch="e0", seq=99, complete_from=0))
    core = make_core()
    core.happen(5)
    core.start()
    await assert_same(core, cache)
    assert await cache.get("strange", "y") is None


async def test_the_oldest_finished_go_and_the_mark_says_so(make_core, cache):
    core = make_core(keep_finished=100)
    core.happen(130, status=Status.CANCELLED)
    core.happen(3)
    core.start()
    await assert_same(core, cache, keep=100)
    mark, kinds = await held(cache)
    assert mark is not None
    assert mark.complete_from == 30
    assert len(kinds["order"]) == 103

    core.happen(20, status=Status.CANCELLED)
    core.trade(150)
    await assert_same(core, cache, keep=100)
    mark, _ = await held(cache)
    assert mark is not None
    assert mark.complete_from == max(50, core.last - 100)


async def test_the_oldest_go_in_the_same_order_after_a_restart(make_core, cache, journal):
    core = make_core(keep_finished=100)
    core.start()
    core.happen(100, status=Status.CANCELLED)
    await assert_same(core, cache, keep=100)
    await core.close()

    again = make_core(keep_finished=100)
    again.view.seed(orders=list(core.view.orders()), seq=core.view.seq)
    again.start()
    again.happen(40, status=Status.CANCELLED)
    await assert_same(again, cache, keep=100)
    mark, _ = await held(cache)
    assert mark is not None
    assert mark.complete_from == 40


async def test_a_halt_that_is_lifted_goes(make_core, cache):
    core = make_core()
    core.start()
    core.passing(halt(active=True), topic=topics.RISK_HALT)
    await until_held(cache, "halt", 1)
    core.passing(halt(active=False), topic=topics.RISK_HALT)
    await until_held(cache, "halt", 0)


async def test_a_flushed_cache_is_written_again(make_core, cache, place):
    core = make_core()
    core.start()
    life(core)
    await assert_same(core, cache)
    await place.client.flushall()
    await assert_same(core, cache)
    await place.client.flushall()
    life(core)
    await assert_same(core, cache)


async def test_a_redis_killed_and_started_empty_is_written_again(make_core, cache, server):
    core = make_core()
    core.start()
    life(core)
    await assert_same(core, cache)
    await asyncio.to_thread(server.kill)
    life(core)
    assert core.cache_sink is not None
    await until(lambda: bool(core.cache_sink.state().error))
    await asyncio.to_thread(server.start)
    await assert_same(core, cache)
    assert core.cache_sink.state().error == ""


async def test_a_redis_that_hangs_is_caught_up_with(make_core, cache, server):
    core = make_core()
    core.start()
    life(core)
    await assert_same(core, cache)
    server.pause()
    for _ in range(50):
        life(core)
        await asyncio.sleep(0.01)
    assert core.cache_sink is not None
    await until(lambda: bool(core.cache_sink.state().error))
    server.resume()
    await assert_same(core, cache)


async def test_a_new_epoch_is_told(make_core, cache, journal):
    core = make_core()
    core.start()
    life(core)
    await assert_same(core, cache)
    journal._make_epoch = lambda: "e2"
    journal.new_epoch()
    core.happen(1)
    await assert_same(core, cache)
    mark, _ = await held(cache)
    assert mark is not None
    assert mark.epoch == "e2"


async def test_more_than_one_put_takes_is_written_in_pieces(make_core, cache, monkeypatch):
    monkeypatch.setattr(sink_module, "CHUNK", 7)
    core = make_core()
    life(core)
    core.start()
    await assert_same(core, cache)


async def test_what_json_has_no_words_for_is_left_out(make_core, cache):
    core = make_core()
    core.start()
    core.passing(strategy(pos=1), topic=topics.STRATEGY_UPDATED)
    await until_held(cache, "strategy", 1)
    core.passing(strategy(pos=object()), topic=topics.STRATEGY_UPDATED)
    core.happen(1)
    await until_held(cache, "strategy", 0)
    await until_held(cache, "order", 1)
    assert core.cache_sink is not None
    assert core.cache_sink.state().dead_letters == 1


async def test_what_is_no_event_is_kept_too(make_core, cache, place):
    core = make_core()
    core.start()
    assert core.cache_sink is not None
    core.cache_sink.keep("ended_session", "s1", b'"2026-11-20T02:00:00Z"')
    core.cache_sink.keep("ended_session", "s2", b'"2026-11-20T02:00:00Z"')
    await until_held(cache, "ended_session", 2)
    await place.client.flushall()
    await until_held(cache, "ended_session", 2)
    core.cache_sink.keep("ended_session", "s1", None)
    await until_held(cache, "ended_session", 1)


async def test_nothing_is_written_while_another_core_has_the_name(make_core, cache, place):
    await place.client.set(f"vnpy_core:{place.node}:writer", "core-2", px=1_500)
    core = make_core()
    life(core)
    core.start()
    assert core.cache_sink is not None
    await until(lambda: "another core" in core.cache_sink.state().error)
    await place.client.flushdb()
    await assert_same(core, cache)
    await until(lambda: core.cache_sink.state().error == "")


async def test_nothing_is_lost_that_happens_while_it_writes(make_core, cache):
    core = make_core()
    core.start()
    for n in range(300):
        core.happen(5)
        core.passing(tick(f"rb{n % 7}", n))
        await asyncio.sleep(0)
        if n % 50 == 0:
            await asyncio.sleep(0.02)
    await assert_same(core, cache)


def envelope_of(topic: str, event: Event) -> bytes:
    return encode_message(Message(topic, "", "e0", 1, at(1), event), "core")


def halt(*, active: bool) -> Halt:
    return Halt(scope=HaltScope.ALL, active=active, at=at(1))


async def until_held(cache: Cache, kind: str, count: int) -> None:
    async with asyncio.timeout(60 + CONFIRM_S):
        while len((await cache.load([kind]))[1][kind]) != count:
            await asyncio.sleep(0.02)


OLD = envelope_of(topics.ORDER_UPDATED, order(1, "old"))
HALT = envelope_of(topics.RISK_HALT, halt(active=True))
