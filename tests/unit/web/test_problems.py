import json
import math

import msgspec
import pytest
from starlette.testclient import TestClient

from vnpy_core.domain import errors
from vnpy_core.web.problems import STATUS, problem, problem_response, responses

MEMBERS = {"type", "title", "status", "detail", "code", "request_id"}
# API.md, in its order.
DOCUMENTED = {
    "VALIDATION_FAILED": 422,
    "NOT_AUTHENTICATED": 401,
    "NOT_PERMITTED": 403,
    "NOT_FOUND": 404,
    "CONFLICT": 409,
    "IDEMPOTENCY_MISMATCH": 409,
    "RISK_DENIED": 422,
    "TRADING_HALTED": 423,
    "GATEWAY_NOT_CONNECTED": 409,
    "GATEWAY_REFUSED": 422,
    "OUTCOME_UNKNOWN": 202,
    "RATE_LIMITED": 429,
    "PAYLOAD_TOO_LARGE": 413,
    "OVERLOADED": 503,
    "STORAGE_FULL": 507,
    "INTERNAL": 500,
}


def all_errors(base=errors.CoreError):
    return {base, *(found for child in base.__subclasses__() for found in all_errors(child))}


def test_the_statuses_are_those_of_the_contract():
    assert DOCUMENTED.items() <= STATUS.items()
    assert set(STATUS) - set(DOCUMENTED) == {"METHOD_NOT_ALLOWED", "HOST_NOT_ALLOWED"}  # HTTP's own


@pytest.mark.parametrize("kind", sorted(all_errors(), key=lambda kind: kind.__name__))
def test_every_error_of_the_domain_has_its_answer(kind):
    error = kind("why", seq=1) if kind is errors.PoisonRow else kind("why")
    members = problem(error, "r1")
    assert set(members) == MEMBERS | set(error.extra)
    assert members["status"] == DOCUMENTED.get(kind.code, 500)
    assert members["code"] == (kind.code if kind.code in DOCUMENTED else "INTERNAL")
    assert members["type"].startswith("urn:vnpy-core:problem:")


def test_members_of_an_error_travel_but_never_replace_those_of_the_problem():
    members = problem(errors.RiskDenied("no", rule="size", limit=5, status=200, code="OK"), "r1")
    assert (members["rule"], members["limit"], members["status"], members["code"]) == ("size", 5, 422, "RISK_DENIED")


@pytest.mark.parametrize("kind", [errors.JournalFailed, errors.StoreUnavailable])
def test_a_store_or_journal_that_is_away_is_told_as_overload_so_that_clients_try_later(kind):
    answer = problem_response(kind("away"), "r")
    assert (answer.status_code, json.loads(answer.body)["code"]) == (503, "OVERLOADED")


def test_a_gateway_that_is_not_reconciled_counts_as_not_connected_and_says_where_to_look():
    members = problem(errors.GatewayNotReconciled("not yet", reconciliation="/api/v1/trading/reconciliation"), "r")
    assert (members["status"], members["code"]) == (409, "GATEWAY_NOT_CONNECTED")
    assert members["reconciliation"] == "/api/v1/trading/reconciliation"


def test_what_utf8_lacks_does_not_turn_an_error_into_another():
    answer = problem_response(errors.NotFound("no file caf\udce9"), "r")
    assert (answer.status_code, json.loads(answer.body)["detail"]) == (404, "no file caf?")


def test_field_errors_travel():
    error = errors.ValidationFailed("no", errors=[errors.FieldError("orders.0.price", "must be finite")])
    assert problem(error, "r1")["errors"] == [{"field": "orders.0.price", "message": "must be finite"}]


def test_an_error_of_the_domain_is_answered(client):
    response = client.post("/raise/risk")
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")
    assert response.json() == {
        "type": "urn:vnpy-core:problem:risk-denied",
        "title": "A risk rule denied the order",
        "status": 422,
        "detail": "too big",
        "code": "RISK_DENIED",
        "request_id": response.headers["x-request-id"],
        "rule": "size",
        "limit": 500,
    }


def test_an_unknown_outcome_is_accepted_and_not_an_error(client):
    response = client.post("/raise/unknown")
    assert (response.status_code, response.json()["vt_orderid"]) == (202, "PAPER.1")


def test_retry_after_is_whole_seconds_rounded_up(client):
    response = client.post("/raise/rate")
    assert (response.status_code, response.headers["retry-after"]) == (429, str(math.ceil(1.2)))


def test_what_json_lacks_does_not_turn_an_error_into_another(client):
    response = client.post("/raise/odd")
    assert (response.status_code, response.json()["limit"]) == (422, None)


def test_wrong_fields_are_named_by_their_path_and_never_repeated(client):
    secret = "hunter2-secret"
    response = client.post("/lines", json={"lines": [{"price": 1}, {"price": secret}, {}]})
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["lines.1.price", "lines.2.price"]
    assert secret not in response.text


def test_a_thousand_wrong_fields_make_a_short_answer(client):
    response = client.post("/lines", json={"lines": [{}] * 3_000})
    assert response.status_code == 422
    assert len(response.json()["errors"]) == 50
    assert len(response.content) < 10_000


def test_wrong_parameters_are_named(client):
    assert client.get("/open/x").json()["errors"][0]["field"] == "item"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/nowhere", 404, "NOT_FOUND"), ("DELETE", "/echo", 405, "METHOD_NOT_ALLOWED")],
)
def test_what_the_framework_refuses_is_a_problem_too(client, method, path, status, code):
    response = client.request(method, path)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    if status == 405:
        assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_a_broken_form_is_a_problem(client, content_type):
    response = client.post("/import", content=b"--x\r\nbroken", headers={"content-type": content_type})
    assert (response.status_code, response.json()["code"]) == (422, "VALIDATION_FAILED")


def test_a_bug_without_the_gate_is_answered_too(make_app):
    app = make_app()
    app.user_middleware.clear()
    response = TestClient(app, raise_server_exceptions=False).post("/raise/bug")
    assert (response.status_code, response.json()["code"]) == (500, "INTERNAL")
    assert "secret" not in response.text


def test_a_mistake_of_the_operator_is_not_told_to_clients(make_app):
    app = make_app()

    @app.get("/wrong")
    async def wrong():
        raise errors.ConfigurationError("/etc/secret/path is wrong")

    response = TestClient(app).get("/wrong")
    assert (response.status_code, response.json()["code"]) == (500, "INTERNAL")
    assert "path" not in response.text


# OpenAPI


def test_responses_group_codes_by_status_with_an_example_each():
    documented = responses("RISK_DENIED", "GATEWAY_REFUSED", "NOT_FOUND", "NOT_FOUND")
    assert set(documented) == {401, 403, 404, 413, 422}
    examples = documented[422]["content"]["application/problem+json"]["examples"]
    assert list(examples) == ["VALIDATION_FAILED", "RISK_DENIED", "GATEWAY_REFUSED"]
    for code, example in examples.items():
        assert (example["value"]["code"], example["value"]["status"]) == (code, 422)
    assert documented[404]["description"] == "Not found"


def test_the_document_describes_problems_and_no_other_errors(app):
    document = app.openapi()
    assert app.openapi() == document
    assert "HTTPValidationError" not in msgspec.json.encode(document).decode()
    assert set(document["components"]["schemas"]["Problem"]["required"]) == MEMBERS
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["responses"]["default"] == {"$ref": "#/components/responses/Problem"}
            invalid = operation["responses"].get("422", {"content": {"application/problem+json": {}}})
            assert set(invalid["content"]) == {"application/problem+json"}
