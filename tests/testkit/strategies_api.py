"""The routes of `/api/v1/strategies` behind a fake engine; a caller's token is the name of its role."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI

from testkit.clock import FakeClock
from testkit.fake_engine import EPOCH, NOON, FakeEngine
from testkit.fake_store import FakeStore
from testkit.fake_strategies import FakeStrategies
from vnpy_core.bus import topics
from vnpy_core.bus.message import Message
from vnpy_core.domain.enums import LogLevel
from vnpy_core.domain.errors import NotAuthenticated
from vnpy_core.domain.events import Log
from vnpy_core.domain.pnl import Resolution
from vnpy_core.features.strategies.endpoints import router
from vnpy_core.features.strategies.logs import StrategyLogs
from vnpy_core.features.strategies.service import StrategiesService
from vnpy_core.features.trading.reader import TradingReader
from vnpy_core.ports.auth import Principal, Role
from vnpy_core.web import problems
from vnpy_core.web.audit import AuditTrail

DEADLINE_S = 20


class RoleIsToken:
    async def authenticate(self, token: str) -> Principal:
        if token not in list(Role):
            raise NotAuthenticated("no such token")
        return Principal(name=f"a {token}", role=Role(token), session_id="s", expires_at=NOON)


class FakeLedger:
    """Remembers what it was asked for; what the real one reckons has tests of its own."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.forgotten: list[str] = []
        self.answer: dict[str, Any] = {}

    async def pnl(self, name: str, **days: str) -> dict[str, Any]:
        self.asked.append({"name": name} | days)
        return self.answer

    async def equity(self, name: str, resolution: Resolution, **days: str) -> dict[str, Any]:
        self.asked.append({"name": name, "resolution": str(resolution)} | days)
        return self.answer

    def forget(self, name: str) -> None:
        self.forgotten.append(name)


class StrategiesApi:
    """Loop thread only, but for `serving`."""

    def __init__(self) -> None:
        self.engine = FakeStrategies()
        self.trading = FakeEngine()
        """What keeps the audit and shows orders and trades."""
        self.store = FakeStore()
        self.logs = StrategyLogs()
        self.ledger: Any = FakeLedger()
        reader = TradingReader(self.trading.view, gateways=self.trading.gateways, store=self.store)
        audit = AuditTrail(self.trading, FakeClock())
        self.app = FastAPI()
        problems.install(self.app)
        self.app.include_router(router)
        self.app.state.authenticator = RoleIsToken()
        self.rolled: list[str] = []
        """Whose rollovers were forgotten."""
        self.app.state.strategies = StrategiesService(
            self.engine, reader, audit, logs=self.logs, profit=self.ledger, forget_rollovers=self.rolled.append
        )

    def write(self, name: str | None, msg: str, level: LogLevel = LogLevel.INFO) -> None:
        """A line of a strategy's log."""
        log = Log(level=level, source="CtaStrategy", msg=msg, datetime=NOON, strategy_name=name)
        self.logs.keep(Message(topics.STRATEGY_LOG, "CtaStrategy", EPOCH, 1, NOON, log))

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Its address on a real uvicorn, in a thread of its own."""
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(self.app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        end = time.monotonic() + DEADLINE_S
        try:
            while not server.started:
                assert time.monotonic() < end
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
            listener.close()


def fields(struct: type[msgspec.Struct]) -> set[str]:
    """The names of a struct's fields."""
    return {field.name for field in msgspec.structs.fields(struct)}
