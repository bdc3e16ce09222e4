"""What a strategy earns by its fills: average cost for each contract, valued at the last price.

Pure bookkeeping in floats. All that is known of a strategy at one moment is a StrategyDay; to go on from one gives the
very numbers that never stopping would have given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from math import copysign, isfinite, sqrt
from statistics import fmean

import msgspec

from vnpy_core.domain.enums import Direction, Offset
from vnpy_core.domain.events import ProfitLeg, StrategyDay, Trade

_ROUNDING = 1e-12
"""What is less than this part of what it was reckoned from is a float's rounding."""
_TODAY_APART = frozenset({"SHFE", "INE"})
"""There CLOSE closes what was opened before today, and only CLOSETODAY today's."""


class Leg(msgspec.Struct, kw_only=True):
    """What is open in one contract; the fields of a ProfitLeg."""

    vt_symbol: str
    pos: float = 0.0
    price: float = 0.0
    mark: float = 0.0
    size: float = 0.0
    trip: float = 0.0

    @property
    def unrealised(self) -> float:
        """Profit of what is open, at the mark."""
        return (self.mark - self.price) * self.pos * self.size


class Profit:
    """The totals of one strategy since it began, and its open legs. Money in quote currency."""

    def __init__(self, strategy_name: str, known: StrategyDay | None = None) -> None:
        """Go on from `known`."""
        self.strategy_name = strategy_name
        self.realised = known.realised if known else 0.0
        self.fees = known.fees if known else 0.0
        self.turnover = known.turnover if known else 0.0
        self.trades = known.trades if known else 0
        self.wins = known.wins if known else 0
        self.losses = known.losses if known else 0
        self.last_seq = known.last_seq if known else 0
        legs = known.legs if known else []
        self.legs = {leg.vt_symbol: msgspec.convert(leg, Leg, from_attributes=True) for leg in legs}

    @property
    def unrealised(self) -> float:
        """Profit of what is open, at the marks."""
        return sum((leg.unrealised for leg in self.legs.values()), 0.0)

    @property
    def equity(self) -> float:
        """Net profit since it began."""
        return self.realised - self.fees + self.unrealised

    @property
    def pos(self) -> float:
        """What is open in all contracts, lots; long counts plus."""
        total = 0.0
        for leg in self.legs.values():
            total = added(total, leg.pos)
        return total

    def fill(self, vt_symbol: str, volume: float, price: float, *, size: float, fee: float, seq: int) -> None:
        """Take in a fill: `volume` has a minus where it sold. It closes first and opens what is left the other way.

        A `size` of 0 is one that nobody knows: such a fill counts for `pos` and `fees` only.
        """
        self.last_seq = max(self.last_seq, seq)
        if not volume:
            return
        self.trades += 1
        self.fees += fee
        leg = self.legs.setdefault(vt_symbol, Leg(vt_symbol=vt_symbol))
        leg.size = size
        self.turnover += abs(price * volume) * size
        closes = min(abs(leg.pos), abs(volume)) if leg.pos * volume < 0 else 0.0
        opens = added(abs(volume), -closes)
        if closes:
            self._close(leg, closes, price, fee * closes / abs(volume))
        if opens:
            leg.price = (leg.price * abs(leg.pos) + price * opens) / (abs(leg.pos) + opens)
            leg.pos = added(leg.pos, copysign(opens, volume))
            leg.trip -= fee * opens / abs(volume)
        leg.mark = price
        if not leg.pos:
            del self.legs[vt_symbol]

    def mark(self, vt_symbol: str, price: float, size: float | None = None) -> None:
        """Value what is open in a contract at `price`; a `size` counts where it was not known yet."""
        leg = self.legs.get(vt_symbol)
        if leg is not None and isfinite(price):
            leg.mark, leg.size = price, leg.size or size or 0.0

    def let_go(self) -> None:
        """What is open counts as closed at its mark: nobody holds it any more."""
        for leg in self.legs.values():
            self._close(leg, abs(leg.pos), leg.mark, 0.0)
        self.legs.clear()

    def as_of(self, day: str, at: datetime) -> StrategyDay:
        """All of it as an event."""
        return StrategyDay(
            strategy_name=self.strategy_name,
            day=day,
            realised=self.realised,
            unrealised=self.unrealised,
            fees=self.fees,
            turnover=self.turnover,
            trades=self.trades,
            wins=self.wins,
            losses=self.losses,
            legs=[msgspec.convert(leg, ProfitLeg, from_attributes=True) for leg in self.legs.values()],
            last_seq=self.last_seq,
            at=at,
        )

    def _close(self, leg: Leg, volume: float, price: float, fee: float) -> None:
        gain = (price - leg.price) * copysign(volume, leg.pos) * leg.size
        self.realised += gain
        leg.trip += gain - fee
        leg.pos = added(leg.pos, -copysign(volume, leg.pos))
        if not leg.pos:
            won = leg.trip > _ROUNDING * abs(price * volume) * leg.size
            self.wins, self.losses = self.wins + won, self.losses + (not won)
            leg.price = leg.trip = 0.0


