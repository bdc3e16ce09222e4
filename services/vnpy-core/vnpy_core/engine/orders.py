"""Sending and cancelling on the event thread: offsets converted, refusals given a reason."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

from vnpy.trader.constant import Direction, Exchange, Offset, OrderType
from vnpy.trader.engine import MainEngine
from vnpy.trader.object import OrderRequest

from vnpy_core.domain.commands import SubmitOrder
from vnpy_core.domain.errors import Conflict, CoreError, GatewayRefused, NotFound, OutcomeUnknown, RiskDenied, describe
from vnpy_core.engine.event_engine import EventGuard
from vnpy_core.engine.gate import IntentGate, Origin

_CLOSE_TODAY_EXCHANGES = (Exchange.SHFE.name, Exchange.INE.name)


def may_split(offset: str, exchange: str) -> bool:
    """Whether an order may be sent in two parts, because its exchange wants today's position closed by that name."""
    return offset == Offset.CLOSE.name and exchange in _CLOSE_TODAY_EXCHANGES


class OrderDesk:
    """Event thread only; `commands.CommandDoor` brings its calls there."""

    def __init__(
        self,
        main_engine: MainEngine,
        guard: EventGuard,
        gate: IntentGate,
        take_refusal: Callable[[], RiskDenied | None],
    ) -> None:
        self._main_engine = main_engine
        self._guard = guard
        self._gate = gate
        self._take_refusal = take_refusal

    def submit(self, command: SubmitOrder, origin: Origin) -> list[str]:
        """Send an order; returns the vt_orderids, several where closing was split into today's and yesterday's.

        Raises OrderDenied or TryLater when nothing was sent, and OutcomeUnknown when only a part of a split was.
        """
        request = OrderRequest(
            symbol=command.symbol,
            exchange=Exchange[command.exchange],
            direction=Direction[command.direction],
            type=OrderType[command.type],
            volume=command.volume,
            price=command.price,
            offset=Offset[command.offset],
            reference=command.reference,
        )
        sent: list[str] = []
        for part in self._convert(request, command.gateway_name):
            try:
                with self._gate.sending(origin):
                    sent.append(self._send(part, command.gateway_name))
            except CoreError as error:
                if not sent:
                    raise
                raise OutcomeUnknown(
                    f"sent {', '.join(sent)}, but the rest was refused: {error.detail}", vt_orderids=sent
                ) from error
        return sent

    def cancel(self, vt_orderid: str) -> None:
        """Ask the venue to cancel. Raises NotFound, Conflict (no longer active)."""
        order = self._main_engine.get_order(vt_orderid)
        if order is None:
            raise NotFound(f"there is no order {vt_orderid}")
        if not order.is_active():
            raise Conflict(f"order {vt_orderid} is no longer active: {order.status.name}")
        self._main_engine.cancel_order(order.create_cancel_request(), order.gateway_name)

    def _convert(self, request: OrderRequest, gateway_name: str) -> list[OrderRequest]:
        if not may_split(request.offset.name, request.exchange.name):
            return [request]
        # VnPy changes the requests it splits.
        parts: list[OrderRequest] = self._main_engine.convert_order_request(copy(request), gateway_name, False, False)
        if not parts:
            raise GatewayRefused(
                f"there is not enough of an opposite position in {request.vt_symbol} to close {request.volume:g}"
            )
        return parts

    def _send(self, request: OrderRequest, gateway_name: str) -> str:
        self._take_refusal()  # a strategy's own may still lie there
        self._gate.take_refusal()
        with self._guard.capture_logs() as lines:
            try:
                vt_orderid: str = self._main_engine.send_order(request, gateway_name)
            except CoreError:
                raise  # one of our own gateways, which says what it did
            except Exception as error:
                # It may have reached the venue before it raised.
                raise OutcomeUnknown(f"gateway {gateway_name} failed while sending: {describe(error)}") from error
        if vt_orderid:
            if vt_orderid.count(".") == 1:  # VnPy splits it there and would raise, after the order was sent
                self._main_engine.update_order_request(request, vt_orderid, gateway_name)
            return vt_orderid
        raise (
            self._take_refusal()
            or self._gate.take_refusal()
            or GatewayRefused(_reason(lines) or f"gateway {gateway_name} took no order and gave no reason")
        )


def _reason(lines: list[str]) -> str:
    """What was logged during the refused call, without MainEngine's own line about the request (its first)."""
    return "; ".join(lines[1:])
