"""Edges on a real Redis and a real uvicorn, in the test's own loop, and plain WebSocket clients of theirs."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
from websockets.asyncio.client import ClientConnection, connect

from testkit.redis_adapters import RedisPlace
from vnpy_core.edge import Edge
from vnpy_core.features.auth.tokens import AccessTokens
from vnpy_core.kit.clock import SystemClock
from vnpy_core.ports.auth import Role
from vnpy_core.settings import Settings
from vnpy_core.web import serving

SECRET = "an edge's and its core's own secret, long enough"
DEADLINE_S = 30


def edge_settings(place: RedisPlace, data: Path, **sections: dict[str, Any]) -> Settings:
    """Of an edge of the core that publishes at `place`."""
    tables: dict[str, dict[str, Any]] = {
        "server": {"port": 0},
        "paths": {"data": str(data), "config": str(data), "strategies": str(data)},
        "node": {"name": place.node, "lease_s": 1.0},
        "redis": {"url": place.url},
        "broker": {"kind": "redis"},
        "cache": {"kind": "redis"},
        "registry": {"kind": "redis"},
        "edge": {"jwt_secret": SECRET, "ended_s": 0.1},
        "streaming": {"check_s": 0.1},
    }
    for name, table in sections.items():
        tables[name] = tables.get(name, {}) | table
    return Settings.model_validate(tables, context={"folder": data})


def token(role: Role = Role.VIEWER, session_id: str = "s1") -> str:
    """As the core would give one."""
    return AccessTokens(SECRET, SystemClock(), access=timedelta(minutes=15)).issue("eve", role, session_id)


class RunningEdge:
    """An async context. `stop` ends it as SIGTERM would; `edge` is the thing itself."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = ""
        self.edge: Edge

    async def __aenter__(self) -> Self:
        self.edge = Edge(self.settings)
        answers = asyncio.Event()

        def on_ready(url: str) -> None:
            self.url = url
            answers.set()

        self._running = asyncio.create_task(self._run(on_ready))
        async with asyncio.timeout(DEADLINE_S):
            await answers.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        self.edge.request_stop()
        async with asyncio.timeout(DEADLINE_S):
            await self._running

    async def loaded(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self.edge.feed.wait_loaded()

    async def get(self, path: str, *, method: str = "GET", bearer: str | None = "", **more: Any) -> httpx2.Response:
        """`bearer`: a viewer's by default, None for none."""
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer or token()}"}
        async with httpx2.AsyncClient(base_url=self.url, headers=headers) as client:
            return await client.request(method, path, **more)

    def connect(self, query: str = "", **more: Any) -> Any:
        """A WebSocket, as a context."""
        headers = {} if query else {"Authorization": f"Bearer {token()}"}
        return connect(f"ws{self.url[4:]}/ws{query}", additional_headers=headers, **more)

    async def _run(self, on_ready: Any) -> None:
        with serving.listen("127.0.0.1", 0) as listener:
            await self.edge.run(listener, on_ready=on_ready)


class Reader:
    """What a client keeps of the class A events of some topics, by the rule that API.md gives it."""

    def __init__(self) -> None:
        self.epoch = ""
        self.last: int | None = None
        self.seqs: list[int] = []
        """Applied, in order, since the last snapshot."""
        self.snapshots = 0
        self.resumed: list[bool | None] = []
        self.gaps = 0

    async def subscribe(self, socket: ClientConnection, *topics: str) -> None:
        op: dict[str, Any] = {"op": "subscribe", "id": 1, "topics": topics}
        if self.last is not None:
            op["resume"] = {"epoch": self.epoch, "seq": self.last}
        await socket.send(json.dumps(op))

    def take(self, frame: str | bytes) -> None:
        told = json.loads(frame)
        if told.get("op") == "subscribed":
            self.resumed.append(told["resumed"])
            if not told["resumed"]:
                self.seqs.clear()
                self.epoch, self.last = told["epoch"], told["seq"]
        elif told.get("snapshot"):
            self.snapshots += 1
        elif "prev_seq" in told:
            assert self.last is not None
            assert told["epoch"] == self.epoch
            self.gaps += told["prev_seq"] > self.last
            if told["seq"] > self.last:
                self.seqs.append(told["seq"])
                self.last = told["seq"]

    async def until(self, socket: ClientConnection, seq: int) -> None:
        """Read until everything up to `seq` is there."""
        async with asyncio.timeout(DEADLINE_S):
            while self.last is None or self.last < seq:
                self.take(await socket.recv())
