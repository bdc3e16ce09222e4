"""What reading ticks and reading bars have in common: whose rows they are, what is wrong with some, and the chunks."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vnpy_core.domain.errors import FieldError, ValidationFailed
from vnpy_core.domain.history import Series
from vnpy_core.domain.symbols import exchange_name
from vnpy_core.recordings.files import Block, Table, open_tables
from vnpy_core.recordings.formats import Format, NameStyle, find_format, mapped_format
from vnpy_core.recordings.values import Cells, Clock, Note, coded, zone

CHUNK_ROWS = 50_000
"""Rows of one series that are handed over at once, at most."""
WAITING_ROWS = 100_000
"""Rows of all series that wait for more of their kind, at most."""
MAX_BAD = 1_000
"""So many bad rows are kept with their reasons; all are counted."""

Rows = npt.NDArray[np.void]

_SYMBOL = re.compile(r"[^\x00-\x1f\x7f\ufffd]{1,64}")
_EXCHANGE = re.compile(r"[A-Za-z0-9_]{1,32}")


class BadRow(msgspec.Struct, frozen=True):
    """A row that was left out."""

    place: str
    """`file.csv:17`"""
    reason: str


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Which file, and what it does not say itself."""

    path: Path
    format: str = "auto"
    mapping: dict[str, str] = {}
    """Our names of columns to the file's; makes the format `columns`."""
    symbol: str = ""
    """Of rows that have no symbol."""
    exchange: str = ""
    """Of rows that have no exchange; else `resolve_exchange` is asked."""
    timezone: str = "Asia/Shanghai"
    """Of times that name none."""
    datetime_format: str = ""
    """As of `strptime`; without one, ISO 8601 and unix times are known."""
    name: str = ""
    """What the file is called in messages."""
    resolve_exchange: Callable[[str], str | None] = lambda symbol: None
    """A symbol's exchange, where it is known."""
    on_read: Callable[[float], None] = lambda fraction: None
    """Called again and again with how much of the file is read, 0 to 1."""


