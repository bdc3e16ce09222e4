"""A recording as a market feed: CSV (plain, .gz, in a .zip) and Parquet files become `Snapshot`s in time order.

What a file is shows in its first bytes and its header, not in its name. Five headers are known: CTP's 44 columns,
VnPy's tick columns (CSV or Parquet), tqsdk's 5 levels, and the short form `symbol,date,time,lastPrice,...`.

Files are read as they are needed: of a file that begins after another one's end only its first rows are read early.
"""

from __future__ import annotations

import csv
import glob
import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from heapq import heapify, heappop, heappush
from operator import attrgetter
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.domain.sessions import SHANGHAI, ctp_days, trading_day
from vnpy_core.gateways.paper.model import Level, Snapshot

MAX_NOTES = 100
"""So many bad rows are kept with their reasons; all are counted."""

REORDER_ROWS = 256
"""Rows of one file that are sorted among each other: several symbols in one recording arrive a little out of order."""

_CHUNK = 2048
_ABSENT = frozenset({None, "", "N/A", "nan", "NaN"})
_HUGE = 1e300
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_UNREADABLE = (EOFError, OSError, RuntimeError, csv.Error, zipfile.BadZipFile, zlib.error)
_WRONG_ROW = (ValueError, IndexError, TypeError, AttributeError, OverflowError)

Row = Sequence[Any]
Parser = Callable[[Row], Snapshot]
Columns = dict[str, int]
Minute = tuple[int, int, int, int, int]
Sides = tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]


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
        self._zone = _zone(timezone)
        self._sources = [source for path in _paths(files) for source in _open(path)]
        for source in self._sources:
            source.check_header()

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

    def _first_time(self, source: _Source) -> datetime | None:
        with closing(_ordered(source, self._tape(_ignore))) as feed:
            first = next(feed, None)
        return first.time if first else None

    def _tape(self, note: Callable[[_Source, str], None]) -> _Tape:
        return _Tape(self._zone, self._exchange, self._resolve, note)

    def _note(self, source: _Source, reason: str) -> None:
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
        note: Callable[[_Source, str], None],
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
        hour, colon, minute = int(clock[:2]), clock[2:3], int(clock[3:])
        if colon != ":":
            raise ValueError(f"{clock!r} is not a time")
        day: date | None = None
        if trading:
            real, day = ctp_days(_date(trading), _date(action or trading), hour, exchange)
        else:
            real = _date(action)
        local = datetime(real.year, real.month, real.day, hour, minute, tzinfo=self.zone)
        utc = local.astimezone(UTC)
        began = (utc.year, utc.month, utc.day, utc.hour, utc.minute)
        return began, day or trading_day(local, exchange)

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


def _ignore(source: _Source, reason: str) -> None:
    pass


# --- files ---


class _Source:
    """One table: a file or a member of an archive. `rows` gives its header, then its rows; `line` is the last one's."""

    def __init__(self, name: str, text: Callable[[], io.TextIOBase]) -> None:
        self.name = name
        self.line = 0
        self._text = text

    def rows(self) -> Generator[Row, None, None]:
        """Raises ConfigurationError where the file cannot be read on."""
        self.line = 0
        try:
            with self._text() as text:
                reader = csv.reader(text)
                for row in reader:
                    self.line = reader.line_num
                    yield row
        except _UNREADABLE as error:
            raise ConfigurationError(f"{self.name} cannot be read after line {self.line}: {error}") from error

    def check_header(self) -> None:
        """Raises ConfigurationError for a header that is none of those known."""
        with closing(self.rows()) as rows:
            self.parser_for(next(rows, None))

    def parser_for(self, header: Row | None) -> Callable[[Columns, _Tape], Parser]:
        """The format that the header shows. Raises ConfigurationError."""
        if not header:
            raise ConfigurationError(f"{self.name} is empty")
        names = set(_columns(header))
        for required, parser in _FORMATS:
            if required <= names:
                return parser
        shown = ",".join(str(name) for name in header[:8])
        raise ConfigurationError(f"{self.name} has an unknown header: {shown[:200]}")


