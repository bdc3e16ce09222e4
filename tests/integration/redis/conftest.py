"""A real Redis, and a real journal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from testkit.publishing import open_journal
from testkit.redis import RedisServer
from testkit.redis_adapters import RedisPlace
from testkit.servers import running
from vnpy_core.adapters.journal.sqlite import SqliteJournal


@pytest.fixture(scope="session")
def one_server() -> Iterator[RedisServer]:
    with running(RedisServer) as server:
        assert isinstance(server, RedisServer)
        yield server


@pytest.fixture
def server(one_server: RedisServer) -> Iterator[RedisServer]:
    """There again after the test, whatever it did."""
    yield one_server
    one_server.resume()
    if not one_server.running:
        one_server.start()


@pytest.fixture
async def place(server: RedisServer) -> AsyncIterator[RedisPlace]:
    place = RedisPlace(server, timeout_s=1.0)
    yield place
    server.resume()
    await place.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    journal = open_journal(tmp_path)
    yield journal
    journal.close()
