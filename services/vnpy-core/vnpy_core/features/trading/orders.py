"""An order as a caller asks for it, and what must hold of it before the engine sees it."""

from __future__ import annotations

import decimal
import math
from decimal import Decimal

import msgspec

from vnpy_core.domain.enums import Direction, Offset, OrderType, Product
from vnpy_core.domain.errors import FieldError
from vnpy_core.domain.events import Contract, Order, OrderIntent
from vnpy_core.domain.symbols import vt_symbol

ABSURD = 1e12
"""No price or volume of any market comes near it: beyond it lies a unit error, not an order."""
SENDABLE_TYPES = frozenset({OrderType.LIMIT, OrderType.MARKET, OrderType.STOP, OrderType.FAK, OrderType.FOK})
_PARTS = frozenset({Offset.CLOSE, Offset.CLOSETODAY, Offset.CLOSEYESTERDAY})
_EXACT = decimal.Context(prec=700)
"""Enough digits for the remainder of any two doubles, so that no remainder is ever inexact or impossible."""


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller wants sent. `volume` is in lots (or coins), `price` in quote currency; `exchange` is its name."""

    symbol: str
    exchange: str
    direction: Direction
    volume: float
    offset: Offset = Offset.NONE
    type: OrderType = OrderType.LIMIT
    price: float = 0.0
    gateway_name: str | None = None
    reference: str = ""

    @property
    def vt_symbol(self) -> str:
        """VnPy's name of the contract."""
        return vt_symbol(self.symbol, self.exchange)

    def describes(self, order: Order | OrderIntent) -> bool:
        """Whether `order` is what this request would have made, or a part of it where closing is split."""
        return (
            order.vt_symbol == self.vt_symbol
            and order.direction == self.direction
            and (self._is_whole(order) or self.may_contain(order))
            and order.type == self.type
            and order.price == self.price
            and order.reference == self.reference
            and self.gateway_name in (None, order.gateway_name)
        )

    def may_contain(self, order: Order | OrderIntent) -> bool:
        """Whether `order` may be one of the parts, today's or yesterday's, into which closing is split."""
        return self.offset is Offset.CLOSE and order.offset in _PARTS and order.volume <= self.volume

    def _is_whole(self, order: Order | OrderIntent) -> bool:
        return order.offset == self.offset and order.volume == self.volume


def wrong_fields(request: OrderRequest, contract: Contract) -> list[FieldError]:
    """Everything that is wrong with `request` as an order for `contract`; empty where nothing is. Any thread."""
    return [
        *_wrong_words(request),
        *_wrong_number("price", _wrong_price(request, contract)),
        *_wrong_number("volume", _wrong_volume(request.volume, contract)),
    ]


def _wrong_words(request: OrderRequest) -> list[FieldError]:
    wrong = []
    if request.direction is Direction.NET:
        wrong.append(FieldError("direction", "must be LONG or SHORT"))
    if request.type not in SENDABLE_TYPES:
        wrong.append(FieldError("type", f"must be one of {', '.join(sorted(SENDABLE_TYPES))}"))
    return wrong


def _wrong_number(field: str, message: str | None) -> list[FieldError]:
    return [FieldError(field, message)] if message else []


def _wrong_price(request: OrderRequest, contract: Contract) -> str | None:
    price = request.price
    if not math.isfinite(price) or abs(price) > ABSURD:
        return f"must be finite and at most {ABSURD:.0e}"
    if request.type is OrderType.MARKET:
        return None
    if price <= 0 and contract.product is not Product.SPREAD:
        return f"must be above 0 for a {request.type} order"
    return _off_step(price, contract.pricetick, "pricetick")


def _wrong_volume(volume: float, contract: Contract) -> str | None:
    if not math.isfinite(volume) or volume > ABSURD:
        return f"must be finite and at most {ABSURD:.0e}"
    if volume <= 0:
        return "must be above 0"
    if volume < contract.min_volume:
        return f"must be at least min_volume {contract.min_volume!r}"
    if contract.max_volume and volume > contract.max_volume:
        return f"must be at most max_volume {contract.max_volume!r}"
    return _off_step(volume, contract.min_volume, "min_volume")


def _off_step(value: float, step: float, name: str) -> str | None:
    """Why `value` is no multiple of `step`. Both count as the decimals they print as: 0.3 is a multiple of 0.1."""
    if step <= 0 or not math.isfinite(step):
        return None
    exact, unit = Decimal(repr(value)), Decimal(repr(step))
    if not _EXACT.remainder(exact, unit):
        return None
    nearest = _EXACT.multiply(_EXACT.divide(exact, unit).to_integral_value(decimal.ROUND_HALF_EVEN, _EXACT), unit)
    return f"must be a multiple of {name} {step!r}; {float(nearest)!r} is the nearest"
