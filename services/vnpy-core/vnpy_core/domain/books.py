"""The books: what we know of intents, orders, fills, positions and halts, folded from the journal's events in order.

Pure bookkeeping without a clock or a thread of its own. Orders only move forward, so whatever the order in which events
arrive, the books end alike.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum, auto
from typing import NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from vnpy_core.domain.enums import Direction, IntentState
from vnpy_core.domain.events import (
    Account,
    Event,
    Halt,
    IntentOutcome,
    Order,
    OrderIntent,
    Position,
    PositionBase,
    Quote,
    QuoteIntent,
    StopOrderUpdate,
    StrategyData,
    StrategyDay,
    StrategySetting,
    Trade,
)

KEEP = 200_000
"""Finished orders, fills and settled intents that are remembered each, the oldest going first."""
ALL_SYMBOLS = "*"
"""In a PositionBase: every contract of the gateway that has no base of its own."""
_SHANGHAI = ZoneInfo("Asia/Shanghai")
_NIGHT = timedelta(hours=4)
"""What a venue calls one trading day begins at 20:00 of the evening before, at the earliest."""

E = TypeVar("E")
Intent = OrderIntent | QuoteIntent


class Verdict(Enum):
    """What an arriving event is to the books."""

    NEW = auto()
    REPEAT = auto()
    """Known in every detail."""
    LATE = auto()
    """It goes back in its order's life."""


class Kept(NamedTuple):
    """An event with its place in the journal: `seq`, and `ts` in UTC microseconds."""

    event: Event
    seq: int
    ts: int


class OrderContent(NamedTuple):
    """By what an order is recognised where nothing names it."""

    vt_symbol: str
    direction: Direction | None
    price: float
    volume: float


def content_of(order: Order | OrderIntent) -> OrderContent:
    """An order's or intent's content."""
    return OrderContent(order.vt_symbol, order.direction, order.price, order.volume)


def merge_orders(known: Order, arrived: Order) -> Order:
    """One order from two of its events, whichever came first: the highest state, the most traded.

    The event that is further in the order's life gives the other fields; of two equal ones the arrived one does.
    """
    ahead, behind = (arrived, known) if progress(arrived) >= progress(known) else (known, arrived)
    return msgspec.structs.replace(
        ahead,
        traded=max(known.traded, arrived.traded),
        datetime=ahead.datetime or behind.datetime,
        client_order_id=known.client_order_id or arrived.client_order_id,
        strategy_name=known.strategy_name or arrived.strategy_name,
        updated_at=arrived.updated_at,
        seq=arrived.seq,
    )


def progress(order: Order) -> tuple[int, float]:
    """How far in its life an order is; the larger one is later."""
    return order.status.rank, order.traded


def order_verdict(known: Order | None, arrived: Order) -> Verdict:
    """NEW where `arrived` adds anything to `known`."""
    if known is None:
        return Verdict.NEW
    merged = merge_orders(known, arrived)
    if _same(known, merged):
        return Verdict.REPEAT if progress(arrived) == progress(known) else Verdict.LATE
    return Verdict.NEW


def _same(one: Order, other: Order) -> bool:
    return msgspec.structs.replace(one, updated_at=other.updated_at, seq=other.seq) == other


def trade_content(trade: Trade) -> tuple[object, ...]:
    """By what a fill is recognised when its venue sends it again under another order id."""
    return (
        trade.gateway_name, trade.tradeid, trade.vt_symbol, trade.direction, trade.offset, trade.price, trade.volume,
        trade.datetime,
    )  # fmt: skip


def trade_key(uid: str, trade: Trade) -> str:
    """A fill's name for ever."""
    return f"{trade.gateway_name}:{uid}/{trade.tradeid}"


def uid_in(key: str, trade: Trade) -> str:
    """The order's name in a fill's key."""
    return key[len(trade.gateway_name) + 1 : -len(trade.tradeid) - 1]


def trading_day(moment: datetime | None) -> str:
    """The day that names a venue's ids; not a calendar, only always the same for the same moment. "?" without one."""
    return (moment.astimezone(_SHANGHAI) + _NIGHT).date().isoformat() if moment else "?"


def foreign_uid(vt_orderid: str, moment: datetime | None, *, ids_unique: bool) -> str:
    """The name of an order that nobody sent through us, from the venue's id and time; never from our clock."""
    return vt_orderid if ids_unique else f"{vt_orderid}@{trading_day(moment)}"


def signed(trade: Trade) -> Decimal:
    """What a fill adds to the net position."""
    volume = Decimal(repr(float(trade.volume)))
    return -volume if trade.direction is Direction.SHORT else volume


def halt_key(halt: Halt) -> str:
    """What a halt is about, as one word."""
    return f"{halt.scope}:{halt.target}" if halt.target else str(halt.scope)


