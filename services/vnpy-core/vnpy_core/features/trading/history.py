"""Orders and trades of past days: the store's rows and the read view's, as if they were one list.

The store follows the journal at some distance and has all that is old; the view has all that is new. What both have is
shown once, as the newer of the two. Because an item is listed at the `seq` of its last change, a page is the merge of
what either has above the cursor, up to where the store's rows were read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Generic, TypeVar

import msgspec
import structlog

from vnpy_core.bus.read_view import ReadView, same_order, same_trade
from vnpy_core.domain.errors import StoreUnavailable, describe
from vnpy_core.domain.events import Order, Trade
from vnpy_core.features.trading import listing
from vnpy_core.features.trading.listing import ORDER_KEY, TRADE_KEY, Page
from vnpy_core.ports.store import OrderQuery, SeqKey, Store, TradeQuery

DEADLINE_S = 2.0
"""How long the store may take for one answer of ours, seconds."""

T = TypeVar("T", Order, Trade)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Sources(Generic[T]):
    """Where the items of one list come from; `live` and `stored` give those that fit, by `key`."""

    key: Callable[[T], SeqKey]
    live: Callable[[SeqKey, SeqKey | None], Iterable[T]]
    """Above the first key and not above the second."""
    stored: Callable[[SeqKey, int], Awaitable[list[T]]]
    known: Callable[[str], T | None]
    """What the view has under this id, which a venue may have used before for another thing."""
    same: Callable[[T, T], bool]

    def merge(self, rows: list[T], after: SeqKey, through: SeqKey | None, limit: int) -> list[T]:
        """What either has above `after` and not above `through`, where `rows` are the store's, by key.

        All of it, or more than `limit`.
        """
        live = islice(self.live(after, through), limit + 1)
        found = {self.key(item): item for item in chain(rows, live)}
        items = [found[key] for key in sorted(found) if not self._is_outdated(found[key])]
        # Only for one on the same page: the view may not have come as far, and the next page ask the view alone.
        while twice := self._twice(items[:limit]):
            items = [item for item in items if self.key(item) not in twice]
        return items

    def _is_outdated(self, item: T) -> bool:
        known = self.known(self.key(item)[1])
        return known is not None and self._replaces(known, item)

    def _twice(self, page: list[T]) -> set[SeqKey]:
        """The keys of those that a later item of the page is a newer state of."""
        newest = {self.key(item)[1]: item for item in page}
        return {self.key(item) for item in page if self._replaces(newest[self.key(item)[1]], item)}

    def _replaces(self, other: T, item: T) -> bool:
        return other.seq > item.seq and self.same(other, item)


class History:
    """Loop thread only. Without a `store` the view is all there is."""

    def __init__(self, view: ReadView, store: Store | None, *, deadline_s: float = DEADLINE_S) -> None:
        self._view = view
        self._store = store
        self._deadline_s = deadline_s

    async def orders(self, wanted: OrderQuery, after: SeqKey, limit: int) -> Page[Order]:
        """A page of orders by `(seq, vt_orderid)`; without the store's where those cannot be had, and marked so."""
        active_only = wanted.active or (wanted.status is not None and wanted.status.is_active)
        live = partial(listing.live_orders, self._view, wanted)
        if self._store is None or active_only or self._holds_all(after):
            page = listing.first(live(after), ORDER_KEY, limit)
            return page if active_only else self._marked(page, after)
        stored = partial(self._store.orders, wanted)
        return await self._page(
            _Sources(ORDER_KEY, live, stored, self._view.order, same_order), self._store, after, limit
        )

    async def trades(self, wanted: TradeQuery, after: SeqKey, limit: int) -> Page[Trade]:
        """A page of trades by `(seq, vt_tradeid)`, as for orders."""
        live = partial(listing.live_trades, self._view, wanted)
        if self._store is None or self._holds_all(after):
            return self._marked(listing.first(live(after), TRADE_KEY, limit), after)
        stored = partial(self._store.trades, wanted)
        return await self._page(
            _Sources(TRADE_KEY, live, stored, self._view.trades.get, same_trade), self._store, after, limit
        )

    async def order(self, vt_orderid: str) -> Order | None:
        """The newest order with this id. Raises StoreUnavailable where only the store can know."""
        return self._view.order(vt_orderid) or await self._find(lambda store: store.order(vt_orderid))

    async def order_by_client_id(self, client_order_id: str) -> Order | None:
        """The newest order that a caller named so. Raises StoreUnavailable where only the store can know."""
        known = self._view.order_by_client_id(client_order_id)
        return known or await self._find(lambda store: store.order_by_client_id(client_order_id))

    def _holds_all(self, after: SeqKey) -> bool:
        """Whether the view misses nothing above this key."""
        return not self._view.complete_from or after > (self._view.complete_from, "")

    def _marked(self, page: Page[T], after: SeqKey) -> Page[T]:
        return page if self._holds_all(after) else msgspec.structs.replace(page, incomplete=True)

    async def _page(self, sources: _Sources[T], store: Store, after: SeqKey, limit: int) -> Page[T]:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._merged(sources, store, after, limit)
        except (StoreUnavailable, TimeoutError) as error:
            _log.warning("a list without its past: the store could not be asked", error=describe(error))
        live = listing.first(sources.live(after, None), sources.key, limit)
        return msgspec.structs.replace(live, incomplete=True)

    async def _merged(self, sources: _Sources[T], store: Store, after: SeqKey, limit: int) -> Page[T]:
        # Before the rows: they have at least what had been taken in then.
        taken_in = await _taken_in(store)
        rows: list[T] = []
        start = after
        while True:
            found = await sources.stored(start, limit + 1)
            rows += found
            through = sources.key(found[-1]) if len(found) > limit else None
            # The view is read after each wait: it may have gone on, and let go of what it had.
            merged = sources.merge(rows, after, through, limit)
            if through is None or len(merged) > limit:
                break
            start = through
        page = listing.first(merged, sources.key, limit)
        end = page.next_key or (self._view.complete_from, "")
        behind = taken_in < min(self._view.complete_from, int(end[0]))
        return msgspec.structs.replace(page, incomplete=True) if behind else page

    async def _find(self, ask: Callable[[Store], Awaitable[Order | None]]) -> Order | None:
        if self._store is None or not self._view.complete_from:
            return None
        try:
            async with asyncio.timeout(self._deadline_s):
                taken_in = await _taken_in(self._store)
                order = await ask(self._store)
        except TimeoutError:
            raise StoreUnavailable(f"the store did not answer within {self._deadline_s:g} s") from None
        if taken_in < self._view.complete_from and (order is None or order.is_active):
            # An order that had ended and was let go of may still be on its way.
            raise StoreUnavailable("the store has not taken in all yet that could say what became of this order")
        return order


async def _taken_in(store: Store) -> int:
    """The seq up to which the store has taken in the journal."""
    watermark = await store.watermark()
    return 0 if watermark is None else watermark.seq
