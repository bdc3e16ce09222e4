"""Statements in InfluxQL, the one language that InfluxDB 1, 2 and 3 have in common.

What is foreign in them are the tags' values, which `_is` quotes.
"""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterable

from vnpy_core.adapters.timeseries.influx.places import OPENED, PRESENT, TAGS, TICKS, Place, portable

PROBE = f'SELECT "{PRESENT[OPENED]}" FROM "{OPENED}" LIMIT 1'
"""Costs the server nothing, and is refused where anything would be."""


def rows(
    place: Place,
    columns: Iterable[str],
    start_ns: int,
    end_ns: int,
    *,
    limit: int | None = None,
    backwards: bool = False,
) -> str:
    """A range by time. A row comes only if it has one of the columns at all, so name the PRESENT one, too."""
    names = ", ".join(f'"{name}"' for name in columns)
    order = " ORDER BY time DESC" if backwards else ""
    some = "" if limit is None else f" LIMIT {limit}"
    return f'SELECT {names} FROM "{place.measurement}" WHERE {_range(place, start_ns, end_ns)}{order}{some}'


def count(place: Place, start_ns: int, end_ns: int) -> str:
    """How many rows a range has."""
    measurement = place.measurement
    return f'SELECT count("{PRESENT[measurement]}") FROM "{measurement}" WHERE {_range(place, start_ns, end_ns)}'


def delete(place: Place, start_ns: int, end_ns: int) -> str:
    """Take a range away."""
    return f'DELETE FROM "{place.measurement}" WHERE {_range(place, start_ns, end_ns)}'


def of_each(function: str, measurement: str) -> str:
    """`count`, `first` or `last` of all that have the same TAGS."""
    return f'SELECT {function}("{PRESENT[measurement]}") FROM "{measurement}" {_by(measurement)}'


def latest_ticks(symbols: Iterable[str], start_ns: int) -> str:
    """Each series' last tick, where there is one since `start_ns`; of all symbols if none are given."""
    some = " OR ".join(_is("symbol", portable(symbol)) for symbol in symbols)
    only = f" AND ({some})" if some else ""
    return f'SELECT last("{PRESENT[TICKS]}") FROM "{TICKS}" WHERE time >= {start_ns}{only} {_by(TICKS)}'


def _range(place: Place, start_ns: int, end_ns: int) -> str:
    tags = [_is(tag, text) for tag, text in place.tags.items()]
    return " AND ".join([*tags, f"time >= {start_ns}", f"time < {end_ns}"])


def _is(tag: str, text: str) -> str:
    """`text` is portable: it has no backslash, and only its quotes need one."""
    quoted = text.replace("'", "\\'")
    return f"\"{tag}\" = '{quoted}'"


def _by(measurement: str) -> str:
    return "GROUP BY " + ", ".join(f'"{tag}"' for tag in TAGS[measurement])
