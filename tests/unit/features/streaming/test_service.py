from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from testkit.streaming import TIME, FakeConnection, Hub, account, holder, live, log, order, settle, strategy, tick
from vnpy_core.domain.enums import Status
from vnpy_core.domain.errors import Overloaded
from vnpy_core.features.streaming.schemas import Auth
from vnpy_core.features.streaming.wire import ENCODINGS


@pytest.fixture
async def hub() -> Any:
    hub = Hub()
    yield hub
    await hub.service.close()


async def test_a_client_is_greeted(hub: Hub) -> None:
    hub.publish(order(1))
    _, connection = await hub.client()
    assert connection.frames == [{"op": "welcome", "epoch": "e1", "seq": 1, "heartbeat_s": 15.0}]


async def test_subscribing_gives_the_reply_then_snapshots_then_live_messages(hub: Hub) -> None:
    hub.publish(account(100), order(1), order(2), order(2, Status.CANCELLED), tick(tick_seq=5))
    _, connection = await hub.client("order.updated", "account.*", "tick.*", "tick.rb2505.SHFE", "tick.none.X", "nope")
    hub.publish(order(3), tick(tick_seq=6))
    await settle()
    _, subscribed, *rest = connection.frames
    assert subscribed == {
        "op": "subscribed",
        "topics": ["order.updated", "account.*", "tick.*", "tick.rb2505.SHFE", "tick.none.X"],
        "errors": [{"topic": "nope", "code": "NOT_FOUND"}],
        "epoch": "e1",
        "seq": 3,
        "snapshots": {"order.updated": 1, "account.updated": 1, "tick.rb2505.SHFE": 1, "tick.none.X": 0},
        "resumed": None,
    }
    snapshots, after = rest[:3], rest[3:]
    assert sorted((f["topic"], f["snapshot"], f["epoch"], f["seq"]) for f in snapshots) == [
        ("account.updated", True, "e1", 3),
        ("order.updated", True, "e1", 3),
        ("tick.rb2505.SHFE", True, "e1", 3),
    ]
    assert [f["data"]["vt_orderid"] for f in snapshots if f["topic"] == "order.updated"] == ["PAPER.1"]
    assert [(f["topic"], f["seq"]) for f in after] == [("order.updated", 4), ("tick.rb2505.SHFE", 4)]


async def test_replies_come_without_an_id_where_none_was_given_and_with_it_else(hub: Hub) -> None:
    session, connection = await hub.client()
    hub.ask(session, op="ping")
    hub.ask(session, op="ping", id="p")
    hub.ask(session, op="subscribe", id=1, topics=["log", "log", "tick.*"])
    hub.ask(session, op="list", id=2)
    hub.ask(session, op="unsubscribe", id=3, topics=["log", "trade.executed"])
    hub.ask(session, op="list", id=4)
    await settle()
    assert connection.frames[1:] == [
        {"op": "pong"},
        {"op": "pong", "id": "p"},
        {
            "op": "subscribed",
            "id": 1,
            "topics": ["log", "tick.*"],
            "errors": [],
            "epoch": "e1",
            "seq": 0,
            "snapshots": {},
            "resumed": None,
        },
        {"op": "topics", "id": 2, "topics": ["log", "tick.*"]},
        {
            "op": "unsubscribed",
            "id": 3,
            "topics": ["log"],
            "errors": [{"topic": "trade.executed", "code": "NOT_FOUND"}],
        },
        {"op": "topics", "id": 4, "topics": ["tick.*"]},
    ]


async def test_after_unsubscribed_nothing_comes(hub: Hub) -> None:
    session, connection = await hub.client("order.updated")
    hub.publish(order(1))
    hub.ask(session, op="unsubscribe", topics=["order.updated"])
    hub.publish(order(2))
    await settle()
    assert [f.get("op") or f["seq"] for f in connection.frames] == ["welcome", "subscribed", 1, "unsubscribed"]


