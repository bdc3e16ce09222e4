"""Tables in files, read as a stream: CSV (plain, .gz, in a .zip) and Parquet.

What a file is shows in its first bytes, not in its name. Members of an archive are read in the order of their names and
never unpacked. Text is UTF-8, or else GBK. Errors are ValidationFailed, with the file's name and the line reached.
"""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import re
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from io import BufferedIOBase
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vnpy_core.domain.errors import ValidationFailed

BLOCK_ROWS = 1024
"""Rows that are read at once where they cannot be read by the text block."""
PARQUET_ROWS = 16_384
"""Rows that are fetched from a Parquet file at once."""
MAX_LINE = 1 << 20
"""Bytes that a line may have: what is longer is no table."""

_PIECE = 1 << 14
_READ = 1 << 17
_FETCH = 2048
_UNREADABLE = (EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
_LINE_END = re.compile(r"\r\n|\r|\n")

Row = Sequence[Any]
Note = Callable[[int, str], object]
"""Called for what is wrong: the line and the reason."""


class NotText(RuntimeError):
    """What should be CSV has lines that no text has."""


class Block:
    """Some rows of a table, column by column.

    `columns` are lists or tuples of texts, or numpy arrays where the file is typed: numbers, or datetime64, which has
    no zone; they may be masked.
    """

    def __init__(self, columns: list[Any], size: int, line: Callable[[int], int]) -> None:
        self.columns = columns
        self.size = size
        self.line = line
        """The line that a row ends at."""


class Table(ABC):
    """A header and rows: a file, or a member of an archive."""

    name: str
    """For messages."""
    line: int = 0
    """The last line that was read."""
    size: int = 0
    """How much there is to read; of a compressed file its bytes on the disk."""
    position: int = 0
    """How much of that is read."""

    @abstractmethod
    def rows(self) -> Generator[Row, None, None]:
        """The header, then the rows. Raises ValidationFailed where the file cannot be read on."""

    @abstractmethod
    def blocks(self, note: Note) -> Generator[Block, None, None]:
        """The rows without the header. Those of a wrong width are noted and left out, empty ones left out.

        Raises ValidationFailed where the file cannot be read on, after what could be read.
        """

    def header(self) -> list[str]:
        """The columns' names. Raises ValidationFailed."""
        with closing(self.rows()) as rows:
            first = next(rows, None)
        if not first:
            raise ValidationFailed(f"{self.name} is empty")
        return [str(name).strip() for name in first]

    def _broken(self, error: Exception) -> ValidationFailed:
        return ValidationFailed(f"{self.name} cannot be read after line {self.line}: {error}")


def open_tables(path: Path, name: str = "") -> list[Table]:
    """The tables in a file, which is called `name` in messages. Raises ValidationFailed."""
    name = name or str(path)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            size = file.seek(0, io.SEEK_END)
        if magic == b"PAR1":
            return [_Parquet(path, name, size)]
        if magic == b"PK\x03\x04":
            return _members(path, name)
    except _UNREADABLE as error:
        raise ValidationFailed(f"{name} cannot be read: {error}") from error
    return [_File(path, name, size, gzipped=magic[:2] == b"\x1f\x8b")]


def _members(path: Path, name: str) -> list[Table]:
    with _unzipping(), zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if _is_table(info.filename)]
    if not infos:
        raise ValidationFailed(f"{name} has no .csv in it")
    return [_Member(path, name, info) for info in sorted(infos, key=lambda info: info.filename)]


@contextmanager
def _unzipping() -> Iterator[None]:
    """The zipfile module trusts an archive's numbers and falls over them in many ways."""
    try:
        yield
    except (ValueError, LookupError, struct.error) as error:
        raise zipfile.BadZipFile(str(error)) from error


def _is_table(member: str) -> bool:
    return member.lower().endswith(".csv") and "__MACOSX" not in member


# --- CSV ---


class _Text(Table):
    """A CSV table. What differs is where its bytes come from."""

    @abstractmethod
    def _open(self) -> AbstractContextManager[Iterator[bytes]]:
        """The content in pieces; keeps `position`."""

    def rows(self) -> Generator[Row, None, None]:
        self.line = 0
        try:
            with self._open() as pieces:
                reader = csv.reader(_lines(_texts(pieces)))
                for row in reader:
                    self.line = reader.line_num
                    yield row
        except (*_UNREADABLE, csv.Error) as error:
            raise self._broken(error) from error

    def blocks(self, note: Note) -> Generator[Block, None, None]:
        self.line = 0
        try:
            with self._open() as pieces:
                texts = _texts(pieces)
                first = io.StringIO(next(texts, ""), newline="")
                reader = csv.reader(first)
                header = next(reader, [])
                self.line = reader.line_num
                yield from self._blocks(chain([first.read()], texts), header, note)
        except (*_UNREADABLE, csv.Error) as error:
            raise self._broken(error) from error

    def _blocks(self, texts: Iterator[str], header: list[str], note: Note) -> Iterator[Block]:
        for text in texts:
            columns = _split(text, len(header))
            if columns is not None:
                before, size = self.line, len(columns[0])
                self.line += size
                if header[0] in columns[0]:
                    yield _block(list(map(list, zip(*columns, strict=True))), before, header, note)
                else:
                    yield Block(columns, size, lambda row, before=before: before + row + 1)  # type: ignore[misc]
            elif '"' in text:
                # A quoted cell may go on in the next text.
                yield from self._parsed(_lines(chain([text], texts)), header, note)
            else:
                yield from self._parsed(_lines([text]), header, note)

    def _parsed(self, lines: Iterator[str], header: list[str], note: Note) -> Iterator[Block]:
        """The lines by the rules of CSV."""
        reader, start = csv.reader(lines), self.line
        more = True
        while more:
            rows: list[list[str]] = []
            before = self.line
            error = _take(reader, rows)
            self.line = start + reader.line_num
            yield _block(rows, before, header, note)
            if isinstance(error, csv.Error):
                # A quote that never ends; the reader goes on behind what it swallowed.
                note(self.line, f"{error}: {_swallowed(_line_counter(rows, before)(len(rows) - 1) + 1, self.line)}")
            elif error:
                raise error
            more = error is not None or len(rows) == BLOCK_ROWS


