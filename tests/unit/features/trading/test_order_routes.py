import asyncio

import pytest
from structlog.testing import capture_logs

from vnpy_core.domain.enums import Product, Status
from vnpy_core.domain.errors import (
    GatewayRefused,
    OutcomeUnknown,
    Overloaded,
    RateLimited,
    RiskDenied,
    StorageFull,
    TradingHalted,
)

BUY = {"vt_symbol": "rb2505.SHFE", "direction": "LONG", "volume": 2, "price": 3500}


async def post(client, headers=None, **changes):
    body = {key: value for key, value in (BUY | changes).items() if value is not ...}
    return await client.post("/orders", json=body, headers=headers or {})


def assert_problem(response, status, code, *fields):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert {error["field"] for error in problem.get("errors", [])} == set(fields)
    return problem


async def test_an_order_is_created_and_can_be_read_at_once(client, engine):
    response = await post(client, client_order_id="mine", reference="r", offset="OPEN")
    order = response.json()
    assert response.status_code == 201
    assert (order["status"], order["client_order_id"], order["reference"]) == ("NOTTRADED", "mine", "r")
    assert order["child_orders"] == []
    del order["child_orders"]
    assert (await client.get(f"/orders/{order['vt_orderid']}")).json() == order
    assert (await client.get("/orders/by-client-id/mine")).json() == order
    assert (await client.get("/orders")).json() == {"items": [order], "next_cursor": None}


async def test_an_order_has_exactly_the_fields_of_the_contract(client):
    fields = """vt_orderid orderid client_order_id gateway_name vt_symbol symbol exchange direction offset type price
        volume traded status reason reference strategy_name datetime updated_at seq child_orders"""
    assert set((await post(client)).json()) == set(fields.split())


async def test_symbol_and_exchange_do_as_well_as_vt_symbol(client):
    response = await post(client, vt_symbol=..., symbol="rb2505", exchange="SHFE")
    assert response.json()["vt_symbol"] == "rb2505.SHFE"
    assert (await post(client, symbol="rb2505", exchange="SHFE")).status_code == 201


@pytest.mark.parametrize(
    "names",
    [
        {"vt_symbol": ...},
        {"vt_symbol": ..., "symbol": "rb2505"},
        {"exchange": "SHFE"},
        {"symbol": "cu2505", "exchange": "SHFE"},
        {"vt_symbol": "rb2505"},
        {"vt_symbol": "\x00.SHFE"},
    ],
)
async def test_names_that_do_not_name_one_contract_are_refused(client, engine, names):
    response = await post(client, **names)
    assert (response.status_code, response.json()["code"]) == (422, "VALIDATION_FAILED")
    assert engine.commands == []


async def test_vnpys_own_words_are_understood_and_answered_by_name(client):
    response = await post(client, direction="空", offset="平今", type="限价")
    order = response.json()
    assert (order["direction"], order["offset"], order["type"]) == ("SHORT", "CLOSETODAY", "LIMIT")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("volume", "2"),
        ("volume", True),
        ("volume", None),
        ("volume", 0),
        ("volume", -1),
        ("volume", 1.5),
        ("volume", 1e13),
        ("price", 0),
        ("price", -3500),
        ("price", 3500.5),
        ("price", "3500"),
        ("price", 1e13),
        ("direction", "NET"),
        ("direction", "UP"),
        ("offset", "SIDEWAYS"),
        ("type", "RFQ"),
        ("reference", "x" * 129),
        ("client_order_id", ""),
        ("client_order_id", "with space"),
        ("client_order_id", "x" * 65),
        ("voulme", 1),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_is_sent(client, engine, field, value):
    assert_problem(await post(client, **{field: value}), 422, "VALIDATION_FAILED", field)
    assert engine.commands == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ["price", "volume"])
