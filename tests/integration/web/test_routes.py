"""Every route of the real application: closed without a credential, and open to the right roles only."""

from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from fastapi.routing import iter_route_contexts

from vnpy_core.app import build_api
from vnpy_core.domain.errors import NotFound
from vnpy_core.features.auth.tokens import Ticket
from vnpy_core.ports.auth import Principal, Role
from vnpy_core.settings import Settings
from vnpy_core.web.auth import OPEN_PATHS, open_routes

TRADER_CALLS = {
    "create_order",
    "create_orders",
    "cancel_order",
    "delete_order",
    "cancel_all_orders",
    "create_subscription",
    "delete_subscription",
    "reload_strategy_classes",
    "add_strategy",
    "change_strategy",
    "remove_strategy",
    "init_strategy",
    "start_strategy",
    "stop_strategy",
    "replace_strategy_parameters",
    "change_strategy_parameters",
    "init_all_strategies",
    "start_all_strategies",
    "stop_all_strategies",
    "roll_strategies",
    "halt_trading",
    "resume_trading",
    "import_data",
    "download_data",
    "cancel_job",
    "set_recorder",
}
ADMIN_CALLS = {
    "connect_gateway",
    "disconnect_gateway",
    "run_reconciliation",
    "accept_differences",
    "resolve_intent",
    "delete_bars",
    "delete_ticks",
    "put_strategy_file",
}


class Absent:
    """Stands where a service is: who gets this far was let in."""

    def __getattr__(self, name):
        raise NotFound("nobody is in")


class Anybody:
    """Takes the token's text for the role."""

    async def authenticate(self, token: str) -> Principal:
        return Principal(
            name="tester", role=Role(token), session_id="s", expires_at=datetime.now(UTC) + timedelta(minutes=1)
        )

    def issue_ticket(self, principal: Principal) -> Ticket:
        return Ticket(ticket="t")


@pytest.fixture(scope="module")
def api():
    api = build_api(Settings())
    api.state.authenticator = Anybody()
    state = api.state
    state.trading = state.risk = state.market_data = state.system = state.metrics = state.auth = Absent()
    state.strategies = state.strategy_files = state.rollovers = Absent()
    state.nodes = Absent()
    return api


def operations(api):
    for route in iter_route_contexts(api.routes):
        if getattr(route, "operation_id", None) is not None:
            for method in route.methods:
                path = route.path.replace("{", "").replace("}", "")
                yield method, path, route.path, route.operation_id


async def status_of(api, method: str, path: str, role: str | None) -> int:
    headers = {"Authorization": f"Bearer {role}"} if role else {}
    transport = httpx2.ASGITransport(api, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return (await client.request(method, path, headers=headers)).status_code


def test_only_the_named_routes_are_open(api):
    assert open_routes(api) - {"/ws"} == OPEN_PATHS


async def test_without_a_credential_every_other_route_says_401(api):
    seen = 0
    for method, path, template, _ in operations(api):
        if template not in OPEN_PATHS:
            assert await status_of(api, method, path, None) == 401, (method, path)
            seen += 1
    assert seen > 20


async def test_each_role_may_call_what_the_contract_gives_it(api):
    for method, path, template, name in operations(api):
        if template in OPEN_PATHS:
            continue
        needed = Role.ADMIN if name in ADMIN_CALLS else Role.TRADER if name in TRADER_CALLS else Role.VIEWER
        for role in Role:
            refused = await status_of(api, method, path, role) == 403
            assert refused is not role.covers(needed), (method, template, name, role)


async def test_every_writing_route_of_these_rooms_is_known_to_the_matrix(api):
    rooms = ("/api/v1/trading", "/api/v1/strategies", "/api/v1/risk", "/api/v1/data")
    names = {n for m, _, t, n in operations(api) if m != "GET" and t.startswith(rooms)}
    assert names == TRADER_CALLS | ADMIN_CALLS
