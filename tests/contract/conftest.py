"""The databases that the store's contract runs on, each server started once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from testkit.databases import EVERY, Database
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


@pytest.fixture(scope="session")
def made() -> dict[str, str]:
    """Kind and driver -> the URL of a database that has the tables."""
    return {}


@pytest.fixture(params=EVERY)
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database without tables."""
    database = fresh(request, tmp_path)
    yield database
    await database.close()


@pytest.fixture(params=EVERY)
async def database(request: pytest.FixtureRequest, tmp_path: Path, made: dict[str, str]) -> AsyncIterator[Database]:
    """A database whose tables are empty."""
    database = fresh(request, tmp_path)
    if request.param in made:
        database.url = made[request.param]
        await database.clear()
    elif database.server is not None:
        made[request.param] = database.url
    yield database
    await database.close()


def fresh(request: pytest.FixtureRequest, folder: Path) -> Database:
    kind, _, driver = request.param.partition("+")
    if kind == "sqlite":
        return Database(f"sqlite+aiosqlite:///{folder}/deep/store.sqlite", None)
    server: Server = request.getfixturevalue({"mysql": "mariadb", "postgresql": "postgres"}[kind])
    return Database(server.url(driver, server.fresh_database()), server)


@pytest.fixture
async def store(database: Database) -> SqlStore:
    store = database.store()
    await store.open()
    return store


@pytest.fixture
def server(database: Database) -> Iterator[Server]:
    """The server behind the database, there again afterwards; for tests of `served` databases."""
    assert database.server is not None
    yield database.server
    database.server.resume()
    if not database.server.running:
        database.server.start()
