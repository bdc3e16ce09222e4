"""A recording as a market feed: CSV (plain, .gz, in a .zip) and Parquet files become `Snapshot`s in time order.

What a file is shows in its first bytes and its header, not in its name. Five headers are known: CTP's 44 columns,
VnPy's tick columns (CSV or Parquet), tqsdk's 5 levels, and the short form `symbol,date,time,lastPrice,...`.

Files are read as they are needed: of a file that begins after another one's end only its first rows are read early.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache, partial
from heapq import heapify, heappop, heappush
from operator import attrgetter
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from vnpy_core.domain.errors import ConfigurationError, ValidationFailed
from vnpy_core.domain.history import LEVELS
from vnpy_core.domain.sessions import trading_day
from vnpy_core.gateways.paper.model import Level, Snapshot
from vnpy_core.recordings.files import Row, Table, open_tables
from vnpy_core.recordings.formats import (
    ABSENT,
    CTP,
    HUGE,
    LEVEL_1,
    SHORT,
    TQSDK,
    VNPY,
    VNPY_BY_VT_SYMBOL,
    Format,
    find_format,
)
from vnpy_core.recordings.values import compact_date, ctp_minute
from vnpy_core.recordings.values import zone as zone_named

MAX_NOTES = 100
"""So many bad rows are kept with their reasons; all are counted."""

REORDER_ROWS = 256
"""Rows of one file that are sorted among each other: several symbols in one recording arrive a little out of order."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_WRONG_ROW = (ValueError, IndexError, TypeError, AttributeError, OverflowError)

Parser = Callable[[Row], Snapshot]
Columns = dict[str, int]
Minute = tuple[int, int, int, int, int]
Sides = list[tuple[tuple[int, int], ...]]


def _no_exchange(symbol: str) -> str | None:
    return None


class Replay:
    """Recorded files as one stream of snapshots, never going back in time. Iterating again begins anew."""

    bad_rows: list[str]
    """The first hundred rows that were left out, as `file:line: reason`."""
    bad_count: int
    """How many rows were left out so far."""

    def __init__(
        self,
        files: list[str],
        *,
        exchange: str = "",
        timezone: str = "Asia/Shanghai",
        resolve_exchange: Callable[[str], str | None] = _no_exchange,
    ) -> None:
        """`files` are paths or globs; `timezone` is that of times which name none.

        Rows without an exchange get `exchange`, or else what `resolve_exchange` says of their symbol.

        Raises ConfigurationError for a missing file, an unknown header, a broken archive or an unknown time zone.
        Iterating raises it for a file that proves truncated or has no usable row.
        """
        self.bad_rows, self.bad_count = [], 0
        self._exchange, self._resolve = exchange, resolve_exchange
        with _as_configuration():
            self._zone = zone_named(timezone)
            self._sources = [source for path in _paths(files) for source in open_tables(path)]
            for source in self._sources:
                _parser_for(source, source.header())

    def __iter__(self) -> Iterator[Snapshot]:
        self.bad_rows, self.bad_count = [], 0
        tape = self._tape(self._note)
        if len(self._sources) == 1:
            return _ordered(self._sources[0], tape)
        return self._merge(tape)

    def _merge(self, tape: _Tape) -> Iterator[Snapshot]:
        """All sources by time; one is opened for good only when its first row is due, so that volumes follow on."""
        heap = [(time, n) for n, source in enumerate(self._sources) if (time := self._first_time(source))]
        heapify(heap)
        feeds: dict[int, Iterator[Snapshot]] = {}
        waiting: dict[int, Snapshot] = {}
        while heap:
            n = heappop(heap)[1]
            if n not in feeds:
                feeds[n] = _ordered(self._sources[n], tape)
            feed = feeds[n]
            snapshot = waiting.pop(n, None) or next(feed, None)
            limit = heap[0] if heap else None
            while snapshot is not None and (limit is None or (snapshot.time, n) <= limit):
                yield snapshot
                snapshot = next(feed, None)
            if snapshot is not None:
                waiting[n] = snapshot
                heappush(heap, (snapshot.time, n))

    def _first_time(self, source: Table) -> datetime | None:
        with closing(_ordered(source, self._tape(_ignore))) as feed:
            first = next(feed, None)
        return first.time if first else None

    def _tape(self, note: Callable[[Table, str], None]) -> _Tape:
        return _Tape(self._zone, self._exchange, self._resolve, note)

    def _note(self, source: Table, reason: str) -> None:
        self.bad_count += 1
        if len(self.bad_rows) < MAX_NOTES:
            self.bad_rows.append(f"{source.name}:{source.line}: {reason}")


