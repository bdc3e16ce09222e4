"""VnPy's own database on the tick and bar store: CtaEngine, DataManager, charts and backtests read and write it.

Times without a zone are in VnPy's `database.timezone` (DB_TZ), as they are for VnPy's other drivers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from itertools import repeat
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from vnpy.trader.constant import Exchange, Interval
from vnpy.trader.database import DB_TZ, BarOverview, BaseDatabase, TickOverview
from vnpy.trader.object import BarData, TickData

from vnpy_core.domain import history
from vnpy_core.domain.bars import COLUMNS, Period, bars_from_bars, bars_from_ticks, end_of, span_of
from vnpy_core.domain.errors import TimeSeriesUnavailable, ValidationFailed
from vnpy_core.domain.history import (
    BAR_NUMBERS,
    FIRST_NS,
    LAST_NS,
    TICK_NUMBERS,
    US,
    BarArray,
    Series,
    TickArray,
)
from vnpy_core.kit.clock import SystemClock
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.timeseries import TimeSeriesStore

GATEWAY_NAME = "DB"
"""What VnPy's drivers give as the origin of what they load."""

_INTERVALS = {interval: history.Interval(interval.value) for interval in Interval if interval is not Interval.TICK}
_EPOCH = history.to_datetime(0)
_LOOK_BACK = 100
"""Among so many ticks before a range one with a price is looked for: what the first bar's volume counts from."""
_Data = TypeVar("_Data", BarData, TickData)
_Rows = npt.NDArray[np.void]

_provided: TimeSeriesStore | None = None


def provide(store: TimeSeriesStore | None) -> None:
    """Give this process's store to VnPy, or with None take it back. Any thread; before anything is loaded from it."""
    global _provided  # noqa: PLW0603 - VnPy keeps one database a process, and makes it itself
    _provided = store


def provided() -> TimeSeriesStore | None:
    """The store that this process's service has given."""
    return _provided


