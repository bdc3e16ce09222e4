"""What happened, as frozen values that are safe to hand between threads.

Field names are VnPy's, enums travel by name, times are UTC, volumes are in lots (or coins), prices in quote currency.
They are msgspec structs: building and encoding one costs 3 µs instead of a dataclass's 9 (decision 0002).
"""

from __future__ import annotations

from datetime import datetime as Datetime
from typing import Any

import msgspec

from vnpy_core.domain.enums import (
    Direction,
    GatewayState,
    HaltMode,
    HaltScope,
    IntentState,
    JobState,
    LogLevel,
    Offset,
    OrderType,
    Product,
    Status,
    StrategyState,
)


class Event(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Base of everything that is published."""


class Tick(Event, frozen=True, gc=False):
    """One market data snapshot with up to five levels; a level that the venue did not show is 0.

    `volume`, `turnover` are the session's running totals; `datetime` is the venue's time, `localtime` ours. It may be
    made by position, which takes a tenth of the time that 40 names do.
    """

    gateway_name: str
    vt_symbol: str
    symbol: str
    exchange: str
    datetime: Datetime
    tick_seq: int = 0
    name: str = ""
    volume: float = 0.0
    turnover: float = 0.0
    open_interest: float = 0.0
    last_price: float = 0.0
    last_volume: float = 0.0
    limit_up: float = 0.0
    limit_down: float = 0.0
    open_price: float = 0.0
    high_price: float = 0.0
    low_price: float = 0.0
    pre_close: float = 0.0
    bid_price_1: float = 0.0
    bid_price_2: float = 0.0
    bid_price_3: float = 0.0
    bid_price_4: float = 0.0
    bid_price_5: float = 0.0
    ask_price_1: float = 0.0
    ask_price_2: float = 0.0
    ask_price_3: float = 0.0
    ask_price_4: float = 0.0
    ask_price_5: float = 0.0
    bid_volume_1: float = 0.0
    bid_volume_2: float = 0.0
    bid_volume_3: float = 0.0
    bid_volume_4: float = 0.0
    bid_volume_5: float = 0.0
    ask_volume_1: float = 0.0
    ask_volume_2: float = 0.0
    ask_volume_3: float = 0.0
    ask_volume_4: float = 0.0
    ask_volume_5: float = 0.0
    localtime: Datetime | None = None


class Order(Event, frozen=True, gc=False, kw_only=True):
    """An order as the engine knows it. `reason` says why the venue rejected or cancelled it."""

    vt_orderid: str
    orderid: str
    client_order_id: str | None = None
    gateway_name: str
    vt_symbol: str
    symbol: str
    exchange: str
    direction: Direction | None
    offset: Offset
    type: OrderType
    price: float
    volume: float
    traded: float
    status: Status
    reason: str = ""
    reference: str = ""
    strategy_name: str | None = None
    datetime: Datetime | None = None
    updated_at: Datetime
    seq: int = 0

    @property
    def is_active(self) -> bool:
        """Whether the order may still trade."""
        return self.status.is_active


class Trade(Event, frozen=True, gc=False, kw_only=True):
    """One fill of an order."""

    vt_tradeid: str
    tradeid: str
    vt_orderid: str
    orderid: str
    gateway_name: str
    vt_symbol: str
    symbol: str
    exchange: str
    direction: Direction | None
    offset: Offset
    price: float
    volume: float
    strategy_name: str | None = None
    datetime: Datetime | None = None
    seq: int = 0


class Position(Event, frozen=True, gc=False, kw_only=True):
    """A holding in one contract and direction; `vt_positionid` ends in the direction's name."""

    vt_positionid: str
    vt_symbol: str
    symbol: str
    exchange: str
    direction: Direction
    volume: float
    frozen: float
    price: float
    pnl: float
    yd_volume: float
    gateway_name: str
    seq: int = 0


class Account(Event, frozen=True, gc=False, kw_only=True):
    """Funds at one gateway: `available` = `balance` - `frozen` unless the venue says otherwise."""

    vt_accountid: str
    accountid: str
    balance: float
    frozen: float
    available: float
    gateway_name: str
    seq: int = 0


class Contract(Event, frozen=True, gc=False, kw_only=True):
    """What can be traded and in which steps: `size` is the multiplier, `pricetick` and `min_volume` the steps."""

    gateway_name: str
    vt_symbol: str
    symbol: str
    exchange: str
    name: str
    product: Product
    size: float
    pricetick: float
    min_volume: float = 1.0
    max_volume: float | None = None
    stop_supported: bool = False
    net_position: bool = False
    history_data: bool = False
    option_strike: float | None = None
    option_underlying: str | None = None
    option_type: str | None = None
    option_listed: Datetime | None = None
    option_expiry: Datetime | None = None
    option_portfolio: str | None = None
    option_index: str | None = None


class Quote(Event, frozen=True, gc=False, kw_only=True):
    """A two-sided quote."""

    vt_quoteid: str
    quoteid: str
    gateway_name: str
    vt_symbol: str
    symbol: str
    exchange: str
    bid_price: float
    bid_volume: float
    ask_price: float
    ask_volume: float
    bid_offset: Offset
    ask_offset: Offset
    status: Status
    reference: str = ""
    datetime: Datetime | None = None
    seq: int = 0


class Gateway(Event, frozen=True, gc=False, kw_only=True):
    """A gateway and the state of its connection; `message` is the last reason it gave."""

    gateway_name: str
    connected: bool
    state: GatewayState
    exchanges: list[str]
    default_setting: dict[str, Any]
    capabilities: dict[str, Any]
    message: str = ""


class StrategyUpdate(Event, frozen=True, gc=False, kw_only=True):
    """A CTA strategy as it is now."""

    strategy_name: str
    class_name: str
    vt_symbol: str
    author: str
    parameters: dict[str, Any]
    variables: dict[str, Any]
    """As it last showed them; what JSON cannot hold stands here as text or a list."""
    inited: bool = False
    trading: bool = False
    pos: float = 0.0
    """What the strategy believes to hold, lots; long counts plus."""
    state: StrategyState = StrategyState.CREATED
    error: str | None = None
    """Why it is FAILED: the last lines of the traceback; or why it may not run."""
    auto_start: bool = False
    """Initialised and started by every start of the service."""
    attributed_pos: float = 0.0
    """The sum of its fills: `pos` unless somebody changed that by other means."""
    class_file: str = ""
    class_hash: str = ""
    """SHA-256 of the file that its code was loaded from."""
    class_is_old: bool = False
    """The file was loaded again since: this one keeps its code until it is added anew, or the service restarts."""


class StrategySetting(Event, frozen=True, gc=False, kw_only=True):
    """What is kept of a strategy for ever: that there is one, and how it was set."""

    strategy_name: str
    class_name: str
    vt_symbol: str
    setting: dict[str, Any]
    auto_start: bool = False
    configured: bool = False
    """`auto_start` is service.toml's: nobody has set it over the API since."""
    class_file: str = ""
    class_hash: str = ""
    removed: bool = False
    by: str = ""
    at: Datetime


class StrategyData(Event, frozen=True, gc=False, kw_only=True):
    """A strategy's variables as it last saved them, and which of its fills are in its `pos`."""

    strategy_name: str
    variables: dict[str, Any]
    attributed_pos: float
    counted_seq: int
    """The journal's number of the last fill that is in both."""
    at: Datetime


class ProfitLeg(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a strategy holds in one contract by its fills."""

    vt_symbol: str
    pos: float
    price: float
    """Average price of what is open."""
    mark: float
    """The price that it was valued at last; 0 where there was none yet."""
    size: float
    trip: float = 0.0
    """Net profit since the position was last flat, of what is closed already."""


class StrategyDay(Event, frozen=True, gc=False, kw_only=True):
    """A strategy's profit up to the last word of a trading day. Money in quote currency; totals since it began."""

    strategy_name: str
    day: str
    """ISO date of the trading day."""
    realised: float
    """Of what was closed, before fees."""
    unrealised: float
    """Of what is open, at the last mark."""
    fees: float
    turnover: float
    trades: int
    wins: int
    """Round trips, flat to flat, that ended with a net profit."""
    losses: int
    legs: list[ProfitLeg]
    last_seq: int
    """The journal's number of the last fill that is in here."""
    at: Datetime

    @property
    def equity(self) -> float:
        """Net profit since it began."""
        return self.realised - self.fees + self.unrealised


class StopOrderUpdate(Event, frozen=True, gc=False, kw_only=True):
    """A stop order that CtaEngine keeps locally, not the venue."""

    stop_orderid: str
    vt_symbol: str
    direction: Direction
    offset: Offset
    price: float
    volume: float
    strategy_name: str
    status: str
    vt_orderids: list[str]
    datetime: Datetime | None = None
    lock: bool = False
    net: bool = False


class AlgoUpdate(Event, frozen=True, gc=False, kw_only=True):
    """An execution algorithm's progress."""

    algo_name: str
    vt_symbol: str
    status: str
    data: dict[str, Any]


class RiskEvent(Event, frozen=True, gc=False, kw_only=True):
    """A rule refused an order (`message`), or a rule's state changed (`data`)."""

    kind: str
    rule: str = ""
    message: str = ""
    data: dict[str, Any] | None = None
    seq: int = 0


class Log(Event, frozen=True, gc=False, kw_only=True):
    """One line of VnPy's log; `source` is the gateway or app that wrote it."""

    level: LogLevel
    source: str
    msg: str
    datetime: Datetime
    strategy_name: str | None = None
    """Whose line it is, where a strategy wrote it or it is about one."""


class OrderIntent(Event, frozen=True, gc=False, kw_only=True):
    """An order that is about to be sent: journaled first, so that no order of ours is ever unaccounted for."""

    client_order_id: str
    gateway_name: str
    vt_symbol: str
    symbol: str
    exchange: str
    direction: Direction | None
    offset: Offset
    type: OrderType
    price: float
    volume: float
    reference: str = ""
    strategy_name: str | None = None
    created_at: Datetime


class QuoteIntent(Event, frozen=True, gc=False, kw_only=True):
    """A two-sided quote that is about to be sent; `client_order_id` names it as it would an order."""

    client_order_id: str
    gateway_name: str
    vt_symbol: str
    symbol: str
    exchange: str
    bid_price: float
    bid_volume: float
    ask_price: float
    ask_volume: float
    reference: str = ""
    created_at: Datetime


class IntentOutcome(Event, frozen=True, gc=False, kw_only=True):
    """What became of an intent. `evidence` says how that is known, `by` who decided where a person did."""

    client_order_id: str
    gateway_name: str
    state: IntentState
    vt_orderid: str = ""
    reason: str = ""
    evidence: str = ""
    by: str = ""
    at: Datetime


class Halt(Event, frozen=True, gc=False, kw_only=True):
    """Trading was halted or (`active` false) resumed."""

    scope: HaltScope
    target: str = ""
    mode: HaltMode = HaltMode.HALTED
    active: bool
    reason: str = ""
    by: str = ""
    at: Datetime
    seq: int = 0


class Audit(Event, frozen=True, gc=False, kw_only=True):
    """Who did what to which thing, and how that was before and after."""

    who: str
    what: str
    target: str = ""
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    reason: str = ""
    at: Datetime


class PositionBase(Event, frozen=True, gc=False, kw_only=True):
    """From here on the venue's net position is `volume` plus the trades after this (long counts plus, short minus)."""

    gateway_name: str
    vt_symbol: str
    volume: float
    reason: str = ""
    by: str = ""
    at: Datetime


class Quarantine(Event, frozen=True, gc=False, kw_only=True):
    """An event that contradicts a known one of the same key: kept beside it, never over it."""

    kind: str
    key: str
    reason: str
    known: dict[str, Any]
    arrived: dict[str, Any]
    at: Datetime


class Job(Event, frozen=True, gc=False, kw_only=True):
    """Long work and how far it is. Topic `job.updated`."""

    id: str
    kind: str
    """`import`, `export`, `download`."""
    state: JobState
    progress: float = 0.0
    """0 to 1; an estimate where the amount of work is not known beforehand."""
    message: str = ""
    result: dict[str, Any] | None = None
    """What came out, once it ended: counts, and for an import the bad rows with line and reason."""
    created_at: Datetime
    updated_at: Datetime
    by: str = ""
