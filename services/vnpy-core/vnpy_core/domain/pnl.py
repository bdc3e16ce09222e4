"""What a strategy has earned, as the service tells it and the client reads it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from vnpy_core.domain.events import ProfitLeg


class Resolution(StrEnum):
    """How fine an equity curve is."""

    DAY = "day"
    TRADE = "trade"


class ProfitDay(msgspec.Struct, frozen=True, kw_only=True):
    """One trading day of a strategy, in quote currency."""

    day: str
    """ISO date of the trading day."""
    realised: float
    """Of what was closed on it, before fees."""
    unrealised: float
    """Of what was open at its end."""
    fees: float
    net: float
    """What the day added to `equity`."""
    equity: float
    """At its end: net profit since the strategy began."""
    trades: int
    turnover: float


class Pnl(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy has earned since it began, by its fills; in quote currency."""

    strategy_name: str
    realised: float
    """Of what was closed, before fees."""
    unrealised: float
    """Of what is open, at the last tick."""
    fees: float
    """By contracts.toml; 0 for what is not in it."""
    net: float
    """`realised` - `fees` + `unrealised`."""
    pos: float
    """What it holds by its fills, lots; long counts plus."""
    turnover: float
    trades: int
    round_trips: int
    """From flat to flat."""
    wins: int
    """Round trips with a net profit."""
    losses: int
    """The others."""
    win_rate: float | None
    """`wins` / `round_trips`; none before the first."""
    max_drawdown: float
    """The deepest fall of `equity` below an earlier height, by ends of days."""
    max_drawdown_percent: float | None
    """Of the capital (service.toml, `[profit.capital]`) and what had been earned; none without one."""
    sharpe: float | None
    """Of daily net profit, for a year of `days_per_year` days; none for less than two days or without any variation."""
    days_per_year: int
    complete: bool
    """False where past days could not be read, or a contract's size is not known yet."""
    legs: list[ProfitLeg]
    """What is open, by contract."""
    days: list[ProfitDay]


class EquityPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A point of the equity curve: the end of a day, or a fill."""

    day: str
    at: datetime | None
    """When the fill was; none for a day, or where the venue gave the fill no time."""
    equity: float
    drawdown: float
    """How far it is below the highest point before; 0 or more."""


class Equity(msgspec.Struct, frozen=True, kw_only=True):
    """An equity curve."""

    strategy_name: str
    resolution: Resolution
    complete: bool
    """False where some of it could not be read, or there is more than fits."""
    points: list[EquityPoint]
