"""The state as of the last published event: what REST reads and what WebSocket snapshots are made of."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

from vnpy_core.bus.message import Message
from vnpy_core.domain.events import (
    Account,
    AlgoUpdate,
    Contract,
    Event,
    Gateway,
    Order,
    Position,
    Quote,
    StopOrderUpdate,
    StrategyUpdate,
    Tick,
    Trade,
)

KEEP_FINISHED = 50_000


class ReadView:
    """Loop thread only. Fed with every message before subscribers see it.

    Finished orders, finished quotes and trades are kept up to `keep_finished` each, the oldest going first; what is
    active always stays.
    """

    def __init__(self, keep_finished: int = KEEP_FINISHED) -> None:
        self._keep = keep_finished
        self.seq = 0
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
        self.algos: dict[str, AlgoUpdate] = {}
        self._client_ids: dict[str, str] = {}
        self._waiters: dict[str, list[asyncio.Future[Order]]] = {}

    def apply(self, message: Message) -> None:
        """Take in one message."""
        self.seq = max(self.seq, message.seq)
        event = message.data
        match event:
            case Tick():
                self.ticks[event.vt_symbol] = event
            case Order():
                self._apply_order(event)
            case Trade():
                self.trades[event.vt_tradeid] = event
                if len(self.trades) > self._keep:
                    self.trades.popitem(last=False)
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
                self.stop_orders[event.stop_orderid] = event
            case AlgoUpdate():
                self.algos[event.algo_name] = event
            case _:
                pass

    def order(self, vt_orderid: str) -> Order | None:
        """The order with this id, if it is active or among the finished ones still kept."""
        return self.active_orders.get(vt_orderid) or self.finished_orders.get(vt_orderid)

    def order_by_client_id(self, client_order_id: str) -> Order | None:
        """The order that a caller named so."""
        vt_orderid = self._client_ids.get(client_order_id)
        return self.order(vt_orderid) if vt_orderid else None

    def orders(self) -> Iterable[Order]:
        """All orders held: finished ones first, then active ones."""
        yield from self.finished_orders.values()
        yield from self.active_orders.values()

    async def wait_for_order(self, vt_orderid: str, timeout: float) -> Order | None:
        """The order once the view has it, or None after `timeout` seconds."""
        known = self.order(vt_orderid)
        if known is not None:
            return known
        waiter: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(vt_orderid, []).append(waiter)
        try:
            return await asyncio.wait_for(waiter, timeout)
        except TimeoutError:
            return None
        finally:
            waiting = self._waiters.get(vt_orderid, [])
            if waiter in waiting:
                waiting.remove(waiter)
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
            "algo.updated": dict(self.algos),
        }
        if topic == "contract.updated":
            return [
                (f"{gateway}.{vt_symbol}", contract)
                for vt_symbol, offers in self.contracts.items()
                for gateway, contract in offers.items()
            ]
        return list(states.get(topic, {}).items())

    def _apply_order(self, order: Order) -> None:
        if order.client_order_id:
            self._client_ids[order.client_order_id] = order.vt_orderid
        if order.is_active:
            self.active_orders[order.vt_orderid] = order
            self.finished_orders.pop(order.vt_orderid, None)
        else:
            self.active_orders.pop(order.vt_orderid, None)
            self.finished_orders[order.vt_orderid] = order
            if len(self.finished_orders) > self._keep:
                _, oldest = self.finished_orders.popitem(last=False)
                # The name may belong to a later order by now.
                if oldest.client_order_id and self._client_ids.get(oldest.client_order_id) == oldest.vt_orderid:
                    del self._client_ids[oldest.client_order_id]
        for waiter in self._waiters.pop(order.vt_orderid, []):
            if not waiter.done():
                waiter.set_result(order)

    def _apply_quote(self, quote: Quote) -> None:
        if quote.status.is_active:
            self.active_quotes[quote.vt_quoteid] = quote
            self.finished_quotes.pop(quote.vt_quoteid, None)
            return
        self.active_quotes.pop(quote.vt_quoteid, None)
        self.finished_quotes[quote.vt_quoteid] = quote
        if len(self.finished_quotes) > self._keep:
            self.finished_quotes.popitem(last=False)
