"""Cells to numbers and to moments, a column at a time: quick while all is well, value by value where it is not.

What cannot be read is noted with its row and becomes NaN (a number) or -1 (a moment).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt

from vnpy_core.domain.errors import FieldError, ValidationFailed
from vnpy_core.domain.history import LAST_NS, US, to_ns
from vnpy_core.domain.sessions import SHANGHAI, ctp_days, trading_day
from vnpy_core.recordings.formats import ABSENT, HUGE

Numbers = npt.NDArray[np.float64]
Moments = npt.NDArray[np.int64]
Cells = Any
"""A tuple or list of cells, or a numpy array."""
Note = Callable[[int, str], object]
"""Called for each cell that is wrong, with its row in the block and the reason."""

UNKNOWN = -1
"""A moment that could not be read."""

_QUARTER = 900 * 1_000_000
"""Microseconds within which a zone's offset does not change."""
_LAST_US = LAST_NS // US
_WRONG = (ValueError, TypeError, OverflowError, ArithmeticError)


def zone(name: str) -> ZoneInfo:
    """A time zone by its name. Raises ValidationFailed."""
    if name == SHANGHAI.key:
        return SHANGHAI
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        reason = f"there is no time zone {name!r}"
        raise ValidationFailed(reason, errors=[FieldError("timezone", reason)]) from error


def are_constant(*columns: Sequence[Any]) -> bool:
    """Whether each column has one value in all of its rows, of which there is at least one."""
    return all(cells.count(cells[0]) == len(cells) for cells in columns)


def coded(*columns: Sequence[str]) -> tuple[list[tuple[str, ...]], Moments]:
    """The different rows that these columns have, and for each row which of them it is."""
    if are_constant(*columns):
        return [tuple(cells[0] for cells in columns)], np.zeros(len(columns[0]), np.int64)
    rows = list(zip(*columns, strict=True))
    codes: dict[tuple[str, ...], int] = {}
    for row in rows:
        codes.setdefault(row, len(codes))
    return list(codes), np.fromiter(map(codes.__getitem__, rows), np.int64, len(rows))


# --- numbers ---


def numbers(cells: Cells, note: Note) -> Numbers:
    """The column's numbers; NaN where a cell is absent. Infinite ones are wrong."""
    typed = isinstance(cells, np.ndarray)
    values = np.ma.filled(cells.astype(np.float64), np.nan) if typed else _parsed(cells, note)
    huge = np.abs(values) >= HUGE
    if huge.any():
        for row in np.flatnonzero(np.isinf(values)).tolist():
            note(row, f"{cells[row]!r} is not a number")
        values[huge] = np.nan
    return values


def _parsed(cells: Sequence[Any], note: Note) -> Numbers:
    if cells[0] == cells[-1] and are_constant(cells):
        # Of a wrong cell all its like are noted.
        return np.full(len(cells), _numbers_by_value(cells[:1], lambda _, reason: _note_all(cells, reason, note))[0])
    distinct = set(cells)
    if len(distinct) > len(cells) // 2:
        try:
            return np.fromiter(map(float, cells), np.float64, len(cells))
        except _WRONG:
            return _numbers_by_value(cells, note)
    # Most columns have few values.
    known = list(distinct)
    wrong: dict[int, str] = {}
    parsed = _numbers_by_value(known, wrong.__setitem__)
    if wrong:
        reasons = {known[n]: reason for n, reason in wrong.items()}
        for row, cell in enumerate(cells):
            if cell in reasons:
                note(row, reasons[cell])
    table = dict(zip(known, parsed.tolist(), strict=True))
    return np.fromiter(map(table.__getitem__, cells), np.float64, len(cells))


def _note_all(cells: Sequence[Any], reason: str, note: Note) -> None:
    for row in range(len(cells)):
        note(row, reason)


def _numbers_by_value(cells: Sequence[Any], note: Note) -> Numbers:
    values = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        if cell in ABSENT:
            continue
        try:
            values[row] = float(cell)
        except _WRONG:
            note(row, f"{_shown(cell)} is not a number")
    return values


def _shown(cell: Any) -> str:
    return repr(cell if not isinstance(cell, str) else cell[:40])


# --- moments ---


