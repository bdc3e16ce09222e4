"""Errors become answers here and nowhere else: RFC 9457 problem details with the code that clients switch on."""

from __future__ import annotations

import http
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from vnpy_core.domain.errors import CoreError, FieldError

MEDIA_TYPE = "application/problem+json"

_CODES: dict[str, tuple[int, str]] = {
    "OUTCOME_UNKNOWN": (202, "The outcome is not known yet"),
    "NOT_AUTHENTICATED": (401, "Not authenticated"),
    "NOT_PERMITTED": (403, "Not permitted"),
    "NOT_FOUND": (404, "Not found"),
    "METHOD_NOT_ALLOWED": (405, "Method not allowed"),
    "CONFLICT": (409, "Conflict with the present state"),
    "IDEMPOTENCY_MISMATCH": (409, "The idempotency key was used for another request"),
    "GATEWAY_NOT_CONNECTED": (409, "The gateway is not connected"),
    "PAYLOAD_TOO_LARGE": (413, "Payload too large"),
    "HOST_NOT_ALLOWED": (421, "The service does not answer for this host"),
    "VALIDATION_FAILED": (422, "The request is not valid"),
    "RISK_DENIED": (422, "A risk rule denied the order"),
    "GATEWAY_REFUSED": (422, "The gateway refused the order"),
    "TRADING_HALTED": (423, "Trading is halted"),
    "RATE_LIMITED": (429, "Too many requests"),
    "INTERNAL": (500, "Internal error"),
    "OVERLOADED": (503, "Overloaded"),
    "STORAGE_FULL": (507, "The disk is full"),
}
STATUS: dict[str, int] = {code: status for code, (status, _) in _CODES.items()}
"""The HTTP status of each code."""

# The frameworks know only statuses; where several codes share one, the first is the general one.
_CODE_OF_STATUS = {status: code for code, status in reversed(STATUS.items())}

_ERRORS_SHOWN = 50
_FIELD_LENGTH = 200
_INTERNAL_DETAIL = "An internal error; the service's log has it under this request_id."

_log = structlog.get_logger(__name__)


def problem(error: CoreError, request_id: str) -> dict[str, Any]:
    """The members of the answer, as in a batch's items; `type` is a stable name, not an address to visit."""
    code = error.code if error.code in _CODES else "INTERNAL"
    members = _members(code, error.detail, request_id, error.errors)
    return members | {name: value for name, value in error.extra.items() if name not in members}


def problem_response(error: CoreError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to an error; `retry_after` among its extras becomes the header too."""
    return _response(problem(error, request_id), headers)


def status_response(status: int, detail: str, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to an error of which a framework knows only the HTTP status; other 4xx count as VALIDATION_FAILED."""
    code = _CODE_OF_STATUS.get(status, "VALIDATION_FAILED" if status < 500 else "INTERNAL")
    return _response(_members(code, detail, request_id), headers)


def unexpected_response(error: BaseException, scope: Scope) -> Response:
    """The answer to a bug: an id for the client, the trace for the log only."""
    _log.error("a request failed unexpectedly", path=scope["path"], request_id=request_id(scope), exc_info=error)
    return _response(_members("INTERNAL", _INTERNAL_DETAIL, request_id(scope)))


def request_id(scope: Scope) -> str:
    """The id that the gate gave this request."""
    return str(scope.get("state", {}).get("request_id", ""))


def responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for these error codes; every route may also answer 401, 403, 413 and 422."""
    by_status: dict[int | str, dict[str, Any]] = {}
    always = ("NOT_AUTHENTICATED", "NOT_PERMITTED", "PAYLOAD_TOO_LARGE", "VALIDATION_FAILED")
    for code in dict.fromkeys((*always, *codes)):
        status, title = _CODES[code]
        entry = by_status.setdefault(status, {"description": title, "content": {MEDIA_TYPE: _content()}})
        entry["content"][MEDIA_TYPE]["examples"][code] = {"value": _members(code, f"{title}.", "3f0c9e7d52b14a30")}
        if title != entry["description"]:
            entry["description"] += f", or: {title}"
    return by_status


def install(app: FastAPI) -> None:
    """Answer every error of `app` with problem details, and say so in its OpenAPI document."""
    app.add_exception_handler(CoreError, _on_core_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_unexpected)
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        if "Problem" not in document.setdefault("components", {}).setdefault("schemas", {}):
            _describe_problems(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend the document


SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "What went wrong (RFC 9457). Some codes have members of their own, such as `rule` and `limit`.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "description": "A stable name of the code"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What went wrong, for people"},
        "code": {"type": "string", "enum": list(_CODES), "description": "What went wrong, for programs"},
        "request_id": {"type": "string", "description": "Also in the header X-Request-Id and in the service's log"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
    "additionalProperties": True,
}


async def _on_core_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, CoreError)
    if STATUS.get(error.code, 500) == 500:
        return unexpected_response(error, request.scope)
    return problem_response(error, request_id(request.scope))


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = [_field_error(item) for item in error.errors()[:_ERRORS_SHOWN]]
    detail = "; ".join(f"{field.field}: {field.message}" for field in fields[:5])
    return _response(_members("VALIDATION_FAILED", detail, request_id(request.scope), fields))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return status_response(error.status_code, str(error.detail), request_id(request.scope), error.headers)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    return unexpected_response(error, request.scope)


def _members(code: str, detail: str, request_id: str, errors: Sequence[FieldError] = ()) -> dict[str, Any]:
    status, title = _CODES[code]
    members: dict[str, Any] = {
        "type": f"urn:vnpy-core:problem:{code.lower().replace('_', '-')}",
        "title": title,
        "status": status,
        "detail": detail.encode(errors="replace").decode(),  # a file's name may hold what UTF-8 does not
        "code": code,
        "request_id": request_id,
    }
    if errors:
        members["errors"] = [field.as_dict() for field in errors]
    return members


def _response(members: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    more = dict(headers or {})
    if "retry_after" in members:
        more["Retry-After"] = str(math.ceil(members["retry_after"]))
    if members["status"] == http.HTTPStatus.UNAUTHORIZED:
        more.setdefault("WWW-Authenticate", "Bearer")
    # What an error carries along must not turn its answer into another error, so what JSON lacks becomes text.
    body = msgspec.json.encode(members, enc_hook=str)
    return Response(body, members["status"], headers=more, media_type=MEDIA_TYPE)


def _field_error(item: dict[str, Any]) -> FieldError:
    """`("body", "orders", 0, "price")` as `orders.0.price`. Never what was sent: it may be a secret, or a megabyte."""
    location = item["loc"] if item["type"] != "json_invalid" else item["loc"][:1]
    path = ".".join(str(part) for part in location[1:]) or str(location[0])
    return FieldError(path[:_FIELD_LENGTH], str(item["msg"]).removeprefix("Value error, "))


def _content() -> dict[str, Any]:
    return {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}


def _describe_problems(document: dict[str, Any]) -> None:
    """Name the problem in place of FastAPI's own error model, and on every operation for whatever it does not list."""
    components = document["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    components["schemas"]["Problem"] = SCHEMA
    components["responses"] = {
        "Problem": {
            "description": "Any other error",
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    }
    for path in document["paths"].values():
        for operation in path.values():
            answers = operation["responses"]
            if "application/json" in answers.get("422", {}).get("content", {}):
                answers["422"] = responses()[422]
            answers.setdefault("default", {"$ref": "#/components/responses/Problem"})
