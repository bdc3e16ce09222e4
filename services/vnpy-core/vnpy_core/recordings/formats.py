"""Which columns hold what: the formats of tick and bar files, found by their headers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from vnpy_core.domain.errors import FieldError, ValidationFailed
from vnpy_core.domain.history import BAR_NUMBERS, LEVELS, TICK_NUMBERS

ABSENT = frozenset({None, "", "N/A", "nan", "NaN"})
"""Cells that hold no number."""
HUGE = 1e300
"""Numbers from here on are absent too: CTP writes the largest double."""

NameStyle = Literal["symbol", "vt_symbol", "tqsdk"]
"""How a row names its contract: symbol and exchange apart, `symbol.exchange`, or `exchange.symbol`."""
TimeStyle = Literal["datetime", "date and time", "ctp"]


class Format(msgspec.Struct, frozen=True):
    """The columns of one kind of file: our names and theirs."""

    name: str
    columns: dict[str, str]
    required: frozenset[str]
    """Those of our names that a file must have to be of this format."""
    names: NameStyle = "symbol"
    times: TimeStyle = "datetime"

    def missing(self, header: Iterable[str], given: frozenset[str] = frozenset()) -> list[str]:
        """The required columns (their names) that a header lacks; `given` are those of ours that it need not have."""
        wanted, there = self.required - given, set(header)
        return sorted(theirs for ours, theirs in self.columns.items() if ours in wanted and theirs not in there)

    def places(self, header: Sequence[str]) -> dict[str, int]:
        """Where each of our columns is, by our name. Of equal headers the last one counts."""
        position = {name: place for place, name in enumerate(header)}
        return {ours: position[theirs] for ours, theirs in self.columns.items() if theirs in position}


def _levels(price: str, volume: str) -> dict[str, str]:
    """The columns of five levels; the names are patterns such as `{Side}Price{n}`."""
    return {
        f"{side}_{what}_{n}": pattern.format(side=side, Side=side.capitalize(), n=n)
        for side in ("bid", "ask")
        for what, pattern in (("price", price), ("volume", volume))
        for n in LEVELS
    }


LEVEL_1 = ("bid_price_1", "bid_volume_1", "ask_price_1", "ask_volume_1")
"""The best prices and what is there for them."""
_CTP = {
    "symbol": "InstrumentID",
    "exchange": "ExchangeID",
    "trading_day": "TradingDay",
    "action_day": "ActionDay",
    "time": "UpdateTime",
    "millisecond": "UpdateMillisec",
    "last_price": "LastPrice",
    "volume": "Volume",
    "turnover": "Turnover",
    "open_interest": "OpenInterest",
    "pre_close": "PreClosePrice",
    "limit_up": "UpperLimitPrice",
    "limit_down": "LowerLimitPrice",
    "open_price": "OpenPrice",
    "high_price": "HighestPrice",
    "low_price": "LowestPrice",
}
_TQSDK = {
    "symbol": "symbol",
    "datetime": "datetime",
    "last_price": "last_price",
    "volume": "volume",
    "turnover": "amount",
    "open_interest": "open_interest",
    "high_price": "highest",
    "low_price": "lowest",
}
_SHORT = {"symbol": "symbol", "date": "date", "time": "time", "last_price": "lastPrice", "last_volume": "lastVolume"}
_VNPY_TICKS = {name: name for name in ("datetime", "localtime", "name", *TICK_NUMBERS)}

CTP = Format("ctp", _CTP | _levels("{Side}Price{n}", "{Side}Volume{n}"), frozenset({*_CTP, *LEVEL_1}), times="ctp")
"""The columns of CTP's depth market data; CZCE and DCE have their own ways with the two days."""
TQSDK = Format(
    "tqsdk",
    _TQSDK | _levels("{side}_price{n}", "{side}_volume{n}"),
    frozenset({*_TQSDK, "bid_price_1", "ask_price_1"}),
    names="tqsdk",
)
"""tqsdk's ticks, five levels."""
VNPY = Format(
    "vnpy",
    {"symbol": "symbol", "exchange": "exchange"} | _VNPY_TICKS,
    frozenset({"symbol", "datetime", "last_price"}),
)
"""The fields of VnPy's TickData."""
VNPY_BY_VT_SYMBOL = Format(
    "vnpy",
    {"symbol": "vt_symbol"} | _VNPY_TICKS,
    frozenset({"symbol", "datetime", "last_price"}),
    names="vt_symbol",
)
SHORT = Format(
    "short",
    _SHORT | _levels("{side}Price{n}", "{side}Volume{n}"),
    frozenset({*_SHORT, *LEVEL_1}),
    times="date and time",
)
"""`symbol,date,time,lastPrice,lastVolume,...`: no running total, and no exchange."""
TICK_FORMATS = (CTP, TQSDK, VNPY, VNPY_BY_VT_SYMBOL, SHORT)

