"""Recorded ticks as snapshots, streamed: CTP's 44 columns, VnPy's own columns (CSV or Parquet), tqsdk's five levels.

The format is told by the header. CSV files may be gzipped or members of a zip, which are read in the order of their
names. Times without an offset are the exchange's, Asia/Shanghai unless told otherwise.
"""

from __future__ import annotations

import csv
import functools
import glob
import gzip
import heapq
import io
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.gateways.paper.feeds.sessions import calendar_day, trading_day
from vnpy_core.gateways.paper.model import Level, Snapshot

LEVELS = 5
REMEMBERED_BAD_ROWS = 100
ABSENT = 1e300
"""CTP writes the largest double for a price that there is not."""
_PARQUET_ROWS = 5_000

Row = Sequence[Any]
Parse = Callable[[Row], Snapshot]
Resolve = Callable[[str], str | None]


class Replay:
    """Iterable once; one thread. Rows that cannot be read are counted and left out.

    Iterating raises ConfigurationError for a missing file, an unknown header or a truncated archive.
    """

    def __init__(
        self,
        files: list[str],
        *,
        exchange: str = "",
        timezone: str = "Asia/Shanghai",
        resolve_exchange: Resolve = lambda symbol: None,
    ) -> None:
        """`files` are paths or globs; several are merged by time. `exchange` is for recordings that do not name it."""
        self.bad_rows: list[str] = []
        """`file:line: reason` of the first 100."""
        self.bad_count = 0
        self._paths = [path for pattern in files for path in _expand(pattern)]
        self._exchange = exchange
        self._timezone = ZoneInfo(timezone)
        self._resolve = resolve_exchange

    def __iter__(self) -> Iterator[Snapshot]:
        if len(self._paths) == 1:
            return self._file(self._paths[0])
        return heapq.merge(*(self._file(path) for path in self._paths), key=lambda snapshot: snapshot.time)

    def _file(self, path: Path) -> Iterator[Snapshot]:
        try:
            if path.suffix == ".zip":
                yield from self._zip(path)
            elif path.suffix == ".parquet":
                yield from self._parquet(path)
            else:
                with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
                    yield from self._csv(file, path.name)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the recording {path} cannot be read: {error}") from error

    def _zip(self, path: Path) -> Iterator[Snapshot]:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(name for name in archive.namelist() if name.endswith(".csv")):
                with archive.open(name) as file:
                    yield from self._csv(file, f"{path.name}/{name}")

    def _csv(self, file: Any, name: str) -> Iterator[Snapshot]:
        rows = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
        header = next(rows, [])
        parse = self._parser([column.strip() for column in header], name)
        for row in rows:
            if (snapshot := self._parsed(parse, row, f"{name}:{rows.line_num}")) is not None:
                yield snapshot

    def _parquet(self, path: Path) -> Iterator[Snapshot]:
        import duckdb  # noqa: PLC0415 - 0.1 s and 25 MB that only a Parquet replay needs

        with closing(duckdb.connect(config={"memory_limit": "256MB", "threads": 1})) as database:
            try:
                result = database.execute("select * from read_parquet(?)", [str(path)])
            except duckdb.Error as error:
                raise ConfigurationError(f"the recording {path} cannot be read: {error}") from error
            parse = self._parser([column[0] for column in result.description], path.name)
            number = 0
            while rows := result.fetchmany(_PARQUET_ROWS):
                for row in rows:
                    number += 1
                    if (snapshot := self._parsed(parse, row, f"{path.name}:{number}")) is not None:
                        yield snapshot

    def _parsed(self, parse: Parse, row: Row, place: str) -> Snapshot | None:
        try:
            return parse(row)
        except (ValueError, IndexError, TypeError, OverflowError) as error:
            self.bad_count += 1
            if len(self.bad_rows) < REMEMBERED_BAD_ROWS:
                self.bad_rows.append(f"{place}: {error}")
            return None

    def _parser(self, header: list[str], name: str) -> Parse:
        columns = {column: number for number, column in enumerate(header)}
        if {"TradingDay", "InstrumentID", "UpdateTime", "UpdateMillisec", "LastPrice"} <= columns.keys():
            return _CtpRows(columns, self._exchange, self._resolve)
        if {"symbol", "exchange", "datetime", "last_price", "bid_price_1"} <= columns.keys():
            return _VnpyRows(columns, self._timezone)
        if {"symbol", "datetime", "last_price", "bid_price1", "ask_price1"} <= columns.keys():
            return _TqsdkRows(columns)
        raise ConfigurationError(
            f"the recording {name} has an unknown header: {', '.join(header[:6]) or 'nothing'}, …; known are CTP's 44 "
            "columns, VnPy's tick columns and tqsdk's"
        )


