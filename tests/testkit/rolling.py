"""A market for rollovers: an engine whose venue fills, and strategies whose `pos` follows the fills."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from testkit.fake_engine import FakeEngine
from testkit.fake_strategies import FakeStrategies
from vnpy_core.domain.commands import SubmitOrder, SubmittedOrder
from vnpy_core.domain.enums import Direction, ReconciliationState, Status
from vnpy_core.domain.errors import TradingHalted
from vnpy_core.domain.events import Order

OLD, NEW = "rb2701.SHFE", "rb2705.SHFE"


class RollingEngine(FakeEngine):
    """Every order is filled at once as far as `fills` says: it gets the command, and gives the volume."""

    def __init__(self, strategies: FakeStrategies) -> None:
        super().__init__()
        self.strategies = strategies
        self.fills: Callable[[SubmitOrder], float] = lambda command: command.volume
        self.status_of: Callable[[SubmitOrder], Status | None] = lambda command: None
        """The state of an order that is not filled at all; None for NOTTRADED."""
        self.fills_are_late = False
        """Fills come with `deliver` only, after the order's end."""
        self._late: list[tuple[Order, float]] = []
        self.held: dict[str, dict[str, float]] = {}
        """strategy_name -> vt_symbol -> signed lots: what the venue would say."""
        self.add_gateway()
        self.add_reconciliation(state=ReconciliationState.RECONCILED)
        for vt_symbol, price in ((OLD, 3500.0), (NEW, 3520.0)):
            self.add_contract(vt_symbol)
            self.show(vt_symbol, price)

    def show(self, vt_symbol: str, bid: float, **fields: float) -> None:
        """A tick: one tick of spread above `bid`."""
        self.add_tick(vt_symbol, bid_price_1=bid, ask_price_1=bid + 1, **fields)

    async def submit_order(self, command: SubmitOrder) -> SubmittedOrder:
        if self._halts:
            raise TradingHalted("trading is halted")
        error = self.next_errors.pop(0) if self.next_errors else None
        if error is not None:
            raise error
        self.commands.append(command)
        name = command.reference.removeprefix("CtaStrategy_")
        order = self.add_order(command, strategy_name=name)
        volume = self.fills(command)
        status = Status.ALLTRADED if volume == command.volume else Status.PARTTRADED
        if not volume:
            status = self.status_of(command) or Status.NOTTRADED
        order = self.update_order(order.vt_orderid, traded=volume, status=status)
        if volume:
            self._late.append((order, volume))
            if not self.fills_are_late:
                self.deliver()
        return SubmittedOrder(order=order)

    def deliver(self) -> None:
        """The fills that wait come."""
        late, self._late = self._late, []
        for order, volume in late:
            sign = 1 if order.direction is Direction.LONG else -1
            strategy = self.strategies.strategy(order.strategy_name or "")
            moved = msgspec.structs.replace(
                strategy, pos=strategy.pos + sign * volume, attributed_pos=strategy.attributed_pos + sign * volume
            )
            self.strategies._strategies[strategy.strategy_name] = moved
            own = self.held.setdefault(strategy.strategy_name, {OLD: strategy.pos})
            own[order.vt_symbol] = own.get(order.vt_symbol, 0.0) + sign * volume
            self.add_trade(order, volume)
