"""The WebSocket endpoint on a real uvicorn in a thread of its own, and clients on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect

from testkit.streaming import Hub, Tokens, holder
from vnpy_core.features.streaming.endpoints import router
from vnpy_core.features.streaming.server import UVICORN_SETTINGS
from vnpy_core.kit.clock import SystemClock

DEADLINE_S = 20


class Server:
    """The service and the way into its loop."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Small buffers, which accepted sockets inherit: a client that does not read is noticed early.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        self.port: int = self._listener.getsockname()[1]
        self.tokens = Tokens(
            good=holder(),
        )

    async def start(self) -> None:
        self._thread.start()
        await self.run(self._start())

    async def run(self, work: Any) -> Any:
        """Run a coroutine on the server's loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function on the server's loop."""

        async def work() -> Any:
            return function(*args)

        return await self.run(work())

    async def publish(self, *events: Any) -> None:
        await self.call(self.hub.publish, *events)

    async def status(self) -> list[Any]:
        return (await self.call(self.hub.service.status)).sessions

    async def sessions(self, count: int) -> None:
        """Wait until there are so many."""
        async with asyncio.timeout(DEADLINE_S):
            while len(await self.status()) != count:
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        await self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    async def _start(self) -> None:
        self.hub = Hub(SystemClock(), **self._settings)
        self.hub.service.start()
        app = FastAPI()
        app.include_router(router)
        app.state.streaming = self.hub.service
        app.state.authenticator = self.tokens
        config = uvicorn.Config(app, lifespan="off", log_level="error", **UVICORN_SETTINGS)
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve([self._listener]))
        while not self._server.started:
            await asyncio.sleep(0.005)

    async def _stop(self) -> None:
        await self.hub.service.close()
        self._server.should_exit = True
        await self._serving

    @contextlib.asynccontextmanager
    async def client(self, token: str | None = "good", **options: Any) -> AsyncIterator[ClientConnection]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        path = options.pop("path", "/ws")
        url = f"ws://127.0.0.1:{self.port}{path}"
        async with connect(url, additional_headers=headers, proxy=None, **options) as client:
            yield client

    @contextlib.asynccontextmanager
    async def stopped_client(self, *patterns: str, conflate: bool = True) -> AsyncIterator[ClientConnection]:
        """A subscribed client with small buffers that reads only when it is told to."""
        own = socket.socket()
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        own.connect(("127.0.0.1", self.port))
        async with self.client(sock=own, max_queue=1, compression=None) as client:
            await subscribe(client, *patterns, conflate=conflate)
            yield client


async def receive(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE_S):
        frame: dict[str, Any] = json.loads(await client.recv())
    return frame


async def subscribe(client: ClientConnection, *patterns: str, conflate: bool = True) -> None:
    """Returns when the service has answered; `welcome` must be next."""
    await client.send(json.dumps({"op": "subscribe", "topics": patterns, "conflate": conflate}))
    assert (await receive(client))["op"] == "welcome"
    assert (await receive(client))["op"] == "subscribed"
