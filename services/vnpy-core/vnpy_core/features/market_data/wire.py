"""Ticks and bars as JSON, column by column: three times as quick as an object for each row."""

from __future__ import annotations

from datetime import UTC, date
from datetime import datetime as Datetime
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vnpy_core.domain.bars import Period
from vnpy_core.domain.events import Tick
from vnpy_core.domain.history import (
    BAR_NUMBERS,
    NS,
    TICK_NUMBERS,
    US,
    BarArray,
    Coverage,
    Series,
    TickArray,
    to_datetime,
)
from vnpy_core.domain.sessions import SHANGHAI, trading_day
from vnpy_core.features.market_data.reading import BarPage, Mark, Range, TickPage
from vnpy_core.web.paging import encode_cursor

GATEWAY_NAME = "DB"
"""What VnPy's databases call themselves in a tick."""

_HOUR = 3600 * NS


class Bar(msgspec.Struct, frozen=True, gc=False):
    """One bar. `datetime` is its start; of `d` and `w` 00:00 of the (first) trading day, local time."""

    vt_symbol: str
    interval: str
    datetime: Datetime
    trading_day: date
    """The trading day that its start belongs to: a night session's is the next."""
    open_price: float
    high_price: float
    low_price: float
    close_price: float
    volume: float
    turnover: float
    open_interest: float


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What the store has of one series: its ticks, or its bars of one interval."""

    vt_symbol: str
    symbol: str
    exchange: str
    kind: str
    """`tick` or `bar`."""
    interval: str
    """`tick` for ticks."""
    count: int
    start: Datetime
    end: Datetime
    """The times of the first and the last row."""
    name: str
    """The contract's name, where ticks had one."""

    @classmethod
    def of(cls, covered: Coverage) -> Stored:
        """From what the store says."""
        series, interval = covered.series, covered.interval
        return cls(
            vt_symbol=series.vt_symbol,
            symbol=series.symbol,
            exchange=series.exchange,
            kind="bar" if interval else "tick",
            interval=str(interval or "tick"),
            count=covered.count,
            start=to_datetime(covered.start_ns),
            end=to_datetime(covered.end_ns),
            name=covered.name,
        )


# A Tick that can be made of its values in their order, which is much quicker than by names.
_TICK_FIELDS = [field.name for field in msgspec.structs.fields(Tick)]
_Row = msgspec.defstruct("_Row", [(name, Any) for name in _TICK_FIELDS], gc=False)


def tick_page(wanted: Range, page: TickPage) -> bytes:
    """`{"items": […], "next_cursor": …}`."""
    return msgspec.json.encode({"items": tick_items(wanted.series, page.ticks), "next_cursor": _cursor(page.next)})


def bar_page(wanted: Range, period: Period, page: BarPage) -> bytes:
    """`{"items": […], "next_cursor": …, "source": …}`."""
    items = bar_items(wanted.series, period, page.bars)
    return msgspec.json.encode({"items": items, "next_cursor": _cursor(page.next), "source": page.source})


def tick_items(series: Series, ticks: TickArray) -> list[Any]:
    """What encodes as `Tick`s."""
    size, received = len(ticks), ticks["localtime"]
    columns: dict[str, list[Any]] = {
        "gateway_name": [GATEWAY_NAME] * size,
        "vt_symbol": [series.vt_symbol] * size,
        "symbol": [series.symbol] * size,
        "exchange": [series.exchange] * size,
        "datetime": _times(ticks["ts"]),
        "localtime": [text if known else None for known, text in zip(received, _times(received), strict=True)],
        "tick_seq": [0] * size,
        "name": [""] * size,
        **{name: ticks[name].tolist() for name in TICK_NUMBERS},
    }
    return list(map(_Row, *(columns[name] for name in _TICK_FIELDS)))


def bar_items(series: Series, period: Period, bars: BarArray) -> list[Bar]:
    """What encodes as `Bar`s."""
    size = len(bars)
    columns: list[list[Any]] = [
        [series.vt_symbol] * size,
        [str(period)] * size,
        _times(bars["ts"]),
        _days(bars["ts"], period, series.exchange),
        *(bars[name].tolist() for name in BAR_NUMBERS),
    ]
    return list(map(Bar, *columns))


def _cursor(mark: Mark | None) -> str | None:
    return None if mark is None else encode_cursor(mark)


def _times(ns: npt.NDArray[np.int64]) -> list[str]:
    texts: list[str] = np.datetime_as_string((ns // US).astype("M8[us]"), timezone="UTC").tolist()
    return texts


def _days(ns: npt.NDArray[np.int64], period: Period, exchange: str) -> list[date]:
    """Hour by hour: a trading day begins with an hour."""
    hours, which = np.unique(ns // _HOUR, return_inverse=True)
    zone = UTC if exchange == "GLOBAL" else SHANGHAI
    local = [to_datetime(hour * _HOUR).astimezone(zone) for hour in hours.tolist()]
    days = [moment.date() if period.length_ns is None else trading_day(moment, exchange) for moment in local]
    return [days[index] for index in which.tolist()]
