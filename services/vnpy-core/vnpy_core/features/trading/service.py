"""The rules of trading by request: what may be sent, once, to which gateway, and what a caller may see of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.commands import SubmitOrder, SubmittedOrder
from vnpy_core.domain.errors import (
    CoreError,
    FieldError,
    IdempotencyMismatch,
    NotFound,
    ValidationFailed,
)
from vnpy_core.domain.events import Account, Contract, Gateway, Order, Position, Tick, Trade
from vnpy_core.features.trading import listing
from vnpy_core.features.trading.idempotency import Answer, OrderKeys, sortable_ids
from vnpy_core.features.trading.listing import NameKey, OrderFilter, Page, SeqKey, StateFilter, TradeFilter
from vnpy_core.features.trading.orders import OrderRequest, wrong_fields
from vnpy_core.kit.logging import is_secret_key
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.engine import TradingEngine

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


class TradingService:
    """Loop thread only. Sends through the engine, reads from the view; raises `domain.errors`."""

    def __init__(
        self, engine: TradingEngine, view: ReadView, clock: Clock, *, new_id: Callable[[], str] | None = None
    ) -> None:
        self._engine = engine
        self._view = view
        self._new_id = new_id or sortable_ids(clock)
        self._keys = OrderKeys()

    # Gateways

    def gateways(self) -> list[Gateway]:
        """All gateways by name, with password-like default settings shown empty."""
        return [_without_secrets(gateway) for gateway in sorted(self._engine.gateways(), key=lambda g: g.gateway_name)]

    async def connect(self, gateway_name: str, setting: dict[str, Any]) -> None:
        """Start connecting. Raises NotFound, Conflict (connected or connecting)."""
        await self._engine.connect(gateway_name, setting)

    async def disconnect(self, gateway_name: str) -> None:
        """Close the connection. Raises NotFound, Conflict (not connected)."""
        await self._engine.disconnect(gateway_name)

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

        An order that the view knows by this id, though the id is no longer remembered (a restart, or 100,000 newer
        ones), is answered as it is now. Raises ValidationFailed, NotFound, IdempotencyMismatch, OrderDenied, TryLater.
        """
        key = client_order_id or self._new_id()
        known = None if key in self._keys else self._view.order_by_client_id(key)
        if known is None:
            return await self._keys.once(key, request, lambda: self._submit(key, request))
        if not request.describes(known):
            raise IdempotencyMismatch(f"{key!r} was used for order {known.vt_orderid}, which is another one")
        return Answer(SubmittedOrder(order=known), replayed=True)

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

    async def cancel(self, vt_orderid: str) -> None:
        """Ask the venue to cancel. Raises NotFound, Conflict (no longer active), GatewayNotConnected, Overloaded."""
        await self._engine.cancel_order(vt_orderid)

    async def cancel_all(self, wanted: OrderFilter) -> CancelAllResult:
        """Ask the venue to cancel every active order that fits; one that cannot be asked does not stop the others."""
        ids = [order.vt_orderid for order in self._view.active_orders.values() if wanted.admits(order)]
        failures = [failure for failure in await asyncio.gather(*map(self._cancel_failure, ids)) if failure]
        return CancelAllResult(cancelled=len(ids) - len(failures), failed=failures)

    async def _cancel_failure(self, vt_orderid: str) -> CancelFailure | None:
        try:
            await self._engine.cancel_order(vt_orderid)
        except CoreError as error:
            return CancelFailure(vt_orderid, error.code, error.detail)
        return None

    # Reading

    def order(self, vt_orderid: str) -> Order:
        """One order. Raises NotFound."""
        order = self._view.order(vt_orderid)
        if order is None:
            raise NotFound(f"no order {vt_orderid!r}")
        return order

    def order_by_client_id(self, client_order_id: str) -> Order:
        """The order that a caller named so. Raises NotFound."""
        order = self._view.order_by_client_id(client_order_id)
        if order is None:
            raise NotFound(f"no order with client_order_id {client_order_id!r}")
        return order

    def orders(self, wanted: OrderFilter, after: SeqKey, limit: int) -> Page[Order]:
        """A page of orders by `seq`."""
        return listing.orders(self._view, wanted, after, limit)

    def trades(self, wanted: TradeFilter, after: SeqKey, limit: int) -> Page[Trade]:
        """A page of trades by `seq`."""
        return listing.trades(self._view, wanted, after, limit)

    def positions(self, wanted: StateFilter, after: NameKey, limit: int) -> Page[Position]:
        """A page of positions by id."""
        return listing.positions(self._view, wanted, after, limit)

    def accounts(self, wanted: StateFilter, after: NameKey, limit: int) -> Page[Account]:
        """A page of accounts by id."""
        return listing.accounts(self._view, wanted, after, limit)

    def contracts(self, wanted: StateFilter, after: NameKey, limit: int) -> Page[Contract]:
        """A page of contracts by vt_symbol and gateway."""
        return listing.contracts(self._view, wanted, after, limit)

    def ticks(self, wanted: StateFilter, after: NameKey, limit: int) -> Page[Tick]:
        """A page of the last ticks by vt_symbol."""
        return listing.ticks(self._view, wanted, after, limit)

    def tick(self, vt_symbol: str) -> Tick:
        """The last tick of a contract. Raises NotFound where none came yet."""
        tick = self._view.ticks.get(vt_symbol)
        if tick is None:
            raise NotFound(f"no tick of {vt_symbol!r} came yet")
        return tick

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


def _fault(client_order_id: str, error: BaseException) -> CoreError:
    _log.error("an order of a batch failed", client_order_id=client_order_id, exc_info=error)
    return CoreError(
        "the order failed inside the service; look for it before sending again", client_order_id=client_order_id
    )


def _without_secrets(gateway: Gateway) -> Gateway:
    shown = {name: "" if _is_secret(name, value) else value for name, value in gateway.default_setting.items()}
    return msgspec.structs.replace(gateway, default_setting=shown)


def _is_secret(name: str, value: object) -> bool:
    """Brokers' files hold real ones as defaults. Lists and flags are choices to show."""
    return is_secret_key(name) and not isinstance(value, list | bool)
