"""What a caller may see of the read view: filters, and pages whose cursors stay valid while the state moves on.

A cursor is the key of the last item shown. Orders and trades are listed by `seq`, so whatever happens while a caller
pages comes after what it has read: nothing is missed, and an order that changed meanwhile is shown again as it is now.
Everything else is listed by name. All of it on the loop thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import Generic, TypeVar

import msgspec

from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.enums import Product, Status
from vnpy_core.domain.events import Account, Contract, Order, Position, Tick, Trade

T = TypeVar("T")
SeqKey = tuple[int, str]
NameKey = tuple[str, str]
K = TypeVar("K", SeqKey, NameKey)

_ORDER_KEY: Callable[[Order], SeqKey] = attrgetter("seq", "vt_orderid")
_TRADE_KEY: Callable[[Trade], SeqKey] = attrgetter("seq", "vt_tradeid")
_CONTRACT_KEY: Callable[[Contract], NameKey] = attrgetter("vt_symbol", "gateway_name")


class OrderFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which orders: each field that is not None must fit. `start` counts in, `end` does not.

    Times are the venue's; an order that has none yet counts by `updated_at`.
    """

    active: bool | None = None
    vt_symbol: str | None = None
    gateway_name: str | None = None
    status: Status | None = None
    strategy_name: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    def admits(self, order: Order) -> bool:
        """Whether `order` is among those asked for."""
        return (
            self.active in (None, order.is_active)
            and self.vt_symbol in (None, order.vt_symbol)
            and self.gateway_name in (None, order.gateway_name)
            and self.status in (None, order.status)
            and self.strategy_name in (None, order.strategy_name)
            and _within(order.datetime or order.updated_at, self.start, self.end)
        )


class TradeFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which trades; as for orders. A trade without a time is in no interval."""

    vt_symbol: str | None = None
    gateway_name: str | None = None
    vt_orderid: str | None = None
    strategy_name: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    def admits(self, trade: Trade) -> bool:
        """Whether `trade` is among those asked for."""
        return (
            self.vt_symbol in (None, trade.vt_symbol)
            and self.gateway_name in (None, trade.gateway_name)
            and self.vt_orderid in (None, trade.vt_orderid)
            and self.strategy_name in (None, trade.strategy_name)
            and _within(trade.datetime, self.start, self.end)
        )


class StateFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which positions, accounts, contracts or ticks, as far as they have the field."""

    vt_symbol: str | None = None
    gateway_name: str | None = None
    exchange: str | None = None
    product: Product | None = None

    def admits_position(self, position: Position) -> bool:
        """Whether `position` is among those asked for."""
        return self.vt_symbol in (None, position.vt_symbol) and self.gateway_name in (None, position.gateway_name)

    def admits_account(self, account: Account) -> bool:
        """Whether `account` is among those asked for."""
        return self.gateway_name in (None, account.gateway_name)

    def admits_contract(self, contract: Contract) -> bool:
        """Whether `contract` is among those asked for."""
        return (
            self.gateway_name in (None, contract.gateway_name)
            and self.exchange in (None, contract.exchange)
            and self.product in (None, contract.product)
        )

    def admits_tick(self, tick: Tick) -> bool:
        """Whether `tick` is among those asked for."""
        return (
            self.vt_symbol in (None, tick.vt_symbol)
            and self.gateway_name in (None, tick.gateway_name)
            and self.exchange in (None, tick.exchange)
        )


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some items in order, and the key of the last one where more follow."""

    items: list[T]
    next_key: tuple[int, str] | tuple[str, str] | None


def orders(view: ReadView, wanted: OrderFilter, after: SeqKey, limit: int) -> Page[Order]:
    """Orders whose `(seq, vt_orderid)` is above `after`, lowest first."""
    held = view.active_orders.values() if wanted.active else view.orders()
    rest = sorted((order for order in held if order.seq >= after[0]), key=_ORDER_KEY)
    return _page(filter(wanted.admits, rest), _ORDER_KEY, after, limit)


def trades(view: ReadView, wanted: TradeFilter, after: SeqKey, limit: int) -> Page[Trade]:
    """Trades whose `(seq, vt_tradeid)` is above `after`, lowest first."""
    rest = sorted((trade for trade in view.trades.values() if trade.seq >= after[0]), key=_TRADE_KEY)
    return _page(filter(wanted.admits, rest), _TRADE_KEY, after, limit)


def positions(view: ReadView, wanted: StateFilter, after: NameKey, limit: int) -> Page[Position]:
    """Positions by `vt_positionid`."""
    held = map(view.positions.__getitem__, sorted(view.positions))
    return _page(filter(wanted.admits_position, held), lambda position: (position.vt_positionid, ""), after, limit)


def accounts(view: ReadView, wanted: StateFilter, after: NameKey, limit: int) -> Page[Account]:
    """Accounts by `vt_accountid`."""
    held = map(view.accounts.__getitem__, sorted(view.accounts))
    return _page(filter(wanted.admits_account, held), lambda account: (account.vt_accountid, ""), after, limit)


def ticks(view: ReadView, wanted: StateFilter, after: NameKey, limit: int) -> Page[Tick]:
    """The last tick of each contract, by `vt_symbol`."""
    held = map(view.ticks.__getitem__, sorted(view.ticks))
    return _page(filter(wanted.admits_tick, held), lambda tick: (tick.vt_symbol, ""), after, limit)


def contracts(view: ReadView, wanted: StateFilter, after: NameKey, limit: int) -> Page[Contract]:
    """Contracts by `vt_symbol` and `gateway_name`. A venue has tens of thousands: those before the page are skipped."""
    names = sorted(view.contracts) if wanted.vt_symbol is None else [wanted.vt_symbol]
    offers = _offers(view, names[bisect_left(names, after[0]) :])
    return _page(filter(wanted.admits_contract, offers), _CONTRACT_KEY, after, limit)


def _offers(view: ReadView, names: list[str]) -> Iterator[Contract]:
    for name in names:
        offers = view.contracts.get(name, {})
        for gateway_name in sorted(offers):
            yield offers[gateway_name]


def _within(time: datetime | None, start: datetime | None, end: datetime | None) -> bool:
    if start is None and end is None:
        return True
    return time is not None and (start is None or time >= start) and (end is None or time < end)


def _page(ordered: Iterable[T], key: Callable[[T], K], after: K, limit: int) -> Page[T]:
    """The first `limit` items above `after`, of items that come in the order of `key`."""
    items = list(islice((item for item in ordered if key(item) > after), limit + 1))
    more = len(items) > limit
    return Page(items[:limit], key(items[limit - 1]) if more else None)
