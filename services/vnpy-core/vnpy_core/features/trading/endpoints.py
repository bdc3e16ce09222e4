"""`/api/v1/trading`: parse, authorise, delegate. What only reads is in `reading`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request, Response

from vnpy_core.domain.errors import CoreError, FieldError, OutcomeUnknown, ValidationFailed
from vnpy_core.domain.events import IntentOutcome
from vnpy_core.domain.reconciliation import Reconciliation
from vnpy_core.features.trading import reading, schemas
from vnpy_core.features.trading.idempotency import Answer
from vnpy_core.features.trading.reading import VIEWER, ClientOrderIdPath, VtOrderId, VtSymbolPath, all_of
from vnpy_core.features.trading.schemas import ClientOrderId, answers, page_of
from vnpy_core.features.trading.service import CancelAllResult, Subscription, TradingService
from vnpy_core.ports.auth import Principal
from vnpy_core.web.auth import require_admin, require_trader
from vnpy_core.web.problems import problem, problem_response, request_id, responses
from vnpy_core.web.responses import FastResponse, page_model, wire_model

writing = APIRouter(prefix="/api/v1/trading", tags=["trading"])

TRADER = [Depends(require_trader)]
Trader = Annotated[Principal, Depends(require_trader)]
Admin = Annotated[Principal, Depends(require_admin)]
REPLAY = {"Idempotent-Replay": "true"}
ORDER_CODES = (
    *("OUTCOME_UNKNOWN", "NOT_FOUND", "IDEMPOTENCY_MISMATCH", "GATEWAY_NOT_CONNECTED", "RISK_DENIED"),
    *("GATEWAY_REFUSED", "TRADING_HALTED", "RATE_LIMITED", "OVERLOADED", "STORAGE_FULL"),
)
CANCEL_CODES = ("OUTCOME_UNKNOWN", "NOT_FOUND", "CONFLICT", "GATEWAY_NOT_CONNECTED", "OVERLOADED")
ACCEPT_CODES = ("OUTCOME_UNKNOWN", "NOT_FOUND", "CONFLICT", "OVERLOADED")
DECISION_CODES = ("NOT_FOUND", "CONFLICT", "OVERLOADED", "STORAGE_FULL")
RUN_CODES = ("NOT_FOUND", "GATEWAY_NOT_CONNECTED", "OVERLOADED", "STORAGE_FULL")
SUBSCRIBE_CODES = ("OUTCOME_UNKNOWN", "NOT_FOUND", "GATEWAY_NOT_CONNECTED", "OVERLOADED")


async def _service(request: Request) -> TradingService:
    service: TradingService = request.app.state.trading
    return service


Trading = Annotated[TradingService, Depends(_service)]
GatewayName = Annotated[str, Path(pattern=schemas.NAME_PATTERN, examples=["PAPER"])]
IdempotencyKey = Annotated[
    ClientOrderId | None,
    Header(alias="Idempotency-Key", description="The same as `client_order_id`; where both are given they must agree"),
]


# Gateways


@writing.post(
    "/gateways/{gateway_name}/connect",
    operation_id="connect_gateway",
    summary="Connect a gateway",
    status_code=202,
    response_model=wire_model(schemas.GatewayAccepted),
    responses=answers(202, {"gateway_name": "PAPER"}, *ACCEPT_CODES),
)
async def connect_gateway(
    gateway_name: GatewayName, trading: Trading, caller: Admin, body: schemas.ConnectBody | None = None
) -> Response:
    """Begin to connect. `GET /gateways` and topic `gateway.updated` show how it ends; 409 where it is under way."""
    await trading.connect(gateway_name, dict(body.setting) if body else {}, by=caller.name)
    return FastResponse(schemas.GatewayAccepted(gateway_name), 202)


@writing.post(
    "/gateways/{gateway_name}/disconnect",
    operation_id="disconnect_gateway",
    summary="Disconnect a gateway",
    status_code=202,
    response_model=wire_model(schemas.GatewayAccepted),
    responses=answers(202, {"gateway_name": "PAPER"}, *ACCEPT_CODES),
)
async def disconnect_gateway(gateway_name: GatewayName, trading: Trading, caller: Admin) -> Response:
    """Close the connection; 409 where there is none. Orders at the venue stay as they are."""
    await trading.disconnect(gateway_name, by=caller.name)
    return FastResponse(schemas.GatewayAccepted(gateway_name), 202)


# Subscriptions


@writing.get(
    "/subscriptions",
    operation_id="list_subscriptions",
    summary="List the subscriptions",
    dependencies=VIEWER,
    response_model=page_model(Subscription),
    responses=answers(200, page_of(schemas.SUBSCRIPTION_EXAMPLE)),
)
async def list_subscriptions(trading: Trading) -> Response:
    """The contracts whose ticks are asked for, in the order of subscription. They outlive a restart."""
    return all_of(trading.subscriptions())


@writing.post(
    "/subscriptions",
    operation_id="create_subscription",
    summary="Subscribe to a contract's ticks",
    dependencies=TRADER,
    status_code=201,
    response_model=wire_model(Subscription),
    responses=answers(201, schemas.SUBSCRIPTION_EXAMPLE, *SUBSCRIBE_CODES),
)
async def create_subscription(body: schemas.SubscribeBody, trading: Trading) -> Response:
    """Ask a gateway for ticks, now and after each restart. Subscribing again changes nothing.

    `gateway_name` may be left out where exactly one gateway offers the contract.
    """
    return FastResponse(await trading.subscribe(body.vt_symbol, body.gateway_name), 201)


@writing.delete(
    "/subscriptions/{vt_symbol:path}",
    operation_id="delete_subscription",
    summary="Forget a subscription",
    dependencies=TRADER,
    status_code=204,
    responses=responses("NOT_FOUND"),
)
async def delete_subscription(vt_symbol: VtSymbolPath, trading: Trading) -> Response:
    """Ask no more after the next connect. VnPy's gateways cannot take a subscription back before that."""
    await trading.unsubscribe(vt_symbol)
    return Response(status_code=204)


