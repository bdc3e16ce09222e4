"""What every registry does, in memory and in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest

from testkit.clock import FakeClock
from testkit.redis_adapters import RedisPlace
from vnpy_core.adapters.registry.memory import MemoryRegistry
from vnpy_core.ports.registry import Node, NodeLoad, NodeRole, Registry

Pass = Callable[[float], Awaitable[None]]


@pytest.fixture(params=["memory", "redis"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Registry, Pass]]:
    """A registry, and a way to let its time pass."""
    if request.param == "memory":
        clock = FakeClock()

        async def advance(seconds: float) -> None:
            clock.advance(seconds)

        yield MemoryRegistry(clock), advance
        return
    place = RedisPlace(request.getfixturevalue("redis_server"))
    registry = place.registry()
    await registry.open()
    yield registry, asyncio.sleep
    await place.close()


@pytest.fixture
def registry(world: tuple[Registry, Pass]) -> Registry:
    return world[0]


def node(name: str, role: NodeRole = NodeRole.CORE, **changes: object) -> Node:
    now = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
    values: dict[str, object] = {
        "id": name, "node": "core", "role": role, "address": "http://127.0.0.1:8006", "version": "1", "pid": 1,
        "epoch": "e1", "seq": 5, "gateways": {"PAPER": True}, "load": NodeLoad(cpu=0.5, sessions=3),
        "started_at": now, "seen_at": now,
    }  # fmt: skip
    return Node(**{**values, **changes})  # type: ignore[arg-type]


async def test_nobody_is_listed_at_first(registry):
    assert await registry.nodes() == []


async def test_nodes_are_listed_as_they_announced_themselves(registry):
    await registry.announce(node("e2", NodeRole.EDGE), 60)
    await registry.announce(node("c1"), 60)
    await registry.announce(node("e1", NodeRole.EDGE), 60)
    assert await registry.nodes() == [node("c1"), node("e1", NodeRole.EDGE), node("e2", NodeRole.EDGE)]


async def test_a_later_announcement_takes_the_place_of_the_former(registry):
    await registry.announce(node("c1"), 60)
    await registry.announce(node("c1", seq=9), 60)
    assert [each.seq for each in await registry.nodes()] == [9]


async def test_who_says_nothing_is_listed_no_longer(world):
    registry, passes = world
    await registry.announce(node("c1"), 0.05)
    await registry.announce(node("c2"), 60)
    await passes(0.2)
    assert [each.id for each in await registry.nodes()] == ["c2"]


async def test_who_withdraws_is_listed_no_longer(registry):
    await registry.announce(node("c1"), 60)
    await registry.withdraw("c1")
    await registry.withdraw("c1")
    assert await registry.nodes() == []


async def test_a_lease_has_one_holder(registry):
    assert await registry.hold("account:1", "a", 60) == "a"
    assert await registry.hold("account:1", "b", 60) == "a"
    assert await registry.hold("account:1", "a", 60) == "a"
    assert await registry.hold("account:2", "b", 60) == "b"


async def test_a_lease_that_was_given_back_is_free(registry):
    await registry.hold("account:1", "a", 60)
    await registry.release("account:1", "b")
    assert await registry.hold("account:1", "b", 60) == "a"
    await registry.release("account:1", "a")
    assert await registry.hold("account:1", "b", 60) == "b"
    await registry.release("account:9", "a")


async def test_a_lease_that_was_not_renewed_is_free(world):
    registry, passes = world
    await registry.hold("account:1", "a", 0.05)
    await passes(0.2)
    assert await registry.hold("account:1", "b", 60) == "b"
    assert await registry.hold("account:1", "a", 60) == "b"


async def test_a_renewed_lease_lasts(world):
    registry, passes = world
    await registry.hold("account:1", "a", 0.05)
    await registry.hold("account:1", "a", 60)
    await passes(0.2)
    assert await registry.hold("account:1", "b", 60) == "a"


async def test_one_of_many_gets_a_lease(registry):
    names = [str(n) for n in range(50)]
    assert len(set(await asyncio.gather(*(registry.hold("account:1", name, 60) for name in names)))) == 1


async def test_what_cannot_be_read_is_left_out(redis_server):
    place = RedisPlace(redis_server)
    registry = place.registry()
    await registry.announce(node("c1"), 60)
    await registry.announce(node("c2"), 60)
    await place.client.set("vnpy_core:registry:node:c1", b'{"id":"of another version"}')
    assert [each.id for each in await registry.nodes()] == ["c2"]
    await place.close()