class Reader(ABC):
    """A file as chunks; iterating again begins anew. Bad rows are left out and noted."""

    bad: list[BadRow]
    """The first thousand rows that were left out."""
    bad_count: int
    """How many rows were left out so far."""
    rows: int
    """How many rows were read so far and are good."""
    fraction_read: float
    """How much of the file is read, 0 to 1, by its bytes on the disk."""

    def __init__(
        self, source: Source, formats: Sequence[Format], known: frozenset[str], required: tuple[str, ...]
    ) -> None:
        """`formats` are those that may be found, `known` and `required` the columns that a mapping may and must have.

        Raises ValidationFailed for a file that cannot be read, columns that are not those of the format, a wrong
        mapping and an unknown time zone.
        """
        self._source = source
        self._clock = Clock(zone(source.timezone), source.datetime_format)
        self._contracts = _Contracts(source)
        tables = open_tables(source.path, source.name)
        self._tables = [(table, self._layout(table, formats, known, required)) for table in tables]
        self._begin()

    def _layout(
        self, table: Table, formats: Sequence[Format], known: frozenset[str], required: tuple[str, ...]
    ) -> Layout:
        source, header = self._source, table.header()
        if any("\0" in name or "\ufffd" in name for name in header):
            raise ValidationFailed(f"{table.name} is no table: its first line is neither UTF-8 nor GBK text")
        given = frozenset({"symbol"} if source.symbol else ())
        if source.mapping or source.format == "columns":
            if source.format not in ("auto", "columns"):
                raise ValidationFailed(f"the format {source.format} needs no mapping", errors=[_NO_MAPPING])
            form = mapped_format(source.mapping, known, required)
            if not given and "symbol" not in form.columns:
                raise ValidationFailed("neither a symbol nor a column of symbols is given", errors=[_WHOSE])
            if missing := form.missing(header):
                raise ValidationFailed(f"{table.name} has no column {', '.join(missing)}")
        else:
            form = find_format(table.name, header, source.format, formats, given)
        return Layout(form, header)

    def _begin(self) -> None:
        self.bad, self.bad_count, self.rows, self.fraction_read = [], 0, 0, 0.0

    def _chunks(self, gathering: Gathering) -> Iterator[tuple[Series, Rows]]:
        """All rows by series. Raises ValidationFailed for what could not be read, after all that could."""
        broken: list[ValidationFailed] = []
        whole = sum(table.size for table, _ in self._tables) or 1
        done = 0
        for table, layout in self._tables:
            try:
                for series, rows in self._converted(table, layout, done, whole):
                    yield from gathering.add(series, rows)
            except ValidationFailed as error:
                broken.append(error)
            done += table.size
        yield from gathering.rest()
        if broken:
            raise ValidationFailed("; ".join(error.detail for error in broken))

    def _converted(self, table: Table, layout: Layout, done: int, whole: int) -> Iterator[tuple[Series, Rows]]:
        notes: dict[int, str] = {}
        try:
            for block in table.blocks(notes.setdefault):
                wrong: dict[int, str] = {}
                found = self._contracts.of(block, layout, wrong.setdefault) if block.size else []
                rows = self._convert(block, layout, found, wrong.setdefault)
                for row, reason in wrong.items():
                    notes.setdefault(block.line(row), reason)
                self._note(table, notes)
                self.fraction_read = min((done + table.position) / whole, 1.0)
                self._source.on_read(self.fraction_read)
                good = np.ones(block.size, bool)
                good[list(wrong)] = False
                for series, places in found:
                    mine = places[good[places]]
                    self.rows += len(mine)
                    if len(mine):
                        own = rows if len(mine) == block.size else rows[mine]
                        yield series, self._finish(series, block, layout, own, mine)
        finally:
            self._note(table, notes)

    @abstractmethod
    def _convert(self, block: Block, layout: Layout, found: Found, note: Note) -> Rows:
        """A block's rows, in its order, those too that are noted."""

    @abstractmethod
    def _finish(self, series: Series, block: Block, layout: Layout, rows: Rows, places: npt.NDArray[np.intp]) -> Rows:
        """One series' good rows, which lie at `places` of the block."""

    def _moments(self, block: Block, layout: Layout, note: Note) -> npt.NDArray[np.int64]:
        cells = layout.cells(block, "datetime")
        if cells is None:
            days, times = (_texts(layout.cells(block, name), block.size) for name in ("date", "time"))
            cells = [f"{day}T{time}" for day, time in zip(days, times, strict=True)]
        return self._clock.moments(cells, note)

    def _note(self, table: Table, notes: dict[int, str]) -> None:
        self.bad_count += len(notes)
        for line in sorted(notes)[: MAX_BAD - len(self.bad)]:
            self.bad.append(BadRow(f"{table.name}:{line}", notes[line]))
        notes.clear()


class Layout:
    """Where a file has what."""

    def __init__(self, form: Format, header: Sequence[str]) -> None:
        self.form = form
        self._places = form.places(header)

    def has(self, name: str) -> bool:
        """Whether the file has one of our columns."""
        return name in self._places

    def cells(self, block: Block, name: str) -> Cells | None:
        """One of our columns, None where the file has none."""
        place = self._places.get(name)
        return None if place is None else block.columns[place]

    def texts(self, block: Block, name: str) -> Sequence[str]:
        """One of our columns as texts, empty ones where there is none."""
        return _texts(self.cells(block, name), block.size)


Found = list[tuple[Series, npt.NDArray[np.intp]]]
"""The series of a block, and which rows are theirs, in order."""