class _Parquet(_Source):
    def __init__(self, path: Path) -> None:
        self.name, self.line = str(path), 0

    def rows(self) -> Generator[Row, None, None]:
        """As those of a CSV file, but with numbers and times as they are."""
        import duckdb  # noqa: PLC0415 - large, and only Parquet needs it

        self.line = 0
        try:
            with duckdb.connect(config={"memory_limit": "256MB", "threads": 1}) as database:
                yield from self._fetch(database)
        except duckdb.Error as error:
            raise ConfigurationError(f"{self.name} cannot be read after row {self.line}: {error}") from error

    def _fetch(self, database: Any) -> Iterator[Row]:
        columns = database.execute("describe select * from read_parquet(?)", [self.name]).fetchall()
        yield [column[0] for column in columns]
        # A time with a zone would need pytz on its way out.
        wanted = ", ".join(_selected(column[0], column[1]) for column in columns)
        result = database.execute(f"select {wanted} from read_parquet(?)", [self.name])  # noqa: S608 - its own columns
        while chunk := result.fetchmany(_CHUNK):
            for row in chunk:
                self.line += 1
                yield row


def _selected(name: str, kind: str) -> str:
    quoted = '"' + name.replace('"', '""') + '"'
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"epoch_us({quoted}) * 1000"
    if kind.startswith("TIMESTAMP"):
        return f"cast({quoted} as timestamp)"
    return quoted


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


def _open(path: Path) -> list[_Source]:
    """The tables in a file. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"PAR1":
            return [_Parquet(path)]
        if magic == b"PK\x03\x04":
            return _members(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    if magic[:2] == b"\x1f\x8b":
        return [_Source(str(path), lambda: _decoded(gzip.open(path, "rb")))]
    return [_Source(str(path), lambda: _decoded(path.open("rb")))]


def _members(path: Path) -> list[_Source]:
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith(".csv") and "__MACOSX" not in name)
    if not names:
        raise ConfigurationError(f"{path} has no .csv in it")
    return [_member(path, name) for name in names]


def _member(path: Path, name: str) -> _Source:
    def text() -> io.TextIOBase:
        with zipfile.ZipFile(path) as archive:
            # The member keeps the archive's file open until it is closed itself.
            return _decoded(archive.open(name))

    return _Source(f"{path}/{name}", text)


def _decoded(raw: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="")


def _zone(name: str) -> ZoneInfo:
    if name == SHANGHAI.key:
        return SHANGHAI
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(f"there is no time zone {name!r}") from error


# --- rows ---


def _ordered(source: _Source, tape: _Tape) -> Generator[Snapshot, None, None]:
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


def _snapshots(source: _Source, tape: _Tape) -> Iterator[Snapshot]:
    with closing(source.rows()) as rows:
        header = next(rows, None)
        columns = _columns(header or [])
        parse = source.parser_for(header)(columns, tape)
        good, reason = 0, ""
        for row in rows:
            try:
                snapshot = parse(row)
            except _WRONG_ROW as error:
                if row and row != header:
                    wrong = _reason(row, columns, error)
                    reason = reason or f"line {source.line}: {wrong}"
                    tape.note(source, wrong)
                continue
            good += 1
            yield snapshot
    if reason and not good:
        raise ConfigurationError(f"{source.name} has no usable row; {reason}")


def _reason(row: Row, columns: Columns, error: Exception) -> str:
    if isinstance(error, IndexError):
        return f"{len(row)} columns instead of {len(columns)}"
    return str(error)


def _columns(header: Row) -> Columns:
    return {str(name).strip(): position for position, name in enumerate(header)}


@lru_cache(16384)
def _number(value: Any) -> float:
    """Most numbers of a recording come again and again."""
    return _fresh_number(value)


def _fresh_number(value: Any) -> float:
    """Absent is 0: nothing, N/A, NaN, or CTP's largest double. Raises ValueError."""
    if value in _ABSENT:
        return 0.0
    number = float(value)
    if -_HUGE < number < _HUGE:
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
        if price in _ABSENT:
            break
        level = (_number(price), _volume(row[volume_at]))
        if not level[0] or not level[1]:
            break
        levels.append(level)
    return tuple(levels)