class _Tape:
    """What is remembered between the rows of all files of one run."""

    def __init__(
        self,
        zone: ZoneInfo,
        exchange: str,
        resolve: Callable[[str], str | None],
        note: Callable[[Table, str], None],
    ) -> None:
        self.zone = zone
        self.note = note
        self._exchange, self._resolve = exchange, resolve
        self._volumes: dict[str, tuple[date, float]] = {}
        self.exchange_of = lru_cache(65536)(self._exchange_of)
        self.minute = lru_cache(4096)(self._minute)

    def _exchange_of(self, symbol: str, given: str) -> str:
        if not symbol:
            raise ValueError("no symbol")
        exchange = given.rpartition(".")[2] or self._exchange or self._resolve(symbol)
        if not exchange:
            raise ValueError(f"no exchange is known for {symbol}")
        return exchange

    def _minute(self, trading: str, action: str, clock: str, exchange: str) -> tuple[Minute, date]:
        """A minute `HH:MM` of CTP in UTC, as its parts, and its trading day."""
        utc, day = ctp_minute(trading, action, clock, exchange, self.zone)
        return (utc.year, utc.month, utc.day, utc.hour, utc.minute), day

    def traded(self, symbol: str, day: date, volume: float) -> float:
        """What was traded since the symbol's last row, from the day's cumulative volume."""
        known = self._volumes.get(symbol)
        self._volumes[symbol] = (day, volume)
        if known is None:
            return 0.0
        return max(volume - known[1], 0.0) if known[0] == day else volume

    def add_up(self, symbol: str, day: date, traded: float) -> float:
        """The day's cumulative volume, from what each row traded."""
        known = self._volumes.get(symbol)
        volume = known[1] + traded if known is not None and known[0] == day else traded
        self._volumes[symbol] = (day, volume)
        return volume


def _ignore(source: Table, reason: str) -> None:
    pass


@contextmanager
def _as_configuration() -> Iterator[None]:
    """What is wrong with a file is wrong with the configuration that names it."""
    try:
        yield
    except ValidationFailed as error:
        raise ConfigurationError(error.detail) from error


def _paths(files: list[str]) -> list[Path]:
    found: dict[Path, None] = {}
    for name in files:
        names = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))
        if not names:
            raise ConfigurationError(f"there is no file {name}")
        found.update((Path(each), None) for each in names)
    if not found:
        raise ConfigurationError("a replay needs at least one file")
    return list(found)


# --- rows ---


