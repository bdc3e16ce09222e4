"""The servers that the contracts run on, each started once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from testkit.databases import EVERY, Database
from testkit.influx import InfluxDb
from testkit.redis import RedisServer
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
def influxdb() -> Iterator[Server]:
    with running(InfluxDb) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with running(RedisServer) as server:
        assert isinstance(server, RedisServer)
        yield server


@pytest.fixture(scope="session")
def made() -> dict[str, str]:
    """Kind and driver -> the URL of a database that has the tables."""
    return {}


@pytest.fixture(params=EVERY)
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database without tables."""
    database = Database(*place(request, tmp_path, {}))
    yield database
    await database.close()


@pytest.fixture(params=EVERY)
async def database(request: pytest.FixtureRequest, tmp_path: Path, made: dict[str, str]) -> AsyncIterator[Database]:
    """A database whose tables are empty."""
    is_made = request.param in made
    database = Database(*place(request, tmp_path, made))
    if is_made:
        await database.clear()
    else:
        await database.store().open()
    yield database
    await database.close()


def place(request: pytest.FixtureRequest, folder: Path, made: dict[str, str]) -> tuple[str, Server | None]:
    """The URL of the database in `made`, else of a new one, and the server behind it."""
    kind, _, driver = request.param.partition("+")
    if kind == "sqlite":
        return f"sqlite+aiosqlite:///{folder}/deep/store.sqlite", None
    server: Server = request.getfixturevalue({"mysql": "mariadb", "postgresql": "postgres"}[kind])
    if request.param not in made:
        made[request.param] = server.url(driver, server.fresh_database())
    return made[request.param], server


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
