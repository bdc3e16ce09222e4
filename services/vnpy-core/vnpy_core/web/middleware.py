"""What every request passes before a route sees it: an id, the host's name, CORS, the body's size and depth, the clock.

`RequestGate` is the outermost and holds the others in their order: CORS (so that pages of allowed origins can read
errors too), the last resort against bugs, Starlette's body limit, the check of JSON.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Histogram
from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.web.problems import problem_response, request_id, status_response, unexpected_response

JSON_DEPTH = 32
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+?)\.?(?::[0-9]{1,5})?")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
CLIENT_LEFT = 499
"""In log and metrics: the client went away before there was an answer. It is no failure of ours."""
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = _READING | {"POST", "PUT", "PATCH", "DELETE"}

_log = structlog.get_logger(__name__)


class RequestGate:
    """ASGI middleware; loop thread only.

    `allowed_hosts` are the names that a request's Host header may have (`*.example.com` and `*` are understood): names
    of other web sites that point here are refused (DNS rebinding). `body_limit` is in bytes; a route that takes more
    (an import) says so by FastAPI's `max_body_size`. Browsers' pages from `cors_origins` may call, none by default.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed_hosts: Iterable[str],
        body_limit: int,
        cors_origins: Iterable[str] = (),
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._app: ASGIApp = LastResort(RequestBodyLimitMiddleware(JsonCheck(app), body_limit))
        if origins := tuple(cors_origins):
            self._app = _cors(self._app, origins)
        hosts = [host.lower() for host in allowed_hosts]
        self._hosts = frozenset(hosts)
        self._host_ends = tuple(host[1:] for host in hosts if host.startswith("*."))
        self._seconds = Histogram(
            "vnpy_core_http_request_seconds",
            "Time from the request's arrival to the last byte of its answer",
            ["method", "route", "status"],
            buckets=_BUCKETS,
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        name = _chosen_id(scope)
        scope.setdefault("state", {})["request_id"] = name
        with structlog.contextvars.bound_contextvars(request_id=name):
            if scope["type"] == "http":
                await self._http(scope, receive, _Answer(scope, send))
            elif self._known_host(scope):
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 4403, "reason": "unknown host"})

    async def _http(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        started, without = time.perf_counter(), 500
        try:
            if self._known_host(scope):
                await self._app(scope, receive, answer)
            else:
                detail = "the Host header names a host that server.allowed_hosts does not have"
                await status_response(421, detail, request_id(scope))(scope, receive, answer)
            without = CLIENT_LEFT
        finally:
            self._record(scope, answer.status or without, time.perf_counter() - started)

    def _known_host(self, scope: Scope) -> bool:
        if "*" in self._hosts:
            return True
        given = Headers(scope=scope).getlist("host")
        match = _HOST.fullmatch(given[0].lower()) if len(given) == 1 else None
        return match is not None and (match[1] in self._hosts or match[1].endswith(self._host_ends))

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        # Both are chosen by clients, and a label value once used stays in memory.
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = getattr(scope.get("route"), "path", "unmatched")
        self._seconds.labels(method, route, status).observe(seconds)
        write = _log.debug if method in _READING and status < 400 else _log.info
        write("request", method=method, route=route, path=scope["path"], status=status, ms=round(seconds * 1000, 2))


class _Answer:
    """A request's `send`: adds its id, notes the status, and makes problems of what Starlette refuses in plain text."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.status = 0
        """0 while there is no answer."""
        self._scope = scope
        self._send = send
        self._replaced = False

    async def __call__(self, message: Message) -> None:
        if message["type"] != "http.response.start":
            if not self._replaced:
                await self._send(message)
            return
        headers = Headers(raw=message.get("headers", []))
        name = request_id(self._scope)
        if message["status"] < 400 or not headers.get("content-type", "").startswith("text/plain"):
            self.status = message["status"]
            await self._send({**message, "headers": [*headers.raw, (b"x-request-id", name.encode())]})
            return
        self._replaced = True
        kept = {key: value for key, value in headers.items() if key not in ("content-type", "content-length")}
        response = status_response(message["status"], _refusal(message["status"]), name, kept | {"x-request-id": name})
        self.status = response.status_code
        await self._send({"type": message["type"], "status": response.status_code, "headers": response.raw_headers})
        await self._send({"type": "http.response.body", "body": response.body})


class LastResort:
    """ASGI middleware: a bug becomes an answer with an id. Once an answer has begun, the server must cut it off."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            await unexpected_response(error, scope)(scope, receive, send)


class JsonCheck:
    """ASGI middleware: JSON that is malformed, has NaN or infinities, or is nested too deep goes no further."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its body, or answer it."""
        if scope["type"] != "http" or not _is_json(scope):
            await self._app(scope, receive, send)
            return
        body = await _whole(receive)
        if body is None:
            return  # the client is gone
        try:
            check_json(body)
        except ValidationFailed as error:
            await problem_response(error, request_id(scope))(scope, receive, send)
            return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, receive_again, send)


def check_json(text: bytes) -> None:
    """Raises ValidationFailed unless `text` is empty or strict JSON of at most `JSON_DEPTH` levels."""
    if not text:
        return
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        detail = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ValidationFailed(f"the body is not JSON that can be taken: {detail}") from error
    if depth_exceeds(text, JSON_DEPTH):
        raise ValidationFailed(f"JSON may be nested {JSON_DEPTH} levels deep")


_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


def depth_exceeds(text: bytes, limit: int) -> bool:
    """Whether arrays and objects of this valid JSON are nested deeper than `limit`."""
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    # Peel off the innermost level again and again, at C's speed: a loop over a megabyte of brackets takes 0.1 s.
    left = _STRING.sub(b"", text).translate(_BRACKETS, _OTHERS)
    for _ in range(limit):
        left = left.replace(b"[]", b"")
    return bool(left)


def _cors(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Request-Id"],
        expose_headers=["X-Request-Id", "X-Incomplete", "Idempotent-Replay", "Retry-After"],
    )


def _is_json(scope: Scope) -> bool:
    """As FastAPI sees it, and a little wider: what it would not parse may be checked too."""
    return "json" in Headers(scope=scope).get("content-type", "").partition(";")[0].lower()


async def _whole(receive: Receive) -> bytes | None:
    """The body; its size is limited by the middleware around. None when the client went away."""
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _refusal(status: int) -> str:
    return "the body is larger than this route takes" if status == 413 else "refused"


def _chosen_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
