"""A small app behind the whole gate."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, File, Request, UploadFile, WebSocket
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from starlette.testclient import TestClient

from vnpy_core.domain.errors import NotAuthenticated, OutcomeUnknown, RateLimited, RiskDenied
from vnpy_core.ports.auth import Principal, Role
from vnpy_core.web import auth, problems
from vnpy_core.web.middleware import RequestGate

LIMIT = 10_000
ORIGIN = "https://desk.example"
ERRORS = {
    "risk": RiskDenied("too big", rule="size", limit=500),
    "rate": RateLimited("slow down", retry_after=1.2),
    "unknown": OutcomeUnknown("no word", vt_orderid="PAPER.1"),
    "odd": RiskDenied("odd", rule=object, limit=float("nan")),
    "bug": RuntimeError("the secret inner detail"),
}


class Line(BaseModel):
    price: float
    name: str = ""


class Body(BaseModel):
    lines: list[Line]


class RoleIsToken:
    async def authenticate(self, token: str) -> Principal:
        if token not in list(Role):
            raise NotAuthenticated("no such token")
        expires_at = datetime(2026, 11, 21, tzinfo=UTC)
        return Principal(name=f"a {token}", role=Role(token), session_id="s", expires_at=expires_at)


def make_app(registry: CollectorRegistry | None = None, **gate: object) -> FastAPI:
    app = FastAPI(openapi_url=None, telemetry={"tracing": False})
    problems.install(app)
    app.state.authenticator = RoleIsToken()

    @app.get("/open/{item}", responses=problems.responses("NOT_FOUND"))
    async def read(item: int, request: Request) -> dict[str, str]:
        return {"request_id": problems.request_id(request.scope)}

    @app.post("/echo")
    async def echo(body: dict[str, object]) -> dict[str, object]:
        return body

    @app.post("/lines")
    async def lines(body: Body) -> int:
        return len(body.lines)

    @app.post("/raise/{name}")
    async def fail(name: str) -> None:
        await asyncio.sleep(0)
        raise ERRORS[name]

    @app.post("/import", max_body_size=10 * LIMIT)
    async def take(file: Annotated[UploadFile, File()]) -> int:
        return len(await file.read())

    @app.get("/viewer", dependencies=[Depends(auth.require_viewer)])
    async def viewer() -> str:
        return "ok"

    @app.get("/trader")
    async def trader(caller: Annotated[Principal, Depends(auth.require_trader)]) -> str:
        return caller.name

    @app.get("/admin", dependencies=[Depends(auth.require_admin)])
    async def admin() -> str:
        return "ok"

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, caller: Annotated[Principal, Depends(auth.require_viewer)]) -> None:
        await websocket.accept()
        await websocket.send_text(caller.name)
        await websocket.close()

    settings = {"allowed_hosts": ["testserver", "[::1]", "*.desk.example"], "body_limit": LIMIT, "registry": registry}
    app.add_middleware(RequestGate, **(settings | gate))  # type: ignore[arg-type]
    return app


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def app(registry: CollectorRegistry) -> FastAPI:
    return make_app(registry, cors_origins=[ORIGIN])


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app)


@pytest.fixture(name="make_app")
def make_app_fixture():
    return make_app
