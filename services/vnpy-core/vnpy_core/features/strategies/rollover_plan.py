"""What a rollover would send, and what speaks against it, reckoned on what is known at one moment."""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

import msgspec

from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.enums import Direction, Offset, Product, ReconciliationState, StrategyState
from vnpy_core.domain.errors import FieldError, NotFound, ValidationFailed
from vnpy_core.domain.events import Contract, StrategyUpdate, Tick
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.engine import TradingEngine
from vnpy_core.ports.strategies import StrategyEngine

MOST_ORDERS = 1_000
"""Orders that one strategy's rollover may take at each contract."""
OLD_TICK_S = 60.0
"""A tick older than this is warned of, seconds."""
BUSY = (StrategyState.RUNNING, StrategyState.INITIALISING)
"""States in which a strategy's lots are its own business."""


class RolloverRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which strategies shall trade another contract, and how their lots get there."""

    from_vt_symbol: str
    to_vt_symbol: str
    strategies: tuple[str, ...] | None = None
    """None for all of the old contract."""
    gateway_name: str | None = None
    """May be left out where one gateway offers both contracts."""
    payup: int = 5
    """Ticks beyond the opposite best price."""
    max_volume: float = 100.0
    """Lots of one order."""
    timeout_s: float = 30.0
    ignore_unfinished: bool = False
    """Take all of `pos` as held in the old contract, whatever an unfinished rollover moved before."""


class PlannedOrders(msgspec.Struct, frozen=True, kw_only=True):
    """Orders that differ in nothing but their volume."""

    vt_symbol: str
    direction: Direction
    offset: Offset
    volume: float
    """Of all together, lots."""
    price: float | None
    """At the present market, which it follows while the rollover runs; null where there is no price."""
    orders: int


class PlannedStrategy(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy's part. Numbers of lots are signed: long counts plus."""

    strategy_name: str
    pos: float
    """What it holds, in both contracts."""
    old: float
    """Of that in the old contract: to be closed there, and opened in the new one."""
    new: float
    """Of that in the new contract, by an earlier rollover that did not finish."""
    lacking: float
    """Lots that the earlier one closed and did not open again: to be opened too."""
    orders: list[PlannedOrders]


class RolloverPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollover would do now."""

    from_vt_symbol: str
    to_vt_symbol: str
    gateway_name: str
    strategies: list[PlannedStrategy]
    problems: list[str]
    """Why it may not begin; empty where it may."""
    warnings: list[str]
    """What to look at before it begins."""


class Carried(NamedTuple):
    """What an unfinished rollover left of a strategy: signed lots in the new contract, and those not opened again."""

    new: float = 0.0
    lacking: float = 0.0
    problem: str = ""
    """Why the next one cannot go on from there."""


class Market(NamedTuple):
    """A contract and its last tick, if one came."""

    contract: Contract
    tick: Tick | None

    def price(self, direction: Direction, payup: int) -> float | None:
        """`payup` ticks beyond the opposite best, or the last price; within the limits. None where there is none."""
        tick, step = self.tick, self.contract.pricetick
        buys = direction is Direction.LONG
        best = ((tick.ask_price_1 if buys else tick.bid_price_1) or tick.last_price) if tick else 0.0
        if tick is None or not best or not math.isfinite(best):
            return None
        price = to_step(best + payup * step * (1 if buys else -1), step)
        if price <= 0 and self.contract.product is not Product.SPREAD:
            price = step
        limit = tick.limit_up if buys else tick.limit_down
        return (min(price, limit) if buys else max(price, limit)) if limit else price

    def most(self, max_volume: float) -> float:
        """The largest volume of one order, of at most `max_volume`; 0 where the contract trades no so few."""
        volume = min(max_volume, self.contract.max_volume or max_volume)
        return to_step(volume, self.contract.min_volume, decimal.ROUND_FLOOR)


class Planner:
    """Loop thread only."""

    def __init__(self, engine: TradingEngine, strategies: StrategyEngine, view: ReadView, clock: Clock) -> None:
        self._engine = engine
        self._strategies = strategies
        self._view = view
        self._clock = clock

    def plan(self, request: RolloverRequest, carried: Callable[[StrategyUpdate], Carried]) -> RolloverPlan:
        """`carried` says what an earlier rollover left of a strategy. Raises NotFound, ValidationFailed, Conflict."""
        old, new = self.markets(request)
        parts, problems = [], list(self._gateway_problems(old.contract.gateway_name))
        for strategy in self._chosen(request):
            left = Carried() if request.ignore_unfinished else carried(strategy)
            part = planned(strategy, left, old, new, request)
            parts.append(part)
            problems += [*self._strategy_problems(strategy), *filter(None, [left.problem])]
            problems += order_problems(part, old, new, request)
        if not parts:
            problems.append(f"no strategy trades {request.from_vt_symbol}")
        return RolloverPlan(
            from_vt_symbol=request.from_vt_symbol,
            to_vt_symbol=request.to_vt_symbol,
            gateway_name=old.contract.gateway_name,
            strategies=parts,
            problems=list(dict.fromkeys(problems)),
            warnings=[
                *contract_warnings(old.contract, new.contract),
                *self._holding_warnings(old.contract, parts),
                *self._tick_warnings(old, new),
            ],
        )

    def markets(self, request: RolloverRequest) -> tuple[Market, Market]:
        """The old and the new contract, at one gateway. Raises NotFound, ValidationFailed."""
        names = (request.from_vt_symbol, request.to_vt_symbol)
        if names[0] == names[1]:
            raise _wrong("to_vt_symbol", "is the old contract")
        for name in names:
            if not self._view.contracts.get(name):
                raise NotFound(f"no gateway offers a contract {name!r}")
        both = set(self._view.contracts[names[0]]) & set(self._view.contracts[names[1]])
        if request.gateway_name is not None:
            both &= {request.gateway_name}
        if not both:
            raise NotFound(f"{request.gateway_name or 'no gateway'} does not offer both {names[0]} and {names[1]}")
        if len(both) > 1:
            raise _wrong("gateway_name", f"must be given: {', '.join(sorted(both))} offer both contracts")
        gateway_name = both.pop()
        old, new = (Market(self._view.contracts[name][gateway_name], self._view.ticks.get(name)) for name in names)
        return old, new

    def _chosen(self, request: RolloverRequest) -> list[StrategyUpdate]:
        if request.strategies is None:
            return [each for each in self._strategies.strategies() if each.vt_symbol == request.from_vt_symbol]
        chosen = [self._strategies.strategy(name) for name in dict.fromkeys(request.strategies)]
        for strategy in chosen:
            if strategy.vt_symbol != request.from_vt_symbol:
                raise _wrong("strategies", f"{strategy.strategy_name} trades {strategy.vt_symbol}")
        return chosen

    def _gateway_problems(self, gateway_name: str) -> Iterator[str]:
        if self._engine.halts():
            yield "trading is halted"
        if not any(gateway.connected for gateway in self._engine.gateways() if gateway.gateway_name == gateway_name):
            yield f"{gateway_name} is not connected"
        if not is_reconciled(self._engine, gateway_name):
            yield f"{gateway_name} is not reconciled with the books: see /trading/reconciliation"

    def _strategy_problems(self, strategy: StrategyUpdate) -> Iterator[str]:
        name = strategy.strategy_name
        if strategy.trading or strategy.state in BUSY:
            yield f"{name} is {strategy.state}: stop it first"
        if not math.isfinite(strategy.pos):
            yield f"{name}: its pos is no number"
        elif not strategy.inited and strategy.pos != strategy.attributed_pos:
            # Before its on_init a strategy has not read what it saved.
            yield (
                f"{name}: its pos is not known (it says {strategy.pos:g}, its fills {strategy.attributed_pos:g}): "
                "initialise it first"
            )
        if any(order.strategy_name == name for order in self._view.active_orders.values()):
            yield f"{name} has active orders: cancel them first"
        if any(stop_order.strategy_name == name for stop_order in self._strategies.stop_orders()):
            yield f"{name} has stop orders: cancel them first"

    def _tick_warnings(self, *markets: Market) -> Iterator[str]:
        for contract, tick in markets:
            age = (self._clock.now() - (tick.localtime or tick.datetime)).total_seconds() if tick else 0.0
            if age > OLD_TICK_S:
                yield f"the last tick of {contract.vt_symbol} is {age:.0f} s old"

    def _holding_warnings(self, old: Contract, parts: Iterable[PlannedStrategy]) -> Iterator[str]:
        """Where the account holds other than what would be closed."""
        closed = {Direction.LONG: 0.0, Direction.SHORT: 0.0}
        for part in parts:
            closed[side_of(part.old)] = exact(closed[side_of(part.old)], abs(part.old))
        held = {
            position.direction: position.volume
            for position in self._view.positions.values()
            if (position.vt_symbol, position.gateway_name) == (old.vt_symbol, old.gateway_name)
        }
        if Direction.NET in held:
            closed = {Direction.NET: exact(closed[Direction.LONG], -closed[Direction.SHORT])}
        for side, volume in closed.items():
            own = held.get(side, 0.0)
            if own != volume:
                rest = "the rest stays there" if abs(own) > abs(volume) else "so much cannot be closed"
                yield f"the account holds {own:g} {side} of {old.vt_symbol}, these strategies {volume:g}: {rest}"


def is_reconciled(engine: TradingEngine, gateway_name: str) -> bool:
    """Whether orders pass a gateway, as far as its books go."""
    open_to_orders = (ReconciliationState.RECONCILED, ReconciliationState.ACCEPTED)
    return any(
        report.gateway_name == gateway_name and report.state in open_to_orders for report in engine.reconciliations()
    )


def planned(
    strategy: StrategyUpdate, left: Carried, old: Market, new: Market, request: RolloverRequest
) -> PlannedStrategy:
    """The part of one strategy."""
    pos = strategy.pos if math.isfinite(strategy.pos) else 0.0
    to_close = exact(pos, -left.new)
    to_open = exact(to_close, left.lacking)
    return PlannedStrategy(
        strategy_name=strategy.strategy_name,
        pos=pos,
        old=to_close,
        new=left.new,
        lacking=left.lacking,
        orders=[
            *_orders(old, side_of(-to_close), Offset.CLOSE, abs(to_close), request),
            *_orders(new, side_of(to_open), Offset.OPEN, abs(to_open), request),
        ],
    )


def _orders(
    market: Market, direction: Direction, offset: Offset, volume: float, request: RolloverRequest
) -> Iterator[PlannedOrders]:
    most = market.most(request.max_volume)
    if volume:
        yield PlannedOrders(
            vt_symbol=market.contract.vt_symbol,
            direction=direction,
            offset=offset,
            volume=volume,
            price=market.price(direction, request.payup),
            orders=math.ceil(_decimal(volume) / _decimal(most)) if most > 0 else 0,
        )


def order_problems(part: PlannedStrategy, old: Market, new: Market, request: RolloverRequest) -> Iterator[str]:
    """Why the orders of a strategy cannot be sent as they are."""
    steps = {market.contract.vt_symbol: market.contract.min_volume for market in (old, new)}
    for orders in part.orders:
        name, step = orders.vt_symbol, steps[orders.vt_symbol]
        if orders.price is None:
            yield f"{name} has no price: subscribe to it and wait for a tick"
        if to_step(orders.volume, step) != orders.volume:
            yield f"{part.strategy_name}: {orders.volume:g} is no multiple of {name}'s min_volume {step:g}"
        elif not orders.orders:
            yield f"max_volume {request.max_volume:g} is less than {name}'s min_volume {step:g}"
        elif orders.orders > MOST_ORDERS:
            yield f"{part.strategy_name}: {orders.volume:g} lots would take {orders.orders} orders: raise max_volume"


def contract_warnings(old: Contract, new: Contract) -> list[str]:
    """Where as many lots of the new contract are another thing."""
    return [
        f"{name} is {getattr(old, name):g} in {old.vt_symbol} and {getattr(new, name):g} in {new.vt_symbol}"
        for name in ("size", "pricetick")
        if getattr(old, name) != getattr(new, name)
    ]


def side_of(volume: float) -> Direction:
    """The direction of a signed number of lots."""
    return Direction.LONG if volume >= 0 else Direction.SHORT


def to_step(value: float, step: float, rounding: str = decimal.ROUND_HALF_EVEN) -> float:
    """The multiple of `step` next to `value`; both count as the decimals they print as."""
    if step <= 0:
        return value
    unit = _decimal(step)
    return float((_decimal(value) / unit).to_integral_value(rounding) * unit)


def exact(*values: float) -> float:
    """Their sum, of the decimals they print as: 0.3 - 0.1 is 0.2."""
    return float(sum(map(_decimal, values)))


def _decimal(value: float) -> Decimal:
    return Decimal(repr(float(value)))


def _wrong(field: str, message: str) -> ValidationFailed:
    return ValidationFailed(f"{field} {message}", errors=[FieldError(field, message)])
