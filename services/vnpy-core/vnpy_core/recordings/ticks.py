"""Ticks of a file as arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.domain.history import TICK_NUMBERS, Series, TickArray, empty_ticks
from vnpy_core.recordings.files import Block
from vnpy_core.recordings.formats import TICK_COLUMNS, TICK_FORMATS
from vnpy_core.recordings.reading import Found, Gathering, Layout, Reader, Rows, Source
from vnpy_core.recordings.values import Moments, Note, numbers

_VOLUMES = frozenset(name for name in TICK_NUMBERS if "volume" in name)


class TickFile(Reader):
    """Iterating gives `(series, ticks, name)`: chunks in the order of the file, each by time.

    Rows of one microsecond that follow each other are in one chunk and in their order; ordinals are all 0. `name` is
    the contract's, where the file has it. Where a file has `last_volume` and no `volume`, that is the trading day's sum
    so far by time, so that equal trades of one moment differ.

    Not thread-safe. Iterating raises ValidationFailed at the end where something could not be read, and at once where
    volumes are added up and a chunk begins before the end of the one before.
    """

    def __init__(self, source: Source) -> None:
        """Raises ValidationFailed, see Reader."""
        super().__init__(source, TICK_FORMATS, TICK_COLUMNS, ())
        self._names: dict[Series, str] = {}
        self._sums: dict[tuple[Series, int], float] = {}
        self.summed: dict[Series, int] = {}
        """The series whose volumes are added up here, and the last time of each so far."""

    def __iter__(self) -> Iterator[tuple[Series, TickArray, str]]:
        self._begin()
        self._names, self._sums, self.summed = {}, {}, {}
        for series, ticks in self._chunks(Gathering()):
            if series in self.summed:
                self._add_up(series, ticks)
            yield series, ticks, self._names.get(series, "")

    def _convert(self, block: Block, layout: Layout, found: Found, note: Note) -> Rows:
        ticks = empty_ticks(block.size)
        if not block.size:
            return ticks
        ticks["ts"] = self._times(block, layout, found, note)
        for name in TICK_NUMBERS:
            cells = layout.cells(block, name)
            if cells is None:
                continue
            values = numbers(cells, note)
            if name in _VOLUMES:
                for row in np.flatnonzero(values < 0).tolist():
                    note(row, f"a volume of {values[row]:g}")
            ticks[name] = np.where(np.isnan(values), 0.0, values)
        received = layout.cells(block, "localtime")
        if received is not None:
            ticks["localtime"] = self._clock.received(received, note)
        return ticks

    def _times(self, block: Block, layout: Layout, found: Found, note: Note) -> Moments:
        if layout.form.times != "ctp":
            return self._moments(block, layout, note)
        exchanges = [""] * block.size
        for series, rows in found:
            if len(rows) == block.size:
                exchanges = [series.exchange] * block.size
                break
            for row in rows.tolist():
                exchanges[row] = series.exchange
        days, actions, clocks = (layout.texts(block, name) for name in ("trading_day", "action_day", "time"))
        seconds = self._clock.ctp_moments(days, actions, clocks, exchanges, note)
        thousandths = numbers(layout.cells(block, "millisecond"), note)
        wrong = ~((thousandths >= 0) & (thousandths <= 999))
        for row in np.flatnonzero(wrong).tolist():
            note(row, "its milliseconds are not 0 to 999")
        return seconds + np.where(wrong, 0, thousandths).astype(np.int64) * 1_000_000

    def _finish(self, series: Series, block: Block, layout: Layout, rows: Rows, places: npt.NDArray[np.intp]) -> Rows:
        if layout.has("name"):
            self._names[series] = layout.texts(block, "name")[int(places[-1])] or self._names.get(series, "")
        if layout.has("last_volume") and not layout.has("volume"):
            self.summed.setdefault(series, 0)
        return rows

    def _add_up(self, series: Series, ticks: TickArray) -> None:
        """The day's running total, from what each row traded; `ticks` are by time."""
        if ticks["ts"][0] < self.summed[series]:
            raise ValidationFailed(
                f"{series.vt_symbol} has no column of volume, so its trades are added up, and they are not in "
                "the order of their times: sort the file by time"
            )
        self.summed[series] = int(ticks["ts"][-1])
        days = self._clock.trading_days(ticks["ts"], series.exchange)
        for day in np.unique(days).tolist():
            mine = days == day
            traded = np.concatenate([[self._sums.get((series, day), 0.0)], ticks["last_volume"][mine]])
            # One after the other, whatever the size of the blocks.
            totals = np.cumsum(traded)[1:]
            ticks["volume"][mine] = totals
            self._sums[series, day] = float(totals[-1])