# Orders


@writing.post(
    "/orders",
    operation_id="create_order",
    summary="Send an order",
    dependencies=TRADER,
    status_code=201,
    response_model=wire_model(schemas.PlacedOrder),
    responses=answers(201, schemas.ORDER_EXAMPLE | {"child_orders": []}, *ORDER_CODES),
)
async def create_order(
    request: Request, body: schemas.OrderBody, trading: Trading, idempotency_key: IdempotencyKey = None
) -> Response:
    """Send an order, once per `client_order_id` (or header `Idempotency-Key`), and wait for the engine's first word.

    - An order that the venue rejects is a 201 with status REJECTED and its `reason`. A 4xx or 503 sent nothing: the
      same key may be tried again.
    - 202 OUTCOME_UNKNOWN: it was sent, or may have been. Do not send it again under another key; look at
      `/orders/by-client-id/{client_order_id}`.
    - The same key with the same body gives the first answer with `Idempotent-Replay: true`, with another body 409.
      Keys are one name space for all callers. The newest 100,000 are remembered; an older one, or one from before a
      restart, is answered with its order as it is now, or 202 where nobody knows what became of it. It is not sent
      again unless it is known that nothing was sent.
    - Where closing was split into today's and yesterday's position, `child_orders` lists the parts.
    """
    answer = await trading.place(body.request(), _one_key(body.client_order_id, idempotency_key))
    headers = REPLAY if answer.replayed else None
    if isinstance(answer.outcome, OutcomeUnknown):
        return problem_response(answer.outcome, request_id(request.scope), headers)
    return FastResponse(schemas.PlacedOrder.of(answer.outcome), 201, headers)


@writing.post(
    "/orders/batch",
    operation_id="create_orders",
    summary="Send up to 500 orders",
    dependencies=TRADER,
    status_code=207,
    response_model=schemas.BatchModel,
    responses=answers(207, {"items": [{"status": 201, "order": schemas.ORDER_EXAMPLE | {"child_orders": []}}]}),
)
async def create_orders(request: Request, body: schemas.BatchBody, trading: Trading) -> Response:
    """Send orders one after another in this order, each on its own: one that fails does not stop the others.

    Each item of the answer has the status that `POST /orders` would have had, and the `order` or the `problem`. To be
    safe against sending twice, give each order its `client_order_id`; the header Idempotency-Key is refused here.
    """
    if "idempotency-key" in request.headers:
        message = "a batch takes a client_order_id for each order instead"
        raise ValidationFailed(message, errors=[FieldError("Idempotency-Key", message)])
    answers = await trading.place_all([(order.request(), order.client_order_id) for order in body.orders])
    return FastResponse({"items": [_batch_item(answer, request_id(request.scope)) for answer in answers]}, 207)


@writing.post(
    "/orders/cancel-all",
    operation_id="cancel_all_orders",
    summary="Cancel all orders that fit",
    status_code=202,
    response_model=wire_model(CancelAllResult),
    responses=answers(202, {"cancelled": 3, "failed": []}),
)
async def cancel_all_orders(trading: Trading, caller: Trader, body: schemas.CancelAllBody | None = None) -> Response:
    """Ask the venues to cancel every active order, or those of a contract, gateway and strategy.

    `cancelled` counts the orders that were asked for; `failed` names those that could not be (a gateway that is not
    connected, an order that was filled meanwhile). The outcome follows on topic `order.updated`.
    """
    wanted = (body or schemas.CancelAllBody()).wanted()
    return FastResponse(await trading.cancel_all(wanted, by=caller.name), 202)