async def test_subscribing_twice_gives_the_snapshot_again_and_each_message_once(hub: Hub) -> None:
    hub.publish(account(1))
    session, connection = await hub.client("account.updated")
    hub.ask(session, op="subscribe", topics=["account.updated", "*"])
    hub.publish(account(2))
    await settle()
    assert sum("snapshot" in f for f in connection.frames) == 2
    assert [f["data"]["balance"] for f in live(connection.frames)] == [2]


async def test_nothing_is_lost_or_doubled_around_a_subscription(hub: Hub) -> None:
    """A client's state equals the view's whenever it comes."""
    connections = []
    for number in range(50):
        hub.publish(order(number))
        connections.append((await hub.client("order.updated"))[1])
        hub.publish(order(number, Status.ALLTRADED if number % 2 else Status.PARTTRADED), account(number))
    await settle()
    for connection in connections:
        state: dict[str, str] = {}
        seqs = [f["seq"] for f in live(connection.frames)]
        for frame in connection.frames:
            if "topic" in frame:
                state[frame["data"]["vt_orderid"]] = frame["data"]["status"]
        active = {key for key, status in state.items() if status == "PARTTRADED"}
        assert active == set(hub.view.active_orders)
        assert seqs == sorted(set(seqs))
        first = next((f["seq"] for f in connection.frames if "snapshot" in f), 0)
        assert all(seq > first for seq in seqs)


async def test_lossless_frames_name_their_predecessor(hub: Hub) -> None:
    _, connection = await hub.client("order.updated", "account.updated")
    hub.publish(order(1), account(1), order(2))
    await settle()
    frames = live(connection.frames)
    assert [(f["seq"], f.get("prev_seq", "absent")) for f in frames] == [(1, 0), (1, "absent"), (2, 1)]
    assert list(frames[0]) == ["topic", "epoch", "seq", "ts", "prev_seq", "data"]


async def test_a_message_is_encoded_once_and_only_for_listeners(hub: Hub) -> None:
    seen: list[Any] = []
    hub.bus.subscribe(["*"], seen.append)
    hub.publish(tick())
    await settle()
    assert "payload" not in vars(seen[0])
    clients = [await hub.client("tick.*", encoding=ENCODINGS[name]) for name in ("json", "msgpack") * 3]
    hub.publish(tick(tick_seq=2))
    await settle()
    assert len(vars(seen[1])["memo"]) == 2
    assert len({id(connection.sent[-1]) for _, connection in clients}) == 2
    assert all(connection.frames[-1] == clients[0][1].frames[-1] for _, connection in clients)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{", "VALIDATION_FAILED"),
        ('{"op":"nope","id":9}', "VALIDATION_FAILED"),
        ('{"op":"subscribe","id":9,"topics":5}', "VALIDATION_FAILED"),
        ('{"op":"' + "x" * 60_000 + '"}', "VALIDATION_FAILED"),
        (b'{"op":"ping"}', "VALIDATION_FAILED"),
        (json.dumps({"op": "subscribe", "id": 9, "topics": [f"tick.{n}.X" for n in range(201)]}), "PAYLOAD_TOO_LARGE"),
        (json.dumps({"op": "ping", "id": "x" * 70_000}), "PAYLOAD_TOO_LARGE"),
    ],
)
async def test_a_wrong_frame_is_answered_and_the_session_goes_on(hub: Hub, frame: str | bytes, code: str) -> None:
    session, connection = await hub.client()
    hub.service.receive(session, frame)
    hub.ask(session, op="ping", id=1)
    await settle()
    _, error, pong = connection.frames
    assert (error["op"], error["code"]) == ("error", code)
    assert len(error["detail"]) <= 200
    assert error.get("id", 9) == 9
    assert pong == {"op": "pong", "id": 1}


