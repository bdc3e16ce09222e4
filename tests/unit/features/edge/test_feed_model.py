"""Whatever happens to the bus and the cache: once they are well the edge is as the core, and nothing was skipped."""

from __future__ import annotations

import asyncio
import contextlib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testkit.edge_core import EdgeUnderTest, FakeCore, Outage, differences, until
from vnpy_core.domain.enums import JobState, Status
from vnpy_core.domain.errors import CoreError
from vnpy_core.features.edge.service import FeedState

NUMBERS = st.integers(1, 5)
SYMBOLS = st.sampled_from(["rb2505", "ag2506", "ru2601"])
AMOUNTS = st.sampled_from([1.0, 2.0, 3.0])
STATES = st.sampled_from([Status.NOTTRADED, Status.PARTTRADED, Status.CANCELLED, Status.ALLTRADED])

EVENT = st.one_of(
    st.tuples(st.just("order"), NUMBERS, STATES),
    st.tuples(st.just("trade"), st.integers(1, 50)),
    st.tuples(st.just("halt"), SYMBOLS, st.booleans()),
    st.tuples(st.just("position"), SYMBOLS, AMOUNTS, st.booleans()),
    st.tuples(st.just("account"), AMOUNTS),
    st.tuples(st.just("contract"), SYMBOLS, AMOUNTS),
    st.tuples(st.just("tick"), SYMBOLS, AMOUNTS),
    st.tuples(st.just("job"), NUMBERS, st.sampled_from([JobState.RUNNING, JobState.DONE])),
)
STEP = st.one_of(
    EVENT,
    EVENT,
    EVENT,
    st.tuples(st.just("publish")),
    st.tuples(st.just("publish")),
    st.tuples(st.just("stream"), st.integers(1, 4)),
    st.tuples(st.just("signals")),
    st.tuples(st.just("cache")),
    st.tuples(st.just("fail")),
    st.tuples(st.just("heal")),
    st.tuples(st.just("flush")),
    st.tuples(st.just("lose"), st.integers(0, 5), st.integers(0, 5)),
    st.tuples(st.just("epoch")),
    st.tuples(st.just("rest")),
    st.tuples(st.just("rest")),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEP, max_size=40))
def test_an_edge_ends_as_its_core_is_and_skips_nothing(steps):
    asyncio.run(follow(steps))


async def follow(steps: list[tuple]) -> None:
    outage = Outage()
    core = FakeCore(outage)
    lists = {core.epoch: core.class_a}
    async with EdgeUnderTest(outage) as edge:
        for step in steps:
            # A core that cannot publish goes on trading.
            with contextlib.suppress(CoreError):
                await do(step, core, outage)
            lists[core.epoch] = core.class_a
            for _ in range(20):
                await asyncio.sleep(0)
        outage.heal()
        core.order(6)
        for _ in range(3):
            await core.publish()
        await until(
            lambda: edge.feed.state is FeedState.FOLLOWING and not differences(edge.view, core.view),
            lambda: (edge.feed.status(), differences(edge.view, core.view)),
        )
        check(edge, lists)


async def do(step: tuple, core: FakeCore, outage: Outage) -> None:
    match step:
        case "order", number, status:
            core.order(number, status)
        case "trade", number:
            core.trade(number)
        case "halt", target, active:
            core.halt(target, active=active)
        case "position", symbol, volume, journaled:
            core.position(symbol, volume, journaled=journaled)
        case "account", balance:
            core.account(balance)
        case "contract", symbol, size:
            core.contract(symbol, size)
        case "tick", symbol, price:
            core.tick(symbol, price)
        case "job", number, state:
            core.job(number, state)
        case ("publish",):
            await core.publish()
        case "stream", limit:
            await core.publish_stream(limit)
        case ("signals",):
            await core.publish_signals()
        case ("cache",):
            await core.write_cache()
        case ("fail",):
            outage.fail()
        case ("heal",):
            outage.heal()
        case ("flush",):
            outage.flush()
        case "lose", events, left:  # all is lost, and the journal has not all that is to be filled in
            await asyncio.sleep(0.005)
            for number in range(events):
                core.trade(number)
            outage.flush()
            core.forget_rows(core.seq - left)
        case ("epoch",):
            core.new_epoch(f"{core.epoch}+")
        case ("rest",):
            await asyncio.sleep(0.01)


def check(edge: EdgeUnderTest, lists: dict[str, list[int]]) -> None:
    """Between two replacements of the whole state (1012) every class A event comes, once and in order."""
    hub = edge.hub
    assert len(hub.drops) == max(0, len(hub.eras) - 1)
    for epoch, _, seqs in hub.eras:
        if seqs:
            everything = lists[epoch]
            start = everything.index(seqs[0])
            assert seqs == everything[start : start + len(seqs)]
    seqs = [message.seq for message in hub.told]
    assert edge.feed.status().faults == 0
    if len(hub.eras) == 1:
        assert seqs == sorted(seqs)
    epoch, _, last = hub.eras[-1]
    recent = [message.seq for message in hub.recent]
    assert recent + last == [seq for seq in lists[epoch] if seq > hub.complete_from]
