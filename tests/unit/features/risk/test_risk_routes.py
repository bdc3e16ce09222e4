import asyncio

import pytest
from structlog.testing import capture_logs

from testkit.clock import FakeClock
from vnpy_core.domain.commands import SubmitOrder
from vnpy_core.domain.enums import Direction, Offset, OrderType, Status
from vnpy_core.domain.errors import JournalFailed, StorageFull, TradingHalted
from vnpy_core.features.trading.orders import OrderRequest
from vnpy_core.features.trading.service import TradingService

COMMAND = SubmitOrder(
    client_order_id="c",
    gateway_name="PAPER",
    symbol="rb2505",
    exchange="SHFE",
    direction=Direction.LONG,
    offset=Offset.NONE,
    type=OrderType.LIMIT,
    volume=1.0,
    price=3500.0,
)
BUY = OrderRequest(symbol="rb2505", exchange="SHFE", direction=Direction.LONG, volume=1.0, price=3500.0)


async def halts(client):
    response = await client.get("/state")
    assert response.status_code == 200
    return response.json()["halts"]


async def test_trading_is_open_at_first(client):
    assert await halts(client) == []


async def test_a_halt_says_who_and_why_and_cancels_what_is_active(client, engine):
    active = [engine.add_order(COMMAND) for _ in range(2)]
    engine.add_order(COMMAND, Status.CANCELLED)
    response = await client.post("/halt", json={"scope": "all", "mode": "HALTED", "cancel": True, "reason": "prices"})
    halt = response.json()
    assert response.status_code == 200
    assert (halt["scope"], halt["target"], halt["mode"], halt["active"]) == ("all", "", "HALTED", True)
    assert (halt["reason"], halt["by"], halt["at"]) == ("prices", "a trader", "2026-11-20T02:00:00Z")
    assert (halt["cancelled"], halt["persisted"]) == (2, True)
    assert engine.cancels == [order.vt_orderid for order in active]
    del halt["cancelled"], halt["persisted"]
    assert await halts(client) == [halt]


@pytest.mark.parametrize("body", [None, {}])
async def test_a_halt_needs_no_words(client, engine, body):
    engine.add_order(COMMAND)
    response = await client.post("/halt", json=body)
    assert (response.status_code, response.json()["cancelled"]) == (200, 1)
    assert len(await halts(client)) == 1


async def test_a_halt_may_leave_the_orders_alone(client, engine):
    engine.add_order(COMMAND)
    assert (await client.post("/halt", json={"cancel": False})).json()["cancelled"] == 0
    assert engine.cancels == []


async def test_a_halt_may_be_renewed(client):
    await client.post("/halt", json={"reason": "one"})
    assert (await client.post("/halt", json={"reason": "two"})).status_code == 200
    assert [halt["reason"] for halt in await halts(client)] == ["two"]


async def test_nothing_is_sent_while_trading_is_halted_until_it_is_resumed(client, engine):
    trading = TradingService(engine, engine.view, FakeClock())
    await client.post("/halt")
    with pytest.raises(TradingHalted):
        await trading.place(BUY, "k")
    response = await client.post("/resume", json={"reason": "all is well"})
    resumed = response.json()
    assert response.status_code == 200
    assert (resumed["active"], resumed["by"], resumed["reason"]) == (False, "a trader", "all is well")
    assert await halts(client) == []
    assert not (await trading.place(BUY, "k")).replayed


async def test_what_is_not_halted_cannot_be_resumed(client):
    response = await client.post("/resume")
    assert (response.status_code, response.json()["code"]) == (409, "CONFLICT")


async def test_the_view_shows_a_halt_as_long_as_it_is_in_force(client, engine):
    await client.post("/halt")
    assert [key for key, _ in engine.view.snapshot("risk.halt")] == ["all"]
    await client.post("/resume")
    assert engine.view.snapshot("risk.halt") == []


# When the journal fails


