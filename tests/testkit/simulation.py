"""A whole trading life in one thread, from one seed: venue, gateway, journal, clock and their failures are simulated.

The venue's ledger is the truth. All between it and the journal is the service's own code: gate, stage, sequencer, books
and recovery. A crash drops these, and the next life begins from what the journal has.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

from vnpy.event import Event
from vnpy.trader.constant import Direction, Exchange, Offset, OrderType, Status
from vnpy.trader.object import AccountData, OrderData, OrderRequest, PositionData, TickData, TradeData

from testkit.clock import FakeClock
from testkit.memory_journal import Crash, Disk, Faults, MemoryJournal
from vnpy_core.adapters.journal.settings import JournalSettings
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.bus import records, topics
from vnpy_core.bus.message import Message
from vnpy_core.domain import enums
from vnpy_core.domain.books import Books, trading_day
from vnpy_core.domain.enums import IntentState, ReconciliationState
from vnpy_core.domain.errors import JournalFailed
from vnpy_core.domain.events import Order, Position, Trade
from vnpy_core.domain.reconciliation import DifferenceKind
from vnpy_core.engine import gate as gate_module
from vnpy_core.engine import recovery as recovery_module
from vnpy_core.engine import stage as stage_module
from vnpy_core.engine import translate
from vnpy_core.engine.gate import IntentGate
from vnpy_core.engine.recovery import Capabilities, Recovery
from vnpy_core.engine.stage import Stage, load_books
from vnpy_core.kit.flow import CreditFlow
from vnpy_core.ports.journal import Row

NAME = "P"
ACTIVE = (Status.SUBMITTING, Status.NOTTRADED, Status.PARTTRADED)
FOREIGN_PRICE = 55.0


class VenueOrder:
    """An order in the ledger; `ref` is the intent behind it, which no venue knows."""

    def __init__(self, data: OrderData, ref: str | None, day: str) -> None:
        self.data = data
        self.ref = ref
        self.day = day

    @property
    def place(self) -> tuple[str, str]:
        return self.data.orderid, self.day


class Venue:
    """The ledger, and what is on the wire to us."""

    def __init__(self, rng: random.Random, clock: FakeClock, *, fills_per_order: bool) -> None:
        self.rng = rng
        self.clock = clock
        self.orders: list[VenueOrder] = []
        self.fills: list[TradeData] = []
        self.wire: list[tuple[str, Any]] = []
        self._fills_per_order = fills_per_order
        self._numbers = 0

    @property
    def day(self) -> str:
        return trading_day(self.clock.now())

    def next_id(self) -> str:
        self._numbers += 1
        return str(self._numbers)

    def new_day(self, *, ids_restart: bool) -> None:
        """What is active expires."""
        for order in self.active():
            order.data.status = Status.CANCELLED
        if ids_restart:
            self._numbers = 0

    def active(self) -> list[VenueOrder]:
        return [order for order in self.orders if order.data.status in ACTIVE]

    def place(self, data: OrderData, ref: str | None) -> VenueOrder:
        order = VenueOrder(copy(data), ref, self.day)
        order.data.status = Status.REJECTED if self.rng.random() < 0.1 else Status.NOTTRADED
        self.orders.append(order)
        self._tell(order)
        return order

    def fill(self, order: VenueOrder) -> None:
        data = order.data
        volume = float(self.rng.randint(1, int(data.volume - data.traded)))
        data.traded += volume
        data.status = Status.ALLTRADED if data.traded == data.volume else Status.PARTTRADED
        today = [fill for fill in self.fills if trading_day(fill.datetime) == self.day]
        number = len([f for f in today if not self._fills_per_order or f.orderid == data.orderid]) + 1
        fill = TradeData(
            gateway_name=NAME, symbol=data.symbol, exchange=data.exchange, orderid=data.orderid, tradeid=str(number),
            direction=data.direction, offset=data.offset, price=data.price, volume=volume, datetime=self.clock.now(),
        )  # fmt: skip
        self.fills.append(fill)
        told = [("order", copy(data)), ("trade", fill)]
        self.wire += told if self.rng.random() < 0.5 else told[::-1]

    def cancel(self, order: VenueOrder) -> None:
        order.data.status = Status.CANCELLED
        self._tell(order)

    def net(self, symbol: str) -> Decimal:
        signs = {Direction.LONG: 1, Direction.SHORT: -1}
        return Decimal(sum(int(f.volume) * signs[f.direction] for f in self.fills if f.symbol == symbol))

    def _tell(self, order: VenueOrder) -> None:
        self.wire.append(("order", copy(order.data)))


class FaultySqlite(Faults, SqliteJournal):
    """The real journal, with failures around its commits; `disk` only keeps the history."""

    def __init__(self, path: Path, disk: Disk, run_id: str) -> None:
        Faults.__init__(self)
        self.disk = disk
        settings = JournalSettings(durability="process", reserve_mb=0)
        SqliteJournal.__init__(
            self, path, settings=settings, boot_id="b", run_id=run_id, new_epoch=lambda: f"e{next(disk.epochs)}"
        )

    def append(self, rows: Sequence[Row]) -> None:
        self.before()
        SqliteJournal.append(self, rows)
        self.disk.history.extend(rows)
        self.after()


class Life:
    """One process: everything that a crash drops."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.journal = simulation.open_journal()
        self.books = Books()
        load_books(self.journal, self.books)
        self.dispatched: Counter[tuple[object, ...]] = Counter()
        self.oms: dict[tuple[object, ...], tuple[int, float]] = {}
        self.stage = Stage(
            self.journal, self.books, simulation.clock, self.handle, CreditFlow(),
            drained=lambda: simulation.drained, ids_unique=lambda name: not simulation.ids_restart,
        )  # fmt: skip
        self.recovery = Recovery(
            self.stage, simulation.clock, settle=self.settle, end_order=self.end_order,
            clear_position=self.clear_position,
        )  # fmt: skip
        self.gate = IntentGate(
            self.stage, simulation.clock, new_id=simulation.new_id, reconciliation=self.recovery.reason,
            write_log=lambda text, name: None,
        )  # fmt: skip
        self.gateway = Gateway(self)
        self.gate.install(self.gateway)
        self.recovery.expect(NAME)
        for name in ("record", "barrier", "settle_intent"):
            self._step_after(name)

    def _step_after(self, name: str) -> None:
        """There is no journal thread: who would wait for it, does its work, unless it hangs just now."""
        method = getattr(self.stage, name)

        def stepped(*arguments: Any) -> Any:
            result = method(*arguments)
            if not self.simulation.is_hanging or name == "barrier":
                self.stage.step()
            return result

        setattr(self.stage, name, stepped)

    # --- VnPy's side ---

    def handle(self, event: Event) -> None:
        """What the event thread would see."""
        data = event.data
        if event.type == "eOrder.":
            place = (data.vt_orderid, data.datetime)
            now = (enums.Status[data.status.name].rank, data.traded)
            before = self.oms.get(place)
            assert before is None or (now != before and now[0] >= before[0] and now[1] >= before[1]), (
                f"{data.vt_orderid} went from {before} to {now} for VnPy"
            )
            self.oms[place] = now
        elif event.type == "eTrade.":
            key = (data.vt_orderid, data.tradeid, data.datetime)
            self.dispatched[key] += 1
            assert self.dispatched[key] == 1, f"fill {key} was dispatched twice"
        elif event.type == "ePosition.":
            self._publish(topics.POSITION_UPDATED, translate.position(data, seq=0))
        elif event.type == "eAccount.":
            self._publish(topics.ACCOUNT_UPDATED, translate.account(data, seq=0))

    def _publish(self, topic: str, data: Any) -> None:
        self.recovery.take(Message(topic, "", "e", 0, self.simulation.clock.now(), data))

    async def settle(self) -> None:
        self.simulation.maybe_deliver()
        self.stage.step()

    def end_order(self, order: Order, reason: str) -> None:
        data = translate.to_vnpy_order(order)
        data.status, data.extra = Status.CANCELLED, {"reason": reason}
        self.put("eOrder.", data, data.vt_orderid)

    def clear_position(self, position: Position) -> None:
        symbol = position.symbol
        self.put("ePosition.", position_data(symbol, 0.0), f"{symbol}.SHFE")

    def put(self, event_type: str, data: Any, suffix: str) -> None:
        self.stage.put(Event(event_type, data))
        self.stage.put(Event(event_type + suffix, data))


