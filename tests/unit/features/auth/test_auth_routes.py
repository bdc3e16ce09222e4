from datetime import timedelta

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from vnpy_core.features.auth.endpoints import reading, router
from vnpy_core.features.auth.tokens import AccessTokens
from vnpy_core.web import problems
from vnpy_core.web.auth import OPEN_PATHS, open_routes
from vnpy_core.web.middleware import RequestGate

PASSWORD = "correct horse battery"
SECRET = "a secret of the tests, as long as any algorithm wants it, and then some"
LOGIN = {"username": "admin", "password": PASSWORD, "grant_type": "password"}


@pytest.fixture
def app(auth):
    app = FastAPI(openapi_url=None, telemetry={"tracing": False})
    problems.install(app)
    app.include_router(router)
    app.add_middleware(RequestGate, allowed_hosts=["test"], body_limit=1_048_576)
    app.state.auth = app.state.authenticator = auth
    return app


@pytest.fixture
def client(app):
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test/api/v1/auth")


async def log_in(client, **changes):
    return await client.post("/token", data=LOGIN | changes)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


async def test_from_logging_in_to_logging_out(client):
    response = await log_in(client)
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    tokens = response.json()
    assert set(tokens) == {"access_token", "refresh_token", "token_type", "expires_in"}
    me = await client.get("/me", headers=bearer(tokens["access_token"]))
    assert me.json() == {"name": "admin", "role": "admin", "expires_at": "2026-11-20T02:15:00Z"}

    renewed = await client.post("/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert (renewed.status_code, renewed.headers["cache-control"]) == (200, "no-store")
    tokens = renewed.json()
    out = await client.post("/logout", headers=bearer(tokens["access_token"]))
    assert (out.status_code, out.content) == (204, b"")
    for refused in (
        await client.get("/me", headers=bearer(tokens["access_token"])),
        await client.post("/refresh", json={"refresh_token": tokens["refresh_token"]}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (401, "NOT_AUTHENTICATED")
        assert refused.headers["www-authenticate"] == "Bearer"


async def test_a_wrong_name_and_a_wrong_password_are_answered_alike(client):
    answers = []
    for changes in ({"username": "nobody"}, {"password": "wrong password!"}):
        response = await log_in(client, **changes)
        body = response.json()
        assert body.pop("request_id")
        headers = {name: value for name, value in response.headers.items() if name not in ("x-request-id", "date")}
        answers.append((response.status_code, body, headers))
    assert answers[0] == answers[1]
    assert answers[0][0] == 401


async def test_guessing_is_slowed_down(client, clock):
    for _ in range(5):
        assert (await log_in(client, password="wrong password!")).status_code == 401
    clock.advance(0.5)
    response = await log_in(client)
    assert (response.status_code, response.json()["code"]) == (429, "RATE_LIMITED")
    assert (response.headers["retry-after"], response.json()["retry_after"]) == ("1", 0.5)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"username": "admin"},
        {"password": PASSWORD},
        {"username": "", "password": PASSWORD},
        {"username": "admin", "password": ""},
        {"username": "x" * 65, "password": PASSWORD},
        {"username": "admin", "password": "x" * 1_025},
        {"username": "admin", "password": PASSWORD, "grant_type": "client_credentials"},
    ],
)
async def test_a_form_that_is_not_complete_is_refused_and_not_repeated(client, hasher, form):
    verified = len(hasher.verified)
    response = await client.post("/token", data=form)
    assert (response.status_code, response.json()["code"]) == (422, "VALIDATION_FAILED")
    assert PASSWORD not in response.text
    assert len(hasher.verified) == verified


async def test_what_oauth2_clients_send_besides_is_ignored(client):
    assert (await log_in(client, scope="admin", client_id="x", client_secret="y")).status_code == 200


async def test_json_is_no_form(client):
    assert (await client.post("/token", json=LOGIN)).status_code == 422


