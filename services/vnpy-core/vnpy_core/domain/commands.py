"""What is wanted: a command has one handler and either returns a result or raises one of `domain.errors`."""

from __future__ import annotations

import msgspec

from vnpy_core.domain.enums import Direction, Offset, OrderType
from vnpy_core.domain.events import Order


class Command(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Base of everything that is asked for."""


class SubmitOrder(Command, frozen=True, gc=False, kw_only=True):
    """Send one order. `exchange` is the exchange's name; volumes are in lots (or coins)."""

    client_order_id: str
    gateway_name: str
    symbol: str
    exchange: str
    direction: Direction
    offset: Offset
    type: OrderType
    volume: float
    price: float = 0.0
    reference: str = ""


class SubmittedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's first word on a submitted order.

    `children` has more than one order where VnPy's offset conversion split the request (close today and yesterday).
    """

    order: Order
    children: tuple[Order, ...] = ()
