import pytest
from fastapi import APIRouter, Depends
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from vnpy_core.ports.auth import Role
from vnpy_core.web.auth import OPEN_PATHS, open_routes, require_admin, require_viewer

ROLES = ["viewer", "trader", "admin"]


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("needed", ROLES)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_lower_ones_may(client, needed, role):
    response = client.get(f"/{needed}", headers=bearer(role))
    if ROLES.index(role) >= ROLES.index(needed):
        assert response.status_code == 200
    else:
        assert (response.status_code, response.json()["code"]) == (403, "NOT_PERMITTED")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic viewer"},
        {"Authorization": "viewer"},
        {"Authorization": "Bearer nobody"},
        {"Authorization": "Bearer \xff"},
        {"Cookie": "access_token=viewer"},
    ],
)
def test_without_a_valid_credential_nothing_is_answered(client, headers):
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    response = client.get("/viewer", headers=raw)
    assert (response.status_code, response.json()["code"]) == (401, "NOT_AUTHENTICATED")
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_token_in_the_query_is_not_taken(client):
    assert client.get("/viewer?access_token=viewer&token=viewer").status_code == 401


def test_the_caller_is_handed_to_the_route(client):
    assert client.get("/trader", headers=bearer("admin")).json() == "a admin"


def test_the_credential_is_asked_for_before_the_request_is_judged(make_app):
    app = make_app()

    @app.get("/judged/{item}", dependencies=[Depends(require_viewer)])
    async def judged(item: int, limit: int):
        return item

    assert TestClient(app).get("/judged/x").status_code == 401
    assert TestClient(app).get("/judged/x", headers=bearer("viewer")).status_code == 422


def test_a_websocket_may_ask_too(client):
    with client.websocket_connect("/socket", headers=bearer("viewer")) as socket:
        assert socket.receive_text() == "a viewer"


def test_a_websocket_without_credential_is_not_opened(client):
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/socket"):
        raise AssertionError("opened")


def test_the_document_says_which_role_a_route_needs(app):
    document = app.openapi()
    for role in ROLES:
        [requirement] = document["paths"][f"/{role}"]["get"]["security"]
        assert list(requirement.values()) == [[role]]
    flow = document["components"]["securitySchemes"]["OAuth2PasswordBearer"]["flows"]["password"]
    assert flow["tokenUrl"] == "/api/v1/auth/token"
    assert list(flow["scopes"]) == ROLES
    assert "security" not in document["paths"]["/echo"]["post"]


def test_open_routes_finds_those_that_ask_for_nothing(app):
    inner = APIRouter(prefix="/inner")
    inner.add_api_route("/open", lambda: None)
    inner.add_api_route("/asks", lambda: None, dependencies=[Depends(require_admin)])
    outer = APIRouter(prefix="/outer", dependencies=[Depends(require_viewer)])
    outer.add_api_route("/asks", lambda: None)
    app.include_router(inner, prefix="/v9")
    app.include_router(outer)
    app.mount("/static", lambda scope, receive, send: None)
    expected = {"/open/{item}", "/echo", "/lines", "/raise/{name}", "/import", "/v9/inner/open", "/static"}
    assert open_routes(app) == expected


def test_only_health_and_logging_in_are_meant_to_be_open():
    assert {"/health/live", "/health/ready", "/api/v1/auth/token", "/api/v1/auth/refresh"} == OPEN_PATHS


def test_roles_are_ordered():
    assert [Role.TRADER.covers(role) for role in Role] == [True, True, False]
