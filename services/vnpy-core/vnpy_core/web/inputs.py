"""Types of what comes in: finite numbers, enums by any of VnPy's spellings, times with a zone, contracts' names."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from vnpy_core.domain.enums import Direction, Offset, OrderType, Product, Status

E = TypeVar("E", bound=StrEnum)

# VnPy's values in both of its languages (vnpy/trader/constant.py and its English catalogue).
_SPELLINGS: dict[type[StrEnum], dict[str, str]] = {
    Direction: {"多": "LONG", "空": "SHORT", "净": "NET", "Long": "LONG", "Short": "SHORT", "Net": "NET"},
    Offset: {
        "": "NONE",
        "开": "OPEN",
        "平": "CLOSE",
        "平今": "CLOSETODAY",
        "平昨": "CLOSEYESTERDAY",
        "Open": "OPEN",
        "Close": "CLOSE",
        "Close Today": "CLOSETODAY",
        "Close Yesterday": "CLOSEYESTERDAY",
    },
    OrderType: {"限价": "LIMIT", "市价": "MARKET", "询价": "RFQ", "Limit": "LIMIT", "Market": "MARKET"},
    Status: {
        "提交中": "SUBMITTING",
        "未成交": "NOTTRADED",
        "部分成交": "PARTTRADED",
        "全部成交": "ALLTRADED",
        "已撤销": "CANCELLED",
        "拒单": "REJECTED",
        "Submitting": "SUBMITTING",
        "Not Traded": "NOTTRADED",
        "Part Traded": "PARTTRADED",
        "All Traded": "ALLTRADED",
        "Cancelled": "CANCELLED",
        "Rejected": "REJECTED",
    },
    Product: {
        "股票": "EQUITY",
        "期货": "FUTURES",
        "期权": "OPTION",
        "指数": "INDEX",
        "外汇": "FOREX",
        "现货": "SPOT",
        "债券": "BOND",
        "权证": "WARRANT",
        "价差": "SPREAD",
        "基金": "FUND",
        "互换": "SWAP",
        "Stock": "EQUITY",
        "Futures": "FUTURES",
        "Option": "OPTION",
        "Index": "INDEX",
        "Forex": "FOREX",
        "Spot": "SPOT",
        "Bond": "BOND",
        "Warrant": "WARRANT",
        "Spread": "SPREAD",
        "Fund": "FUND",
        "Swap": "SWAP",
    },
}


def _by_name(kind: type[E], allowed: tuple[E, ...]) -> BeforeValidator:
    spellings = _SPELLINGS[kind]

    def parse(value: Any) -> E:
        name = spellings.get(value, value) if isinstance(value, str) else value
        if name not in [str(member) for member in allowed]:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return kind(name)

    return BeforeValidator(parse)


def _named(allowed: tuple[StrEnum, ...]) -> WithJsonSchema:
    # Only the names are documented: they are what comes back, and a schema of all spellings would read as noise.
    names = [str(member) for member in allowed]
    return WithJsonSchema({"type": "string", "enum": names, "examples": names[:2]})


_SENDABLE = (OrderType.LIMIT, OrderType.MARKET, OrderType.STOP, OrderType.FAK, OrderType.FOK)
_SIDES = (Direction.LONG, Direction.SHORT)

DirectionInput = Annotated[Direction, _by_name(Direction, _SIDES), _named(_SIDES)]
"""The side of an order: LONG or SHORT."""
AnyDirectionInput = Annotated[Direction, _by_name(Direction, tuple(Direction)), _named(tuple(Direction))]
"""The side of a position, NET among them."""
OffsetInput = Annotated[Offset, _by_name(Offset, tuple(Offset)), _named(tuple(Offset))]
OrderTypeInput = Annotated[OrderType, _by_name(OrderType, _SENDABLE), _named(_SENDABLE)]
StatusInput = Annotated[Status, _by_name(Status, tuple(Status)), _named(tuple(Status))]
ProductInput = Annotated[Product, _by_name(Product, tuple(Product)), _named(tuple(Product))]


def _finite(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("must be a number")
    if isinstance(value, int) and abs(value) > 1e300:
        raise ValueError("must be a finite number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


FiniteFloat = Annotated[float, BeforeValidator(_finite)]
"""A JSON number that is neither NaN nor infinite; texts and booleans are refused."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIX_MS = re.compile(r"-?[0-9]{1,16}")


def _moment(value: Any) -> datetime:
    """The time that `value` names, in UTC; digits alone are unix milliseconds, in a URL they come as text."""
    try:
        if isinstance(value, str):
            return _from_ms(int(value)) if _UNIX_MS.fullmatch(value) else _from_iso(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return _from_ms(value)
        if isinstance(value, datetime):
            return _to_utc(value)
    except OverflowError:
        raise ValueError("is not a time that exists") from None
    raise ValueError("must be ISO 8601 with an offset, or unix milliseconds")


def _from_ms(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def _from_iso(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be ISO 8601 with an offset (in a URL, + is %2B), or unix milliseconds") from None
    return _to_utc(moment)


def _to_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("must have an offset, such as Z or +08:00")
    return moment.astimezone(UTC)


Time = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}],
            "description": "ISO 8601 with an offset, or unix milliseconds",
            "examples": ["2026-11-21T10:00:00+08:00"],
        }
    ),
]
"""An aware time in UTC."""

VtSymbol = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x1f\x7f]{1,64}\.[A-Za-z0-9_]{1,32}$",
        description="`symbol.exchange`, split at the last dot",
        examples=["rb2505.SHFE"],
    ),
]


def split_vt_symbol(vt_symbol: str) -> tuple[str, str]:
    """Symbol and exchange; the symbol may have dots, the exchange has none. Raises ValueError where either is empty."""
    symbol, _, exchange = vt_symbol.rpartition(".")
    if not symbol or not exchange:
        raise ValueError(f"{vt_symbol!r} is not symbol.exchange")
    return symbol, exchange
