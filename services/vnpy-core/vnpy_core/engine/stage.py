"""The stage: class A events are journaled before anybody acts on them.

`put` translates and queues and never waits. The journal thread gives each event its sequence number, commits the group
and only then forwards it to VnPy's queue. While a gateway has events here, all its later ones queue behind them, so no
tick overtakes a fill. When a commit hangs or fails for 250 ms, events are forwarded all the same, kept in memory until
they can be written, and `refusal` says why no new order may be sent.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import structlog
from vnpy.event import Event
from vnpy.trader.event import EVENT_ACCOUNT, EVENT_LOG, EVENT_ORDER, EVENT_POSITION, EVENT_QUOTE, EVENT_TRADE

from vnpy_core.bus import records, topics
from vnpy_core.domain.books import Books, Intent, halt_key
from vnpy_core.domain.enums import IntentState
from vnpy_core.domain.errors import CoreError, JournalFailed, StorageFull
from vnpy_core.domain.events import Account, IntentOutcome, Order, OrderIntent, Position
from vnpy_core.domain.events import Event as DomainEvent
from vnpy_core.engine import translate
from vnpy_core.engine.sequencer import Call, Item, Sequencer, Shown
from vnpy_core.kit.failpoints import hit
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.flow import Flow
from vnpy_core.ports.journal import Journal, Row

STALL_S = 0.25
"""A commit that takes longer refuses new orders until one succeeds."""
GROUP = 2_000
"""Events in one commit at most."""
LATEST_INTERVAL_S = 1.0
"""A position or account is journaled at most once in this time."""
MAINTAIN_S = 1.0
CUT_S = 60.0
CARRY_ROWS = 50_000
"""Rows after which the living state is carried forward, so that no start reads many more."""
CARRY_RECENT = timedelta(days=2)
"""Orders and fills of this long ago are carried too: venues show them again after a connect."""
RETRY_S = 0.1
UNDURABLE_LIMIT = 200_000
"""Rows that wait to be written past which events wait too. New orders are refused by then, so only what is already at
the venues can bring events."""
EVENT_DENIED = "eCoreRiskDenied"
EVENT_HALT = "eCoreHalt"
EVENT_CTA_STOPORDER = "eCtaStopOrder"
EVENT_ADOPTED_ORDER = "eCoreAdoptedOrder"
EVENT_ADOPTED_TRADE = "eCoreAdoptedTrade"
"""Orders and trades that a running engine had before we attached to it: journaled, not dispatched again."""

_TWINS = (EVENT_ORDER, EVENT_TRADE, EVENT_QUOTE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_KIND_OF = {type_: kind for kind, type_ in records.TYPES.items() if kind != records.ORDER_LATE}

Matcher = Callable[[list[Order], list[OrderIntent]], list[IntentOutcome]]
"""(unknown orders as the venue shows them, open intents) -> which intent became which order, or none."""

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class _Group:
    """What is committed together."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.rows: list[Row] = []
        self.tickets: list[tuple[Future[int], int]] = []
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
        lock = threading.Lock()
        self._work = threading.Condition(lock)
        self._settled = threading.Condition(lock)
        self._items: deque[Item] = deque()
        self._gateways: dict[str, int] = {}
        self._seq = journal.state().last_seq
        self._carried_at = max(journal.replay_from(), 0)
        self._group = _Group()
        self._group.forwarded = True
        self._holding = 0
        """Which hold of the flow is ours now; 0 for none. Counted, because a release may come late."""
        self._holds = 0
        self._unwritten: list[Row] = []
        self._writing_since: float | None = None
        self._failure = ""
        self._journal_refusal = ""
        self._marked = False
        self._latest: dict[tuple[str, str], DomainEvent] = {}
        self._latest_written: dict[tuple[str, str], tuple[float, tuple[object, ...]]] = {}
        self._maintained = self._cut_at = clock.monotonic()
        self._stopping = False
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
            self._append([Item(event, gateway)])
            return
        if kind == EVENT_POSITION:
            self._note_latest(topics.POSITION_UPDATED, translate.position(event.data, seq=0))
        elif kind == EVENT_ACCOUNT:
            self._note_latest(topics.ACCOUNT_UPDATED, translate.account(event.data, seq=0))
        if gateway and gateway in self._gateways and kind != EVENT_LOG:
            with self._work:
                if gateway in self._gateways:
                    self._append_locked([Item(event, gateway)])
                    return
        self._forward(event)

    def record(self, kind: str, key: str, data: DomainEvent) -> Future[int]:
        """Journal something that is no event of VnPy's; the future gives its seq once it is durable.

        It raises StorageFull or JournalFailed where it could not be written now; it is still written later.
        """
        item = Item(None, "", kind, key, data)
        item.ticket = Future()
        self._append([item])
        return item.ticket

    def _put_translated(self, event: Event, make_item: Callable[[Event], Item]) -> None:
        try:
            item = make_item(event)
        except Exception:  # noqa: BLE001 - a guarded door: what a gateway made wrongly still goes to VnPy's handlers
            self.untranslatable += 1
            _log.exception("an event could not be translated and is not journaled", event_type=event.type)
            self._forward(event)
            return
        with self._work:
            own = self.sequencer.bind_own(item.data) if isinstance(item.data, Order) else ()
            self._append_locked([*own, item])

    def _order_item(self, event: Event) -> Item:
        order = translate.order(event.data, seq=0, updated_at=self._clock.now())
        return Item(event, order.gateway_name, topics.ORDER_UPDATED, order.vt_orderid, order)

    def _append(self, items: Iterable[Item]) -> None:
        with self._work:
            self._append_locked(items)

    def _append_locked(self, items: Iterable[Item]) -> None:
        for item in items:
            if item.gateway:
                self._gateways[item.gateway] = self._gateways.get(item.gateway, 0) + 1
            self._items.append(item)
        if not self._holding and self._items:
            self._holds += 1
            self._holding = self._holds
            self._flow.hold(f"journal {self._holding}")
        self._work.notify()

    def _let_flow(self) -> None:
        """A fast replay goes on when nothing that its last tick caused waits here any more. Not under the lock."""
        with self._work:
            if self._items or not self._holding:
                return
            released, self._holding = self._holding, 0
        self._flow.release(f"journal {released}")

    def _note_latest(self, kind: str, data: Position | Account) -> None:
        key = data.vt_positionid if isinstance(data, Position) else data.vt_accountid
        written = self._latest_written.get((kind, key))
        if written is not None and written[1] == _substance(data) and (kind, key) not in self._latest:
            return
        with self._work:
            self._latest[kind, key] = data

    def barrier(self) -> Future[int]:
        """Done when all that was staged before is durable and forwarded."""
        item = Item(None)
        item.ticket = Future()
        self._append([item])
        return item.ticket

    def settle(self, timeout: float) -> bool:
        """Wait until all that was put is forwarded; False when `timeout` s ran out. Not the journal thread."""
        deadline = self._clock.monotonic() + timeout
        with self._work:
            while self._items or not self._group.forwarded:
                if not self._settled.wait(max(0.0, min(0.05, deadline - self._clock.monotonic()))):
                    if self._clock.monotonic() >= deadline:
                        return not self._items and self._group.forwarded
            return True

    def inspect(self, look: Callable[[Books], T]) -> T:
        """`look(books)` while nothing changes them; must not wait for anything."""
        with self._work:
            return look(self.books)

    # --- intents ---

    def begin_call(self, intent: Intent) -> Call:
        """A gateway is called now, in this thread."""
        with self._work:
            return self.sequencer.begin_call(intent)

    def end_call(self, call: Call, venue_id: str, *, unknown: bool = False) -> None:
        """It returned `venue_id`; or "" where it took nothing, or, `unknown`, raised. What waited for it goes on."""
        with self._work:
            self._append_locked(self.sequencer.end_call(call, venue_id))
            if unknown and not call.venue_id:
                self.sequencer.orphans.add(call.intent.client_order_id)

    def close_intent(self, intent: Intent, state: IntentState, *, reason: str = "") -> None:
        """Nothing was sent, for `reason`."""
        with self._work:
            self._append_locked([self.sequencer.close(intent, state, reason=reason)])

    def settle_intent(self, outcome: IntentOutcome) -> Future[int]:
        """Somebody or some evidence says what became of an intent."""
        with self._work:
            item = self.sequencer.settle_intent(outcome)
            item.ticket = Future()
            self._append_locked([item])
        return item.ticket

    # --- what a gateway shows after it connected ---

    def begin_showing(self, gateway_name: str) -> None:
        """Collect what this gateway sends from now on; where intents are open, unknown orders wait."""
        with self._work:
            self.sequencer.shown[gateway_name] = Shown(self._clock.now(), self._clock.monotonic())

    def end_showing(self, gateway_name: str, match: Matcher) -> list[IntentOutcome]:
        """All is shown: `match` says which unknown orders belong to which open intents; what waited goes on."""
        with self._work:
            shown = self.sequencer.shown.get(gateway_name)
            waiting = [i.data for i in self._items if i.gateway == gateway_name and self.sequencer.is_unknown(i)]
            unknown: dict[str, Order] = {}
            for order in waiting:
                if isinstance(order, Order):
                    unknown.setdefault(order.vt_orderid, order)
            outcomes = match(list(unknown.values()), self.sequencer.open_orphans(gateway_name))
            self._append_first([self.sequencer.settle_intent(outcome) for outcome in outcomes])
            if shown is not None:
                shown.holding = False
            self._work.notify()
            return outcomes

    def _append_first(self, items: list[Item]) -> None:
        """Before what waits: the bindings must be known when the orders behind them are taken."""
        self._items.extendleft(reversed(items))

    def close_showing(self, gateway_name: str) -> Shown | None:
        """Collect no more; returns what was shown."""
        with self._work:
            return self.sequencer.shown.pop(gateway_name, None)

    # --- state ---

    @property
    def refusal(self) -> str:
        """Why no new order may be sent; empty when one may."""
        return self._failure or self._journal_refusal

    @property
    def waiting(self) -> int:
        """Rows acted upon that are not durable."""
        return len(self._unwritten)

    @property
    def last_seq(self) -> int:
        """The last sequence number given out."""
        return self._seq

    def note_slow(self) -> None:
        """A commit took too long for somebody who waited: refuse until one succeeds."""
        with self._work:
            if not self._failure:
                self._failure = f"the journal did not commit within {STALL_S * 1000:.0f} ms"
                _log.error("the journal is slow; no new order is taken")

    # --- the journal thread ---

    def start(self) -> None:
        """Begin to journal, with a watch over commits that hang."""
        for name, run in (("journal", self._run), ("journal-watch", self._watch)):
            thread = threading.Thread(target=run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout: float) -> bool:
        """Write all that is staged and end; False where that took longer than `timeout` s. Not the journal thread."""
        with self._work:
            self._stopping = True
            self._work.notify()
        deadline = self._clock.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - self._clock.monotonic()))
        return not any(thread.is_alive() for thread in self._threads) and not self._unwritten

    def step(self) -> bool:
        """Commit one group and forward it; True where all that was given out is durable."""
        with self._work:
            group = self._group = self._take_group()
            rows = [*self._unwritten, *group.rows]
            self._unwritten = []
            self._writing_since = self._clock.monotonic()
        error = self._write(rows) if rows else None
        with self._work:
            self._writing_since = None
            if error is not None:
                self._unwritten = [*rows, *self._unwritten]
                self._fail(group, error)
            else:
                self._succeed(group, wrote=bool(rows))
            self._forward_group(group)
            self._settled.notify_all()
        self._let_flow()
        if rows:
            self._after_write(error)
        self._maintain()
        return not self._unwritten

    def _run(self) -> None:
        while True:
            with self._work:
                if self._stopping and not self._items and not self._latest and not self._unwritten:
                    return
                if not self._items and not self._stopping:
                    self._work.wait(RETRY_S if self._latest or self._unwritten else MAINTAIN_S)
                stopping, before = self._stopping, len(self._items)
            if not self.step():
                if stopping:
                    return
                self._pause()
            elif before and len(self._items) >= before:
                self._pause()  # all that is there waits for a call under way

    def _pause(self) -> None:
        with self._work:
            self._work.wait(RETRY_S / 10)

    def _write(self, rows: list[Row]) -> CoreError | None:
        try:
            hit("stage.before_commit")
            self._journal.append(rows)
            hit("stage.after_commit")
        except (StorageFull, JournalFailed) as error:
            return error
        return None

    def _take_group(self) -> _Group:
        """Give the next events their numbers. Under the lock."""
        group = _Group()
        if len(self._unwritten) > UNDURABLE_LIMIT:
            return group
        left: deque[Item] = deque()
        waiting: set[str] = set()
        while self._items and len(group.items) < GROUP:
            item = self._items.popleft()
            if item.gateway in waiting or self.sequencer.must_wait(item):
                waiting.add(item.gateway)
                left.append(item)
                continue
            self._number(group, item)
        self._items.extendleft(reversed(left))
        self._number_latest(group)
        return group

    def _number(self, group: _Group, item: Item) -> None:
        entries = self.sequencer.take(item, self._seq + 1)
        for entry in entries:
            self._add_row(group, entry.kind, entry.key, entry.data)
        if item.ticket is not None:
            group.tickets.append((item.ticket, self._seq))
        group.items.append(item)

    def _add_row(self, group: _Group, kind: str, key: str, data: DomainEvent) -> None:
        self._seq += 1
        ts = _micros(self._clock.now())
        group.rows.append(self._row(kind, key, data, ts))
        if kind != records.ORDER_LATE:
            self.books.apply(key, data, self._seq, ts)

    def _row(self, kind: str, key: str, data: DomainEvent, ts: int) -> Row:
        return Row(self._seq, self._journal.epoch, self._journal.run_id, ts, kind, key, records.encode(data))

    def _number_latest(self, group: _Group) -> None:
        now = self._clock.monotonic()
        for (kind, key), data in list(self._latest.items()):
            written = self._latest_written.get((kind, key))
            if written is not None and now - written[0] < LATEST_INTERVAL_S and not self._stopping:
                continue
            del self._latest[kind, key]
            assert isinstance(data, Position | Account)
            if written is None or written[1] != _substance(data):
                self._latest_written[kind, key] = (now, _substance(data))
                self._add_row(group, kind, key, data)

    def _succeed(self, group: _Group, *, wrote: bool) -> None:
        for ticket, seq in group.tickets:
            if not ticket.done():
                ticket.set_result(seq)
        if wrote and self._failure and not self._unwritten:
            _log.warning("the journal is written again")
            self._failure = ""

    def _fail(self, group: _Group, error: CoreError) -> None:
        if not self._failure:
            _log.critical("the journal cannot be written; no new order is taken", detail=error.detail)
        self._failure = error.detail
        for ticket, _ in group.tickets:
            if not ticket.done():
                ticket.set_exception(type(error)(error.detail))

    def _forward_group(self, group: _Group) -> None:
        if group.forwarded:
            return
        group.forwarded = True
        for item in group.items:
            if item.forward and item.event is not None:
                self._forward(item.event)
            if item.gateway:
                self._leave(item.gateway)

    def _leave(self, gateway: str) -> None:
        left = self._gateways[gateway] - 1
        if left:
            self._gateways[gateway] = left
        else:
            del self._gateways[gateway]

    def _after_write(self, error: CoreError | None) -> None:
        if error is not None and not self._marked:
            self._mark(True)
        elif error is None:
            if self._marked and not self._unwritten:
                self._mark(False)
            self._on_commit()

    def _mark(self, undurable: bool) -> None:
        self._marked = undurable
        self._journal.mark_undurable(undurable)

    # --- the watch over commits that hang ---

    def _watch(self) -> None:
        tick = threading.Event()
        while not (self._stopping and not self._threads[0].is_alive()):
            tick.wait(STALL_S / 5)
            self.look_for_stall()

    def look_for_stall(self) -> None:
        """Forward what a commit that hangs keeps back, and what comes after it."""
        with self._work:
            since = self._writing_since
            if since is None or self._clock.monotonic() - since < STALL_S:
                return
            if not self._failure:
                _log.critical("a commit of the journal hangs; events go on undurable and no new order is taken")
            self._failure = f"a commit of the journal hangs for more than {STALL_S * 1000:.0f} ms"
            self._forward_group(self._group)
            late = self._take_group()
            self._unwritten += late.rows
            self._fail(late, JournalFailed(self._failure))
            self._forward_group(late)
            mark = not self._marked and bool(self._group.rows)
            self._marked = self._marked or mark
        if mark:  # in a thread of its own: the disk hangs
            threading.Thread(target=self._journal.mark_undurable, args=(True,), daemon=True).start()

    # --- keeping the file in bounds ---

    def _maintain(self) -> None:
        now = self._clock.monotonic()
        if now - self._maintained < MAINTAIN_S or self._unwritten:
            return
        self._maintained = now
        drained = self._drained()
        try:
            self._journal.maintain(drained)
            self._journal_refusal = self._journal.state().refusal
            if self._seq - self._carried_at > CARRY_ROWS or now - self._cut_at > CUT_S or self._journal_refusal:
                self._cut_at = now
                self._carry_and_cut(self._journal.cuttable(drained, _micros(self._clock.now())))
        except (StorageFull, JournalFailed) as error:
            _log.error("the journal could not be kept in bounds", detail=error.detail)

    def _carry_and_cut(self, through: int) -> None:
        if not through and self._seq - self._carried_at <= CARRY_ROWS:
            return
        with self._work:
            carried_from = self._seq
            rows = self._carried_rows()
        try:
            self._journal.append(rows)
        except (StorageFull, JournalFailed):
            self._unwritten = rows  # their numbers are given out
            raise
        self._journal.cut(through, carried_from)
        self._carried_at = self._seq
        _log.info("the journal was carried forward", rows=len(rows), removed_through=through)

    def _carried_rows(self) -> list[Row]:
        ts = _micros(self._clock.now())
        rows = []
        for key, kept in self.books.living(ts - CARRY_RECENT // _MICROSECOND):
            self._seq += 1
            rows.append(self._row(records.CARRIED + _KIND_OF[type(kept.event)], key, kept.event, kept.ts))
        return rows


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
