"""A relational store in memory: as much of the `Store` port as reading history needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from vnpy_core.domain.errors import StoreUnavailable
from vnpy_core.domain.events import Order, StrategyDay, Trade
from vnpy_core.features.trading.listing import ORDER_KEY, TRADE_KEY, admits_order, admits_trade
from vnpy_core.ports.store import OrderQuery, SeqKey, TradeQuery, Watermark

T = TypeVar("T")


class FakeStore:
    """Rows are kept by uid, as the real one does: a vt_orderid may stand for several orders."""

    def __init__(self) -> None:
        self.away = False
        self.hangs = False
        self.calls: list[str] = []
        self.seq = 0
        """The watermark."""
        self.before_answer: Callable[[], None] = lambda: None
        """What happens while a question is on its way."""
        self.after_answer: Callable[[], None] = lambda: None
        """What happens while an answer is on its way."""
        self._orders: dict[str, Order] = {}
        self._trades: dict[str, Trade] = {}
        self._days: dict[tuple[str, str], StrategyDay] = {}

    def take(self, *events: Order | Trade, uid: str | None = None) -> None:
        """Take in what the journal has; the uid is the caller's name, else the venue's."""
        for event in events:
            if isinstance(event, Order):
                self._orders[uid or event.client_order_id or event.vt_orderid] = event
            else:
                self._trades[uid or f"{event.vt_orderid}/{event.tradeid}"] = event
            self.seq = max(self.seq, event.seq)

    def take_days(self, *days: StrategyDay) -> None:
        """The last word of each day counts."""
        self._days.update({(day.strategy_name, day.day): day for day in days})

    async def watermark(self) -> Watermark | None:
        return await self._answer("watermark", lambda: Watermark("e", self.seq) if self.seq else None)

    async def orders(self, query: OrderQuery, after: SeqKey, limit: int) -> list[Order]:
        def found() -> list[Order]:
            fitting = [order for order in self._orders.values() if admits_order(query, order)]
            return sorted((o for o in fitting if ORDER_KEY(o) > after), key=ORDER_KEY)[:limit]

        return await self._answer("orders", found)

    async def trades(self, query: TradeQuery, after: SeqKey, limit: int) -> list[Trade]:
        def found() -> list[Trade]:
            fitting = [trade for trade in self._trades.values() if admits_trade(query, trade)]
            return sorted((t for t in fitting if TRADE_KEY(t) > after), key=TRADE_KEY)[:limit]

        return await self._answer("trades", found)

    async def order(self, vt_orderid: str) -> Order | None:
        return await self._answer("order", lambda: self._newest(lambda o: o.vt_orderid == vt_orderid))

    async def order_by_client_id(self, client_order_id: str) -> Order | None:
        return await self._answer(
            "order_by_client_id", lambda: self._newest(lambda o: o.client_order_id == client_order_id)
        )

    async def strategy_days(self, name: str, start_day: str = "", end_day: str = "") -> list[StrategyDay]:
        def found() -> list[StrategyDay]:
            days = sorted((day for (whose, _), day in self._days.items() if whose == name), key=lambda day: day.day)
            return [day for day in days if start_day <= day.day and (not end_day or day.day <= end_day)]

        return await self._answer("strategy_days", found)

    def _newest(self, wanted: Callable[[Order], bool]) -> Order | None:
        return max(filter(wanted, self._orders.values()), key=ORDER_KEY, default=None)

    async def _answer(self, call: str, look: Callable[[], T]) -> T:
        self.calls.append(call)
        if self.away:
            raise StoreUnavailable("the database is away")
        if self.hangs:
            await asyncio.Event().wait()
        self.before_answer()
        found = look()
        await asyncio.sleep(0)
        self.after_answer()
        return found
