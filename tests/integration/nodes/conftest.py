from __future__ import annotations

from collections.abc import Iterator

import pytest

from testkit.redis import RedisServer
from testkit.servers import Server, running


@pytest.fixture(autouse=True)
def _home(vnpy_home):
    """The gate imports vnpy."""


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Server]:
    with running(RedisServer) as server:
        yield server


@pytest.fixture
def redis(redis_server: Server) -> Iterator[Server]:
    """Answering again after the test, and empty before it."""
    if not redis_server.running:
        redis_server.start()
    redis_server.resume()
    yield redis_server
    redis_server.resume()