@pytest.mark.parametrize("error", [StorageFull("full"), JournalFailed("broken")])
async def test_a_halt_holds_though_nothing_can_be_journaled_and_says_so(client, engine, error):
    engine.journal_error = error
    with capture_logs() as lines:
        response = await client.post("/halt")
    assert (response.status_code, response.json()["persisted"]) == (200, False)
    assert [line["what"] for line in lines if line["event"] == "not on record"] == ["trading.halt"]
    assert len(await halts(client)) == 1


async def test_a_halt_does_not_wait_for_a_journal_that_hangs(client, engine):
    engine.journal_hold = asyncio.Event()
    async with asyncio.timeout(5):
        with capture_logs():
            assert (await client.post("/halt")).status_code == 200
    engine.journal_hold.set()
    await asyncio.sleep(0)
    assert [audit.what for audit in engine.audits] == ["trading.halt"]


async def test_trading_is_not_resumed_before_that_is_durable(client, engine):
    await client.post("/halt")
    engine.journal_error = StorageFull("full")
    assert (await client.post("/resume")).status_code == 507
    assert len(await halts(client)) == 1


async def test_halts_and_resumptions_are_on_record(client_of, engine):
    engine.add_order(COMMAND)
    await client_of("trader").post("/halt", json={"reason": "r1"})
    await client_of("admin").post("/resume", json={"reason": "r2"})
    halted, resumed = engine.audits
    all_ = {"scope": "all", "target": "", "mode": "HALTED"}
    assert (halted.who, halted.what, halted.target, halted.reason) == ("a trader", "trading.halt", "all", "r1")
    assert (halted.before, halted.after) == ({"halts": []}, {"halts": [all_], "cancel": True, "cancelled": 1})
    assert (resumed.who, resumed.what, resumed.reason) == ("a admin", "trading.resume", "r2")
    assert (resumed.before, resumed.after) == ({"halts": [all_]}, {"halts": []})


# What is not there yet


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scope", "gateway"),
        ("scope", "strategy"),
        ("scope", "symbol"),
        ("scope", None),
        ("target", "CTP"),
        ("mode", "REDUCING"),
        ("flatten", True),
    ],
)
async def test_other_scopes_and_modes_are_refused_and_the_answer_says_what_there_is(client, engine, field, value):
    response = await client.post("/halt", json={field: value})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "VALIDATION_FAILED")
    assert [error["field"] for error in problem["errors"]] == [field]
    assert "only" in problem["errors"][0]["message"]
    assert "scope all" in problem["errors"][0]["message"]
    assert engine.halts() == []


async def test_what_is_not_asked_for_may_be_named(client):
    body = {"scope": "all", "target": None, "mode": "HALTED", "flatten": False}
    assert (await client.post("/halt", json=body)).status_code == 200
    assert (await client.post("/resume", json={"scope": "gateway"})).status_code == 422


async def test_a_mistyped_field_is_refused(client, engine):
    response = await client.post("/halt", json={"cancle": False})
    assert [error["field"] for error in response.json()["errors"]] == ["cancle"]
    assert engine.halts() == []


@pytest.mark.parametrize(
    ("method", "path", "needs"),
    [("GET", "/state", "viewer"), ("POST", "/halt", "trader"), ("POST", "/resume", "trader")],
)
async def test_reading_needs_a_viewer_and_halting_a_trader(client_of, method, path, needs):
    roles = ["viewer", "trader", "admin"]
    assert (await client_of(None).request(method, path)).status_code == 401
    for role in roles:
        refused = (await client_of(role).request(method, path)).status_code == 403
        assert refused == (roles.index(role) < roles.index(needs)), role


def test_every_operation_is_documented(app):
    operations = {
        operation["operationId"]: operation for item in app.openapi()["paths"].values() for operation in item.values()
    }
    assert set(operations) == {"get_risk_state", "halt_trading", "resume_trading"}
    for operation in operations.values():
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"] == ["risk"]
        assert {"200", "401", "403", "422"} <= set(operation["responses"])