class Openings:
    """How much a strategy has opened on this trading day, by contract and side: closing it has fees of its own."""

    def __init__(self) -> None:
        self._day = ""
        self._opened: dict[tuple[str, Direction], float] = {}

    def take(self, trade: Trade, day: str) -> float:
        """Take in a fill; returns how much of it closes what was opened on `day`."""
        if day != self._day:
            self._day = day
            self._opened.clear()
        side = Direction.SHORT if trade.direction is Direction.SHORT else Direction.LONG
        if trade.offset is Offset.OPEN:
            self._opened[trade.vt_symbol, side] = added(self._opened.get((trade.vt_symbol, side), 0.0), trade.volume)
            return 0.0
        closed = (trade.vt_symbol, Direction.LONG if side is Direction.SHORT else Direction.SHORT)
        opened = self._opened.get(closed, 0.0)
        today = _closes_today(trade, opened)
        if opened:
            self._opened[closed] = max(added(opened, -today), 0.0)
        return today


def _closes_today(trade: Trade, opened: float) -> float:
    if trade.offset is Offset.CLOSETODAY:
        return trade.volume
    if trade.offset is Offset.CLOSE and trade.exchange not in _TODAY_APART:
        return min(trade.volume, opened)
    return 0.0


def added(one: float, other: float) -> float:
    """The sum of two volumes as people write them: 0.1 + 0.2 is 0.3."""
    if one % 1 == 0 == other % 1:
        return float(one + other)  # lots mostly are whole, and this takes a tenth of the time
    return float(Decimal(repr(one)) + Decimal(repr(other)))


def drawdowns(equities: Iterable[float], peak: float = 0.0) -> Iterator[float]:
    """For each point how far it is below the highest before it, which at first is `peak`; 0 or more."""
    for equity, highest in _with_peaks(equities, peak):
        yield highest - equity


def max_drawdown(equities: Iterable[float]) -> float:
    """The deepest fall below an earlier height; the curve begins at 0."""
    return max(drawdowns(equities), default=0.0)


def max_drawdown_percent(equities: Iterable[float], capital: float) -> float:
    """The deepest fall in percent of what there was at the height before it: `capital` and what had been earned."""
    falls = ((peak - equity) / (capital + peak) for equity, peak in _with_peaks(equities, 0.0))
    return 100.0 * max(falls, default=0.0)


def sharpe(nets: Sequence[float], days_per_year: int) -> float | None:
    """Mean over standard deviation of daily profits, for a year; None for less than two days or where all are alike.

    Funds that stay the same fall out of it, and so does a riskless rate of 0.
    """
    if len(nets) < 2:
        return None
    mean = fmean(nets)
    deviation = sqrt(sum((net - mean) ** 2 for net in nets) / (len(nets) - 1))
    return mean / deviation * sqrt(days_per_year) if deviation > _ROUNDING * abs(mean) else None


def _with_peaks(equities: Iterable[float], peak: float) -> Iterator[tuple[float, float]]:
    for equity in equities:
        peak = max(peak, equity)
        yield equity, peak
