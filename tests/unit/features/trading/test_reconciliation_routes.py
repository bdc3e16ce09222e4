import pytest
from structlog.testing import capture_logs

from vnpy_core.domain.commands import SubmitOrder
from vnpy_core.domain.enums import Direction, IntentState, Offset, OrderType, ReconciliationState
from vnpy_core.domain.errors import GatewayNotReconciled, JournalFailed, StorageFull
from vnpy_core.domain.reconciliation import Difference, DifferenceKind, UnknownIntent

COMMAND = SubmitOrder(
    client_order_id="my/order 1".replace(" ", "-"),
    gateway_name="PAPER",
    symbol="rb2505",
    exchange="SHFE",
    direction=Direction.LONG,
    offset=Offset.NONE,
    type=OrderType.LIMIT,
    volume=1.0,
    price=3500.0,
)
DIFFERENCE = Difference(
    kind=DifferenceKind.POSITION, key="rb2505.SHFE", venue="3", books="2", resolved=False, resolution="", evidence="e"
)
NOT_SENT = {"state": "NOT_SENT", "evidence": "not in the broker's list"}


def audits(engine):
    return [(audit.who, audit.what, audit.target) for audit in engine.audits]


async def test_every_difference_and_unknown_intent_is_shown(client_of, engine):
    intent = engine.add_intent(COMMAND)
    engine.add_reconciliation(differences=[DIFFERENCE], unknown_intents=[UnknownIntent(intent=intent, evidence="e")])
    engine.add_reconciliation("CTP", ReconciliationState.RECONCILED)
    ctp, paper = (await client_of("viewer").get("/reconciliation")).json()["items"]
    assert (ctp["gateway_name"], ctp["state"]) == ("CTP", "RECONCILED")
    assert paper["differences"][0]["kind"] == "POSITION"
    assert paper["unknown_intents"][0]["intent"]["client_order_id"] == COMMAND.client_order_id


@pytest.mark.parametrize(("body", "name"), [(None, None), ({}, None), ({"gateway_name": "PAPER"}, "PAPER")])
async def test_a_comparison_begins_again_and_is_put_on_record(client, engine, body, name):
    response = await client.post("/reconciliation/run", json=body)
    assert (response.status_code, response.json()) == (202, {"gateway_name": name})
    assert engine.reconciled == [name]
    assert audits(engine) == [("a admin", "reconciliation.run", name or "all")]


async def test_an_unknown_or_unconnected_gateway_is_not_compared(client, engine):
    engine.add_gateway("CTP", connected=False)
    for name, code in (("NONE", "NOT_FOUND"), ("CTP", "GATEWAY_NOT_CONNECTED")):
        assert (await client.post("/reconciliation/run", json={"gateway_name": name})).json()["code"] == code
    assert engine.audits == []


async def test_differences_are_accepted_once_with_a_reason(client, engine):
    engine.add_reconciliation(differences=[DIFFERENCE])
    body = {"gateway_name": "PAPER", "reason": "the broker says so"}
    response = await client.post("/reconciliation/accept", json=body)
    assert response.status_code == 200
    report = response.json()
    assert (report["state"], report["accepted_by"], report["accepted_reason"]) == (
        "ACCEPTED",
        "a admin",
        "the broker says so",
    )
    (audit,) = engine.audits
    assert (audit.who, audit.what, audit.target, audit.reason) == (
        "a admin",
        "reconciliation.accept",
        "PAPER",
        "the broker says so",
    )
    assert (audit.before["state"], audit.before["differences"][0]["key"]) == ("DIFFERENT", "rb2505.SHFE")
    assert audit.after == {"state": "ACCEPTED"}
    assert (await client.post("/reconciliation/accept", json=body)).status_code == 409
    assert (await client.post("/reconciliation/accept", json=body | {"gateway_name": "NONE"})).status_code == 404


@pytest.mark.parametrize("body", [None, {}, {"gateway_name": "PAPER"}, {"gateway_name": "PAPER", "reason": ""}])
async def test_nothing_is_accepted_without_a_reason(client, engine, body):
    engine.add_reconciliation()
    assert (await client.post("/reconciliation/accept", json=body)).status_code == 422
    assert engine.reconciliations()[0].state == "DIFFERENT"


