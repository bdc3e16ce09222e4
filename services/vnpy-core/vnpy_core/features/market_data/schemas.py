"""Wire models of market data: what a request may hold, and examples of what comes back."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

import msgspec
from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from vnpy_core.domain.bars import Period
from vnpy_core.domain.errors import CoreError
from vnpy_core.domain.history import FIRST_NS, LAST_NS, Interval, Series, to_ns
from vnpy_core.domain.symbols import exchange_name
from vnpy_core.features.market_data.downloading import DownloadSpec
from vnpy_core.features.market_data.reading import BarSource, Mark, Range
from vnpy_core.features.market_data.service import Filter
from vnpy_core.features.market_data.wire import Bar, Stored
from vnpy_core.web.inputs import Time, VtSymbol, split_vt_symbol
from vnpy_core.web.paging import decode_cursor
from vnpy_core.web.responses import wire_model


def _period(value: Any) -> Period:
    try:
        return Period.parse(str(value))
    except CoreError as error:
        raise ValueError(error.detail) from None


def _interval(value: Any) -> Interval:
    if (interval := _period(value).interval) is None:
        raise ValueError(f"bars of {value} are not stored, only {', '.join(Interval)}")
    return interval


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        raise ValueError("is no time zone, such as Asia/Shanghai or UTC") from None
    return name


PeriodInput = Annotated[
    Period,
    BeforeValidator(_period),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^([1-9][0-9]{0,4}[smh]|1?[dw])$",
            "description": "Seconds, minutes or hours up to a day, `d` or `w`",
            "examples": ["1m", "5s", "4h", "d"],
        }
    ),
]
IntervalInput = Annotated[
    Interval, BeforeValidator(_interval), WithJsonSchema({"type": "string", "enum": [*Interval], "examples": ["1m"]})
]
Kind = Literal["bar", "tick"]
TimeZone = Annotated[str, AfterValidator(_time_zone), Field(max_length=64, examples=["Asia/Shanghai", "UTC"])]
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f/]{1,128}$")]
JOB_ID_PATTERN = "^[0-9a-f]{1,32}$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


# Queries


class PageQuery(_Strict):
    """Which page."""

    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = Field(default=None, max_length=512, description="`next_cursor` of the page before")


class TicksQuery(PageQuery):
    """Which ticks."""

    vt_symbol: VtSymbol
    start: Time | None = Field(default=None, description="Counts in. Without it: the newest rows before `end`")
    end: Time | None = Field(default=None, description="Does not count in")

    def wanted(self) -> Range:
        """What the service is asked for."""
        return Range(
            series=series_of(self.vt_symbol),
            start_ns=None if self.start is None else _ns(self.start),
            end_ns=None if self.end is None else _ns(self.end),
            limit=self.limit,
            mark=decode_cursor(self.cursor, Mark) if self.cursor else None,
        )


class BarsQuery(TicksQuery):
    """Which bars."""

    interval: PeriodInput
    source: BarSource | None = Field(
        default=None, description="Make them of this only; else of the first of these that has any in the range"
    )


class OverviewQuery(PageQuery):
    """Which series."""

    vt_symbol: VtSymbol | None = None
    kind: Kind | None = None

    def wanted(self) -> Filter:
        """The filter of the service."""
        return Filter(vt_symbol=self.vt_symbol, kind=self.kind)


class DeleteTicksQuery(_Strict):
    """What to delete: a range with both its ends, or all."""

    vt_symbol: VtSymbol
    start: Time | None = Field(default=None, description="Counts in")
    end: Time | None = Field(default=None, description="Does not count in")
    all: bool = Field(default=False, description="Instead of `start` and `end`: everything of the series")

    @model_validator(mode="after")
    def _said_how_much(self) -> Self:
        if self.all:
            if self.start is not None or self.end is not None:
                raise ValueError("all=true goes without start and end")
        elif self.start is None or self.end is None:
            raise ValueError("give start and end, or all=true")
        elif self.start >= self.end:
            raise ValueError("start must be before end")
        return self

    def bounds(self) -> tuple[int, int]:
        """The half-open range, nanoseconds."""
        return (
            FIRST_NS if self.start is None else _ns(self.start),
            LAST_NS if self.end is None else _ns(self.end),
        )


class DeleteBarsQuery(DeleteTicksQuery):
    """Which bars to delete."""

    interval: IntervalInput


class ExportQuery(_Strict):
    """What to export."""

    vt_symbol: VtSymbol
    kind: Kind = "bar"
    interval: IntervalInput = Interval.MINUTE
    start: Time | None = Field(default=None, description="Counts in")
    end: Time | None = Field(default=None, description="Does not count in")
    format: Literal["csv", "parquet"] = "csv"
    timezone: TimeZone = Field(default="Asia/Shanghai", description="Of the times in a CSV file")

    def spec(self) -> dict[str, Any]:
        """The fields of an ExportSpec."""
        return {
            "kind": self.kind,
            "vt_symbol": self.vt_symbol,
            "interval": str(self.interval),
            "start_ns": FIRST_NS if self.start is None else _ns(self.start),
            "end_ns": LAST_NS if self.end is None else _ns(self.end),
            "format": self.format,
            "timezone": self.timezone,
        }


# Bodies


def _mapping(value: Any) -> dict[str, str]:
    try:
        return msgspec.json.decode(str(value), type=dict[str, str])
    except msgspec.DecodeError:
        raise ValueError('must be a JSON object of texts, such as {"datetime": "time", "last_price": "px"}') from None


class ImportForm(_Strict):
    """The fields of the form beside `file`."""

    kind: Kind
    format: Literal["auto", "vnpy", "ctp", "tqsdk", "short", "columns"] = Field(
        default="auto", description="`vnpy`: as VnPy exports it; `ctp`: its 44 columns; `columns`: as `mapping` says"
    )
    mapping: Annotated[
        dict[str, str],
        BeforeValidator(_mapping),
        WithJsonSchema({"type": "string", "examples": ['{"datetime": "time", "last_price": "px"}']}),
    ] = Field(default_factory=dict, description="JSON: our names of columns, and the file's")
    vt_symbol: VtSymbol | None = Field(default=None, description="Where the file does not name the contract")
    interval: IntervalInput = Field(default=Interval.MINUTE, description="Of bars")
    timezone: TimeZone = Field(default="Asia/Shanghai", description="Of times in the file that have none")
    datetime_format: str = Field(default="", max_length=64, examples=["%Y-%m-%d %H:%M:%S"])
    strict: bool = Field(default=False, description="Import nothing where a row is bad")

    @classmethod
    def spec_of(cls, fields: dict[str, str]) -> dict[str, Any]:
        """The fields of an ImportSpec, as far as the form has them. Raises RequestValidationError."""
        try:
            form = cls.model_validate(fields)
        except ValidationError as error:
            items = [item | {"loc": ("body", *item["loc"])} for item in error.errors(include_url=False)]
            raise RequestValidationError(items) from None
        return form.model_dump() | {"interval": str(form.interval), "vt_symbol": form.vt_symbol or ""}


class DownloadBody(_Strict):
    """What to download."""

    vt_symbol: VtSymbol
    kind: Kind = "bar"
    interval: IntervalInput = Field(default=Interval.MINUTE, description="Of bars")
    start: Time = Field(description="Counts in")
    end: Time = Field(description="Does not count in")
    gateway_name: Name | None = Field(
        default=None, description="Whose history of bars; else the gateway that offers it, else VnPy's datafeed"
    )

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if self.start >= self.end:
            raise ValueError("start must be before end")
        if self.kind == "tick" and self.gateway_name is not None:
            raise ValueError("ticks come from the datafeed, not from a gateway")
        return self

    def spec(self) -> DownloadSpec:
        """What the service is asked for."""
        return DownloadSpec(
            series=series_of(self.vt_symbol),
            interval=self.interval if self.kind == "bar" else None,
            start=self.start,
            end=self.end,
            gateway_name=self.gateway_name or "",
        )


class RecorderBody(_Strict):
    """What is recorded from now on."""

    symbols: list[Annotated[str, Field(min_length=1, max_length=128)]] = Field(
        max_length=1000,
        description="vt_symbols or patterns; an empty list records nothing",
        examples=[["rb*.SHFE", "*.GLOBAL"]],
    )


# Answers


class Deleted(msgspec.Struct, frozen=True):
    """How many rows are gone."""

    deleted: int


class BarsModel(BaseModel):
    """Bars by time; `next_cursor` is null on the last page."""

    items: list[wire_model(Bar)]  # type: ignore[valid-type]
    next_cursor: str | None
    source: BarSource | None = Field(description="What this page's bars were made of; null where there are none")


def series_of(vt_symbol: str) -> Series:
    """The series of a contract's ticks and bars."""
    symbol, exchange = split_vt_symbol(vt_symbol)
    return Series(symbol, exchange_name(exchange))


