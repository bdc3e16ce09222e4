"""Announcing oneself, the list of all, and names."""

from datetime import UTC, datetime

import httpx2
import msgspec
import pytest
from fastapi import FastAPI

from testkit.leases import LEASE_S, Timeline
from vnpy_core.adapters.registry.memory import MemoryRegistry
from vnpy_core.domain.errors import NotAuthenticated, RegistryUnavailable
from vnpy_core.features.nodes.endpoints import router
from vnpy_core.features.nodes.identity import core_id, edge_id
from vnpy_core.features.nodes.service import Announcer, LoadMeter, NodesService, resident_mb
from vnpy_core.ports.auth import Principal, Role
from vnpy_core.ports.registry import Node, NodeRole
from vnpy_core.web import problems

START = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)


class AwayRegistry(MemoryRegistry):
    is_away = False

    async def announce(self, node, lease_s):
        self._require()
        await super().announce(node, lease_s)

    async def nodes(self):
        self._require()
        return await super().nodes()

    async def withdraw(self, node_id):
        self._require()
        await super().withdraw(node_id)

    def _require(self):
        if self.is_away:
            raise RegistryUnavailable("Redis: away")


class World:
    def __init__(self):
        self.time = Timeline()
        self.registry = AwayRegistry(self.time.clock)
        self.sessions, self.events, self.cpu, self.seq = 0, 0, 0.0, 0
        self.announcers = []

    def node(self, name="core", role=NodeRole.CORE) -> Announcer:
        meter = LoadMeter(
            self.time.clock, sessions=lambda: self.sessions, events=lambda: self.events, cpu_s=lambda: self.cpu,
            memory_mb=lambda: 12.345,
        )  # fmt: skip

        def describe():
            return Node(
                id=f"{name}-1", node=name, role=role, address="http://127.0.0.1:8006", version="1", pid=1, epoch="e",
                seq=self.seq, gateways={"P": True}, started_at=START, seen_at=START,
            )  # fmt: skip

        announcer = Announcer(
            self.registry, self.time.clock, describe, meter, lease_s=LEASE_S, wait=self.time.wait, jitter=lambda: 0.0
        )
        self.announcers.append(announcer)
        return announcer


@pytest.fixture
async def world():
    world = World()
    yield world
    for announcer in world.announcers:
        await announcer.close()


async def ids(world):
    return [node.id for node in await MemoryRegistry.nodes(world.registry)]


async def test_a_node_is_listed_as_long_as_it_runs_and_withdraws_at_its_end(world):
    announcer = world.node()
    announcer.start()
    await world.time.pass_time(5 * LEASE_S)
    assert await ids(world) == ["core-1"]
    await announcer.close()
    assert await ids(world) == []


async def test_a_load_that_cannot_be_read_once_does_not_end_the_announcements(world):
    announcer = world.node()
    world.events = None  # no number to reckon with
    announcer.start()
    await world.time.settle()
    assert announcer.error
    world.events = 0
    await world.time.pass_time(LEASE_S)
    assert await ids(world) == ["core-1"]
    assert announcer.error == ""


async def test_the_list_shows_load_and_place_of_each(world):
    core, edge = world.node(), world.node("edge", NodeRole.EDGE)
    core.start()
    edge.start()
    await world.time.settle()
    world.sessions, world.events, world.cpu, world.seq = 3, 1_000, 1.0, 77
    await world.time.pass_time(LEASE_S / 2)
    nodes = await NodesService(world.registry, core).nodes()
    assert (nodes.complete, nodes.detail) == (True, "")
    assert [node.id for node in nodes.items] == ["core-1", "edge-1"]
    mine = nodes.items[0]
    assert (mine.seq, mine.gateways, mine.seen_at) == (77, {"P": True}, world.time.clock.now())
    assert (mine.load.sessions, mine.load.memory_mb) == (3, 12.3)
    assert mine.load.cpu == pytest.approx(1.0 / 3.5, abs=0.01)
    assert mine.load.events_per_s == pytest.approx(1_000 / 3.5, abs=1)


async def test_without_the_registry_a_node_lists_itself_and_says_that_this_is_not_all(world):
    announcer, other = world.node(), world.node("core-2")
    announcer.start()
    other.start()
    await world.time.settle()
    world.registry.is_away = True
    await world.time.pass_time(2 * LEASE_S)
    nodes = await NodesService(world.registry, announcer).nodes()
    assert ([node.id for node in nodes.items], nodes.complete) == (["core-1"], False)
    assert nodes.detail == announcer.error == "Redis: away"
    world.registry.is_away = False
    await world.time.pass_time(LEASE_S)
    nodes = await NodesService(world.registry, announcer).nodes()
    assert ([node.id for node in nodes.items], nodes.complete) == (["core-1", "core-2-1"], True)
    assert announcer.error == ""


async def test_a_node_that_is_not_announced_yet_lists_itself(world):
    nodes = await NodesService(world.registry, world.node()).nodes()
    assert [node.id for node in nodes.items] == ["core-1"]


async def test_closing_without_the_registry_ends(world):
    announcer = world.node()
    announcer.start()
    world.registry.is_away = True
    await announcer.close()


# The route


class RoleIsToken:
    async def authenticate(self, token: str) -> Principal:
        if token not in list(Role):
            raise NotAuthenticated("no such token")
        return Principal(name=token, role=Role(token), session_id="s", expires_at=START)


@pytest.fixture
def app(world):
    app = FastAPI(openapi_url=None, telemetry={"tracing": False})
    problems.install(app)
    app.include_router(router)
    app.state.nodes = NodesService(world.registry, world.node())
    app.state.authenticator = RoleIsToken()
    return app


async def test_a_viewer_may_list_the_nodes(world, app):
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        path = "/api/v1/system/nodes"
        assert (await client.get(path)).status_code == 401
        body = (await client.get(path, headers={"Authorization": "Bearer viewer"})).json()
    assert (body["complete"], [item["role"] for item in body["items"]]) == (True, ["core"])
    assert msgspec.convert(body["items"][0], Node).id == "core-1"


def test_the_operation_is_documented_with_an_example_that_fits(app):
    operation = app.openapi()["paths"]["/api/v1/system/nodes"]["get"]
    assert operation["operationId"] == "list_nodes"
    assert operation["description"]
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert set(example["items"][0]) == {field.encode_name for field in msgspec.structs.fields(Node)}


# Names


def test_a_core_is_named_after_its_folder_on_this_running_machine(tmp_path):
    name = core_id("core", "desk", tmp_path, "boot")
    assert name.startswith("core@desk-")
    assert core_id("core", "desk", tmp_path, "boot") == name
    copy = tmp_path / "copy"
    copy.mkdir()
    others = {core_id("core", "desk", copy, "boot"), core_id("core", "desk", tmp_path, "another boot")}
    assert len(others | {name}) == 3


def test_without_a_boot_id_and_for_edges_each_process_is_its_own(tmp_path):
    assert core_id("core", "desk", tmp_path, "") != core_id("core", "desk", tmp_path, "")
    assert edge_id("core", "desk") != edge_id("core", "desk")
    assert edge_id("core", "a host: odd").startswith("core-edge@a_host__odd-")


def test_the_memory_of_a_process_is_known_here():
    assert resident_mb() > 1
