"""`/api/v1/strategies/rollover…`: parse, authorise, delegate. Stands before the routes of one strategy."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from vnpy_core.features.strategies.rollover import Rollovers
from vnpy_core.features.strategies.rollover_plan import RolloverPlan, RolloverRequest
from vnpy_core.features.strategies.rollover_records import Rollover
from vnpy_core.ports.auth import Principal
from vnpy_core.web.auth import require_trader, require_viewer
from vnpy_core.web.inputs import FiniteFloat, VtSymbol
from vnpy_core.web.paging import Cursor, Limit, decode_cursor, encode_cursor
from vnpy_core.web.problems import responses
from vnpy_core.web.responses import FastResponse, page_model, wire_model

router = APIRouter(prefix="/api/v1/strategies", tags=["strategies"])

VIEWER = [Depends(require_viewer)]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class RolloverBody(BaseModel):
    """Which strategies shall trade another contract, and how their lots get there."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"from_vt_symbol": "rb2701.SHFE", "to_vt_symbol": "rb2705.SHFE"}]},
    )

    from_vt_symbol: VtSymbol
    to_vt_symbol: VtSymbol
    strategies: list[Name] | None = Field(
        default=None, min_length=1, max_length=1000, description="All of the old contract where it is left out"
    )
    gateway_name: Name | None = Field(default=None, description="May be left out where one gateway offers both")
    payup: int = Field(default=5, ge=0, le=1000, description="Ticks beyond the opposite best price")
    max_volume: Annotated[
        FiniteFloat, Field(gt=0, le=1e12, json_schema_extra={"exclusiveMinimum": 0, "maximum": 1e12})
    ] = Field(default=100.0, description="Lots of one order")
    timeout_s: Annotated[FiniteFloat, Field(ge=1, le=3600, json_schema_extra={"minimum": 1, "maximum": 3600})] = Field(
        default=30.0, description="After so many seconds what is left is cancelled"
    )
    ignore_unfinished: bool = Field(
        default=False,
        description="Take all of `pos` as held in the old contract, whatever an unfinished rollover moved before",
    )
    dry_run: bool = Field(default=True, description="Only answer with the plan")

    def wanted(self) -> RolloverRequest:
        """What the service is asked for."""
        return RolloverRequest(
            from_vt_symbol=self.from_vt_symbol,
            to_vt_symbol=self.to_vt_symbol,
            strategies=None if self.strategies is None else tuple(self.strategies),
            gateway_name=self.gateway_name,
            payup=self.payup,
            max_volume=self.max_volume,
            timeout_s=self.timeout_s,
            ignore_unfinished=self.ignore_unfinished,
        )


PLAN_EXAMPLE: dict[str, Any] = {
    "from_vt_symbol": "rb2701.SHFE",
    "to_vt_symbol": "rb2705.SHFE",
    "gateway_name": "PAPER",
    "strategies": [
        {
            "strategy_name": "demo",
            "pos": 2.0,
            "old": 2.0,
            "new": 0.0,
            "lacking": 0.0,
            "orders": [
                {
                    "vt_symbol": "rb2701.SHFE",
                    "direction": "SHORT",
                    "offset": "CLOSE",
                    "volume": 2.0,
                    "price": 3495.0,
                    "orders": 1,
                },
                {
                    "vt_symbol": "rb2705.SHFE",
                    "direction": "LONG",
                    "offset": "OPEN",
                    "volume": 2.0,
                    "price": 3526.0,
                    "orders": 1,
                },
            ],
        }
    ],
    "problems": [],
    "warnings": ["the account holds 3 LONG of rb2701.SHFE, these strategies 2: the rest stays there"],
}
ROLLOVER_EXAMPLE: dict[str, Any] = {
    "id": "019ad2c5f0003f0c9e7d52b14a30aa01",
    "state": "RUNNING",
    "from_vt_symbol": "rb2701.SHFE",
    "to_vt_symbol": "rb2705.SHFE",
    "gateway_name": "PAPER",
    "payup": 5,
    "max_volume": 100.0,
    "timeout_s": 30.0,
    "strategies": [
        {
            "strategy_name": "demo",
            "pos": 2.0,
            "old": 2.0,
            "new": 0.0,
            "lacking": 0.0,
            "closed": 2.0,
            "opened": 1.0,
            "moved": False,
            "auto_start": True,
            "traded_since": False,
            "forgotten": False,
            "problem": None,
        }
    ],
    "by": "trader",
    "created_at": "2026-11-21T02:00:00Z",
    "updated_at": "2026-11-21T02:00:01Z",
}


