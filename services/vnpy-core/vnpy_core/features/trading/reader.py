"""What a caller may see of trading: of the read view and, where there is one, the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.errors import NotFound
from vnpy_core.domain.events import Account, Contract, Gateway, Order, Position, Tick, Trade
from vnpy_core.features.trading import listing
from vnpy_core.features.trading.history import History
from vnpy_core.features.trading.listing import NameKey, Page, StateFilter
from vnpy_core.kit.logging import is_secret_key
from vnpy_core.ports.store import OrderQuery, SeqKey, Store, TradeQuery


class TradingReader:
    """Loop thread only. All that an edge answers about trading, and the reading half of a core's answers."""

    def __init__(
        self, view: ReadView, *, gateways: Callable[[], Iterable[Gateway]], store: Store | None = None
    ) -> None:
        """Without a `store` there is no history older than what the view holds; those who ask for it are told so."""
        self._view = view
        self._is_all = store is not None
        self._gateways = gateways
        self._history = History(view, store)

    def gateways(self) -> list[Gateway]:
        """All gateways by name, with password-like default settings shown empty."""
        return [_without_secrets(gateway) for gateway in sorted(self._gateways(), key=lambda g: g.gateway_name)]

    async def order(self, vt_orderid: str) -> Order:
        """One order. Raises NotFound, StoreUnavailable (only the store could know it)."""
        order = await self._history.order(vt_orderid)
        if order is None:
            raise NotFound(f"no order {vt_orderid!r}{self._reservation()}")
        return order

    async def order_by_client_id(self, client_order_id: str) -> Order:
        """The order that a caller named so. Raises NotFound, StoreUnavailable (only the store could know it)."""
        order = await self._history.order_by_client_id(client_order_id)
        if order is None:
            raise NotFound(f"no order with client_order_id {client_order_id!r}{self._reservation()}")
        return order

    async def orders(self, wanted: OrderQuery, after: SeqKey, limit: int) -> Page[Order]:
        """A page of orders by `seq`, of today and before."""
        return await self._history.orders(wanted, after, limit)

    async def trades(self, wanted: TradeQuery, after: SeqKey, limit: int) -> Page[Trade]:
        """A page of trades by `seq`, of today and before."""
        return await self._history.trades(wanted, after, limit)

    def positions(self, wanted: StateFilter, after: NameKey, limit: int) -> Page[Position]:
        """A page of positions by id."""
        return listing.positions(self._view, wanted, after, limit)

    def accounts(self, wanted: StateFilter, after: NameKey, limit: int) -> Page[Account]:
        """A page of accounts by id."""
        return listing.accounts(self._view, wanted, after, limit)

    def contracts(self, wanted: StateFilter, after: NameKey, limit: int) -> Page[Contract]:
        """A page of contracts by vt_symbol and gateway."""
        return listing.contracts(self._view, wanted, after, limit)

    def ticks(self, wanted: StateFilter, after: NameKey, limit: int) -> Page[Tick]:
        """A page of the last ticks by vt_symbol."""
        return listing.ticks(self._view, wanted, after, limit)

    def tick(self, vt_symbol: str) -> Tick:
        """The last tick of a contract. Raises NotFound where none came yet."""
        tick = self._view.ticks.get(vt_symbol)
        if tick is None:
            raise NotFound(f"no tick of {vt_symbol!r} came yet")
        return tick

    def _reservation(self) -> str:
        if self._is_all or not self._view.complete_from:
            return ""
        return " among the newest, which is all that is held here; the core knows the older ones"


def _without_secrets(gateway: Gateway) -> Gateway:
    shown = {name: "" if _is_secret(name, value) else value for name, value in gateway.default_setting.items()}
    return msgspec.structs.replace(gateway, default_setting=shown)


def _is_secret(name: str, value: object) -> bool:
    """Brokers' files hold real ones as defaults. Lists and flags are choices to show."""
    return is_secret_key(name) and not isinstance(value, list | bool)
