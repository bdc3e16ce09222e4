"""Column types that hold the same value, exactly, in SQLite, MySQL and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Dialect, Numeric, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

PRECISION, SCALE = 48, 24
"""Digits in all and after the point: any float's shortest form from 1e-7 up to 1e24 fits unrounded."""

_ROUNDED_BELOW = 1e-7
_QUANTUM = Decimal(1).scaleb(-SCALE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def exact(value: float) -> float:
    """`value` as the store keeps it: itself, but for digits beyond the 24th behind the point."""
    if value == 0 or abs(value) >= _ROUNDED_BELOW:
        return value
    return float(Decimal(repr(value)).quantize(_QUANTUM))


class Exact(TypeDecorator[float]):
    """Money and volume: a decimal of the float's shortest form, so that 0.1 is stored as 0.1.

    SQLite has no decimals: there it is the same digits as text, which is exact but does not sort.
    """

    impl = Numeric(PRECISION, SCALE)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """See SQLAlchemy."""
        return dialect.type_descriptor(String(64) if dialect.name == "sqlite" else Numeric(PRECISION, SCALE))

    def process_bind_param(self, value: float | None, dialect: Dialect) -> Any:
        """See SQLAlchemy. Texts for MySQL too, to which an unquoted 1E-8 is a binary double."""
        if value is None:
            return None
        digits = repr(exact(float(value)))
        if dialect.name == "postgresql":
            return Decimal(digits)
        return format(Decimal(digits), "f") if "e" in digits else digits

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:
        """See SQLAlchemy."""
        return None if value is None else float(value)


class Micros(TypeDecorator[datetime]):
    """A time as UTC microseconds since 1970 in a BIGINT: exact, alike everywhere, and quick to compare.

    MySQL's DATETIME has no zone and DATETIME(6) depends on the session's; SQLite has no times at all.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """See SQLAlchemy."""
        return None if value is None else micros(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """See SQLAlchemy."""
        return None if value is None else moment(value)


class Json(TypeDecorator[Any]):
    """A value as JSON text; None is NULL."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """See SQLAlchemy."""
        return dialect.type_descriptor(long_text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """See SQLAlchemy."""
        return None if value is None else msgspec.json.encode(value, order="sorted").decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """See SQLAlchemy."""
        return None if value is None else msgspec.json.decode(value)


def key_text(length: int) -> TypeEngine[str]:
    """A text that is compared and sorted byte by byte; MySQL's tables get their collation from the migration."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def long_text() -> TypeEngine[str]:
    """A text without a limit that matters; MySQL's TEXT ends at 64 KiB."""
    return Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


def micros(value: datetime) -> int:
    """A time as UTC microseconds since 1970."""
    return (value - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """UTC microseconds since 1970 as a time."""
    return _EPOCH + timedelta(microseconds=value)
