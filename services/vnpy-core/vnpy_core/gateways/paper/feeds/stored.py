"""Recorded ticks as a market feed: any range of one or many symbols of the tick store, in time order.

They are read page by page, each page by itself: a replay at the market's own pace may take days, and must neither keep
the store from tidying up nor hold more than `ROWS` ticks in memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from fnmatch import fnmatchcase
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Any
from zoneinfo import ZoneInfo

from vnpy_core.domain.errors import ConfigurationError, ValidationFailed
from vnpy_core.domain.history import LEVELS, NS, Coverage, Series, TickArray, to_datetime
from vnpy_core.domain.moments import range_ns, time_zone
from vnpy_core.domain.sessions import SHANGHAI, trading_day
from vnpy_core.gateways.paper.model import Level, Snapshot
from vnpy_core.ports.timeseries import TimeSeriesStore

ROWS = 200_000
"""So many ticks of all symbols together are in memory at once."""
PAGE_MIN, PAGE_MAX = 500, 20_000
"""Ticks of one symbol that are read at a time."""

_PART = 500
"""Rows of a page that are Python's objects at a time, which take five times as much memory."""
_BLOCK, _BLOCKS = 2_000, 2
_MINUTE = 60 * NS
_PLAIN = (
    "last_price", "last_volume", "volume", "turnover", "open_interest", "limit_up", "limit_down", "open_price",
    "high_price", "low_price", "pre_close",
)  # fmt: skip
_SIDES = [[f"{side}_{what}_{n}" for n in LEVELS for what in ("price", "volume")] for side in ("bid", "ask")]