def _ordered(source: Table, tape: _Tape) -> Generator[Snapshot, None, None]:
    """A source's snapshots by time: sorted within a window, those that are later than that left out."""
    by_time = attrgetter("time")
    window: list[Snapshot] = []
    last = datetime.min.replace(tzinfo=UTC)
    for snapshot in _snapshots(source, tape):
        if snapshot.time < last:
            tape.note(source, f"its time {snapshot.time.isoformat()} is before {last.isoformat()}")
            continue
        window.append(snapshot)
        if len(window) >= REORDER_ROWS:
            window.sort(key=by_time)
            due, window = window[: REORDER_ROWS // 2], window[REORDER_ROWS // 2 :]
            last = due[-1].time
            yield from due
    window.sort(key=by_time)
    yield from window


def _snapshots(source: Table, tape: _Tape) -> Iterator[Snapshot]:
    with _as_configuration(), closing(source.rows()) as rows:
        header = next(rows, ())
        parse = _parser_for(source, _names(header))(tape)
        good, reason = 0, ""
        for row in rows:
            try:
                snapshot = parse(row)
            except _WRONG_ROW as error:
                if row and row != header:
                    wrong = _reason(row, len(header), error)
                    reason = reason or f"line {source.line}: {wrong}"
                    tape.note(source, wrong)
                continue
            good += 1
            yield snapshot
    if reason and not good:
        raise ConfigurationError(f"{source.name} has no usable row; {reason}")


def _reason(row: Row, width: int, error: Exception) -> str:
    if isinstance(error, IndexError):
        return f"{len(row)} columns instead of {width}"
    return str(error)


def _names(header: Row) -> list[str]:
    return [str(name).strip() for name in header]


@lru_cache(16384)
def _number(value: Any) -> float:
    """Most numbers of a recording come again and again."""
    return _fresh_number(value)


def _fresh_number(value: Any) -> float:
    """Absent is 0: nothing, N/A, NaN, or CTP's largest double. Raises ValueError."""
    if value in ABSENT:
        return 0.0
    number = float(value)
    if -HUGE < number < HUGE:
        return number
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{value!r} is not a number")
    return 0.0


@lru_cache(16384)
def _volume(value: Any) -> float:
    number = _fresh_number(value)
    if number < 0:
        raise ValueError(f"a volume of {value}")
    return number


def _levels(row: Row, places: tuple[tuple[int, int], ...]) -> tuple[Level, ...]:
    levels: list[Level] = []
    for price_at, volume_at in places:
        price = row[price_at]
        if price in ABSENT:
            break
        level = (_number(price), _volume(row[volume_at]))
        if not level[0] or not level[1]:
            break
        levels.append(level)
    return tuple(levels)


def _sides(at: Columns) -> Sides:
    """Where the levels are, of the bids and of the asks."""

    def side(name: str) -> tuple[tuple[int, int], ...]:
        pairs = [(f"{name}_price_{n}", f"{name}_volume_{n}") for n in LEVELS]
        return tuple((at[p], at[v]) for p, v in pairs if p in at and v in at)

    return [side("bid"), side("ask")]


def _ctp(at: Columns, tape: _Tape) -> Parser:
    bids, asks = _sides(at)
    day_at, action_at, clock_at, ms_at = at["trading_day"], at["action_day"], at["time"], at["millisecond"]
    symbol_at, exchange_at, last_at, volume_at = at["symbol"], at["exchange"], at["last_price"], at["volume"]
    turnover_at, interest_at, close_at = at["turnover"], at["open_interest"], at["pre_close"]
    up_at, down_at = at["limit_up"], at["limit_down"]
    open_at, high_at, low_at = at["open_price"], at["high_price"], at["low_price"]
    exchange_of, minute, traded = tape.exchange_of, tape.minute, tape.traded

    def parse(row: Row) -> Snapshot:
        symbol, clock = row[symbol_at], row[clock_at]
        exchange = exchange_of(symbol, row[exchange_at] or "")
        began, day = minute(row[day_at], row[action_at], clock[:5], exchange)
        volume = _volume(row[volume_at])
        return Snapshot(
            symbol=symbol,
            exchange=exchange,
            time=datetime(*began, int(clock[6:]), int(row[ms_at]) * 1000, tzinfo=UTC),
            trading_day=day,
            bids=_levels(row, bids),
            asks=_levels(row, asks),
            last_price=_number(row[last_at]),
            turnover=_fresh_number(row[turnover_at]),
            open_interest=_number(row[interest_at]),
            limit_up=_number(row[up_at]),
            limit_down=_number(row[down_at]),
            open_price=_number(row[open_at]),
            high_price=_number(row[high_at]),
            low_price=_number(row[low_at]),
            pre_close=_number(row[close_at]),
            volume=volume,
            last_volume=traded(symbol, day, volume),
        )

    return parse


_VNPY_NUMBERS = [
    "last_price",
    "turnover",
    "open_interest",
    "limit_up",
    "limit_down",
    "open_price",
    "high_price",
    "low_price",
    "pre_close",
]


def _vnpy(at: Columns, tape: _Tape, *, by_vt_symbol: bool = False) -> Parser:
    bids, asks = _sides(at)
    numbers = [(name, at[name]) for name in _VNPY_NUMBERS if name in at]
    name_of = _vnpy_name(at, tape, by_vt_symbol=by_vt_symbol)
    time_at, volume_at, traded_at = at["datetime"], at.get("volume"), at.get("last_volume")

    def parse(row: Row) -> Snapshot:
        symbol, exchange = name_of(row)
        local = _local_time(row[time_at], tape.zone)
        day = trading_day(local, exchange)
        prices = {name: _number(row[position]) for name, position in numbers}
        bid_levels, ask_levels = _levels(row, bids), _levels(row, asks)
        volume = 0.0 if volume_at is None else _volume(row[volume_at])
        return Snapshot(
            symbol=symbol,
            exchange=exchange,
            time=local.astimezone(UTC),
            trading_day=day,
            bids=bid_levels,
            asks=ask_levels,
            volume=volume,
            last_volume=tape.traded(symbol, day, volume) if traded_at is None else _volume(row[traded_at]),
            **prices,
        )

    return parse


def _vnpy_name(at: Columns, tape: _Tape, *, by_vt_symbol: bool) -> Callable[[Row], tuple[str, str]]:
    symbol_at, exchange_at = at["symbol"], at.get("exchange")

    def name_of(row: Row) -> tuple[str, str]:
        if by_vt_symbol:
            symbol, _, exchange = row[symbol_at].rpartition(".")
        else:
            symbol, exchange = row[symbol_at], "" if exchange_at is None else row[exchange_at] or ""
        return symbol, tape.exchange_of(symbol, exchange)

    return name_of


def _local_time(value: str | int | datetime, zone: ZoneInfo) -> datetime:
    """A text, unix nanoseconds or a time, aware."""
    if isinstance(value, int):
        return (_EPOCH + timedelta(microseconds=value // 1000)).astimezone(zone)
    time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return time.replace(tzinfo=zone) if time.tzinfo is None else time.astimezone(zone)


def _tqsdk(at: Columns, tape: _Tape) -> Parser:
    bids, asks = _sides(at)
    symbol_at, time_at, last_at, volume_at = at["symbol"], at["datetime"], at["last_price"], at["volume"]
    turnover_at, interest_at, high_at, low_at = at["turnover"], at["open_interest"], at["high_price"], at["low_price"]

    def parse(row: Row) -> Snapshot:
        given, _, symbol = row[symbol_at].rpartition(".")
        exchange = tape.exchange_of(symbol, given)
        local = _local_time(int(row[time_at]), tape.zone)
        day = trading_day(local, exchange)
        volume = _volume(row[volume_at])
        return Snapshot(
            symbol=symbol,
            exchange=exchange,
            time=local.astimezone(UTC),
            trading_day=day,
            bids=_levels(row, bids),
            asks=_levels(row, asks),
            last_price=_number(row[last_at]),
            turnover=_fresh_number(row[turnover_at]),
            open_interest=_number(row[interest_at]),
            high_price=_number(row[high_at]),
            low_price=_number(row[low_at]),
            volume=volume,
            last_volume=tape.traded(symbol, day, volume),
        )

    return parse


def _short(at: Columns, tape: _Tape) -> Parser:
    bids, asks = _sides(at)
    symbol_at, date_at, time_at = at["symbol"], at["date"], at["time"]
    last_at, traded_at = at["last_price"], at["last_volume"]

    def parse(row: Row) -> Snapshot:
        symbol = row[symbol_at]
        exchange = tape.exchange_of(symbol, "")
        local = _local_time(f"{compact_date(row[date_at])}T{row[time_at]}", tape.zone)
        day = trading_day(local, exchange)
        traded = _volume(row[traded_at])
        return Snapshot(
            symbol=symbol,
            exchange=exchange,
            time=local.astimezone(UTC),
            trading_day=day,
            bids=_levels(row, bids),
            asks=_levels(row, asks),
            last_price=_number(row[last_at]),
            last_volume=traded,
            volume=tape.add_up(symbol, day, traded),
        )

    return parse


def _traded(form: Format) -> Format:
    """The format, of files with prices to trade at."""
    return msgspec.structs.replace(form, required=form.required.union(LEVEL_1))


_FORMATS: list[tuple[Format, Callable[[Columns, _Tape], Parser]]] = [
    (CTP, _ctp),
    (_traded(VNPY), _vnpy),
    (_traded(VNPY_BY_VT_SYMBOL), partial(_vnpy, by_vt_symbol=True)),
    (TQSDK, _tqsdk),
    (SHORT, _short),
]


def _parser_for(source: Table, header: list[str]) -> Callable[[_Tape], Parser]:
    """What reads rows under this header. Raises ValidationFailed for one that is not known."""
    if not header:
        raise ValidationFailed(f"{source.name} is empty")
    form = find_format(source.name, header, "auto", [form for form, _ in _FORMATS])
    parser = next(parser for each, parser in _FORMATS if each is form)
    return lambda tape: parser(form.places(header), tape)
