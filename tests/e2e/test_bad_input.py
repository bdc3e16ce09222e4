"""Whatever comes in, a clear typed error goes out and the event thread lives."""

from __future__ import annotations

import json

import httpx2
import pytest
from websockets.sync.client import connect

GOOD = {"vt_symbol": "rb2701.SHFE", "direction": "LONG", "offset": "OPEN", "type": "LIMIT", "volume": 1, "price": 3000}


@pytest.fixture(autouse=True)
def _the_event_thread_lives(service):
    yield
    status = service.client.get("/system/status").json()["event_thread"]
    assert status["alive"]
    assert status["handler_errors"] == 0


def price(service) -> float:
    """A price that rests below the market."""
    [contract] = service.client.get("/trading/contracts", params={"vt_symbol": "rb2701.SHFE"}).json()["items"]
    tick = service.client.get("/trading/ticks/rb2701.SHFE").json()
    return tick["bid_price_1"] - 20 * contract["pricetick"]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"vt_symbol": "nothing.SHFE"}, 404, "NOT_FOUND"),
        ({"vt_symbol": "rb2701.NOWHERE"}, 404, "NOT_FOUND"),
        ({"vt_symbol": "rb2701"}, 422, "VALIDATION_FAILED"),
        ({"gateway_name": "NOPE"}, 404, "NOT_FOUND"),
        ({"gateway_name": "IDLE"}, 404, "NOT_FOUND"),
        ({"volume": -1}, 422, "VALIDATION_FAILED"),
        ({"volume": 0}, 422, "VALIDATION_FAILED"),
        ({"volume": 1.5}, 422, "VALIDATION_FAILED"),
        ({"volume": 1e300}, 422, "VALIDATION_FAILED"),
        ({"volume": 10**400}, 422, "VALIDATION_FAILED"),
        ({"volume": 501}, 422, "RISK_DENIED"),
        ({"volume": "many"}, 422, "VALIDATION_FAILED"),
        ({"volume": True}, 422, "VALIDATION_FAILED"),
        ({"volume": None}, 422, "VALIDATION_FAILED"),
        ({"price": 3000.5}, 422, "VALIDATION_FAILED"),
        ({"price": -5}, 422, "VALIDATION_FAILED"),
        ({"direction": "SIDEWAYS"}, 422, "VALIDATION_FAILED"),
        ({"direction": "NET"}, 422, "VALIDATION_FAILED"),
        ({"offset": 7}, 422, "VALIDATION_FAILED"),
        ({"type": "ETF"}, 422, "VALIDATION_FAILED"),
        ({"unknown": 1}, 422, "VALIDATION_FAILED"),
        ({"client_order_id": "with space"}, 422, "VALIDATION_FAILED"),
    ],
)
def test_a_wrong_order_gets_a_typed_error(service, changes, status, code):
    answer = service.client.post("/trading/orders", json={**GOOD, **changes})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ["volume", "price"])
def test_numbers_that_are_none_are_refused(service, field, number):
    body = json.dumps({**GOOD, field: 0}).replace(f'"{field}": 0', f'"{field}": {number}')
    answer = service.client.post("/trading/orders", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_FAILED")


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", '"text"', "{'single': 1}", "\x00", '{"a":' * 100 + "1" + "}" * 100]
)
def test_malformed_bodies_are_refused(service, body):
    answer = service.client.post("/trading/orders", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_FAILED")


def test_a_body_of_two_megabytes_is_refused_announced_or_not(service):
    big = b"x" * 2_000_000
    headers = {"Content-Type": "application/json"}
    assert service.client.post("/trading/orders", content=big, headers=headers).status_code == 413
    chunks = (big[at : at + 65_536] for at in range(0, len(big), 65_536))
    answer = service.client.post("/trading/orders", content=chunks, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "e30.e30.e30", "x" * 10_000])
def test_wrong_tokens_are_refused(service, token):
    answer = httpx2.get(f"{service.url}/api/v1/trading/orders", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "NOT_AUTHENTICATED")