class StoredTicks:
    """One stream of snapshots by time; those of one microsecond by symbol. Iterating again begins anew.

    Blocks, as the store does, and raises what it raises.
    """

    def __init__(self, store: TimeSeriesStore, symbols: list[str], *, start: str, end: str, timezone: str) -> None:
        """`symbols` are vt_symbols or patterns; none are all. `start` and `end`: see `PaperSettings`.

        Raises ConfigurationError for a wrong bound, a symbol that is not there, and a range without ticks.
        """
        self._store = store
        chosen = _chosen(store.overview(), symbols)
        try:
            zone = time_zone(timezone)
            covered = [(kept, *_bounds(kept, start, end, zone)) for kept in chosen]
        except ValidationFailed as error:
            raise ConfigurationError(f"the paper gateway's setting is wrong: {error.detail}") from error
        self._page = min(max(ROWS // max(len(covered), 1), PAGE_MIN), PAGE_MAX)
        self._ranges = [found for found in covered if self._has_ticks(*found)]
        self.series = [kept.series for kept, _, _ in self._ranges]
        """Whose ticks come, by symbol."""
        if not self._ranges:
            what = ", ".join(symbols[:5]) or "any symbol"
            raise ConfigurationError(f"the store has no ticks of {what} from {start or 'ever'} to {end or 'now'}")

    def __iter__(self) -> Iterator[Snapshot]:
        return merge(*(self._of(*each) for each in self._ranges), key=attrgetter("time"))

    def _of(self, kept: Coverage, start_ns: int, end_ns: int) -> Iterator[Snapshot]:
        shown = _Shown(kept.series)
        count = self._page
        while count == self._page:
            pages = list(self._store.ticks(kept.series, start_ns, end_ns, limit=self._page))
            count = sum(map(len, pages))
            for page in pages:
                start_ns = int(page["ts"][-1]) + 1
                for first in range(0, len(page), _PART):
                    yield from shown.snapshots(page[first : first + _PART])

    def _has_ticks(self, kept: Coverage, start_ns: int, end_ns: int) -> bool:
        if start_ns <= kept.start_ns < end_ns:
            return True
        columns = ("last_price",)
        return any(len(rows) for rows in self._store.ticks(kept.series, start_ns, end_ns, columns=columns, limit=1))


class ReadAhead:
    """An iterator that another thread keeps filled, so that the event thread never waits for the store.

    One thread takes. `ready` before each `next` tells whether that would wait. The reading begins with either.
    """

    def __init__(self, feed: Iterable[Snapshot]) -> None:
        self._feed = feed
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._blocks: deque[list[Snapshot]] = deque()
        self._block: Iterator[Snapshot] = iter(())
        self._left = 0
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._resume: Callable[[], None] | None = None

    def __iter__(self) -> Iterator[Snapshot]:
        return self

    def __next__(self) -> Snapshot:
        """The next one; waits for it. Raises what the feed raised."""
        if not self._left:
            self._take_block()
        self._left -= 1
        return next(self._block)

    def ready(self, resume: Callable[[], None]) -> bool:
        """Whether `next` answers at once; if not, `resume` is called once it will, from the reading thread."""
        if self._left:
            return True
        self._start()
        with self._changed:
            if self._blocks or self._ended:
                return True
            self._resume = resume
            return False

    def close(self) -> None:
        """Nothing more comes. Any thread."""
        with self._changed:
            self._closed = self._ended = True
            self._resume = None
            self._changed.notify_all()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="paper reads ahead", daemon=True)
            self._thread.start()

    def _take_block(self) -> None:
        self._start()
        with self._changed:
            self._changed.wait_for(lambda: self._blocks or self._ended)
            if not self._closed and self._blocks:
                block = self._blocks.popleft()
                self._block, self._left = iter(block), len(block)
                self._changed.notify_all()
                return
        if self._error is not None and not self._closed:
            raise self._error
        raise StopIteration

    def _read(self) -> None:
        try:
            feed = iter(self._feed)
            while block := list(islice(feed, _BLOCK)):
                with self._changed:
                    self._changed.wait_for(lambda: len(self._blocks) < _BLOCKS or self._closed)
                    if self._closed:
                        return
                    self._blocks.append(block)
                self._tell()
        except BaseException as error:  # noqa: BLE001 - a guarded door: whoever takes gets what the feed raised
            self._error = error
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        with self._changed:
            resume, self._resume = self._resume, None
            self._changed.notify_all()
        if resume is not None:
            resume()


def _chosen(overview: list[Coverage], symbols: list[str]) -> list[Coverage]:
    """What matches, by symbol. Raises ConfigurationError for a word that matches nothing."""
    there = sorted((kept for kept in overview if kept.interval is None), key=lambda kept: kept.series)
    for word in symbols:
        if not any(fnmatchcase(kept.series.vt_symbol, word) for kept in there):
            raise ConfigurationError(f"the store has no ticks of {word}")
    return [kept for kept in there if not symbols or any(fnmatchcase(kept.series.vt_symbol, w) for w in symbols)]


def _bounds(kept: Coverage, start: str, end: str, zone: ZoneInfo) -> tuple[int, int]:
    """What was recorded later than the replay began is not replayed."""
    first, last = range_ns(start, end, kept.series.exchange, zone)
    return first, min(last, kept.end_ns + 1)


class _Shown:
    """One symbol's rows as snapshots, page after page."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self._day: date | None = None
        self._volume = 0.0

    def snapshots(self, rows: TickArray) -> Iterator[Snapshot]:
        """Those of the next rows."""
        symbol, exchange = self._series.symbol, self._series.exchange
        days: dict[int, date] = {}
        bids, asks = (rows[side].tolist() for side in _SIDES)
        plain = rows[list(_PLAIN)].tolist()
        for ns, bid, ask, numbers in zip(rows["ts"].tolist(), bids, asks, plain, strict=True):
            time, minute = to_datetime(ns), ns // _MINUTE
            if minute not in days:
                days[minute] = trading_day(time.astimezone(SHANGHAI), exchange)
            values: dict[str, Any] = dict(zip(_PLAIN, numbers, strict=True))
            traded = self._traded(days[minute], values["volume"])
            values["last_volume"] = values["last_volume"] or traded
            yield Snapshot(
                symbol=symbol,
                exchange=exchange,
                time=time,
                trading_day=days[minute],
                bids=_levels(bid),
                asks=_levels(ask),
                **values,
            )

    def _traded(self, day: date, volume: float) -> float:
        """What was traded since the row before, where the venue did not say it, as CTP does not."""
        last_day, last_volume = self._day, self._volume
        self._day, self._volume = day, volume
        if last_day is None:
            return 0.0
        return max(volume - last_volume, 0.0) if day == last_day else volume


def _levels(values: tuple[float, ...]) -> tuple[Level, ...]:
    """Prices and volumes by turns, up to the first level that is not there."""
    levels: list[Level] = []
    for level in zip(values[::2], values[1::2], strict=True):
        if not level[0] or not level[1]:
            break
        levels.append(level)
    return tuple(levels)