def _take(reader: Iterator[list[str]], rows: list[list[str]]) -> Exception | None:
    """Add a block's rows, those too that come before an error, which is returned."""
    try:
        rows.extend(islice(reader, BLOCK_ROWS))
    except (*_UNREADABLE, csv.Error) as error:
        return error
    return None


class _File(_Text):
    def __init__(self, path: Path, name: str, size: int, *, gzipped: bool) -> None:
        self._path, self._gzipped = path, gzipped
        self.name, self.size = name, size

    @contextmanager
    def _open(self) -> Iterator[Iterator[bytes]]:
        with self._path.open("rb") as file:
            if not self._gzipped:
                yield self._pieces(file, file)
                return
            with gzip.GzipFile(fileobj=file) as unzipped:
                yield self._pieces(unzipped, file)

    def _pieces(self, source: BufferedIOBase, file: BinaryIO) -> Iterator[bytes]:
        while piece := source.read1(_PIECE):
            self.position = file.tell()
            yield piece


class _Member(_Text):
    def __init__(self, path: Path, name: str, info: zipfile.ZipInfo) -> None:
        self._path, self._info = path, info
        self.name, self.size = f"{name}/{info.filename}", info.file_size

    @contextmanager
    def _open(self) -> Iterator[Iterator[bytes]]:
        with ExitStack() as opened:
            with _unzipping():
                archive = opened.enter_context(zipfile.ZipFile(self._path))
                member = opened.enter_context(archive.open(self._info))
            yield self._pieces(member)

    def _pieces(self, member: Any) -> Iterator[bytes]:
        self.position = 0
        while piece := member.read1(_PIECE):
            self.position += len(piece)
            yield piece


class _Decoder:
    """Bytes to text, whole lines at a time: the first line that is not ASCII shows whether it is UTF-8 or GBK."""

    def __init__(self) -> None:
        self._encoding = ""

    def __call__(self, lines: bytes) -> str:
        if self._encoding:
            return lines.decode(self._encoding, "replace")
        if lines.isascii():
            return lines.decode("ascii")
        for encoding in ("utf-8", "gb18030"):
            try:
                text = lines.decode(encoding)
            except UnicodeDecodeError:
                continue
            self._encoding = encoding
            return text
        return lines.decode("utf-8", "replace")


def _texts(pieces: Iterable[bytes]) -> Iterator[str]:
    """Whole lines at a time. Raises NotText for UTF-16 and for lines without end."""
    decode, rest = _Decoder(), b""
    is_first = True
    for piece in _gathered(pieces):
        data = rest + piece
        if is_first:
            if data.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise NotText("it is UTF-16; save it as UTF-8")
            data, is_first = data.removeprefix(b"\xef\xbb\xbf"), False
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if len(rest) > MAX_LINE:
            raise NotText(f"a line of more than {MAX_LINE:,} bytes")
        if end:
            yield decode(data[:end])
    if rest:
        yield decode(rest)


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Larger pieces; what came before an error is given before it."""
    waiting: list[bytes] = []
    try:
        for piece in pieces:
            waiting.append(piece)
            if sum(map(len, waiting)) >= _READ:
                yield b"".join(waiting)
                waiting.clear()
    except _UNREADABLE:
        yield b"".join(waiting)
        raise
    yield b"".join(waiting)


def _lines(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from io.StringIO(text, newline="")


def _split(text: str, width: int) -> list[list[str]] | None:
    """The columns of lines that all have so many cells, and either no quotes or all cells in quotes; else None.

    This is what most files are, and several times as quick as reading row by row.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    text = text.removesuffix("\n")
    if "\r" in text or not text:
        return None
    size, comma = text.count("\n") + 1, ","
    if quotes := text.count('"'):
        # Each quote is one that begins or ends a cell.
        if (quotes, text.count('","'), text.count('"\n"')) != (2 * width * size, (width - 1) * size, size - 1):
            return None
        if text[0] != '"' or text[-1] != '"':
            return None
        text, comma = text[1:-1].replace('"\n"', '","\n'), '","'
    else:
        text = text.replace("\n", ",\n")
    cells = text.split(comma)
    columns = [cells[place::width] for place in range(width)]
    # Each line, and nothing else, begins in the first column.
    columns[0] = "".join(columns[0]).split("\n")
    return columns if len(cells) == width * size and len(columns[0]) == size else None