class IntentRecord:
    """An intent and what is known of its outcome."""

    __slots__ = ("intent", "kept", "outcome")

    def __init__(self, intent: Intent, kept: Kept) -> None:
        self.intent = intent
        self.kept = kept
        self.outcome: IntentOutcome | None = None

    @property
    def is_open(self) -> bool:
        """Whether nobody knows yet what became of it."""
        return self.outcome is None or self.outcome.state is IntentState.UNKNOWN


class Books:
    """One thread at a time: the stage's lock sees to it."""

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = keep
        self.intents: OrderedDict[str, IntentRecord] = OrderedDict()
        """By client_order_id; those without an outcome are never forgotten."""
        self.orders: OrderedDict[str, Kept] = OrderedDict()
        """By uid, in the order of their last change; active ones are never forgotten."""
        self.trades: OrderedDict[str, Kept] = OrderedDict()
        self.quotes: dict[str, Kept] = {}
        self.positions: dict[str, Kept] = {}
        self.accounts: dict[str, Kept] = {}
        self.stop_orders: dict[str, Kept] = {}
        """Only those that wait."""
        self.halts: dict[str, Kept] = {}
        """Only those in force."""
        self.bases: dict[tuple[str, str], Kept] = {}
        self.strategy_settings: dict[str, Kept] = {}
        """By name, removed ones too: service.toml must not bring them back."""
        self.strategy_data: dict[str, Kept] = {}
        self.strategy_days: dict[str, Kept] = {}
        """The last day of each strategy, by name."""
        self.net_since: dict[tuple[str, str], Decimal] = {}
        """Σ fills since the base, by gateway and vt_symbol."""
        self.last_stop: Kept | None = None
        """The stop order with the highest number, ended or not: its id must not come again."""
        self._uids: dict[str, str] = {}
        self._claimed: dict[str, str] = {}
        """uid of an order that was foreign until an admin said whose it is -> client_order_id."""
        self._trade_contents: dict[tuple[object, ...], tuple[str, ...]] = {}
        self._open_intents: dict[str, IntentRecord] = {}

    # --- folding ---

    def apply(self, key: str, event: Event, seq: int, ts: int, *, carried: bool = False) -> None:
        """Take in one event under its journal key; audit events change nothing. Of late ones nothing may come here.

        A `carried` one is state: a fill is in the carried base already, and no id gets another meaning by it.
        """
        kept = Kept(event, seq, ts)
        match event:
            case OrderIntent() | QuoteIntent():
                self._keep_intent(key, event, kept)
            case IntentOutcome():
                self._settle(event, carried=carried)
            case Order():
                self._keep_order(key, event, kept, carried=carried)
            case Trade():
                self._keep_trade(key, event, kept, counts=not carried)
            case Quote():
                self._keep_while(self.quotes, key, kept, event.status.is_active)
            case Position():
                self.positions[key] = kept
            case Account():
                self.accounts[key] = kept
            case StopOrderUpdate():
                self._keep_while(self.stop_orders, key, kept, event.status == "WAITING")
                if _number_of(event.stop_orderid) >= self.highest_stop:
                    self.last_stop = kept
            case Halt():
                self._keep_while(self.halts, key, kept, event.active)
            case PositionBase():
                self._rebase(event, kept, carried=carried)
            case StrategySetting():
                self.strategy_settings[event.strategy_name] = kept
            case StrategyData():
                self.strategy_data[event.strategy_name] = kept
            case StrategyDay():
                self.strategy_days[event.strategy_name] = kept
            case _:
                pass

    def bind(self, vt_orderid: str, uid: str) -> None:
        """From now on the venue's `vt_orderid` is the order `uid`."""
        self._uids[vt_orderid] = uid

    # --- asking ---

    @property
    def highest_stop(self) -> int:
        """The highest number that a local stop order has had; CtaEngine counts them up."""
        stop = self.last_stop.event if self.last_stop else None
        return _number_of(stop.stop_orderid) if isinstance(stop, StopOrderUpdate) else 0

    def uid(self, vt_orderid: str) -> str | None:
        """The order's name in the journal."""
        return self._uids.get(vt_orderid)

    def intent_of_order(self, uid: str) -> IntentRecord | None:
        """The intent behind an order, if it is ours."""
        return self.intents.get(uid) or self.intents.get(self._claimed.get(uid, ""))

    def order(self, uid: str) -> Order | None:
        """The order as it was last known."""
        kept = self.orders.get(uid)
        return kept.event if kept is not None and isinstance(kept.event, Order) else None

    def trade(self, key: str) -> Trade | None:
        """The fill."""
        kept = self.trades.get(key)
        return kept.event if kept is not None and isinstance(kept.event, Trade) else None

    def alike_trades(self, trade: Trade) -> Iterator[tuple[str, Trade]]:
        """`(key, fill)` of the known fills with the same content, whichever orders they are of."""
        for key in self._trade_contents.get(trade_content(trade), ()):
            known = self.trade(key)
            if known is not None:
                yield key, known

    def active_orders(self, gateway_name: str) -> Iterator[tuple[str, Order]]:
        """`(uid, order)` of a gateway's orders that may still trade."""
        for uid, kept in self.orders.items():
            order = kept.event
            if isinstance(order, Order) and order.gateway_name == gateway_name and order.is_active:
                yield uid, order

    def open_intents(self, gateway_name: str) -> list[OrderIntent]:
        """A gateway's order intents of which nobody knows what became, oldest first."""
        # By time, which a row keeps when it is carried forward, whatever was between.
        intents = (record.intent for record in sorted(self._open_intents.values(), key=_ts))
        return [i for i in intents if isinstance(i, OrderIntent) and i.gateway_name == gateway_name]

    def net(self, gateway_name: str, vt_symbol: str) -> Decimal | None:
        """The net position that the fills give; None where there is no base to count from."""
        base = self._base_of(gateway_name, vt_symbol)
        if base is None or not isinstance(base.event, PositionBase):
            return None
        return Decimal(repr(float(base.event.volume))) + self.net_since.get((gateway_name, vt_symbol), Decimal(0))

    def symbols(self, gateway_name: str) -> set[str]:
        """The contracts in which this gateway has a base or fills since."""
        return {symbol for name, symbol in (*self.bases, *self.net_since) if name == gateway_name} - {ALL_SYMBOLS}

    def living(self, since_ts: int) -> Iterator[tuple[str, Kept]]:
        """`(key, kept)` of all that a start must know, the recent past from `since_ts` (UTC µs) on included.

        The books may change between two steps: each thing is given as it is when its turn comes, and what is new
        meanwhile is left out. Of things that share a venue's id, the one that has it now comes first.
        """
        yield from self._carried_bases()
        tables = (self.positions, self.accounts, self.halts, self.stop_orders, self.quotes)
        for table in (*tables, self.strategy_settings, self.strategy_data, self.strategy_days):
            for key in list(table):
                if (kept := table.get(key)) is not None:
                    yield key, kept
        if (last := self.last_stop) is not None and isinstance(last.event, StopOrderUpdate):
            yield last.event.stop_orderid, last
        for has_id in (True, False):
            yield from self._living_orders(since_ts, has_id)
        for has_id in (True, False):
            yield from self._living_intents(since_ts, has_id)
        for key, kept in list(self.trades.items()):
            if kept.ts >= since_ts:
                yield key, kept

    # --- inside ---

    def _carried_bases(self) -> Iterator[tuple[str, Kept]]:
        """Bases with the fills since in them; before them those for all other contracts."""
        for (gateway_name, vt_symbol), kept in list(self.bases.items()):
            if vt_symbol == ALL_SYMBOLS:
                yield f"{gateway_name}.{ALL_SYMBOLS}", kept
        for gateway_name in sorted({name for name, _ in self.bases}):
            for vt_symbol in sorted(self.symbols(gateway_name)):
                net, base = self.net(gateway_name, vt_symbol), self._base_of(gateway_name, vt_symbol)
                if net is not None and base is not None:
                    carried = msgspec.structs.replace(base.event, vt_symbol=vt_symbol, volume=float(net))
                    yield f"{gateway_name}.{vt_symbol}", base._replace(event=carried)

    def _base_of(self, gateway_name: str, vt_symbol: str) -> Kept | None:
        return self.bases.get((gateway_name, vt_symbol)) or self.bases.get((gateway_name, ALL_SYMBOLS))

    def _rebase(self, base: PositionBase, kept: Kept, *, carried: bool) -> None:
        place = (base.gateway_name, base.vt_symbol)
        if base.vt_symbol != ALL_SYMBOLS:
            self.bases[place] = kept
            self.net_since[place] = Decimal(0)
        elif carried:
            self.bases.setdefault(place, kept)  # each contract's own follows, with its fills
        else:
            self.bases[place] = kept
            others = [p for p in self.net_since if p[0] == base.gateway_name and p not in self.bases]
            self.net_since.update(dict.fromkeys(others, Decimal(0)))

    def _living_orders(self, since_ts: int, has_id: bool) -> Iterator[tuple[str, Kept]]:
        for uid in list(self.orders):
            kept = self.orders.get(uid)
            if kept is None or not isinstance(kept.event, Order) or has_id is not self._has_id(kept.event, uid):
                continue
            if kept.event.is_active or kept.ts >= since_ts:
                yield uid, kept

    def _has_id(self, order: Order, uid: str) -> bool:
        return self._uids.get(order.vt_orderid) == uid

    def _living_intents(self, since_ts: int, has_id: bool) -> Iterator[tuple[str, Kept]]:
        for key in list(self.intents):
            record = self.intents.get(key)
            if record is None or not (record.is_open or record.kept.ts >= since_ts or self._is_active(key)):
                continue
            outcome = record.outcome
            if has_id is not (outcome is not None and self._uids.get(outcome.vt_orderid) == key):
                continue
            yield key, record.kept
            if outcome is not None:
                yield key, record.kept._replace(event=outcome)

    def _is_active(self, uid: str) -> bool:
        order = self.order(uid)
        return order is not None and order.is_active

    def _keep_intent(self, client_order_id: str, intent: Intent, kept: Kept) -> None:
        if client_order_id in self.intents:
            return  # carried on top of what it was carried from, perhaps without the outcome that follows it
        self.intents[client_order_id] = self._open_intents[client_order_id] = IntentRecord(intent, kept)

    def _settle(self, outcome: IntentOutcome, *, carried: bool) -> None:
        client_order_id = outcome.client_order_id
        record = self.intents.get(client_order_id)
        if record is not None:
            record.outcome = outcome
            if not record.is_open:
                self._open_intents.pop(client_order_id, None)
        if outcome.state is IntentState.BOUND:
            uid = self._uids.get(outcome.vt_orderid, "")
            if outcome.by and uid in self.orders:
                self._claimed[uid] = client_order_id
            elif carried:
                self._uids.setdefault(outcome.vt_orderid, client_order_id)
            else:
                self.bind(outcome.vt_orderid, client_order_id)
        for old, gone in _forget_oldest(self.intents, self._keep, lambda record: not record.is_open):
            self._unbind(gone.outcome.vt_orderid if gone.outcome else "", old)

    def _keep_order(self, uid: str, order: Order, kept: Kept, *, carried: bool) -> None:
        if carried:
            self._uids.setdefault(order.vt_orderid, uid)
        elif uid not in self.orders:
            self.bind(order.vt_orderid, uid)
        self.orders[uid] = kept
        self.orders.move_to_end(uid)
        for old, gone in _forget_oldest(self.orders, self._keep, lambda kept: not _may_trade(kept)):
            assert isinstance(gone.event, Order)
            self._claimed.pop(old, None)
            self._unbind(gone.event.vt_orderid, old)

    def _keep_trade(self, key: str, trade: Trade, kept: Kept, *, counts: bool) -> None:
        if key in self.trades:
            return
        self.trades[key] = kept
        content = trade_content(trade)
        self._trade_contents[content] = (*self._trade_contents.get(content, ()), key)
        # So that its order, where that comes later, gets the name under which its fill is known.
        self._uids.setdefault(trade.vt_orderid, uid_in(key, trade))
        place = (trade.gateway_name, trade.vt_symbol)
        if counts:
            self.net_since[place] = self.net_since.get(place, Decimal(0)) + signed(trade)
        for old, gone in _forget_oldest(self.trades, self._keep, lambda _: True):
            self._forget_trade(old, gone.event)

    def _forget_trade(self, key: str, trade: Event) -> None:
        assert isinstance(trade, Trade)
        content = trade_content(trade)
        left = tuple(other for other in self._trade_contents.pop(content, ()) if other != key)
        if left:
            self._trade_contents[content] = left
        self._unbind(trade.vt_orderid, uid_in(key, trade))

    def _unbind(self, vt_orderid: str, uid: str) -> None:
        """A thing of this name was forgotten: so is its id, where nothing else of that name is left."""
        if self._uids.get(vt_orderid) == uid and uid not in self.orders and uid not in self.intents:
            del self._uids[vt_orderid]

    @staticmethod
    def _keep_while(table: dict[str, Kept], key: str, kept: Kept, alive: bool) -> None:
        if alive:
            table[key] = kept
        else:
            table.pop(key, None)


def _may_trade(kept: Kept) -> bool:
    return isinstance(kept.event, Order) and kept.event.is_active


def _forget_oldest(table: OrderedDict[str, E], keep: int, may_go: Callable[[E], bool]) -> list[tuple[str, E]]:
    """Take out the oldest ones that may go, beyond `keep`; looks at a few only, so that each call is cheap."""
    gone: list[tuple[str, E]] = []
    for _ in range(min(len(table) - keep, 4)):
        key = next(iter(table))
        if may_go(table[key]):
            gone.append((key, table.pop(key)))
        else:
            table.move_to_end(key)
    return gone


def _number_of(stop_orderid: str) -> int:
    """`STOP.7` → 7: CtaEngine counts them up."""
    number = stop_orderid.rpartition(".")[2]
    return int(number) if number.isdigit() else 0


def _ts(record: IntentRecord) -> int:
    return record.kept.ts