class Gateway:
    """The connection of one life to the venue."""

    gateway_name = NAME

    def __init__(self, life: Life) -> None:
        self.life = life
        self.simulation = life.simulation
        self.venue = life.simulation.venue
        self.connected = False

    def show(self, kind: str, data: Any) -> None:
        data = copy(data)
        if kind == "order":
            self.life.put("eOrder.", data, data.vt_orderid)
        else:
            self.life.put("eTrade.", data, data.vt_symbol)

    def connect(self) -> bool:
        """Show all that the venue lists; False where the connection broke in the middle."""
        simulation, rng, venue = self.simulation, self.simulation.rng, self.venue
        self.connected = True
        venue.wire.clear()
        listed = [order for order in venue.orders if order.day == venue.day]
        if not simulation.can_query_orders:
            listed = [order for order in listed if rng.random() < 0.7]
        since = venue.clock.now() - timedelta(days=2)
        fills = [f for f in venue.fills if simulation.can_query_trades and f.datetime > since]
        told: list[tuple[str, Any]] = [("order", o.data) for o in listed] + [("trade", f) for f in fills]
        if rng.random() < 0.5:
            rng.shuffle(told)
        self.query_position()
        for index, (kind, data) in enumerate(told):
            if simulation.faults and rng.random() < 0.02 and index:
                simulation.disconnect()
                return False
            for _ in range(2 if simulation.faults and rng.random() < 0.1 else 1):
                self.show(kind, data)
            if rng.random() < 0.2:
                self.life.stage.step()
        return True

    def query_position(self) -> None:
        if not self.connected:
            return
        self.life.put("eAccount.", AccountData(gateway_name=NAME, accountid="1", balance=100), "P.1")
        for symbol in ("a", "b"):
            volume = float(self.venue.net(symbol))
            if volume:
                self.life.put("ePosition.", position_data(symbol, volume), f"{symbol}.SHFE")

    def send_order(self, request: OrderRequest) -> str:
        """One of the ways in which a send may go."""
        simulation, venue = self.simulation, self.venue
        (call,) = self.life.stage.sequencer._calls[NAME]
        ref = call.intent.client_order_id
        simulation.require_durable(ref)
        if not self.connected:
            return ""
        way = simulation.choose(simulation.ways)
        if way == "refused":
            return ""
        data = request.create_order_data(venue.next_id(), NAME)
        data.datetime = venue.clock.now()
        if way in ("normal", "void", "said") or (way == "crash" and simulation.rng.random() < 0.5):
            self.show("order", data)
        if way not in ("void", "never reached"):
            if way != "crash" or simulation.rng.random() < 0.7:
                venue.place(data, ref)
        if way == "crash":
            raise Crash
        if way in ("lost answer", "never reached"):
            raise OSError("the socket broke")
        if way == "other thread":
            self._deliver_in_thread()
        return str(data.vt_orderid)

    def _deliver_in_thread(self) -> None:
        kind, data = self.venue.wire.pop()
        thread = threading.Thread(target=self.show, args=(kind, data))
        thread.start()
        thread.join()
        self.life.stage.step()


