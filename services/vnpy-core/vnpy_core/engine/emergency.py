"""Cancelling without VnPy's event thread, for when that one hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import structlog
from vnpy.trader.constant import Exchange
from vnpy.trader.object import CancelRequest

from vnpy_core.domain.errors import describe
from vnpy_core.domain.events import Order
from vnpy_core.kit.tasks import in_own_thread

PATIENCE_S = 5.0

_log = structlog.get_logger(__name__)


async def cancel_at_gateways(
    gateways: Mapping[str, Any], orders: Iterable[Order], *, patience_s: float = PATIENCE_S
) -> int:
    """Ask each order's gateway to cancel it, from a thread for each gateway; returns how many were asked for in time.

    Not the engine but the gateway is called, past everything that a hung callback may hold. `orders` are the active
    ones of the read view; one of a gateway that is not there is logged. The outcomes follow as order events, which the
    event thread handles once it answers again. Loop thread; takes `patience_s` at most.
    """
    by_gateway: dict[str, list[Order]] = {}
    for order in orders:
        by_gateway.setdefault(order.gateway_name, []).append(order)
    asked = await asyncio.gather(
        *(_cancel_in_thread(gateways.get(name), name, mine, patience_s) for name, mine in by_gateway.items())
    )
    return sum(asked)


async def _cancel_in_thread(gateway: Any, name: str, orders: list[Order], patience_s: float) -> int:
    if gateway is None:
        _log.error("orders of a gateway that is not there cannot be cancelled", gateway_name=name, count=len(orders))
        return 0
    done: list[str] = []
    try:
        await asyncio.wait_for(in_own_thread(partial(_cancel, gateway, orders, done)), patience_s)
    except TimeoutError:
        _log.error("a gateway hangs in cancel_order", gateway_name=name, asked=len(done), of=len(orders))
    return len(done)


def _cancel(gateway: Any, orders: list[Order], done: list[str]) -> None:
    for order in orders:
        request = CancelRequest(orderid=order.orderid, symbol=order.symbol, exchange=Exchange[order.exchange])
        try:
            gateway.cancel_order(request)
        except Exception as error:  # noqa: BLE001 - a guarded door: one that cannot be cancelled must not keep others in
            _log.error("an order could not be cancelled", vt_orderid=order.vt_orderid, detail=describe(error))
        else:
            done.append(order.vt_orderid)
