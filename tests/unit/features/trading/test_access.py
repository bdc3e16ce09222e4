import pytest
from fastapi.routing import APIRoute

from vnpy_core.features.trading import reading
from vnpy_core.features.trading.endpoints import writing

NEEDS = {
    "list_gateways": "viewer",
    "connect_gateway": "admin",
    "disconnect_gateway": "admin",
    "list_subscriptions": "viewer",
    "create_subscription": "trader",
    "delete_subscription": "trader",
    "create_order": "trader",
    "create_orders": "trader",
    "cancel_all_orders": "trader",
    "list_orders": "viewer",
    "get_order_by_client_id": "viewer",
    "get_order": "viewer",
    "delete_order": "trader",
    "cancel_order": "trader",
    "list_reconciliations": "viewer",
    "run_reconciliation": "admin",
    "accept_differences": "admin",
    "resolve_intent": "admin",
    "list_trades": "viewer",
    "list_positions": "viewer",
    "list_accounts": "viewer",
    "list_contracts": "viewer",
    "list_ticks": "viewer",
    "get_tick": "viewer",
}
ROUTES = [route for router in (reading.router, writing) for route in router.routes if isinstance(route, APIRoute)]
ROLES = ["viewer", "trader", "admin"]


def test_every_route_is_in_the_table():
    assert {route.operation_id for route in ROUTES} == set(NEEDS)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation_id)
@pytest.mark.parametrize("role", [None, "nobody", *ROLES])
async def test_each_role_may_do_what_the_table_says(client_of, route, role):
    path = route.path_format.removeprefix("/api/v1/trading")
    path = path.format(gateway_name="X", vt_symbol="x.Y", vt_orderid="X.1", client_order_id="x")
    response = await client_of(role).request(next(iter(route.methods)), path)
    if role not in ROLES:
        assert (response.status_code, response.json()["code"]) == (401, "NOT_AUTHENTICATED")
        assert response.headers["www-authenticate"] == "Bearer"
    elif ROLES.index(role) < ROLES.index(NEEDS[route.operation_id]):
        assert (response.status_code, response.json()["code"]) == (403, "NOT_PERMITTED")
    else:
        assert response.status_code not in (401, 403)


def test_every_operation_is_documented(app):
    for path, item in app.openapi()["paths"].items():
        for method, operation in item.items():
            name = f"{method} {path}"
            assert operation["operationId"] in NEEDS, name
            assert operation["summary"], name
            assert operation["description"], name
            assert operation["tags"] == ["trading"], name
            assert {"401", "403", "422"} <= set(operation["responses"]), name
            problem = operation["responses"]["422"]["content"]
            assert set(problem) == {"application/problem+json"}, name