async def test_numbers_that_are_not_finite_are_refused(client, engine, field, number):
    text = '{"vt_symbol":"rb2505.SHFE","direction":"LONG","volume":2,"price":3500}'
    body = text.replace('"volume":2' if field == "volume" else '"price":3500', f'"{field}":{number}')
    response = await client.post("/orders", content=body, headers={"Content-Type": "application/json"})
    assert_problem(response, 422, "VALIDATION_FAILED", field)
    assert engine.commands == []


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b"", b"\xff\xfe", b'"text"'])
async def test_a_body_that_is_no_order_is_refused(client, body):
    response = await client.post("/orders", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (422, "VALIDATION_FAILED")


async def test_a_lone_surrogate_is_refused(client):
    body = b'{"vt_symbol":"rb2505.SHFE","direction":"LONG","volume":2,"price":3500,"reference":"\\ud800"}'
    response = await client.post("/orders", content=body, headers={"Content-Type": "application/json"})
    assert_problem(response, 422, "VALIDATION_FAILED", "reference")


async def test_a_market_order_needs_no_price_and_a_spread_may_have_a_negative_one(client, engine):
    engine.add_contract("SP a&b.DCE", product=Product.SPREAD)
    assert (await post(client, type="MARKET", price=...)).status_code == 201
    assert (await post(client, vt_symbol="SP a&b.DCE", price=-12)).status_code == 201


async def test_an_unknown_contract_or_gateway_is_not_found(client, engine):
    assert_problem(await post(client, vt_symbol="xx.SHFE"), 404, "NOT_FOUND")
    assert_problem(await post(client, gateway_name="NONE"), 404, "NOT_FOUND")
    engine.add_gateway("CTP")
    assert_problem(await post(client, gateway_name="CTP"), 404, "NOT_FOUND")


async def test_where_several_gateways_offer_the_contract_one_must_be_named(client, engine):
    engine.add_gateway("CTP")
    engine.add_contract(gateway_name="CTP")
    problem = assert_problem(await post(client), 422, "VALIDATION_FAILED", "gateway_name")
    assert "CTP, PAPER" in problem["detail"]
    assert (await post(client, gateway_name="CTP")).json()["gateway_name"] == "CTP"


async def test_a_gateway_without_connection_takes_no_order(client, engine):
    engine.add_gateway(connected=False)
    assert_problem(await post(client), 409, "GATEWAY_NOT_CONNECTED")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RiskDenied("too many", rule="ActiveOrderRule", limit=50), 422),
        (GatewayRefused("no"), 422),
        (TradingHalted("halted"), 423),
        (RateLimited("slower", retry_after=1.5), 429),
        (Overloaded("busy"), 503),
        (StorageFull("full"), 507),
    ],
)
async def test_each_denial_has_its_code_and_leaves_the_key_free(client, engine, error, status):
    engine.next_errors = [error]
    problem = assert_problem(await post(client, client_order_id="k"), status, error.code)
    assert error.extra.items() <= problem.items()
    retried = await post(client, client_order_id="k")
    assert retried.status_code == 201
    assert "idempotent-replay" not in retried.headers


async def test_a_fault_of_ours_is_a_500_without_a_trace(client, engine):
    engine.next_errors = [RuntimeError("inner detail")]
    with capture_logs() as lines:
        response = await post(client)
    assert_problem(response, 500, "INTERNAL")
    assert "inner detail" not in response.text
    assert "inner detail" in str(lines)


async def test_an_order_that_the_venue_rejects_is_created_with_its_reason(client, engine):
    engine.reject_reason = "not enough margin"
    response = await post(client)
    assert response.status_code == 201
    assert (response.json()["status"], response.json()["reason"]) == ("REJECTED", "not enough margin")


async def test_an_unknown_outcome_is_a_202_that_names_the_order_and_is_replayed(client, engine):
    engine.next_errors = [OutcomeUnknown("no word yet", vt_orderid="PAPER.9")]
    first = await post(client, client_order_id="k")
    problem = assert_problem(first, 202, "OUTCOME_UNKNOWN")
    assert (problem["client_order_id"], problem["vt_orderid"]) == ("k", "PAPER.9")
    again = await post(client, client_order_id="k")
    assert_problem(again, 202, "OUTCOME_UNKNOWN")
    assert again.headers["idempotent-replay"] == "true"
    assert len(engine.commands) == 1


async def test_an_unknown_outcome_names_the_key_that_the_service_made(client, engine):
    engine.next_errors = [OutcomeUnknown("no word yet")]
    assert (await post(client)).json()["client_order_id"] == engine.commands[0].client_order_id


async def test_a_split_order_lists_its_children(client, engine):
    engine.split = [1.0, 1.0]
    order = (await post(client, offset="CLOSE")).json()
    assert [child["offset"] for child in order["child_orders"]] == ["CLOSETODAY", "CLOSEYESTERDAY"]


