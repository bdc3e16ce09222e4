"""The routes of `/api/v1/data` behind the real gate, on a real server, with a store in memory and a child of ours."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from testkit import job_child
from testkit.fake_engine import FakeEngine
from testkit.memory_timeseries import MemoryTimeSeries
from vnpy_core.app import build_api
from vnpy_core.domain.bars import Period
from vnpy_core.domain.errors import CoreError, NotAuthenticated
from vnpy_core.domain.events import Event, Job
from vnpy_core.domain.history import NS, BarArray, Interval, TickArray, empty_bars, empty_ticks, to_ns
from vnpy_core.features.market_data.jobs import Jobs
from vnpy_core.features.market_data.jobspec import JobSpec
from vnpy_core.features.market_data.service import MarketDataService
from vnpy_core.features.market_data.settings import DataSettings
from vnpy_core.features.streaming.server import UVICORN_SETTINGS
from vnpy_core.kit.clock import SystemClock
from vnpy_core.ports.auth import Principal, Role
from vnpy_core.ports.recorder import RecorderState
from vnpy_core.settings import Settings
from vnpy_core.web.audit import AuditTrail

COMMAND = [sys.executable, job_child.__file__]
DEADLINE_S = 20


class RoleIsToken:
    async def authenticate(self, token: str) -> Principal:
        if token not in list(Role):
            raise NotAuthenticated("no such token")
        return Principal(
            name=f"a {token}", role=Role(token), session_id="s", expires_at=datetime.now(UTC) + timedelta(minutes=1)
        )


class PatternRecorder:
    """Implements the `Recorder` port; records nothing."""

    def __init__(self) -> None:
        self.patterns: tuple[str, ...] = ("*",)
        self.error: CoreError | None = None

    def set_patterns(self, patterns: tuple[str, ...]) -> None:
        if self.error:
            raise self.error
        self.patterns = patterns

    def state(self) -> RecorderState:
        return RecorderState(
            patterns=self.patterns,
            recorded=0,
            dropped=0,
            ignored=0,
            stale=0,
            waiting=0,
            ring=1000,
            lag_ms=0.0,
            bars=0,
            error="",
            symbols={},
            gaps=(),
        )


class EvenSource:
    """Implements `HistorySource`: a row each interval, a tick each minute; and more than was asked for, as some do."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, datetime, datetime]] = []
        self.error: CoreError | None = None
        self.hold: asyncio.Event | None = None

    async def query_bars(
        self, vt_symbol: str, interval: Interval, start: datetime, end: datetime, gateway_name: str = ""
    ) -> BarArray:
        await self._answer(f"{vt_symbol} {interval} {gateway_name}".strip(), start, end)
        length = Period.parse(interval).length_ns or 86_400 * NS
        times = range(to_ns(start) // length * length, to_ns(end) + 1, length)
        bars = empty_bars(len(times))
        bars["ts"], bars["close_price"] = times, 5.0
        return bars

    async def query_ticks(self, vt_symbol: str, start: datetime, end: datetime) -> TickArray:
        await self._answer(vt_symbol, start, end)
        times = range(to_ns(start), to_ns(end) + 1, 60 * NS)
        ticks = empty_ticks(len(times))
        ticks["ts"], ticks["last_price"] = times, 5.0
        return ticks

    async def _answer(self, what: str, start: datetime, end: datetime) -> None:
        self.asked.append((what, start, end))
        if self.hold:
            await self.hold.wait()
        if self.error:
            raise self.error


@functools.cache
def _app() -> FastAPI:
    """Made once: it takes longer than most tests."""
    return build_api(Settings())


class DataApi:
    """The service and what it works on; the last one that was made answers. Loop thread only."""

    def __init__(self, data: Path, *, store: Any = None, command: list[str] | None = None, **settings: Any) -> None:
        """Without a `store` it is in memory, which no child sees; `command` starts children."""
        self.data = data
        self.store = store or MemoryTimeSeries()
        self.engine = FakeEngine()
        self.recorder = PatternRecorder()
        self.source = EvenSource()
        self.events: list[Event] = []
        clock = SystemClock()
        own = DataSettings(**({"keep_free_mb": 0} | settings))
        jobs = Jobs(data / "jobs", clock, self._emit, parallel=own.jobs, queue=own.queue)
        self.service = MarketDataService(
            self.store,
            jobs,
            recorder=self.recorder,
            source=self.source,
            audit=AuditTrail(self.engine, clock),
            clock=clock,
            settings=own,
            command=command or COMMAND,
            child=JobSpec(kind="", data=str(data), timeseries={"kind": "embedded"}),
        )
        self.app = _app()
        self.app.state.authenticator = RoleIsToken()
        self.app.state.market_data = self.service

    def _emit(self, topic: str, key: str, event: Event) -> None:
        assert topic == "job.updated"
        assert isinstance(event, Job)
        assert key == event.id
        self.events.append(event)

    @property
    def files(self) -> list[Path]:
        """What lies in the folder of uploads."""
        return list((self.data / "uploads").iterdir())

    @contextlib.asynccontextmanager
    async def client(self, role: str = "admin") -> AsyncIterator[httpx2.AsyncClient]:
        """Calls the routes without a socket."""
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
        async with self._client(role, "http://localhost", transport=transport) as client:
            yield client

    @contextlib.asynccontextmanager
    async def served(self, role: str = "admin") -> AsyncIterator[httpx2.AsyncClient]:
        """Calls the routes over TCP."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio's own way misses such sockets
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio's own way misses such sockets
            config = uvicorn.Config(self.app, lifespan="off", log_config=None, access_log=False, **UVICORN_SETTINGS)
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve([listener]))
            try:
                while not server.started:
                    await asyncio.sleep(0.005)
                async with self._client(role, f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
                    yield client
            finally:
                server.should_exit = True
                await serving

    async def ended(self, client: httpx2.AsyncClient, job_id: str) -> dict[str, Any]:
        """The job, once it has ended."""
        return await self.when(client, job_id, lambda job: job["state"] not in ("QUEUED", "RUNNING"))

    async def when(self, client: httpx2.AsyncClient, job_id: str, fits: Any) -> dict[str, Any]:
        """The job, once `fits` says so."""
        async with asyncio.timeout(DEADLINE_S):
            while not fits(job := (await client.get(f"/jobs/{job_id}")).json()):
                await asyncio.sleep(0.02)
        return job

    @staticmethod
    def _client(role: str, base: str, **options: Any) -> httpx2.AsyncClient:
        headers = {"Authorization": f"Bearer {role}"}
        return httpx2.AsyncClient(base_url=f"{base}/api/v1/data", headers=headers, timeout=DEADLINE_S, **options)
