"""The WebSocket endpoint over real sockets."""

from __future__ import annotations

import asyncio
import json
import time

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from testkit.streaming import account, holder, live, log, order, tick
from testkit.streaming_server import DEADLINE_S, Server, receive, subscribe


def settings(**values: object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("server", [values], indirect=True)


async def close_code(client: object) -> int | None:
    """Read on until the end."""
    async with asyncio.timeout(DEADLINE_S):
        try:
            while True:
                await client.recv()  # type: ignore[attr-defined]
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


async def test_a_header_opens_the_session(server: Server) -> None:
    async with server.client() as client:
        assert await receive(client) == {"op": "welcome", "epoch": "e1", "seq": 0, "heartbeat_s": 15.0}
        [status] = await server.status()
        assert (status.id, status.principal) == ("ws-1", "ann")
    await server.sessions(0)


async def test_a_first_message_opens_the_session(server: Server) -> None:
    async with server.client(token=None) as client:
        await client.send('{"op":"auth","token":"good"}')
        assert (await receive(client))["op"] == "welcome"


@pytest.mark.parametrize(
    "first", ['{"op":"auth","token":"bad"}', '{"op":"ping"}', "{", b"x", '{"op":"auth","token":"' + "x" * 70_000 + '"}']
)
async def test_any_other_first_message_is_refused(server: Server, first: str | bytes) -> None:
    async with server.client(token=None) as client:
        await client.send(first)
        assert await close_code(client) == 4401


@settings(auth_timeout_s=0.1)
async def test_silence_is_refused(server: Server) -> None:
    async with server.client(token=None) as client:
        assert await close_code(client) == 4401


async def test_a_client_that_leaves_before_it_says_who_it_is_is_forgotten(server: Server) -> None:
    async with server.client(token=None):
        pass
    await server.sessions(0)


async def test_a_wrong_header_is_refused(server: Server) -> None:
    async with server.client(token="bad") as client:
        assert await close_code(client) == 4401
    assert await server.status() == []


async def test_a_ticket_opens_one_session(server: Server) -> None:
    server.tokens.tickets["abc"] = holder("desk")
    async with server.client(token=None, path="/ws?ticket=abc") as client:
        assert (await receive(client))["op"] == "welcome"
        [status] = await server.status()
        assert status.principal == "desk"
        async with server.client(token=None, path="/ws?ticket=abc") as again:
            assert await close_code(again) == 4401


async def test_a_page_of_another_host_is_refused_with_a_ticket_too_and_does_not_use_it_up(server: Server) -> None:
    server.tokens.tickets["abc"] = holder()
    with pytest.raises(InvalidStatus) as refused:
        async with server.client(token=None, path="/ws?ticket=abc", origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403
    assert "abc" in server.tokens.tickets


@pytest.mark.parametrize("name", ["cbor", "", "JSON"])
async def test_an_unknown_encoding_is_refused_and_says_which_there_are(server: Server, name: str) -> None:
    async with server.client(path=f"/ws?encoding={name}") as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4400, "encoding is one of json, msgpack")


async def test_messagepack_says_what_json_says(server: Server) -> None:
    await server.publish(account(1), order(1), tick(tick_seq=1))
    async with server.client() as json_client, server.client(path="/ws?encoding=msgpack") as client:
        request = {"op": "subscribe", "id": "x", "topics": ["*"], "resume": {"epoch": "e1", "seq": 0}}
        await json_client.send(json.dumps(request))
        await client.send(msgspec.msgpack.encode(request))
        await server.sessions(2)
        while any(status.topics == 0 for status in await server.status()):
            await asyncio.sleep(0.01)
        await server.publish(order(2), tick(tick_seq=2), log("x"))
        for _ in range(8):
            frame = await client.recv()
            assert isinstance(frame, bytes)
            assert msgspec.msgpack.decode(frame) == await receive(json_client)
        assert {status.encoding for status in await server.status()} == {"json", "msgpack"}
        await client.send('{"op":"ping","id":1}')
        assert msgspec.msgpack.decode(await client.recv()) == {"op": "pong", "id": 1}
        for wrong in (b"\xc1", msgspec.msgpack.encode({"op": "nope", "id": 7}), b"\x91" * 60_000, b"x" * 70_000):
            await client.send(wrong)
            assert msgspec.msgpack.decode(await client.recv())["op"] == "error"


async def test_a_first_binary_message_opens_a_messagepack_session(server: Server) -> None:
    async with server.client(token=None, path="/ws?encoding=msgpack") as client:
        await client.send(msgspec.msgpack.encode({"op": "auth", "token": "good"}))
        assert msgspec.msgpack.decode(await client.recv())["op"] == "welcome"


async def test_a_client_comes_back_and_gets_what_it_missed(server: Server) -> None:
    async with server.client() as client:
        await subscribe(client, "order.updated")
        await server.publish(order(1))
        last = (await receive(client))["seq"]
    await server.publish(*(order(number) for number in range(2, 3_000)))
    async with server.client() as client:
        await receive(client)
        await client.send(
            json.dumps({"op": "subscribe", "topics": ["order.updated"], "resume": {"epoch": "e1", "seq": last}})
        )
        assert (await receive(client))["resumed"] is True
        frames = [await receive(client) for _ in range(2_998)]
    assert [frame["prev_seq"] for frame in frames] == list(range(1, 2_999))
    assert [frame["seq"] for frame in frames] == list(range(2, 3_000))


@settings(check_s=0.02)
async def test_a_logout_ends_the_session(server: Server) -> None:
    async with server.client() as client:
        await receive(client)
        server.hub.ended_logins.add("s")
        assert await close_code(client) == 4401


@settings(sessions_per_principal=1)
async def test_one_principal_has_so_many_sessions_and_a_node_that_is_not_ready_takes_none(server: Server) -> None:
    server.tokens.holders["bob"] = holder("bob")
    async with server.client() as first:
        await receive(first)
        async with server.client() as second:
            assert await close_code(second) == 1013
        async with server.client("bob") as other:
            assert (await receive(other))["op"] == "welcome"
        server.hub.is_ready = False
        server.tokens.holders["eve"] = holder("eve")
        async with server.client("eve") as early:
            assert await close_code(early) == 1013


async def test_another_epoch_sends_everybody_away(server: Server) -> None:
    async with server.client() as client:
        await receive(client)
        await server.call(server.hub.service.set_epoch, "e2")
        assert await close_code(client) == 1012
    async with server.client() as client:
        assert (await receive(client))["epoch"] == "e2"


@settings(allowed_origins=("https://desk.example/",))
async def test_pages_of_other_hosts_are_refused_before_the_handshake(server: Server) -> None:
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{server.port + 1}", "http://127.0.0.1", "x:"):
        with pytest.raises(InvalidStatus) as refused:
            async with server.client(origin=origin):
                pass
        assert refused.value.response.status_code == 403
    for origin in ("https://Desk.example", f"http://127.0.0.1:{server.port}"):
        async with server.client(origin=origin) as client:
            assert (await receive(client))["op"] == "welcome"


async def test_wrong_frames_keep_the_session_alive(server: Server) -> None:
    async with server.client() as client:
        await receive(client)
        for frame in ["{", "[]", "", '{"op":"nope"}', b"\x00", '{"op":"ping","id":[]}', "x" * 70_000, '{"a":' * 10_000]:
            await client.send(frame)
            assert (await receive(client))["op"] == "error"
        await client.send(["{", '"op":', '"ping","id":1}'])
        assert await receive(client) == {"op": "pong", "id": 1}


@settings(max_frame_bytes=65_536)
async def test_an_oversized_frame_is_answered(server: Server) -> None:
    async with server.client() as client:
        await receive(client)
        await client.send(json.dumps({"op": "ping", "id": "x" * 1_000_000}))
        assert (await receive(client))["code"] == "PAYLOAD_TOO_LARGE"
        await client.send('{"op":"ping"}')
        assert await receive(client) == {"op": "pong"}


async def test_snapshots_then_live_messages(server: Server) -> None:
    await server.publish(account(1), tick(tick_seq=1))
    async with server.client() as client:
        await subscribe(client, "*")
        await server.publish(order(1), order(2), tick(tick_seq=2))
        frames = [await receive(client) for _ in range(5)]
        assert [("snapshot" in f, f["topic"], f.get("prev_seq", "absent")) for f in frames] == [
            (True, "account.updated", "absent"),
            (True, "tick.rb2505.SHFE", "absent"),
            (False, "order.updated", 0),
            (False, "order.updated", 1),
            (False, "tick.rb2505.SHFE", "absent"),
        ]


@settings(conflate_above=20, lossless_limit=1_000_000)
async def test_a_slow_reader_gets_conflated_ticks_and_all_orders(server: Server) -> None:
    async with server.stopped_client("tick.*", "order.updated") as client:
        for number in range(1, 3_001):
            await server.publish(tick(tick_seq=number), order(number))
        frames = []
        while not frames or frames[-1].get("data", {}).get("orderid") != "3000":
            frames.append(await receive(client))
        await client.send('{"op":"ping"}')
        while frames[-1] != {"op": "pong"}:
            frames.append(await receive(client))
    frames = live(frames)
    assert [int(f["data"]["orderid"]) for f in frames if f["topic"] == "order.updated"] == list(range(1, 3_001))
    ticks = [f["data"]["tick_seq"] for f in frames if f["topic"].startswith("tick.")]
    assert ticks == sorted(ticks)
    assert ticks[-1] == 3_000
    assert len(ticks) < 3_000


async def test_a_client_that_does_not_read_its_orders_is_closed_with_1013(server: Server) -> None:
    async with server.stopped_client("order.updated") as client, server.client() as other:
        await subscribe(other, "order.updated")
        reader = asyncio.create_task(read_orders(other, 5_000))
        for start in range(1, 5_001, 50):
            await server.publish(*(order(number) for number in range(start, start + 50)))
        await server.sessions(1)
        assert await close_code(client) == 1013
        assert await reader == list(range(1, 5_001))


async def read_orders(client: object, count: int) -> list[int]:
    return [int((await receive(client))["data"]["orderid"]) for _ in range(count)]  # type: ignore[arg-type]


@settings(hold_above=500, release_below=100, tick_queue=1_000)
async def test_every_tick_arrives_because_a_replay_waits(server: Server) -> None:
    total = 10_000
    held = 0

    async def replay() -> None:
        nonlocal held
        for number in range(1, total + 1):
            server.hub.publish(tick(tick_seq=number))
            if not server.hub.flow.open:
                held += 1
                opened = asyncio.Event()
                server.hub.flow.when_open(opened.set)
                await opened.wait()

    async with server.stopped_client() as client:
        await client.send('{"op":"subscribe","topics":["tick.*"],"conflate":false}')
        assert (await receive(client))["op"] == "subscribed"
        replaying = asyncio.create_task(server.run(replay()))
        seen = [(await receive(client))["data"]["tick_seq"] for _ in range(total)]
        await replaying
    assert seen == list(range(1, total + 1))
    assert held > 1


@settings(stall_s=0.2, check_s=0.05)
async def test_a_client_that_never_reads_again_is_cut_off(server: Server) -> None:
    async with server.stopped_client("tick.*", conflate=False) as client:
        for number in range(1_000):
            await server.publish(*(tick(f"s{n}.X", number) for n in range(10)))
            if not await server.status():
                break
        await server.sessions(0)
        assert await close_code(client) is None


@settings(heartbeat_s=0.1, check_s=0.02)
async def test_heartbeats(server: Server) -> None:
    async with server.client() as client:
        await receive(client)
        started = time.monotonic()
        for _ in range(3):
            assert await receive(client) == {"op": "heartbeat"}
        assert time.monotonic() - started > 0.15


@settings(check_s=0.02)
async def test_the_session_ends_with_its_token_unless_renewed(server: Server) -> None:
    now = server.hub.clock.now()
    server.tokens.holders["brief"] = holder(expires_at=now)
    server.tokens.holders["long"] = holder()
    server.tokens.holders["other"] = holder("bob")
    async with server.client() as client:
        await receive(client)
        await client.send('{"op":"auth","token":"other"}')
        assert (await receive(client))["code"] == "NOT_PERMITTED"
        await client.send('{"op":"auth","token":"long"}')
        assert (await receive(client))["op"] == "welcome"
        await client.send('{"op":"auth","token":"brief"}')
        assert await close_code(client) == 4401
    async with server.client() as client:
        await client.send('{"op":"auth","token":"bad"}')
        assert await close_code(client) == 4401


@settings(max_sessions=1)
async def test_one_client_too_many_is_told_to_come_later(server: Server) -> None:
    async with server.client() as first:
        await receive(first)
        async with server.client() as second:
            assert await close_code(second) == 1013


async def test_shutdown_says_goodbye(server: Server) -> None:
    async with server.client() as client:
        await subscribe(client, "order.updated")
        await server.publish(*(order(number) for number in range(500)))
        closing = asyncio.create_task(server.run(server.hub.service.close()))
        assert await read_orders(client, 500) == list(range(500))
        assert await close_code(client) == 1001
        await closing
        async with server.client() as late:
            assert await close_code(late) == 1013
