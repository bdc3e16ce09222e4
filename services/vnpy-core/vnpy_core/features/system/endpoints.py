"""`/health`, `/metrics` and `/api/v1/system`: parse, authorise, delegate."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from vnpy_core.features.system import schemas
from vnpy_core.features.system.metrics import Metrics
from vnpy_core.features.system.service import LogLine, Readiness, SystemService, SystemStatus
from vnpy_core.web.auth import require_viewer
from vnpy_core.web.paging import decode_cursor, encode_cursor
from vnpy_core.web.problems import responses
from vnpy_core.web.responses import FastResponse, page_model, wire_model

router = APIRouter(tags=["system"])

VIEWER = [Depends(require_viewer)]


class Liveness(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str = "ok"


async def _system(request: Request) -> SystemService:
    service: SystemService = request.app.state.system
    return service


async def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


System = Annotated[SystemService, Depends(_system)]


@router.get(
    "/health/live",
    operation_id="get_liveness",
    summary="Does the process answer?",
    response_model=wire_model(Liveness),
    responses={200: {"content": {"application/json": {"example": {"status": "ok"}}}}},
)
async def get_liveness() -> Response:
    """200 as long as the process answers; restart it when it does not. Open."""
    return FastResponse(Liveness())


@router.get(
    "/health/ready",
    operation_id="get_readiness",
    summary="Can requests be served?",
    response_model=wire_model(Readiness),
    responses={
        200: {"content": {"application/json": {"example": schemas.READINESS_EXAMPLE}}},
        503: {
            "description": "A critical part is down",
            "model": wire_model(Readiness),
            "content": {"application/json": {"example": schemas.UNREADY_EXAMPLE}},
        },
    },
)
async def get_readiness(system: System) -> Response:
    """200 with each part's state, or 503 while a critical part, such as the event thread, is down. Open.

    Critical are the event thread and the journal: while it cannot be written no new order is taken. A gateway, an app
    or the database `store` that is down makes it `degraded` only: the rest goes on. The reasons are in
    `/api/v1/system/status`.
    """
    readiness = system.readiness()
    return FastResponse(readiness, 200 if readiness.ready else 503)


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Metrics for Prometheus",
    dependencies=VIEWER,
    response_class=PlainTextResponse,
    responses=responses() | {200: {"content": {"text/plain": {"example": schemas.METRICS_EXAMPLE}}}},
)
async def get_metrics(metrics: Annotated[Metrics, Depends(_metrics)]) -> Response:
    """Prometheus' text format.

    Prometheus sends the token or API key of a viewer with `authorization: {credentials_file: …}` in its scrape
    configuration.
    """
    return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/api/v1/system/status",
    operation_id="get_system_status",
    summary="Status of the service",
    dependencies=VIEWER,
    response_model=wire_model(SystemStatus),
    responses=responses() | {200: {"content": {"application/json": {"example": schemas.STATUS_EXAMPLE}}}},
)
async def get_system_status(system: System) -> Response:
    """Version, uptime, each part with its reason, the event thread, the journal, what follows it, and the clients."""
    return FastResponse(system.status())


@router.get(
    "/api/v1/system/logs",
    operation_id="list_logs",
    summary="List the last log lines",
    dependencies=VIEWER,
    response_model=page_model(LogLine),
    responses=responses()
    | {200: {"content": {"application/json": {"example": {"items": [schemas.LOG_EXAMPLE], "next_cursor": None}}}}},
)
async def list_logs(query: Annotated[schemas.LogsQuery, Query()], system: System) -> Response:
    """VnPy's and the strategies' last 2,000 log lines, newest first, without recognisable secrets."""
    before = decode_cursor(query.cursor, int) if query.cursor else None
    lines = system.logs(query.wanted(), before, query.limit + 1)
    more = len(lines) > query.limit
    cursor = encode_cursor(lines[query.limit - 1].number) if more else None
    return FastResponse({"items": lines[: query.limit], "next_cursor": cursor})