def _sides(at: Columns, price: str, volume: str) -> Sides:
    """Where the levels are; the names are patterns such as `{Side}Price{n}`."""

    def side(name: str) -> tuple[tuple[int, int], ...]:
        names = {"side": name, "Side": name.capitalize()}
        pairs = [(price.format(n=n, **names), volume.format(n=n, **names)) for n in range(1, 6)]
        return tuple((at[p], at[v]) for p, v in pairs if p in at and v in at)

    return side("bid"), side("ask")


def _date(text: str) -> date:
    if len(text) != 8:
        raise ValueError(f"{text!r} is not a date")
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))


def _ctp(at: Columns, tape: _Tape) -> Parser:
    bids, asks = _sides(at, "{Side}Price{n}", "{Side}Volume{n}")
    day_at, action_at, clock_at, ms_at = at["TradingDay"], at["ActionDay"], at["UpdateTime"], at["UpdateMillisec"]
    symbol_at, exchange_at, last_at, volume_at = at["InstrumentID"], at["ExchangeID"], at["LastPrice"], at["Volume"]
    turnover_at, interest_at, close_at = at["Turnover"], at["OpenInterest"], at["PreClosePrice"]
    up_at, down_at = at["UpperLimitPrice"], at["LowerLimitPrice"]
    open_at, high_at, low_at = at["OpenPrice"], at["HighestPrice"], at["LowestPrice"]
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


def _vnpy(at: Columns, tape: _Tape) -> Parser:
    bids, asks = _sides(at, "{side}_price_{n}", "{side}_volume_{n}")
    numbers = [(name, at[name]) for name in _VNPY_NUMBERS if name in at]
    name_of = _vnpy_name(at, tape)
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


def _vnpy_name(at: Columns, tape: _Tape) -> Callable[[Row], tuple[str, str]]:
    symbol_at, exchange_at, vt_symbol_at = at.get("symbol"), at.get("exchange"), at.get("vt_symbol")

    def name_of(row: Row) -> tuple[str, str]:
        if symbol_at is None:
            symbol, _, exchange = row[vt_symbol_at or 0].rpartition(".")
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
    bids, asks = _sides(at, "{side}_price{n}", "{side}_volume{n}")
    symbol_at, time_at, last_at, volume_at = at["symbol"], at["datetime"], at["last_price"], at["volume"]
    turnover_at, interest_at, high_at, low_at = at["amount"], at["open_interest"], at["highest"], at["lowest"]

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
    bids, asks = _sides(at, "{side}Price{n}", "{side}Volume{n}")
    symbol_at, date_at, time_at = at["symbol"], at["date"], at["time"]
    last_at, traded_at = at["lastPrice"], at["lastVolume"]

    def parse(row: Row) -> Snapshot:
        symbol = row[symbol_at]
        exchange = tape.exchange_of(symbol, "")
        local = _local_time(f"{_date(row[date_at])}T{row[time_at]}", tape.zone)
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


_CTP_COLUMNS = (
    "TradingDay ActionDay UpdateTime UpdateMillisec InstrumentID ExchangeID LastPrice Volume Turnover OpenInterest "
    "PreClosePrice UpperLimitPrice LowerLimitPrice OpenPrice HighestPrice LowestPrice BidPrice1 BidVolume1 AskPrice1 "
    "AskVolume1"
)
_VNPY_COLUMNS = "datetime last_price bid_price_1 bid_volume_1 ask_price_1 ask_volume_1"
_TQSDK_COLUMNS = "symbol datetime last_price volume amount open_interest highest lowest bid_price1 ask_price1"
_SHORT_COLUMNS = "symbol date time lastPrice lastVolume bidPrice1 askPrice1 bidVolume1 askVolume1"

_FORMATS: list[tuple[set[str], Callable[[Columns, _Tape], Parser]]] = [
    (set(_CTP_COLUMNS.split()), _ctp),
    ({*_VNPY_COLUMNS.split(), "symbol"}, _vnpy),
    ({*_VNPY_COLUMNS.split(), "vt_symbol"}, _vnpy),
    (set(_TQSDK_COLUMNS.split()), _tqsdk),
    (set(_SHORT_COLUMNS.split()), _short),
]
