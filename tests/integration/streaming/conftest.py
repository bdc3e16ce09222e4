from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from testkit.streaming_server import Server


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    """Its settings come by `@pytest.mark.parametrize("server", [{…}], indirect=True)`."""
    server = Server(**getattr(request, "param", {}))
    await server.start()
    yield server
    await server.stop()
