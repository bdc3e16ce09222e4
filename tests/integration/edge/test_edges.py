"""Edges as processes of their own would be: a real Redis, a real uvicorn, clients on real sockets."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from testkit.edges import DEADLINE_S, Reader, RunningEdge, edge_settings, token
from testkit.publishing import until
from testkit.streaming import account, tick
from vnpy_core.bus import topics
from vnpy_core.domain.enums import Status
from vnpy_core.features.edge.service import FeedState
from vnpy_core.ports.auth import Role
from vnpy_core.ports.registry import Node, NodeRole


@pytest.fixture
def settings(place, tmp_path):
    return edge_settings(place, tmp_path)


async def caught_up(edge, core) -> None:
    await until(lambda: edge.edge.feed.state is FeedState.FOLLOWING and edge.edge.feed.seq >= core.view.seq)


# Reading


async def test_an_edge_answers_as_its_core_would(core, settings):
    core.happen(3)
    core.happen(2, status=Status.ALLTRADED)
    core.trade(2)
    core.passing(account(500.0), topic=topics.ACCOUNT_UPDATED)
    core.passing(tick("rb2505.SHFE"))
    await core.published()
    await core.cached()
    async with RunningEdge(settings) as edge:
        await edge.loaded()
        await caught_up(edge, core)
        orders = (await edge.get("/api/v1/trading/orders")).json()["items"]
        assert [order["seq"] for order in orders] == [1, 2, 3, 4, 5]
        assert len((await edge.get("/api/v1/trading/orders?active=true")).json()["items"]) == 3
        assert len((await edge.get("/api/v1/trading/trades")).json()["items"]) == 2
        accounts = (await edge.get("/api/v1/trading/accounts")).json()["items"]
        assert [item["balance"] for item in accounts] == [500.0]
        assert (await edge.get("/api/v1/trading/ticks/rb2505.SHFE")).json()["vt_symbol"] == "rb2505.SHFE"
        one = await edge.get(f"/api/v1/trading/orders/{orders[0]['vt_orderid']}")
        assert one.json() == orders[0]


async def test_lists_that_reach_below_what_an_edge_holds_say_so(place, core, settings):
    cache = core.cache_sink
    cache._settings = cache._settings.model_copy(update={"keep_finished": 100})
    for finished in cache._finished.values():
        finished._keep = 100
    core.happen(300, status=Status.ALLTRADED)
    await core.published()
    await core.cached()
    async with RunningEdge(settings) as edge:
        await edge.loaded()
        everything = await edge.get("/api/v1/trading/orders?limit=1000")
        assert everything.headers["X-Incomplete"] == "history"
        assert len(everything.json()["items"]) < 300
        newest = await edge.get(f"/api/v1/trading/orders?after_seq={core.view.seq - 10}")
        assert "X-Incomplete" not in newest.headers
        assert len(newest.json()["items"]) == 10
        missing = await edge.get("/api/v1/trading/orders/PAPER.none")
        assert missing.status_code == 404
        assert "the core knows the older ones" in missing.json()["detail"]


async def test_orders_are_sent_back_to_the_core_with_its_address(place, core, settings):
    await core.cached()
    async with RunningEdge(settings) as edge:
        await edge.loaded()
        for method, path in [
            ("POST", "/api/v1/trading/orders"),
            ("DELETE", "/api/v1/trading/orders/P.1"),
            ("GET", "/api/v1/strategies/"),
            ("POST", "/api/v1/auth/token"),
        ]:
            refused = await edge.get(path, method=method, bearer=token(Role.TRADER))
            problem = refused.json()
            assert (refused.status_code, problem["code"], problem["role"]) == (404, "NOT_FOUND", "edge")
            assert place.node in problem["detail"]
        assert (await edge.get("/api/v1/trading/orders", method="POST", bearer=None)).status_code == 401
        assert (await edge.get("/nothing/here")).status_code == 404


async def test_another_core_with_the_same_name_is_not_taken_for_the_one_that_is_followed(place, core, settings):
    def announcement(name: str, epoch: str) -> Node:
        now, address = datetime.now(UTC), f"http://{name}:8006"
        about = {"version": "1", "pid": 1, "started_at": now, "seen_at": now, "address": address, "seq": 1}
        return Node(id=f"core@{name}", node=place.node, role=NodeRole.CORE, epoch=epoch, **about)

    core.happen(1)
    await core.published()
    await core.cached()
    registry = place.registry()
    await registry.announce(announcement("a-true-one", core.journal.epoch), 60)
    await registry.announce(announcement("z-stranger", "another epoch"), 60)
    async with RunningEdge(settings) as edge:
        await edge.loaded()
        await caught_up(edge, core)
        await asyncio.sleep(settings.node.lease_s)  # it looks three times meanwhile
        refused = await edge.get("/api/v1/trading/orders", method="POST")
        assert refused.json()["core"] == "http://a-true-one:8006"


async def test_a_core_that_died_is_stale_though_its_announcement_has_not_run_out(place, core, tmp_path):
    now = datetime.now(UTC)
    about = {"address": "http://a:8006", "version": "1", "pid": 1, "epoch": core.journal.epoch, "seq": 1}
    node = Node(id="core@a", node=place.node, role=NodeRole.CORE, started_at=now, seen_at=now, **about)
    core.happen(1)
    await core.published()
    await core.cached()
    registry = place.registry()
    await registry.announce(node, 60)
    settings = edge_settings(place, tmp_path, edge={"stale_s": 3.0})
    async with RunningEdge(settings) as edge:
        await edge.loaded()
        await until(lambda: edge.edge.feed.state is FeedState.STALE, timeout=15)
        await registry.announce(msgspec.structs.replace(node, seen_at=now + timedelta(seconds=5)), 60)
        await until(lambda: edge.edge.feed.state is FeedState.FOLLOWING, timeout=15)


async def test_before_the_state_was_read_nothing_is_told_about_it(settings):
    async with RunningEdge(settings) as edge:
        ready = await edge.get("/health/ready", bearer=None)
        assert (ready.status_code, ready.json()["components"]["core"]) == (503, "down")
        assert (await edge.get("/health/live", bearer=None)).status_code == 200
        refused = await edge.get("/api/v1/trading/positions")
        assert (refused.status_code, refused.json()["code"]) == (503, "OVERLOADED")
        assert (await edge.get("/api/v1/system/status")).json()["feed"]["state"] == "CONNECTING"
        async with edge.connect() as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd.code == 1013


async def test_status_and_metrics_show_how_the_core_is_followed(core, settings):
    core.happen(5)
    await core.published()
    await core.cached()
    async with RunningEdge(settings) as edge:
        await caught_up(edge, core)
        async with edge.connect() as socket:
            await socket.recv()
            status = (await edge.get("/api/v1/system/status")).json()
            assert (status["role"], status["node"]) == ("edge", settings.node.name)
            assert (status["feed"]["epoch"], status["feed"]["seq"], status["feed"]["lag"]) == ("e1", 5, 0)
            assert [session["principal"] for session in status["sessions"]] == ["eve"]
        async with asyncio.timeout(DEADLINE_S):  # a machine that is very busy may have lost it for a moment
            while 'vnpy_core_edge_state{state="FOLLOWING"} 1.0' not in (await edge.get("/metrics")).text:
                await asyncio.sleep(0.1)
        assert "vnpy_core_edge_seq 5.0" in (await edge.get("/metrics")).text


# Who may


async def test_a_ticket_opens_one_websocket_at_any_edge(core, settings):
    await core.cached()
    async with RunningEdge(settings) as one, RunningEdge(settings) as other:
        await one.loaded()
        await other.loaded()
        ticket = (await one.get("/api/v1/auth/ws-ticket", method="POST")).json()["ticket"]
        async with other.connect(f"?ticket={ticket}") as socket:
            assert json.loads(await socket.recv())["op"] == "welcome"
        for edge in (one, other):
            async with edge.connect(f"?ticket={ticket}") as socket:
                with pytest.raises(ConnectionClosed) as closed:
                    await socket.recv()
                assert closed.value.rcvd.code == 4401


async def test_who_logged_out_at_the_core_is_out_at_its_edges(core, settings):
    await core.cached()
    async with RunningEdge(settings) as edge:
        await edge.loaded()
        assert (await edge.get("/api/v1/auth/me")).json()["name"] == "eve"
        async with edge.connect() as socket:
            await socket.recv()
            until_then = (datetime.now(UTC) + timedelta(minutes=15)).isoformat()
            core.cache_sink.keep("ended_session", "s1", until_then.encode())
            with pytest.raises(ConnectionClosed) as closed:
                async with asyncio.timeout(DEADLINE_S):
                    while True:
                        await socket.recv()
            assert closed.value.rcvd.code == 4401
        assert (await edge.get("/api/v1/auth/me")).status_code == 401
        assert (await edge.get("/api/v1/auth/me", bearer=token(session_id="s2"))).status_code == 200


# Following


async def test_a_client_goes_from_one_edge_to_another_and_misses_nothing(core, settings):
    core.happen(10)
    await core.published()
    await core.cached()
    reader = Reader()
    async with RunningEdge(settings) as one, RunningEdge(settings) as other:
        await caught_up(one, core)
        await caught_up(other, core)
        async with one.connect() as socket:
            await reader.subscribe(socket, topics.ORDER_UPDATED, topics.TRADE_EXECUTED)
            core.happen(20)
            core.trade(5)
            await reader.until(socket, core.last)
        first = list(reader.seqs)
        core.happen(30)  # nobody is connected
        for turn in range(6):
            edge = (other, one)[turn % 2]
            await caught_up(edge, core)
            async with edge.connect() as socket:
                await reader.subscribe(socket, topics.ORDER_UPDATED, topics.TRADE_EXECUTED)
                core.happen(10)
                await reader.until(socket, core.last)
        assert first == list(range(first[0], 36))
        assert reader.seqs == list(range(first[0], core.last + 1))
        assert reader.gaps == 0
        assert reader.resumed == [None] + [True] * 6


async def test_a_client_resumes_at_an_edge_that_started_after_it_left(core, settings):
    core.happen(10)
    await core.published()
    await core.cached()
    reader = Reader()
    async with RunningEdge(settings) as edge:
        await caught_up(edge, core)
        async with edge.connect() as socket:
            await reader.subscribe(socket, topics.ORDER_UPDATED)
            core.happen(1)
            await reader.until(socket, core.last)
    core.happen(500)
    await core.published()
    await core.cached()
    async with RunningEdge(settings) as edge:
        await caught_up(edge, core)
        async with edge.connect() as socket:
            await reader.subscribe(socket, topics.ORDER_UPDATED)
            await reader.until(socket, core.last)
    assert reader.seqs == list(range(11, core.last + 1))
    assert (reader.gaps, reader.resumed) == (0, [None, True])


@pytest.mark.parametrize("fault", ["killed", "flushed", "hung"])
async def test_sessions_outlive_a_redis_that_is(fault, server, place, core, tmp_path):
    settings = edge_settings(place, tmp_path, redis={"timeout_s": 0.5})
    core.happen(10)
    core.passing(account(1.0), topic=topics.ACCOUNT_UPDATED)
    await core.published()
    await core.cached()
    reader = Reader()
    async with RunningEdge(settings) as edge:
        await caught_up(edge, core)
        async with edge.connect() as socket:
            await reader.subscribe(socket, topics.ORDER_UPDATED)
            core.happen(1)
            await reader.until(socket, core.last)
            match fault:
                case "killed":
                    await asyncio.to_thread(server.kill)
                case "hung":
                    server.pause()
                case "flushed":
                    await core.broker._client.flushall()
            if fault != "flushed":
                await until(lambda: edge.edge.feed.state is FeedState.LOST)
                ready = await edge.get("/health/ready", bearer=None)
                assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
                assert (await edge.get("/api/v1/trading/orders")).status_code == 200
            core.happen(200)
            core.passing(account(2.0), topic=topics.ACCOUNT_UPDATED)
            match fault:
                case "killed":
                    await asyncio.to_thread(server.start)
                case "hung":
                    server.resume()
                case _:
                    pass
            await reader.until(socket, core.last)
            assert reader.seqs == list(range(11, core.last + 1))
            assert reader.gaps == 0
            await until(lambda: [a.balance for a in edge.edge._view.accounts.values()] == [2.0])
            await caught_up(edge, core)
            assert edge.edge.feed.status().loads == 1


async def test_what_a_stranger_writes_is_passed_over(place, core, settings):
    core.happen(3)
    await core.published()
    await core.cached()
    async with RunningEdge(settings) as edge:
        await caught_up(edge, core)
        stream = f"vnpy_core:{place.node}:events:e1"
        await place.client.xadd(stream, {"event": b"no envelope"}, id="4-0")
        await place.client.xadd(stream, {"other": b"no field of ours"}, id="5-0")
        await place.client.publish(f"vnpy_core:{place.node}:tick.x.Y", b"\xff")
        await until(lambda: edge.edge.feed.status().undecodable == 3)
        assert edge.edge.feed.state is FeedState.FOLLOWING
        assert edge.edge.feed.status().faults == 0


async def test_a_stopping_edge_says_goodbye_and_is_listed_no_longer(place, core, settings):
    await core.cached()
    registry = place.registry()
    async with RunningEdge(settings) as edge:
        await edge.loaded()
        async with asyncio.timeout(DEADLINE_S):
            while not (mine := [n for n in await registry.nodes() if n.node == place.node]):
                await asyncio.sleep(0.02)
        assert (mine[0].role, mine[0].address) == (NodeRole.EDGE, edge.url)
        listed = (await edge.get("/api/v1/system/nodes")).json()["items"]
        assert mine[0].id in [node["id"] for node in listed]
        async with edge.connect() as socket:
            await socket.recv()
            await edge.stop()
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await socket.recv()
            assert closed.value.rcvd.code == 1001
    assert [node for node in await registry.nodes() if node.node == place.node] == []
