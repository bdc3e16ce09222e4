"""Ranges of the store into files. It blocks for as long as the range is long: run it in a job's own process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from vnpy_core.domain.errors import FieldError, ValidationFailed
from vnpy_core.domain.history import FIRST_NS, LAST_NS, Interval, Series
from vnpy_core.domain.symbols import exchange_name
from vnpy_core.features.market_data.importing import OnProgress, stored_interval
from vnpy_core.ports.timeseries import TimeSeriesStore
from vnpy_core.recordings.writing import write_bars, write_ticks


class ExportSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to export."""

    kind: Literal["bar", "tick"]
    vt_symbol: str
    interval: str = "1m"
    """Of bars."""
    start_ns: int = FIRST_NS
    end_ns: int = LAST_NS
    """The range, its end not included."""
    format: Literal["csv", "parquet"] = "csv"
    timezone: str = "Asia/Shanghai"
    """Of the times in a CSV file."""


def run_export(spec: ExportSpec, store: TimeSeriesStore, out: Path | BinaryIO, on_progress: OnProgress) -> int:
    """Write the range to a path or a stream, which need not seek, and return the number of rows.

    Raises ValidationFailed, TimeSeriesUnavailable, StorageFull, and OSError where `out` breaks (a reader that left).
    """
    symbol, _, exchange = spec.vt_symbol.rpartition(".")
    if not symbol or not exchange:
        detail = f"{spec.vt_symbol!r} is not symbol.exchange"
        raise ValidationFailed(detail, errors=[FieldError("vt_symbol", detail)])
    series = Series(symbol, exchange_name(exchange))
    if spec.kind == "tick":
        chunks = store.ticks(series, spec.start_ns, spec.end_ns)
        told = _told(chunks, _range(spec, store, series, None), on_progress)
        return write_ticks(told, series, out, spec.format, spec.timezone)
    interval = stored_interval(spec.interval)
    chunks = store.bars(series, interval, spec.start_ns, spec.end_ns)
    told = _told(chunks, _range(spec, store, series, interval), on_progress)
    return write_bars(told, series, out, spec.format, spec.timezone)


def _range(spec: ExportSpec, store: TimeSeriesStore, series: Series, interval: Interval | None) -> tuple[int, int]:
    """Where the rows of the range begin and end, about."""
    for known in store.overview():
        if (known.series, known.interval) == (series, interval):
            return max(spec.start_ns, known.start_ns), min(spec.end_ns, known.end_ns)
    return spec.start_ns, spec.end_ns


def _told(
    chunks: Iterable[npt.NDArray[np.void]], span: tuple[int, int], on_progress: OnProgress
) -> Iterator[npt.NDArray[np.void]]:
    """The chunks; progress is told by how far in time they are."""
    count, (start, end) = 0, span
    for chunk in chunks:
        yield chunk
        count += len(chunk)
        done = (int(chunk["ts"][-1]) - start) / max(end - start, 1)
        on_progress(min(max(done, 0.0), 1.0), f"{count:,} rows")
    on_progress(1.0, f"{count:,} rows")