@pytest.mark.parametrize(
    "content",
    [b"username=%ED%A0%80&password=%00%FF", b"username=a&username=b&password=x", b"%", b"=&=&=", b"\xff\xfe=x"],
)
async def test_odd_forms_do_no_harm(client, content):
    response = await client.post(
        "/token", content=content, headers={"content-type": "application/x-www-form-urlencoded; charset=nonsense"}
    )
    assert response.status_code in (401, 422)


@pytest.mark.parametrize(
    "body",
    [{}, {"refresh_token": ""}, {"refresh_token": 1}, {"refresh_token": "x" * 513}, {"refresh_token": "x", "y": 1}, []],
)
async def test_a_refresh_body_that_is_not_right_is_refused(client, body):
    response = await client.post("/refresh", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "VALIDATION_FAILED")


@pytest.mark.parametrize(("method", "route"), [("GET", "/me"), ("POST", "/logout")])
async def test_the_rest_needs_a_credential(client, method, route):
    assert (await client.request(method, route)).status_code == 401
    assert (await client.request(method, route, headers=bearer("x"))).status_code == 401


def test_only_logging_in_and_renewing_are_open(app):
    assert open_routes(app) == {path for path in OPEN_PATHS if path.startswith("/api/v1/auth")}


def test_every_operation_is_documented(app):
    document = app.openapi()
    operations = {op["operationId"]: op for path in document["paths"].values() for op in path.values()}
    assert set(operations) == {"create_token", "refresh_token", "logout", "get_me", "create_ws_ticket"}
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"] == ["auth"], name
        assert {"401", "422", "default"} <= set(operation["responses"]), name
        if name != "logout":
            assert operation["responses"]["200"]["content"]["application/json"]["example"], name
    assert "429" in operations["create_token"]["responses"]
    assert "application/x-www-form-urlencoded" in operations["create_token"]["requestBody"]["content"]


async def test_a_ticket_is_made_for_a_valid_token_only(client, auth, clock):
    tokens = (await log_in(client)).json()
    response = await client.post("/ws-ticket", headers=bearer(tokens["access_token"]))
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    assert (set(response.json()), response.json()["expires_in"]) == ({"ticket", "expires_in"}, 30)
    principal = await auth.authenticate_ticket(response.json()["ticket"])
    assert (principal.name, principal.role) == ("admin", "admin")
    for headers in ({}, bearer("x"), bearer(response.json()["ticket"])):
        assert (await client.post("/ws-ticket", headers=headers)).status_code == 401
    await client.post("/logout", headers=bearer(tokens["access_token"]))
    assert (await client.post("/ws-ticket", headers=bearer(tokens["access_token"]))).status_code == 401


async def test_an_edge_makes_tickets_and_knows_the_caller_and_has_no_log_in(auth, clock):
    tokens = await auth.login("admin", PASSWORD, "10.0.0.1")
    edge = FastAPI(openapi_url=None, telemetry={"tracing": False})
    problems.install(edge)
    edge.include_router(reading)
    edge.state.authenticator = AccessTokens(SECRET, clock, access=timedelta(minutes=15))
    transport = httpx2.ASGITransport(edge)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test/api/v1/auth") as client:
        headers = bearer(tokens.access_token)
        assert (await client.get("/me", headers=headers)).json()["name"] == "admin"
        ticket = (await client.post("/ws-ticket", headers=headers)).json()["ticket"]
        assert (await auth.authenticate_ticket(ticket)).name == "admin"  # the core takes it too
        for path in ("/token", "/refresh", "/logout"):
            assert (await client.post(path, headers=headers)).status_code == 404
    assert open_routes(edge) == set()


def test_every_route_names_its_operation():
    assert all(route.operation_id for route in router.routes if isinstance(route, APIRoute))


async def test_passwords_and_tokens_do_not_show_in_reprs():
    from vnpy_core.features.auth.schemas import RefreshBody, TokenForm

    shown = repr(TokenForm(username="admin", password=PASSWORD)) + repr(RefreshBody(refresh_token="secret token"))
    assert PASSWORD not in shown
    assert "secret token" not in shown
