"""What a caller may see of the read view: filters, and pages whose cursors stay valid while the state moves on.

A cursor is the key of the last item shown. Orders and trades are listed by `seq`, so whatever happens while a caller
pages comes after what it has read: nothing is missed, and an order that changed meanwhile is shown again as it is now.
Everything else is listed by name. All of it on the loop thread.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Generic, TypeVar

import msgspec

from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.enums import Product
from vnpy_core.domain.events import Account, Contract, Order, Position, Tick, Trade
from vnpy_core.ports.store import OrderQuery, SeqKey, TradeQuery

T = TypeVar("T")
S = TypeVar("S", Order, Trade)
NameKey = tuple[str, str]
K = TypeVar("K", SeqKey, NameKey)

ORDER_KEY: Callable[[Order], SeqKey] = attrgetter("seq", "vt_orderid")
TRADE_KEY: Callable[[Trade], SeqKey] = attrgetter("seq", "vt_tradeid")
_CONTRACT_KEY: Callable[[Contract], NameKey] = attrgetter("vt_symbol", "gateway_name")


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
    """Some items in order, and the key of the last one where more follow.

    `incomplete`: past ones may be missing, because the store could not be asked or has not taken them in yet.
    """

    items: list[T]
    next_key: tuple[int, str] | tuple[str, str] | None
    incomplete: bool = False


def admits_order(wanted: OrderQuery, order: Order) -> bool:
    """Whether `order` is among those asked for."""
    return (
        wanted.active in (None, order.is_active)
        and wanted.vt_symbol in (None, order.vt_symbol)
        and wanted.gateway_name in (None, order.gateway_name)
        and wanted.status in (None, order.status)
        and wanted.strategy_name in (None, order.strategy_name)
        and _within(order.datetime or order.updated_at, wanted.start, wanted.end)
    )


def admits_trade(wanted: TradeQuery, trade: Trade) -> bool:
    """Whether `trade` is among those asked for."""
    return (
        wanted.vt_symbol in (None, trade.vt_symbol)
        and wanted.gateway_name in (None, trade.gateway_name)
        and wanted.vt_orderid in (None, trade.vt_orderid)
        and wanted.strategy_name in (None, trade.strategy_name)
        and _within(trade.datetime, wanted.start, wanted.end)
    )


def live_orders(view: ReadView, wanted: OrderQuery, after: SeqKey, through: SeqKey | None = None) -> Iterator[Order]:
    """The view's orders whose `(seq, vt_orderid)` is above `after` and not above `through`, lowest first."""
    held = view.active_orders.values() if wanted.active else view.orders()
    return filter(partial(admits_order, wanted), _between(held, ORDER_KEY, after, through))


def live_trades(view: ReadView, wanted: TradeQuery, after: SeqKey, through: SeqKey | None = None) -> Iterator[Trade]:
    """The view's trades whose `(seq, vt_tradeid)` is above `after` and not above `through`, lowest first."""
    return filter(partial(admits_trade, wanted), _between(view.trades.values(), TRADE_KEY, after, through))


def first(items: Iterable[T], key: Callable[[T], K], limit: int) -> Page[T]:
    """The first `limit` of items that come in the order of `key`."""
    found = list(islice(items, limit + 1))
    more = len(found) > limit
    return Page(found[:limit], key(found[limit - 1]) if more else None)


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


def _between(items: Iterable[S], key: Callable[[S], SeqKey], after: SeqKey, through: SeqKey | None) -> list[S]:
    lowest, highest = after[0], sys.maxsize if through is None else through[0]
    found = sorted((item for item in items if lowest <= item.seq <= highest), key=key)
    while found and through is not None and key(found[-1]) > through:
        found.pop()
    return found[bisect_right(found, after, key=key) :]


def _page(ordered: Iterable[T], key: Callable[[T], K], after: K, limit: int) -> Page[T]:
    """The first `limit` items above `after`, of items that come in the order of `key`."""
    return first((item for item in ordered if key(item) > after), key, limit)