def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(service):
    answers = [
        httpx2.post(f"{service.url}/api/v1/auth/token", data={"username": name, "password": "wrong"})
        for name in ("admin", "nobody")
    ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json()["detail"] == answers[1].json()["detail"]


def test_a_second_connect_is_refused_and_unknown_gateways_are_not_found(service):
    assert service.client.post("/trading/gateways/PAPER/connect", json={"setting": {}}).json()["code"] == "CONFLICT"
    assert service.client.post("/trading/gateways/NOPE/connect", json={"setting": {}}).status_code == 404
    assert service.client.post("/trading/gateways/IDLE/disconnect").json()["code"] == "CONFLICT"


def test_a_wrong_gateway_setting_shows_as_a_failed_gateway_with_its_reason(service):
    answer = service.client.post("/trading/gateways/IDLE/connect", json={"setting": {"market": "sideways"}})
    assert answer.status_code == 202

    def state():
        items = service.client.get("/trading/gateways").json()["items"]
        return next(item for item in items if item["gateway_name"] == "IDLE")

    for _ in range(200):
        if state()["state"] == "FAILED":
            break
    assert state()["state"] == "FAILED"
    assert "sideways" in state()["message"]


def test_cancels_of_unknown_and_finished_orders_are_refused(service):
    assert service.client.delete("/trading/orders/PAPER.999").json()["code"] == "NOT_FOUND"
    assert service.client.delete("/trading/orders/no-dot").json()["code"] == "NOT_FOUND"
    order = service.client.post("/trading/orders", json={**GOOD, "price": price(service)}).json()
    assert order["status"] == "NOTTRADED"
    assert service.client.delete(f"/trading/orders/{order['vt_orderid']}").status_code == 202
    for _ in range(200):
        if service.client.get(f"/trading/orders/{order['vt_orderid']}").json()["status"] == "CANCELLED":
            break
    assert service.client.delete(f"/trading/orders/{order['vt_orderid']}").json()["code"] == "CONFLICT"


def test_an_order_that_the_venue_rejects_is_an_order_with_a_reason(service):
    answer = service.client.post("/trading/orders", json={**GOOD, "offset": "NONE", "price": price(service)})
    assert (answer.status_code, answer.json()["status"]) == (201, "REJECTED")
    assert "offset" in answer.json()["reason"]


def test_closing_what_is_not_held_is_refused_with_a_reason(service):
    body = {**GOOD, "vt_symbol": "ru2701.SHFE", "direction": "SHORT", "offset": "CLOSE", "price": 15000}
    answer = service.client.post("/trading/orders", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "GATEWAY_REFUSED")
    assert "opposite position" in answer.json()["detail"]


def test_a_foreign_host_header_is_refused(service):
    answer = httpx2.get(f"{service.url}/health/live", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (421, "HOST_NOT_ALLOWED")


def test_the_same_key_gives_the_same_order_and_another_body_is_refused(service):
    body = {**GOOD, "price": price(service)}
    headers = {"Idempotency-Key": "once-1"}
    first = service.client.post("/trading/orders", json=body, headers=headers)
    second = service.client.post("/trading/orders", json=body, headers=headers)
    assert first.json() == second.json()
    assert second.headers["idempotent-replay"] == "true"
    other = service.client.post("/trading/orders", json={**body, "volume": 2}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "IDEMPOTENCY_MISMATCH")
    found = service.client.get("/trading/orders/by-client-id/once-1").json()
    assert found["vt_orderid"] == first.json()["vt_orderid"]


def test_malformed_websocket_frames_are_answered_and_the_socket_lives(service):
    headers = {"Authorization": f"Bearer {service.token}"}
    with connect(f"ws://127.0.0.1:{service.port}/ws", additional_headers=headers) as socket:
        assert json.loads(socket.recv(5))["op"] == "welcome"
        for frame in (
            "",
            "{",
            "null",
            "[]",
            '{"op":"fly"}',
            '{"op":"subscribe","topics":7}',
            b"\x00\xff",
            "x" * 70_000,
        ):
            socket.send(frame)
            assert json.loads(socket.recv(5))["op"] == "error", frame[:40]
        socket.send('{"op":"ping","id":9}')
        assert json.loads(socket.recv(5)) == {"op": "pong", "id": 9}


def test_a_socket_without_a_token_and_with_a_wrong_one_is_closed(service):
    from websockets.exceptions import ConnectionClosed

    with connect(f"ws://127.0.0.1:{service.port}/ws") as socket:
        socket.send('{"op":"auth","token":"nonsense"}')
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(5)
    assert closed.value.rcvd.code == 4401
