"""A node of `scripted_stream` behind a real WebSocket, and what may go wrong with one."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from testkit.scripted_stream import Node, NodeSession

POLL_S = 0.002


class ScriptedServer:
    """Serves one node. `closes` are the codes with which the next connections end at once."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.closes: list[int] = []
        self.statuses: list[int] = []
        """With which the next handshakes are refused."""
        self.tokens: list[str] = []
        """The token of each handshake."""
        self.sessions: list[NodeSession] = []
        self.connections: list[ServerConnection] = []
        self.silent = False
        self.sent = 0
        self._server: Server | None = None
        self.url = ""

    async def __aenter__(self) -> ScriptedServer:
        self._server = await serve(
            self._talk, "127.0.0.1", 0, process_request=self._handshake, compression=None, ping_interval=None,
            close_timeout=0.2, write_limit=1024,
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def close(self, code: int) -> None:
        """End every connection with a code; 1006 cuts them."""
        for connection in list(self.connections):
            if code == 1006:
                connection.transport.abort()
            else:
                await connection.close(code, "as scripted")

    def _handshake(self, connection: ServerConnection, request: Request) -> Response | None:
        self.tokens.append(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if self.statuses:
            return connection.respond(HTTPStatus(self.statuses.pop(0)), "as scripted")
        return None

    async def _talk(self, connection: ServerConnection) -> None:
        if self.closes:
            await connection.close(self.closes.pop(0), "as scripted")
            return
        assert connection.request is not None
        query = parse_qs(urlsplit(connection.request.path).query)
        binary = query.get("encoding") == ["msgpack"]
        session = self.node.open()
        self.sessions.append(session)
        self.connections.append(connection)
        sender = asyncio.create_task(self._send(connection, session, binary))
        try:
            async for content in connection:
                session.receive(content)
        except ConnectionClosed:
            pass
        finally:
            sender.cancel()
            session.close()
            self.connections.remove(connection)
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                await sender

    async def _send(self, connection: ServerConnection, session: NodeSession, binary: bool) -> None:
        while True:
            while session.frames and not self.silent:
                frame = session.frames.popleft()
                await connection.send(msgspec.msgpack.encode(frame) if binary else json.dumps(frame))
                self.sent += 1
            await asyncio.sleep(POLL_S)


@contextlib.asynccontextmanager
async def serving(*nodes: Node) -> AsyncIterator[list[ScriptedServer]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(ScriptedServer(node)) for node in nodes]
