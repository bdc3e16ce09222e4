"""Files into the store of ticks and bars. It blocks for as long as the file is long: run it in a job's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from vnpy_core.domain.bars import Period
from vnpy_core.domain.errors import FieldError, ValidationFailed
from vnpy_core.domain.history import FIRST_NS, LAST_NS, US, Interval, Merged, Series, TickArray, to_datetime
from vnpy_core.ports.timeseries import TimeSeriesStore
from vnpy_core.recordings.bars import BarFile
from vnpy_core.recordings.reading import BadRow, Source
from vnpy_core.recordings.ticks import TickFile

OnProgress = Callable[[float, str], None]
"""`(fraction, message)`: how far the work is, 0 to 1."""

_STEP = 0.005
"""Progress is told no oftener than this."""


class ImportSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to import."""

    path: str
    kind: Literal["bar", "tick"]
    format: str = "auto"
    """`auto`, `vnpy`, `columns` (see `mapping`), and for ticks `ctp`, `tqsdk`, `short`."""
    mapping: dict[str, str] = {}
    """VnPy's names of columns to the file's headers."""
    vt_symbol: str = ""
    """Whose rows those are that do not say it; its exchange that of rows without one."""
    interval: str = "1m"
    """Of bars."""
    timezone: str = "Asia/Shanghai"
    """Of times that name none."""
    datetime_format: str = ""
    """As of `strptime`; without one, ISO 8601 and unix times are known."""
    strict: bool = False
    """Import all or nothing."""
    name: str = ""
    """What the file is called in messages."""


