"""Bars for keeps, built of stored ticks: what VnPy's `load_bar_data` gives, which knows stored bars only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vnpy_core.domain.bars import COLUMNS, Period, bars_from_ticks, end_of, span_of
from vnpy_core.domain.history import FIRST_NS, LAST_NS, Interval, Merged, Series, TickArray
from vnpy_core.ports.timeseries import TimeSeriesStore


def build_bars(
    store: TimeSeriesStore,
    series: Series,
    interval: Interval,
    start_ns: int,
    end_ns: int,
    on_progress: Callable[[int], None] = lambda ticks: None,
) -> Merged:
    """Store the bars that the ticks of a range give, whole bars at both ends; those that are there are written over.

    `on_progress` hears how many ticks were read so far. Blocks. Raises TimeSeriesUnavailable, StorageFull.
    """
    period = Period.parse(interval)
    if start_ns > FIRST_NS:
        start_ns = span_of(start_ns, period, series.exchange)[0]
    if end_ns < LAST_NS:
        end_ns = end_of(end_ns - 1, period, series.exchange)

    def ticks() -> Iterator[TickArray]:
        count = 0
        for rows in store.ticks(series, start_ns, end_ns, columns=COLUMNS):
            count += len(rows)
            yield rows
            on_progress(count)

    before = store.last_ticks(series, start_ns, 1)
    done = Merged(0, 0)
    for bars in bars_from_ticks(ticks(), period, series.exchange, before):
        done += store.merge_bars(series, interval, bars)
    return done
