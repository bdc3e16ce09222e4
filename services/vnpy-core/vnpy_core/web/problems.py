"""Errors become answers here and nowhere else: RFC 9457 problem details with the code that clients switch on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from vnpy_core.domain.errors import CoreError, FieldError

MEDIA_TYPE = "application/problem+json"

STATUS: dict[str, int] = {
    "OUTCOME_UNKNOWN": 202,
    "NOT_AUTHENTICATED": 401,
    "NOT_PERMITTED": 403,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "CONFLICT": 409,
    "IDEMPOTENCY_MISMATCH": 409,
    "GATEWAY_NOT_CONNECTED": 409,
    "PAYLOAD_TOO_LARGE": 413,
    "VALIDATION_FAILED": 422,
    "RISK_DENIED": 422,
    "GATEWAY_REFUSED": 422,
    "CONFIGURATION": 422,
    "TRADING_HALTED": 423,
    "RATE_LIMITED": 429,
    "INTERNAL": 500,
    "OVERLOADED": 503,
    "STORAGE_FULL": 507,
}
TITLE: dict[str, str] = {
    "OUTCOME_UNKNOWN": "The outcome is not known yet",
    "NOT_AUTHENTICATED": "Not authenticated",
    "NOT_PERMITTED": "Not permitted",
    "NOT_FOUND": "Not found",
    "METHOD_NOT_ALLOWED": "Method not allowed",
    "CONFLICT": "Conflict with the present state",
    "IDEMPOTENCY_MISMATCH": "The idempotency key was used for another request",
    "GATEWAY_NOT_CONNECTED": "The gateway is not connected",
    "PAYLOAD_TOO_LARGE": "Payload too large",
    "VALIDATION_FAILED": "The request is not valid",
    "RISK_DENIED": "A risk rule denied the order",
    "GATEWAY_REFUSED": "The gateway refused the order",
    "CONFIGURATION": "The configuration is wrong",
    "TRADING_HALTED": "Trading is halted",
    "RATE_LIMITED": "Too many requests",
    "INTERNAL": "Internal error",
    "OVERLOADED": "Overloaded",
    "STORAGE_FULL": "The disk is full",
}
_BY_STATUS = {401: "NOT_AUTHENTICATED", 403: "NOT_PERMITTED", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"} | {
    413: "PAYLOAD_TOO_LARGE",
    429: "RATE_LIMITED",
    503: "OVERLOADED",
}

_log = structlog.get_logger(__name__)


def problem(error: CoreError, request_id: str) -> dict[str, Any]:
    """The members of the answer, as in a batch's items; `type` is a stable name, not an address to visit."""
    code = error.code if error.code in STATUS else "INTERNAL"
    members = {
        "type": f"urn:vnpy-core:problem:{code.lower().replace('_', '-')}",
        "title": TITLE[code],
        "status": STATUS[code],
        "detail": error.detail,
        "code": code,
        "request_id": request_id,
    }
    if error.errors:
        members["errors"] = [field.as_dict() for field in error.errors]
    return members | {name: value for name, value in error.extra.items() if name not in members}


def problem_response(error: CoreError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to an error."""
    body = problem(error, request_id)
    more = dict(headers or {})
    if "retry_after" in error.extra:
        more["Retry-After"] = str(math.ceil(error.extra["retry_after"]))
    if body["status"] == 401:
        more.setdefault("WWW-Authenticate", "Bearer")
    return Response(msgspec.json.encode(body), body["status"], headers=more, media_type=MEDIA_TYPE)


def request_id(scope: Scope) -> str:
    """The id that the gate gave this request."""
    return str(scope.get("state", {}).get("request_id", ""))


def responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for these error codes; every route may also answer 401, 403, 413 and 422."""
    by_status: dict[int | str, dict[str, Any]] = {}
    always = ("NOT_AUTHENTICATED", "NOT_PERMITTED", "PAYLOAD_TOO_LARGE", "VALIDATION_FAILED")
    for code in (*always, *codes):
        entry = by_status.setdefault(STATUS[code], {"description": TITLE[code], "content": {MEDIA_TYPE: {}}})
        content = entry["content"][MEDIA_TYPE]
        content["schema"] = SCHEMA
        content.setdefault("examples", {})[code] = {"value": problem(_example(code), "3f0c9e7d52b14a30")}
        if TITLE[code] not in entry["description"]:
            entry["description"] += f", or: {TITLE[code].lower()}"
    return by_status


SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What went wrong, for people"},
        "code": {"type": "string", "enum": list(STATUS), "description": "What went wrong, for programs"},
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


def install(app: FastAPI) -> None:
    """Answer every error of `app` with problem details."""
    app.add_exception_handler(CoreError, _on_core_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_core_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, CoreError)
    if STATUS.get(error.code, 500) == 500:
        return await _on_unexpected(request, error)
    return problem_response(error, request_id(request.scope))


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = [FieldError(_path(item["loc"]), str(item["msg"])) for item in error.errors()]
    detail = "; ".join(f"{field.field}: {field.message}" for field in fields[:5])
    return problem_response(_of("VALIDATION_FAILED", detail, fields), request_id(request.scope))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _BY_STATUS.get(error.status_code, "VALIDATION_FAILED" if error.status_code < 500 else "INTERNAL")
    return problem_response(_of(code, str(error.detail)), request_id(request.scope), error.headers)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    _log.error("a request failed unexpectedly", path=request.url.path, exc_info=error)
    detail = "An internal error; the service's log has it under this request_id."
    return problem_response(_of("INTERNAL", detail), request_id(request.scope))


def _path(location: tuple[int | str, ...]) -> str:
    """`("body", "orders", 0, "price")` as `orders.0.price`."""
    return ".".join(str(part) for part in location[1:]) or str(location[0])


def _of(code: str, detail: str, errors: list[FieldError] | None = None) -> CoreError:
    error = CoreError(detail, errors=errors)
    error.code = code  # type: ignore[misc]
    return error


def _example(code: str) -> CoreError:
    return _of(code, TITLE[code] + ".")
