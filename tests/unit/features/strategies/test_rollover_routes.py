"""The rollovers' routes behind a fake engine; a caller's token is the name of its role."""

import asyncio
from itertools import count

import httpx2
import pytest
from fastapi import FastAPI

from testkit.clock import FakeClock
from testkit.fake_engine import NOON
from testkit.fake_strategies import FakeStrategies
from testkit.rolling import NEW, OLD, RollingEngine
from vnpy_core.domain.enums import StrategyState
from vnpy_core.domain.errors import NotAuthenticated
from vnpy_core.features.strategies.rollover import Rollovers
from vnpy_core.features.strategies.rollover_endpoints import router
from vnpy_core.ports.auth import Principal, Role
from vnpy_core.web import problems

BODY = {"from_vt_symbol": OLD, "to_vt_symbol": NEW}


class RoleIsToken:
    async def authenticate(self, token: str) -> Principal:
        if token not in list(Role):
            raise NotAuthenticated("no such token")
        return Principal(name=f"a {token}", role=Role(token), session_id="s", expires_at=NOON)


@pytest.fixture
def strategies():
    strategies = FakeStrategies()
    strategies.put("demo", StrategyState.STOPPED, vt_symbol=OLD, pos=2.0, attributed_pos=2.0)
    return strategies


@pytest.fixture
def engine(strategies):
    return RollingEngine(strategies)


@pytest.fixture
async def app(engine, strategies, tmp_path):
    app = FastAPI()
    problems.install(app)
    app.include_router(router)
    app.state.authenticator = RoleIsToken()
    ids = count(1)
    app.state.rollovers = rollovers = Rollovers(
        engine, strategies, engine.view, engine.bus, FakeClock(),
        file=tmp_path / "rollovers.json", new_id=lambda: f"r{next(ids):03}", reprice_s=0.01,
    )  # fmt: skip
    await rollovers.open()
    yield app
    await rollovers.close()


@pytest.fixture
def client_of(app):
    def make(role: str | None) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://test/api/v1/strategies",
            headers={"Authorization": f"Bearer {role}"} if role else {},
        )

    return make


@pytest.fixture
def client(client_of):
    return client_of("trader")


async def ended(client, rollover_id):
    async with asyncio.timeout(20):
        while (answer := (await client.get(f"/rollovers/{rollover_id}")).json())["state"] == "RUNNING":
            await asyncio.sleep(0.001)
    return answer


async def test_a_dry_run_is_the_default_and_sends_nothing(client, engine):
    response = await client.post("/rollover", json=BODY)
    plan = response.json()
    assert response.status_code == 200
    assert plan == {
        **BODY,
        "gateway_name": "PAPER",
        "strategies": [
            {
                "strategy_name": "demo",
                "pos": 2.0,
                "old": 2.0,
                "new": 0.0,
                "lacking": 0.0,
                "orders": [
                    {
                        "vt_symbol": OLD,
                        "direction": "SHORT",
                        "offset": "CLOSE",
                        "volume": 2.0,
                        "price": 3495.0,
                        "orders": 1,
                    },
                    {
                        "vt_symbol": NEW,
                        "direction": "LONG",
                        "offset": "OPEN",
                        "volume": 2.0,
                        "price": 3526.0,
                        "orders": 1,
                    },
                ],
            }
        ],
        "problems": [],
        "warnings": ["the account holds 0 LONG of rb2701.SHFE, these strategies 2: so much cannot be closed"],
    }
    assert engine.commands == []
    assert (await client.get("/rollovers")).json() == {"items": [], "next_cursor": None}


async def test_a_rollover_is_accepted_and_shown_until_it_is_done(client, strategies):
    response = await client.post("/rollover", json=BODY | {"dry_run": False, "max_volume": 1})
    begun = response.json()
    assert (response.status_code, begun["state"], begun["by"], begun["max_volume"]) == (202, "RUNNING", "a trader", 1.0)
    done = await ended(client, begun["id"])
    assert done["state"] == "DONE"
    assert done["strategies"] == [
        {"strategy_name": "demo", "pos": 2.0, "old": 2.0, "new": 0.0, "lacking": 0.0, "closed": 2.0, "opened": 2.0,
         "moved": True, "auto_start": False, "traded_since": False, "forgotten": False, "problem": None}
    ]  # fmt: skip
    assert strategies.strategy("demo").vt_symbol == NEW


async def test_what_keeps_it_is_a_409_with_each_problem(client, strategies):
    strategies.put("demo", StrategyState.RUNNING, vt_symbol=OLD, pos=2.0, attributed_pos=2.0)
    response = await client.post("/rollover", json=BODY | {"dry_run": False})
    assert (response.status_code, response.json()["code"]) == (409, "CONFLICT")
    assert response.json()["problems"] == ["demo is RUNNING: stop it first"]
    plan = (await client.post("/rollover", json=BODY)).json()
    assert plan["problems"] == response.json()["problems"]


async def test_pages_go_from_the_newest_to_the_oldest(client):
    ids = []
    for number in range(3):
        body = BODY if number % 2 == 0 else {"from_vt_symbol": NEW, "to_vt_symbol": OLD}
        begun = (await client.post("/rollover", json=body | {"dry_run": False})).json()
        await ended(client, begun["id"])
        ids.append(begun["id"])
    first = (await client.get("/rollovers", params={"limit": 2})).json()
    second = (await client.get("/rollovers", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in (*first["items"], *second["items"])] == ids[::-1]
    assert second["next_cursor"] is None
    assert (await client.get("/rollovers", params={"cursor": "?"})).status_code == 422


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("payup", -1),
        ("payup", 1.5),
        ("max_volume", 0),
        ("max_volume", "5"),
        ("timeout_s", 0),
        ("timeout_s", 3601),
        ("strategies", []),
        ("strategies", [""]),
        ("from_vt_symbol", "rb2701"),
        ("dry_run", "perhaps"),
        ("unknown", 1),
    ],
)
async def test_wrong_fields_are_named(client, field, value):
    response = await client.post("/rollover", json=BODY | {field: value})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"].startswith(field)


async def test_what_there_is_not_is_a_404(client):
    assert (await client.post("/rollover", json=BODY | {"to_vt_symbol": "no.SHFE"})).status_code == 404
    assert (await client.post("/rollover", json=BODY | {"strategies": ["no"]})).status_code == 404
    assert (await client.get("/rollovers/no")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "needs"),
    [("POST", "/rollover", "trader"), ("GET", "/rollovers", "viewer"), ("GET", "/rollovers/r", "viewer")],
)
async def test_reading_needs_a_viewer_and_rolling_a_trader(client_of, method, path, needs):
    roles = ["viewer", "trader", "admin"]
    assert (await client_of(None).request(method, path)).status_code == 401
    for role in roles:
        refused = (await client_of(role).request(method, path)).status_code == 403
        assert refused == (roles.index(role) < roles.index(needs)), role


def test_every_operation_is_documented(app):
    operations = {
        operation["operationId"]: operation for item in app.openapi()["paths"].values() for operation in item.values()
    }
    assert set(operations) == {"roll_strategies", "list_rollovers", "get_rollover"}
    for operation in operations.values():
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"] == ["strategies"]
        assert {"200", "401", "403", "422"} <= set(operation["responses"])
    assert "202" in operations["roll_strategies"]["responses"]
