"""Positions, margin, fees and funds of one paper account, in exact decimals.

Cost is kept as a sum and not as an average, and what a closing trade takes off it is what its profit is reckoned with,
so that `balance = initial - fees + realised + unrealised` holds to the last digit, whatever the division rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from vnpy_core.domain.enums import Direction, Offset
from vnpy_core.gateways.paper.model import ContractSpec, VenuePosition

ZERO = Decimal(0)
_CENT = Decimal("1e-8")
"""Cost is divided to this, so that sums of it stay within the 28 digits that decimals keep."""


class Holding:
    """One direction's holding in one contract. A NET holding's volume is signed; the others' never below 0."""

    def __init__(self, spec: ContractSpec, direction: Direction) -> None:
        self.spec = spec
        self.direction = direction
        self.today = ZERO
        self.yesterday = ZERO
        self.cost = ZERO
        """Sum of price x volume of what is held, signed as the volume is."""

    @property
    def volume(self) -> Decimal:
        """All that is held."""
        return self.today + self.yesterday

    @property
    def price(self) -> Decimal:
        """Average open price; 0 where nothing is held."""
        return self.cost / self.volume if self.volume else ZERO

    @property
    def margin(self) -> Decimal:
        """What the holding binds, at its open price."""
        return abs(self.cost) * self.spec.size * self.spec.margin_rate

    def unrealised(self, last_price: Decimal | None) -> Decimal:
        """Profit at `last_price`, 0 where that is not known."""
        if last_price is None or not self.volume:
            return ZERO
        value = (last_price * self.volume - self.cost) * self.spec.size
        return -value if self.direction is Direction.SHORT else value

    def roll(self) -> None:
        """A new trading day: what was opened today is yesterday's."""
        self.yesterday, self.today = self.yesterday + self.today, ZERO

    def open(self, volume: Decimal, price: Decimal) -> None:
        """Add `volume` (signed for NET)."""
        self.today += volume
        self.cost += price * volume

    def close(self, today: Decimal, yesterday: Decimal, price: Decimal) -> Decimal:
        """Take off volume; returns the realised profit before fees."""
        volume = today + yesterday
        cost = self.cost if volume == self.volume else (self.cost * volume / self.volume).quantize(_CENT)
        self.today -= today
        self.yesterday -= yesterday
        self.cost -= cost
        profit = (price * volume - cost) * self.spec.size
        return -profit if self.direction is Direction.SHORT else profit

    def split(self, offset: Offset, volume: Decimal) -> tuple[Decimal, Decimal]:
        """How much of a closing fill comes from today's and how much from yesterday's holding.

        SHFE and INE close yesterday's unless CLOSETODAY says otherwise; elsewhere CLOSE takes today's first, as
        VnPy's OffsetConverter reckons, and what an offset does not find it takes from the other.
        """
        if self.spec.close_today_separately:
            return (volume, ZERO) if offset is Offset.CLOSETODAY else (ZERO, volume)
        if offset is Offset.CLOSEYESTERDAY:
            yesterday = min(volume, self.yesterday)
            return volume - yesterday, yesterday
        today = min(volume, self.today)
        return today, volume - today


class Accounting:
    """The books of one account. Not thread-safe: the venue's one thread."""

    def __init__(self, cash: Decimal) -> None:
        self.cash = cash
        """Initial funds, with all fees paid and all realised profit."""
        self.holdings: dict[tuple[str, str, Direction], Holding] = {}

    def holding(self, spec: ContractSpec, direction: Direction) -> Holding:
        """The holding, made empty where there is none yet."""
        key = (spec.symbol, spec.exchange, direction)
        found = self.holdings.get(key)
        if found is None:
            found = self.holdings[key] = Holding(spec, direction)
        return found

    def of(self, symbol: str, exchange: str) -> list[Holding]:
        """All holdings in a contract."""
        keys = ((symbol, exchange, direction) for direction in Direction)
        return [self.holdings[key] for key in keys if key in self.holdings]

    def fill(
        self, spec: ContractSpec, direction: Direction, offset: Offset, price: Decimal, volume: Decimal
    ) -> tuple[Decimal, Holding]:
        """Book a fill; returns the fee and the holding that changed."""
        if spec.net_position:
            fee, holding = fee_of(spec, price, volume, ZERO), self.holding(spec, Direction.NET)
            self.cash += self._fill_net(holding, volume if direction is Direction.LONG else -volume, price)
        elif offset is Offset.OPEN:
            fee, holding = fee_of(spec, price, volume, ZERO), self.holding(spec, direction)
            holding.open(volume, price)
        else:
            holding = self.holding(spec, opposite(direction))
            today, yesterday = holding.split(offset, volume)
            fee = fee_of(spec, price, yesterday, today)
            self.cash += holding.close(today, yesterday, price)
        self.cash -= fee
        return fee, holding

    def margin(self) -> Decimal:
        """What all holdings bind."""
        return sum((holding.margin for holding in self.holdings.values()), ZERO)

    def unrealised(self, last_prices: Mapping[tuple[str, str], Decimal]) -> Decimal:
        """Profit of all holdings at the last prices."""
        return sum(
            (h.unrealised(last_prices.get((h.spec.symbol, h.spec.exchange))) for h in self.holdings.values()), ZERO
        )

    def _fill_net(self, holding: Holding, signed: Decimal, price: Decimal) -> Decimal:
        """A net holding closes first and opens what is left the other way."""
        held = holding.volume
        closing = ZERO if held * signed >= 0 else -signed if abs(signed) <= abs(held) else held
        profit = holding.close(closing, ZERO, price) if closing else ZERO
        if opening := signed + closing:
            holding.open(opening, price)
        return profit


def fee_of(spec: ContractSpec, price: Decimal, volume: Decimal, closed_today: Decimal) -> Decimal:
    """The fee for `volume` at the ordinary and `closed_today` at the close-today rates, in quote currency."""
    rate = spec.fee_rate if spec.close_today_fee_rate is None else spec.close_today_fee_rate
    per_lot = spec.fee_per_lot if spec.close_today_fee_per_lot is None else spec.close_today_fee_per_lot
    turnover = price * spec.size
    ordinary = volume * (turnover * spec.fee_rate + spec.fee_per_lot)
    return ordinary + closed_today * (turnover * rate + per_lot)


def opposite(direction: Direction) -> Direction:
    """The other side."""
    return Direction.SHORT if direction is Direction.LONG else Direction.LONG


def position_of(holding: Holding, frozen: Decimal, last_price: Decimal | None) -> VenuePosition:
    """The holding as the venue reports it."""
    return VenuePosition(
        symbol=holding.spec.symbol,
        exchange=holding.spec.exchange,
        direction=holding.direction,
        volume=holding.volume,
        yd_volume=holding.yesterday,
        frozen=frozen,
        price=holding.price,
        pnl=holding.unrealised(last_price),
    )


def total(volumes: Iterable[Decimal]) -> Decimal:
    """Their sum."""
    return sum(volumes, ZERO)