async def test_a_session_has_a_thousand_topics_at_most_and_a_refused_message_changes_nothing(hub: Hub) -> None:
    session, connection = await hub.client()
    for start in range(0, 1000, 200):
        hub.ask(session, op="subscribe", topics=[f"tick.{n}.X" for n in range(start, start + 200)])
    hub.ask(session, op="subscribe", id=1, topics=["log", "tick.1.X"])
    hub.ask(session, op="subscribe", id=2, topics=["tick.1.X"])
    await settle()
    assert [(f["op"], f.get("code")) for f in connection.frames[-2:]] == [("error", "CONFLICT"), ("subscribed", None)]
    assert "log" not in session.patterns


async def test_requests_past_the_allowance_are_denied_until_time_passes(hub: Hub) -> None:
    session, connection = await hub.client()
    for number in range(102):
        hub.ask(session, op="ping", id=number)
    hub.clock.advance(0.03)
    hub.ask(session, op="ping", id=200)
    await settle()
    answers = [(f["op"], f["id"]) for f in connection.frames[1:]]
    assert answers[99:] == [("pong", 99), ("error", 100), ("error", 101), ("pong", 200)]
    assert connection.frames[101]["code"] == "RATE_LIMITED"


async def test_a_slow_reader_gets_the_newest_ticks_and_all_orders() -> None:
    hub = Hub(conflate_above=10)
    _, connection = await hub.client("tick.*", "order.updated")
    connection.reading.clear()
    hub.publish(order(0))
    await settle()
    for number in range(1, 500):
        hub.publish(tick(tick_seq=number), order(number))
    connection.reading.set()
    await settle()
    frames = live(connection.frames)
    tick_seqs = [f["data"]["tick_seq"] for f in frames if f["topic"].startswith("tick")]
    assert tick_seqs == [499]
    orders = [f for f in frames if f["topic"] == "order.updated"]
    assert [f["data"]["orderid"] for f in orders] == [str(n) for n in range(500)]
    assert [f["prev_seq"] for f in orders[1:]] == [f["seq"] for f in orders[:-1]]
    [status] = hub.service.status().sessions
    assert (status.conflated, status.queued, status.topics) == (498, 0, 2)
    await hub.service.close()


async def test_a_client_too_far_behind_on_orders_is_closed_with_1013(hub: Hub) -> None:
    slow, connection = await hub.client("order.updated")
    _, other = await hub.client("order.updated")
    connection.reading.clear()
    for number in range(1_100):
        hub.publish(order(number))
        await asyncio.sleep(0)
    assert slow.ended
    assert [s.id for s in hub.service.status().sessions] == ["ws-2"]
    connection.reading.set()
    await settle()
    assert connection.code == 1013
    assert len(live(other.frames)) == 1_100
    assert live(connection.frames) == []


