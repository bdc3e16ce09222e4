"""Logging in with a real store, a fake clock and a hasher that counts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from testkit.clock import FakeClock
from vnpy_core.adapters.credentials.sqlite import SqliteCredentials
from vnpy_core.features.auth.service import AuthService

PASSWORD = "correct horse battery"
SECRET = "a secret of the tests, as long as any algorithm wants it, and then some"


class CountingHasher:
    """As quick as it is insecure."""

    def __init__(self) -> None:
        self.hashed = 0
        self.verified: list[tuple[str, str]] = []

    def hash(self, password: str) -> str:
        self.hashed += 1
        return f"hashed:{password}"

    def verify(self, password: str, hash: str) -> bool:
        self.verified.append((password, hash))
        return hash == f"hashed:{password}"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def hasher() -> CountingHasher:
    return CountingHasher()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "credentials.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteCredentials]:
    store = SqliteCredentials(path)
    yield store
    store.close()


@pytest.fixture
def make_auth(store: SqliteCredentials, hasher: CountingHasher, clock: FakeClock):
    def make(store: SqliteCredentials = store, secret: str = SECRET, access_minutes: float = 15) -> AuthService:
        access = timedelta(minutes=access_minutes)
        return AuthService(store, hasher, clock, secret=secret, access=access, refresh=timedelta(days=14))

    return make


@pytest.fixture
def auth(make_auth) -> AuthService:
    auth = make_auth()
    auth.bootstrap(PASSWORD)
    return auth
