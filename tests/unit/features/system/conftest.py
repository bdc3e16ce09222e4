"""The system's routes behind a fake engine; a caller's token is the name of its role."""

from __future__ import annotations

import httpx2
import pytest
from fastapi import FastAPI

from testkit.clock import FakeClock
from testkit.fake_engine import NOON, FakeEngine
from vnpy_core.domain.errors import NotAuthenticated
from vnpy_core.features.system.endpoints import router
from vnpy_core.features.system.metrics import Metrics
from vnpy_core.features.system.service import LOG_TOPICS, SystemService
from vnpy_core.ports.auth import Principal, Role
from vnpy_core.ports.store import SinkState
from vnpy_core.web import problems


class RoleIsToken:
    async def authenticate(self, token: str) -> Principal:
        if token not in list(Role):
            raise NotAuthenticated("no such token")
        return Principal(name=f"a {token}", role=Role(token), session_id="s", expires_at=NOON)


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine()
    engine.add_gateway()
    return engine


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sessions() -> list[object]:
    """What streaming says of its clients."""
    return []


@pytest.fixture
def sinks() -> list[SinkState]:
    """What the sinks say of themselves."""
    return []


@pytest.fixture
def system(engine: FakeEngine, clock: FakeClock, sessions: list[object], sinks: list[SinkState]) -> SystemService:
    system = SystemService(engine, engine.view, clock, sessions=lambda: sessions, sinks=lambda: sinks)
    engine.bus.subscribe(LOG_TOPICS, system.keep_log)
    return system


@pytest.fixture
def app(system: SystemService) -> FastAPI:
    app = FastAPI()
    problems.install(app)
    app.include_router(router)
    app.state.authenticator = RoleIsToken()
    app.state.system = system
    app.state.metrics = Metrics(system)
    return app


@pytest.fixture
def client_of(app: FastAPI):
    def make(role: str | None) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://test",
            headers={"Authorization": f"Bearer {role}"} if role else {},
        )

    return make


@pytest.fixture
def client(client_of) -> httpx2.AsyncClient:
    return client_of("viewer")
