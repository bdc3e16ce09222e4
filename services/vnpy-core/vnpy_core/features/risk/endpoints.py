"""`/api/v1/risk`: parse, authorise, delegate."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from vnpy_core.domain.events import Halt
from vnpy_core.features.risk import schemas
from vnpy_core.features.risk.service import Halted, RiskService, RiskState
from vnpy_core.ports.auth import Principal
from vnpy_core.web.auth import require_trader, require_viewer
from vnpy_core.web.problems import responses
from vnpy_core.web.responses import FastResponse, wire_model

router = APIRouter(prefix="/api/v1/risk", tags=["risk"])


async def _service(request: Request) -> RiskService:
    service: RiskService = request.app.state.risk
    return service


Risk = Annotated[RiskService, Depends(_service)]
Trader = Annotated[Principal, Depends(require_trader)]


def _answers(example: dict[str, Any], *codes: str) -> dict[int | str, dict[str, Any]]:
    return responses(*codes) | {200: {"content": {"application/json": {"example": example}}}}


@router.get(
    "/state",
    operation_id="get_risk_state",
    summary="Is trading halted?",
    dependencies=[Depends(require_viewer)],
    response_model=wire_model(RiskState),
    responses=_answers({"halts": [schemas.HALT_EXAMPLE]}),
)
async def get_risk_state(risk: Risk) -> Response:
    """The halts in force, by whom and why. Topic `risk.halt` shows each as it comes and goes."""
    return FastResponse(risk.state())


@router.post(
    "/halt",
    operation_id="halt_trading",
    summary="Halt trading",
    response_model=wire_model(Halted),
    responses=_answers(schemas.HALTED_EXAMPLE),
)
async def halt_trading(risk: Risk, caller: Trader, body: schemas.HaltBody | None = None) -> Response:
    """Refuse every new order from now on and ask the venues to cancel the active ones; the body may be left out.

    Orders answer 423 TRADING_HALTED until `POST /risk/resume`, also after a restart; cancels always pass. It holds
    though the disk is full (`persisted` is false then) and though the event thread hangs. Only scope `all` is there.
    """
    wanted = body or schemas.HaltBody()
    return FastResponse(await risk.halt(wanted.mode, cancel=wanted.cancel, reason=wanted.reason, by=caller.name))


@router.post(
    "/resume",
    operation_id="resume_trading",
    summary="Resume trading",
    response_model=wire_model(Halt),
    responses=_answers(schemas.HALT_EXAMPLE | {"active": False}, "CONFLICT", "OVERLOADED", "STORAGE_FULL"),
)
async def resume_trading(risk: Risk, caller: Trader, body: schemas.ResumeBody | None = None) -> Response:
    """Take the halt back, once that is durable; 409 where there is none."""
    return FastResponse(await risk.resume(reason=body.reason if body else "", by=caller.name))
