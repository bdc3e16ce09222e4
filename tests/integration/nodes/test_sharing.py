"""What cores and edges share in a real Redis besides accounts: who runs, and which tickets were used."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest

from vnpy_core.adapters.cache.redis import RedisCache
from vnpy_core.adapters.registry.redis import RedisRegistry
from vnpy_core.domain.errors import NotAuthenticated, Overloaded
from vnpy_core.features.auth.tokens import AccessTokens
from vnpy_core.features.nodes.service import Announcer, LoadMeter, NodesService
from vnpy_core.kit.clock import SystemClock
from vnpy_core.kit.redis import RedisSettings
from vnpy_core.ports.auth import Role
from vnpy_core.ports.registry import Node, NodeRole

SECRET = "a secret of the tests, as long as any algorithm wants it, and then some"
LEASE_S = 1.0
START = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)


@pytest.fixture
def settings(redis) -> RedisSettings:
    return RedisSettings(url=redis.url(database=redis.fresh_database()), timeout_s=1.0)


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def join(settings, stack):
    """`await join(name, role)`: a node that announces itself, and the list as it sees it."""

    async def join(name, role):
        clock, registry = SystemClock(), RedisRegistry(settings)
        node = Node(
            id=name, node="core", role=role, address="http://127.0.0.1:1", version="1", pid=1, epoch="e", seq=1,
            started_at=START, seen_at=START,
        )  # fmt: skip
        meter = LoadMeter(clock, sessions=lambda: 2, events=lambda: 0)
        announcer = Announcer(registry, clock, lambda: node, meter, lease_s=LEASE_S)
        announcer.start()
        stack.push_async_callback(registry.close)
        stack.push_async_callback(announcer.close)
        return announcer, NodesService(registry, announcer)

    return join


async def until_listed(service, *names, complete=True):
    async with asyncio.timeout(60):
        while True:
            nodes = await service.nodes()
            if ([node.id for node in nodes.items], nodes.complete) == (list(names), complete):
                return nodes
            await asyncio.sleep(0.02)


async def test_a_core_and_its_edges_see_each_other_come_and_go(join):
    _, core = await join("core-1", NodeRole.CORE)
    leaving, _ = await join("edge-1", NodeRole.EDGE)
    dying, edge = await join("edge-2", NodeRole.EDGE)
    for service in (core, edge):
        nodes = await until_listed(service, "core-1", "edge-1", "edge-2")
        assert {node.load.sessions for node in nodes.items} <= {0, 2}
    await leaving.close()
    await until_listed(core, "core-1", "edge-2")
    assert dying._task is not None
    dying._task.cancel()  # without a word
    await until_listed(core, "core-1")


async def test_nodes_find_each_other_again_after_redis_was_away(join, redis):
    _, core = await join("core-1", NodeRole.CORE)
    await join("edge-1", NodeRole.EDGE)
    await until_listed(core, "core-1", "edge-1")
    redis.kill()
    nodes = await until_listed(core, "core-1", complete=False)
    assert "Redis" in nodes.detail
    redis.start()
    await until_listed(core, "core-1", "edge-1")


async def test_a_ticket_opens_once_at_a_core_or_an_edge(settings, stack, redis):
    nodes = []
    for strict in (False, True):
        cache = RedisCache(settings, "core")
        stack.push_async_callback(cache.close)
        nodes.append(AccessTokens(SECRET, SystemClock(), access=timedelta(minutes=15), once=cache.once, strict=strict))
    core, edge = nodes
    caller = await core.authenticate(core.issue("ann", Role.VIEWER, "s"))
    ticket = edge.issue_ticket(caller).ticket
    outcomes = await asyncio.gather(
        core.authenticate_ticket(ticket), edge.authenticate_ticket(ticket), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NotAuthenticated", "Principal"]

    redis.kill()
    ticket = edge.issue_ticket(caller).ticket
    with pytest.raises(Overloaded):
        await edge.authenticate_ticket(ticket)
    assert (await core.authenticate_ticket(ticket)).name == "ann"
    with pytest.raises(NotAuthenticated):
        await core.authenticate_ticket(ticket)