@pytest.mark.parametrize("by_header", [True, False])
async def test_the_same_key_and_body_give_the_first_answer(client, engine, by_header):
    given = {"headers": {"Idempotency-Key": "k"}} if by_header else {"client_order_id": "k"}
    first, again = await post(client, **given), await post(client, **given)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert "idempotent-replay" not in first.headers
    assert again.headers["idempotent-replay"] == "true"
    assert len(engine.commands) == 1
    assert engine.commands[0].client_order_id == "k"


async def test_the_same_order_in_other_words_is_the_same_body(client, engine):
    await post(client, client_order_id="k")
    again = await post(
        client, {"Idempotency-Key": "k"}, vt_symbol=..., symbol="rb2505", exchange="SHFE", direction="多"
    )
    assert again.headers["idempotent-replay"] == "true"


async def test_the_same_key_with_another_body_is_a_mismatch(client, engine):
    await post(client, client_order_id="k")
    assert_problem(await post(client, client_order_id="k", volume=3), 409, "IDEMPOTENCY_MISMATCH")
    assert len(engine.commands) == 1


async def test_two_different_keys_in_one_request_are_refused(client, engine):
    response = await post(client, {"Idempotency-Key": "a"}, client_order_id="b")
    assert_problem(response, 422, "VALIDATION_FAILED", "client_order_id")
    assert (await post(client, {"Idempotency-Key": "a"}, client_order_id="a")).status_code == 201


async def test_a_bad_idempotency_key_is_refused(client):
    assert_problem(await post(client, {"Idempotency-Key": "a b"}), 422, "VALIDATION_FAILED", "Idempotency-Key")


async def test_concurrent_requests_with_one_key_send_one_order(client, engine):
    engine.hold = asyncio.Event()
    requests = [asyncio.create_task(post(client, client_order_id="k")) for _ in range(5)]
    await asyncio.sleep(0.05)
    engine.hold.set()
    answers = await asyncio.gather(*requests)
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replay" in answer.headers for answer in answers) == 4
    assert len(engine.commands) == 1


async def test_a_batch_answers_each_order_in_order(client, engine):
    engine.next_errors = [None, RiskDenied("too many", rule="r"), OutcomeUnknown("no word"), RuntimeError("bug")]
    orders = [
        BUY | {"client_order_id": "a"},
        BUY | {"volume": 1.5},
        BUY | {"vt_symbol": "xx.SHFE"},
        BUY,
        BUY,
        BUY,
        BUY | {"client_order_id": "a"},
        BUY | {"client_order_id": "a", "volume": 3},
        BUY,
    ]
    with capture_logs() as lines:
        response = await client.post("/orders/batch", json={"orders": orders})
    assert [str(line["exc_info"]) for line in lines] == ["bug"]
    assert response.status_code == 207
    items = response.json()["items"]
    assert [item["status"] for item in items] == [201, 422, 404, 422, 202, 500, 201, 409, 201]
    assert [item["problem"]["code"] if "problem" in item else None for item in items] == [
        None,
        "VALIDATION_FAILED",
        "NOT_FOUND",
        "RISK_DENIED",
        "OUTCOME_UNKNOWN",
        "INTERNAL",
        None,
        "IDEMPOTENCY_MISMATCH",
        None,
    ]
    assert items[0]["order"] == items[6]["order"]
    assert "order" not in items[1]
    assert "bug" not in response.text
    assert len(engine.commands) == 5


@pytest.mark.parametrize("orders", [[], [BUY] * 501, [BUY, BUY | {"volume": "1"}], None])
async def test_a_batch_that_is_no_batch_sends_nothing(client, engine, orders):
    response = await client.post("/orders/batch", json={"orders": orders})
    assert (response.status_code, response.json()["code"]) == (422, "VALIDATION_FAILED")
    assert engine.commands == []


async def test_a_wrong_field_in_a_batch_is_named_by_its_path(client):
    response = await client.post("/orders/batch", json={"orders": [BUY, BUY | {"price": None}]})
    assert_problem(response, 422, "VALIDATION_FAILED", "orders.1.price")


async def test_a_batch_refuses_an_idempotency_key_rather_than_ignore_it(client, engine):
    response = await client.post("/orders/batch", json={"orders": [BUY]}, headers={"Idempotency-Key": "k"})
    assert_problem(response, 422, "VALIDATION_FAILED", "Idempotency-Key")
    assert engine.commands == []


