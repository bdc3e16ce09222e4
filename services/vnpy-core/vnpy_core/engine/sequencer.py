"""What becomes of each event: which journal row, whether VnPy's handlers see it, and as what.

Nothing here locks or waits; `stage.Stage` calls it under its lock, in the order of the journal.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from copy import copy
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import structlog
from vnpy.event import Event
from vnpy.trader.constant import Status as VnpyStatus

from vnpy_core.bus import records, topics
from vnpy_core.domain.books import (
    Books,
    Intent,
    Verdict,
    content_of,
    foreign_uid,
    merge_orders,
    order_verdict,
    progress,
    trade_key,
    trading_day,
    uid_in,
)
from vnpy_core.domain.enums import IntentState
from vnpy_core.domain.events import Event as DomainEvent
from vnpy_core.domain.events import IntentOutcome, Order, OrderIntent, Quarantine, Quote, Trade
from vnpy_core.ports.clock import Clock

HOLD_CALL_S = 5.0
"""An event about an unknown order waits for a `send_order` under way at most this long."""
HOLD_SHOWN_S = 60.0
"""And for the end of what a gateway shows after its connect at most this long."""
REMEMBERED = 200_000
TWINS = 1_000
"""Events that are remembered for the sake of their suffixed twins, which follow at once."""
STRATEGY_REFERENCE = "CtaStrategy_"

E = TypeVar("E", bound=DomainEvent)

_log = structlog.get_logger(__name__)


class Staged:
    """What the bridge finds at an event that came through the stage: `data` to publish, None for nothing new."""

    __slots__ = ("data",)

    def __init__(self, data: DomainEvent | None) -> None:
        self.data = data


class Item:
    """One event on its way through the stage; `kind` is empty for what only queues behind others."""

    __slots__ = ("data", "event", "forward", "gateway", "is_twin", "key", "kind", "must_last", "shown", "ticket")

    def __init__(
        self, event: Event | None, gateway: str = "", kind: str = "", key: str = "", data: DomainEvent | None = None
    ) -> None:
        self.event = event
        self.gateway = gateway
        self.kind = kind
        self.key = key
        self.data = data
        self.ticket: Future[int] | None = None
        self.forward = event is not None
        self.is_twin = False
        self.must_last = False
        """Whether it is shown to nobody unless it is durable."""
        self.shown: Shown | None = None
        """The showing that was under way when it was put: what was put before says nothing of the venue now."""


class Entry:
    """A journal row without its place: `data` has the `seq` that it will get."""

    __slots__ = ("data", "key", "kind")

    def __init__(self, kind: str, key: str, data: DomainEvent) -> None:
        self.kind = kind
        self.key = key
        self.data = data


class Call:
    """A gateway's `send_order` or `send_quote` under way in some thread."""

    __slots__ = ("intent", "since", "thread", "venue_id")

    def __init__(self, intent: Intent, since: float) -> None:
        self.intent = intent
        self.thread = threading.get_ident()
        self.since = since
        self.venue_id = ""
        """Set as soon as it is known; "" after the call where nothing named an order."""


class Shown:
    """What a gateway showed since its last connect began."""

    def __init__(self, gateway_name: str, started_at: datetime, since: float) -> None:
        self.gateway_name = gateway_name
        self.started_at = started_at
        self.since = since
        self.last_news = since
        """When it last sent what it had not sent before, ticks and logs apart; monotonic seconds."""
        self.holding = True
        self.orders: dict[str, Order] = {}
        """By uid, each in the latest state that was shown."""
        self.known: dict[str, Order] = {}
        """By uid, each as it stood in the books when it was first shown."""
        self.foreign: dict[str, Order] = {}
        self.trades: dict[str, Trade] = {}
        self.missed: dict[str, Trade] = {}

    def note_order(self, uid: str, known: Order | None, order: Order) -> None:
        """An order was shown."""
        if uid not in self.orders and known is not None:
            self.known[uid] = known
        latest = self.orders.get(uid)
        if latest is None or progress(order) >= progress(latest):
            self.orders[uid] = order


