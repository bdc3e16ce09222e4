"""Where InfluxDB has what: the measurements, their tags, and how names are written."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

import msgspec

from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.domain.history import Interval, Series

TICKS, BARS, NAMES, OPENED = "tick", "bar", "contract", "vnpy_core"
"""The measurements. NAMES has what contracts are called, OPENED when somebody opened the store."""
PRESENT = {TICKS: "last_price", BARS: "close_price", NAMES: "name", OPENED: "opened"}
"""The field that every point of a measurement has, others may lack."""
TAGS = {
    TICKS: ("symbol", "exchange"),
    BARS: ("symbol", "exchange", "interval"),
    NAMES: ("symbol", "exchange"),
    OPENED: (),
}

_UNSAFE = re.compile("[%\\\\\x00-\x1f\x7f\ud800-\udfff]")


class Place(msgspec.Struct, frozen=True):
    """A measurement, and the values of its TAGS."""

    measurement: str
    values: tuple[str, ...]

    @property
    def tags(self) -> dict[str, str]:
        """As `portable` texts."""
        return {tag: portable(text) for tag, text in zip(TAGS[self.measurement], self.values, strict=True)}


def of_ticks(series: Series) -> Place:
    """Where its ticks are. Raises ValidationFailed."""
    return Place(TICKS, _names(series))


def of_bars(series: Series, interval: Interval) -> Place:
    """Where its bars are. Raises ValidationFailed."""
    return Place(BARS, (*_names(series), interval.value))


def of_name(series: Series) -> Place:
    """Where its name is. Raises ValidationFailed."""
    return Place(NAMES, _names(series))


def portable(text: str) -> str:
    """`text` with what no two servers read alike (backslashes, control characters) as %XX."""
    return _UNSAFE.sub(lambda found: quote(found[0].encode(errors="surrogatepass"), safe=""), text)


def original(text: str) -> str:
    """What `portable` was given."""
    return unquote(text, errors="surrogatepass")


def _names(series: Series) -> tuple[str, str]:
    if not series.symbol or not series.exchange:
        raise ValidationFailed(f"{series.vt_symbol!r}: InfluxDB has no place for an empty symbol or exchange")
    return series.symbol, series.exchange