async def _service(request: Request) -> Rollovers:
    service: Rollovers = request.app.state.rollovers
    return service


Service = Annotated[Rollovers, Depends(_service)]
Trader = Annotated[Principal, Depends(require_trader)]
RolloverId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", examples=[ROLLOVER_EXAMPLE["id"]])]


def _json(description: str, example: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": example}}}


@router.post(
    "/rollover",
    operation_id="roll_strategies",
    summary="Roll strategies to another contract",
    response_model=wire_model(RolloverPlan),
    responses=responses("NOT_FOUND", "CONFLICT", "OVERLOADED", "STORAGE_FULL")
    | {200: _json("The plan", PLAN_EXAMPLE), 202: {"model": wire_model(Rollover), **_json("Begun", ROLLOVER_EXAMPLE)}},
)
async def roll_strategies(body: RolloverBody, rollovers: Service, caller: Trader) -> Response:
    """Close what strategies hold in one contract, open the same in another, and let them trade that one.

    With `dry_run`, the default, nothing is sent: 200 with the orders as they would be, `problems` that would keep it
    from beginning, and `warnings`. Else 202; `GET /strategies/rollovers/{id}` shows how far it is. 409 where there are
    problems: strategies must be stopped and have no orders, the gateway reconciled, trading not halted.

    The orders are the strategies' own: limit orders at the opposite best price and `payup` ticks, of `max_volume` lots
    at most, sent anew each 2 s. What an order closes is opened before the next one closes. After `timeout_s` the rest
    is cancelled: INCOMPLETE. Ask again then: it goes on from there. While a strategy's lots are in two contracts its
    `auto_start` is off.
    """
    if body.dry_run:
        return FastResponse(rollovers.plan(body.wanted()))
    return FastResponse(await rollovers.start(body.wanted(), by=caller.name), 202)


@router.get(
    "/rollovers",
    operation_id="list_rollovers",
    summary="List the rollovers",
    dependencies=VIEWER,
    response_model=page_model(Rollover),
    responses=responses() | {200: _json("OK", {"items": [ROLLOVER_EXAMPLE], "next_cursor": None})},
)
async def list_rollovers(rollovers: Service, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The last 100, newest first."""
    before = decode_cursor(cursor, str) if cursor else None
    found = [record for record in rollovers.rollovers() if before is None or record.id < before]
    next_cursor = encode_cursor(found[limit - 1].id) if len(found) > limit else None
    return FastResponse({"items": found[:limit], "next_cursor": next_cursor})


@router.get(
    "/rollovers/{rollover_id}",
    operation_id="get_rollover",
    summary="Get a rollover",
    dependencies=VIEWER,
    response_model=wire_model(Rollover),
    responses=responses("NOT_FOUND") | {200: _json("OK", ROLLOVER_EXAMPLE | {"state": "DONE"})},
)
async def get_rollover(rollover_id: RolloverId, rollovers: Service) -> Response:
    """How far it is: what was closed and opened of each strategy, and what keeps it.

    - INCOMPLETE: it has ended, and some strategies have lots in both contracts, or were not moved.
    - FAILED: it has ended; nothing was traded and no strategy moved.
    """
    return FastResponse(rollovers.rollover(rollover_id))
