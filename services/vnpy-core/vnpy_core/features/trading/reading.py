"""The reading half of `/api/v1/trading`, which a core and its edges answer alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from vnpy_core.domain.events import Account, Contract, Gateway, Order, Position, Tick, Trade
from vnpy_core.features.trading import schemas
from vnpy_core.features.trading.listing import NameKey, Page
from vnpy_core.features.trading.reader import TradingReader
from vnpy_core.features.trading.schemas import answers, page_of
from vnpy_core.ports.store import SeqKey
from vnpy_core.web.auth import require_viewer
from vnpy_core.web.paging import decode_cursor, encode_cursor
from vnpy_core.web.responses import FastResponse, page_model, wire_model

router = APIRouter(prefix="/api/v1/trading", tags=["trading"])

VIEWER = [Depends(require_viewer)]
INCOMPLETE = {"X-Incomplete": "history"}
INCOMPLETE_HEADER: dict[str, Any] = {
    "X-Incomplete": {
        "description": "`history`: the database could not be asked or is behind, or this is an edge, which holds the "
        "newest items only; so past items may be missing: ask for this page again later, or ask the core",
        "schema": {"type": "string", "enum": ["history"]},
    }
}


async def _reader(request: Request) -> TradingReader:
    reader: TradingReader = request.app.state.trading
    return reader


Reader = Annotated[TradingReader, Depends(_reader)]
VtSymbolPath = Annotated[str, Path(pattern=schemas.VT_SYMBOL_PATTERN, examples=["rb2505.SHFE"])]
VtOrderId = Annotated[str, Path(pattern=schemas.NAME_PATTERN, examples=["PAPER.260101-1"])]
ClientOrderIdPath = Annotated[str, Path(pattern=schemas.CLIENT_ORDER_ID_PATTERN, examples=["my-order-1"])]


@router.get(
    "/gateways",
    operation_id="list_gateways",
    summary="List the gateways",
    dependencies=VIEWER,
    response_model=page_model(Gateway),
    responses=answers(200, page_of(schemas.GATEWAY_EXAMPLE)),
)
async def list_gateways(trading: Reader) -> Response:
    """All gateways with the state of their connection. Passwords and keys in `default_setting` are shown empty."""
    return all_of(trading.gateways())


@router.get(
    "/orders",
    operation_id="list_orders",
    summary="List orders",
    dependencies=VIEWER,
    response_model=page_model(Order),
    responses=answers(200, page_of(schemas.ORDER_EXAMPLE), headers=INCOMPLETE_HEADER),
)
async def list_orders(query: Annotated[schemas.OrdersQuery, Query()], trading: Reader) -> Response:
    """Orders by `seq`, the order of their last changes: one that changes while you page is shown again, none is missed.

    Those of past days come from the database. `start` counts in and `end` does not; an order that has no venue time
    yet counts by `updated_at`.
    """
    return _page(await trading.orders(query.wanted(), _after_seq(query), query.limit))


@router.get(
    "/orders/by-client-id/{client_order_id:path}",
    operation_id="get_order_by_client_id",
    summary="Get an order by its client_order_id",
    dependencies=VIEWER,
    response_model=wire_model(Order),
    responses=answers(200, schemas.ORDER_EXAMPLE, "NOT_FOUND", "OVERLOADED"),
)
async def get_order_by_client_id(client_order_id: ClientOrderIdPath, trading: Reader) -> Response:
    """The order as it is now. 404 says that no such order is known, which after a 202 may change.

    503 where only the database could know it and does not answer.
    """
    return FastResponse(await trading.order_by_client_id(client_order_id))


@router.get(
    "/orders/{vt_orderid}",
    operation_id="get_order",
    summary="Get an order",
    dependencies=VIEWER,
    response_model=wire_model(Order),
    responses=answers(200, schemas.ORDER_EXAMPLE, "NOT_FOUND", "OVERLOADED"),
)
async def get_order(vt_orderid: VtOrderId, trading: Reader) -> Response:
    """The order as it is now; the newest one where the venue has used the id again.

    503 where only the database could know it and does not answer.
    """
    return FastResponse(await trading.order(vt_orderid))


@router.get(
    "/trades",
    operation_id="list_trades",
    summary="List trades",
    dependencies=VIEWER,
    response_model=page_model(Trade),
    responses=answers(200, page_of(schemas.TRADE_EXAMPLE), headers=INCOMPLETE_HEADER),
)
async def list_trades(query: Annotated[schemas.TradesQuery, Query()], trading: Reader) -> Response:
    """Fills by `seq`; those of past days come from the database. `start` counts in and `end` does not."""
    return _page(await trading.trades(query.wanted(), _after_seq(query), query.limit))


@router.get(
    "/positions",
    operation_id="list_positions",
    summary="List positions",
    dependencies=VIEWER,
    response_model=page_model(Position),
    responses=answers(200, page_of(schemas.POSITION_EXAMPLE)),
)
async def list_positions(query: Annotated[schemas.PositionsQuery, Query()], trading: Reader) -> Response:
    """Positions by `vt_positionid`."""
    return _page(trading.positions(query.wanted(), _after_name(query), query.limit))


@router.get(
    "/accounts",
    operation_id="list_accounts",
    summary="List accounts",
    dependencies=VIEWER,
    response_model=page_model(Account),
    responses=answers(200, page_of(schemas.ACCOUNT_EXAMPLE)),
)
async def list_accounts(query: Annotated[schemas.AccountsQuery, Query()], trading: Reader) -> Response:
    """Accounts by `vt_accountid`."""
    return _page(trading.accounts(query.wanted(), _after_name(query), query.limit))


@router.get(
    "/contracts",
    operation_id="list_contracts",
    summary="List contracts",
    dependencies=VIEWER,
    response_model=page_model(Contract),
    responses=answers(200, page_of(schemas.CONTRACT_EXAMPLE)),
)
async def list_contracts(query: Annotated[schemas.ContractsQuery, Query()], trading: Reader) -> Response:
    """What can be traded, by `vt_symbol`; a contract that several gateways offer is listed once for each."""
    return _page(trading.contracts(query.wanted(), _after_name(query), query.limit))


@router.get(
    "/ticks",
    operation_id="list_ticks",
    summary="List the last ticks",
    dependencies=VIEWER,
    response_model=page_model(Tick),
    responses=answers(200, page_of(schemas.TICK_EXAMPLE)),
)
async def list_ticks(query: Annotated[schemas.TicksQuery, Query()], trading: Reader) -> Response:
    """The last tick of each subscribed contract, by `vt_symbol`."""
    return _page(trading.ticks(query.wanted(), _after_name(query), query.limit))


@router.get(
    "/ticks/{vt_symbol:path}",
    operation_id="get_tick",
    summary="Get the last tick",
    dependencies=VIEWER,
    response_model=wire_model(Tick),
    responses=answers(200, schemas.TICK_EXAMPLE, "NOT_FOUND"),
)
async def get_tick(vt_symbol: VtSymbolPath, trading: Reader) -> Response:
    """The last tick of a contract. 404 where none came yet: is it subscribed?"""
    return FastResponse(trading.tick(vt_symbol))


def _after_seq(query: schemas.SeqQuery) -> SeqKey:
    cursor: SeqKey = decode_cursor(query.cursor, tuple[int, str]) if query.cursor else (0, "")
    return max(cursor, query.first())


def _after_name(query: schemas.PageQuery) -> NameKey:
    return decode_cursor(query.cursor, tuple[str, str]) if query.cursor else ("", "")


def _page(page: Page[Any]) -> Response:
    cursor = None if page.next_key is None else encode_cursor(page.next_key)
    headers = INCOMPLETE if page.incomplete else None
    return FastResponse({"items": page.items, "next_cursor": cursor}, headers=headers)


def all_of(items: Sequence[object]) -> Response:
    """A list that is never cut into pages."""
    return FastResponse({"items": items, "next_cursor": None})
