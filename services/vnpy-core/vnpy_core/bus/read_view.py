"""The state as of the last published event: what REST reads and what WebSocket snapshots are made of."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from itertools import chain

from vnpy_core.bus.message import Message
from vnpy_core.domain.books import content_of, halt_key, trade_content, trading_day
from vnpy_core.domain.events import (
    Account,
    AlgoUpdate,
    Contract,
    Event,
    Gateway,
    Halt,
    Job,
    Order,
    Position,
    Quote,
    StopOrderUpdate,
    StrategyUpdate,
    Tick,
    Trade,
)

KEEP_FINISHED = 50_000
KEEP_STOP_ORDERS = 1_000
"""Stop orders that wait no longer; each snapshot of their topic sends them all."""
KEEP_JOBS = 20
"""Jobs that have ended, for the same reason; REST has them all."""


def same_order(one: Order, other: Order) -> bool:
    """Whether these are two states of one order: some venues use a vt_orderid again on another day. Any thread."""
    if one.client_order_id and other.client_order_id:
        return one.client_order_id == other.client_order_id
    days = {trading_day(order.datetime) for order in (one, other) if order.datetime}
    return content_of(one) == content_of(other) and len(days) < 2


def same_trade(one: Trade, other: Trade) -> bool:
    """Whether these are one fill: some venues use a vt_tradeid again. Any thread."""
    return trade_content(one) == trade_content(other)


class ReadView:
    """Loop thread only. Fed with every message before subscribers see it.

    Finished orders, finished quotes and trades are kept up to `keep_finished` each, the oldest going first; what is
    active always stays.
    """

    def __init__(self, keep_finished: int = KEEP_FINISHED) -> None:
        self._keep = keep_finished
        self._keep_stops = min(keep_finished, KEEP_STOP_ORDERS)
        self.seq = 0
        self.complete_from = 0
        """Every order and trade whose `seq` is above this is held; below it some are missing."""
        self.ticks: dict[str, Tick] = {}
        self.active_orders: dict[str, Order] = {}
        self.finished_orders: OrderedDict[str, Order] = OrderedDict()
        self.trades: OrderedDict[str, Trade] = OrderedDict()
        self.positions: dict[str, Position] = {}
        self.accounts: dict[str, Account] = {}
        self.contracts: dict[str, dict[str, Contract]] = {}
        """vt_symbol -> gateway_name -> contract: several gateways may offer the same one."""
        self.active_quotes: dict[str, Quote] = {}
        self.finished_quotes: OrderedDict[str, Quote] = OrderedDict()
        self.gateways: dict[str, Gateway] = {}
        self.strategies: dict[str, StrategyUpdate] = {}
        self.stop_orders: dict[str, StopOrderUpdate] = {}
        self.halts: dict[str, Halt] = {}
        """Those in force, by `domain.books.halt_key`."""
        self.algos: dict[str, AlgoUpdate] = {}
        self.jobs: dict[str, Job] = {}
        self._finished_stops: OrderedDict[str, None] = OrderedDict()
        self._ended_jobs: OrderedDict[str, None] = OrderedDict()
        self._client_ids: dict[str, str] = {}
        self._waiters: dict[str, list[tuple[str, asyncio.Future[Order]]]] = {}

    def clear(self) -> None:
        """Forget everything, to be seeded anew; those who wait for an order go on waiting."""
        self.seq = self.complete_from = 0
        for held in (
            *(self.ticks, self.active_orders, self.finished_orders, self.trades, self.positions, self.accounts),
            *(self.contracts, self.active_quotes, self.finished_quotes, self.gateways, self.strategies),
            *(self.stop_orders, self.halts, self.algos, self.jobs),
            *(self._finished_stops, self._ended_jobs, self._client_ids),
        ):
            held.clear()

    def seed(
        self,
        *,
        orders: Iterable[Event] = (),
        trades: Iterable[Event] = (),
        halts: Iterable[Event] = (),
        stop_orders: Iterable[Event] = (),
        others: Iterable[Event] = (),
        seq: int = 0,
        complete_from: int = 0,
    ) -> None:
        """Take in what was known before this start, oldest changes first; nothing is published.

        `seq` is the last one given out. No order or trade with a `seq` above `complete_from` may be missing.
        """
        self.seq = max(self.seq, seq)
        self.complete_from = max(self.complete_from, complete_from)
        for event in chain(orders, trades, halts, stop_orders, others):
            self._take(event)

    def apply(self, message: Message) -> None:
        """Take in one message."""
        self.seq = max(self.seq, message.seq)
        self._take(message.data)

    def _take(self, event: Event) -> None:
        match event:
            case Tick():
                self.ticks[event.vt_symbol] = event
            case Order():
                self._apply_order(event)
            case Trade():
                self._apply_trade(event)
            case Position():
                self.positions[event.vt_positionid] = event
            case Account():
                self.accounts[event.vt_accountid] = event
            case Contract():
                self.contracts.setdefault(event.vt_symbol, {})[event.gateway_name] = event
            case Quote():
                self._apply_quote(event)
            case Gateway():
                self.gateways[event.gateway_name] = event
            case StrategyUpdate():
                self.strategies[event.strategy_name] = event
            case StopOrderUpdate():
                self._apply_stop_order(event)
            case Halt():
                self._apply_halt(event)
            case AlgoUpdate():
                self.algos[event.algo_name] = event
            case Job():
                self._apply_job(event)
            case _:
                pass

    def forget(self, event: Event) -> None:
        """Let go of a thing of a class B topic (or a contract) that is there no longer; nothing is published."""
        match event:
            case Position():
                self.positions.pop(event.vt_positionid, None)
            case Account():
                self.accounts.pop(event.vt_accountid, None)
            case Contract():
                offers = self.contracts.get(event.vt_symbol, {})
                offers.pop(event.gateway_name, None)
                if not offers:
                    self.contracts.pop(event.vt_symbol, None)
            case Gateway():
                self.gateways.pop(event.gateway_name, None)
            case StrategyUpdate():
                self.strategies.pop(event.strategy_name, None)
            case StopOrderUpdate():
                self.stop_orders.pop(event.stop_orderid, None)
                self._finished_stops.pop(event.stop_orderid, None)
            case AlgoUpdate():
                self.algos.pop(event.algo_name, None)
            case Job():
                self.jobs.pop(event.id, None)
                self._ended_jobs.pop(event.id, None)
            case _:
                pass

    def order(self, vt_orderid: str) -> Order | None:
        """The order with this id, if it is active or among the finished ones still kept."""
        return self.active_orders.get(vt_orderid) or self.finished_orders.get(vt_orderid)

    def order_by_client_id(self, client_order_id: str) -> Order | None:
        """The order that a caller named so."""
        order = self.order(self._client_ids.get(client_order_id, ""))
        return order if order is not None and order.client_order_id == client_order_id else None

    def orders(self) -> Iterable[Order]:
        """All orders held: finished ones first, then active ones."""
        yield from self.finished_orders.values()
        yield from self.active_orders.values()

    async def wait_for_order(self, vt_orderid: str, timeout: float, client_order_id: str = "") -> Order | None:
        """The order once the view has it, or None after `timeout` seconds.

        With a `client_order_id` only an order of that name, or a part of it, is meant: some venues give ids again.
        """
        known = self.order(vt_orderid)
        if known is not None and _is_named(known, client_order_id):
            return known
        waiter: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
        entry = (client_order_id, waiter)
        self._waiters.setdefault(vt_orderid, []).append(entry)
        try:
            return await asyncio.wait_for(waiter, timeout)
        except TimeoutError:
            return None
        finally:
            waiting = self._waiters.get(vt_orderid, [])
            if entry in waiting:
                waiting.remove(entry)
            if not waiting:
                self._waiters.pop(vt_orderid, None)

    def snapshot(self, topic: str) -> list[tuple[str, Event]]:
        """The latest events under one exact topic as `(key, event)`, for topics that have a state; else empty."""
        if topic.startswith("tick."):
            tick = self.ticks.get(topic[len("tick.") :])
            return [(tick.vt_symbol, tick)] if tick else []
        states: dict[str, dict[str, Event]] = {
            "position.updated": dict(self.positions),
            "account.updated": dict(self.accounts),
            "order.updated": dict(self.active_orders),
            "quote.updated": dict(self.active_quotes),
            "gateway.updated": dict(self.gateways),
            "strategy.updated": dict(self.strategies),
            "stop_order.updated": dict(self.stop_orders),
            "risk.halt": dict(self.halts),
            "algo.updated": dict(self.algos),
            "job.updated": dict(self.jobs),
        }
        if topic == "contract.updated":
            return [
                (f"{gateway}.{vt_symbol}", contract)
                for vt_symbol, offers in self.contracts.items()
                for gateway, contract in offers.items()
            ]
        return list(states.get(topic, {}).items())

    def _apply_order(self, order: Order) -> None:
        former = self.order(order.vt_orderid)
        if former is not None and not same_order(former, order):
            self._forget(former)
        if order.client_order_id:
            self._client_ids[order.client_order_id] = order.vt_orderid
        self.finished_orders.pop(order.vt_orderid, None)
        if order.is_active:
            self.active_orders[order.vt_orderid] = order
        else:
            self.active_orders.pop(order.vt_orderid, None)
            self.finished_orders[order.vt_orderid] = order
            if len(self.finished_orders) > self._keep:
                self._forget(self.finished_orders.popitem(last=False)[1])
        for client_order_id, waiter in self._waiters.get(order.vt_orderid, []):
            if not waiter.done() and _is_named(order, client_order_id):
                waiter.set_result(order)

    def _forget(self, order: Order) -> None:
        """This order is held no longer, though the store may have it."""
        self.complete_from = max(self.complete_from, order.seq)
        # The name may belong to a later order by now.
        if order.client_order_id and self._client_ids.get(order.client_order_id) == order.vt_orderid:
            del self._client_ids[order.client_order_id]

    def _apply_trade(self, trade: Trade) -> None:
        former = self.trades.get(trade.vt_tradeid)
        if former is not None and not same_trade(former, trade):
            self.complete_from = max(self.complete_from, former.seq)
        self.trades[trade.vt_tradeid] = trade
        if len(self.trades) > self._keep:
            self.complete_from = max(self.complete_from, self.trades.popitem(last=False)[1].seq)

    def _apply_halt(self, halt: Halt) -> None:
        if halt.active:
            self.halts[halt_key(halt)] = halt
        else:
            self.halts.pop(halt_key(halt), None)

    def _apply_stop_order(self, stop_order: StopOrderUpdate) -> None:
        name = stop_order.stop_orderid
        self.stop_orders[name] = stop_order
        self._finished_stops.pop(name, None)
        if stop_order.status != "WAITING":
            self._finished_stops[name] = None
            if len(self._finished_stops) > self._keep_stops:
                del self.stop_orders[self._finished_stops.popitem(last=False)[0]]

    def _apply_job(self, job: Job) -> None:
        self.jobs[job.id] = job
        if job.state.is_final:
            self._ended_jobs[job.id] = None
            if len(self._ended_jobs) > KEEP_JOBS:
                del self.jobs[self._ended_jobs.popitem(last=False)[0]]

    def _apply_quote(self, quote: Quote) -> None:
        if quote.status.is_active:
            self.active_quotes[quote.vt_quoteid] = quote
            self.finished_quotes.pop(quote.vt_quoteid, None)
            return
        self.active_quotes.pop(quote.vt_quoteid, None)
        self.finished_quotes[quote.vt_quoteid] = quote
        if len(self.finished_quotes) > self._keep:
            self.finished_quotes.popitem(last=False)


def _is_named(order: Order, client_order_id: str) -> bool:
    """Whether an order has this name, or is a part of what has; every order does where there is no name."""
    own = order.client_order_id or ""
    return not client_order_id or own == client_order_id or own.startswith(f"{client_order_id}.")
