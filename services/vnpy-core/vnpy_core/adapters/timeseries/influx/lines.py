"""Ticks and bars as InfluxDB's line protocol, column by column: the text of a row is one `%` of a tuple.

A number that is 0 in all rows of a body is left out, and read back as 0. Always written are PRESENT fields, and all
numbers of bars: a bar that takes another's place must not keep numbers of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from vnpy_core.adapters.timeseries.influx.arrays import joined
from vnpy_core.adapters.timeseries.influx.places import OPENED, PRESENT, Place, of_bars, of_name, of_ticks, portable
from vnpy_core.domain.history import BAR_NUMBERS, TICK_NUMBERS, BarArray, Interval, Series, TickArray

ROWS = 5_000
"""Rows of a body, which makes 1 to 4 MB. Servers take 10 MB and more."""
EXACT = 2.0**53
"""Whole numbers below it are written as integers are."""

_SPECIAL, _ESCAPED = re.compile("([,= ])"), r"\\\1"


def tick_bodies(ticks: Mapping[Series, TickArray]) -> Iterator[bytes]:
    """The ticks of some series. Raises ValidationFailed."""
    return _bodies(
        [_key(of_ticks(series)) for series in ticks],
        list(ticks.values()),
        ("localtime", *TICK_NUMBERS),
        always=("last_price",),
    )


def bar_bodies(series: Series, interval: Interval, bars: BarArray) -> Iterator[bytes]:
    """A series' bars. Raises ValidationFailed."""
    return _bodies([_key(of_bars(series, interval))], [bars], BAR_NUMBERS, always=BAR_NUMBERS)


def name_line(series: Series, name: str, ns: int) -> bytes:
    """What a contract is called. Raises ValidationFailed."""
    place = of_name(series)
    text = portable(name).replace('"', '\\"')
    return f'{_key(place)} {PRESENT[place.measurement]}="{text}" {ns}'.encode()


def opened_line(ns: int) -> bytes:
    """That somebody opened the store."""
    return f"{OPENED} {PRESENT[OPENED]}=true {ns}".encode()


@lru_cache(10_000)
def _key(place: Place) -> str:
    """What a line begins with."""
    tags = (f"{tag}={_SPECIAL.sub(_ESCAPED, text)}" for tag, text in place.tags.items())
    return ",".join([place.measurement, *tags])


def _bodies(
    keys: list[str], parts: list[npt.NDArray[np.void]], names: tuple[str, ...], always: tuple[str, ...]
) -> Iterator[bytes]:
    """The rows of `parts`, one after the other; each part's lines begin with its key."""
    rows = joined(parts)
    of_row = np.repeat(np.array(keys, object), [len(part) for part in parts])
    for start in range(0, len(rows), ROWS):
        stretch = slice(start, start + ROWS)
        yield _body(of_row[stretch].tolist(), rows[stretch], names, always)


def _body(keys: list[str], rows: npt.NDArray[np.void], names: tuple[str, ...], always: tuple[str, ...]) -> bytes:
    fields: list[str] = []
    columns: list[list[Any]] = [keys]
    for name in names:
        field, column = _field(name, rows[name], name in always)
        fields += [field] if field else []
        columns += [column] if column else []
    line = f"%s {','.join(fields)} %d"
    return "\n".join([line % row for row in zip(*columns, rows["ts"].tolist(), strict=True)]).encode()


def _field(name: str, numbers: npt.NDArray[Any], always: bool) -> tuple[str, list[Any]]:
    """The field's part of the line, and what to fill into it row by row, if anything."""
    if numbers.dtype.kind == "i":
        return (f"{name}=%di", numbers.tolist()) if numbers.any() else ("", [])
    first = numbers[0].item()
    if (numbers == first).all():
        return (f"{name}={first!r}" if first or always else ""), []
    if np.abs(numbers).max() < EXACT and (numbers == np.rint(numbers)).all():
        return f"{name}=%d", numbers.astype(np.int64).tolist()
    return f"{name}=%r", numbers.tolist()
