"""Types of what comes in: finite numbers, enums by any of VnPy's spellings, times with a zone."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from vnpy_core.domain.enums import Direction, Offset, OrderType, Status

E = TypeVar("E", bound=StrEnum)

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
    return WithJsonSchema({"type": "string", "enum": [str(member) for member in allowed]})


_SENDABLE = (OrderType.LIMIT, OrderType.MARKET, OrderType.STOP, OrderType.FAK, OrderType.FOK)
_SIDES = (Direction.LONG, Direction.SHORT)

DirectionInput = Annotated[Direction, _by_name(Direction, _SIDES), _named(_SIDES)]
OffsetInput = Annotated[Offset, _by_name(Offset, tuple(Offset)), _named(tuple(Offset))]
OrderTypeInput = Annotated[OrderType, _by_name(OrderType, _SENDABLE), _named(_SENDABLE)]
StatusInput = Annotated[Status, _by_name(Status, tuple(Status)), _named(tuple(Status))]


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


def _unix_ms(value: Any) -> Any:
    if isinstance(value, int | float) or (isinstance(value, str) and value.lstrip("-").isdigit()):
        try:
            return datetime.fromtimestamp(int(value) / 1000, UTC)
        except (OverflowError, OSError, ValueError):
            raise ValueError("is not a time that exists") from None
    return value


def _to_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("must have an offset, such as Z or +08:00")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is not a time that exists") from None


Time = Annotated[
    datetime,
    BeforeValidator(_unix_ms),
    AfterValidator(_to_utc),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}],
            "description": "ISO 8601 with an offset, or unix milliseconds",
            "examples": ["2026-11-21T10:00:00+08:00"],
        }
    ),
]
"""An aware time in UTC."""
