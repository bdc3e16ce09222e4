"""The strategies' routes behind a fake engine; a caller's token is the name of its role."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from testkit.fake_engine import FakeEngine
from testkit.fake_store import FakeStore
from testkit.fake_strategies import FakeStrategies
from testkit.strategies_api import StrategiesApi


@pytest.fixture
def api() -> StrategiesApi:
    return StrategiesApi()


@pytest.fixture
def engine(api: StrategiesApi) -> FakeStrategies:
    return api.engine


@pytest.fixture
def trading(api: StrategiesApi) -> FakeEngine:
    """What keeps the audit and shows orders and trades."""
    return api.trading


@pytest.fixture
def store(api: StrategiesApi) -> FakeStore:
    return api.store


@pytest.fixture
def ledger(api: StrategiesApi) -> Any:
    return api.ledger


@pytest.fixture
def app(api: StrategiesApi) -> FastAPI:
    return api.app


@pytest.fixture
def client_of(app: FastAPI):
    def make(role: str | None) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://test/api/v1/strategies",
            headers={"Authorization": f"Bearer {role}"} if role else {},
        )

    return make


@pytest.fixture
def client(client_of) -> httpx2.AsyncClient:
    return client_of("trader")
