"""The matching engine: our orders against the displayed book. It knows nothing of VnPy.

- An incoming order takes the levels of the current book at their prices, worsened by the contract's slippage but never
  beyond its limit. A resting order trades at its own limit once the other side reaches it. Either is bounded by the
  displayed volume, of which what our orders took is gone until the next snapshot of that contract.
- Among our own orders: price, then time.
- MARKET and FAK: what the book cannot fill is cancelled. FOK: all at once or nothing. STOP: from the last price at or
  beyond its price on it takes what each book shows until it is filled.
- Futures orders that rest are cancelled when their trading day ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from vnpy_core.domain.enums import Direction, Offset, OrderType, Status
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
_AT_ONCE = (OrderType.MARKET, OrderType.FAK, OrderType.FOK)


class Refused(Exception):
    """The venue does not take an order; the text says why."""


class _Working:
    """An order that may still trade."""

    def __init__(self, order: VenueOrder, spec: ContractSpec, number: int) -> None:
        self.order = order
        self.spec = spec
        self.number = number
        self.reserved_per_lot = ZERO
        """Margin and fee kept aside for each lot that would open a position."""

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

    @property
    def priority(self) -> tuple[Decimal, int]:
        """Better price first, then earlier."""
        price = self.limit
        if price is None:
            return Decimal("-Infinity"), self.number
        return (-price if self.order.direction is Direction.LONG else price), self.number


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
        saved = ledger.load()
        self._books = Accounting(initial_balance if saved.cash is None else saved.cash)
        self._orders = {order.orderid: order for order in saved.orders}
        self._trades = saved.trades
        self._order_count = int(saved.orders[-1].orderid) if saved.orders else 0
        self._trade_count = int(saved.trades[-1].tradeid) if saved.trades else 0
        self._days = saved.trading_days
        self._now: datetime | None = None
        self._snapshots: dict[Key, Snapshot] = {}
        self._last_prices: dict[Key, Decimal] = {}
        self._taken: dict[Key, dict[tuple[Direction, float], Decimal]] = {}
        self._working: dict[Key, dict[str, _Working]] = {}
        self._travelling: list[tuple[datetime, str, bool]] = []
        """(arrival, orderid, whether it is a cancel), in order of sending."""
        self._next_mark: datetime | None = None
        self._restore(saved.holdings)
        if saved.cash is None:
            ledger.save(cash=initial_balance)

    def orders(self) -> list[VenueOrder]:
        """All orders of the ledger, oldest first."""
        return list(self._orders.values())

    def trades(self) -> list[VenueTrade]:
        """All fills of the ledger, oldest first."""
        return list(self._trades)

    def positions(self) -> list[VenuePosition]:
        """Current holdings, empty ones left out."""
        return [self._position(holding) for holding in self._books.holdings.values() if holding.volume]

    def account(self) -> VenueAccount:
        """Current funds."""
        balance = self._books.cash + self._books.unrealised(self._last_prices)
        frozen = self._books.margin() + self._reserved()
        return VenueAccount(accountid=self._accountid, balance=balance, frozen=frozen, available=balance - frozen)

    def place(self, order: NewOrder) -> tuple[str, list[VenueEvent]]:
        """Take an order; returns its id and what happened. A refusal is an order REJECTED with its reason."""
        self._order_count += 1
        orderid = f"{self._order_count:012d}"
        changes = _Changes()
        now = self._now or self._before_market()
        try:
            working = self._accept(order, orderid, now)
        except Refused as refusal:
            changes.order(_refused(order, orderid, now, str(refusal)))
        else:
            self._working.setdefault(working.key, {})[orderid] = working
            self._note_frozen(working, changes)
            if self._latency:
                changes.order(working.order)
                self._travelling.append((now + self._latency, orderid, False))
            else:
                self._arrive(working, changes)
        return orderid, self._finish(changes)

    def cancel(self, orderid: str) -> list[VenueEvent]:
        """Cancel an active order, after the latency; an unknown or finished one gives no event."""
        working = self._find(orderid)
        if working is None:
            return []
        if self._latency and self._now is not None:
            self._travelling.append((self._now + self._latency, orderid, True))
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
        if self._travelling:
            self._arrivals(changes)
        if self._working.get(key):
            self._match_resting(key, changes)
        self._mark(changes)
        return self._finish(changes)

    # --- taking an order ---

    def _accept(self, order: NewOrder, orderid: str, now: datetime) -> _Working:
        """Check an order and reserve for it. Raises Refused."""
        spec = self._contracts(order.symbol, order.exchange)
        if spec is None:
            raise Refused(f"unknown contract {order.symbol}.{order.exchange}")
        volume, price = self._checked_volume(order, spec), self._checked_price(order, spec)
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
        )
        working = _Working(accepted, spec, self._order_count)
        if working.closes:
            self._check_position(working)
        else:
            working.reserved_per_lot = self._reserve_per_lot(accepted, spec)
            self._check_funds(working)
        return working

    def _checked_volume(self, order: NewOrder, spec: ContractSpec) -> Decimal:
        if not math.isfinite(order.volume) or order.volume <= 0:
            raise Refused(f"the volume must be a number above 0, not {order.volume}")
        volume = Decimal(repr(order.volume))
        if volume < spec.min_volume or volume % spec.min_volume:
            raise Refused(f"the volume {volume} is not a multiple of the lot {spec.min_volume}")
        if spec.max_volume is not None and volume > spec.max_volume:
            raise Refused(f"the volume {volume} is above the contract's largest, {spec.max_volume}")
        return volume

    def _checked_price(self, order: NewOrder, spec: ContractSpec) -> Decimal:
        if order.type is OrderType.MARKET:
            if (order.symbol, order.exchange) not in self._snapshots:
                raise Refused("there is no market data yet to fill a market order")
            return Decimal(repr(order.price)) if math.isfinite(order.price) and order.price > 0 else ZERO
        if order.type not in _PRICED:
            raise Refused(f"orders of type {order.type} are not supported")
        if not math.isfinite(order.price) or order.price <= 0:
            raise Refused(f"the price must be a number above 0, not {order.price}")
        price = Decimal(repr(order.price))
        if price % spec.pricetick:
            raise Refused(f"the price {price} is not a multiple of the price tick {spec.pricetick}")
        snapshot = self._snapshots.get((order.symbol, order.exchange))
        if snapshot is not None and snapshot.limit_up and order.price > snapshot.limit_up:
            raise Refused(f"the price {price} is above the day's limit {snapshot.limit_up:g}")
        if snapshot is not None and snapshot.limit_down and order.price < snapshot.limit_down:
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
            available = min(available, part - total(w.left for w in others if w.order.offset is order.offset))
        if order.volume > available:
            side = holding.direction.lower()
            raise Refused(f"not enough {side} {what} to close: {order.volume} wanted, {available} available")

    def _check_funds(self, working: _Working) -> None:
        needed = working.reserved_per_lot * self._opening(working)
        available = self.account().available
        if needed > available:
            raise Refused(f"insufficient funds: {needed:.2f} needed, {available:.2f} available")

    def _reserve_per_lot(self, order: VenueOrder, spec: ContractSpec) -> Decimal:
        price = order.price if order.type in _PRICED else self._estimate(order)
        return price * spec.size * spec.margin_rate + fee_of(spec, price, Decimal(1), ZERO)

    def _estimate(self, order: VenueOrder) -> Decimal:
        """What a market order may cost at worst: the far end of the displayed levels, or the last price."""
        snapshot = self._snapshots[order.symbol, order.exchange]
        levels = snapshot.asks if order.direction is Direction.LONG else snapshot.bids
        return Decimal(repr(levels[-1][0] if levels else snapshot.last_price))

    def _opening(self, working: _Working) -> Decimal:
        """How much of what is left would open a position: all of it, or in a net contract what exceeds the holding."""
        if working.closes:
            return ZERO
        if not working.spec.net_position:
            return working.left
        held = self._books.holding(working.spec, Direction.NET).volume
        against = held if working.order.direction is Direction.SHORT else -held
        return max(ZERO, working.left - max(ZERO, against))

    # --- matching ---

    def _arrivals(self, changes: _Changes) -> None:
        assert self._now is not None
        while self._travelling and self._travelling[0][0] <= self._now:
            _, orderid, is_cancel = self._travelling.pop(0)
            working = self._find(orderid)
            if working is None:
                continue
            if is_cancel:
                self._end(working, Status.CANCELLED, "cancelled on request", changes)
            else:
                self._arrive(working, changes)

    def _arrive(self, working: _Working, changes: _Changes) -> None:
        """The order reaches the book."""
        order = working.order
        if order.type is OrderType.STOP:
            self._trigger(working)
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

    def _match_resting(self, key: Key, changes: _Changes) -> None:
        on_their_way = {orderid for _, orderid, is_cancel in self._travelling if not is_cancel}
        resting = [w for w in self._working[key].values() if w.order.orderid not in on_their_way]
        for working in sorted(resting, key=lambda w: w.priority):
            if working.order.type is OrderType.STOP:
                if self._trigger(working):
                    self._take(working, changes)
            else:
                self._take(working, changes, at=working.order.price)

    def _trigger(self, working: _Working) -> bool:
        """Whether a stop is live: its price was reached, now or before."""
        order = working.order
        snapshot = self._snapshots.get(working.key)
        if not order.triggered and snapshot is not None and snapshot.last_price:
            last = Decimal(repr(snapshot.last_price))
            reached = last >= order.price if order.direction is Direction.LONG else last <= order.price
            if reached:
                working.order = msgspec.structs.replace(order, triggered=True)
        return working.order.triggered

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
        if self._next_mark is not None and self._now < self._next_mark:
            return
        self._next_mark = self._now + MARK_INTERVAL
        for holding in self._books.holdings.values():
            if holding.volume:
                changes.frozen(holding)

    def _finish(self, changes: _Changes) -> list[VenueEvent]:
        """Write what changed, then tell it: nothing is told that is not in the ledger."""
        if not (changes.events or changes.reported or changes.days):
            return changes.events
        self._update_last_prices()
        if changes.orders or changes.holdings or changes.days:
            self._orders.update(changes.orders)
            self._trades.extend(changes.trades)
            self._ledger.save(
                orders=changes.orders.values(),
                trades=changes.trades,
                holdings=[_holding_row(holding) for holding in changes.holdings.values()],
                trading_days=[(*key, self._days[key]) for key in changes.days],
                cash=self._books.cash,
            )
        if changes.events or changes.reported:
            changes.events += [self._position(holding) for holding in changes.reported.values()]
            changes.events.append(self.account())
        return changes.events

    def _update_last_prices(self) -> None:
        for holding in self._books.holdings.values():
            key = (holding.spec.symbol, holding.spec.exchange)
            snapshot = self._snapshots.get(key)
            if snapshot is not None and snapshot.last_price:
                self._last_prices[key] = Decimal(repr(snapshot.last_price))

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
        working = (w for orders in self._working.values() for w in orders.values())
        return total(w.reserved_per_lot * self._opening(w) for w in working)

    def _note_frozen(self, working: _Working, changes: _Changes) -> None:
        if working.closes:
            changes.frozen(self._books.holding(working.spec, opposite(working.order.direction)))

    def _find(self, orderid: str) -> _Working | None:
        order = self._orders.get(orderid)
        return self._working.get((order.symbol, order.exchange), {}).get(orderid) if order else None

    def _forget(self, working: _Working) -> None:
        orders = self._working[working.key]
        del orders[working.order.orderid]
        if not orders:
            del self._working[working.key]

    def _restore(self, holdings: list[HoldingRow]) -> None:
        for row in holdings:
            spec = self._contracts(row.symbol, row.exchange)
            if spec is not None:
                holding = self._books.holding(spec, row.direction)
                holding.today, holding.yesterday, holding.cost = row.today, row.yesterday, row.cost
        for order in self._orders.values():
            spec = self._contracts(order.symbol, order.exchange)
            if order.status.is_active and spec is not None:
                working = _Working(order, spec, int(order.orderid))
                price = order.price
                working.reserved_per_lot = price * spec.size * spec.margin_rate + fee_of(spec, price, Decimal(1), ZERO)
                self._working.setdefault(working.key, {})[order.orderid] = working


def _check_offset(order: NewOrder, spec: ContractSpec) -> None:
    if order.direction is Direction.NET:
        raise Refused("an order is LONG or SHORT")
    if order.offset is Offset.NONE and not spec.net_position:
        raise Refused("this contract has long and short positions: the offset must be OPEN or one of the CLOSEs")


def _refused(order: NewOrder, orderid: str, now: datetime, reason: str) -> VenueOrder:
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
    )


def _recordable(number: float) -> Decimal:
    """A refused order's number as the books can hold it."""
    return Decimal(repr(number)) if math.isfinite(number) else ZERO


def _holding_row(holding: Holding) -> HoldingRow:
    spec = holding.spec
    return HoldingRow(spec.symbol, spec.exchange, holding.direction, holding.today, holding.yesterday, holding.cost)
