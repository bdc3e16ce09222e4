"""Clients that stop reading beside others that do not."""

from __future__ import annotations

import asyncio
import socket

import pytest
from websockets.frames import Frame, Opcode

from testkit.streaming import live, order, tick
from testkit.streaming_server import DEADLINE_S, Server, receive, subscribe
from vnpy_core.features.streaming.server import BUFFER_BYTES
from vnpy_core.features.streaming.session import TURN_BYTES

STOPPED, LIVE = 40, 10
SYMBOLS, ROUNDS = 20, 400


def stopped_socket(port: int, *, conflate: bool) -> socket.socket:
    """A client that says what it wants and then never reads."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    client.connect(("127.0.0.1", port))
    lines = [
        "GET /ws HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Authorization: Bearer good",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    client.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(4_096)
    wanted = b'{"op":"subscribe","topics":["*"],"conflate":%s}' % (b"true" if conflate else b"false")
    client.sendall(Frame(Opcode.TEXT, wanted).serialize(mask=True))
    return client


async def waiting(server: Server) -> tuple[int, int]:
    """The most that waits for one client: items, and bytes in its connection."""

    def most() -> tuple[int, int]:
        sessions = list(server.hub.service._sessions.values())
        buffers = [session._connection._direct.transport.get_write_buffer_size() for session in sessions]  # type: ignore[attr-defined]
        return max(len(session._outbox) for session in sessions), max(buffers)

    found: tuple[int, int] = await server.call(most)
    return found


@pytest.mark.parametrize("server", [{"stall_s": 3.0, "check_s": 0.1, "conflate_above": 50}], indirect=True)
async def test_live_clients_get_everything_and_stopped_ones_hold_little_until_they_are_cut(server: Server) -> None:
    stopped = [await asyncio.to_thread(stopped_socket, server.port, conflate=True) for _ in range(STOPPED)]
    async with asyncio.timeout(DEADLINE_S):
        while sum(status.topics for status in await server.status()) != STOPPED:
            await asyncio.sleep(0.01)

    async def listen() -> tuple[list[int], dict[str, int]]:
        orders: list[int] = []
        newest: dict[str, int] = {}
        async with server.client() as client:
            await subscribe(client, "*")
            listening.release()
            while len(orders) < ROUNDS or set(newest.values()) != {ROUNDS}:
                [frame] = live([await receive(client)]) or [{"topic": ""}]
                if frame["topic"] == "order.updated":
                    orders.append(int(frame["data"]["orderid"]))
                elif frame["topic"].startswith("tick."):
                    assert frame["data"]["tick_seq"] > newest.get(frame["topic"], 0)
                    newest[frame["topic"]] = frame["data"]["tick_seq"]
        return orders, newest

    listening = asyncio.Semaphore(0)
    listeners = [asyncio.create_task(listen()) for _ in range(LIVE)]
    for _ in range(LIVE):
        await listening.acquire()
    for number in range(1, ROUNDS + 1):
        await server.publish(*(tick(f"s{symbol}.X", number) for symbol in range(SYMBOLS)), order(number))
        if number % 20 == 0:
            items, in_connection = await waiting(server)
            assert items <= SYMBOLS + 2 * 50 + number
            assert in_connection <= BUFFER_BYTES + TURN_BYTES + 4_096
    for orders, newest in await asyncio.gather(*listeners):
        assert orders == list(range(1, ROUNDS + 1))
        assert len(newest) == SYMBOLS
    await server.sessions(0)
    for client in stopped:
        client.close()
