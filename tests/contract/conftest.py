"""The databases that the store's contract runs on, each server started once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from testkit.databases import Database
from testkit.servers import MariaDb, Postgres, Server, running
from vnpy_core.adapters.store.sql import SqlStore


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    with running(MariaDb) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with running(Postgres) as server:
        yield server


@pytest.fixture(params=["sqlite+aiosqlite", "mysql+aiomysql", "mysql+asyncmy", "postgresql+asyncpg"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    kind, _, driver = request.param.partition("+")
    if kind == "sqlite":
        database = Database(f"sqlite+aiosqlite:///{tmp_path}/deep/store.sqlite", None)
    else:
        server: Server = request.getfixturevalue({"mysql": "mariadb", "postgresql": "postgres"}[kind])
        database = Database(server.url(driver, server.fresh_database()), server)
    yield database
    await database.close()


@pytest.fixture
async def store(database: Database) -> SqlStore:
    store = database.store()
    await store.open()
    return store


@pytest.fixture
def server(database: Database) -> Iterator[Server]:
    """The server behind the database, there again afterwards."""
    if database.server is None:
        pytest.skip("SQLite has no server")
    yield database.server
    database.server.resume()
    if not database.server.running:
        database.server.start()
