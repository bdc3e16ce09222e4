"""Wire models of strategies: what a request may hold, and examples of what comes back."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from vnpy_core.domain.enums import LogLevel, StrategyState
from vnpy_core.domain.pnl import Resolution
from vnpy_core.domain.strategies import LoadError, StrategyClass
from vnpy_core.features.strategies.service import StrategyFilter
from vnpy_core.ports.store import OrderQuery, SeqKey, TradeQuery
from vnpy_core.web.inputs import StatusInput, Time, VtSymbol
from vnpy_core.web.problems import responses

NAME_PATTERN = r"^[^\x00-\x1f\x7f]{1,128}$"
"""Any name that VnPy's file may have brought."""
CLASS_NAME_PATTERN = r"^[^\W\d]\w{0,63}$"
"""A name in Python, which may be of any language."""
MAX_WAIT_S = 60.0


def _one_dot(name: str) -> str:
    if ".." in name:
        raise ValueError("must not hold two dots in a row")
    return name


NewName = Annotated[
    str,
    Field(
        pattern=r"^\w[\w.\-]{0,63}$",
        description="Letters of any language, digits, `_`, `.`, `-`; not `all`, no word of these paths as `classes`",
        examples=["demo"],
    ),
    AfterValidator(_one_dot),
]
ClassName = Annotated[str, Field(pattern=CLASS_NAME_PATTERN, examples=["AtrRsiStrategy"])]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Setting = Annotated[
    dict[str, Any],
    Field(max_length=1_000, description="Parameters of the class by name", examples=[{"atr_length": 22}]),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# Requests


class AddBody(_Strict):
    """A strategy to make. Parameters that `setting` leaves out have the class's defaults."""

    class_name: ClassName
    strategy_name: NewName
    vt_symbol: VtSymbol
    setting: Setting = Field(default_factory=dict)
    auto_start: bool = Field(default=False, description="Every start of the service initialises and starts it")


class ChangeBody(_Strict):
    """What may be changed besides the parameters."""

    auto_start: bool


# Queries


class PageQuery(_Strict):
    """Which page."""

    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = Field(default=None, max_length=512, description="`next_cursor` of the page before")


class StrategiesQuery(PageQuery):
    """Which strategies."""

    state: StrategyState | None = None
    class_name: Name | None = None
    vt_symbol: VtSymbol | None = None

    def wanted(self) -> StrategyFilter:
        """The filter of the service."""
        return StrategyFilter(state=self.state, class_name=self.class_name, vt_symbol=self.vt_symbol)


class StopOrdersQuery(PageQuery):
    """Which stop orders."""

    strategy_name: Name | None = None


class LogsQuery(PageQuery):
    """Which log lines."""

    level: LogLevel = Field(default=LogLevel.DEBUG, description="This level and above")


class TradesQuery(PageQuery):
    """Which of a strategy's trades."""

    vt_symbol: VtSymbol | None = None
    start: Time | None = Field(default=None, description="The venue's time; counts in")
    end: Time | None = Field(default=None, description="The venue's time; does not count in")
    after_seq: int | None = Field(default=None, ge=0, le=2**63 - 1, description="Only what has a higher `seq`")

    def first(self) -> SeqKey:
        """The key that the list begins after, where there is no cursor."""
        return (0, "") if self.after_seq is None else (self.after_seq + 1, "")

    def trades(self) -> TradeQuery:
        """What the service is asked for."""
        return TradeQuery(vt_symbol=self.vt_symbol, start=self.start, end=self.end)


class OrdersQuery(TradesQuery):
    """Which of a strategy's orders."""

    active: bool | None = None
    status: StatusInput | None = None

    def orders(self) -> OrderQuery:
        """What the service is asked for."""
        return OrderQuery(
            active=self.active, status=self.status, vt_symbol=self.vt_symbol, start=self.start, end=self.end
        )


class DaysQuery(_Strict):
    """Which trading days."""

    start: date | None = Field(default=None, description="The first one")
    end: date | None = Field(default=None, description="The last one")


class EquityQuery(DaysQuery):
    """Which equity curve."""

    resolution: Resolution = Field(
        default=Resolution.DAY, description="`trade`: a point for each fill, of the last day where there is no `start`"
    )


# Answers


class ClassesPage(msgspec.Struct, frozen=True):
    """One page of classes; `next_cursor` is null on the last one."""

    items: list[StrategyClass]
    next_cursor: str | None
    failed: list[LoadError]
    """The files that could not be loaded the last time, on every page."""


class AllItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One strategy as it is now, and the `problem` where it could not be done."""

    strategy_name: str
    state: StrategyState
    problem: dict[str, Any] | None = None
    """As the strategy's own route would have answered."""


class AllAnswer(msgspec.Struct, frozen=True):
    """One item for each strategy, by name."""

    items: list[AllItem]


STRATEGY_EXAMPLE: dict[str, Any] = {
    "strategy_name": "demo",
    "class_name": "AtrRsiStrategy",
    "vt_symbol": "rb2505.SHFE",
    "author": "a trader",
    "parameters": {"atr_length": 22, "fixed_size": 1},
    "variables": {"atr_value": 12.5},
    "inited": True,
    "trading": True,
    "pos": 2.0,
    "state": "RUNNING",
    "error": None,
    "auto_start": True,
    "attributed_pos": 2.0,
    "class_file": "atr_rsi_strategy.py",
    "class_hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "class_is_old": False,
}
CREATED_EXAMPLE: dict[str, Any] = STRATEGY_EXAMPLE | {
    "inited": False,
    "trading": False,
    "pos": 0.0,
    "state": "CREATED",
    "auto_start": False,
    "attributed_pos": 0.0,
}
CLASS_EXAMPLE: dict[str, Any] = {
    "class_name": "AtrRsiStrategy",
    "author": "a trader",
    "doc": "",
    "parameters": [
        {"name": "atr_length", "type": "number", "default": 22},
        {"name": "fixed_size", "type": "number", "default": 1},
    ],
    "variables": ["atr_value"],
    "module": "vnpy_ctastrategy.strategies.atr_rsi_strategy",
    "file": "atr_rsi_strategy.py",
    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "shipped": True,
    "error": None,
}
FAILED_EXAMPLE: dict[str, Any] = {"file": "draft.py", "error": "SyntaxError: '(' was never closed (draft.py, line 12)"}
CLASSES_EXAMPLE: dict[str, Any] = {"items": [CLASS_EXAMPLE], "next_cursor": None, "failed": [FAILED_EXAMPLE]}
RELOADED_EXAMPLE: dict[str, Any] = {
    "loaded": ["AtrRsiStrategy", "DoubleMaStrategy"],
    "changed": ["DoubleMaStrategy"],
    "removed": [],
    "failed": [FAILED_EXAMPLE],
    "kept": ["demo"],
}
ALL_EXAMPLE: dict[str, Any] = {"items": [{"strategy_name": "demo", "state": "RUNNING"}]}
PARAMETERS_EXAMPLE: dict[str, Any] = {"atr_length": 22, "fixed_size": 1}
VARIABLES_EXAMPLE: dict[str, Any] = {"atr_value": 12.5}
STOP_ORDER_EXAMPLE: dict[str, Any] = {
    "stop_orderid": "STOP.7",
    "vt_symbol": "rb2505.SHFE",
    "direction": "SHORT",
    "offset": "CLOSE",
    "price": 3450.0,
    "volume": 2.0,
    "strategy_name": "demo",
    "status": "WAITING",
    "vt_orderids": [],
    "datetime": "2026-11-21T02:00:00Z",
    "lock": False,
    "net": False,
}
LOG_EXAMPLE: dict[str, Any] = {
    "number": 12,
    "level": "INFO",
    "msg": "the strategy was started",
    "datetime": "2026-11-21T02:00:00Z",
}
PNL_EXAMPLE: dict[str, Any] = {
    "strategy_name": "demo",
    "realised": 4_200.0,
    "unrealised": 300.0,
    "fees": 84.2,
    "net": 4_415.8,
    "pos": 2.0,
    "turnover": 842_000.0,
    "trades": 24,
    "round_trips": 11,
    "wins": 6,
    "losses": 5,
    "win_rate": 0.5455,
    "max_drawdown": 910.4,
    "max_drawdown_percent": None,
    "sharpe": 1.8,
    "days_per_year": 240,
    "complete": True,
    "legs": [{"vt_symbol": "rb2505.SHFE", "pos": 2.0, "price": 3500.0, "mark": 3515.0, "size": 10.0, "trip": 0.0}],
    "days": [
        {
            "day": "2026-11-20",
            "realised": 4_200.0,
            "unrealised": 300.0,
            "fees": 84.2,
            "net": 4_415.8,
            "equity": 4_415.8,
            "trades": 24,
            "turnover": 842_000.0,
        }
    ],
}
EQUITY_EXAMPLE: dict[str, Any] = {
    "strategy_name": "demo",
    "resolution": "day",
    "complete": True,
    "points": [{"day": "2026-11-20", "at": None, "equity": 4_415.8, "drawdown": 0.0}],
}
ORDER_EXAMPLE: dict[str, Any] = {
    "vt_orderid": "PAPER.260101-1",
    "orderid": "260101-1",
    "client_order_id": None,
    "gateway_name": "PAPER",
    "vt_symbol": "rb2505.SHFE",
    "symbol": "rb2505",
    "exchange": "SHFE",
    "direction": "LONG",
    "offset": "OPEN",
    "type": "LIMIT",
    "price": 3500.0,
    "volume": 2.0,
    "traded": 2.0,
    "status": "ALLTRADED",
    "reason": "",
    "reference": "CtaStrategy_demo",
    "strategy_name": "demo",
    "datetime": "2026-11-21T02:00:00.123456Z",
    "updated_at": "2026-11-21T02:00:00.130000Z",
    "seq": 1234,
}
TRADE_EXAMPLE: dict[str, Any] = {
    "vt_tradeid": "PAPER.260101-1",
    "tradeid": "260101-1",
    "vt_orderid": "PAPER.260101-1",
    "orderid": "260101-1",
    "gateway_name": "PAPER",
    "vt_symbol": "rb2505.SHFE",
    "symbol": "rb2505",
    "exchange": "SHFE",
    "direction": "LONG",
    "offset": "OPEN",
    "price": 3500.0,
    "volume": 2.0,
    "strategy_name": "demo",
    "datetime": "2026-11-21T02:00:00.123456Z",
    "seq": 1235,
}


def page_of(example: dict[str, Any]) -> dict[str, Any]:
    """The example of a list."""
    return {"items": [example], "next_cursor": None}


def answers(
    example: dict[str, Any],
    *codes: str,
    status: int = 200,
    begun: dict[str, Any] | None = None,
    headers: dict[str, Any] | None = None,
) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses`: an example of success, one of what has `begun` only (202), and these error codes."""
    table = responses(*codes)
    for code, shown in ((status, example), (202, begun)):
        if shown is not None:
            entry = table.setdefault(code, {"description": _SUCCESS[code], "content": {}})
            entry["content"]["application/json"] = {"example": shown}
    if begun is not None:
        table[202]["description"] = "Begun, or: the outcome is not known yet"
    if headers:
        table[status]["headers"] = headers
    return table


_SUCCESS = {200: "Done", 201: "Made", 202: "Begun"}
