"""Times as people write them: a date, or a date with a time of day."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from vnpy_core.domain.errors import FieldError, ValidationFailed
from vnpy_core.domain.history import FIRST_NS, LAST_NS, NS, to_ns
from vnpy_core.domain.sessions import SHANGHAI

DAY_NS = 86_400 * NS
"""Of every day there is here: neither Shanghai (since 1991) nor UTC has summer time."""


def time_zone(name: str) -> ZoneInfo:
    """Raises ValidationFailed for a name that is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise _wrong("timezone", f"there is no time zone {name!r}") from error


def range_ns(start: str, end: str, exchange: str, zone: ZoneInfo = SHANGHAI) -> tuple[int, int]:
    """`start <= ts < end` in nanoseconds, of texts that may be empty: without bound.

    A date is the calendar day of the exchange (Asia/Shanghai; GLOBAL: UTC), as an end it is included whole. A time
    without offset is in `zone`, as an end it is not included. Raises ValidationFailed.
    """
    first = _ns("start", start, exchange, zone) if start else FIRST_NS
    last = _ns("end", end, exchange, zone) if end else LAST_NS
    if first >= last:
        raise _wrong("end", f"end {end} is not after start {start}")
    return first, last


def _ns(name: str, text: str, exchange: str, zone: ZoneInfo) -> int:
    with suppress(ValueError):
        day = date.fromisoformat(text)
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC if exchange == "GLOBAL" else SHANGHAI)
        return _kept(to_ns(midnight) + (DAY_NS if name == "end" else 0))
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        return _kept(to_ns(moment if moment.tzinfo else moment.replace(tzinfo=zone)))
    raise _wrong(name, f"{name} is a date as 2026-11-20 or a time as 2026-11-20T21:00, not {text!r}")


def _kept(ns: int) -> int:
    """Within what a store can ask for."""
    return min(max(ns, FIRST_NS), LAST_NS)


def _wrong(field: str, text: str) -> ValidationFailed:
    return ValidationFailed(text, errors=[FieldError(field, text)])