class Clock:
    """Reads moments; times that name no zone are of `zone`, texts are ISO 8601 or of `datetime_format` (strptime)."""

    def __init__(self, zone: ZoneInfo, datetime_format: str = "") -> None:
        self.zone = zone
        self._format = datetime_format

    def moments(self, cells: Cells, note: Note) -> Moments:
        """A column of times in nanoseconds, by whole microseconds.

        Numbers are unix times; their size shows whether in s, ms, us or ns. Digits only may also be a date
        (`20181008`) or a date and time (`20181008090000` and with three more for milliseconds).
        """
        return self._checked(self._microseconds(cells, note), note) * US

    def ctp_moments(self, days: Cells, actions: Cells, clocks: Cells, exchanges: Cells, note: Note) -> Moments:
        """CTP's TradingDay, ActionDay and UpdateTime (to whole seconds), in nanoseconds."""
        keys, which = coded(days, actions, exchanges)
        minutes, seconds = _clock_parts(clocks, note)
        distinct, of_row = np.unique(which * _MINUTES + minutes, return_inverse=True)
        began = np.full(len(distinct), UNKNOWN)
        for n, code in enumerate(distinct.tolist()):
            day, action, exchange = keys[code // _MINUTES]
            hour, minute = divmod(code % _MINUTES, 60)
            try:
                began[n] = to_ns(ctp_minute(day, action, f"{hour:02}:{minute:02}", exchange, self.zone)[0]) // US
            except (*_WRONG, AttributeError) as error:
                for row in np.flatnonzero(of_row == n).tolist():
                    note(row, str(error))
        moments = began[of_row]
        return self._checked(np.where(moments == UNKNOWN, UNKNOWN, moments + seconds * 1_000_000), note) * US

    def trading_days(self, moments: Moments, exchange: str) -> npt.NDArray[np.int64]:
        """The trading days that moments belong to, as numbers (1 is the first of January of the year 1)."""
        quarters, which = np.unique(moments // US // _QUARTER, return_inverse=True)
        days = [trading_day(_utc(int(q) * _QUARTER).astimezone(self.zone), exchange).toordinal() for q in quarters]
        return np.array(days, np.int64)[which]

    def received(self, cells: Cells, note: Note) -> Moments:
        """A column of times in nanoseconds, to the nanosecond; 0 where there is none."""
        if isinstance(cells, np.ndarray):
            there = np.flatnonzero(~np.ma.getmaskarray(cells))
            present: Cells = np.ma.getdata(cells)[there]
        else:
            there = np.array([row for row, cell in enumerate(cells) if cell not in ABSENT], np.int64)
            present = [cells[row] for row in there.tolist()]
        moments = np.zeros(len(cells), np.int64)
        if len(there):
            moments[there] = self._exact(present, lambda row, reason: note(int(there[row]), reason))
        return moments

    def local_text(self, moments: Moments, unit: str) -> list[str]:
        """Moments as naive local times, `2018-10-08 09:00:00`; `unit` is s, us or ns."""
        offsets = _offsets(moments // US, lambda us: _utc(us).astimezone(self.zone).utcoffset())
        local = (moments + offsets * US).view("datetime64[ns]").astype(f"datetime64[{unit}]")
        text = np.datetime_as_string(local)
        text.view(np.uint32).reshape(len(text), -1)[:, 10] = ord(" ")
        texts: list[str] = text.tolist()
        return texts

    def _exact(self, cells: Cells, note: Note) -> Moments:
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "iu" and (cells >= 10**17).all():
            return cells.astype(np.int64)
        moments = self.moments(cells, note)
        if not isinstance(cells, np.ndarray):
            moments += [int(cell[-3:]) if _NANOSECONDS.fullmatch(cell) else 0 for cell in cells]
        return moments

    def _checked(self, microseconds: Moments, note: Note) -> Moments:
        wrong = (microseconds < 0) | (microseconds > _LAST_US)
        if wrong.any():
            for row in np.flatnonzero(wrong & (microseconds != UNKNOWN)).tolist():
                note(row, "its time is not within the years 1970 to 2262")
            microseconds[wrong] = UNKNOWN
        return microseconds

    def _microseconds(self, cells: Cells, note: Note) -> Moments:
        if isinstance(cells, np.ndarray):
            return self._typed(cells, note)
        found = None if self._format else self._quick(cells)
        if found is not None:
            return found
        moments = np.full(len(cells), UNKNOWN)
        for row, cell in enumerate(cells):
            try:
                moments[row] = self._microsecond(cell)
            except (*_WRONG, AttributeError):
                note(row, "no time" if cell in ABSENT else f"{_shown(cell)} is not a time")
        return moments

    def _typed(self, cells: Any, note: Note) -> Moments:
        """Of a Parquet file: naive times, or unix times."""
        absent, plain = np.ma.getmaskarray(cells), np.ma.getdata(cells)
        if plain.dtype.kind == "M":
            absent = absent | np.isnat(plain)
            local = plain.astype("datetime64[us]").astype(np.int64)
            moments = self._from_local(np.where(absent, 0, local))
        elif plain.dtype.kind in "iu" and all(len(str(value)) in _UNIX_DIGITS for value in _ends(plain[~absent])):
            moments = _unix(plain.astype(np.int64))
        else:
            texts = ["" if gone else _plain(value) for value, gone in zip(plain.tolist(), absent, strict=True)]
            return self._microseconds(texts, note)
        for row in np.flatnonzero(absent).tolist():
            note(row, "no time")
        return np.where(absent, UNKNOWN, moments)

    def _quick(self, cells: Cells) -> Moments | None:
        """All cells at once where they are alike: unix times of one unit, or ISO times of one zone."""
        first = cells[0] if len(cells) else ""
        try:
            if not first.isdecimal():
                return self._quick_iso(cells, first)
            alike = set(map(len, cells)) <= _UNIX_DIGITS.keys()
            return _unix(np.fromiter(map(int, cells), np.int64, len(cells))) if alike else None
        except (*_WRONG, AttributeError):
            return None

    def _quick_iso(self, cells: Cells, first: str) -> Moments | None:
        offset = None
        if found := _OFFSET.search(first, 16):
            suffix = found[0]
            if not all(cell.endswith(suffix) for cell in cells):
                return None
            offset = (datetime.fromisoformat(first).utcoffset() or timedelta()) // timedelta(microseconds=1)
            cells = [cell[: -len(suffix)] for cell in cells]
        # numpy takes more for a time than we do.
        if not _ISO_LINES.fullmatch("\n".join(cells) + "\n"):
            return None
        local = np.array(cells, "datetime64[us]").astype(np.int64)
        return self._from_local(local) if offset is None else local - offset

    def _microsecond(self, cell: Any) -> int:
        """One time. Raises ValueError and its like."""
        if self._format:
            moment = datetime.strptime(cell, self._format)  # noqa: DTZ007 - its zone comes next
        elif (unix := _UNIX.fullmatch(cell)) and len(unix[1]) in _UNIX_DIGITS:
            factor, divisor = _UNIX_DIGITS[len(unix[1])]
            return int(Decimal(cell) * factor // divisor)
        elif cell.isdecimal():
            moment = _compact(cell)
        elif _SCIENTIFIC.fullmatch(cell):
            return self._microsecond(_plain(Decimal(cell)))
        else:
            moment = datetime.fromisoformat(cell)
        return to_ns(moment if moment.tzinfo else moment.replace(tzinfo=self.zone)) // US

    def _from_local(self, local: Moments) -> Moments:
        naive = datetime(1970, 1, 1)  # noqa: DTZ001 - its zone comes next
        return local - _offsets(
            local, lambda us: (naive + timedelta(microseconds=us)).replace(tzinfo=self.zone).utcoffset()
        )


_MINUTES = 24 * 60


def _clock_parts(clocks: Cells, note: Note) -> tuple[Moments, Moments]:
    """`HH:MM:SS` as the day's minutes, and seconds."""
    joined = "".join(clocks)
    if len(joined) == 8 * len(clocks) and joined.isascii():
        digits = np.frombuffer(joined.encode(), np.uint8).reshape(-1, 8).astype(np.int64) - ord("0")
        hours, minutes, seconds = (digits[:, n] * 10 + digits[:, n + 1] for n in (0, 3, 6))
        good = (
            ((digits[:, [0, 1, 3, 4, 6, 7]] >= 0) & (digits[:, [0, 1, 3, 4, 6, 7]] <= 9)).all(axis=1)
            & (digits[:, [2, 5]] == ord(":") - ord("0")).all(axis=1)
            & (hours < 24)
            & (minutes < 60)
            & (seconds < 60)
        )
        if good.all():
            return hours * 60 + minutes, seconds
    parts = np.zeros((len(clocks), 2), np.int64)
    for row, clock in enumerate(clocks):
        if found := _CLOCK.fullmatch(clock):
            hour, minute, second = map(int, found.groups())
            parts[row] = hour * 60 + minute, second
        else:
            note(row, f"{_shown(clock)} is not a time")
    return parts[:, 0], parts[:, 1]


_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5]?[0-9]):([0-5]?[0-9])", re.ASCII)
_UNIX = re.compile(r"(\d+)(\.\d*)?")
_SCIENTIFIC = re.compile(r"\d(\.\d+)?[eE]\+?\d{1,2}")
_OFFSET = re.compile(r"(?:Z|[+-]\d\d:\d\d)$")
_ISO_LINES = re.compile(r"(?:\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)?\n)+", re.ASCII)
_NANOSECONDS = re.compile(r"[^.]{19}\.\d{9}|\d{19}")
_UNIX_DIGITS = {
    **dict.fromkeys((9, 10), (1_000_000, 1)),
    **dict.fromkeys((12, 13), (1000, 1)),
    **dict.fromkeys((15, 16), (1, 1)),
    **dict.fromkeys((18, 19), (1, 1000)),
}
"""By the number of digits what makes a unix time microseconds: a factor and a divisor."""


def _unix(values: Moments) -> Moments:
    """Unix times of any unit in microseconds."""
    values = np.maximum(values, -1)
    digits = np.searchsorted([10**11, 10**14, 10**17], values, side="right")
    return np.choose(digits, [values * 1_000_000, values * 1000, values, values // 1000])


def _ends(values: npt.NDArray[Any]) -> list[int]:
    """The least and the greatest."""
    return [int(values.min()), int(values.max())] if len(values) else []


def _plain(value: float | Decimal) -> str:
    """A number as digits, without an exponent."""
    return format(value if isinstance(value, Decimal) else Decimal(repr(value)), "f").removesuffix(".0")


def _compact(cell: str) -> datetime:
    """`YYYYMMDD`, with `HHMMSS` and a fraction after it or not. Raises ValueError."""
    day, clock, fraction = cell[:8], cell[8:14], cell[14:]
    return datetime.fromisoformat(f"{day}T{clock or '000000'}" + (f".{fraction}" if fraction else ""))


def _offsets(microseconds: Moments, offset_at: Callable[[int], timedelta | None]) -> Moments:
    """A zone's offset at each time, microseconds; it is looked up once for each quarter of an hour."""
    if not len(microseconds):
        return np.zeros(0, np.int64)
    quarters = microseconds // _QUARTER
    if quarters[0] == quarters[-1] and (quarters == quarters[0]).all():
        return np.full(len(quarters), _offset(int(quarters[0]), offset_at))
    distinct, which = np.unique(quarters, return_inverse=True)
    return np.array([_offset(quarter, offset_at) for quarter in distinct.tolist()], np.int64)[which]


def _offset(quarter: int, offset_at: Callable[[int], timedelta | None]) -> int:
    # Times far out are refused later.
    inside = min(max(quarter * _QUARTER, 0), _LAST_US)
    return (offset_at(inside) or timedelta()) // timedelta(microseconds=1)


def _utc(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


# --- CTP ---


@lru_cache(4096)
def ctp_minute(trading: str, action: str, clock: str, exchange: str, zone: ZoneInfo) -> tuple[datetime, date]:
    """A minute `HH:MM` of CTP in UTC and its trading day; either day may be absent. Raises ValueError."""
    hour, colon, minute = int(clock[:2]), clock[2:3], int(clock[3:])
    if colon != ":":
        raise ValueError(f"{clock!r} is not a time")
    day: date | None = None
    if trading:
        real, day = ctp_days(compact_date(trading), compact_date(action or trading), hour, exchange)
    else:
        real = compact_date(action)
    local = datetime(real.year, real.month, real.day, hour, minute, tzinfo=zone)
    return local.astimezone(UTC), day or trading_day(local, exchange)


def compact_date(text: str) -> date:
    """A date `YYYYMMDD`. Raises ValueError."""
    if len(text) != 8:
        raise ValueError(f"{text!r} is not a date")
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))
