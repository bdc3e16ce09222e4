"""The rules of trading by request: what may be sent, once, to which gateway, and what a caller may see of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.commands import SubmitOrder, SubmittedOrder
from vnpy_core.domain.enums import IntentState
from vnpy_core.domain.errors import (
    CoreError,
    FieldError,
    IdempotencyMismatch,
    NotFound,
    OutcomeUnknown,
    StoreUnavailable,
    ValidationFailed,
)
from vnpy_core.domain.events import Contract, IntentOutcome, Order
from vnpy_core.domain.reconciliation import Reconciliation
from vnpy_core.features.trading import listing
from vnpy_core.features.trading.idempotency import Answer, OrderKeys, Outcome, sortable_ids
from vnpy_core.features.trading.orders import OrderRequest, wrong_fields
from vnpy_core.features.trading.reader import TradingReader
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.engine import TradingEngine
from vnpy_core.ports.store import OrderQuery, Store
from vnpy_core.web.audit import AuditTrail

_NOTHING_SENT = frozenset({IntentState.DENIED, IntentState.REFUSED, IntentState.NOT_SENT})

_log = structlog.get_logger(__name__)


class Subscription(msgspec.Struct, frozen=True):
    """A contract whose ticks were asked for, and the gateway they come from."""

    vt_symbol: str
    gateway_name: str


class CancelFailure(msgspec.Struct, frozen=True):
    """An active order that could not be asked to cancel, and why (a code and detail of `domain.errors`)."""

    vt_orderid: str
    code: str
    detail: str


class CancelAllResult(msgspec.Struct, frozen=True):
    """How many orders were asked to cancel, and which could not be."""

    cancelled: int
    failed: list[CancelFailure]


class TradingService(TradingReader):
    """Loop thread only. Sends through the engine, reads from the view and the store; raises `domain.errors`.

    `by` is the name of who asks: gateways, cancels of many orders and reconciliation are put on record with it.
    """

    def __init__(
        self,
        engine: TradingEngine,
        view: ReadView,
        clock: Clock,
        *,
        store: Store | None = None,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        """Without a `store` there is no history older than what the view holds."""
        super().__init__(view, gateways=engine.gateways, store=store)
        self._engine = engine
        self._audit = AuditTrail(engine, clock)
        self._new_id = new_id or sortable_ids(clock)
        self._keys = OrderKeys()

    # Gateways

    async def connect(self, gateway_name: str, setting: dict[str, Any], *, by: str) -> None:
        """Start connecting. Raises NotFound, Conflict (connected or connecting)."""
        await self._engine.connect(gateway_name, setting)
        await self._audit.note(by, "gateway.connect", gateway_name)

    async def disconnect(self, gateway_name: str, *, by: str) -> None:
        """Close the connection. Raises NotFound, Conflict (not connected)."""
        await self._engine.disconnect(gateway_name)
        await self._audit.note(by, "gateway.disconnect", gateway_name)

    # Subscriptions

    def subscriptions(self) -> list[Subscription]:
        """What was subscribed, in that order."""
        return [Subscription(*pair) for pair in self._engine.subscriptions()]

    async def subscribe(self, vt_symbol: str, gateway_name: str | None) -> Subscription:
        """Ask for a contract's ticks. Raises NotFound, ValidationFailed (which gateway?), GatewayNotConnected."""
        contract = self._contract(vt_symbol, gateway_name)
        await self._engine.subscribe(vt_symbol, contract.gateway_name)
        return Subscription(vt_symbol, contract.gateway_name)

    async def unsubscribe(self, vt_symbol: str) -> None:
        """Forget a subscription. Raises NotFound."""
        await self._engine.unsubscribe(vt_symbol)

    # Orders

    async def place(self, request: OrderRequest, client_order_id: str | None = None) -> Answer:
        """Send an order, once per `client_order_id`; without one it gets a new one.

        A key that is no longer remembered (a restart, or 100,000 newer ones) is looked for among the orders and the
        intents: what was sent, or may have been, is answered as it is now. Raises ValidationFailed, NotFound,
        IdempotencyMismatch, OrderDenied, TryLater.
        """
        key = client_order_id or self._new_id()
        if client_order_id is not None:
            if self._keys.is_unknown(key) and self._was_not_sent(key):
                self._keys.free(key)
            if key not in self._keys and (answer := await self._recall(key, request)):
                return answer
        return await self._keys.once(key, request, lambda: self._submit(key, request))

    async def place_all(self, orders: list[tuple[OrderRequest, str | None]]) -> list[Answer | CoreError]:
        """Send orders in this order and wait for all together: each one's answer or error, whatever the others' is."""
        keyed = [(request, client_order_id or self._new_id()) for request, client_order_id in orders]
        placed = await asyncio.gather(*(self.place(request, key) for request, key in keyed), return_exceptions=True)
        return [
            answer if isinstance(answer, Answer | CoreError) else _fault(key, answer)
            for (_, key), answer in zip(keyed, placed, strict=True)
        ]

    async def _submit(self, client_order_id: str, request: OrderRequest) -> SubmittedOrder:
        contract = self._contract(request.vt_symbol, request.gateway_name)
        if wrong := wrong_fields(request, contract):
            raise ValidationFailed("the order has wrong fields", errors=wrong)
        return await self._engine.submit_order(
            SubmitOrder(
                client_order_id=client_order_id,
                gateway_name=contract.gateway_name,
                symbol=contract.symbol,
                exchange=contract.exchange,
                direction=request.direction,
                offset=request.offset,
                type=request.type,
                volume=request.volume,
                price=request.price,
                reference=request.reference,
            )
        )

    def _was_not_sent(self, client_order_id: str) -> bool:
        known = self._engine.intent(client_order_id)
        return known is not None and _sent_nothing(known[1])

    async def _recall(self, key: str, request: OrderRequest) -> Answer | None:
        """How an earlier request with this key ended; None where nothing was sent. Does not wait in that case."""
        known, order = self._engine.intent(key), self._view.order_by_client_id(key)
        meant = known[0] if known else order
        if meant is None or (order is None and known and _sent_nothing(known[1])):
            return None
        if not request.describes(meant):
            raise IdempotencyMismatch(f"{key!r} was used for another order request")
        outcome = known[1] if known else None
        if order is None and outcome is not None and outcome.state is IntentState.BOUND:
            return Answer(await self._bound(key, request, outcome), replayed=True)
        if order is None:
            return Answer(_unknown(key, "it was meant to be sent; nothing says yet what became of it"), replayed=True)
        return Answer(self._submitted(order, request), replayed=True)

    async def _bound(self, key: str, request: OrderRequest, outcome: IntentOutcome) -> Outcome:
        """The order that an intent became, wherever it is found."""
        order = self._view.order(outcome.vt_orderid)
        if order is None or order.client_order_id not in (None, key) or not request.describes(order):
            try:
                order = await self._history.order_by_client_id(key)
            except StoreUnavailable:
                order = None
        if order is None:
            detail = f"it was sent as {outcome.vt_orderid}; its state cannot be read now"
            return _unknown(key, detail, vt_orderid=outcome.vt_orderid)
        return self._submitted(order, request)

    def _submitted(self, order: Order, request: OrderRequest) -> SubmittedOrder:
        """An order with the other parts of its request, which the gate numbers from 2 on, where closing was split."""
        parts, key = [order], order.client_order_id
        if order.volume < request.volume and request.may_contain(order):
            while part := self._view.order_by_client_id(f"{key}.{len(parts) + 1}"):
                parts.append(part)
        return SubmittedOrder(order=order, children=tuple(parts) if len(parts) > 1 else ())

    async def cancel(self, vt_orderid: str) -> None:
        """Ask the venue to cancel. Raises NotFound, Conflict (no longer active), GatewayNotConnected, Overloaded."""
        await self._engine.cancel_order(vt_orderid)

    async def cancel_all(self, wanted: OrderQuery, *, by: str) -> CancelAllResult:
        """Ask the venue to cancel every active order that fits; one that cannot be asked does not stop the others."""
        ids = [o.vt_orderid for o in self._view.active_orders.values() if listing.admits_order(wanted, o)]
        failures = [failure for failure in await asyncio.gather(*map(self._cancel_failure, ids)) if failure]
        result = CancelAllResult(cancelled=len(ids) - len(failures), failed=failures)
        target = " ".join(filter(None, (wanted.gateway_name, wanted.vt_symbol, wanted.strategy_name))) or "all"
        after = {"cancelled": result.cancelled, "failed": [failure.vt_orderid for failure in failures]}
        await self._audit.note(by, "orders.cancel_all", target, after=after)
        return result

    async def _cancel_failure(self, vt_orderid: str) -> CancelFailure | None:
        try:
            await self._engine.cancel_order(vt_orderid)
        except CoreError as error:
            return CancelFailure(vt_orderid, error.code, error.detail)
        return None

    # Reconciliation

    def reconciliations(self) -> list[Reconciliation]:
        """The last comparison of each gateway, by name."""
        return self._engine.reconciliations()

    async def reconcile(self, gateway_name: str | None, *, by: str) -> None:
        """Begin to compare one gateway, or every connected one, again. Raises NotFound, GatewayNotConnected."""
        await self._engine.reconcile(gateway_name)
        await self._audit.require(by, "reconciliation.run", gateway_name or "all")

    async def accept_differences(self, gateway_name: str, *, reason: str, by: str) -> Reconciliation:
        """Trade through a gateway although it differs. Raises NotFound, Conflict, StorageFull, JournalFailed."""
        found = [report for report in self._engine.reconciliations() if report.gateway_name == gateway_name]
        accepted = await self._engine.accept_differences(gateway_name, reason=reason, by=by)
        await self._audit.require(
            by,
            "reconciliation.accept",
            gateway_name,
            before=_open_differences(found[0]) if found else None,
            after={"state": accepted.state},
            reason=reason,
        )
        return accepted

    async def resolve_intent(
        self, client_order_id: str, state: IntentState, *, vt_orderid: str, evidence: str, by: str
    ) -> IntentOutcome:
        """Say what became of an UNKNOWN intent.

        Raises NotFound, Conflict (it is known already), ValidationFailed, StorageFull, JournalFailed.
        """
        outcome = await self._engine.resolve_intent(
            client_order_id, state, vt_orderid=vt_orderid, evidence=evidence, by=by
        )
        await self._audit.require(
            by,
            "intent.resolve",
            client_order_id,
            before={"state": IntentState.UNKNOWN},
            after={"state": state, "vt_orderid": vt_orderid},
            reason=evidence,
        )
        return outcome

    # Which contract, at which gateway

    def _contract(self, vt_symbol: str, gateway_name: str | None) -> Contract:
        if gateway_name is not None and all(g.gateway_name != gateway_name for g in self._engine.gateways()):
            raise NotFound(f"no gateway {gateway_name!r}")
        offers = self._view.contracts.get(vt_symbol, {})
        if not offers:
            raise NotFound(f"no gateway offers a contract {vt_symbol!r}")
        if gateway_name is None:
            return _only(vt_symbol, offers)
        if gateway_name not in offers:
            raise NotFound(f"gateway {gateway_name!r} offers no contract {vt_symbol!r}")
        return offers[gateway_name]


def _only(vt_symbol: str, offers: dict[str, Contract]) -> Contract:
    if len(offers) > 1:
        message = f"must be given: {', '.join(sorted(offers))} offer {vt_symbol}"
        raise ValidationFailed(message, errors=[FieldError("gateway_name", message)])
    return next(iter(offers.values()))


def _open_differences(report: Reconciliation) -> dict[str, Any]:
    waiting = [difference for difference in report.differences if not difference.resolved]
    return {"state": report.state, "differences": msgspec.to_builtins(waiting)}


def _sent_nothing(outcome: IntentOutcome | None) -> bool:
    return outcome is not None and outcome.state in _NOTHING_SENT


def _unknown(client_order_id: str, detail: str, **extra: Any) -> OutcomeUnknown:
    return OutcomeUnknown(detail, client_order_id=client_order_id, **extra)


def _fault(client_order_id: str, error: BaseException) -> CoreError:
    _log.error("an order of a batch failed", client_order_id=client_order_id, exc_info=error)
    return CoreError(
        "the order failed inside the service; look for it before sending again", client_order_id=client_order_id
    )