class ImportResult(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did."""

    rows: int
    """Good rows."""
    added: int
    known: int
    """Rows that were there already, alike (ticks) or written over (bars)."""
    bad_count: int
    bad: list[BadRow]
    """The first thousand rows that were left out."""
    series: list[str]
    """The vt_symbols."""
    start: datetime | None
    end: datetime | None
    """The first and the last row's time."""


def run_import(
    spec: ImportSpec,
    store: TimeSeriesStore,
    resolve_exchange: Callable[[str], str | None],
    on_progress: OnProgress,
) -> ImportResult:
    """Read the file and merge its rows into the store; doing it again changes nothing.

    `resolve_exchange` knows the exchange of a symbol. Raises ValidationFailed (the file is of another format, cannot be
    read to its end, or has no usable row; strict: has a bad row), TimeSeriesUnavailable and StorageFull. What came
    before is stored; with `strict` nothing is, unless it is the store that fails.
    """
    if spec.strict:
        _check(_open(spec, resolve_exchange, _stepwise(on_progress, "checking", 0.0, 0.5)), store)
    begin = 0.5 if spec.strict else 0.0
    file = _open(spec, resolve_exchange, _stepwise(on_progress, "storing", begin, 1.0))
    tally = _Tally()
    try:
        for merge in _merges(file, store):
            tally.add(*merge)
    except ValidationFailed as error:
        raise ValidationFailed(f"{error.detail}; the {tally.rows:,} good rows before that are stored") from error
    if file.bad and not tally.rows:
        raise ValidationFailed(f"no row is usable; {_said(file.bad[0])}", errors=_errors(file.bad))
    on_progress(1.0, f"{tally.rows:,} rows")
    return tally.result(file)


class _Tally:
    """What was stored so far."""

    def __init__(self) -> None:
        self.rows = 0
        self._merged = Merged(0, 0)
        self._series: set[str] = set()
        self._first, self._last = LAST_NS, FIRST_NS

    def add(self, series: Series, times: npt.NDArray[np.int64], merged: Merged) -> None:
        self.rows += len(times)
        self._merged += merged
        self._series.add(series.vt_symbol)
        self._first, self._last = min(self._first, int(times.min())), max(self._last, int(times.max()))

    def result(self, file: TickFile | BarFile) -> ImportResult:
        return ImportResult(
            rows=self.rows,
            added=self._merged.added,
            known=self._merged.known,
            bad_count=file.bad_count,
            bad=file.bad,
            series=sorted(self._series),
            start=to_datetime(self._first) if self.rows else None,
            end=to_datetime(self._last) if self.rows else None,
        )


def _open(
    spec: ImportSpec, resolve_exchange: Callable[[str], str | None], on_read: Callable[[float], None]
) -> TickFile | BarFile:
    symbol, _, exchange = spec.vt_symbol.rpartition(".")
    if spec.vt_symbol and not (symbol and exchange):
        raise _wrong("vt_symbol", f"{spec.vt_symbol!r} is not symbol.exchange")
    source = Source(
        path=Path(spec.path),
        format=spec.format,
        mapping=spec.mapping,
        symbol=symbol,
        exchange=exchange,
        timezone=spec.timezone,
        datetime_format=spec.datetime_format,
        name=spec.name,
        resolve_exchange=resolve_exchange,
        on_read=on_read,
    )
    return TickFile(source) if spec.kind == "tick" else BarFile(source, stored_interval(spec.interval))


def stored_interval(text: str) -> Interval:
    """The interval that bars of this period are stored as. Raises ValidationFailed."""
    interval = Period.parse(text).interval
    if interval is None:
        raise _wrong("interval", f"bars of {text} are not stored, only of 1m, 1h, d and w")
    return interval


def _merges(file: TickFile | BarFile, store: TimeSeriesStore) -> Iterator[tuple[Series, npt.NDArray[np.int64], Merged]]:
    """The file's chunks as they go into the store: whose, when, and what became of them."""
    if isinstance(file, TickFile):
        for series, ticks, name in file:
            if series in file.summed:
                _check_totals(series, ticks, store)
            yield series, ticks["ts"], store.merge_ticks(series, ticks, name)
    else:
        for series, interval, bars in file:
            yield series, bars["ts"], store.merge_bars(series, interval, bars)


def _check_totals(series: Series, ticks: TickArray, store: TimeSeriesStore) -> None:
    """Totals that were added up here depend on where the file began: beside others they would be told as trades.

    Raises ValidationFailed where the store has ticks between these that are none of these.
    """
    first, last = (int(ns) - int(ns) % US for ns in (ticks["ts"][0], ticks["ts"][-1]))
    mine = _keys(ticks)
    if any(not _keys(stored) <= mine for stored in store.ticks(series, first, last + US)):
        raise ValidationFailed(
            f"{series.vt_symbol} has no column of volume, so its trades are added up; but the store has other ticks of "
            f"it from {to_datetime(first):%Y-%m-%d %H:%M:%S} to {to_datetime(last):%Y-%m-%d %H:%M:%S} UTC, "
            "which do not go together with that: delete those first"
        )


def _keys(ticks: TickArray) -> set[tuple[float, ...]]:
    moments = ticks["ts"] - ticks["ts"] % US
    columns = (moments, ticks["last_price"], ticks["last_volume"], ticks["volume"])
    return set(zip(*(column.tolist() for column in columns), strict=True))


def _check(file: TickFile | BarFile, store: TimeSeriesStore) -> None:
    """Read all. Raises ValidationFailed for a bad row, and for totals that do not go together with what is stored."""
    if isinstance(file, TickFile):
        for series, ticks, _ in file:
            if series in file.summed:
                _check_totals(series, ticks, store)
    else:
        for _ in file:
            pass
    if file.bad_count:
        rows = "1 row is" if file.bad_count == 1 else f"{file.bad_count:,} rows are"
        raise ValidationFailed(f"nothing is stored: {rows} bad; {_said(file.bad[0])}", errors=_errors(file.bad))


def _stepwise(on_progress: OnProgress, message: str, begin: float, end: float) -> Callable[[float], None]:
    """Tell progress between `begin` and `end`, in steps that somebody would notice."""
    told = -1.0

    def on_read(fraction: float) -> None:
        nonlocal told
        if fraction >= told + _STEP:
            told = fraction
            on_progress(begin + (end - begin) * fraction, message)

    return on_read


def _said(bad: BadRow) -> str:
    return f"{bad.place}: {bad.reason}"


def _errors(bad: list[BadRow]) -> list[FieldError]:
    return [FieldError(row.place, row.reason) for row in bad]


def _wrong(field: str, message: str) -> ValidationFailed:
    return ValidationFailed(message, errors=[FieldError(field, message)])
