"""What passes at most once: ticks, states and logs, from the bus through Redis to who listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from testkit.publishing import SYSTEM, Core, until
from testkit.redis_adapters import RedisPlace
from vnpy_core.adapters.broker.settings import BrokerSettings
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.bus import topics
from vnpy_core.bus.envelope import decode
from vnpy_core.domain.enums import LogLevel
from vnpy_core.domain.events import Log, RiskEvent, StrategyUpdate, Tick


@pytest.fixture
async def core(place: RedisPlace, journal: SqliteJournal) -> AsyncIterator[Core]:
    settings = BrokerSettings(kind="redis", queue=1_000)
    core = Core(journal, place.broker(), node=place.node, broker_settings=settings)
    core.start()
    yield core
    place.server.resume()
    await core.close(5)


class Ear:
    """Listens, and keeps what it heard."""

    def __init__(self, place: RedisPlace, *patterns: str) -> None:
        self._broker = place.reader()
        self._patterns = patterns
        self._ready = asyncio.Event()
        self.heard: list[Any] = []
        self._task = asyncio.create_task(self._run())

    async def __aenter__(self) -> Ear:
        async with asyncio.timeout(60):
            await self._ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        async with self._broker.listen(self._patterns) as batches:
            self._ready.set()
            async for batch in batches:
                self.heard += [(topic, decode(envelope)) for topic, envelope in batch]


async def test_ticks_pass_in_order_all_of_them(core, place):
    async with Ear(place, "tick.*") as ear:
        for n in range(900):
            core.passing(tick(f"s{n % 3}", n))
            if n % 100 == 0:
                await asyncio.sleep(0.01)
        await until(lambda: len(ear.heard) == 900)
    for symbol in ("s0", "s1", "s2"):
        prices = [e.message().data.last_price for topic, e in ear.heard if topic == f"tick.{symbol}.SHFE"]
        assert prices == [float(n) for n in range(900) if f"s{n % 3}" == symbol]
    _, envelope = ear.heard[0]
    assert (envelope.source, envelope.epoch, envelope.prev_seq) == (place.node, "e1", None)
    assert core.sink.signals_sent == 900
    assert core.sink.signals_dropped == core.sink.signals_conflated == 0


async def test_lossless_events_pass_by_the_stream_alone(core, place):
    async with Ear(place, "*") as ear:
        core.happen(5)
        core.passing(RiskEvent(kind="state", rule="r", data={"n": 1}), topic=topics.RISK_EVENT)
        await until(lambda: len(ear.heard) == 1)
        await core.published()
    assert ear.heard[0][0] == topics.RISK_EVENT
    assert ear.heard[0][1].seq == 5


async def test_of_a_crowd_that_comes_at_once_the_newest_survive(core, place):
    async with Ear(place, "*") as ear:
        for n in range(5_000):
            core.passing(tick(f"s{n % 50}", n))
        for n in range(500):
            core.passing(log(f"line {n}"), topic=topics.LOG)
        await until(lambda: len(ear.heard) >= 450 + 50 + 100)
    last = {topic: e.message().data for topic, e in ear.heard if topic != topics.LOG}
    assert {int(each.last_price) for each in last.values()} == set(range(4_950, 5_000))
    assert core.sink.signals_conflated == 5_000 - 450 - 50
    assert core.sink.signals_dropped == 400  # lines of the log beyond the tenth that they have


async def test_when_redis_comes_back_the_newest_state_is_told(core, place, server):
    server.pause()
    for n in range(3_000):
        core.passing(strategy(n=n), topic=topics.STRATEGY_UPDATED)
        core.passing(tick("s", n))
        if n % 500 == 0:
            await asyncio.sleep(0.1)
    await until(lambda: core.sink.signals_dropped > 0)  # ticks are sent once at most
    assert core.sink.signals_waiting <= 1_000
    server.resume()
    async with Ear(place, "*"):  # answers: so Redis is back
        pass
    async with Ear(place, "*") as ear:
        core.passing(strategy(n=3_000), topic=topics.STRATEGY_UPDATED)
        core.passing(tick("s", 3_000))
        await until(lambda: not core.sink.signals_waiting and len(ear.heard) >= 2)
        await until(lambda: ear.heard[-1][0] == "tick.s.SHFE")
    latest = dict(ear.heard)
    assert latest["strategy.updated"].message().data.variables == {"n": 3_000}
    assert latest["tick.s.SHFE"].message().data.last_price == 3_000.0


async def test_what_json_has_no_words_for_is_left_out_and_told_once(core, place):
    async with Ear(place, "*") as ear:
        with capture_logs() as logs:
            for n in range(10):
                core.passing(strategy(bad=object()), topic=topics.STRATEGY_UPDATED)
                core.passing(strategy(n=n), topic=topics.STRATEGY_UPDATED)
            await until(lambda: len(ear.heard) == 10)
    assert core.sink.signals_dropped == 10
    assert [line["topic"] for line in logs if line["event"] == "cannot be published"] == ["strategy.updated"]


async def test_nothing_passes_while_another_core_has_the_name(core, place, tmp_path):
    await core.published(0)
    other = place.broker(owner="core-2")
    await place.client.set(f"vnpy_core:{place.node}:writer", "core-2")
    core.happen(1)
    await until(lambda: bool(core.sink.conflict))
    async with Ear(place, "*") as ear:
        core.passing(tick("s", 1))
        await until(lambda: core.sink.signals_dropped == 1)
        await other.begin("e1")
        await other.close()
        await core.published()
        core.passing(tick("s", 2))
        await until(lambda: len(ear.heard) == 1)
    assert ear.heard[0][1].message().data.last_price == 2.0


def tick(symbol: str, price: float) -> Tick:
    return Tick(
        gateway_name="PAPER", vt_symbol=f"{symbol}.SHFE", symbol=symbol, exchange="SHFE", datetime=SYSTEM.now(),
        last_price=float(price),
    )  # fmt: skip


def log(text: str) -> Log:
    return Log(level=LogLevel.INFO, source="core", msg=text, datetime=SYSTEM.now())


def strategy(**variables: Any) -> StrategyUpdate:
    return StrategyUpdate(
        strategy_name="s", class_name="S", vt_symbol="rb.X", author="", parameters={}, variables=variables
    )
