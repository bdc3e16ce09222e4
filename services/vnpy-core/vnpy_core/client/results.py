"""What the service answers besides the domain's events, as far as it is not a plain document."""

from __future__ import annotations

from datetime import date
from datetime import datetime as Datetime

import msgspec

from vnpy_core.domain.events import Halt, Order


class PlacedOrder(Order, frozen=True, gc=False, kw_only=True):
    """An order as the engine first knew it; `child_orders` lists the parts where closing was split."""

    child_orders: tuple[Order, ...] = ()


class Subscription(msgspec.Struct, frozen=True):
    """A contract whose ticks were asked for, and the gateway they come from."""

    vt_symbol: str
    gateway_name: str


class CancelFailure(msgspec.Struct, frozen=True):
    """An active order that could not be asked to cancel, and why."""

    vt_orderid: str
    code: str
    detail: str


class CancelledAll(msgspec.Struct, frozen=True):
    """How many orders were asked to cancel, and which could not be."""

    cancelled: int
    failed: list[CancelFailure]


class RiskState(msgspec.Struct, frozen=True):
    """The halts in force; trading is open where there are none."""

    halts: list[Halt]


class Halted(Halt, frozen=True, gc=False, kw_only=True):
    """A halt in force: how many orders were asked to cancel, and whether it outlives a crash already."""

    cancelled: int
    persisted: bool


class Bar(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One bar; `datetime` is its start."""

    vt_symbol: str
    interval: str
    datetime: Datetime
    trading_day: date
    open_price: float
    high_price: float
    low_price: float
    close_price: float
    volume: float
    turnover: float
    open_interest: float


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What the store has of one series; `kind` is `tick` or `bar`, `start` and `end` its first and last times."""

    vt_symbol: str
    kind: str
    interval: str
    count: int
    start: Datetime
    end: Datetime
    name: str


class NodeLoad(msgspec.Struct, frozen=True, kw_only=True):
    """How busy a node is; `cpu` is a share of one processor."""

    cpu: float = 0.0
    memory_mb: float = 0.0
    sessions: int = 0
    events_per_s: float = 0.0


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A process that announced itself: a core, or an edge with the name of its core as `node`."""

    id: str
    node: str
    role: str
    address: str
    version: str
    pid: int
    epoch: str
    seq: int
    gateways: dict[str, bool] = {}
    load: NodeLoad = NodeLoad()
    started_at: Datetime
    seen_at: Datetime


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Whose token it is."""

    name: str
    role: str
    expires_at: Datetime
