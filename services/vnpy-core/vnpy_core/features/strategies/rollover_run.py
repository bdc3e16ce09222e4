"""One rollover while it runs.

A strategy's lots are closed and opened by turns, one order at a time: what an order closed is opened again before the
next one closes, so that no more than one order's volume is out of the market. An order lives for 2 s, then the next one
follows the market. It is the strategy's own by its reference, so fills are attributed and `pos` follows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import decimal
from collections.abc import Awaitable, Callable
from itertools import count
from typing import NamedTuple

import structlog

from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.commands import SubmitOrder
from vnpy_core.domain.enums import IntentState, Offset, OrderType, Status
from vnpy_core.domain.errors import CoreError, NotFound, OutcomeUnknown, TradingHalted, describe
from vnpy_core.domain.events import Event, Order, Trade
from vnpy_core.features.strategies.rollover_plan import BUSY, Market, exact, is_reconciled, side_of, to_step
from vnpy_core.features.strategies.rollover_records import RolledStrategy, Rollover
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.engine import TradingEngine
from vnpy_core.ports.strategies import StrategyEngine

AT_A_TIME = 8
"""Strategies that are rolled at the same time."""
CANCELS = 5
"""How often an order is asked to cancel before it is left alone."""
REFERENCE = "CtaStrategy_"
"""What an order's reference begins with that a CTA strategy sent; its name follows."""
ORDER_ID = "ro-"
"""What a rollover's client_order_ids begin with."""
_NOTHING_SENT = (IntentState.DENIED, IntentState.REFUSED, IntentState.NOT_SENT)

_log = structlog.get_logger(__name__)


class Doors(NamedTuple):
    """What a run works through."""

    engine: TradingEngine
    strategies: StrategyEngine
    view: ReadView
    clock: Clock
    save: Callable[[], Awaitable[None]]
    """Keep how far all rollovers are."""
    reprice_s: float
    """How long an order may wait for its fills, and how long after one without any the next is sent, seconds."""


class _Stopped(Exception):
    """A strategy's part goes on no more; the text says why."""


class _Next(NamedTuple):
    """What a part's next order is."""

    vt_symbol: str
    offset: Offset
    volume: float
    sign: int