class Sequencer:
    """Under the stage's lock."""

    def __init__(self, books: Books, clock: Clock, *, ids_unique: Callable[[str], bool]) -> None:
        """`ids_unique` says whether a gateway's order ids never come again after a restart."""
        self.books = books
        self.shown: dict[str, Shown] = {}
        self.orphans = {r.intent.client_order_id for r in books.intents.values() if r.is_open}
        """Open intents whose call is over: of an earlier run, or one that raised."""
        self.bound: Callable[[str, str], None] = lambda vt_orderid, strategy_name: None
        """Told of each order id that is bound to an intent, and its strategy's name: "" where it has none, or where the
        id has come again for an order that nobody sent through us."""
        self._clock = clock
        self._ids_unique = ids_unique
        self._inherited = frozenset(books.orders)
        """Names of the orders of earlier runs."""
        self._calls: dict[str, list[Call]] = {}
        self._raised: set[str] = set()
        """The orphans of this run."""
        self._seen: OrderedDict[str, None] = OrderedDict()
        """Names of orders, quotes and fills that this run sent, or showed to VnPy's handlers."""
        self._replaced: OrderedDict[int, tuple[Any, Any]] = OrderedDict()
        """id of an event's data -> that data, and what its twin shows in its place (None: there is no twin)."""

    # --- calls and bindings ---

    def begin_call(self, intent: Intent) -> Call:
        """The gateway is called now, in this thread."""
        call = Call(intent, self._clock.monotonic())
        self._calls.setdefault(intent.gateway_name, []).append(call)
        return call

    def end_call(self, call: Call, venue_id: str, *, unknown: bool) -> list[Item]:
        """It returned `venue_id`; or "" where it took nothing, or, `unknown`, raised."""
        calls = self._calls[call.intent.gateway_name]
        calls.remove(call)
        if not calls:
            del self._calls[call.intent.gateway_name]
        items = []
        if venue_id and call.venue_id != venue_id:
            call.venue_id = venue_id
            items.append(self._bind(call.intent, venue_id, "the gateway's answer"))
        if unknown and not call.venue_id:
            self.orphans.add(call.intent.client_order_id)
            self._raised.add(call.intent.client_order_id)
        return items

    def bind_own(self, order: Order) -> list[Item]:
        """An order event put inside a gateway's call, by its thread, names the intent's order."""
        for call in self._calls.get(order.gateway_name, ()):
            if call.venue_id or call.thread != threading.get_ident() or not isinstance(call.intent, OrderIntent):
                continue
            content = content_of(call.intent)
            # Where an earlier send of the same content is in doubt, only the gateway's answer says whose order it is.
            if content_of(order) == content and not self._lives(order.vt_orderid) and not self._orphans_like(order):
                call.venue_id = order.vt_orderid
                return [self._bind(call.intent, order.vt_orderid, "put inside the gateway's call")]
        return []

    def close(self, intent: Intent, state: IntentState, *, reason: str = "") -> Item:
        """The outcome of an intent that was not bound."""
        return self.settle_intent(self._outcome(intent, state, reason=reason))

    def settle_intent(self, outcome: IntentOutcome) -> Item:
        """Take in an outcome now, so that whoever asks next does not find the intent open, and journal it."""
        self.books.apply(outcome.client_order_id, outcome, 0, 0)
        if outcome.state is not IntentState.UNKNOWN:
            self.orphans.discard(outcome.client_order_id)
            self._raised.discard(outcome.client_order_id)
        record = self.books.intents.get(outcome.client_order_id)
        strategy_name = getattr(record.intent, "strategy_name", None) if record else None
        if outcome.state is IntentState.BOUND:
            self.bound(outcome.vt_orderid, strategy_name or "")
        return Item(None, "", records.INTENT_OUTCOME, outcome.client_order_id, outcome)

    def _bind(self, intent: Intent, venue_id: str, evidence: str) -> Item:
        """An id that comes again names the new order from here on."""
        self._mark_seen(intent.client_order_id)
        return self.settle_intent(self._outcome(intent, IntentState.BOUND, venue_id, evidence=evidence))

    def _outcome(
        self, intent: Intent, state: IntentState, vt_orderid: str = "", *, reason: str = "", evidence: str = ""
    ) -> IntentOutcome:
        return IntentOutcome(
            client_order_id=intent.client_order_id,
            gateway_name=intent.gateway_name,
            state=state,
            vt_orderid=vt_orderid,
            reason=reason,
            evidence=evidence,
            at=self._clock.now(),
        )

    def _lives(self, vt_orderid: str) -> bool:
        """Whether this id names an order that this process knows as active; one of an earlier run may lose its id."""
        uid = self.books.uid(vt_orderid) or ""
        known = self.books.order(uid)
        return known is not None and known.is_active and uid in self._seen

    def _orphans_like(self, order: Order) -> list[OrderIntent]:
        content = content_of(order)
        return [intent for intent in self.open_orphans(order.gateway_name) if content_of(intent) == content]

    def open_orphans(self, gateway_name: str) -> list[OrderIntent]:
        """A gateway's open intents whose call is over."""
        return [i for i in self.books.open_intents(gateway_name) if i.client_order_id in self.orphans]

    @property
    def has_calls(self) -> bool:
        """Whether anything is being sent now."""
        return bool(self._calls)

    # --- waiting ---

    def is_calling(self, gateway_name: str) -> bool:
        """Whether a call is under way that may still name an order."""
        now = self._clock.monotonic()
        return any(not c.venue_id and now - c.since < HOLD_CALL_S for c in self._calls.get(gateway_name, ()))

    def must_wait(self, item: Item) -> bool:
        """Whether an event is about an order that a call under way, or the rest of what is shown, may name."""
        return self.is_unknown(item) and (self.is_calling(item.gateway) or self._is_holding(item.gateway))

    def is_unknown(self, item: Item) -> bool:
        """Whether an event is about an order that nothing names."""
        return isinstance(item.data, Order | Trade) and item.event is not None and self.uid_of(item.data) is None

    def _is_holding(self, gateway_name: str) -> bool:
        shown = self.shown.get(gateway_name)
        if shown is None or not shown.holding or self._clock.monotonic() - shown.since > HOLD_SHOWN_S:
            return False
        return bool(self.open_orphans(gateway_name))

    # --- names ---

    def uid_of(self, event: Order | Trade) -> str | None:
        """The name of an event's order, where its id still means that one."""
        uid = self.books.uid(event.vt_orderid)
        if uid is None or self._ids_unique(event.gateway_name):
            return uid
        fits = self._order_fits(uid, event) if isinstance(event, Order) else self._trade_fits(uid, event)
        return uid if fits else None

    def is_ownerless(self, order: Order) -> bool:
        """Whether an order has a name, but none of an intent."""
        uid = self.uid_of(order)
        return uid is not None and self.books.intent_of_order(uid) is None

    def _order_fits(self, uid: str, order: Order) -> bool:
        known = self.books.order(uid)
        if uid in self._seen and (known is None or known.is_active):
            return True  # within a run only the id of an order that has ended may come again
        if known is None:
            record = self.books.intents.get(uid)
            intent = record.intent if record else None
            return not isinstance(intent, OrderIntent) or content_of(intent) == content_of(order)
        return content_of(known) == content_of(order) and _are_of_one_day(known.datetime, order.datetime)

    def _trade_fits(self, uid: str, trade: Trade) -> bool:
        known, namesake = self.books.order(uid), self.books.trade(trade_key(uid, trade))
        is_of_this_run = uid in self._seen
        if known is None or (is_of_this_run and known.is_active):
            return True
        if (known.vt_symbol, known.direction) != (trade.vt_symbol, trade.direction):
            return False
        if namesake is not None and not _is_same_fill(namesake, trade):
            return is_of_this_run and _are_of_one_day(namesake.datetime, trade.datetime)
        return is_of_this_run or known.is_active or _are_of_one_day(known.datetime, trade.datetime)

    def _new_uid(self, event: Order | Trade) -> str:
        """A name for an order that nobody sent through us; some venues give an id twice on a day."""
        base = foreign_uid(event.vt_orderid, event.datetime, ids_unique=self._ids_unique(event.gateway_name))
        uid, number = base, 1
        while uid in self.books.orders:
            number += 1
            uid = f"{base}#{number}"
        if self.books.uid(event.vt_orderid) is not None:
            self.bound(event.vt_orderid, "")
        return uid

    def _name_order(self, item: Item, order: Order) -> tuple[str, list[Entry]]:
        """The order's name, and the rows that come of finding it."""
        if item.event is None:
            return item.key, []  # of our own making: it says itself which order it is about
        uid = self.uid_of(order)
        if uid is not None and (uid in self.books.orders or self.books.intent_of_order(uid) is not None):
            return uid, []
        raised = [intent for intent in self._orphans_like(order) if intent.client_order_id in self._raised]
        if len(raised) == 1 and order.gateway_name not in self.shown:
            found = self._bind(raised[0], order.vt_orderid, "the only open intent of this content")
            assert found.data is not None
            return raised[0].client_order_id, [Entry(found.kind, found.key, found.data)]
        uid = uid or self._new_uid(order)
        self.books.bind(order.vt_orderid, uid)
        return uid, []

    # --- one event after another ---

    def take(self, item: Item, seq: int) -> list[Entry]:
        """What is to be journaled for `item`, from `seq` on; sets what is forwarded and published."""
        match item.data:
            case Order():
                return self._take_order(item, item.data, seq)
            case Trade():
                return self._take_trade(item, item.data, seq)
            case Quote():
                return self._take_quote(item, item.data, seq)
            case None:
                if item.is_twin:
                    self._follow_twin(item)
                return []
            case _:
                data = numbered(item.data, seq)
                _publish(item, data)
                return [Entry(item.kind, item.key, data)]

    def _take_order(self, item: Item, order: Order, seq: int) -> list[Entry]:
        uid, entries = self._name_order(item, order)
        seq += len(entries)
        known = self.books.order(uid)
        order = numbered(self._named(uid, order), seq)
        verdict = order_verdict(known, order)
        self._note_shown(item, uid, known, order)
        if verdict is Verdict.REPEAT:
            item.forward = self._mark_seen(uid) and item.forward
            return [*entries, *self._nothing_new(item)]
        if verdict is Verdict.LATE:
            item.forward = False
            return [*entries, *self._nothing_new(item), Entry(records.ORDER_LATE, uid, order)]
        merged = numbered(merge_orders(known, order) if known else order, seq)
        self._mark_seen(uid)
        self._replace(item, merged)
        _publish(item, merged)
        return [*entries, Entry(item.kind, uid, merged)]

    def _take_quote(self, item: Item, quote: Quote, seq: int) -> list[Entry]:
        kept = self.books.quotes.get(quote.vt_quoteid)
        known = kept.event if kept is not None and isinstance(kept.event, Quote) else None
        if known is not None and quote.status.rank <= known.status.rank:
            is_same = numbered(quote, known.seq) == known
            if is_same or quote.status.rank < known.status.rank:
                item.forward = is_same and self._mark_seen(quote.vt_quoteid) and item.forward
                return self._nothing_new(item)
        quote = numbered(quote, seq)
        self._mark_seen(quote.vt_quoteid)
        self._replace(item, None)
        _publish(item, quote)
        return [Entry(topics.QUOTE_UPDATED, quote.vt_quoteid, quote)]

    def _take_trade(self, item: Item, trade: Trade, seq: int) -> list[Entry]:
        uid = self.uid_of(trade) or self._new_uid(trade)
        trade = numbered(self._attributed(uid, trade), seq)
        key, is_certain = self._name_trade(uid, trade)
        known = self.books.trade(key)
        shown = self._showing(item)
        if shown is not None:
            shown.trades[key] = trade
            shown.last_news = self._clock.monotonic()
        if known is not None:
            return self._take_known_trade(item, key, known, trade, is_certain)
        if shown is not None:
            shown.missed[key] = trade
        self._mark_seen(key)
        self._replace(item, None)
        _publish(item, trade)
        return [Entry(topics.TRADE_EXECUTED, key, trade)]

    def _name_trade(self, uid: str, trade: Trade) -> tuple[str, bool]:
        """A fill's key, which is a known one where it was sent again; and whether that is certain."""
        key = trade_key(uid, trade)
        namesake, alike = self.books.trade(key), dict(self.books.alike_trades(trade))
        if key in alike or (namesake is not None and _is_same_fill(namesake, trade)):
            return key, True
        is_unique = self._ids_unique(trade.gateway_name)
        for other, known in alike.items():
            if known.vt_orderid == trade.vt_orderid:
                # Its order got another name meanwhile. Without a time it may also be another day's.
                return other, is_unique or other in self._seen or trade.datetime is not None
        is_news = not is_unique and uid not in self._inherited and self.books.intent_of_order(uid) is None
        for other, known in alike.items():
            # Sent again under a new id of its order, where that id is news to us and the old one was not shown.
            if is_news and other not in self._seen and uid_in(other, known) not in self._seen:
                return other, trade.datetime is not None
        return key, True  # its own: two orders may be filled alike

    def _take_known_trade(self, item: Item, key: str, known: Trade, trade: Trade, is_certain: bool) -> list[Entry]:
        if is_certain and _is_same_fill(known, trade):
            item.forward = self._mark_seen(key) and item.forward
            return self._nothing_new(item)
        item.forward = False
        self._nothing_new(item)
        reason = (
            "another content under a known key" if is_certain else "nothing tells whether this fill is the known one"
        )
        _log.error("a fill is put aside", key=key, reason=reason)
        return [Entry(records.QUARANTINE, key, _contradiction(key, reason, known, trade, self._clock.now()))]

    def _nothing_new(self, item: Item) -> list[Entry]:
        self._replace(item, None)
        _publish(item, None)
        return []

    def _named(self, uid: str, order: Order) -> Order:
        """With the caller's and the strategy's names."""
        record = self.books.intent_of_order(uid)
        strategy_name = getattr(record.intent, "strategy_name", None) if record else None
        if strategy_name is None and order.reference.startswith(STRATEGY_REFERENCE):
            strategy_name = order.reference.removeprefix(STRATEGY_REFERENCE)
        return msgspec.structs.replace(
            order,
            client_order_id=record.intent.client_order_id if record else order.client_order_id,
            strategy_name=strategy_name or order.strategy_name,
        )

    def _attributed(self, uid: str, trade: Trade) -> Trade:
        order = self.books.order(uid)
        record = self.books.intent_of_order(uid)
        name = (order.strategy_name if order else None) or (
            getattr(record.intent, "strategy_name", None) if record else None
        )
        return msgspec.structs.replace(trade, strategy_name=name or trade.strategy_name)

    def _showing(self, item: Item) -> Shown | None:
        return item.shown if item.shown is self.shown.get(item.gateway) else None

    def _note_shown(self, item: Item, uid: str, known: Order | None, order: Order) -> None:
        shown = self._showing(item)
        if shown is None:
            return
        if known is None and self.books.intent_of_order(uid) is None:
            shown.foreign[uid] = order
        shown.note_order(uid, known, order)
        shown.last_news = self._clock.monotonic()

    def _mark_seen(self, key: str) -> bool:
        """Whether this is the first time in this run."""
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return True

    # --- the suffixed twin of an event, which follows it with the same data ---

    def _replace(self, item: Item, merged: Order | None) -> None:
        """Let VnPy see the order as it is after the merge, without touching the gateway's own object."""
        if item.event is None:
            return
        data = item.event.data
        changed: Any = data if item.forward else None
        if item.forward and merged is not None and (data.status.name != merged.status or data.traded != merged.traded):
            changed = copy(data)
            changed.status, changed.traded = VnpyStatus[merged.status.name], merged.traded
            item.event.data = changed
        self._replaced.pop(id(data), None)
        if changed is not data:
            self._replaced[id(data)] = (data, changed)  # holding it keeps its id from coming again
            if len(self._replaced) > TWINS:
                self._replaced.popitem(last=False)

    def _follow_twin(self, item: Item) -> None:
        assert item.event is not None
        original, replacement = self._replaced.get(id(item.event.data), (None, None))
        if original is None:
            return
        if replacement is None:
            item.forward = False
        else:
            item.event.data = replacement


