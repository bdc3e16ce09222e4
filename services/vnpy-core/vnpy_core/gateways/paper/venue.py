"""The matching engine: our orders against the displayed book. It knows nothing of VnPy.

- An incoming order takes the levels of the current book at their prices, worsened by the contract's slippage but never
  beyond its limit. A resting order trades at its own limit once the other side reaches it. Either is bounded by the
  displayed volume, of which what our orders took is gone until the next snapshot of that contract.
- Among our own orders: price, then time. What arrives with a snapshot (latency) comes after what rested: cancels first,
  then the resting orders, then the arriving ones in the order they were sent.
- MARKET and FAK: what the book cannot fill is cancelled. FOK: all at once or nothing. STOP: from the last price (the
  touch, where the feed shows no last price) at or beyond its price on it takes what each book shows until it is filled.
- Futures orders that rest are cancelled when their trading day ends. A day other than the books' is a new one, also an
  earlier one: a recording played from its start again finds what was opened before as yesterday's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal

import msgspec

from vnpy_core.domain.enums import Direction, Offset, OrderType, Status
from vnpy_core.domain.errors import ConfigurationError, StorageFull
from vnpy_core.gateways.paper.accounting import ZERO, Accounting, Holding, fee_of, opposite, position_of, total
from vnpy_core.gateways.paper.ledger import HoldingRow, Ledger
from vnpy_core.gateways.paper.model import (
    ContractSpec,
    Level,
    NewOrder,
    Snapshot,
    VenueAccount,
    VenueEvent,
    VenueOrder,
    VenuePosition,
    VenueTrade,
)

MARK_INTERVAL = timedelta(seconds=5)
"""Feed time between reports of positions and funds that changed by the price alone."""

Key = tuple[str, str]
"""(symbol, exchange)"""

_PRICED = (OrderType.LIMIT, OrderType.STOP, OrderType.FAK, OrderType.FOK)
_LARGEST = 1e9
"""Prices and volumes beyond are nonsense, and their products beyond the 28 digits that decimals keep."""
_NOISE = Decimal("1e-6")
"""Of a step: how far off its grid a float may be, as `0.1 + 0.2` is."""
_AT_ONCE = (OrderType.MARKET, OrderType.FAK, OrderType.FOK)


class Refused(Exception):
    """The venue does not take an order; the text says why."""


class _Working:
    """An order that may still trade."""

    def __init__(self, order: VenueOrder, spec: ContractSpec) -> None:
        self.order = order
        self.spec = spec
        self.reserved_per_lot = ZERO
        """Margin and fee kept aside for each lot that would open a position."""
        self.buys = order.direction is Direction.LONG
        self.bound = float(order.price)

    @property
    def key(self) -> Key:
        return self.order.symbol, self.order.exchange

    @property
    def left(self) -> Decimal:
        return self.order.volume - self.order.traded

    @property
    def closes(self) -> bool:
        return not self.spec.net_position and self.order.offset is not Offset.OPEN

    @property
    def limit(self) -> Decimal | None:
        """The worst price it takes; None for any."""
        return None if self.order.type in (OrderType.MARKET, OrderType.STOP) else self.order.price

    def may_trade(self, snapshot: Snapshot) -> bool:
        """A quick look, in floats, whether this resting order is worth matching."""
        if self.order.status is Status.SUBMITTING:
            return False
        if self.order.type is OrderType.STOP:
            return True
        levels = snapshot.asks if self.buys else snapshot.bids
        return bool(levels) and (levels[0][0] <= self.bound if self.buys else levels[0][0] >= self.bound)

    @property
    def priority(self) -> tuple[Decimal, int]:
        """Better price first, then earlier."""
        price = self.limit
        if price is None:
            return Decimal("-Infinity"), self.order.number
        return (-price if self.order.direction is Direction.LONG else price), self.order.number


class _Changes:
    """What one call of the venue changed: the events in order, and what the ledger must write."""

    def __init__(self) -> None:
        self.events: list[VenueEvent] = []
        self.orders: dict[str, VenueOrder] = {}
        self.trades: list[VenueTrade] = []
        self.holdings: dict[int, Holding] = {}
        self.reported: dict[int, Holding] = {}
        self.days: set[Key] = set()

    def order(self, order: VenueOrder) -> None:
        self.events.append(order)
        self.orders[order.orderid] = order

    def trade(self, trade: VenueTrade) -> None:
        self.events.append(trade)
        self.trades.append(trade)

    def holding(self, holding: Holding) -> None:
        self.holdings[id(holding)] = self.reported[id(holding)] = holding

    def frozen(self, holding: Holding) -> None:
        self.reported[id(holding)] = holding


class PaperVenue:
    """Implements `model.Venue`. One thread at a time; its time is the feed's."""

    def __init__(
        self,
        contracts: Callable[[str, str], ContractSpec | None],
        ledger: Ledger,
        *,
        accountid: str,
        initial_balance: Decimal,
        now: Callable[[], datetime],
        latency: timedelta = timedelta(0),
    ) -> None:
        """Go on from what `ledger` holds; `initial_balance` counts for a new one only.

        `now` (aware) is asked only while there has been no snapshot to give the time.
        """
        self._before_market = now
        self._contracts = contracts
        self._ledger = ledger
        self._accountid = accountid
        self._latency = latency
        self._now: datetime | None = None
        self._marked: datetime | None = None
        self._snapshots: dict[Key, Snapshot] = {}
        self._last_prices: dict[Key, Decimal] = {}
        self._taken: dict[Key, dict[tuple[Direction, float], Decimal]] = {}
        if ledger.load().cash is None:
            ledger.save(cash=initial_balance)
        self._restore()

    def orders(self) -> list[VenueOrder]:
        """All orders of the ledger, oldest first."""
        return list(self._orders.values())

    def order(self, orderid: str) -> VenueOrder | None:
        """One order of the ledger as it stands."""
        return self._orders.get(orderid)

    def trades(self) -> list[VenueTrade]:
        """All fills of the ledger, oldest first."""
        return list(self._trades)

    def positions(self) -> list[VenuePosition]:
        """Current holdings, empty ones left out."""
        self._update_last_prices()
        return [self._position(holding) for holding in self._books.holdings.values() if holding.volume]

    def trading_day(self, symbol: str, exchange: str) -> date | None:
        """The contract's trading day as of its last snapshot, kept across restarts."""
        return self._days.get((symbol, exchange))

    def advance(self, now: datetime) -> None:
        """Time went on without a snapshot, on a market that shows few; never back."""
        if self._now is not None and now > self._now:
            self._now = now

    def account(self) -> VenueAccount:
        """Current funds."""
        self._update_last_prices()
        balance = self._books.cash + self._books.unrealised(self._last_prices)
        frozen = self._books.margin() + self._reserved()
        return VenueAccount(accountid=self._accountid, balance=balance, frozen=frozen, available=balance - frozen)

    def place(self, order: NewOrder, orderid: str = "") -> tuple[str, list[VenueEvent]]:
        """Take an order; returns its id and what happened. A refusal is an order REJECTED with its reason.

        `orderid` is the client's own name for it, with a `-`; for one that is known already the answer is the order
        as it stands. Raises StorageFull; then nothing has happened. So do the other calls.
        """
        if known := self.order(orderid):
            return orderid, [known]
        order = order.writable()
        self._order_count += 1
        orderid = orderid or f"{self._order_count:012d}"
        changes = _Changes()
        now = self._now or self._before_market()
        try:
            working = self._accept(order, orderid, now)
        except Refused as refusal:
            changes.order(_refused(order, orderid, self._order_count, now, str(refusal)))
        else:
            self._engage(working)
            self._note_frozen(working, changes)
            if self._latency:
                changes.order(working.order)
                self._travelling.setdefault(working.key, []).append(working)
            else:
                self._arrive(working, changes)
        return orderid, self._finish(changes)

    def refusal(self, order: NewOrder, orderid: str, reason: str) -> VenueOrder:
        """An order that was not taken at all, as its client is told of it; it is in no book."""
        return _refused(order.writable(), orderid, 0, self._now or self._before_market(), reason)

    def cancel(self, orderid: str) -> list[VenueEvent]:
        """Cancel an active order, after the latency; an unknown or finished one gives no event."""
        working = self._find(orderid)
        if working is None:
            return []
        if self._latency and self._now is not None:
            self._cancelling.setdefault(working.key, {}).setdefault(orderid, self._now)
            return []
        changes = _Changes()
        self._end(working, Status.CANCELLED, "cancelled on request", changes)
        return self._finish(changes)

    def on_snapshot(self, snapshot: Snapshot) -> list[VenueEvent]:
        """The market moved."""
        key = (snapshot.symbol, snapshot.exchange)
        self._now = snapshot.time
        self._snapshots[key] = snapshot
        if self._taken:
            self._taken.pop(key, None)
        new_day = self._days.get(key) != snapshot.trading_day
        if not (new_day or self._working or self._books.holdings):
            return []
        changes = _Changes()
        if new_day:
            self._begin_day(key, snapshot, changes)
        working = self._working.get(key)
        if working:
            if key in self._cancelling:
                self._arriving_cancels(key, changes)
            resting = [w for w in working.values() if w.may_trade(snapshot)]
            if resting:
                self._match_resting(resting, changes)
            if key in self._travelling:
                self._arrivals(key, changes)
        self._mark(changes)
        return self._finish(changes)

    # --- taking an order ---

    def _accept(self, order: NewOrder, orderid: str, now: datetime) -> _Working:
        """Check an order and reserve for it. Raises Refused."""
        spec = self._contracts(order.symbol, order.exchange)
        if spec is None:
            raise Refused(f"unknown contract {order.symbol}.{order.exchange}")
        volume, price = _checked_volume(order, spec), self._checked_price(order, spec)
        _check_offset(order, spec)
        accepted = VenueOrder(
            orderid=orderid,
            symbol=order.symbol,
            exchange=order.exchange,
            direction=order.direction,
            offset=Offset.NONE if spec.net_position else order.offset,
            type=order.type,
            price=price,
            volume=volume,
            traded=ZERO,
            status=Status.SUBMITTING,
            reason="",
            reference=order.reference,
            time=now,
            number=self._order_count,
        )
        working = _Working(accepted, spec)
        if working.closes:
            self._check_position(working)
        else:
            working.reserved_per_lot = self._reserve_per_lot(accepted, spec)
            self._check_funds(working)
        return working

    def _checked_price(self, order: NewOrder, spec: ContractSpec) -> Decimal:
        if order.type is OrderType.MARKET:
            if (order.symbol, order.exchange) not in self._snapshots:
                raise Refused("there is no market data yet to fill a market order")
            return Decimal(repr(order.price)) if 0 < order.price < _LARGEST else ZERO
        if order.type not in _PRICED:
            raise Refused(f"orders of type {order.type} are not supported")
        if not 0 < order.price < _LARGEST:
            raise Refused(f"the price must be a number above 0 and below {_LARGEST:g}, not {order.price}")
        price = _on_grid(order.price, spec.pricetick)
        if price is None:
            raise Refused(f"the price {order.price} is not a multiple of the price tick {spec.pricetick}")
        snapshot = self._snapshots.get((order.symbol, order.exchange))
        if snapshot is not None and snapshot.limit_up and float(price) > snapshot.limit_up:
            raise Refused(f"the price {price} is above the day's limit {snapshot.limit_up:g}")
        if snapshot is not None and snapshot.limit_down and float(price) < snapshot.limit_down:
            raise Refused(f"the price {price} is below the day's limit {snapshot.limit_down:g}")
        return price

    def _check_position(self, working: _Working) -> None:
        """Raises Refused where what the order closes is not there, or is spoken for by other orders."""
        order = working.order
        holding = self._books.holding(working.spec, opposite(order.direction))
        others = [w for w in self._closing(holding) if w is not working]
        available = holding.volume - total(w.left for w in others)
        what = "position"
        if working.spec.close_today_separately:
            today = order.offset is Offset.CLOSETODAY
            same = total(w.left for w in others if (w.order.offset is Offset.CLOSETODAY) is today)
            what = "today's position" if today else "yesterday's position"
            available = (holding.today if today else holding.yesterday) - same
        elif order.offset in (Offset.CLOSETODAY, Offset.CLOSEYESTERDAY):
            part = holding.today if order.offset is Offset.CLOSETODAY else holding.yesterday
            what = "today's position" if order.offset is Offset.CLOSETODAY else "yesterday's position"
            # CLOSE takes today's first: what is promised to it cannot be promised to CLOSETODAY as well.
            rivals = {order.offset} | ({Offset.CLOSE} if order.offset is Offset.CLOSETODAY else set())
            available = min(available, part - total(w.left for w in others if w.order.offset in rivals))
        elif any(w.order.offset is Offset.CLOSETODAY for w in others):
            what = "position that no CLOSETODAY order waits for"
            promised = (Offset.CLOSE, Offset.CLOSETODAY)
            available = min(available, holding.today - total(w.left for w in others if w.order.offset in promised))
        if order.volume > available:
            side = holding.direction.lower()
            raise Refused(f"not enough {side} {what} to close: {order.volume} wanted, {available} available")

    def _check_funds(self, working: _Working) -> None:
        before = self._reserved_in(working.key)
        self._pool(working, working.left)
        needed = self._reserved_in(working.key) - before
        self._pool(working, -working.left)
        available = self.account().available if needed else ZERO
        if needed > available:
            raise Refused(f"insufficient funds: {needed:.2f} needed, {available:.2f} available")

    def _reserve_per_lot(self, order: VenueOrder, spec: ContractSpec) -> Decimal:
        price = self._estimate(order, spec)
        return price * spec.size * spec.margin_rate + fee_of(spec, price, Decimal(1), ZERO)

    def _estimate(self, order: VenueOrder, spec: ContractSpec) -> Decimal:
        """The highest price an order may trade at: margin is of the value, whichever way it goes."""
        if order.direction is Direction.LONG and order.type not in (OrderType.MARKET, OrderType.STOP):
            return order.price
        price = ZERO if order.type is OrderType.MARKET else order.price
        snapshot = self._snapshots.get((order.symbol, order.exchange))
        if snapshot is None:
            return price
        if order.direction is Direction.SHORT:
            return max(price, *(Decimal(repr(level[0])) for level in snapshot.bids[:1]), ZERO)
        slip = spec.pricetick * spec.slippage
        worst = Decimal(repr(snapshot.asks[-1][0] if snapshot.asks else snapshot.last_price))
        return max(price, worst) + slip

    def _pool(self, working: _Working, volume: Decimal) -> None:
        """Add to (or take from) what the opening orders of a contract and direction wait for: volume and reserve."""
        if working.closes:
            return
        pools = self._pools.setdefault(working.key, {})
        waiting, value = pools.get(working.order.direction, (ZERO, ZERO))
        pools[working.order.direction] = (waiting + volume, value + volume * working.reserved_per_lot)

    def _reserved_in(self, key: Key) -> Decimal:
        """Margin and fees kept aside for a contract's orders; net ones share the holding that they would reduce."""
        net = self._books.holdings.get((*key, Direction.NET))
        held = net.volume if net else ZERO
        reserved = ZERO
        for direction, (waiting, value) in self._pools.get(key, {}).items():
            reducing = max(ZERO, held if direction is Direction.SHORT else -held)
            if not reducing:
                reserved += value
            elif waiting > reducing:
                reserved += value * (waiting - reducing) / waiting
        return reserved

    # --- matching ---

    def _travelled(self, sent: datetime) -> bool:
        """Whether the latency is over. A feed that began again, at an earlier time, ends every wait."""
        assert self._now is not None
        return not timedelta(0) <= self._now - sent < self._latency

    def _arrivals(self, key: Key, changes: _Changes) -> None:
        sent = self._travelling.pop(key)
        waiting = [w for w in sent if not self._travelled(w.order.time)]
        if waiting:
            self._travelling[key] = waiting
        for working in sent:
            if working not in waiting and self._find(working.order.orderid):
                self._arrive(working, changes)

    def _arriving_cancels(self, key: Key, changes: _Changes) -> None:
        for orderid, sent in list(self._cancelling[key].items()):
            working = self._find(orderid)
            if working is not None and self._travelled(sent):
                self._end(working, Status.CANCELLED, "cancelled on request", changes)

    def _arrive(self, working: _Working, changes: _Changes) -> None:
        """The order reaches the book."""
        order = working.order
        if order.type is OrderType.STOP:
            self._trigger(working, changes)
        if order.type is OrderType.FOK and self._reachable(working) < order.volume:
            self._end(working, Status.CANCELLED, "the displayed volume cannot fill all of it at once", changes)
            return
        if order.type is not OrderType.STOP or working.order.triggered:
            self._take(working, changes)
        if not working.order.status.is_active:
            return
        if order.type in _AT_ONCE:
            self._end(working, Status.CANCELLED, "the displayed volume did not fill the rest", changes)
        elif not working.order.traded:
            working.order = msgspec.structs.replace(working.order, status=Status.NOTTRADED)
            changes.order(working.order)

    def _match_resting(self, resting: list[_Working], changes: _Changes) -> None:
        for working in sorted(resting, key=lambda w: w.priority):
            if working.order.type is OrderType.STOP:
                if self._trigger(working, changes):
                    self._take(working, changes)
            else:
                self._take(working, changes, at=working.order.price)

    def _trigger(self, working: _Working, changes: _Changes) -> bool:
        """Whether a stop is live: its price was reached, now or before."""
        order = working.order
        snapshot = self._snapshots.get(working.key)
        if order.triggered or snapshot is None:
            return order.triggered
        levels = snapshot.asks if working.buys else snapshot.bids
        price = snapshot.last_price or (levels[0][0] if levels else 0.0)
        reached = price >= working.bound if working.buys else 0 < price <= working.bound
        if reached:
            working.order = msgspec.structs.replace(order, triggered=True)
            changes.order(working.order)
        return reached

    def _levels(self, working: _Working) -> list[tuple[Level, Decimal]]:
        """The other side's levels within the order's limit, best first, with what is left of each."""
        snapshot = self._snapshots.get(working.key)
        if snapshot is None:
            return []
        buys, limit = working.order.direction is Direction.LONG, working.limit
        bound = None if limit is None else float(limit)
        taken = self._taken.get(working.key, {})
        found = []
        for level in snapshot.asks if buys else snapshot.bids:
            if bound is not None and (level[0] > bound if buys else level[0] < bound):
                break
            left = Decimal(repr(level[1])) - taken.get((working.order.direction, level[0]), ZERO)
            if left > 0:
                found.append((level, left))
        return found

    def _reachable(self, working: _Working) -> Decimal:
        return total(left for _, left in self._levels(working))

    def _take(self, working: _Working, changes: _Changes, at: Decimal | None = None) -> None:
        """Fill from the displayed levels: at each level's price with slippage, or all of it `at` a resting price."""
        for (price, _), shown in self._levels(working):
            lots = (min(shown, working.left) // working.spec.min_volume) * working.spec.min_volume
            if not lots:
                continue
            taken = self._taken.setdefault(working.key, {})
            level = (working.order.direction, price)
            taken[level] = taken.get(level, ZERO) + lots
            self._fill(working, self._taker_price(working, price) if at is None else at, lots, changes)
            if not working.left:
                return

    def _taker_price(self, working: _Working, level: float) -> Decimal:
        slip = working.spec.pricetick * working.spec.slippage
        price, limit = Decimal(repr(level)), working.limit
        if working.order.direction is Direction.LONG:
            return price + slip if limit is None else min(price + slip, limit)
        return max(price - slip, working.spec.pricetick) if limit is None else max(price - slip, limit)

    def _fill(self, working: _Working, price: Decimal, volume: Decimal, changes: _Changes) -> None:
        order = working.order
        assert self._now is not None
        traded = order.traded + volume
        status = Status.ALLTRADED if traded == order.volume else Status.PARTTRADED
        working.order = order = msgspec.structs.replace(order, traded=traded, status=status)
        changes.order(order)
        self._pool(working, -volume)
        fee, holding = self._books.fill(working.spec, order.direction, order.offset, price, volume)
        self._trade_count += 1
        changes.trade(
            VenueTrade(
                tradeid=f"{self._trade_count:012d}",
                orderid=order.orderid,
                symbol=order.symbol,
                exchange=order.exchange,
                direction=order.direction,
                offset=order.offset,
                price=price,
                volume=volume,
                fee=fee,
                time=self._now,
            )
        )
        changes.holding(holding)
        if not working.left:
            self._forget(working)

    def _end(self, working: _Working, status: Status, reason: str, changes: _Changes) -> None:
        working.order = msgspec.structs.replace(working.order, status=status, reason=reason)
        changes.order(working.order)
        self._pool(working, -working.left)
        self._note_frozen(working, changes)
        self._forget(working)

    # --- days, marks, bookkeeping ---

    def _begin_day(self, key: Key, snapshot: Snapshot, changes: _Changes) -> None:
        first = key not in self._days
        self._days[key] = snapshot.trading_day
        changes.days.add(key)
        for holding in self._books.of(*key):
            if holding.direction is not Direction.NET and holding.today:
                holding.roll()
                changes.holding(holding)
        if not first:
            for working in list(self._working.get(key, {}).values()):
                if not working.spec.net_position:
                    self._end(working, Status.CANCELLED, "end of trading day", changes)

    def _mark(self, changes: _Changes) -> None:
        """Report what the price alone changed, now and then."""
        assert self._now is not None
        if self._marked is not None and timedelta(0) <= self._now - self._marked < MARK_INTERVAL:
            return
        self._marked = self._now
        for holding in self._books.holdings.values():
            if holding.volume:
                changes.frozen(holding)

    def _finish(self, changes: _Changes) -> list[VenueEvent]:
        """Write what changed, then tell it: nothing is told that is not in the ledger."""
        if changes.orders or changes.holdings or changes.days:
            self._write(changes)
        if any(not _is_refusal(event) for event in changes.events) or changes.reported:
            self._update_last_prices()
            changes.events += [self._position(holding) for holding in changes.reported.values()]
            changes.events.append(self.account())
        return changes.events

    def _write(self, changes: _Changes) -> None:
        """All of it or nothing: where the ledger cannot take it, it has not happened. Raises StorageFull."""
        try:
            self._ledger.save(
                orders=changes.orders.values(),
                trades=changes.trades,
                holdings=[_holding_row(holding) for holding in changes.holdings.values()],
                trading_days=[(*key, self._days[key]) for key in changes.days],
                cash=self._books.cash,
            )
        except StorageFull:
            self._restore()
            raise
        self._orders.update(changes.orders)
        self._trades.extend(changes.trades)

    def _update_last_prices(self) -> None:
        for holding in self._books.holdings.values():
            key = (holding.spec.symbol, holding.spec.exchange)
            snapshot = self._snapshots.get(key)
            price = _mark_price(snapshot) if snapshot is not None else ZERO
            if price:
                self._last_prices[key] = price

    def _position(self, holding: Holding) -> VenuePosition:
        last_price = self._last_prices.get((holding.spec.symbol, holding.spec.exchange))
        return position_of(holding, total(w.left for w in self._closing(holding)), last_price)

    def _closing(self, holding: Holding) -> list[_Working]:
        """Orders that would close this holding."""
        key = (holding.spec.symbol, holding.spec.exchange)
        return [
            working
            for working in self._working.get(key, {}).values()
            if working.closes and opposite(working.order.direction) is holding.direction
        ]

    def _reserved(self) -> Decimal:
        return total(self._reserved_in(key) for key in self._working)

    def _note_frozen(self, working: _Working, changes: _Changes) -> None:
        if working.closes:
            changes.frozen(self._books.holding(working.spec, opposite(working.order.direction)))

    def _find(self, orderid: str) -> _Working | None:
        return self._live.get(orderid)

    def _engage(self, working: _Working) -> None:
        self._live[working.order.orderid] = working
        self._working.setdefault(working.key, {})[working.order.orderid] = working
        self._pool(working, working.left)

    def _forget(self, working: _Working) -> None:
        orderid, orders = working.order.orderid, self._working[working.key]
        del self._live[orderid], orders[orderid]
        cancelling = self._cancelling.get(working.key, {})
        cancelling.pop(orderid, None)
        if not cancelling:
            self._cancelling.pop(working.key, None)
        if not orders:
            del self._working[working.key]
            self._travelling.pop(working.key, None)

    def _restore(self) -> None:
        """Take the state from the ledger: at the start, and where a call could not be written.

        A cancel that was still on its way is lost, as a message is when a connection breaks.
        """
        saved = self._ledger.load()
        self._books = Accounting(ZERO if saved.cash is None else saved.cash)
        self._orders = {order.orderid: order for order in saved.orders}
        self._trades = saved.trades
        self._order_count = saved.orders[-1].number if saved.orders else 0
        self._trade_count = int(saved.trades[-1].tradeid) if saved.trades else 0
        self._days = saved.trading_days
        self._live: dict[str, _Working] = {}
        self._working: dict[Key, dict[str, _Working]] = {}
        self._pools: dict[Key, dict[Direction, tuple[Decimal, Decimal]]] = {}
        self._travelling: dict[Key, list[_Working]] = {}
        """Orders that have not reached the book, as they were sent."""
        self._cancelling: dict[Key, dict[str, datetime]] = {}
        """Cancels that have not: orderid -> when it was sent."""
        for row in saved.holdings:
            if row.today or row.yesterday:
                holding = self._books.holding(self._known(row.symbol, row.exchange), row.direction)
                holding.today, holding.yesterday, holding.cost = row.today, row.yesterday, row.cost
        for order in saved.orders:
            if order.status.is_active:
                self._resume(order)

    def _resume(self, order: VenueOrder) -> None:
        spec = self._known(order.symbol, order.exchange)
        working = _Working(order, spec)
        if not working.closes:
            working.reserved_per_lot = self._reserve_per_lot(order, spec)
        self._engage(working)
        if order.status is Status.SUBMITTING:
            self._travelling.setdefault(working.key, []).append(working)

    def _known(self, symbol: str, exchange: str) -> ContractSpec:
        spec = self._contracts(symbol, exchange)
        if spec is None:
            raise ConfigurationError(f"the paper ledger holds {symbol}.{exchange}, which the contract table lacks")
        return spec


def _checked_volume(order: NewOrder, spec: ContractSpec) -> Decimal:
    if not 0 < order.volume < _LARGEST:
        raise Refused(f"the volume must be a number above 0 and below {_LARGEST:g}, not {order.volume}")
    volume = _on_grid(order.volume, spec.min_volume)
    if volume is None or not volume:
        raise Refused(f"the volume {order.volume} is not a multiple of the lot {spec.min_volume}")
    if spec.max_volume is not None and volume > spec.max_volume:
        raise Refused(f"the volume {volume} is above the contract's largest, {spec.max_volume}")
    return volume


def _on_grid(value: float, step: Decimal) -> Decimal | None:
    """The multiple of `step` that `value` is but for a float's noise; None where it is none."""
    exact = Decimal(repr(value))
    if not exact % step:
        return exact
    nearest = (exact / step).to_integral_value() * step
    return nearest if abs(nearest - exact) <= step * _NOISE else None


def _mark_price(snapshot: Snapshot) -> Decimal:
    """The last price, else the middle of the touch, else 0."""
    if snapshot.last_price:
        return Decimal(repr(snapshot.last_price))
    if snapshot.bids and snapshot.asks:
        return (Decimal(repr(snapshot.bids[0][0])) + Decimal(repr(snapshot.asks[0][0]))) / 2
    return ZERO


def _is_refusal(event: VenueEvent) -> bool:
    return isinstance(event, VenueOrder) and event.status is Status.REJECTED


def _check_offset(order: NewOrder, spec: ContractSpec) -> None:
    if order.direction is Direction.NET:
        raise Refused("an order is LONG or SHORT")
    if order.offset is Offset.NONE and not spec.net_position:
        raise Refused("this contract has long and short positions: the offset must be OPEN or one of the CLOSEs")


def _refused(order: NewOrder, orderid: str, number: int, now: datetime, reason: str) -> VenueOrder:
    return VenueOrder(
        orderid=orderid,
        symbol=order.symbol,
        exchange=order.exchange,
        direction=order.direction,
        offset=order.offset,
        type=order.type,
        price=_recordable(order.price),
        volume=_recordable(order.volume),
        traded=ZERO,
        status=Status.REJECTED,
        reason=reason,
        reference=order.reference,
        time=now,
        number=number,
    )


def _recordable(number: float) -> Decimal:
    """A refused order's number as the books can hold it."""
    return Decimal(repr(number)) if math.isfinite(number) else ZERO


def _holding_row(holding: Holding) -> HoldingRow:
    spec = holding.spec
    return HoldingRow(spec.symbol, spec.exchange, holding.direction, holding.today, holding.yesterday, holding.cost)