class _CtpRows:
    """`CThostFtdcDepthMarketDataField`."""

    def __init__(self, columns: dict[str, int], exchange: str, resolve: Resolve) -> None:
        self._exchange = exchange
        self._resolve = resolve
        self._exchanges: dict[tuple[str, str], str] = {}
        self._moments: dict[tuple[str, str, str], tuple[datetime, date]] = {}
        self._volumes: dict[str, tuple[date, float]] = {}
        names = (
            "TradingDay", "InstrumentID", "ExchangeID", "ActionDay", "UpdateTime", "UpdateMillisec", "LastPrice",
            "Volume", "Turnover", "OpenInterest", "UpperLimitPrice", "LowerLimitPrice", "OpenPrice", "HighestPrice",
            "LowestPrice", "PreClosePrice",
        )  # fmt: skip
        missing = [name for name in names if name not in columns]
        if missing:
            raise ConfigurationError(f"a CTP recording lacks the columns {', '.join(missing)}")
        self._at = tuple(columns[name] for name in names)
        self._bids = _pairs(columns, "BidPrice{}", "BidVolume{}")
        self._asks = _pairs(columns, "AskPrice{}", "AskVolume{}")

    def __call__(self, row: Row) -> Snapshot:
        (
            trading, symbol_at, exchange_at, action, clock, millisec, last, volume_at, turnover, interest, up, down,
            opened, high, low, pre_close,
        ) = self._at  # fmt: skip
        symbol = row[symbol_at]
        second, day = self._second(row[action], row[trading], row[clock])
        volume = _number(row[volume_at])
        return Snapshot(
            symbol=symbol,
            exchange=self._exchange_of(symbol, row[exchange_at]),
            time=second + timedelta(milliseconds=int(row[millisec])),
            trading_day=day,
            bids=_levels(row, self._bids),
            asks=_levels(row, self._asks),
            last_price=_number(row[last]),
            last_volume=self._traded(symbol, day, volume),
            volume=volume,
            turnover=_number(row[turnover]),
            open_interest=_number(row[interest]),
            limit_up=_number(row[up]),
            limit_down=_number(row[down]),
            open_price=_number(row[opened]),
            high_price=_number(row[high]),
            low_price=_number(row[low]),
            pre_close=_number(row[pre_close]),
        )

    def _second(self, action: str, trading: str, clock: str) -> tuple[datetime, date]:
        key = (action, trading, clock)
        found = self._moments.get(key)
        if found is None:
            day = datetime.strptime(trading, "%Y%m%d").date()  # noqa: DTZ007 - a day, not a moment
            stated = datetime.strptime(action, "%Y%m%d").date() if action else day  # noqa: DTZ007
            hour, minute, second = map(int, clock.split(":"))
            really = calendar_day(stated, day, hour)
            local = datetime(really.year, really.month, really.day, hour, minute, second, tzinfo=_SHANGHAI)
            if len(self._moments) > 10_000:
                self._moments.clear()
            found = self._moments[key] = (local.astimezone(UTC), day)
        return found

    def _exchange_of(self, symbol: str, named: str) -> str:
        found = self._exchanges.get((symbol, named))
        if found is None:
            found = named or self._exchange or self._resolve(symbol) or ""
            if not found:
                raise ConfigurationError(
                    f"the recording does not name the exchange of {symbol}: set the gateway's `exchange`, or add the "
                    "product to contracts.toml"
                )
            self._exchanges[symbol, named] = found
        return found

    def _traded(self, symbol: str, day: date, volume: float) -> float:
        """Volume counts up through the day; the first tick of a recording says nothing of the last trade."""
        before = self._volumes.get(symbol)
        self._volumes[symbol] = (day, volume)
        if before is None:
            return 0.0
        return max(0.0, volume - before[1]) if before[0] == day else volume


