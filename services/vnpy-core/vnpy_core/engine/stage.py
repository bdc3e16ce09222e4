"""The stage: class A events are journaled before anybody acts on them.

`put` translates and queues and never waits. The journal thread gives each event its sequence number, commits the group
and only then forwards it to VnPy's queue. While a gateway has events here, all its later ones queue behind them, so no
tick overtakes a fill. When a commit fails, or hangs for 250 ms, events are forwarded all the same, kept in memory until
they can be written, and `refusal` says why no new order may be sent.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TypeVar

import structlog
from vnpy.event import Event
from vnpy.trader.event import (
    EVENT_ACCOUNT,
    EVENT_CONTRACT,
    EVENT_LOG,
    EVENT_ORDER,
    EVENT_POSITION,
    EVENT_QUOTE,
    EVENT_TRADE,
)

from vnpy_core.bus import records, topics
from vnpy_core.domain.books import Books, Intent, Kept, halt_key
from vnpy_core.domain.enums import IntentState
from vnpy_core.domain.errors import CoreError, JournalFailed, StorageFull, describe
from vnpy_core.domain.events import Account, IntentOutcome, Order, OrderIntent, Position
from vnpy_core.domain.events import Event as DomainEvent
from vnpy_core.engine import translate
from vnpy_core.engine.sequencer import Call, Item, Sequencer, Shown, finite, numbered
from vnpy_core.kit.failpoints import hit
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.flow import Flow
from vnpy_core.ports.journal import Journal, Row

STALL_S = 0.25
"""A commit that takes longer refuses new orders until one succeeds."""
GROUP = 500
"""Events in one commit at most."""
BACKLOG_ROWS = 10_000
"""Rows in one commit at most, of those that could not be written before."""
LATEST_INTERVAL_S = 1.0
"""A position or account is journaled at most once in this time."""
MAINTAIN_S = 1.0
CUT_S = 60.0
CARRY_ROWS = 50_000
"""Rows after which the living state is carried forward, so that no start reads many more."""
CARRY_ROWS_TO_CUT = 1_000
"""Rows after which it is carried forward where rows could go but for it."""
CARRY_SPREAD = 4
"""What is carried is at most one row in this many and one more."""
CARRY_CHUNK = 500
"""Carried rows in one commit, so that none takes long for it."""
CARRY_RECENT = timedelta(days=2)
"""Orders and fills of this long ago are carried too: venues show them again after a connect."""
RETRY_S = 0.1
UNDURABLE_LIMIT = 200_000
"""Rows that wait to be written past which events wait too. New orders are refused by then, so only what is already at
the venues can bring events."""
EVENT_DENIED = "eCoreRiskDenied"
EVENT_HALT = "eCoreHalt"
EVENT_AUDIT = "eCoreAudit"
"""Somebody changed something, a limit say: journaled with all else, for those who do not wait for it."""
EVENT_CTA_STOPORDER = "eCtaStopOrder"
EVENT_ADOPTED_ORDER = "eCoreAdoptedOrder"
EVENT_ADOPTED_TRADE = "eCoreAdoptedTrade"
"""Orders and trades that a running engine had before we attached to it: journaled, not dispatched again."""

_TWINS = (EVENT_ORDER, EVENT_TRADE, EVENT_QUOTE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_NEWS = (records.ORDER_LATE, records.ORDER_SETTLED)
_KIND_OF = {type_: kind for kind, type_ in records.TYPES.items() if kind not in _NO_NEWS}

Matcher = Callable[[list[Order], list[Order], list[OrderIntent]], list[IntentOutcome]]
"""(shown orders that nothing names, shown ones that are nobody's, open intents) -> which intent became what, if any."""

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class _Group:
    """What is committed together."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.rows: list[Row] = []
        self.waited_for: list[tuple[Item, int]] = []
        """Items with somebody who waits until they are durable, and the seq that he hears."""
        self.forwarded = False


class Stage:
    """One for an event engine. Any thread may call, but `step`: the journal thread's, or a simulation's own."""

    def __init__(
        self,
        journal: Journal,
        books: Books,
        clock: Clock,
        forward: Callable[[Event], None],
        flow: Flow,
        *,
        on_commit: Callable[[], None] = lambda: None,
        drained: Callable[[], int] = lambda: 0,
        ids_unique: Callable[[str], bool] = lambda gateway_name: False,
    ) -> None:
        """`forward` puts an event on VnPy's queue; `drained` is the store's watermark; `on_commit` wakes its sink."""
        self.books = books
        self.untranslatable = 0
        self.sequencer = Sequencer(books, clock, ids_unique=ids_unique)
        self._journal = journal
        self._clock = clock
        self._forward = forward
        self._flow = flow
        self._on_commit = on_commit
        self._drained = drained
        # Taken itself, not through its conditions: what runs in Python while it is half taken could be interrupted.
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._settled = threading.Condition(self._lock)
        self._first: deque[Item] = deque()
        """Outcomes that name orders: taken before the events about these."""
        self._items: deque[Item] = deque()
        self._parked: dict[str, deque[Item]] = {}
        """gateway -> its events that wait for a call under way or for the rest of what is shown, oldest first."""
        self._gateways: dict[str, int] = {}
        """gateway -> how many of its events are here."""
        self._seq = journal.state().last_seq
        self._group = _Group()
        self._group.forwarded = True
        self._holding = 0
        """Which hold of the flow is ours now; 0 for none. Counted, because a release may come late."""
        self._holds = 0
        self._unwritten: list[Row] = []
        """Rows whose numbers are given out, until they are durable."""
        self._writing_since: float | None = None
        self._retry_at = 0.0
        self._failure: CoreError | None = None
        self._journal_refusal = ""
        self._marked = False
        self._marker: threading.Thread | None = None
        self._latest: dict[tuple[str, str], Position | Account] = {}
        self._latest_written: dict[tuple[str, str], tuple[float, tuple[object, ...]]] = {}
        self._maintained = self._cut_at = clock.monotonic()
        self._replay_from = journal.replay_from()
        self._carry: Iterator[tuple[str, Kept]] | None = None
        self._carry_from = 0
        self._carried = 0
        """How many rows the last carry took."""
        self._stopping = self._ended = False
        self._threads: list[threading.Thread] = []
        self._translators: dict[str, Callable[[Event], Item]] = {
            EVENT_ORDER: self._order_item,
            EVENT_TRADE: _trade_item,
            EVENT_QUOTE: _quote_item,
            EVENT_ADOPTED_ORDER: self._order_item,
            EVENT_ADOPTED_TRADE: _trade_item,
            EVENT_CTA_STOPORDER: _stop_order_item,
            EVENT_DENIED: lambda event: Item(event, "", topics.RISK_EVENT, event.data.rule, event.data),
            EVENT_HALT: lambda event: Item(event, "", topics.RISK_HALT, halt_key(event.data), event.data),
            EVENT_AUDIT: lambda event: Item(event, "", records.AUDIT, event.data.target, event.data),
        }

    # --- in ---

    def put(self, event: Event) -> None:
        """Take an event in, in EventEngine.put's place. Never waits for the disk."""
        kind = event.type
        make_item = self._translators.get(kind)
        if make_item is not None:
            self._put_translated(event, make_item)
            return
        gateway = getattr(event.data, "gateway_name", "")
        if kind.startswith(_TWINS):
            item = Item(event, gateway)
            item.is_twin = True
            self._append([item])
            return
        if kind in (EVENT_POSITION, EVENT_ACCOUNT):
            self._note_latest(event)
        elif kind == EVENT_CONTRACT and gateway in self.sequencer.shown:
            self._note_news(gateway)
        if gateway and gateway in self._gateways and kind != EVENT_LOG:
            with self._lock:
                if gateway in self._gateways:
                    self._append_locked([Item(event, gateway)])
                    return
        self._forward(event)

    def record(self, kind: str, key: str, data: DomainEvent) -> Future[int]:
        """Journal something that is no event of VnPy's; the future gives its seq once it is durable.

        It raises StorageFull or JournalFailed where it could not be written now; it is still written later. An order's
        `key` is its name, whatever its venue's id means by now.
        """
        return self._append_with_ticket(Item(None, "", kind, key, data))

    def publish(self, event: Event) -> Future[int]:
        """Put an event of a kind that is journaled, and show it only once it is durable; else as `record`."""
        item = self._translators[event.type](event)
        item.must_last = True
        return self._append_with_ticket(item)

    def barrier(self) -> Future[int]:
        """Done when all that was put before, and waits for no call, is forwarded: durable, or else shown as not."""
        return self._append_with_ticket(Item(None))

    def _append_with_ticket(self, item: Item) -> Future[int]:
        item.ticket = ticket = _ticket()
        self._append([item])
        return ticket

    def _put_translated(self, event: Event, make_item: Callable[[Event], Item]) -> None:
        try:
            item = make_item(event)
            assert item.data is not None
            item.data = finite(item.data)
        except Exception:  # noqa: BLE001 - a guarded door: what a gateway made wrongly still goes to VnPy's handlers
            self._note_untranslatable(event.type)
            self._forward(event)
            return
        with self._lock:
            if isinstance(item.data, Order):
                self._first.extend(self.sequencer.bind_own(item.data))
            self._append_locked([item])

    def _note_untranslatable(self, event_type: str) -> None:
        self.untranslatable += 1
        _log.exception("an event could not be translated and is not journaled", event_type=event_type)

    def _order_item(self, event: Event) -> Item:
        order = translate.order(event.data, seq=0, updated_at=self._clock.now())
        return Item(event, order.gateway_name, topics.ORDER_UPDATED, order.vt_orderid, order)

    def _append(self, items: Iterable[Item]) -> None:
        with self._lock:
            self._append_locked(items)

    def _append_locked(self, items: Iterable[Item]) -> None:
        if self._ended:
            self._turn_away(items)
            return
        for item in items:
            if item.gateway:
                self._gateways[item.gateway] = self._gateways.get(item.gateway, 0) + 1
                item.shown = self.sequencer.shown.get(item.gateway)
            self._items.append(item)
        if not self._holding and self._has_items():
            self._holds += 1
            self._holding = self._holds
            self._flow.hold(f"journal {self._holding}")
        self._work.notify()

    def _turn_away(self, items: Iterable[Item]) -> None:
        """After the end nothing can be journaled; VnPy's handlers still get their events."""
        for item in items:
            if item.ticket is not None:
                item.ticket.set_exception(JournalFailed("the journal is closed"))
            if item.event is not None and not item.must_last:
                self._forward(item.event)

    def _has_items(self) -> bool:
        return bool(self._items or self._first or self._parked)

    def _let_flow(self) -> None:
        """A fast replay goes on when nothing that its last tick caused waits here any more. Not under the lock."""
        with self._lock:
            if self._has_items() or not self._holding:
                return
            released, self._holding = self._holding, 0
        self._flow.release(f"journal {released}")

    def _note_latest(self, event: Event) -> None:
        try:
            is_position = event.type == EVENT_POSITION
            data = finite((translate.position if is_position else translate.account)(event.data, seq=0))
        except Exception:  # noqa: BLE001 - a guarded door: what a gateway made wrongly still goes to VnPy's handlers
            self._note_untranslatable(event.type)
            return
        place = _place(data)
        before, waiting = self._latest_written.get(place), self._latest.get(place)
        known = _substance(waiting) if waiting is not None else before[1] if before is not None else None
        if known == _substance(data):
            return
        with self._lock:
            self._latest[place] = data
        if data.gateway_name in self.sequencer.shown:
            self._note_news(data.gateway_name)

    def _note_news(self, gateway_name: str) -> None:
        with self._lock:
            shown = self.sequencer.shown.get(gateway_name)
            if shown is not None:
                shown.last_news = self._clock.monotonic()

    def settle(self, timeout: float) -> bool:
        """Wait until all that was put is forwarded; False when `timeout` s ran out. Not the journal thread."""
        deadline = self._clock.monotonic() + timeout
        with self._lock:
            while self._has_items() or not self._group.forwarded:
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    return False
                self._settled.wait(min(0.05, left))
            return True

    def inspect(self, look: Callable[[Books], T]) -> T:
        """`look(books)` while nothing changes them; must not wait for anything."""
        with self._lock:
            return look(self.books)

    # --- intents ---

    def begin_call(self, intent: Intent) -> Call:
        """A gateway is called now, in this thread."""
        with self._lock:
            return self.sequencer.begin_call(intent)

    def end_call(self, call: Call, venue_id: str, *, unknown: bool = False) -> None:
        """It returned `venue_id`; or "" where it took nothing, or, `unknown`, raised. What waited for it goes on.

        `call.venue_id` tells afterwards which order it was, also where an event of the call named it.
        """
        with self._lock:
            self._first.extend(self.sequencer.end_call(call, venue_id, unknown=unknown))
            self._append_locked([])

    def close_intent(self, intent: Intent, state: IntentState, *, reason: str = "") -> None:
        """Nothing was sent, for `reason`."""
        with self._lock:
            self._append_locked([self.sequencer.close(intent, state, reason=reason)])

    def settle_intent(self, outcome: IntentOutcome) -> Future[int]:
        """Somebody or some evidence says what became of an intent."""
        with self._lock:
            item = self.sequencer.settle_intent(outcome)
            item.ticket = ticket = _ticket()
            self._append_locked([item])
        return ticket

    # --- what a gateway shows after it connected ---

    def begin_showing(self, gateway_name: str) -> Shown:
        """Collect what this gateway sends from now on; where intents are open, unknown orders wait."""
        with self._lock:
            shown = Shown(gateway_name, self._clock.now(), self._clock.monotonic())
            self.sequencer.shown[gateway_name] = shown
            return shown

    def showing(self, gateway_name: str) -> Shown | None:
        """What is being collected of this gateway; another one as soon as another connect has begun."""
        return self.sequencer.shown.get(gateway_name)

    def end_showing(self, gateway_name: str, match: Matcher) -> list[IntentOutcome]:
        """All is shown: `match` says which unknown orders belong to which open intents; what waited goes on."""
        with self._lock:
            shown = self.sequencer.shown.get(gateway_name)
            waiting = [item.data for item in self._waiting_items(gateway_name) if isinstance(item.data, Order)]
            unknown = {order.vt_orderid: order for order in waiting if self.sequencer.uid_of(order) is None}
            orders = [*waiting, *(shown.orders.values() if shown is not None else ())]
            ownerless = [order for order in orders if self.sequencer.is_ownerless(order)]
            outcomes = match(list(unknown.values()), ownerless, self.sequencer.open_orphans(gateway_name))
            self._first.extend(self.sequencer.settle_intent(outcome) for outcome in outcomes)
            if shown is not None:
                shown.holding = False
            self._append_locked([])
            return outcomes

    def _waiting_items(self, gateway_name: str) -> Iterator[Item]:
        yield from self._parked.get(gateway_name, ())
        yield from (item for item in self._items if item.gateway == gateway_name)

    def close_showing(self, gateway_name: str, shown: Shown, look: Callable[[Books], T]) -> T | None:
        """Collect no more, and `look(books)` before anything else happens; None where another showing is under way."""
        with self._lock:
            if self.sequencer.shown.get(gateway_name) is not shown:
                return None
            del self.sequencer.shown[gateway_name]
            return look(self.books)

    # --- state ---

    @property
    def refusal(self) -> str:
        """Why no new order may be sent; empty when one may."""
        return self._failure.detail if self._failure is not None else self._journal_refusal

    @property
    def is_full(self) -> bool:
        """Whether that is for want of space."""
        return isinstance(self._failure, StorageFull)

    @property
    def waiting(self) -> int:
        """Rows acted upon that are not durable."""
        return len(self._unwritten) if self._failure is not None else 0

    @property
    def last_seq(self) -> int:
        """The last sequence number given out."""
        return self._seq

    def note_slow(self) -> None:
        """A commit took too long for somebody who waited: refuse until one succeeds."""
        with self._lock:
            if self._failure is None:
                self._failure = JournalFailed(f"the journal did not commit within {STALL_S * 1000:.0f} ms")
                _log.error("the journal is slow; no new order is taken")

    # --- the journal thread ---

    def start(self) -> None:
        """Begin to journal, with a watch over commits that hang."""
        for name, run in (("journal", self._run), ("journal-watch", self._watch)):
            thread = threading.Thread(target=run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout: float) -> bool:
        """Write all that is staged and end; False where that took longer than `timeout` s. Not the journal thread.

        Where `put` is called afterwards all the same, events are forwarded unjournaled.
        """
        with self._lock:
            self._stopping = True
            self._work.notify()
        deadline = self._clock.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - self._clock.monotonic()))
        is_over = not any(thread.is_alive() for thread in self._threads)
        with self._lock:
            self._ended = True
            left = [*self._first, *(item for parked in self._parked.values() for item in parked), *self._items]
            self._first, self._items, self._parked = deque(), deque(), {}
            self._turn_away(left)
            return is_over and not left and not self._unwritten

    def step(self) -> bool:
        """Commit one group and forward it; True where all that was given out is durable."""
        now = self._clock.monotonic()
        with self._lock:
            group = self._group = self._take_group()
            is_behind = bool(self._unwritten)
            self._unwritten += group.rows
            if is_behind:  # older rows could not be written: what follows does not wait for them
                self._give_up(group)
                self._forward_group(group)
            rows = self._due_rows(is_behind, now)
            self._writing_since = now if rows else None
        error = self._write(rows) if rows else None
        if error is not None and not self._marked:  # before anybody acts on what is not written
            self._outside(lambda: self._mark(True))
        with self._lock:
            self._writing_since = None
            if error is not None:
                self._fail(group, error)
            else:
                self._succeed(group, rows)
            self._forward_group(group)
            self._settled.notify_all()
        self._outside(self._let_flow)
        if rows and error is None:
            self._outside(self._on_commit)
            self._unmark()
        self._maintain()
        return not self._unwritten

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._stopping and not self._is_busy():
                    self._ended = True  # with the same look: what is put from here on goes straight through
                    return
                is_carrying = self._carry is not None and self._failure is None
                if not (self._stopping or self._first or self._items or is_carrying):
                    self._work.wait(RETRY_S if self._is_busy() else MAINTAIN_S)
                stopping, unwritten = self._stopping, len(self._unwritten)
            if not self._safe_step() and stopping and len(self._unwritten) >= unwritten > 0:
                return

    def _safe_step(self) -> bool:
        """A step that fails in a way that nobody thought of holds no event back; no order passes until it is clear."""
        try:
            return self.step()
        except Exception as error:  # noqa: BLE001 - a guarded door: without this thread no fill would be seen again
            _log.exception("the stage failed")
            with self._lock:
                self._writing_since = None
                self._failure = JournalFailed(f"the stage failed: {describe(error)}")
                self._forward_group(self._group)
                self._work.wait(RETRY_S)
            return False

    def _is_busy(self) -> bool:
        return bool(self._has_items() or self._latest or self._unwritten)

    def _due_rows(self, is_behind: bool, now: float) -> list[Row]:
        """What to write now: all that is new, or after a failure the oldest first and not at every event."""
        if not is_behind:
            return self._unwritten[:]
        return [] if now < self._retry_at and not self._stopping else self._unwritten[:BACKLOG_ROWS]

    def _write(self, rows: list[Row]) -> CoreError | None:
        try:
            hit("stage.before_commit")
            self._journal.append(rows)
            hit("stage.after_commit")
        except (StorageFull, JournalFailed) as error:
            return error
        except Exception as error:  # noqa: BLE001 - a guarded door: without this thread no fill would be seen again
            _log.exception("the journal failed in an unknown way")
            return JournalFailed(f"the journal failed: {describe(error)}")
        return None

    def _take_group(self) -> _Group:
        """Give the next events their numbers. Under the lock."""
        group = _Group()
        if len(self._unwritten) > UNDURABLE_LIMIT:
            return group
        while self._first:
            self._number(group, self._first.popleft())
        self._unpark()
        while self._items and len(group.items) < GROUP:
            item = self._items.popleft()
            if not self._stopping and self._must_park(item):
                self._parked.setdefault(item.gateway, deque()).append(item)
            else:
                self._number(group, item)
        self._number_latest(group)
        self._number_carried(group)
        return group

    def _unpark(self) -> None:
        for gateway, parked in list(self._parked.items()):
            if self._stopping or not self.sequencer.must_wait(parked[0]):
                del self._parked[gateway]
                self._items.extendleft(reversed(parked))

    def _must_park(self, item: Item) -> bool:
        """Behind what waits for a call all waits; behind what is being shown only orders and fills do, because what
        comes after the unknown ones (contracts, the account) may be what ends the showing.
        """
        if item.gateway in self._parked and (item.kind or item.is_twin or self.sequencer.is_calling(item.gateway)):
            return True
        return self.sequencer.must_wait(item)

    def _number(self, group: _Group, item: Item) -> None:
        try:
            entries = self.sequencer.take(item, self._seq + 1)
            payloads = [records.encode(entry.data) for entry in entries]
        except Exception:  # noqa: BLE001 - a guarded door: one odd event must not keep all others in
            self._note_untranslatable(item.kind)
            entries, payloads = [], []
        for entry, payload in zip(entries, payloads, strict=True):
            ts = _micros(self._clock.now())
            self._add_row(group, entry.kind, entry.key, payload, ts)
            if entry.kind != records.ORDER_LATE:
                self.books.apply(entry.key, entry.data, self._seq, ts)
        if item.ticket is not None and item.kind:
            group.waited_for.append((item, self._seq))
        group.items.append(item)

    def _add_row(self, group: _Group, kind: str, key: str, payload: bytes, ts: int) -> None:
        self._seq += 1
        group.rows.append(Row(self._seq, self._journal.epoch, self._journal.run_id, ts, kind, key, payload))

    def _number_latest(self, group: _Group) -> None:
        now = self._clock.monotonic()
        for place, data in list(self._latest.items()):
            written = self._latest_written.get(place)
            if written is not None and now - written[0] < LATEST_INTERVAL_S and not self._stopping:
                continue
            del self._latest[place]
            if written is None or written[1] != _substance(data):
                self._latest_written[place] = (now, _substance(data))
                data = numbered(data, self._seq + 1)  # noqa: PLW2901 - the same, in its place
                ts = _micros(self._clock.now())
                self._add_row(group, *place, records.encode(data), ts)
                self.books.apply(place[1], data, self._seq, ts)

    def _succeed(self, group: _Group, rows: list[Row]) -> None:
        del self._unwritten[: len(rows)]
        for item, seq in group.waited_for:
            if item.ticket is not None and not item.ticket.done():
                item.ticket.set_result(seq)
                if item.must_last and item.event is not None:
                    self._forward(item.event)
        if rows and self._failure is not None and not self._unwritten:
            self._recovered()

    def _recovered(self) -> None:
        _log.warning("the journal is written again")
        self._failure = None
        self._retry_at = 0.0

    def _fail(self, group: _Group, error: CoreError) -> None:
        if self._failure is None:
            _log.critical("the journal cannot be written; no new order is taken", detail=error.detail)
        self._failure = error
        self._retry_at = self._clock.monotonic() + RETRY_S
        self._give_up(group)

    def _give_up(self, group: _Group) -> None:
        """Who waits for this group to become durable hears that it is not now."""
        error = self._failure or JournalFailed("the journal is behind")
        for item, _ in group.waited_for:
            if item.ticket is not None and not item.ticket.done():
                item.ticket.set_exception(type(error)(error.detail))

    def _forward_group(self, group: _Group) -> None:
        if group.forwarded:
            return
        group.forwarded = True
        for item in group.items:
            if item.forward and not item.must_last and item.event is not None:
                self._forward(item.event)
            if item.gateway:
                self._leave(item.gateway)
            if item.ticket is not None and not item.kind:
                item.ticket.set_result(self._seq)

    def _leave(self, gateway: str) -> None:
        left = self._gateways.get(gateway, 0) - 1
        if left > 0:
            self._gateways[gateway] = left
        else:
            self._gateways.pop(gateway, None)

    def _unmark(self) -> None:
        """All is written; not while a mark is still on its way to the disk, which would then be the last word."""
        if self._marked and not self._unwritten and (self._marker is None or not self._marker.is_alive()):
            self._outside(lambda: self._mark(False))

    def _mark(self, undurable: bool) -> None:
        self._marked = undurable
        self._journal.mark_undurable(undurable)

    def _outside(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:  # noqa: BLE001 - a guarded door: whatever fails there, fills must go on
            _log.exception("what goes on beside a commit failed")

    # --- the watch over commits that hang ---

    def _watch(self) -> None:
        tick = threading.Event()
        while not (self._stopping and not self._threads[0].is_alive()):
            tick.wait(STALL_S / 5)
            self._outside(self.look_for_stall)

    def look_for_stall(self) -> None:
        """Forward what a commit that hangs keeps back, and what comes after it."""
        with self._lock:
            since = self._writing_since
            if since is None or self._clock.monotonic() - since < STALL_S:
                return
            if self._failure is None:
                _log.critical("a commit of the journal hangs; events go on undurable and no new order is taken")
                self._failure = JournalFailed(f"a commit of the journal hangs for more than {STALL_S * 1000:.0f} ms")
            self._forward_group(self._group)
            late = self._take_group()
            self._unwritten += late.rows
            self._give_up(late)
            self._forward_group(late)
            self._settled.notify_all()
            mark = not self._marked and bool(self._unwritten)
            self._marked = self._marked or mark
            if mark:  # in a thread of its own: the disk hangs
                self._marker = threading.Thread(target=self._outside, args=(lambda: self._mark(True),), daemon=True)
                self._marker.start()

    # --- keeping the file in bounds ---

    def _maintain(self) -> None:
        now = self._clock.monotonic()
        if now - self._maintained < MAINTAIN_S or self._unwritten or self._carry is not None:
            return
        self._unmark()
        self._maintained = self._writing_since = now
        try:
            self._keep_in_bounds(now)
            is_well = True
        except Exception as error:  # noqa: BLE001 - a guarded door: without this thread no fill would be seen again
            _log.error("the journal could not be kept in bounds", detail=describe(error))
            is_well = False
        with self._lock:
            self._writing_since = None
            if is_well and self._failure is not None and not self._unwritten:
                self._recovered()

    def _keep_in_bounds(self, now: float) -> None:
        drained = self._drained()
        self._journal.maintain(drained)
        self._journal_refusal = self._journal.state().refusal
        if self._carry_from:  # a carry was completed
            self._journal.cut(0, self._carry_from)
            self._replay_from, self._carry_from = self._carry_from, 0
        since = self._seq - self._replay_from
        if since > max(CARRY_ROWS, CARRY_SPREAD * self._carried):
            self._begin_carry()
        elif now - self._cut_at > CUT_S or self._journal_refusal:
            self._cut_at = now
            self._cut(self._journal.cuttable(drained, _micros(self._clock.now())), since, now)

    def _cut(self, through: int, since: int, now: float) -> None:
        if through > self._replay_from and since > max(CARRY_ROWS_TO_CUT, CARRY_SPREAD * self._carried):
            self._begin_carry()
        elif through and self._replay_from:
            removed = min(through, self._replay_from)
            self._journal.cut(removed, self._replay_from)
            self._cut_at = now - CUT_S  # there may be more; the journal gives it in small parts
            _log.info("the journal was cut", removed_through=removed)

    def _begin_carry(self) -> None:
        with self._lock:
            if self._unwritten:
                return  # what is carried begins behind a whole commit
            since_ts = _micros(self._clock.now()) - CARRY_RECENT // _MICROSECOND
            self._carry, self._carry_from, self._carried = self.books.living(since_ts), self._seq, 0

    def _number_carried(self, group: _Group) -> None:
        """Some of the state that is carried forward, a little with each commit."""
        if self._carry is None or self._failure is not None:
            return
        chunk = list(islice(self._carry, CARRY_CHUNK))
        for key, kept in chunk:
            kind = records.CARRIED + _KIND_OF[type(kept.event)]
            self._add_row(group, kind, key, records.encode(kept.event), kept.ts)
        self._carried += len(chunk)
        if len(chunk) < CARRY_CHUNK:
            self._carry = None
            self._maintained -= MAINTAIN_S  # what may go now goes at once


def load_books(journal: Journal, books: Books, *, batch: int = 10_000) -> int:
    """Read the books from the journal; returns how many rows that took. Blocks; before the stage starts."""
    after, count = journal.replay_from(), 0
    while rows := journal.read(after, batch):
        for row in rows:
            kind = records.plain_kind(row.kind)
            if kind != records.ORDER_LATE:
                books.apply(row.key, records.decode(kind, row.payload), row.seq, row.ts, carried=kind != row.kind)
        after, count = rows[-1].seq, count + len(rows)
    return count


def _ticket() -> Future[int]:
    """A future that nobody can cancel: what is staged is journaled, whoever waits for it no longer."""
    ticket: Future[int] = Future()
    ticket.set_running_or_notify_cancel()
    return ticket


def _place(data: Position | Account) -> tuple[str, str]:
    if isinstance(data, Position):
        return topics.POSITION_UPDATED, data.vt_positionid
    return topics.ACCOUNT_UPDATED, data.vt_accountid


def _substance(data: Position | Account) -> tuple[object, ...]:
    """What must change before it is journaled again: not the profit alone."""
    if isinstance(data, Position):
        return data.volume, data.frozen, data.price, data.yd_volume
    return data.balance, data.frozen, data.available


def _trade_item(event: Event) -> Item:
    trade = translate.trade(event.data, seq=0)
    return Item(event, trade.gateway_name, topics.TRADE_EXECUTED, trade.vt_tradeid, trade)


def _quote_item(event: Event) -> Item:
    quote = translate.quote(event.data, seq=0)
    return Item(event, quote.gateway_name, topics.QUOTE_UPDATED, quote.vt_quoteid, quote)


def _stop_order_item(event: Event) -> Item:
    stop_order = translate.stop_order(event.data)
    return Item(event, "", topics.STOP_ORDER_UPDATED, stop_order.stop_orderid, stop_order)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
