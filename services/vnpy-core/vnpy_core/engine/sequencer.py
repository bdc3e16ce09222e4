"""What becomes of each event: which journal row, whether VnPy's handlers see it, and as what.

Nothing here locks or waits; `stage.Stage` calls it under its lock, in the order of the journal.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from copy import copy
from datetime import datetime
from typing import Any

import msgspec
import structlog
from vnpy.event import Event
from vnpy.trader.constant import Status as VnpyStatus

from vnpy_core.bus import records, topics
from vnpy_core.domain import events
from vnpy_core.domain.books import (
    Books,
    Intent,
    Verdict,
    content_of,
    foreign_uid,
    merge_orders,
    order_verdict,
    trading_day,
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
STRATEGY_REFERENCE = "CtaStrategy_"

_log = structlog.get_logger(__name__)


class Staged:
    """What the bridge finds at an event that came through the stage: `data` to publish, None for nothing new."""

    __slots__ = ("data",)

    def __init__(self, data: DomainEvent | None) -> None:
        self.data = data


class Item:
    """One event on its way through the stage; `kind` is empty for what only queues behind others."""

    __slots__ = ("data", "event", "forward", "gateway", "key", "kind", "ticket")

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


class Entry:
    """A journal row without its place: `data` gets its `seq` when that is given out."""

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


class Shown:
    """What a gateway showed since its last connect began."""

    def __init__(self, started_at: datetime, since: float) -> None:
        self.started_at = started_at
        self.since = since
        self.last_news = since
        self.holding = True
        self.orders: dict[str, Order] = {}
        self.trades: dict[str, Trade] = {}
        self.moved: dict[str, tuple[Order, Order]] = {}
        """uid -> as known and as it is now."""
        self.behind: dict[str, tuple[Order, Order]] = {}
        """uid -> as known and as the venue shows it."""
        self.foreign: dict[str, Order] = {}
        self.missed: dict[str, Trade] = {}


class Sequencer:
    """Under the stage's lock."""

    def __init__(self, books: Books, clock: Clock, *, ids_unique: Callable[[str], bool]) -> None:
        """`ids_unique` says whether a gateway's order ids never come again after a restart."""
        self.books = books
        self.shown: dict[str, Shown] = {}
        self.orphans = {r.intent.client_order_id for r in books.intents.values() if r.is_open}
        """Open intents whose call is over: of an earlier run, or one that raised."""
        self.bound: Callable[[str, str], None] = lambda vt_orderid, strategy_name: None
        """Told of each order id that is bound to a strategy's intent."""
        self._clock = clock
        self._ids_unique = ids_unique
        self._calls: dict[str, list[Call]] = {}
        self._dispatched: OrderedDict[str, None] = OrderedDict()
        self._replaced: dict[str, tuple[Any, Any]] = {}
        """gateway -> the object of its last base event and what takes its place (None: nothing does)."""

    # --- calls and bindings ---

    def begin_call(self, intent: Intent) -> Call:
        """The gateway is called now, in this thread."""
        call = Call(intent, self._clock.monotonic())
        self._calls.setdefault(intent.gateway_name, []).append(call)
        return call

    def end_call(self, call: Call, venue_id: str) -> Iterator[Item]:
        """It returned `venue_id`, or "" where it took nothing or raised."""
        calls = self._calls[call.intent.gateway_name]
        calls.remove(call)
        if not calls:
            del self._calls[call.intent.gateway_name]
        if venue_id and call.venue_id != venue_id:
            yield self._bind(call.intent, venue_id, "the gateway's answer")
            call.venue_id = venue_id

    def bind_own(self, order: Order) -> Iterator[Item]:
        """An order event put inside a gateway's call, by its thread, names the intent's order."""
        for call in self._calls.get(order.gateway_name, ()):
            if call.venue_id or call.thread != threading.get_ident() or not isinstance(call.intent, OrderIntent):
                continue
            if content_of(order) == content_of(call.intent) and not self._lives(order.vt_orderid):
                call.venue_id = order.vt_orderid
                yield self._bind(call.intent, order.vt_orderid, "put inside the gateway's call")

    def close(self, intent: Intent, state: IntentState, *, reason: str = "", evidence: str = "") -> Item:
        """The outcome of an intent that was not bound."""
        return self.settle_intent(
            IntentOutcome(
                client_order_id=intent.client_order_id,
                gateway_name=intent.gateway_name,
                state=state,
                reason=reason,
                evidence=evidence,
                at=self._clock.now(),
            )
        )

    def settle_intent(self, outcome: IntentOutcome) -> Item:
        """Take in an outcome now, so that whoever asks next does not find the intent open, and journal it."""
        self.books.apply(outcome.client_order_id, outcome, 0, 0)
        self.orphans.discard(outcome.client_order_id)
        record = self.books.intents.get(outcome.client_order_id)
        strategy_name = getattr(record.intent, "strategy_name", None) if record else None
        if outcome.state is IntentState.BOUND and strategy_name:
            self.bound(outcome.vt_orderid, strategy_name)
        return Item(None, "", records.INTENT_OUTCOME, outcome.client_order_id, outcome)

    def _bind(self, intent: Intent, venue_id: str, evidence: str) -> Item:
        # An id that comes again names the new order from here on.
        self.books.bind(venue_id, intent.client_order_id)
        return self.settle_intent(
            IntentOutcome(
                client_order_id=intent.client_order_id,
                gateway_name=intent.gateway_name,
                state=IntentState.BOUND,
                vt_orderid=venue_id,
                evidence=evidence,
                at=self._clock.now(),
            )
        )

    def _lives(self, vt_orderid: str) -> bool:
        """Whether this id names an order that this process knows as active; one of an earlier run may lose its id."""
        uid = self.books.uid(vt_orderid) or ""
        known = self.books.order(uid)
        return known is not None and known.is_active and uid in self._dispatched

    # --- waiting ---

    def must_wait(self, item: Item) -> bool:
        """Whether an event is about an order that a call under way, or the rest of what is shown, may name."""
        if not self.is_unknown(item):
            return False
        now = self._clock.monotonic()
        calls = self._calls.get(item.gateway, ())
        if any(not call.venue_id and now - call.since < HOLD_CALL_S for call in calls):
            return True
        shown = self.shown.get(item.gateway)
        return shown is not None and shown.holding and now - shown.since < HOLD_SHOWN_S and self._has_orphans(item)

    def is_unknown(self, item: Item) -> bool:
        """Whether an event is about an order that nothing names."""
        return isinstance(item.data, Order | Trade) and self.books.uid(item.data.vt_orderid) is None

    def _has_orphans(self, item: Item) -> bool:
        return any(i.client_order_id in self.orphans for i in self.books.open_intents(item.gateway))

    def open_orphans(self, gateway_name: str) -> list[OrderIntent]:
        """A gateway's open intents whose call is over."""
        return [i for i in self.books.open_intents(gateway_name) if i.client_order_id in self.orphans]

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
                self._follow_twin(item)
                return []
            case _:
                data = item.data
                if hasattr(data, "seq"):
                    data = msgspec.structs.replace(data, seq=seq)
                _publish(item, data)
                return [Entry(item.kind, item.key, data)]

    def _take_order(self, item: Item, order: Order, seq: int) -> list[Entry]:
        uid, entries = self._uid(item.gateway, order)
        seq += len(entries)
        known = self.books.order(uid)
        order = self._named(uid, order)
        verdict = order_verdict(known, order)
        self._note_shown(item.gateway, uid, known, order, verdict)
        if verdict is Verdict.REPEAT:
            item.forward = self._first_time(uid)
            _publish(item, None)
            self._replace(item, None)
            return entries
        if verdict is Verdict.LATE:
            item.forward = False
            self._replace(item, None)
            return [*entries, Entry(records.ORDER_LATE, uid, order)]
        merged = msgspec.structs.replace(merge_orders(known, order) if known else order, seq=seq)
        self._first_time(uid)
        self._replace(item, merged)
        _publish(item, merged)
        return [*entries, Entry(topics.ORDER_UPDATED, uid, merged)]

    def _take_quote(self, item: Item, quote: Quote, seq: int) -> list[Entry]:
        kept = self.books.quotes.get(quote.vt_quoteid)
        quote = msgspec.structs.replace(quote, seq=seq)
        if kept is not None and kept.event == msgspec.structs.replace(quote, seq=kept.seq):
            item.forward = self._first_time(quote.vt_quoteid)
            self._replace(item, None)
            _publish(item, None)
            return []
        self._first_time(quote.vt_quoteid)
        self._replace(item, None)
        _publish(item, quote)
        return [Entry(topics.QUOTE_UPDATED, quote.vt_quoteid, quote)]

    def _take_trade(self, item: Item, trade: Trade, seq: int) -> list[Entry]:
        uid = self.books.uid(trade.vt_orderid) or foreign_uid(
            trade.vt_orderid, trade.datetime, ids_unique=self._ids_unique(item.gateway)
        )
        key = self.books.trade_key_of(trade, uid)
        known = self.books.trade(key)
        trade = self._attributed(uid, trade, seq)
        shown = self.shown.get(item.gateway)
        if shown is not None:
            shown.trades[key] = trade
            shown.last_news = self._clock.monotonic()
        if known is not None:
            return self._take_known_trade(item, key, known, trade)
        if shown is not None:
            shown.missed[key] = trade
        self._first_time(key)
        self._replace(item, None)
        _publish(item, trade)
        return [Entry(topics.TRADE_EXECUTED, key, trade)]

    def _take_known_trade(self, item: Item, key: str, known: Trade, trade: Trade) -> list[Entry]:
        same = msgspec.structs.replace(
            trade, seq=known.seq, strategy_name=known.strategy_name, vt_orderid=known.vt_orderid, orderid=known.orderid
        )
        _publish(item, None)
        if same == known:
            item.forward = self._first_time(key)
            self._replace(item, None)
            return []
        item.forward = False
        self._replace(item, None)
        _log.error("a fill contradicts a known one and is put aside", key=key)
        return [Entry(records.QUARANTINE, key, _contradiction(key, known, trade, self._clock.now()))]

    def _uid(self, gateway: str, order: Order) -> tuple[str, list[Entry]]:
        """The order's name, and the rows that come of finding it."""
        uid = self.books.uid(order.vt_orderid)
        if uid is not None and self._fits(uid, order):
            return uid, []
        if uid is None:
            alike = [i for i in self.open_orphans(gateway) if content_of(i) == content_of(order)]
            if len(alike) == 1 and gateway not in self.shown:
                found = self._bind(alike[0], order.vt_orderid, "the only open intent of this content")
                assert found.data is not None
                return alike[0].client_order_id, [Entry(found.kind, found.key, found.data)]
        uid = foreign_uid(order.vt_orderid, order.datetime, ids_unique=self._ids_unique(gateway))
        self.books.bind(order.vt_orderid, uid)
        return uid, []

    def _fits(self, uid: str, order: Order) -> bool:
        """Whether `order` can be the one that we know under its id; where ids restart it may be another one."""
        known = self.books.order(uid)
        if known is None or self._ids_unique(order.gateway_name) or uid in self._dispatched:
            return True
        same_day = None in (known.datetime, order.datetime) or trading_day(known.datetime) == trading_day(
            order.datetime
        )
        return content_of(known) == content_of(order) and same_day

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

    def _attributed(self, uid: str, trade: Trade, seq: int) -> Trade:
        order = self.books.order(uid)
        record = self.books.intent_of_order(uid)
        name = order.strategy_name if order else getattr(record.intent, "strategy_name", None) if record else None
        return msgspec.structs.replace(trade, strategy_name=name or trade.strategy_name, seq=seq)

    def _note_shown(self, gateway: str, uid: str, known: Order | None, order: Order, verdict: Verdict) -> None:
        shown = self.shown.get(gateway)
        if shown is None:
            return
        shown.orders[uid] = order
        shown.last_news = self._clock.monotonic()
        if known is None and self.books.intent_of_order(uid) is None:
            shown.foreign[uid] = order
        elif known is not None and verdict is Verdict.NEW and uid not in shown.foreign:
            shown.moved.setdefault(uid, (known, order))
        if known is not None and verdict is Verdict.LATE:
            shown.behind[uid] = (known, order)
        else:
            shown.behind.pop(uid, None)

    def _first_time(self, key: str) -> bool:
        """Whether VnPy's handlers of this process see this thing for the first time."""
        if key in self._dispatched:
            return False
        self._dispatched[key] = None
        if len(self._dispatched) > REMEMBERED:
            self._dispatched.popitem(last=False)
        return True

    # --- the suffixed twin of an event, which follows it with the same data ---

    def _replace(self, item: Item, merged: Order | None) -> None:
        """Let VnPy see the order as it is after the merge, without touching the gateway's own object."""
        assert item.event is not None
        data = item.event.data
        changed: Any = data
        if not item.forward:
            changed = None
        elif merged is not None and (data.status.name != merged.status or data.traded != merged.traded):
            changed = copy(data)
            changed.status, changed.traded = VnpyStatus[merged.status.name], merged.traded
            item.event.data = changed
        self._replaced[item.gateway] = (data, changed)

    def _follow_twin(self, item: Item) -> None:
        original, replacement = self._replaced.get(item.gateway, (None, None))
        if item.event is None or original is None or item.event.data is not original:
            return
        if replacement is None:
            item.forward = False
        else:
            item.event.data = replacement


def _publish(item: Item, data: DomainEvent | None) -> None:
    if item.event is not None:
        item.event.staged = Staged(data)


def _contradiction(key: str, known: Trade, arrived: Trade, at: datetime) -> Quarantine:
    return events.Quarantine(
        kind=topics.TRADE_EXECUTED,
        key=key,
        reason="another content under a known key",
        known=msgspec.to_builtins(known),
        arrived=msgspec.to_builtins(arrived),
        at=at,
    )
