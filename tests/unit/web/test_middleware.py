import json

import pytest
import structlog
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.web.middleware import JSON_DEPTH, check_json, depth_exceeds

LIMIT = 10_000
ORIGIN = "https://desk.example"
JSON = {"content-type": "application/json"}


def is_problem(response, status, code):
    assert (response.status_code, response.json().get("code")) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == response.json()["request_id"]
    assert int(response.headers["content-length"]) == len(response.content)
    return True


def chunks(count, size=1_000):
    for _ in range(count):
        yield b" " * size


# The id


def test_a_request_without_an_id_gets_one(client):
    first, second = client.get("/open/1"), client.get("/open/1")
    assert first.headers["x-request-id"] == first.json()["request_id"]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


def test_the_callers_id_is_kept(client):
    response = client.get("/open/1", headers={"X-Request-Id": "Trace-1_2.3"})
    assert response.headers.get_list("x-request-id") == ["Trace-1_2.3"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'a"b', "a\tb", "é"])
def test_an_id_that_is_not_a_plain_word_is_replaced(client, given):
    response = client.get("/open/1", headers={"X-Request-Id": given.encode("latin-1")})
    assert response.headers["x-request-id"] not in ("", given)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/open/x", 422), ("PUT", "/open/1", 405), ("POST", "/raise/bug", 500)],
)
def test_errors_carry_the_id_too(client, method, path, status):
    response = client.request(method, path, headers={"X-Request-Id": "abc"})
    assert response.status_code == status
    assert response.headers.get_list("x-request-id") == ["abc"]
    assert response.json()["request_id"] == "abc"


def test_log_lines_of_a_request_carry_its_id_and_no_query(client):
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        client.get("/open/1?ticket=secret", headers={"X-Request-Id": "abc"})
        client.post("/lines", json={"lines": []})
    read, write = lines
    assert read.pop("ms") >= 0
    assert read == {
        "event": "request",
        "log_level": "debug",
        "method": "GET",
        "route": "/open/{item}",
        "path": "/open/1",
        "status": 200,
        "request_id": "abc",
    }
    assert write["log_level"] == "info"
    assert "request_id" not in structlog.contextvars.get_contextvars()


# The host


@pytest.mark.parametrize(
    "host", ["testserver", "TESTSERVER:8006", "testserver.", "[::1]", "[::1]:8006", "a.desk.example", "testserver:1"]
)
def test_known_hosts_are_answered(client, host):
    assert client.get("/open/1", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "testserver.evil.example",
        "eviltestserver",
        "desk.example",
        "evildesk.example",
        "[::2]",
        "",
        "testserver:80:80",
        "testserver@evil.example",
        "evil.example#testserver",
        "testserver evil",
    ],
)
def test_other_hosts_are_refused(client, host):
    assert is_problem(client.get("/open/1", headers={"Host": host}), 421, "HOST_NOT_ALLOWED")


def test_two_hosts_are_refused(client):
    response = client.get("/open/1", headers=[("Host", "testserver"), ("Host", "evil.example")])
    assert is_problem(response, 421, "HOST_NOT_ALLOWED")


def test_a_websocket_of_another_host_is_refused(client):
    headers = {"Host": "evil.example", "Authorization": "Bearer viewer"}
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/socket", headers=headers):
        pass
    assert refused.value.code == 4403


# Cross-origin


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/open/1", b"", 200),
        ("GET", "/nowhere", b"", 404),
        ("POST", "/raise/bug", b"", 500),
        ("POST", "/echo", b"{", 422),
        ("POST", "/echo", b" " * (LIMIT + 1), 413),
    ],
)
def test_pages_of_the_allowed_origin_may_call_and_read_errors(client, method, path, content, status):
    response = client.request(method, path, content=content, headers=JSON | {"Origin": ORIGIN})
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert {"X-Request-Id", "X-Incomplete"} <= set(response.headers["access-control-expose-headers"].split(", "))


def test_preflight(client):
    ask = {"Origin": ORIGIN, "Access-Control-Request-Method": "DELETE"}
    assert client.options("/echo", headers=ask).headers["access-control-allow-origin"] == ORIGIN
    refused = client.options("/echo", headers=ask | {"Origin": "https://evil.example"})
    assert is_problem(refused, 422, "VALIDATION_FAILED")
    assert "access-control-allow-origin" not in refused.headers


def test_no_page_may_call_by_default(client_without_cors):
    response = client_without_cors.get("/open/1", headers={"Origin": ORIGIN})
    assert not [name for name in response.headers if name.startswith("access-control")]
    ask = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    assert client_without_cors.options("/echo", headers=ask).status_code == 405


@pytest.fixture
def client_without_cors(make_app):
    return TestClient(make_app())


# The body's size


def test_a_body_that_announces_too_much_is_refused(client):
    response = client.post("/echo", content=b" " * (LIMIT + 1), headers=JSON)
    assert is_problem(response, 413, "PAYLOAD_TOO_LARGE")


def test_a_chunked_body_is_refused_when_it_grows_too_large(client):
    assert is_problem(client.post("/echo", content=chunks(11), headers=JSON), 413, "PAYLOAD_TOO_LARGE")