_PRICES = ("open_price", "high_price", "low_price", "close_price")
_OTHERS = {name: name for name in ("datetime", "volume", "turnover", "open_interest")}
_SHORT_PRICES = {name: name.removesuffix("_price") for name in _PRICES}
_LONG_PRICES = {name: name for name in _PRICES}

_KEYS: tuple[NameStyle, ...] = ("symbol", "vt_symbol")

BAR_FORMATS = tuple(
    Format(
        "vnpy",
        {"symbol": key, "exchange": "exchange"} | _OTHERS | prices,
        frozenset({"symbol", "datetime", *_PRICES}),
        names=key,
    )
    for prices in (_SHORT_PRICES, _LONG_PRICES)
    for key in _KEYS
)
"""VnPy DataManager's export (`open`), and the fields of BarData (`open_price`)."""

_TIMES = ("datetime", "date", "time")
_NAMES = ("symbol", "exchange", "vt_symbol", "name")
TICK_COLUMNS = frozenset({*_TIMES, *_NAMES, "localtime", *TICK_NUMBERS})
BAR_COLUMNS = frozenset({*_TIMES, *_NAMES, *BAR_NUMBERS})
"""Our names that a mapping may have."""


def find_format(
    name: str, header: Sequence[str], wanted: str, formats: Sequence[Format], given: frozenset[str] = frozenset()
) -> Format:
    """The format of the file `name`. Raises ValidationFailed.

    `wanted` is `auto` or a format's name; `given` are those of our columns that the file need not have.
    """
    candidates = [each for each in formats if wanted in ("auto", each.name)]
    if not candidates:
        raise ValidationFailed(
            f"there is no format {wanted!r}", errors=[FieldError("format", "there is no such format")]
        )
    for optional in (frozenset[str](), given):
        for each in candidates:
            if not each.missing(header, optional):
                return each
    if wanted == "auto":
        shown = ",".join(header[:8])
        known = ", ".join(dict.fromkeys(each.name for each in formats))
        raise ValidationFailed(
            f"{name} has an unknown header: {shown[:200]} (known are the formats {known}; for others a mapping says "
            "which column is what, as last_price=close)"
        )
    missing = min((each.missing(header, given) for each in candidates), key=len)
    raise ValidationFailed(f"{name} is not in the format {wanted}: it has no column {', '.join(missing[:8])}")


def mapped_format(mapping: dict[str, str], known: frozenset[str], required: Iterable[str]) -> Format:
    """The format that a mapping of our names to a file's describes. Raises ValidationFailed."""
    errors = [FieldError(f"mapping.{ours}", "there is no such column") for ours in mapping if ours not in known]
    absent = [name for name in required if name not in mapping]
    if "datetime" not in mapping and not {"date", "time"} <= mapping.keys():
        absent.insert(0, "datetime")
    errors += [FieldError(f"mapping.{name}", "is missing") for name in absent]
    if errors:
        detail = "; ".join(f"{error.field}: {error.message}" for error in errors)
        raise ValidationFailed(f"the mapping does not say what it must: {detail}", errors=errors)
    columns = dict(mapping)
    names: NameStyle = "symbol"
    if vt_symbol := columns.pop("vt_symbol", None):
        columns["symbol"], names = vt_symbol, "vt_symbol"
    times: TimeStyle = "datetime" if "datetime" in mapping else "date and time"
    return Format("columns", columns, frozenset(columns), names, times)