class _VnpyRows:
    """The columns of VnPy's TickData, as its CSV export and our Parquet files have them."""

    def __init__(self, columns: dict[str, int], timezone: ZoneInfo) -> None:
        self._columns = columns
        self._timezone = timezone
        self._bids = _pairs(columns, "bid_price_{}", "bid_volume_{}")
        self._asks = _pairs(columns, "ask_price_{}", "ask_volume_{}")
        plain = (
            "last_price", "last_volume", "volume", "turnover", "open_interest", "limit_up", "limit_down", "open_price",
            "high_price", "low_price", "pre_close",
        )  # fmt: skip
        self._plain = [(name, columns[name]) for name in plain if name in columns]

    def __call__(self, row: Row) -> Snapshot:
        columns = self._columns
        exchange = str(row[columns["exchange"]]).removeprefix("Exchange.")
        time = self._time(row[columns["datetime"]])
        return Snapshot(
            symbol=row[columns["symbol"]],
            exchange=exchange,
            time=time,
            trading_day=trading_day(time, exchange),
            bids=_levels(row, self._bids),
            asks=_levels(row, self._asks),
            **{name: _number(row[at]) for name, at in self._plain},
        )

    def _time(self, value: Any) -> datetime:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=self._timezone)).astimezone(UTC)


class _TqsdkRows:
    """tqsdk's ticks: `SHFE.cu1909`, unix nanoseconds."""

    def __init__(self, columns: dict[str, int]) -> None:
        self._columns = columns
        self._bids = _pairs(columns, "bid_price{}", "bid_volume{}")
        self._asks = _pairs(columns, "ask_price{}", "ask_volume{}")

    def __call__(self, row: Row) -> Snapshot:
        columns = self._columns
        exchange, _, symbol = str(row[columns["symbol"]]).partition(".")
        seconds, nanoseconds = divmod(int(row[columns["datetime"]]), 1_000_000_000)
        time = datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=nanoseconds // 1_000)
        return Snapshot(
            symbol=symbol,
            exchange=exchange,
            time=time,
            trading_day=trading_day(time, exchange),
            bids=_levels(row, self._bids),
            asks=_levels(row, self._asks),
            last_price=_number(row[columns["last_price"]]),
            volume=_number(row[columns["volume"]]),
            turnover=_number(row[columns["amount"]]),
            open_interest=_number(row[columns["open_interest"]]),
            high_price=_number(row[columns["highest"]]),
            low_price=_number(row[columns["lowest"]]),
        )


_SHANGHAI = ZoneInfo("Asia/Shanghai")


def _expand(pattern: str) -> list[Path]:
    """The files of a path or glob, in the order of their names. Raises ConfigurationError where there are none."""
    found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise ConfigurationError(f"there is no recording {pattern}")
    return [Path(name) for name in found]


def _pairs(columns: dict[str, int], price: str, volume: str) -> list[tuple[int, int]]:
    names = ((price.format(level), volume.format(level)) for level in range(1, LEVELS + 1))
    return [(columns[p], columns[v]) for p, v in names if p in columns and v in columns]


def _levels(row: Row, pairs: list[tuple[int, int]]) -> tuple[Level, ...]:
    """The levels that are shown: price and volume above 0."""
    levels = []
    for price_at, volume_at in pairs:
        price = _number(row[price_at])
        if not price:
            break
        volume = _number(row[volume_at])
        if volume:
            levels.append((price, volume))
    return tuple(levels)


@functools.lru_cache(maxsize=100_000)  # the same prices and sizes come again and again: 4 times faster
def _number(text: Any) -> float:
    """A cell as a number; 0 for what is absent. Raises ValueError."""
    if text in ("", "N/A", "0", None):
        return 0.0
    number = float(text)
    if math.isnan(number) or number > ABSENT:
        return 0.0
    if math.isinf(number):
        raise ValueError(f"{text!r} is not a number")
    return number