@pytest.mark.parametrize(
    ("body", "state", "vt_orderid"),
    [(NOT_SENT, "NOT_SENT", ""), ({"state": "BOUND", "vt_orderid": "PAPER.7", "evidence": "e"}, "BOUND", "PAPER.7")],
)
async def test_an_unknown_intent_is_resolved_with_evidence(client, engine, body, state, vt_orderid):
    engine.add_intent(COMMAND)
    path = f"/reconciliation/{COMMAND.client_order_id}/resolve"
    response = await client.post(path, json=body)
    outcome = response.json()
    assert response.status_code == 200
    assert (outcome["state"], outcome["vt_orderid"], outcome["by"]) == (state, vt_orderid, "a admin")
    assert outcome["evidence"] == body["evidence"]
    (audit,) = engine.audits
    assert (audit.what, audit.target, audit.reason) == ("intent.resolve", COMMAND.client_order_id, body["evidence"])
    assert (audit.before, audit.after) == ({"state": "UNKNOWN"}, {"state": state, "vt_orderid": vt_orderid})
    assert (await client.post(path, json=body)).status_code == 409
    assert (await client.post("/reconciliation/none/resolve", json=body)).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"state": "NOT_SENT"},
        {"state": "NOT_SENT", "evidence": ""},
        {"state": "BOUND", "evidence": "e"},
        {"state": "NOT_SENT", "vt_orderid": "PAPER.7", "evidence": "e"},
        {"state": "DENIED", "evidence": "e"},
        NOT_SENT | {"by": "somebody else"},
    ],
)
async def test_a_resolution_that_says_too_little_or_too_much_is_refused(client, engine, body):
    engine.add_intent(COMMAND)
    response = await client.post(f"/reconciliation/{COMMAND.client_order_id}/resolve", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "VALIDATION_FAILED")
    assert engine.intent(COMMAND.client_order_id)[1] is None


@pytest.mark.parametrize(("error", "status"), [(JournalFailed("no"), 503), (StorageFull("full"), 507)])
async def test_a_decision_that_cannot_be_journaled_is_not_taken(client, engine, error, status):
    engine.add_intent(COMMAND)
    engine.add_reconciliation()
    engine.journal_error = error
    resolved = await client.post(f"/reconciliation/{COMMAND.client_order_id}/resolve", json=NOT_SENT)
    accepted = await client.post("/reconciliation/accept", json={"gateway_name": "PAPER", "reason": "r"})
    assert (resolved.status_code, accepted.status_code) == (status, status)
    assert engine.intent(COMMAND.client_order_id)[1] is None
    assert engine.reconciliations()[0].state == "DIFFERENT"


async def test_an_order_that_was_not_sent_after_all_may_be_sent_with_its_key(client, engine):
    engine.add_intent(COMMAND)
    order = {"vt_symbol": "rb2505.SHFE", "direction": "LONG", "volume": 1, "price": 3500}
    order["client_order_id"] = COMMAND.client_order_id
    before = await client.post("/orders", json=order)
    assert (before.status_code, before.headers["idempotent-replay"]) == (202, "true")
    await client.post(f"/reconciliation/{COMMAND.client_order_id}/resolve", json=NOT_SENT)
    assert (await client.post("/orders", json=order)).status_code == 201
    assert len(engine.commands) == 1


async def test_an_order_through_a_gateway_that_differs_is_told_where_to_look(client, engine):
    engine.next_errors = [GatewayNotReconciled("not yet", reconciliation="/api/v1/trading/reconciliation")]
    body = {"vt_symbol": "rb2505.SHFE", "direction": "LONG", "volume": 1, "price": 3500}
    problem = (await client.post("/orders", json=body)).json()
    assert (problem["status"], problem["code"]) == (409, "GATEWAY_NOT_CONNECTED")
    assert problem["reconciliation"] == "/api/v1/trading/reconciliation"


# What else is put on record


async def test_connects_and_disconnects_are_on_record_without_the_setting(client, engine):
    await client.post("/gateways/PAPER/disconnect")
    await client.post("/gateways/PAPER/connect", json={"setting": {"密码": "canary"}})
    assert audits(engine) == [("a admin", "gateway.disconnect", "PAPER"), ("a admin", "gateway.connect", "PAPER")]
    assert "canary" not in str(engine.audits)


async def test_a_connect_that_was_refused_is_not_on_record(client, engine):
    await client.post("/gateways/PAPER/connect")
    assert engine.audits == []


async def test_cancelling_all_is_on_record_with_what_came_of_it(client_of, engine):
    order = engine.add_order(COMMAND)
    kept = engine.add_order(COMMAND)
    engine.cancel_errors[kept.vt_orderid] = JournalFailed("busy")
    await client_of("trader").post("/orders/cancel-all", json={"gateway_name": "PAPER", "vt_symbol": "rb2505.SHFE"})
    await client_of("trader").post("/orders/cancel-all", json={"strategy_name": "none"})
    await client_of("trader").post("/orders/cancel-all")
    first, second, third = engine.audits
    assert (first.who, first.what, first.target) == ("a trader", "orders.cancel_all", "PAPER rb2505.SHFE")
    assert first.after == {"cancelled": 1, "failed": [kept.vt_orderid]}
    assert (second.target, second.after["cancelled"], third.target) == ("none", 0, "all")
    assert engine.cancels == [order.vt_orderid]


async def test_cancels_go_on_though_they_cannot_be_put_on_record(client, engine):
    engine.add_order(COMMAND)
    engine.journal_error = StorageFull("full")
    with capture_logs() as lines:
        response = await client.post("/orders/cancel-all")
    assert (response.status_code, response.json()["cancelled"]) == (202, 1)
    assert [line["log_level"] for line in lines if line["event"] == "not on record"] == ["error"]


def test_the_states_of_a_resolution_are_the_two_that_evidence_can_show(app):
    schema = app.openapi()["components"]["schemas"]["ResolveBody"]["properties"]["state"]
    assert set(schema["enum"]) == {IntentState.BOUND, IntentState.NOT_SENT}
