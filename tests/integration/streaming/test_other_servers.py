"""A server without our protocol class: frames go one by one."""

from __future__ import annotations

import json

import msgspec
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from testkit.streaming import Hub, Tokens, holder, order
from vnpy_core.features.streaming.endpoints import router

HEADERS = {"Authorization": "Bearer good"}


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.include_router(router)
    hub = Hub()
    app.state.streaming = hub.service
    app.state.authenticator = Tokens(good=holder())
    hub.publish(order(1))
    return TestClient(app)


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_both_encodings_are_spoken(client: TestClient, encoding: str) -> None:
    with client.websocket_connect(f"/ws?encoding={encoding}", headers=HEADERS) as socket:
        read = socket.receive_json if encoding == "json" else lambda: msgspec.msgpack.decode(socket.receive_bytes())
        assert read()["op"] == "welcome"
        socket.send_text(json.dumps({"op": "subscribe", "topics": ["order.updated"]}))
        assert read()["snapshots"] == {"order.updated": 1}
        assert read()["data"]["orderid"] == "1"


def test_a_refusal_closes(client: TestClient) -> None:
    with (
        client.websocket_connect("/ws?encoding=x", headers=HEADERS) as socket,
        pytest.raises(WebSocketDisconnect) as closed,
    ):
        socket.receive_text()
    assert closed.value.code == 4400
