from __future__ import annotations

from datetime import timedelta

import pytest

from testkit.clock import FakeClock
from testkit.edge_core import Outage, until
from vnpy_core.domain.errors import CacheUnavailable
from vnpy_core.features.edge.ended import KIND, EndedSessions
from vnpy_core.ports.cache import CacheMark

MARK = CacheMark(epoch="e1", seq=0, complete_from=0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def outage() -> Outage:
    return Outage()


async def told(outage: Outage, clock: FakeClock, **sessions: float) -> None:
    values = {sid: (clock.now() + timedelta(seconds=s)).isoformat().encode() for sid, s in sessions.items()}
    await outage.cache.put({KIND: values}, MARK)


async def test_those_that_the_core_tells_of_are_ended(outage, clock):
    ended = EndedSessions(outage.cache, clock, every_s=1.0)
    await told(outage, clock, gone=60)
    await ended.load()
    assert ended.is_ended("gone")
    assert not ended.is_ended("here")


async def test_they_stay_ended_where_the_cache_lost_them_until_their_time_is_over(outage, clock):
    ended = EndedSessions(outage.cache, clock, every_s=1.0)
    await told(outage, clock, gone=60)
    await ended.load()
    outage.flush()
    await ended.load()
    assert ended.is_ended("gone")
    clock.advance(61)
    await ended.load()
    assert not ended.is_ended("gone")


async def test_what_is_no_time_is_left_out(outage, clock):
    await outage.cache.put({KIND: {"odd": b"yesterday", "worse": b"\xff"}}, MARK)
    ended = EndedSessions(outage.cache, clock, every_s=1.0)
    await ended.load()
    assert not ended.is_ended("odd")


async def test_it_goes_on_while_the_cache_is_away_and_says_so(outage, clock):
    ended = EndedSessions(outage.cache, clock, every_s=0.001)
    outage.fail()
    with pytest.raises(CacheUnavailable):
        await ended.load()
    ended.start()
    try:
        await until(lambda: bool(ended.error))
        outage.heal()
        await told(outage, clock, gone=60)
        await until(lambda: ended.is_ended("gone"))
        assert ended.error == ""
    finally:
        await ended.close()