def _ns(moment: Any) -> int:
    return min(max(to_ns(moment), FIRST_NS), LAST_NS)


IMPORT_SCHEMA: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                **ImportForm.model_json_schema(),
                "properties": {
                    "file": {
                        "type": "string",
                        "format": "binary",
                        "description": "CSV (plain, zipped or gzipped) or Parquet",
                    },
                    **ImportForm.model_json_schema()["properties"],
                },
                "required": ["file", "kind"],
            }
        }
    },
}

TICK_EXAMPLE: dict[str, Any] = {
    "gateway_name": "DB",
    "vt_symbol": "rb2505.SHFE",
    "symbol": "rb2505",
    "exchange": "SHFE",
    "datetime": "2026-11-20T13:00:00.500000Z",
    "tick_seq": 0,
    "name": "",
    "volume": 1204.0,
    "turnover": 42140000.0,
    "open_interest": 1500000.0,
    "last_price": 3500.0,
    "last_volume": 2.0,
    "limit_up": 3700.0,
    "limit_down": 3300.0,
    "open_price": 3490.0,
    "high_price": 3505.0,
    "low_price": 3488.0,
    "pre_close": 3492.0,
    **{f"bid_price_{n}": 3500.0 - n for n in range(1, 6)},
    **{f"ask_price_{n}": 3500.0 + n for n in range(1, 6)},
    **{f"{side}_volume_{n}": 10.0 * n for side in ("bid", "ask") for n in range(1, 6)},
    "localtime": "2026-11-20T13:00:00.503120Z",
}
BAR_EXAMPLE: dict[str, Any] = {
    "vt_symbol": "rb2505.SHFE",
    "interval": "1m",
    "datetime": "2026-11-20T13:00:00.000000Z",
    "trading_day": "2026-11-23",
    "open_price": 3500.0,
    "high_price": 3502.0,
    "low_price": 3499.0,
    "close_price": 3501.0,
    "volume": 820.0,
    "turnover": 28700000.0,
    "open_interest": 1500000.0,
}
BARS_EXAMPLE: dict[str, Any] = {"items": [BAR_EXAMPLE], "next_cursor": None, "source": "bars"}
STORED_EXAMPLE: dict[str, Any] = msgspec.to_builtins(
    Stored(
        vt_symbol="rb2505.SHFE",
        symbol="rb2505",
        exchange="SHFE",
        kind="bar",
        interval="1m",
        count=34500,
        start="2026-08-03T01:00:00Z",  # type: ignore[arg-type]  # as it is on the wire
        end="2026-11-20T06:59:00Z",  # type: ignore[arg-type]
        name="",
    )
)
JOB_EXAMPLE: dict[str, Any] = {
    "id": "19aa51c7d2c9f3e",
    "kind": "import",
    "state": "RUNNING",
    "progress": 0.42,
    "message": "210000 rows",
    "result": None,
    "created_at": "2026-11-21T02:00:00.123456Z",
    "updated_at": "2026-11-21T02:00:03.623456Z",
    "by": "trader",
}
ENDED_JOB_EXAMPLE: dict[str, Any] = JOB_EXAMPLE | {
    "state": "DONE",
    "progress": 1.0,
    "result": {
        "rows": 500000,
        "added": 499998,
        "known": 2,
        "bad_count": 1,
        "bad": [{"place": "rb2505.csv:17", "reason": "LastPrice: 'n/a' is no number"}],
        "series": ["rb2505.SHFE"],
        "start": "2026-11-02T01:00:00Z",
        "end": "2026-11-20T06:59:59Z",
    },
}
RECORDER_EXAMPLE: dict[str, Any] = {
    "patterns": ["rb*.SHFE"],
    "recorded": 120000,
    "dropped": 0,
    "ignored": 0,
    "stale": 0,
    "waiting": 12,
    "ring": 100000,
    "lag_ms": 120.0,
    "bars": 1040,
    "error": "",
    "symbols": {"rb2505.SHFE": {"recorded": 120000, "dropped": 0, "last_tick": "2026-11-20T06:59:59.500000Z"}},
    "gaps": [],
}
