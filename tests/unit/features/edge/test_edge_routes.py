"""What an edge answers to whom: the whole API of `vnpy_core.edge`, without a core."""

from __future__ import annotations

import pytest

from vnpy_core.edge import build_api
from vnpy_core.settings import Settings
from vnpy_core.web.auth import open_routes


@pytest.fixture(scope="module")
def api():
    return build_api(Settings())


def test_without_a_credential_only_health_is_told(api):
    # /ws asks by itself: by header, ticket or first message.
    assert open_routes(api) == {"/health/live", "/health/ready", "/ws"}


def test_the_paths_are_the_cores_own(api):
    from vnpy_core.app import build_api as build_core

    core, edge = build_core(Settings()).openapi()["paths"], api.openapi()["paths"]
    assert set(edge) <= set(core)
    assert {f"/api/v1/trading/{name}" for name in ("orders", "trades", "positions", "accounts", "ticks")} <= set(edge)
    for path, item in edge.items():
        for method, operation in item.items():
            assert operation["operationId"] == core[path][method]["operationId"]
            assert method == "get" or path == "/api/v1/auth/ws-ticket"
