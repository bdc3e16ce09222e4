"""Downloads: a contract's history from its gateway or VnPy's datafeed into the store, slice by slice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vnpy_core.domain.history import Interval, Merged, Series, to_datetime, to_ns
from vnpy_core.features.market_data.jobspec import OnProgress
from vnpy_core.features.market_data.workers import Workers
from vnpy_core.ports.history_source import HistorySource
from vnpy_core.ports.timeseries import TimeSeriesStore

TICK_SLICE = timedelta(days=1)
BAR_SLICES = {
    Interval.MINUTE: timedelta(days=31),
    Interval.HOUR: timedelta(days=366),
    Interval.DAILY: timedelta(days=3660),
    Interval.WEEKLY: timedelta(days=3660),
}
"""What is asked for at a time: some ten thousand rows, so that progress shows and memory stays small."""


class DownloadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to download: `start <= datetime < end`."""

    series: Series
    interval: Interval | None
    """None: ticks."""
    start: datetime
    end: datetime
    gateway_name: str = ""
    """Empty: VnPy's choice, the gateway that offers the contract's history, else the datafeed."""


class Downloaded(msgspec.Struct, kw_only=True):
    """What came."""

    rows: int = 0
    added: int = 0
    known: int = 0
    """Rows that were there already."""
    start: datetime | None = None
    end: datetime | None = None
    """Times of the first and the last row; None where none came."""


async def download(
    spec: DownloadSpec, source: HistorySource, store: TimeSeriesStore, workers: Workers, on_progress: OnProgress
) -> dict[str, Any]:
    """Do it; each slice is durable before the next is asked for. Returns a `Downloaded` as plain types.

    Raises NotFound, GatewayRefused, ConfigurationError (no datafeed), TimeSeriesUnavailable, StorageFull.
    """
    done = Downloaded()
    for start, end in slices(spec):
        rows = await _ask(spec, source, start, end)
        rows = rows[(rows["ts"] >= to_ns(start)) & (rows["ts"] < to_ns(end))]  # some sources give more than asked for
        if len(rows):
            merged = await workers.call(partial(_merge, spec, store, rows))
            done.rows += len(rows)
            done.added += merged.added
            done.known += merged.known
            done.start = done.start or to_datetime(int(rows["ts"].min()))
            done.end = to_datetime(int(rows["ts"].max()))
        on_progress((end - spec.start) / (spec.end - spec.start), f"{done.rows} rows until {end:%Y-%m-%d}")
    result: dict[str, Any] = msgspec.to_builtins(done)
    return result


def slices(spec: DownloadSpec) -> Iterator[tuple[datetime, datetime]]:
    """The range in pieces."""
    step = BAR_SLICES[spec.interval] if spec.interval else TICK_SLICE
    start = spec.start
    while start < spec.end:
        end = min(start + step, spec.end)
        yield start, end
        start = end


async def _ask(spec: DownloadSpec, source: HistorySource, start: datetime, end: datetime) -> npt.NDArray[np.void]:
    name = spec.series.vt_symbol
    if spec.interval is None:
        return await source.query_ticks(name, start, end)
    return await source.query_bars(name, spec.interval, start, end, spec.gateway_name)


def _merge(spec: DownloadSpec, store: TimeSeriesStore, rows: npt.NDArray[np.void]) -> Merged:
    if spec.interval is None:
        return store.merge_ticks(spec.series, rows)
    return store.merge_bars(spec.series, spec.interval, rows)