class _Contracts:
    """Whose row it is."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._known: dict[tuple[str, str], Series | str] = {}
        """By what a row says; a reason where that is wrong."""

    def of(self, block: Block, layout: Layout, note: Note) -> Found:
        """The block's rows by series; those without are noted."""
        style = layout.form.names
        keys, of_row = coded(layout.texts(block, "symbol"), layout.texts(block, "exchange"))
        found: dict[Series, npt.NDArray[np.intp]] = {}
        for code, (symbol, exchange) in enumerate(keys):
            series, rows = self._series((symbol, exchange), style), np.flatnonzero(of_row == code)
            if isinstance(series, str):
                for row in rows.tolist():
                    note(row, series)
            elif series in found:
                found[series] = np.sort(np.concatenate([found[series], rows]))
            else:
                found[series] = rows
        return list(found.items())

    def _series(self, key: tuple[str, str], style: NameStyle) -> Series | str:
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= 65536:
                self._known.clear()
            known = self._known[key] = self._find(*_named(*key, style))
        return known

    def _find(self, symbol: str, given: str) -> Series | str:
        symbol = symbol or self._source.symbol
        if not symbol:
            return "no symbol"
        if not _SYMBOL.fullmatch(symbol):
            return f"{symbol[:40]!r} is no symbol"
        exchange = given.rpartition(".")[2] or self._source.exchange or self._source.resolve_exchange(symbol) or ""
        if not exchange:
            return f"no exchange is known for {symbol}"
        if not _EXCHANGE.fullmatch(exchange):
            return f"{exchange[:40]!r} is no exchange"
        return Series(symbol, exchange_name(exchange))


def _named(symbol: str, exchange: str, style: NameStyle) -> tuple[str, str]:
    symbol, exchange = symbol.strip(), exchange.strip()
    if style == "symbol":
        return symbol, exchange
    if style == "tqsdk":
        exchange, _, symbol = symbol.rpartition(".")
    else:
        symbol, _, exchange = symbol.rpartition(".")
    return symbol, exchange


class Gathering:
    """Rows by series, until there are enough for a chunk or too many altogether; chunks are sorted by time.

    Rows of one microsecond that follow each other are not parted, unless they are more than a chunk.
    """

    def __init__(self) -> None:
        self._waiting: dict[Series, list[Rows]] = {}
        self._counts: dict[Series, int] = {}
        self._total = 0

    def add(self, series: Series, rows: Rows) -> Iterator[tuple[Series, Rows]]:
        """Take rows; gives the chunks that are due."""
        if self._counts.get(series, 0) + len(rows) > CHUNK_ROWS:
            yield self._give(series)
        self._waiting.setdefault(series, []).append(rows)
        self._counts[series] = self._counts.get(series, 0) + len(rows)
        self._total += len(rows)
        while self._total > WAITING_ROWS:
            yield self._give(max(self._counts, key=self._counts.__getitem__))

    def rest(self) -> Iterator[tuple[Series, Rows]]:
        """What is left."""
        for series, parts in self._waiting.items():
            rows = np.concatenate(parts)
            if len(rows):
                yield series, _sorted(rows)
        self._waiting, self._counts, self._total = {}, {}, 0

    def _give(self, series: Series) -> tuple[Series, Rows]:
        rows = np.concatenate(self._waiting.pop(series))
        earlier = np.flatnonzero(rows["ts"] != rows["ts"][-1])
        end = int(earlier[-1]) + 1 if len(earlier) else len(rows)
        self._waiting[series], self._counts[series] = [rows[end:].copy()], len(rows) - end
        self._total -= end
        return series, _sorted(rows[:end])


def _texts(cells: Cells | None, size: int) -> Sequence[str]:
    if cells is None:
        return [""] * size
    if isinstance(cells, np.ndarray):
        cells = [str(value) for value in np.ma.filled(cells.astype(object), "").tolist()]
    return ["" if cell is None else cell for cell in cells] if None in cells else cells


_NO_MAPPING = FieldError("mapping", "a known format has none")
_WHOSE = FieldError("vt_symbol", "is missing")


def _sorted(rows: Rows) -> Rows:
    """By time; rows of one time keep their order."""
    times: Any = rows["ts"]
    return rows if (times[:-1] <= times[1:]).all() else rows[np.argsort(times, kind="stable")]