async def test_nothing_is_read_beyond_the_limit(app):
    read, sent = [], []
    headers = [(b"host", b"testserver"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/echo", "query_string": b"", "headers": headers}

    async def receive():
        read.append(1_000)
        return {"type": "http.request", "body": b" " * 1_000, "more_body": True}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    assert (sent[0]["status"], sum(read)) == (413, LIMIT + 1_000)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("announced", [True, False])
def test_every_kind_of_body_is_limited(client, content_type, announced):
    for path in ("/echo", "/lines"):
        content = b"x" * (2 * LIMIT) if announced else chunks(20)
        response = client.post(path, content=content, headers={"content-type": content_type})
        assert is_problem(response, 413, "PAYLOAD_TOO_LARGE")


def test_a_body_within_the_limit_passes(client):
    value = "x" * (LIMIT - len('{"a":""}'))
    assert client.post("/echo", content=json.dumps({"a": value}, separators=(",", ":")), headers=JSON).json() == {
        "a": value
    }


def test_a_route_may_take_more(client):
    assert client.post("/import", files={"file": b"x" * (5 * LIMIT)}).json() == 5 * LIMIT
    response = client.post("/import", files={"file": b"x" * (11 * LIMIT)})
    assert is_problem(response, 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("length", ["-1", "abc", "1" * 5_000])
async def test_a_wrong_content_length_does_no_harm(app, length):
    sent = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/echo",
        "query_string": b"",
        "headers": [
            (b"host", b"testserver"),
            (b"content-type", b"application/json"),
            (b"content-length", length.encode()),
        ],
    }

    async def receive():
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] in (200, 413)


async def test_a_client_that_leaves_in_the_middle_of_its_body_gets_no_answer(app):
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    headers = [(b"host", b"testserver"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/echo", "query_string": b"", "headers": headers}

    async def receive():
        return messages.pop(0)

    async def send(message):
        raise AssertionError(message)

    with structlog.testing.capture_logs() as lines:
        await app(scope, receive, send)
    assert [line["status"] for line in lines if line["event"] == "request"] == [499]


# JSON


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"{]",
        b"nope",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1,}',
        b"{'a': 1}",
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b'{"a": ' + b"1" * 5_000 + b"}",
        b"\xef\xbb\xbf{}",
        b"[" * 5_000,
        b"[" * 5_000 + b"]" * 4_999,
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", "application/x+json"])
def test_what_is_not_strict_json_is_refused(client, text, content_type):
    response = client.post("/echo", content=text, headers={"content-type": content_type})
    assert is_problem(response, 422, "VALIDATION_FAILED")


def nested(depth):
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_json_may_be_nested_32_levels_deep(client):
    assert client.post("/echo", content=nested(JSON_DEPTH), headers=JSON).status_code == 200
    for depth in (JSON_DEPTH + 1, 500, 4_000):
        assert is_problem(client.post("/echo", content=nested(depth), headers=JSON), 422, "VALIDATION_FAILED")


def test_brackets_in_strings_are_no_depth():
    check_json(json.dumps({"a": "[" * 100 + '"{' * 100 + "\\", "b": ["}]"] * 100}).encode())


@pytest.mark.parametrize("depth", [1, 2, 31, 32, 33, 40])
@pytest.mark.parametrize("pair", [("[", "]"), ('{"k":', "}"), ('[1,[],{"k":', '},"]"]')])
def test_depth_is_counted_exactly(depth, pair):
    opening, closing = pair
    levels = depth * (2 if opening.startswith("[1") else 1)
    text = (opening * depth + "0" + closing * depth).encode()
    json.loads(text)
    assert not depth_exceeds(text, levels)
    assert depth_exceeds(text, levels - 1)


def test_an_empty_body_is_left_to_the_route():
    check_json(b"")


def test_the_check_names_the_place():
    with pytest.raises(ValidationFailed, match="byte 5"):
        check_json(b'{"a":}')


# Bugs


def test_a_bug_is_answered_with_an_id_and_logged_with_its_trace(client):
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        response = client.post("/raise/bug")
    assert is_problem(response, 500, "INTERNAL")
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    error, request = lines
    assert error["request_id"] == request["request_id"] == response.json()["request_id"]
    assert isinstance(error["exc_info"], RuntimeError)
    assert request["status"] == 500


async def test_a_bug_after_the_answer_began_cuts_it_off(make_app):
    app = make_app()

    @app.get("/half")
    async def half():
        from starlette.responses import StreamingResponse

        async def parts():
            yield b"first"
            raise RuntimeError("bug")

        return StreamingResponse(parts())

    with pytest.raises(RuntimeError, match="bug"):
        TestClient(app).get("/half")


# Figures


def test_requests_are_counted_by_route_and_never_by_what_clients_choose(client, registry):
    client.get("/open/1")
    client.get("/open/2")
    client.get("/open/x")
    client.get("/nowhere/1")
    client.request("BREW", "/nowhere/2")
    client.get("/open/1", headers={"Host": "evil.example"})
    counts = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "vnpy_core_http_request_seconds_count"
    }
    assert counts == {
        ("GET", "/open/{item}", "200"): 2,
        ("GET", "/open/{item}", "422"): 1,
        ("GET", "unmatched", "404"): 1,
        ("other", "unmatched", "404"): 1,
        ("GET", "unmatched", "421"): 1,
    }
