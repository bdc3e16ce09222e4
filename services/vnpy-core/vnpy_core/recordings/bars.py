"""Bars of a file as arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from vnpy_core.domain.history import BAR_NUMBERS, BarArray, Interval, Series, empty_bars
from vnpy_core.recordings.files import Block
from vnpy_core.recordings.formats import BAR_COLUMNS, BAR_FORMATS
from vnpy_core.recordings.reading import Found, Gathering, Layout, Reader, Rows, Source
from vnpy_core.recordings.values import Note, numbers

_PRICES = ("open_price", "high_price", "low_price", "close_price")


class BarFile(Reader):
    """Iterating gives `(series, interval, bars)`: chunks in the order of the file, each by time.

    Not thread-safe. Iterating raises ValidationFailed at the end where something could not be read.
    """

    def __init__(self, source: Source, interval: Interval) -> None:
        """`interval` is what the bars are; files do not say it. Raises ValidationFailed, see Reader."""
        super().__init__(source, BAR_FORMATS, BAR_COLUMNS, _PRICES)
        self.interval = interval

    def __iter__(self) -> Iterator[tuple[Series, Interval, BarArray]]:
        self._begin()
        for series, bars in self._chunks(Gathering()):
            yield series, self.interval, bars

    def _convert(self, block: Block, layout: Layout, found: Found, note: Note) -> Rows:
        bars = empty_bars(block.size)
        if not block.size:
            return bars
        bars["ts"] = self._moments(block, layout, note)
        for name in BAR_NUMBERS:
            cells = layout.cells(block, name)
            if cells is None:
                continue
            values = numbers(cells, note)
            absent = np.isnan(values)
            if name in _PRICES:
                for row in np.flatnonzero(absent).tolist():
                    note(row, f"no {name.replace('_', ' ')}")
            bars[name] = np.where(absent, 0.0, values)
        for row in np.flatnonzero(bars["volume"] < 0).tolist():
            note(row, f"a volume of {bars['volume'][row]:g}")
        for row in np.flatnonzero(bars["high_price"] < bars["low_price"]).tolist():
            note(row, f"its high {bars['high_price'][row]:g} is below its low {bars['low_price'][row]:g}")
        for name in ("open_price", "close_price"):
            outside = (bars[name] < bars["low_price"]) | (bars[name] > bars["high_price"])
            for row in np.flatnonzero(outside).tolist():
                low, high = bars["low_price"][row], bars["high_price"][row]
                note(row, f"its {name.split('_')[0]} {bars[name][row]:g} is not within {low:g} to {high:g}")
        return bars

    def _finish(self, series: Series, block: Block, layout: Layout, rows: Rows, places: npt.NDArray[np.intp]) -> Rows:
        return rows
