"""`/api/v1/system/nodes`: parse, authorise, delegate."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from vnpy_core.features.nodes.schemas import NODES_EXAMPLE
from vnpy_core.features.nodes.service import NodeList, NodesService
from vnpy_core.web.auth import require_viewer
from vnpy_core.web.problems import responses
from vnpy_core.web.responses import FastResponse, wire_model

router = APIRouter(tags=["system"])


async def _nodes(request: Request) -> NodesService:
    service: NodesService = request.app.state.nodes
    return service


@router.get(
    "/api/v1/system/nodes",
    operation_id="list_nodes",
    summary="List the cores and edges that run",
    dependencies=[Depends(require_viewer)],
    response_model=wire_model(NodeList),
    responses=responses() | {200: {"content": {"application/json": {"example": NODES_EXAMPLE}}}},
)
async def list_nodes(nodes: Annotated[NodesService, Depends(_nodes)]) -> Response:
    """Who runs, where, how far and how busy. One that ended without a word is listed until its lease has run out.

    While the registry does not answer, the list has only the node that was asked, and `complete` is false. With
    `registry.kind = "memory"` a node knows only itself.
    """
    return FastResponse(await nodes.nodes())