class RolloverRun:
    """Loop thread only."""

    def __init__(self, record: Rollover, doors: Doors) -> None:
        self.record = record
        self.ended = asyncio.Event()
        """Set by its owner."""
        self._doors = doors
        self._deadline = doors.clock.monotonic() + record.timeout_s
        self._stopping = asyncio.Event()
        self._why = ""
        self._news = {part.strategy_name: asyncio.Event() for part in record.strategies}
        """strategy_name -> set with each of its orders and fills."""
        self._filled: dict[str, float] = {}
        """vt_orderid -> the volume of its fills since this run began."""

    def stop(self, reason: str) -> None:
        """Send nothing more, and cancel what is active."""
        self._why = reason
        self._stopping.set()
        for news in self._news.values():
            news.set()

    def tell(self, event: Event) -> None:
        """An order or a fill of any strategy."""
        if not isinstance(event, Order | Trade) or event.strategy_name not in self._news:
            return
        if isinstance(event, Trade):
            self._filled[event.vt_orderid] = exact(self._filled.get(event.vt_orderid, 0.0), event.volume)
        self._news[event.strategy_name].set()

    async def roll(self) -> None:
        """Do it, until all is moved, the time is up or `stop`. What kept a strategy is in its `problem`."""
        turns = asyncio.Semaphore(AT_A_TIME)
        for sign in (1, -1):  # not at once: an order of one side would meet one of the other
            parts = [part for part in self.record.strategies if part.sign == sign]
            await asyncio.gather(*(self._roll_in_turn(part, turns) for part in parts))

    async def settle(self) -> bool:
        """Bring to rest what an earlier run of the service left: cancel its orders, and count what they did.

        Waits until the gateway is reconciled; False where `stop` came before.
        """
        for part in self.record.strategies:
            if not part.moved:
                part.problem = "the service ended meanwhile"
        while not is_reconciled(self._doors.engine, self.record.gateway_name):
            await self._pause()
            if self._stopping.is_set():
                return False
        for index, part in enumerate(self.record.strategies):
            if part.moved:
                continue
            if self._was_moved(part):
                part.moved, part.problem = True, None
                await self._give_auto_start_back(part)
                continue
            closing, opening = (self._orders_named(self._name(index, offset)) for offset in (Offset.CLOSE, Offset.OPEN))
            if not await self._end(part, [order.vt_orderid for order in (*closing, *opening)]):
                part.problem = "the service ended meanwhile, and orders of it may still trade"
            # Of a rollover of long ago the orders may be forgotten, but not what was counted then.
            part.closed = max(part.closed, self._traded(closing))
            part.opened = max(part.opened, self._traded(opening))
            await self._give_auto_start_back(part)
        return True

    def _was_moved(self, part: RolledStrategy) -> bool:
        """Whether it trades the new contract by now: the end may have come before that was written here."""
        with contextlib.suppress(NotFound):
            return self._doors.strategies.strategy(part.strategy_name).vt_symbol == self.record.to_vt_symbol
        return False

    async def _roll_in_turn(self, part: RolledStrategy, turns: asyncio.Semaphore) -> None:
        async with turns:
            try:
                await self._roll(part)
            except _Stopped as stopped:
                part.problem = "; ".join(filter(None, [str(stopped), part.problem]))
            except CoreError as error:
                part.problem = describe(error)
            except Exception:  # noqa: BLE001 - a guarded door: a fault with one strategy must not keep the others
                _log.exception("a strategy's rollover failed", strategy_name=part.strategy_name, id=self.record.id)
                part.problem = "it failed inside the service; the log has more"
            finally:
                await self._give_auto_start_back(part)
            if part.moved:
                await self._doors.save()  # the others may take long

    async def _roll(self, part: RolledStrategy) -> None:
        name = part.strategy_name
        if part.auto_start and (part.to_open or part.to_close):
            # A restart in the middle would let it trade lots of two contracts as if they were one's.
            await self._doors.strategies.set_auto_start(name, False, by=self.record.by)
        for number in count(1):
            if not (part.to_open or part.to_close):
                break
            self._require_going(name)
            if await self._trade(part, number, self._next(part)):
                part.problem = None
                await self._doors.save()
            else:
                await self._pause()
        await self._doors.strategies.move(name, self.record.to_vt_symbol, by=self.record.by)
        part.moved = True

    async def _give_auto_start_back(self, part: RolledStrategy) -> None:
        """Where it was taken, and the strategy's lots are in one contract."""
        strategies, name = self._doors.strategies, part.strategy_name
        try:
            if part.auto_start and not part.is_split and not strategies.strategy(name).auto_start:
                await strategies.set_auto_start(name, True, by=self.record.by)
        except CoreError as error:
            part.problem = f"auto_start is still off: {describe(error)}"

    def _require_going(self, name: str) -> None:
        """Raises _Stopped, NotFound (the strategy was removed)."""
        if self._stopping.is_set():
            raise _Stopped(self._why)
        if self._doors.clock.monotonic() >= self._deadline:
            raise _Stopped(f"the {self.record.timeout_s:g} s are over")
        strategy = self._doors.strategies.strategy(name)
        if strategy.trading or strategy.state in BUSY:
            raise _Stopped(f"{name} is {strategy.state}")

    def _next(self, part: RolledStrategy) -> _Next:
        """First what is closed is opened. Raises _Stopped."""
        record = self.record
        for vt_symbol, offset, wanted, sign in (
            (record.to_vt_symbol, Offset.OPEN, part.to_open, part.sign),
            (record.from_vt_symbol, Offset.CLOSE, part.to_close, -part.sign),
        ):
            market = self._market(vt_symbol)
            volume = min(wanted, market.most(record.max_volume))
            if (volume := to_step(volume, market.contract.min_volume, decimal.ROUND_FLOOR)) > 0:
                return _Next(vt_symbol, offset, volume, sign)
        raise _Stopped(f"{part.to_open:g} lots are too few to be opened")

    async def _trade(self, part: RolledStrategy, number: int, step: _Next) -> bool:
        """Send one order and see it end; False where nothing of it was filled. Raises _Stopped."""
        market = self._market(step.vt_symbol)
        direction = side_of(step.sign)
        price = market.price(direction, self.record.payup)
        if price is None:
            part.problem = f"{step.vt_symbol} has no price"
            return False
        contract = market.contract
        command = SubmitOrder(
            client_order_id=f"{self._name(self.record.strategies.index(part), step.offset)}{number}",
            gateway_name=contract.gateway_name,
            symbol=contract.symbol,
            exchange=contract.exchange,
            direction=direction,
            offset=step.offset,
            type=OrderType.LIMIT,
            volume=step.volume,
            price=price,
            reference=f"{REFERENCE}{part.strategy_name}",
        )
        vt_orderids = await self._send(part, command)
        try:
            await self._see_end(part, vt_orderids)
        finally:
            traded = self._count(part, step.offset, vt_orderids)
        return traded > 0

    def _count(self, part: RolledStrategy, offset: Offset, vt_orderids: list[str]) -> float:
        """What these orders, which have ended, did; returns their lots."""
        traded = self._traded(self._orders(vt_orderids))
        if offset is Offset.OPEN:
            part.opened = exact(part.opened, traded)
        else:
            part.closed = exact(part.closed, traded)
        return traded

    async def _send(self, part: RolledStrategy, command: SubmitOrder) -> list[str]:
        """The ids of the orders that it became, none where it was refused. Raises _Stopped."""
        try:
            submitted = await self._doors.engine.submit_order(command)
        except OutcomeUnknown as unknown:
            return await self._look_for(part, command, unknown)
        except TradingHalted as halted:
            raise _Stopped(describe(halted)) from halted
        except CoreError as error:
            part.problem = describe(error)
            return []
        return [order.vt_orderid for order in submitted.children or (submitted.order,)]

    async def _look_for(self, part: RolledStrategy, command: SubmitOrder, unknown: OutcomeUnknown) -> list[str]:
        """What became of an order that may have been sent, once that is known. It is not sent again. Raises _Stopped"""

        client_order_id = command.client_order_id

        def found() -> list[Order]:
            parts = self._orders_named(client_order_id)  # of 1, and those of 10
            return [order for order in parts if (order.client_order_id or "").split(".")[0] == client_order_id]

        def is_known() -> bool:
            """Of each part, or what is still to come would be sent twice."""
            seen = {order.client_order_id for order in found()}
            outcomes = self._outcomes(client_order_id)
            is_settled = [name in seen or state in _NOTHING_SENT for name, state in outcomes.items()]
            return all(is_settled) and bool(seen or outcomes)

        part.problem = describe(unknown)
        if not await self._until(part, is_known, CANCELS * self._doors.reprice_s):
            known = [order.vt_orderid for order in found()]
            await self._end(part, known)
            self._count(part, command.offset, known)
            raise _Stopped(f"nobody knows whether all of order {client_order_id} was sent")
        return [order.vt_orderid for order in found()]

    def _outcomes(self, client_order_id: str) -> dict[str, IntentState | None]:
        """What became of an order and the further parts that it was split into, by name."""
        outcomes: dict[str, IntentState | None] = {}
        for number in count(1):
            name = client_order_id if number == 1 else f"{client_order_id}.{number}"
            if (known := self._doors.engine.intent(name)) is None:
                break
            outcomes[name] = None if known[1] is None else known[1].state
        return outcomes

    async def _see_end(self, part: RolledStrategy, vt_orderids: list[str]) -> None:
        """Wait for fills, cancel the rest, wait for the end and all fills. Raises _Stopped where that does not come."""
        await self._until(part, lambda: self._are_over(vt_orderids) or self._stopping.is_set())
        if not await self._end(part, vt_orderids):
            raise _Stopped(f"{', '.join(vt_orderids)} does not end, and may still trade")
        orders = self._orders(vt_orderids)
        for order in orders:
            if order.status is Status.REJECTED:
                part.problem = f"the venue rejected {order.vt_orderid}: {order.reason or 'no reason given'}"

        def are_filled() -> bool:
            return all(self._filled.get(order.vt_orderid, 0.0) >= order.traded for order in orders)

        # A strategy must have its fills before it is moved.
        if not await self._until(part, are_filled, CANCELS * self._doors.reprice_s):
            raise _Stopped(f"fills of {', '.join(vt_orderids)} did not come")

    async def _end(self, part: RolledStrategy, vt_orderids: list[str]) -> bool:
        """Cancel what is active of these, again and again; False where that does not help."""
        for _ in range(CANCELS):
            if self._are_over(vt_orderids):
                return True
            for order in self._orders(vt_orderids):
                if order.is_active:
                    with contextlib.suppress(CoreError):  # it ended just now, or the next try helps
                        await self._doors.engine.cancel_order(order.vt_orderid)
            await self._until(part, lambda: self._are_over(vt_orderids))
        return self._are_over(vt_orderids)

    async def _until(self, part: RolledStrategy, done: Callable[[], bool], seconds: float | None = None) -> bool:
        """Whether `done` within `seconds` (by default `reprice_s`), looked at with each news of the strategy."""
        news = self._news[part.strategy_name]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._doors.reprice_s if seconds is None else seconds):
                while not done():
                    news.clear()
                    await news.wait()
        return done()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), self._doors.reprice_s)

    def _market(self, vt_symbol: str) -> Market:
        view = self._doors.view
        return Market(view.contracts[vt_symbol][self.record.gateway_name], view.ticks.get(vt_symbol))

    def _name(self, index: int, offset: Offset) -> str:
        """What the client_order_ids of a part's orders begin with; a number follows."""
        return f"{ORDER_ID}{self.record.id}-{index}-{'o' if offset is Offset.OPEN else 'c'}"

    def _orders(self, vt_orderids: list[str]) -> list[Order]:
        return [order for order in map(self._doors.view.order, vt_orderids) if order is not None]

    def _orders_named(self, beginning: str) -> list[Order]:
        """Those whose client_order_id begins so."""
        return [order for order in self._doors.view.orders() if (order.client_order_id or "").startswith(beginning)]

    def _are_over(self, vt_orderids: list[str]) -> bool:
        orders = self._orders(vt_orderids)
        return len(orders) == len(vt_orderids) and not any(order.is_active for order in orders)

    def _traded(self, orders: list[Order]) -> float:
        """Lots; of orders that were asked for before, as they are now."""
        return exact(*(order.traded for order in self._orders([order.vt_orderid for order in orders])))
