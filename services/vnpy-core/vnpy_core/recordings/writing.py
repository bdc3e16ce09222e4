"""Ticks and bars of one series into a file, chunk by chunk; what is read from it again is equal to the bit.

CSV is VnPy's: DataManager's export for bars, the fields of TickData for ticks. Its times are naive and of the given
zone, as DataManager writes and expects them; a zone with summer time has one hour a year that cannot be told from the
next. Parquet has VnPy's fields too; its `datetime` is a time with a zone, and `localtime` is unix nanoseconds.

Ordinals are not written: the order of the rows says the same.
"""

from __future__ import annotations

import csv
import errno
import io
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from vnpy_core.domain.errors import StorageFull
from vnpy_core.domain.history import BAR_NUMBERS, NS, TICK_NUMBERS, US, BarArray, Series, TickArray
from vnpy_core.domain.symbols import vt_symbol
from vnpy_core.recordings.values import Clock, zone

FileFormat = Literal["csv", "parquet"]

_BLOCK = 4_096
"""Rows that are formatted at once."""
_DATA_MANAGER = {name: name.removesuffix("_price") for name in BAR_NUMBERS}
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_ticks(
    chunks: Iterable[TickArray],
    series: Series,
    out: Path | BinaryIO,
    format: FileFormat = "csv",
    timezone: str = "Asia/Shanghai",
) -> int:
    """Write ticks to a path or a stream, which need not seek, and return their number.

    Raises ValidationFailed (unknown zone), StorageFull, and OSError where `out` cannot be written otherwise.
    """
    if format == "parquet":
        return _write_parquet(chunks, series, out, TICK_NUMBERS, ", nullif(localtime, 0) as localtime")
    header = ("symbol", "exchange", "datetime", *TICK_NUMBERS, "localtime")
    return _write_csv(chunks, series, out, header, _Cells(series, timezone, TICK_NUMBERS).of_ticks)


def write_bars(
    chunks: Iterable[BarArray],
    series: Series,
    out: Path | BinaryIO,
    format: FileFormat = "csv",
    timezone: str = "Asia/Shanghai",
) -> int:
    """Write bars and return their number; as `write_ticks`."""
    if format == "parquet":
        return _write_parquet(chunks, series, out, BAR_NUMBERS, "")
    header = ("symbol", "exchange", "datetime", *_DATA_MANAGER.values())
    return _write_csv(chunks, series, out, header, _Cells(series, timezone, BAR_NUMBERS).of_bars)


# --- CSV ---

Column = Sequence[Any]


class _Cells:
    """Rows as columns of cells; the csv module writes a float by its shortest digits that are exact."""

    def __init__(self, series: Series, timezone: str, numbers: tuple[str, ...]) -> None:
        self._series, self._numbers = series, numbers
        self._clock = Clock(zone(timezone))

    def of_ticks(self, ticks: TickArray) -> list[Column]:
        received = ticks["localtime"]
        times = self._clock.local_text(received, "ns" if (received % US).any() else "us")
        local = [time if known else "" for time, known in zip(times, received.tolist(), strict=True)]
        return [*self._common(ticks, "us"), local]

    def of_bars(self, bars: BarArray) -> list[Column]:
        return self._common(bars, "us" if (bars["ts"] % NS).any() else "s")

    def _common(self, rows: TickArray | BarArray, unit: str) -> list[Column]:
        size = len(rows)
        # VnPy writes an exchange's value, the suffix of its vt_symbols.
        names = [[self._series.symbol] * size, [vt_symbol("", self._series.exchange)[1:]] * size]
        return [*names, self._clock.local_text(rows["ts"], unit), *(_floats(rows[name]) for name in self._numbers)]


def _floats(column: npt.NDArray[np.float64]) -> Column:
    bits = column.view(np.int64)  # which tell 0.0 from -0.0
    if (bits == bits[0]).all():
        return [repr(float(column[0]))] * len(column)
    numbers: list[float] = column.tolist()
    return numbers


def _write_csv(
    chunks: Iterable[npt.NDArray[np.void]],
    series: Series,
    out: Path | BinaryIO,
    header: tuple[str, ...],
    columns: Callable[[npt.NDArray[np.void]], list[Column]],
) -> int:
    count = 0
    with _full_disk(), _text(out) as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        for chunk in chunks:
            for start in range(0, len(chunk), _BLOCK):
                rows = chunk[start : start + _BLOCK]
                writer.writerows(zip(*columns(rows), strict=True))
                count += len(rows)
    return count


@contextmanager
def _text(out: Path | BinaryIO) -> Iterator[io.TextIOWrapper]:
    if isinstance(out, Path):
        with out.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    text = io.TextIOWrapper(out, encoding="utf-8", newline="")
    try:
        yield text
    finally:
        text.detach()


# --- Parquet ---


def _write_parquet(
    chunks: Iterable[npt.NDArray[np.void]], series: Series, out: Path | BinaryIO, numbers: tuple[str, ...], more: str
) -> int:
    """Rows wait in a database beside `out` until all are there, for a Parquet file is written in one go."""
    import duckdb  # noqa: PLC0415 - large, and only Parquet needs it

    count = 0
    with _full_disk(duckdb.Error), tempfile.TemporaryDirectory(dir=_folder(out), prefix=".export-") as folder:
        made = Path(folder, "rows.parquet")
        settings = {"memory_limit": "256MB", "threads": 1, "temp_directory": folder}
        with duckdb.connect(str(Path(folder, "rows.duckdb")), config=settings) as database:
            times = "ts bigint, localtime bigint" if more else "ts bigint"
            database.execute(f"create table waiting ({times}, {', '.join(f'{name} double' for name in numbers)})")
            for chunk in chunks:
                rows = {name: np.ascontiguousarray(chunk[name]) for name in chunk.dtype.names or ()}
                database.register("chunk", rows)
                database.execute("insert into waiting by name select * from chunk")
                database.unregister("chunk")
                count += len(chunk)
            columns = f"make_timestamptz(ts // 1000) as datetime, {', '.join(numbers)}{more}"
            database.execute(
                f"copy (select $symbol as symbol, $exchange as exchange, {columns} from waiting) to $out"  # noqa: S608 - own names
                " (format parquet, compression zstd)",
                {"symbol": series.symbol, "exchange": series.exchange, "out": str(made)},
            )
        if isinstance(out, Path):
            made.replace(out)
        else:
            with made.open("rb") as file:
                shutil.copyfileobj(file, out)
    return count


def _folder(out: Path | BinaryIO) -> Path | None:
    """Where there is room for a file that is to become `out`."""
    if isinstance(out, Path):
        return out.parent
    name = getattr(out, "name", None)
    return Path(name).parent if isinstance(name, str) and Path(name).is_file() else None


@contextmanager
def _full_disk(*kinds: type[Exception]) -> Iterator[None]:
    """A disk that is full is StorageFull; `kinds` are errors that tell it by their text only."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(f"no space is left for the file: {error.strerror}") from error
        raise
    except kinds as error:
        if "space left" in str(error) or "disk quota" in str(error).lower():
            raise StorageFull("no space is left for the file") from error
        raise OSError(str(error)) from error