@pytest.mark.parametrize("method", ["DELETE", "POST"])
async def test_an_active_order_is_asked_to_cancel_once(client, engine, method):
    vt_orderid = (await post(client)).json()["vt_orderid"]
    path = f"/orders/{vt_orderid}" + ("/cancel" if method == "POST" else "")
    response = await client.request(method, path)
    assert (response.status_code, response.json()) == (202, {"vt_orderid": vt_orderid})
    assert_problem(await client.request(method, path), 409, "CONFLICT")
    assert engine.cancels == [vt_orderid]


async def test_an_unknown_order_is_not_found(client):
    assert_problem(await client.get("/orders/PAPER.none"), 404, "NOT_FOUND")
    assert_problem(await client.get("/orders/by-client-id/none"), 404, "NOT_FOUND")
    assert_problem(await client.delete("/orders/PAPER.none"), 404, "NOT_FOUND")


async def test_cancel_all_cancels_what_fits(client, engine):
    engine.add_contract("cu2505.SHFE")
    for vt_symbol in ("rb2505.SHFE", "rb2505.SHFE", "cu2505.SHFE"):
        await post(client, vt_symbol=vt_symbol)
    engine.update_order("PAPER.2", strategy_name="s")
    by_strategy = await client.post("/orders/cancel-all", json={"strategy_name": "s"})
    assert (by_strategy.status_code, by_strategy.json()) == (202, {"cancelled": 1, "failed": []})
    by_symbol = await client.post("/orders/cancel-all", json={"vt_symbol": "cu2505.SHFE", "gateway_name": "PAPER"})
    assert by_symbol.json()["cancelled"] == 1
    assert (await client.post("/orders/cancel-all")).json()["cancelled"] == 1
    assert engine.cancels == ["PAPER.2", "PAPER.3", "PAPER.1"]


async def test_cancel_all_goes_on_past_an_order_that_cannot_be_cancelled_and_names_it(client, engine):
    for _ in range(3):
        await post(client)
    engine.cancel_errors["PAPER.2"] = Overloaded("busy")
    answer = (await client.post("/orders/cancel-all", json={})).json()
    assert answer == {
        "cancelled": 2,
        "failed": [{"vt_orderid": "PAPER.2", "code": "OVERLOADED", "detail": "busy"}],
    }


async def test_a_mistyped_filter_never_cancels_everything(client, engine):
    await post(client)
    response = await client.post("/orders/cancel-all", json={"vt_symbl": "rb2505.SHFE"})
    assert_problem(response, 422, "VALIDATION_FAILED", "vt_symbl")
    assert engine.cancels == []


async def test_orders_are_filtered_and_read_on_from_a_seq(client, engine):
    for _ in range(3):
        await post(client)
    engine.update_order("PAPER.1", status=Status.CANCELLED)

    async def ids(**query):
        response = await client.get("/orders", params=query)
        assert response.status_code == 200, response.text
        return [order["vt_orderid"] for order in response.json()["items"]]

    assert await ids() == ["PAPER.2", "PAPER.3", "PAPER.1"]
    assert await ids(active="true") == ["PAPER.2", "PAPER.3"]
    assert await ids(status="已撤销") == ["PAPER.1"]
    assert await ids(after_seq=3) == ["PAPER.1"]
    assert await ids(start="2026-11-21T12:00:00Z", end=1795262400001) == ["PAPER.2", "PAPER.3", "PAPER.1"]
    assert await ids(start="2026-11-21T20:00:01+08:00") == []
    assert await ids(vt_symbol="rb2505.SHFE", gateway_name="PAPER", strategy_name="s") == []


async def test_orders_are_paged_by_cursor(client):
    for _ in range(5):
        await post(client)
    seen, cursor = [], None
    while True:
        page = (await client.get("/orders", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [order["vt_orderid"] for order in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"PAPER.{n}" for n in range(1, 6)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", 0),
        ("limit", 1001),
        ("cursor", "nonsense"),
        ("cursor", "WyJhIiwiYiJd"),
        ("active", "perhaps"),
        ("status", "DONE"),
        ("start", "yesterday"),
        ("start", "2026-11-21T12:00:00"),
        ("after_seq", -1),
        ("after_seq", 10**30),
        ("vt_symbol", "rb2505"),
        ("activ", "true"),
    ],
)
async def test_a_wrong_filter_is_named(client, field, value):
    assert_problem(await client.get("/orders", params={field: value}), 422, "VALIDATION_FAILED", field)
