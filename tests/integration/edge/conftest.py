"""A real Redis, and a core's publishing half."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from testkit.publishing import Core, open_journal
from testkit.redis import RedisServer
from testkit.redis_adapters import RedisPlace
from testkit.servers import running


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
    place = RedisPlace(server, timeout_s=0.5)
    yield place
    server.resume()
    await place.close()


@pytest.fixture
async def core(place: RedisPlace, tmp_path: Path) -> AsyncIterator[Core]:
    folder = tmp_path / "core"
    folder.mkdir()
    journal = open_journal(folder)
    core = Core(journal, place.broker(), place.cache(), node=place.node)
    core.start()
    yield core
    await core.close(5)
    journal.close()
