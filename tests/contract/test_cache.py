"""What every cache does, in memory and in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from testkit.clock import FakeClock
from testkit.redis_adapters import RedisPlace
from vnpy_core.adapters.cache.memory import FORGET_AT, MemoryCache
from vnpy_core.domain.errors import CacheUnavailable
from vnpy_core.ports.cache import Cache, CacheMark

MARK = CacheMark(epoch="e1", seq=7, complete_from=2)


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    if request.param == "memory":
        yield MemoryCache(FakeClock())
        return
    place = RedisPlace(request.getfixturevalue("redis_server"))
    cache = place.cache()
    await cache.open()
    yield cache
    await place.close()


async def test_an_empty_cache_has_no_mark(cache):
    assert await cache.load(["order", "trade"]) == (None, {"order": {}, "trade": {}})
    assert await cache.get("order", "1") is None


async def test_what_was_put_is_there_with_its_mark(cache):
    await cache.put({"order": {"P.1": b"one", "P.é": b"two"}, "tick": {"rb.X": b"t"}}, MARK)
    assert await cache.load(["order", "tick"]) == (
        MARK,
        {"order": {"P.1": b"one", "P.é": b"two"}, "tick": {"rb.X": b"t"}},
    )
    assert await cache.load([]) == (MARK, {})
    assert await cache.get("order", "P.é") == b"two"


async def test_only_what_changed_changes(cache):
    await cache.put({"order": {"1": b"a", "2": b"b", "3": b"c"}}, MARK)
    later = CacheMark(epoch="e1", seq=9, complete_from=3)
    await cache.put({"order": {"2": None, "3": b"d", "nobody": None}}, later)
    assert await cache.load(["order"]) == (later, {"order": {"1": b"a", "3": b"d"}})


async def test_the_mark_moves_alone(cache):
    await cache.put({"order": {"1": b"a"}}, MARK)
    later = CacheMark(epoch="e1", seq=10, complete_from=2)
    await cache.put({}, later)
    assert await cache.load(["order"]) == (later, {"order": {"1": b"a"}})


async def test_what_was_loaded_does_not_change_with_the_cache(cache):
    await cache.put({"order": {"1": b"a"}}, MARK)
    _, held = await cache.load(["order"])
    await cache.put({"order": {"1": b"b"}}, MARK)
    assert held == {"order": {"1": b"a"}}


async def test_a_cleared_cache_is_empty(cache):
    await cache.put({"order": {"1": b"a"}, "of a kind of its own": {"x": b"y"}}, MARK)
    await cache.clear()
    assert await cache.load(["order", "of a kind of its own"]) == (None, {"order": {}, "of a kind of its own": {}})
    await cache.clear()


async def test_a_name_is_said_once(cache):
    assert await cache.once("ticket-1", 60)
    assert not await cache.once("ticket-1", 60)
    assert await cache.once("ticket-2", 60)


async def test_clearing_lets_no_ticket_be_used_again(cache):
    assert await cache.once("ticket-1", 60)
    await cache.clear()
    assert not await cache.once("ticket-1", 60)


async def test_in_memory_names_are_forgotten_when_their_time_is_over():
    clock = FakeClock()
    cache = MemoryCache(clock)
    for n in range(2 * FORGET_AT):
        assert await cache.once(str(n), 10)
        clock.advance(0.1)
    assert len(cache._said) <= FORGET_AT
    assert await cache.once("0", 10)
    assert not await cache.once(str(2 * FORGET_AT - 1), 10)


async def test_in_redis_everything_expires(redis_server):
    place = RedisPlace(redis_server)
    cache = place.cache(expire_hours=1)
    await cache.put({"order": {"1": b"a"}, "tick": {"s": b"t"}}, MARK)
    await cache.once("ticket", 30)
    keys = [key async for key in place.client.scan_iter()]
    assert len(keys) == 5
    for key in keys:
        assert 0 < await place.client.pttl(key) <= 3_600_000
    await place.client.pexpire(f"vnpy_core:{place.node}:cache:tick", 5_000)
    await cache.put({"order": {"1": b"b"}}, MARK)
    assert await place.client.pttl(f"vnpy_core:{place.node}:cache:tick") <= 5_000
    await cache.put({}, MARK)
    assert await place.client.pttl(f"vnpy_core:{place.node}:cache:tick") > 5_000
    await place.close()


async def test_in_redis_what_is_left_of_a_lost_cache_is_vouched_for_by_no_mark(redis_server):
    place = RedisPlace(redis_server)
    cache = place.cache()
    await cache.put({"order": {"1": b"a"}}, MARK)
    await place.client.flushdb()
    with pytest.raises(CacheUnavailable):
        await cache.put({"order": {"2": b"b"}}, CacheMark(epoch="e1", seq=8, complete_from=2))
    mark, _ = await place.reading_cache().load(["order"])
    assert mark is None
    await cache.put({"order": {"1": b"a", "2": b"b"}}, MARK)
    assert await cache.load(["order"]) == (MARK, {"order": {"1": b"a", "2": b"b"}})
    await place.close()