def numbered(data: E, seq: int) -> E:
    """`data` with its place in the journal, where it has a field for it."""
    return msgspec.structs.replace(data, seq=seq) if hasattr(data, "seq") else data


def finite(data: E) -> E:
    """`data` with 0 for numbers that are none, which JSON cannot hold."""
    wrong = {
        name: 0.0
        for name in data.__struct_fields__
        if isinstance(value := getattr(data, name), float) and not math.isfinite(value)
    }
    return msgspec.structs.replace(data, **wrong) if wrong else data


def _publish(item: Item, data: DomainEvent | None) -> None:
    if item.event is not None:
        item.event.staged = Staged(data)


def _is_same_fill(known: Trade, trade: Trade) -> bool:
    """Whether these are one fill, told again perhaps with a coarser time."""
    if not _are_of_one_day(known.datetime, trade.datetime):
        return False
    same: dict[str, Any] = {
        name: getattr(known, name) for name in ("seq", "strategy_name", "vt_orderid", "orderid", "datetime")
    }
    return msgspec.structs.replace(trade, **same) == known


def _are_of_one_day(one: datetime | None, other: datetime | None) -> bool:
    """As far as is known."""
    return one is None or other is None or trading_day(one) == trading_day(other)


def _contradiction(key: str, reason: str, known: Trade, arrived: Trade, at: datetime) -> Quarantine:
    return Quarantine(
        kind=topics.TRADE_EXECUTED,
        key=key,
        reason=reason,
        known=msgspec.to_builtins(known),
        arrived=msgspec.to_builtins(arrived),
        at=at,
    )