class CoreDatabase(BaseDatabase):  # type: ignore[misc]
    """VnPy's database driver. Any thread; calls block, and raise what the store raises."""

    def __init__(self, store: TimeSeriesStore | None = None, clock: Clock | None = None) -> None:
        """On the store that is provided at the time of a call, or if none is, on `store`."""
        self._own = store
        self._clock = clock or SystemClock()
        self._names: dict[Series, str] = {}

    @property
    def store(self) -> TimeSeriesStore:
        """Where the data is. Raises TimeSeriesUnavailable after the service has stopped."""
        store = _provided or self._own
        if store is None:
            raise TimeSeriesUnavailable("the tick and bar store is closed")
        return store

    def save_bar_data(self, bars: list[BarData], stream: bool = False) -> bool:
        """Write bars of any contracts and intervals; those of a known start are written over. The objects stay whole.

        Raises ValidationFailed for bars of `Interval.TICK` or without interval; nothing is written then.
        """
        groups: dict[tuple[Series, history.Interval], list[BarData]] = defaultdict(list)
        for bar in bars:
            groups[_series(bar), stored_interval(bar.interval)].append(bar)
        for (series, interval), group in groups.items():
            self.store.merge_bars(series, interval, bar_array(group))
        return True

    def save_tick_data(self, ticks: list[TickData], stream: bool = False) -> bool:
        """Write the ticks, of any contracts, that are not there yet. The objects stay whole."""
        groups: dict[Series, list[TickData]] = defaultdict(list)
        for tick in ticks:
            groups[_series(tick)].append(tick)
        for series, group in groups.items():
            name = next((tick.name for tick in reversed(group) if tick.name), "")
            self.store.merge_ticks(series, tick_array(group), name)
        return True

    def load_bar_data(
        self, symbol: str, exchange: Exchange, interval: Interval, start: datetime, end: datetime
    ) -> list[BarData]:
        """The bars from `start` to `end`, both included, by time.

        Where none are stored there, they are built of stored 1-minute bars, or else of stored ticks; one that is not
        over yet is left out then.
        """
        kept = _INTERVALS.get(interval)
        if kept is None:
            return []
        series, bounds = Series(symbol, exchange.name), _bounds(start, end)
        bars = _bars(series, self.store.bars(series, kept, *bounds), interval)
        return bars or _bars(series, self._built(series, kept, *bounds), interval)

    def load_tick_data(self, symbol: str, exchange: Exchange, start: datetime, end: datetime) -> list[TickData]:
        """The ticks from `start` to `end`, both included, by time."""
        series = Series(symbol, exchange.name)
        ticks: list[TickData] = []
        for rows in self.store.ticks(series, *_bounds(start, end)):
            name, received = repeat(self._name(series)), _received(rows["localtime"])
            ticks += _objects(TickData, series, rows, TICK_NUMBERS, name=name, localtime=received)
        return ticks

    def delete_bar_data(self, symbol: str, exchange: Exchange, interval: Interval) -> int:
        """Take all bars of a contract and interval away; returns how many."""
        kept = _INTERVALS.get(interval)
        return self.store.delete_bars(Series(symbol, exchange.name), kept, FIRST_NS, LAST_NS) if kept else 0

    def delete_tick_data(self, symbol: str, exchange: Exchange) -> int:
        """Take all ticks of a contract away; returns how many."""
        return self.store.delete_ticks(Series(symbol, exchange.name), FIRST_NS, LAST_NS)

    def get_bar_overview(self) -> list[BarOverview]:
        """Which bars there are. Their times have no zone, as VnPy's window expects them."""
        return [
            BarOverview(interval=Interval(kept.interval.value), **_covered(kept))
            for kept in self._overview()
            if kept.interval is not None
        ]

    def get_tick_overview(self) -> list[TickOverview]:
        """Which ticks there are. Their times have no zone, as VnPy's window expects them."""
        return [TickOverview(**_covered(kept)) for kept in self._overview() if kept.interval is None]

    def _built(self, series: Series, interval: history.Interval, start_ns: int, end_ns: int) -> list[BarArray]:
        """Bars that begin in the range and are over, of what the first that there is gives: 1-minute bars, ticks."""
        period, now_ns = Period.parse(interval), history.to_ns(self._clock.now())
        end_ns = min(end_ns, now_ns)
        for chunks in self._sources(series, period, start_ns, end_ns) if start_ns < end_ns else ():
            found = [bars[(bars["ts"] >= start_ns) & (bars["ts"] < end_ns)] for bars in chunks]
            if found and found[-1].size and end_of(int(found[-1]["ts"][-1]), period, series.exchange) > now_ns:
                found[-1] = found[-1][:-1]
            if any(bars.size for bars in found):
                return found
        return []

    def _sources(self, series: Series, period: Period, start_ns: int, end_ns: int) -> Iterator[Iterator[BarArray]]:
        """Whole bars at both ends: those of a day begin with the night before."""
        first = max(span_of(start_ns, period, series.exchange)[0], FIRST_NS)
        last = min(span_of(end_ns - 1, period, series.exchange)[1], LAST_NS)
        if period.interval is not history.Interval.MINUTE:
            minutes = self.store.bars(series, history.Interval.MINUTE, first, last)
            yield bars_from_bars(minutes, period, series.exchange)
        before = self.store.last_ticks(series, first, _LOOK_BACK)
        ticks = self.store.ticks(series, first, last, columns=COLUMNS)
        yield bars_from_ticks(ticks, period, series.exchange, before)

    def _overview(self) -> list[history.Coverage]:
        """What VnPy can name: a store that others write to may have exchanges that VnPy does not know."""
        return [kept for kept in self.store.overview() if kept.series.exchange in Exchange.__members__]

    def _name(self, series: Series) -> str:
        if series not in self._names:
            self._names.update((kept.series, kept.name) for kept in self.store.overview() if kept.name)
        return self._names.get(series, "")


def stored_interval(interval: Interval | None) -> history.Interval:
    """Raises ValidationFailed for what is no interval of a bar."""
    kept = _INTERVALS.get(interval)
    if kept is None:
        raise ValidationFailed(f"bars of the interval {getattr(interval, 'value', interval)} are not kept")
    return kept