WAYS = {
    "normal": 10,
    "said": 2,
    "other thread": 2,
    "refused": 1,
    "void": 1,
    "lost answer": 2,
    "never reached": 1,
    "crash": 1,
}
CALM_WAYS = {"normal": 1}


class Simulation:
    """`run` does `steps` random things, ends in peace and checks everything. Raises AssertionError with the seed."""

    def __init__(self, seed: int, *, steps: int = 120, folder: Path | None = None) -> None:
        """With a `folder` the journal is a real one there."""
        self.seed = seed
        self.folder = folder
        self.steps = steps
        self.rng = random.Random(seed)
        self.clock = FakeClock()
        self.disk = Disk()
        self.ids_restart = self.rng.random() < 0.4
        self.can_query_orders = self.ids_restart or self.rng.random() < 0.8
        self.can_query_trades = self.ids_restart or self.rng.random() < 0.8
        self.venue = Venue(self.rng, self.clock, fills_per_order=self.rng.random() < 0.5)
        self.faults = True
        self.ways = WAYS
        self.is_hanging = False
        self.drained = 0
        self.lives = 0
        self.sent = 0
        self.happened: list[str] = []
        self.loop = asyncio.new_event_loop()
        self._ids = 0
        self.life = Life(self)

    def open_journal(self) -> MemoryJournal | FaultySqlite:
        run_id = f"run{self.lives}"
        if self.folder is not None:
            return FaultySqlite(self.folder / "journal.sqlite", self.disk, run_id)
        journal = MemoryJournal(self.disk, run_id=run_id)
        journal.retain_rows = 10
        return journal

    # --- chance ---

    def choose(self, weights: dict[str, int]) -> str:
        return self.rng.choices(list(weights), list(weights.values()))[0]

    def new_id(self) -> str:
        self._ids += 1
        return f"c{self._ids}"

    def require_durable(self, ref: str) -> None:
        """I2."""
        assert any(row.key == ref and row.kind == records.ORDER_INTENT for row in self.disk.history), (
            f"{ref} was sent before its intent was durable"
        )

    # --- what may happen ---

    ACTIONS = {
        "send": 14, "fill": 12, "cancel": 4, "foreign": 1, "deliver": 20, "step": 14, "tick": 3, "wait": 6,
        "connect": 6, "disconnect": 2, "reconcile": 2, "crash": 3, "fail": 2, "heal": 4, "stall": 2, "hang": 1,
        "drain": 2, "day": 1,
    }  # fmt: skip

    def run(self) -> None:
        try:
            with _small_bounds():
                for _ in range(self.steps):
                    self.act(self.choose(self.ACTIONS))
                self.end_in_peace()
                self.check()
        except (AssertionError, Crash) as error:
            raise AssertionError(f"seed {self.seed}: {error}\n{' '.join(self.happened)}") from error
        finally:
            self.loop.close()
            self.life.journal.close(clean=False)

    def act(self, name: str) -> None:
        self.happened.append(name)
        try:
            getattr(self, f"do_{name}")()
        except Crash:
            self.happened.append("CRASH")
            self.restart()

    def do_send(self) -> None:
        request = OrderRequest(
            symbol=self.rng.choice("ab"), exchange=Exchange.SHFE, direction=self.rng.choice(list(SIDES)),
            type=OrderType.LIMIT, volume=float(self.rng.choice((1, 5))), price=self.rng.choice((100.0, 101.0)),
            offset=Offset.OPEN, reference=self.rng.choice(("", "CtaStrategy_s1", "CtaStrategy_s2")),
        )  # fmt: skip
        self.sent += 1
        try:
            self.life.gateway.send_order(request)
        except OSError:
            self.happened.append("(raised)")

    def do_fill(self) -> None:
        if active := self.venue.active():
            self.venue.fill(self.rng.choice(active))
            self._lose_where_disconnected()

    def do_cancel(self) -> None:
        if active := self.venue.active():
            self.venue.cancel(self.rng.choice(active))
            self._lose_where_disconnected()

    def do_foreign(self) -> None:
        data = OrderData(
            gateway_name=NAME, symbol=self.rng.choice("ab"), exchange=Exchange.SHFE, orderid=self.venue.next_id(),
            type=OrderType.LIMIT, direction=self.rng.choice(list(SIDES)), offset=Offset.OPEN, price=FOREIGN_PRICE,
            volume=2.0, datetime=self.clock.now(),
        )  # fmt: skip
        self.venue.place(data, None)
        self._lose_where_disconnected()

    def _lose_where_disconnected(self) -> None:
        if not self.life.gateway.connected:
            self.venue.wire.clear()

    def do_deliver(self) -> None:
        """In order mostly; now and then the next but one first, or twice, or again later."""
        wire, rng = self.venue.wire, self.rng
        for _ in range(rng.randint(1, 4)):
            if not wire or not self.life.gateway.connected:
                return
            kind, data = wire.pop(1 if len(wire) > 1 and rng.random() < 0.15 else 0)
            self.life.gateway.show(kind, data)
            if rng.random() < 0.1:
                wire.insert(rng.randint(0, len(wire)), (kind, data))

    def maybe_deliver(self) -> None:
        if not self.faults or self.rng.random() < 0.5:
            self.do_deliver()

    def do_step(self) -> None:
        journal, rng = self.life.journal, self.rng
        journal.crash_before, journal.crash_after = rng.random() < 0.02, rng.random() < 0.02
        self.life.stage.step()
        journal.crash_before = journal.crash_after = False

    def do_tick(self) -> None:
        tick = TickData(gateway_name=NAME, symbol="a", exchange=Exchange.SHFE, datetime=self.clock.now())
        self.life.put("eTick.", tick, "a.SHFE")

    def do_wait(self) -> None:
        self.clock.advance(self.rng.choice((0.01, 0.2, 1.0, 6.0)))

    def do_connect(self) -> None:
        if self.life.gateway.connected:
            return
        self.life.recovery.begin(NAME)
        if self.life.gateway.connect() and self.rng.random() < 0.9:
            self._finish()

    def do_disconnect(self) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        self.life.gateway.connected = False
        self.venue.wire.clear()
        if self.rng.random() < 0.8:  # else nobody has noticed yet
            self.life.recovery.begin(NAME)

    def do_reconcile(self) -> None:
        if not self.life.gateway.connected:
            return
        self.life.recovery.begin(NAME)
        wire = list(self.venue.wire)
        if self.life.gateway.connect():
            self.venue.wire[:0] = wire  # the same connection: what was on the wire still comes
            self._finish()

    def _finish(self) -> None:
        capabilities = Capabilities(
            can_query_orders=self.can_query_orders, can_query_trades=self.can_query_trades,
            ids_unique_across_restart=not self.ids_restart,
        )  # fmt: skip
        finish = self.life.recovery.finish(NAME, self.life.gateway, capabilities, shown_all=True)
        self.loop.run_until_complete(finish)

    def do_crash(self) -> None:
        raise Crash

    def restart(self) -> None:
        self.lives += 1
        self.life.journal.close(clean=False)
        self.is_hanging = False
        self.venue.wire.clear()
        self.life = Life(self)

    def do_fail(self) -> None:
        if self.rng.random() < 0.5:
            self.life.journal.is_full = True
        else:
            self.life.journal.failures = [JournalFailed("now and then")] * self.rng.randint(1, 3)

    def do_heal(self) -> None:
        self.life.journal.is_full = self.is_hanging = False
        self.life.journal.failures, self.life.journal.during = [], None

    def do_hang(self) -> None:
        """Nobody steps for a while: who waits for a commit gives up."""
        self.is_hanging = True

    def do_stall(self) -> None:
        """A commit takes 0.3 s, and meanwhile more comes."""

        def during() -> None:
            self.clock.advance(0.3)
            self.life.stage.look_for_stall()
            if self.life.stage._marker is not None:
                self.life.stage._marker.join()  # one thread, or a seed would not give the same life again
            self.maybe_deliver()
            if self.rng.random() < 0.5:
                self.do_tick()
            self.life.stage.look_for_stall()
            if self.rng.random() < 0.1:
                raise Crash

        self.life.journal.during = during
        self.maybe_deliver()
        self.life.stage.step()

    def do_drain(self) -> None:
        self.drained = self.life.journal.state().last_seq

    def do_day(self) -> None:
        """The next trading day, after a close at which all was heard; ids may begin anew."""
        if not self.life.gateway.connected or self.life.recovery.reason(NAME):
            return
        self.do_heal()
        self._hear_all()
        self.venue.new_day(ids_restart=self.ids_restart)
        self.disconnect()
        self.clock.advance(86_400)
        if self.ids_restart or self.rng.random() < 0.5:
            raise Crash

    def _hear_all(self) -> None:
        while self.venue.wire:
            self.life.gateway.show(*self.venue.wire.pop(0))
        self._step_until_durable()

    def _step_until_durable(self) -> None:
        for _ in range(200):
            self.clock.advance(0.2)
            if self.life.stage.step() and self.life.stage.settle(0):
                return
        raise AssertionError("the journal was not written again")

    # --- the end ---

    def end_in_peace(self) -> None:
        """Once more from the journal, with nothing that fails; then all must be known."""
        self.faults, self.ways = False, CALM_WAYS
        self.happened.append("END")
        self.do_heal()
        if self.rng.random() < 0.5:
            self.restart()
        self.life.gateway.connected = False
        self.do_calm_connect()
        self._step_until_durable()

    def do_calm_connect(self) -> None:
        self.life.recovery.begin(NAME)
        assert self.life.gateway.connect()
        self._finish()

    # --- what must hold ---

    def check(self) -> None:
        rows = self.disk.history
        assert [row.seq for row in rows] == list(range(1, len(rows) + 1)), "the sequence has a gap"
        self._check_forward_only()
        self._check_fills()
        self._check_intents()
        self._check_orders()
        self._check_positions()
        self._check_memory()

    def _of_kind(self, kind: str) -> Iterator[tuple[str, Any]]:
        return ((row.key, records.decode(row.kind, row.payload)) for row in self.disk.history if row.kind == kind)

    def _reopened(self) -> Books:
        books = Books()
        load_books(self.life.journal, books)
        return books

    def _check_forward_only(self) -> None:
        """I3."""
        known: dict[str, Order] = {}
        for uid, order in self._of_kind(topics.ORDER_UPDATED):
            before = known.get(uid)
            if before is not None:
                assert order.status.rank >= before.status.rank, f"{uid} went back"
                assert order.traded >= before.traded, f"{uid} lost a fill"
            known[uid] = order

    def _check_fills(self) -> None:
        """I1."""
        truth = Counter((f.orderid, f.tradeid, trading_day(f.datetime), f.volume) for f in self.venue.fills)
        fills: list[Trade] = [fill for _, fill in self._of_kind(topics.TRADE_EXECUTED)]
        journaled = Counter((f.orderid, f.tradeid, trading_day(f.datetime), f.volume) for f in fills)
        assert not journaled - truth, f"in the journal but not in the ledger, or twice: {journaled - truth}"
        if self.can_query_trades:
            assert not truth - journaled, f"in the ledger but not in the journal: {truth - journaled}"
            assert not list(self._of_kind(records.QUARANTINE))

    def _check_intents(self) -> None:
        """No second order for an intent; what is said of an intent is true, where it makes a difference."""
        refs = Counter(order.ref for order in self.venue.orders if order.ref)
        assert max(refs.values(), default=0) <= 1, f"sent twice: {refs}"
        groups: dict[object, Counter[str]] = defaultdict(Counter)
        reopened = self._reopened()
        outcomes = dict(self._of_kind(records.INTENT_OUTCOME))
        for key, intent in self._of_kind(records.ORDER_INTENT):
            outcome = outcomes.get(key)
            state = outcome.state if outcome is not None else IntentState.UNKNOWN
            group = groups[intent.vt_symbol, intent.direction, intent.price, intent.volume]
            group["sent"] += key in refs
            group[state] += 1
            if state in (IntentState.DENIED, IntentState.REFUSED):
                assert key not in refs, f"{key} counts as {state} but was sent"
            if state is IntentState.UNKNOWN:
                assert reopened.intents[key].is_open, f"{key} has no outcome but is not open after a restart"
        for content, group in groups.items():
            reached = group["sent"] + self._voids(content)
            assert group[IntentState.BOUND] <= reached, f"{content}: more orders than were sent: {group}"
            assert group["sent"] <= group[IntentState.BOUND] + group[IntentState.UNKNOWN], f"{content}: {group}"

    def _voids(self, content: object) -> int:
        """Orders that have an id but never reached the venue."""
        truth = {order.place for order in self.venue.orders}
        last = dict(self._of_kind(topics.ORDER_UPDATED))
        bound = [o for _, o in self._of_kind(records.INTENT_OUTCOME) if o.state is IntentState.BOUND]
        ids = {o.client_order_id for o in bound}
        intents = dict(self._of_kind(records.ORDER_INTENT))
        count = 0
        for ref in ids:
            intent, order = intents[ref], last.get(ref)
            if (intent.vt_symbol, intent.direction, intent.price, intent.volume) == content:
                count += order is None or (order.orderid, trading_day(order.datetime)) not in truth
        return count

    def _check_orders(self) -> None:
        """The books are the ledger, but for orders that never reached the venue, which have ended."""
        known = {(o.orderid, trading_day(o.datetime)): o for o in self._last_orders()}
        truth = {order.place: order for order in self.venue.orders}
        for place, order in known.items():
            if place not in truth and self.can_query_orders:
                assert not order.is_active, f"{place} is active but never reached the venue"
                assert not order.traded
        if not (self.can_query_orders and self.can_query_trades):
            return
        open_ones = {intent.client_order_id for intent in self.life.stage.sequencer.open_orphans(NAME)}
        for place, venue_order in truth.items():
            order, data = known.get(place), venue_order.data
            assert order is not None, f"{place} is not in the books"
            assert (order.status.name, order.traded) == (data.status.name, data.traded), f"{place}: {order} {data}"
            if venue_order.ref and order.client_order_id is None:
                assert venue_order.ref in open_ones, f"{place} has lost its name"

    def _last_orders(self) -> list[Order]:
        return list(dict(self._of_kind(topics.ORDER_UPDATED)).values())

    def _check_positions(self) -> None:
        """I4: the comparison says exactly what is so."""
        report = self.life.recovery.report(NAME)
        assert report.state in (ReconciliationState.RECONCILED, ReconciliationState.DIFFERENT), report.state
        found = {d.key for d in report.differences if d.kind is DifferenceKind.POSITION}
        for symbol in ("a", "b"):
            net = self.life.books.net(NAME, f"{symbol}.SHFE")
            is_equal = (net or 0) == self.venue.net(symbol)
            assert is_equal is (f"{symbol}.SHFE" not in found), f"{symbol}: {net} {self.venue.net(symbol)} {found}"
            if self.can_query_trades:
                assert is_equal, f"position of {symbol}: {net}, at the venue {self.venue.net(symbol)}"
        if self.can_query_orders and self.can_query_trades:
            kinds = {d.kind for d in report.differences if not d.resolved}
            assert kinds <= {DifferenceKind.INTENT_UNKNOWN}, f"open differences: {kinds}"

    def _check_memory(self) -> None:
        """What the journal gives back is what this life knows."""
        reopened = self._reopened()
        mine = self.life.books
        assert {u: k.event for u, k in reopened.orders.items()} == {
            u: k.event for u, k in mine.orders.items() if u in reopened.orders
        }
        active = {u for u, k in mine.orders.items() if isinstance(k.event, Order) and k.event.is_active}
        assert active <= set(reopened.orders)
        for symbol in ("a.SHFE", "b.SHFE"):
            assert reopened.net(NAME, symbol) == mine.net(NAME, symbol)
        open_ones = [sorted(i.client_order_id for i in books.open_intents(NAME)) for books in (reopened, mine)]
        assert open_ones[0] == open_ones[1]
        ids = {k.event.vt_orderid for k in reopened.orders.values() if isinstance(k.event, Order)}
        assert {v: reopened.uid(v) for v in ids} == {v: mine.uid(v) for v in ids}


SIDES = (Direction.LONG, Direction.SHORT)


def position_data(symbol: str, volume: float) -> PositionData:
    return PositionData(
        gateway_name=NAME, symbol=symbol, exchange=Exchange.SHFE, direction=Direction.NET, volume=volume
    )


@contextmanager
def _small_bounds() -> Iterator[None]:
    """Limits in reach of a short life, and no real waiting."""
    changes: list[tuple[Any, str, object]] = [
        (stage_module, "CARRY_ROWS", 30),
        (stage_module, "CARRY_ROWS_TO_CUT", 10),
        (stage_module, "CARRY_SPREAD", 1),
        (stage_module, "CARRY_CHUNK", 5),
        (stage_module, "CUT_S", 1.0),
        (gate_module, "STALL_S", 0.0),
        (recovery_module, "POSITION_TRIES", 2),
        (recovery_module, "POSITION_PAUSE_S", 0.0),
    ]
    with ExitStack() as stack:
        for module, name, value in changes:
            stack.enter_context(patch.object(module, name, value))
        yield