@writing.delete(
    "/orders/{vt_orderid}",
    operation_id="delete_order",
    summary="Cancel an order",
    dependencies=TRADER,
    status_code=202,
    response_model=wire_model(schemas.CancelAccepted),
    responses=answers(202, {"vt_orderid": "PAPER.260101-1"}, *CANCEL_CODES),
)
async def delete_order(vt_orderid: VtOrderId, trading: Trading) -> Response:
    """Ask the venue to cancel; the outcome follows on topic `order.updated`. 409 where it is no longer active."""
    return await _cancel(vt_orderid, trading)


@writing.post(
    "/orders/{vt_orderid}/cancel",
    operation_id="cancel_order",
    summary="Cancel an order",
    dependencies=TRADER,
    status_code=202,
    response_model=wire_model(schemas.CancelAccepted),
    responses=answers(202, {"vt_orderid": "PAPER.260101-1"}, *CANCEL_CODES),
)
async def cancel_order(vt_orderid: VtOrderId, trading: Trading) -> Response:
    """The same as `DELETE /orders/{vt_orderid}`."""
    return await _cancel(vt_orderid, trading)


# Reconciliation: do our books and the venue agree?


@writing.get(
    "/reconciliation",
    operation_id="list_reconciliations",
    summary="List what differs between venues and books",
    dependencies=VIEWER,
    response_model=page_model(Reconciliation),
    responses=answers(200, page_of(schemas.RECONCILIATION_EXAMPLE)),
)
async def list_reconciliations(trading: Trading) -> Response:
    """The last comparison of each gateway: every difference, how it was resolved and on what evidence.

    Orders pass a gateway in RECONCILED and ACCEPTED. In DIFFERENT an admin has to resolve the unknown intents, or
    accept what differs; before that `POST /orders` answers 409 GATEWAY_NOT_CONNECTED with a member `reconciliation`.
    """
    return all_of(trading.reconciliations())


@writing.post(
    "/reconciliation/run",
    operation_id="run_reconciliation",
    summary="Compare a venue with the books again",
    status_code=202,
    response_model=wire_model(schemas.ReconciliationStarted),
    responses=answers(202, {"gateway_name": "PAPER"}, *RUN_CODES),
)
async def run_reconciliation(trading: Trading, caller: Admin, body: schemas.RunBody | None = None) -> Response:
    """Begin to compare one gateway, or every connected one. No order passes it until it is reconciled again."""
    gateway_name = body.gateway_name if body else None
    await trading.reconcile(gateway_name, by=caller.name)
    return FastResponse(schemas.ReconciliationStarted(gateway_name), 202)


@writing.post(
    "/reconciliation/accept",
    operation_id="accept_differences",
    summary="Trade through a gateway although it differs",
    response_model=wire_model(Reconciliation),
    responses=answers(200, schemas.RECONCILIATION_EXAMPLE | {"state": "ACCEPTED"}, *DECISION_CODES),
)
async def accept_differences(trading: Trading, caller: Admin, body: schemas.AcceptBody) -> Response:
    """The venue's positions become where our books begin. Who accepted it and why is put on record.

    409 where there is nothing to accept.
    """
    return FastResponse(await trading.accept_differences(body.gateway_name, reason=body.reason, by=caller.name))


@writing.post(
    "/reconciliation/{client_order_id:path}/resolve",
    operation_id="resolve_intent",
    summary="Say what became of an order that nobody knows about",
    response_model=wire_model(IntentOutcome),
    responses=answers(200, schemas.OUTCOME_EXAMPLE, *DECISION_CODES),
)
async def resolve_intent(
    client_order_id: ClientOrderIdPath, trading: Trading, caller: Admin, body: schemas.ResolveBody
) -> Response:
    """An unknown intent is BOUND to the venue's order `vt_orderid`, or was NOT_SENT: then its key may be tried again.

    Who decided it and the evidence are put on record. 409 where its outcome is known already.
    """
    outcome = await trading.resolve_intent(
        client_order_id, body.state, vt_orderid=body.vt_orderid or "", evidence=body.evidence, by=caller.name
    )
    return FastResponse(outcome)


def _one_key(client_order_id: str | None, idempotency_key: str | None) -> str | None:
    if client_order_id and idempotency_key and client_order_id != idempotency_key:
        message = "Idempotency-Key and client_order_id differ; give one of them"
        raise ValidationFailed(message, errors=[FieldError("client_order_id", message)])
    return client_order_id or idempotency_key


async def _cancel(vt_orderid: str, trading: TradingService) -> Response:
    await trading.cancel(vt_orderid)
    return FastResponse(schemas.CancelAccepted(vt_orderid), 202)


def _batch_item(answer: Answer | CoreError, request: str) -> schemas.BatchItem:
    outcome = answer.outcome if isinstance(answer, Answer) else answer
    if isinstance(outcome, CoreError):
        wrong = problem(outcome, request)
        return schemas.BatchItem(status=wrong["status"], problem=wrong)
    return schemas.BatchItem(status=201, order=schemas.PlacedOrder.of(outcome))


router = APIRouter()
"""All of it, as a core has it."""
router.include_router(reading.router)
router.include_router(writing)