def bar_array(bars: Sequence[BarData]) -> BarArray:
    """VnPy's bars of one series, by time."""
    array = history.empty_bars(len(bars))
    array["ts"] = _all_ns([bar.datetime for bar in bars])
    return _filled(array, bars, BAR_NUMBERS)


def tick_array(ticks: Sequence[TickData]) -> TickArray:
    """VnPy's ticks of one series, by time, ordinals still 0."""
    array = history.empty_ticks(len(ticks))
    array["ts"] = _all_ns([tick.datetime for tick in ticks])
    received = [tick.localtime for tick in ticks]
    if any(received):
        array["localtime"] = _all_ns([moment or _EPOCH for moment in received])
    return _filled(array, ticks, TICK_NUMBERS)


def _bars(series: Series, chunks: Iterable[BarArray], interval: Interval) -> list[BarData]:
    bars: list[BarData] = []
    for rows in chunks:
        bars += _objects(BarData, series, rows, BAR_NUMBERS, interval=repeat(interval))
    return bars


def _filled(array: _Rows, objects: Sequence[BarData | TickData], names: Sequence[str]) -> _Rows:
    """With the objects' numbers, and sorted."""
    for name in names:
        value_of = attrgetter(name)
        try:
            array[name] = np.fromiter(map(value_of, objects), np.float64, len(objects))
        except TypeError:  # a None among them, as some gateways leave it
            array[name] = [value_of(each) or 0.0 for each in objects]
    if (np.diff(array["ts"]) < 0).any():
        array = array[np.argsort(array["ts"], kind="stable")]
    return history.finite(array)


def _objects(kind: type[_Data], series: Series, rows: _Rows, numbers: Sequence[str], **more: Any) -> list[_Data]:
    """One for each row; `more` are further columns."""
    columns: dict[str, Iterable[Any]] = {
        "gateway_name": repeat(GATEWAY_NAME),
        "symbol": repeat(series.symbol),
        "exchange": repeat(Exchange[series.exchange]),
        "datetime": _times(rows["ts"]),
        **{name: rows[name].tolist() for name in numbers},
        **more,
    }
    # In the order of the constructor's parameters: without keywords it takes half the time.
    given = [columns.get(field.name, repeat(field.default)) for field in fields(kind) if field.init]
    return list(map(kind, *given))


def _times(ns: npt.NDArray[np.int64]) -> list[datetime]:
    # A float of seconds still tells microseconds apart.
    return [datetime.fromtimestamp(seconds, DB_TZ) for seconds in (ns // US / 1e6).tolist()]


def _received(ns: npt.NDArray[np.int64]) -> Iterable[datetime | None]:
    if not ns.any():
        return repeat(None)
    return [moment if known else None for moment, known in zip(_times(ns), ns.tolist(), strict=True)]


def _all_ns(moments: list[datetime]) -> npt.NDArray[np.int64]:
    seconds = [(moment if moment.tzinfo else moment.replace(tzinfo=DB_TZ)).timestamp() for moment in moments]
    return np.rint(np.array(seconds, np.float64) * 1e6).astype(np.int64) * US


def _bounds(start: datetime, end: datetime) -> tuple[int, int]:
    """Half open, `end` with all of its microsecond; what is beyond int64 is all there is."""
    return max(_ns(start), FIRST_NS), min(_ns(end) + US, LAST_NS)


def _ns(moment: datetime) -> int:
    return history.to_ns(moment if moment.tzinfo else moment.replace(tzinfo=DB_TZ))


def _naive(ns: int) -> datetime:
    return history.to_datetime(ns).astimezone(DB_TZ).replace(tzinfo=None)


def _series(data: BarData | TickData) -> Series:
    return Series(data.symbol, data.exchange.name)


def _covered(kept: history.Coverage) -> dict[str, Any]:
    return {
        "symbol": kept.series.symbol,
        "exchange": Exchange[kept.series.exchange],
        "count": kept.count,
        "start": _naive(kept.start_ns),
        "end": _naive(kept.end_ns),
    }