async def test_a_burst_of_orders_does_not_close_a_client_that_reads(hub: Hub) -> None:
    _, connection = await hub.client("order.updated")
    for start in range(0, 10_000, 256):
        hub.publish(*(order(number) for number in range(start, start + 256)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await settle()
    assert connection.code is None
    assert len(live(connection.frames)) >= 10_000


async def test_every_tick_holds_a_replay_and_loses_nothing() -> None:
    hub = Hub(hold_above=500, release_below=100, tick_queue=1000)
    _, connection = await hub.client("tick.*", conflate=False)
    connection.reading.clear()
    published = 0
    while hub.flow.open:
        published += 1
        hub.publish(tick(tick_seq=published))
        if published % 50 == 0:
            await settle()
    assert published < 700
    resumed = asyncio.Event()
    hub.flow.when_open(resumed.set)
    connection.reading.set()
    await asyncio.wait_for(resumed.wait(), 5)
    await settle()
    assert [f["data"]["tick_seq"] for f in live(connection.frames)] == list(range(1, published + 1))
    await hub.service.close()


async def test_leaving_gives_the_credit_back() -> None:
    hub = Hub(hold_above=5)
    session, connection = await hub.client("tick.*", conflate=False)
    connection.reading.clear()
    hub.publish(*(tick(tick_seq=n) for n in range(100)))
    assert not hub.flow.open
    await hub.service.leave(session)
    assert hub.flow.open
    assert hub.service.status().sessions == []
    hub.publish(tick(tick_seq=101))


async def test_a_connection_that_breaks_ends_its_session(hub: Hub) -> None:
    session, connection = await hub.client("log")
    connection.gone = True
    hub.publish(log("x"))
    await settle()
    assert session.ended
    await hub.service.leave(session)


async def test_heartbeats_come_when_due(hub: Hub) -> None:
    _, connection = await hub.client()
    for _ in range(31):
        hub.clock.advance(1)
        hub.service.check()
        await settle()
    assert connection.frames[1:] == [{"op": "heartbeat"}] * 2


async def test_an_expired_token_ends_the_session_and_a_renewed_one_does_not(hub: Hub) -> None:
    soon = hub.clock.now() + timedelta(seconds=10)
    expiring, first = await hub.client(expires_at=soon)
    renewing, second = await hub.client(expires_at=soon)
    request = hub.service.receive(renewing, '{"op":"auth","id":1,"token":"t"}')
    assert request == Auth(id=1, token="t")
    hub.service.renew(renewing, request, holder(expires_at=soon + timedelta(seconds=60)))
    hub.clock.advance(10)
    hub.service.check()
    await settle()
    assert (expiring.ended, first.code) == (True, 4401)
    assert (renewing.ended, second.code) == (False, None)
    assert (second.frames[-1]["op"], second.frames[-1]["id"]) == ("welcome", 1)


async def test_a_session_cannot_change_hands(hub: Hub) -> None:
    session, connection = await hub.client(name="ann")
    hub.service.renew(session, Auth(token="t"), holder(name="bob"))
    await settle()
    assert connection.frames[-1]["code"] == "NOT_PERMITTED"
    assert session.principal.name == "ann"


async def test_a_client_that_stops_reading_is_cut_off(hub: Hub) -> None:
    session, connection = await hub.client("order.updated")
    hub.clock.advance(60)
    hub.service.check()
    connection.reading.clear()
    await settle()
    hub.publish(order(1))
    for _ in range(31):
        await settle()
        assert not connection.aborted
        hub.service.check()
        hub.clock.advance(1)
    hub.service.check()
    assert connection.aborted
    assert session.ended


async def test_a_slow_but_reading_client_is_not_cut_off(hub: Hub) -> None:
    session, connection = await hub.client("order.updated")
    for number in range(60):
        connection.reading.clear()
        hub.publish(*(order(n) for n in range(10)))
        await settle()
        hub.clock.advance(20)
        hub.service.check()
        connection.reading.set()
        await settle()
        assert not session.ended, number


async def test_a_client_that_asks_and_never_reads_is_closed() -> None:
    hub = Hub(reply_limit=10, ops_burst=1000)
    session, connection = await hub.client()
    connection.reading.clear()
    for _ in range(200):
        hub.ask(session, op="ping")
        await asyncio.sleep(0)
    assert session.ended
    connection.reading.set()
    await settle()
    assert connection.code == 1013


async def test_an_event_that_json_cannot_hold_is_a_gap_and_the_session_goes_on(hub: Hub) -> None:
    hub.publish(strategy(x=np.float64(1)))
    _, connection = await hub.client("strategy.*")
    hub.publish(strategy(x=np.float64(2)))
    await settle()
    hub.publish(strategy(x=3))
    await settle()
    *_, snapshot, update, last = connection.frames
    assert snapshot == update == {"op": "gap", "topic": "strategy.updated"}
    assert last["data"]["variables"] == {"x": 3}


async def test_too_many_clients_are_refused() -> None:
    hub = Hub(max_sessions=1)
    session, _ = await hub.client()
    with pytest.raises(Overloaded):
        await hub.client()
    await hub.service.leave(session)
    await hub.client()
    await hub.service.close()


async def test_shutdown_sends_what_waits_and_says_goodbye(hub: Hub) -> None:
    _, connection = await hub.client("order.updated")
    hub.publish(*(order(number) for number in range(900)))
    await hub.service.close()
    assert len(live(connection.frames)) == 900
    assert connection.code == 1001
    with pytest.raises(Overloaded):
        hub.service.open(FakeConnection(), holder())
    hub.publish(order(1))


async def test_shutdown_does_not_wait_for_a_client_that_does_not_read() -> None:
    hub = Hub(drain_s=0.05)
    hub.service.start()
    _, connection = await hub.client("order.updated")
    connection.reading.clear()
    hub.publish(order(1))
    await asyncio.wait_for(hub.service.close(), 5)
    assert connection.aborted
    await hub.service.close()


async def test_shutdown_does_not_wait_for_a_client_that_was_closed_for_not_reading() -> None:
    hub = Hub(drain_s=0.05, lossless_limit=1)
    _, connection = await hub.client("order.updated")
    connection.reading.clear()
    for number in range(4):
        hub.publish(order(number))
        await settle()
    assert hub.service.status().sessions == []
    await asyncio.wait_for(hub.service.close(), 5)
    assert connection.aborted


async def test_the_housekeeper_works_by_itself() -> None:
    hub = Hub(check_s=0.01)
    hub.service.start()
    _, connection = await hub.client()
    hub.clock.advance(15)
    async with asyncio.timeout(5):
        while connection.frames[-1] != {"op": "heartbeat"}:
            await asyncio.sleep(0.01)
    await hub.service.close()


async def test_the_operator_sees_how_far_behind_a_client_is(hub: Hub) -> None:
    _, connection = await hub.client("*")
    connection.reading.clear()
    hub.publish(log("taken by the connection"))
    await settle()
    hub.publish(order(1), tick(), order(2))
    await settle()
    [status] = hub.service.status().sessions
    assert (status.address, status.encoding, status.queued, status.behind) == ("127.0.0.1:50000", "json", 3, 2)
    age = (hub.clock.now() - TIME).total_seconds() * 1_000
    assert status.lag_ms == max(0.0, age)
    connection.reading.set()
    await settle()
    [status] = hub.service.status().sessions
    assert (status.queued, status.behind, status.lag_ms) == (0, 0, 0)


async def test_an_ended_login_ends_its_sessions(hub: Hub) -> None:
    _, connection = await hub.client()
    hub.service.check()
    hub.ended_logins.add("s")
    hub.service.check()
    await settle()
    assert connection.code == 4401


async def test_nobody_is_taken_before_the_node_is_ready(hub: Hub) -> None:
    hub.is_ready = False
    with pytest.raises(Overloaded):
        await hub.client()
    hub.is_ready = True
    await hub.client()


async def test_one_principal_has_so_many_sessions() -> None:
    hub = Hub(sessions_per_principal=2)
    session, _ = await hub.client(name="ann")
    await hub.client(name="ann")
    with pytest.raises(Overloaded):
        await hub.client(name="ann")
    await hub.client(name="bob")
    await hub.service.leave(session)
    await hub.client(name="ann")
    await hub.service.close()


async def test_a_snapshot_is_shared_until_its_topic_changes(hub: Hub) -> None:
    hub.publish(account(1), order(1))
    first, second = [(await hub.client("account.updated"))[1].frames for _ in range(2)]
    hub.publish(account(2))
    _, third = await hub.client("account.updated")
    assert first[2]["data"]["balance"] == second[2]["data"]["balance"] == 1
    assert third.frames[2]["data"]["balance"] == 2


async def test_ten_thousand_kept_messages_are_small(hub: Hub) -> None:
    """With a client that hears them all, so that their frames were made."""
    await hub.client("order.updated")
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for start in range(0, 12_500, 50):
        hub.publish(*(order(number) for number in range(start, start + 50)))
        await asyncio.sleep(0)
    await settle()
    hub.view.finished_orders.clear()
    hub.service.drop_sessions()
    await settle()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 25_000_000