def _block(rows: list[list[str]], before: int, header: list[str], note: Note) -> Block:
    """The rows by columns; those of a wrong width are noted, empty ones and repeated headers are left out."""
    width = len(header)
    line = _line_counter(rows, before)
    if set(map(len, rows)) - {width} or header in rows:
        kept = []
        for n, row in enumerate(rows):
            if len(row) == width and row != header:
                kept.append(n)
            elif row and row != header:
                first, last = line(n - 1) + 1, line(n)
                more = f": {_swallowed(first, last)}" if last > first else ""
                note(last, f"{len(row)} columns instead of {width}{more}")
        rows, of_row = [rows[n] for n in kept], line
        line = lambda n: of_row(kept[n])  # noqa: E731
    columns = list(zip(*rows, strict=True)) if rows else [()] * width
    return Block(columns, len(rows), line)


def _swallowed(first: int, last: int) -> str:
    return f"a quote that begins in line {first} takes in all up to line {last}"


def _line_counter(rows: list[list[str]], before: int) -> Callable[[int], int]:
    """Tells a row's last line (of -1: that before all). Quoted line ends are looked for only when asked."""
    lines: list[int] = []

    def line(n: int) -> int:
        if not lines:
            ends = (1 + sum(len(_LINE_END.findall(cell)) for cell in row) for row in rows)
            lines.extend(accumulate(ends, initial=before))
        return lines[n + 1]

    return line


# --- Parquet ---


class _Parquet(Table):
    def __init__(self, path: Path, name: str, size: int) -> None:
        self._path = str(path)
        self.name, self.size = name, size

    def rows(self) -> Generator[Row, None, None]:
        """As those of a CSV file, but with numbers and times as they are."""
        with self._database() as database:
            columns = self._columns(database)
            yield [name for name, _ in columns]
            # A time with a zone would need pytz on its way out.
            wanted = ", ".join(_scalar(name, kind) for name, kind in columns)
            result = database.execute(f"select {wanted} from read_parquet(?)", [self._path])  # noqa: S608 - its own columns
            while chunk := result.fetchmany(_FETCH):
                for row in chunk:
                    self.line += 1
                    yield row

    def blocks(self, note: Note) -> Generator[Block, None, None]:
        with self._database() as database:
            columns = self._columns(database)
            wanted = ", ".join(f"{_scalar(name, kind)} as c{n}" for n, (name, kind) in enumerate(columns))
            query = (
                f"select {wanted} from read_parquet(?, file_row_number = true)"  # noqa: S608 - its own columns
                " where file_row_number >= ? and file_row_number < ?"
            )
            total = database.execute("select count(*) from read_parquet(?)", [self._path]).fetchone()[0]
            whole = self.size
            for start in range(0, total, PARQUET_ROWS):
                end = min(start + PARQUET_ROWS, total)
                arrays = database.execute(query, [self._path, start, end]).fetchnumpy().values()
                yield Block([_cells(array) for array in arrays], end - start, lambda n, start=start: start + n + 1)  # type: ignore[misc]
                self.line, self.position = end, whole * end // total

    @contextmanager
    def _database(self) -> Iterator[Any]:
        import duckdb  # noqa: PLC0415 - large, and only Parquet needs it

        self.line = self.position = 0
        try:
            with duckdb.connect(config={"memory_limit": "256MB", "threads": 1}) as database:
                yield database
        except duckdb.Error as error:
            raise ValidationFailed(f"{self.name} cannot be read after row {self.line}: {error}") from error

    def _columns(self, database: Any) -> list[tuple[str, str]]:
        described = database.execute("describe select * from read_parquet(?)", [self._path]).fetchall()
        return [(column[0], column[1]) for column in described]


def _cells(array: Any) -> Any:
    """Texts as those of a CSV file, None where there is none; numbers and times as they are."""
    if array.dtype.kind != "O":
        return array
    texts = np.ma.getdata(array)
    texts[np.ma.getmaskarray(array)] = None
    return texts.tolist()


_NUMBERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|BOOLEAN")


def _scalar(name: str, kind: str) -> str:
    """A column as numpy and Python have it too: numbers, text, naive times, or nanoseconds for times with a zone."""
    quoted = '"' + name.replace('"', '""') + '"'
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"epoch_us({quoted}) * 1000"
    if kind.startswith("TIMESTAMP") or kind == "DATE":
        return f"cast({quoted} as timestamp)"
    if kind.startswith("DECIMAL"):
        return f"cast({quoted} as double)"
    if _NUMBERS.fullmatch(kind) or kind == "VARCHAR":
        return quoted
    return f"cast({quoted} as varchar)"
