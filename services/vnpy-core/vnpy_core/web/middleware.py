"""What every request passes before a route sees it: an id, the host's name, the body's size and depth, the clock."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable

import structlog
from prometheus_client import CollectorRegistry, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vnpy_core.domain.errors import CoreError, PayloadTooLarge, ValidationFailed
from vnpy_core.web.problems import problem_response

JSON_DEPTH = 32
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

_log = structlog.get_logger(__name__)


class RequestGate:
    """ASGI middleware. `allowed_hosts` refuses names of other web sites that point here (DNS rebinding)."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed_hosts: Iterable[str],
        body_limit: int,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._app = app
        self._allowed_hosts = {host.lower() for host in allowed_hosts}
        self._body_limit = body_limit
        self._seconds = Histogram(
            "vnpy_core_http_request_seconds",
            "Time from the request's arrival to the last byte of its answer",
            ["method", "route", "status"],
            buckets=_BUCKETS,
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket" and not self._known_host(scope):
            await send({"type": "websocket.close", "code": 4403, "reason": "unknown host"})
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.perf_counter(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                if not self._known_host(scope):
                    raise ValidationFailed("the Host header names a host that this service does not answer for")
                received = await self._read(scope, receive)
            except CoreError as error:
                await problem_response(error, request_id)(scope, receive, send_with_id)
            else:
                await self._app(scope, received, send_with_id)
            self._record(scope, status, time.perf_counter() - started)

    def _known_host(self, scope: Scope) -> bool:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
        name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        return name in self._allowed_hosts or "*" in self._allowed_hosts

    async def _read(self, scope: Scope, receive: Receive) -> Receive:
        """The whole body, checked, as a new `receive`. Raises PayloadTooLarge, ValidationFailed."""
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._body_limit:
            raise PayloadTooLarge(f"the body may have {self._body_limit} bytes")
        if scope["method"] in ("GET", "HEAD", "OPTIONS") and b"transfer-encoding" not in headers and announced == b"0":
            return receive
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._body_limit:
                raise PayloadTooLarge(f"the body may have {self._body_limit} bytes")
        if b"json" in headers.get(b"content-type", b"") and depth(body) > JSON_DEPTH:
            raise ValidationFailed(f"JSON may be nested {JSON_DEPTH} levels deep")
        waiting: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def receive_again() -> Message:
            return waiting.pop() if waiting else await receive()

        return receive_again

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._seconds.labels(scope["method"], route, status).observe(seconds)
        _log.debug("request", method=scope["method"], path=scope["path"], status=status, ms=round(seconds * 1000, 2))


def depth(text: bytes | bytearray) -> int:
    """How deep the arrays and objects of a JSON text are nested; brackets inside strings do not count."""
    deepest = now = 0
    for bracket in re.findall(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', text):
        if bracket in (b"[", b"{"):
            now += 1
            deepest = max(deepest, now)
        elif bracket in (b"]", b"}"):
            now -= 1
    return deepest


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
    return given if _REQUEST_ID.match(given) else secrets.token_hex(8)
