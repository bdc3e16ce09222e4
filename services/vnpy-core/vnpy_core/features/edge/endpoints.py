"""`/health`, `/metrics` and `/api/v1/system/status` of an edge, and what it says to all that only a core does."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from vnpy_core.domain.errors import NotFound
from vnpy_core.features.edge import schemas
from vnpy_core.features.edge.health import EdgeHealth, EdgeStatus, Readiness
from vnpy_core.features.edge.metrics import EdgeMetrics
from vnpy_core.ports.registry import NodeRole
from vnpy_core.web.auth import require_viewer
from vnpy_core.web.problems import responses
from vnpy_core.web.responses import FastResponse, wire_model

router = APIRouter(tags=["system"])
elsewhere = APIRouter()
"""To be included last: it takes whatever is left of the API."""

VIEWER = [Depends(require_viewer)]


class Liveness(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str = "ok"


async def _health(request: Request) -> EdgeHealth:
    health: EdgeHealth = request.app.state.edge
    return health


async def _metrics(request: Request) -> EdgeMetrics:
    metrics: EdgeMetrics = request.app.state.metrics
    return metrics


Health = Annotated[EdgeHealth, Depends(_health)]


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
            "description": "The core's state has not been read yet",
            "model": wire_model(Readiness),
            "content": {"application/json": {"example": schemas.UNREADY_EXAMPLE}},
        },
    },
)
async def get_readiness(health: Health) -> Response:
    """200 with each part's state, or 503 before the core's state was read for the first time. Open.

    `degraded`: what is served may be old, because Redis or the core is silent. Clients stay connected, and get what
    they missed when it speaks again.
    """
    readiness = health.readiness()
    return FastResponse(readiness, 200 if readiness.ready else 503)


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Metrics for Prometheus",
    dependencies=VIEWER,
    response_class=PlainTextResponse,
    responses=responses() | {200: {"content": {"text/plain": {"example": schemas.METRICS_EXAMPLE}}}},
)
async def get_metrics(metrics: Annotated[EdgeMetrics, Depends(_metrics)]) -> Response:
    """Prometheus' text format."""
    return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/api/v1/system/status",
    operation_id="get_system_status",
    summary="Status of the edge",
    dependencies=VIEWER,
    response_model=wire_model(EdgeStatus),
    responses=responses() | {200: {"content": {"application/json": {"example": schemas.STATUS_EXAMPLE}}}},
)
async def get_system_status(health: Health) -> Response:
    """Version, uptime, each part with its reason, how the core is followed, and the clients."""
    return FastResponse(health.status())


@elsewhere.api_route(
    "/api/v1/{path:path}",
    methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
    dependencies=VIEWER,
    include_in_schema=False,
)
async def not_here(path: str, request: Request, health: Health) -> Response:
    """404 NOT_FOUND with the members `role` (`edge`), `node` and `core`, the core's address where that is known."""
    where = f" at {health.core_address}" if health.core_address else ""
    raise NotFound(
        f"this is an edge, which only reads: ask core {health.node}{where} for {request.method} /api/v1/{path}",
        role=NodeRole.EDGE,
        node=health.node,
        core=health.core_address or None,
    )
