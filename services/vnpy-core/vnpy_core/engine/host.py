"""The VnPy host: it owns a MainEngine or attaches to a running one, and is the features' door to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import structlog
from vnpy.event import Event as VnpyEvent
from vnpy.trader.constant import Direction, Exchange, Status
from vnpy.trader.engine import MainEngine
from vnpy.trader.event import EVENT_ORDER, EVENT_POSITION
from vnpy.trader.object import PositionData
from vnpy.trader.utility import TEMP_DIR

from vnpy_core.bus import records, topics
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.books import Books, halt_key
from vnpy_core.domain.commands import SubmitOrder, SubmittedOrder
from vnpy_core.domain.enums import HaltScope, IntentState
from vnpy_core.domain.errors import (
    ConfigurationError,
    Conflict,
    CoreError,
    JournalFailed,
    OutcomeUnknown,
    Overloaded,
    RiskDenied,
    StorageFull,
    describe,
)
from vnpy_core.domain.events import (
    Account,
    Audit,
    Contract,
    Event,
    Gateway,
    Halt,
    IntentOutcome,
    Order,
    OrderIntent,
    Position,
    StrategyDay,
    Tick,
)
from vnpy_core.domain.reconciliation import Reconciliation
from vnpy_core.engine import translate
from vnpy_core.engine.apps.algo import AlgoFacade
from vnpy_core.engine.apps.data import HistoryQueries
from vnpy_core.engine.apps.loader import load_apps
from vnpy_core.engine.apps.risk import RiskFacade
from vnpy_core.engine.bridge import EventBridge
from vnpy_core.engine.commands import CommandDoor
from vnpy_core.engine.emergency import cancel_at_gateways
from vnpy_core.engine.event_engine import EventGuard, InterruptibleEventEngine
from vnpy_core.engine.gate import IntentGate, Origin
from vnpy_core.engine.gateways import CLOSE_PATIENCE_S, CONNECT_PATIENCE_S, Gateways, Subscriptions
from vnpy_core.engine.last_resort import LastResort
from vnpy_core.engine.orders import OrderDesk, may_split
from vnpy_core.engine.quarantine import Entry, Quarantine
from vnpy_core.engine.recovery import Recovery
from vnpy_core.engine.settings import AppSettings, EngineSettings, GatewaySettings, StrategySettings, default_apps
from vnpy_core.engine.stage import EVENT_ADOPTED_ORDER, EVENT_HALT, STALL_S, Stage, load_books
from vnpy_core.engine.strategies import StrategyHost
from vnpy_core.engine.watchdog import Hang, Watchdog
from vnpy_core.kit.tasks import BackgroundTasks, in_own_thread
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.engine import EngineStatus
from vnpy_core.ports.flow import Flow
from vnpy_core.ports.journal import Journal
from vnpy_core.ports.timeseries import TimeSeriesStore

BACKLOG_LIMIT = 100_000
"""Messages waiting for the loop past which new orders are refused: orders and trades are never dropped."""
ADOPT_INTERVAL_S = 1.0
WATCH_INTERVAL_S = 0.5
LATE_S = 0.5
"""An event thread that is later than this is gone past when a person wants everything cancelled."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class HostSettings:
    """All that the host can be told."""

    data: Path
    engine: EngineSettings = field(default_factory=EngineSettings)
    apps: dict[str, AppSettings] = field(default_factory=default_apps)
    gateways: dict[str, GatewaySettings] = field(default_factory=dict)
    strategies: dict[str, StrategySettings] = field(default_factory=dict)
    config_folder: Path | None = None


class EngineHost:
    """Implements `ports.engine.TradingEngine`. Loop thread only; VnPy's own calls run on its event thread."""

    def __init__(
        self,
        settings: HostSettings,
        *,
        bus: Bus,
        view: ReadView,
        clock: Clock,
        flow: Flow,
        journal: Journal,
        new_id: Callable[[], str],
        drained: Callable[[], int] = lambda: 0,
        on_commit: Callable[[], None] = lambda: None,
        on_tick: Callable[[Tick], None] | None = None,
        on_source: Callable[[str, bool], None] = lambda name, replays: None,
        history: TimeSeriesStore | None = None,
        main_engine: MainEngine | None = None,
        exit_process: Callable[[int], None] | None = None,
        last_resort: LastResort | None = None,
        require_account: Callable[[str], None] = lambda gateway_name: None,
    ) -> None:
        """Make an engine, or attach to `main_engine`, which somebody else made and will close. Not yet started.

        Reads the books from `journal` (blocks). `drained` is the store's watermark; `on_commit` is called on the
        journal thread after each commit, `on_tick` on the event thread for each tick. `on_source` hears of each
        connected gateway whether its ticks are a recording's; gateways that replay read `history`. `exit_process` and
        `last_resort` are for a process of our own: they end it when the event thread cannot be brought back, and when
        no Python runs any more. `require_account(gateway_name)` is asked on any thread before each order and quote;
        raises TradingHalted where another core trades the gateway's account.
        """
        self._settings = settings
        self._view = view
        self._clock = clock
        self._attached = main_engine is not None
        event_engine = main_engine.event_engine if main_engine else InterruptibleEventEngine()
        self._guard = EventGuard(event_engine, drain_s=settings.engine.drain_s)
        self._journal = journal
        books = Books()
        load_books(journal, books)
        self._stage = Stage(
            journal,
            books,
            clock,
            self._guard.enqueue,
            flow,
            on_commit=on_commit,
            drained=drained,
            ids_unique=self._ids_unique,
        )
        self._guard.route, self._guard.settle = self._stage.put, self._stage.settle
        self._guard.install()
        self.main_engine = main_engine or MainEngine(event_engine)
        loop = asyncio.get_running_loop()
        self._commands = CommandDoor(event_engine, loop, deadline_s=settings.engine.command_deadline_s)
        self._bridge = EventBridge(
            loop, bus, view, clock, flow, epoch=journal.epoch, seq=self._stage.last_seq, on_tick=on_tick
        )
        self._recovery = Recovery(
            self._stage,
            clock,
            settle=self._settle,
            end_order=self._end_order,
            clear_position=self._clear_position,
            silence_s=settings.engine.settle_s,
        )
        self._gate = IntentGate(
            self._stage,
            clock,
            new_id=new_id,
            reconciliation=self._recovery.reason,
            write_log=self.main_engine.write_log,
            require_account=require_account,
            tell_strategy=lambda name, text: self.strategies.tell(name, text),  # noqa: PLW0108 - they are made later
        )
        self._quarantine = Quarantine(settings.data)
        self._watchdog = Watchdog(
            self._guard,
            clock,
            limit_s=settings.engine.watchdog_s,
            callbacks=self._guard.callbacks,
            on_hang=self._on_hang,
            quarantine=self._hold,
            exit_process=exit_process,
            last_resort=last_resort,
        )
        self._tasks = BackgroundTasks()
        folders = [Path(TEMP_DIR), *([settings.config_folder] if settings.config_folder else [])]
        self._gateways = Gateways(
            self.main_engine,
            commands=self._commands,
            bridge=self._bridge,
            view=view,
            flow=flow,
            tasks=self._tasks,
            settings=settings.gateways,
            setting_folders=folders,
            subscriptions=Subscriptions(settings.data / "subscriptions.json"),
            recovery=self._recovery,
            on_connected=self._start_strategies,
            history=history,
            on_source=on_source,
        )
        self.history = HistoryQueries(self.main_engine)
        """Downloads from gateways and VnPy's datafeed."""
        self._bus = bus
        self._apps: dict[str, str] = {}
        self._risk: RiskFacade | None = None
        self._algo: AlgoFacade | None = None
        self.strategies = StrategyHost(
            settings.strategies,
            settings.engine,
            main_engine=self.main_engine,
            guard=self._guard,
            commands=self._commands,
            bridge=self._bridge,
            stage=self._stage,
            view=view,
            clock=clock,
            quarantine=self._quarantine,
            tasks=self._tasks,
            last_resort=last_resort,
            first_seq=journal.state().last_seq,
            is_tradable=self._is_tradable,
            cancel=self._cancel_somehow,
        )
        """Implements `ports.strategies.StrategyEngine`."""
        self._stopping = False
        self.is_durable = False
        """After `stop`: whether the journal has all that was acted upon."""
        self._undo = ExitStack()  # runs all, also where one of them raises
        self._stage.start()

    async def start(self) -> None:
        """Bring the engine up: apps, gateways, strategies; connect what connects by itself.

        A part that fails is logged and left out. Raises ConfigurationError where a required app (risk control) fails.
        """
        try:
            self._commands.open()  # first: `stop` asks the event thread
            self._gateways.subscriptions.load()
            for name, entry in self._quarantine.entries().items():
                _log.warning("in quarantine", name=name, reason=entry.reason, since=entry.at.isoformat())
            self._undo.callback(self._commands.close)
            self._undo.callback(self._bridge.attach(self.main_engine.event_engine, self._guard))
            signs = [topics.CONTRACT_UPDATED, topics.ACCOUNT_UPDATED]
            self._undo.callback(self._bus.subscribe(signs, self._on_sign_of_life))
            shown = [topics.POSITION_UPDATED, topics.ACCOUNT_UPDATED]
            self._undo.callback(self._bus.subscribe(shown, self._recovery.take))
            self._remember()
            self._install_gate()
            self._watchdog.start()
            await self._load_apps()
        except ConfigurationError:
            await self.stop()
            raise
        self._desk = OrderDesk(self.main_engine, self._guard, self._gate, self._take_refusal)
        if self._attached:
            await self._commands.run(lambda: self._bridge.seed(self.main_engine), deadline_s=30)
            await self._settle()  # what was before us is in the books before strategies are told what they have counted
            self._gateways.adopt()
            self._tasks.spawn(self._keep_adopting(), "adopt what the host adds")
        else:
            self._gateways.load()
        self._tasks.spawn(self._keep_watching(), "watch the gateways' connections")
        await self.strategies.begin(self._apps.get("CtaStrategy", ""), attached=self._attached)
        await self._gateways.auto_connect()

    def emit(self, topic: str, key: str, data: Event) -> None:
        """Publish something of a feature's own. Any thread."""
        self._bridge.emit(topic, key, data)

    async def stop(self) -> None:
        """Strategies, cancels, gateways, drain, apps, in this order; a host attached to is left as it was found."""
        if self._stopping:
            return
        self._stopping = True
        await self._tasks.cancel()
        reached = not self._attached and await self._reached()
        if not self._attached:
            await self._quiesce(reached)
        await self._step("stop the watchdog", self._watchdog.stop())
        if not self._attached:
            await self._close_engine(reached)
        try:
            self._undo.close()
        finally:
            # Before the guard: an event past the stage would overtake those that are being journaled.
            self.is_durable = await in_own_thread(lambda: self._stage.stop(self._settings.engine.drain_s))
            self._guard.uninstall()
        if not self.is_durable:
            _log.error("the journal was not written to its end", waiting=self._stage.waiting)
        await self._bridge.flush()

    # --- ports.engine.TradingEngine ---

    async def submit_order(self, command: SubmitOrder) -> SubmittedOrder:
        """See `ports.engine.TradingEngine`."""
        self._refuse_when_stopping()
        self._gateways.require_connected(command.gateway_name)
        self._gate.require_open(command.gateway_name)
        if self._bridge.backlog > BACKLOG_LIMIT:
            raise Overloaded(f"{self._bridge.backlog} events wait to be published; no order is taken until they are")
        origin = await self._journal_intent(command)
        try:
            vt_orderids = await self._commands.run(lambda: self._send(command, origin))
        except OutcomeUnknown as error:
            error.extra.setdefault("client_order_id", command.client_order_id)
            raise
        except CoreError as error:
            self._give_up(origin, error)
            raise
        patience, name = self._settings.engine.order_answer_s, command.client_order_id
        words = await asyncio.gather(*(self._view.wait_for_order(i, patience, name) for i in vt_orderids))
        orders = tuple(order for order in words if order is not None)
        if len(orders) < len(vt_orderids):
            raise OutcomeUnknown(
                "the order was sent, but the engine has no word of it yet",
                client_order_id=command.client_order_id,
                vt_orderid=vt_orderids[0],
            )
        return SubmittedOrder(order=orders[0], children=orders if len(orders) > 1 else ())

    async def _journal_intent(self, command: SubmitOrder) -> Origin:
        """The intent made durable here, so that the event thread need not wait for the disk.

        An order that may be sent in parts is left to the gate: each part has an intent of its own.
        """
        if may_split(command.offset, command.exchange):
            return Origin(command.client_order_id)
        intent = self._gate.intent_of(command)
        try:
            await asyncio.wait_for(asyncio.wrap_future(self._gate.journal(intent)), STALL_S)
        except (TimeoutError, StorageFull, JournalFailed) as error:
            if isinstance(error, TimeoutError):
                self._stage.note_slow()
            failure = error if isinstance(error, CoreError) else JournalFailed(self._stage.refusal)
            self._gate.give_up(intent, failure)
            raise failure from None
        return Origin(command.client_order_id, intent)

    def _send(self, command: SubmitOrder, origin: Origin) -> list[str]:
        """Event thread. Says what became of it also where nobody waits for that any more."""
        try:
            return self._desk.submit(command, origin)
        except OutcomeUnknown:
            raise
        except CoreError as error:
            self._give_up(origin, error)
            raise

    def _give_up(self, origin: Origin, error: CoreError) -> None:
        """Close the intent of an order that was never sent, where the gate was not reached and did not do so."""
        intent = origin.intent
        if intent is None:
            return
        record = self._stage.inspect(lambda books: books.intents.get(intent.client_order_id))
        if record is None or record.is_open:
            self._gate.give_up(intent, error)

    async def cancel_order(self, vt_orderid: str) -> None:
        """See `ports.engine.TradingEngine`."""
        order = self._view.order(vt_orderid)
        if order is not None and order.is_active:
            self._gateways.require_connected(order.gateway_name)
        await self._commands.run(lambda: self._desk.cancel(vt_orderid))

    async def subscribe(self, vt_symbol: str, gateway_name: str) -> None:
        """See `ports.engine.TradingEngine`."""
        await self._gateways.subscribe(vt_symbol, gateway_name)

    async def unsubscribe(self, vt_symbol: str) -> None:
        """See `ports.engine.TradingEngine`."""
        self._gateways.subscriptions.remove(vt_symbol)

    def subscriptions(self) -> list[tuple[str, str]]:
        """See `ports.engine.TradingEngine`."""
        return self._gateways.subscriptions.all()

    async def connect(self, gateway_name: str, setting: dict[str, Any]) -> None:
        """See `ports.engine.TradingEngine`."""
        self._refuse_when_stopping()
        await self._gateways.connect(gateway_name, setting)

    async def disconnect(self, gateway_name: str) -> None:
        """See `ports.engine.TradingEngine`."""
        await self._gateways.disconnect(gateway_name)

    def gateways(self) -> list[Gateway]:
        """See `ports.engine.TradingEngine`."""
        return self._gateways.all()

    def status(self) -> EngineStatus:
        """See `ports.engine.TradingEngine`."""
        return EngineStatus(
            alive=self._watchdog.alive,
            lag_ms=round(self._watchdog.lag_s * 1000, 3),
            queue_length=self._guard.queue_length,
            events_handled=self._guard.events_handled,
            handler_errors=self._guard.handler_errors,
            slow_events=self._guard.slow_events,
            ticks_conflated=self._guard.ticks_conflated + self._bridge.ticks_conflated,
            bridge_backlog=self._bridge.backlog,
            apps=dict(self._apps),
            journal=self._journal.state(),
            journal_waiting=self._stage.waiting,
            journal_refusal=self._stage.refusal,
        )

    def intent(self, client_order_id: str) -> tuple[OrderIntent, IntentOutcome | None] | None:
        """See `ports.engine.TradingEngine`."""
        record = self._stage.inspect(lambda books: books.intents.get(client_order_id))
        if record is None or not isinstance(record.intent, OrderIntent):
            return None
        return record.intent, record.outcome

    async def resolve_intent(
        self, client_order_id: str, state: IntentState, *, vt_orderid: str, evidence: str, by: str
    ) -> IntentOutcome:
        """See `ports.engine.TradingEngine`."""
        outcome = await self._recovery.resolve(client_order_id, state, vt_orderid=vt_orderid, evidence=evidence, by=by)
        if outcome.state is IntentState.BOUND and (order := self.main_engine.get_order(vt_orderid)):
            # Shown again, so that it carries its name from here on.
            self.main_engine.event_engine.put(VnpyEvent(EVENT_ADOPTED_ORDER, order))
        self._tasks.spawn(self._start_strategies(), "start strategies")
        return outcome

    def reconciliations(self) -> list[Reconciliation]:
        """See `ports.engine.TradingEngine`."""
        return self._recovery.all()

    async def reconcile(self, gateway_name: str | None) -> None:
        """See `ports.engine.TradingEngine`."""
        connected = [g.gateway_name for g in self._gateways.all() if g.connected]
        if gateway_name is not None:
            self._gateways.require_connected(gateway_name)
            connected = [gateway_name]
        for name in connected:
            self._tasks.spawn(self._gateways.reconcile(name), f"reconcile {name}")

    async def reconcile_now(self, gateway_name: str) -> None:
        """Compare one gateway again; returns when that is done. Raises NotFound, GatewayNotConnected."""
        await self._gateways.reconcile(gateway_name)

    def account_scope(self, gateway_name: str) -> str:
        """Within what the names of a gateway's accounts are unique; "" where no other core trades them. Any thread."""
        return self._gateways.account_scope(gateway_name)

    async def accept_differences(self, gateway_name: str, *, reason: str, by: str) -> Reconciliation:
        """See `ports.engine.TradingEngine`."""
        accepted = await self._recovery.accept(gateway_name, reason=reason, by=by)
        self._tasks.spawn(self._start_strategies(), "start strategies")
        return accepted

    def halts(self) -> list[Halt]:
        """See `ports.engine.TradingEngine`."""
        return list(self._gate.halts.values())

    async def halt(self, halt: Halt, *, cancel: bool) -> tuple[Halt, int]:
        """See `ports.engine.TradingEngine`."""
        key = halt_key(halt)
        self._gate.halts = {**self._gate.halts, key: halt}  # first, so that it holds whatever fails next
        self.main_engine.event_engine.put(VnpyEvent(EVENT_HALT, halt))  # before cancels that may take long or hang
        cancelled = await self._cancel_at_once() if cancel else 0
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(self._stage.barrier()), STALL_S)
        kept = self._stage.inspect(lambda books: books.halts.get(key))
        if kept is not None and kept.seq and not self._stage.waiting:
            halt = msgspec.structs.replace(halt, seq=kept.seq)
            self._gate.halts = {**self._gate.halts, key: halt}
        return halt, cancelled

    async def resume(self, halt: Halt) -> Halt:
        """See `ports.engine.TradingEngine`."""
        key = halt_key(halt)
        standing = self._gate.halts.get(key)
        if standing is None:
            raise Conflict(f"trading is not halted ({key})")
        try:
            seq = await asyncio.wrap_future(self._stage.publish(VnpyEvent(EVENT_HALT, halt)))
        except (StorageFull, JournalFailed):
            # It is written later all the same, and would resume trading at the next start: the halt again, behind it.
            self.main_engine.event_engine.put(VnpyEvent(EVENT_HALT, self._gate.halts.get(key, standing)))
            raise
        # Not one that came meanwhile, which is in the journal behind us.
        now = self._gate.halts.get(key)
        if now is not None and msgspec.structs.replace(now, seq=standing.seq) == standing:
            self._gate.halts = {name: other for name, other in self._gate.halts.items() if name != key}
        return msgspec.structs.replace(halt, seq=seq)

    async def record_audit(self, audit: Audit) -> None:
        """See `ports.engine.TradingEngine`."""
        await asyncio.wrap_future(self._stage.record(records.AUDIT, audit.target, audit))

    # --- what is kept of the strategies' profit ---

    def record_strategy_day(self, day: StrategyDay) -> None:
        """Journal it; returns at once. Where the journal cannot be written now, it is written later."""
        self._stage.record(records.STRATEGY_DAY, day.strategy_name, day)

    def strategy_days(self) -> dict[str, StrategyDay]:
        """The last one on record of each strategy."""
        days = self._stage.inspect(lambda books: [kept.event for kept in books.strategy_days.values()])
        return {day.strategy_name: day for day in days if isinstance(day, StrategyDay)}

    # --- start ---

    def _remember(self) -> None:
        """Show what the journal knows: orders, fills, halts and local stop orders of before this start."""
        known = self._stage.inspect(_everything)
        self._view.seed(**known, seq=self._stage.last_seq, complete_from=self._journal.replay_from())
        halts = [halt for halt in known["halts"] if isinstance(halt, Halt)]
        self._gate.halts = {halt_key(halt): halt for halt in halts}

    def _install_gate(self) -> None:
        """Every gateway, those that are added later too."""
        self._undo.callback(self._gate.uninstall)
        for gateway in self.main_engine.gateways.values():
            self._gate.install(gateway)
        add_gateway = self.main_engine.add_gateway

        def add_gated(gateway_class: Any, gateway_name: str = "") -> Any:
            gateway = add_gateway(gateway_class, gateway_name)
            self._gate.install(gateway)
            return gateway

        own = vars(self.main_engine).get("add_gateway")
        self.main_engine.add_gateway = add_gated
        if own is None:
            self._undo.callback(lambda: vars(self.main_engine).pop("add_gateway", None))
        else:
            self._undo.callback(lambda: setattr(self.main_engine, "add_gateway", own))

    async def _settle(self) -> None:
        """Until all that was put is handled by the event thread and published."""
        await asyncio.wrap_future(self._stage.barrier())
        await self._commands.run(lambda: None, deadline_s=CONNECT_PATIENCE_S)
        await self._bridge.flush()

    def _end_order(self, order: Order, reason: str) -> None:
        """Tell everybody that an order has ended of which its venue knows nothing any more."""
        data = self.main_engine.get_order(order.vt_orderid)
        data = copy(data) if data is not None else translate.to_vnpy_order(order)
        data.status, data.extra = Status.CANCELLED, {"reason": reason}
        for event_type in (EVENT_ORDER, EVENT_ORDER + order.vt_orderid):
            self.main_engine.event_engine.put(VnpyEvent(event_type, data))

    def _clear_position(self, position: Position) -> None:
        data = PositionData(
            gateway_name=position.gateway_name,
            symbol=position.symbol,
            exchange=Exchange[position.exchange],
            direction=Direction[position.direction.name],
        )
        for event_type in (EVENT_POSITION, EVENT_POSITION + data.vt_symbol):
            self.main_engine.event_engine.put(VnpyEvent(event_type, data))

    async def _keep_watching(self) -> None:
        """VnPy tells nobody that a connection was lost or came back."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            self._gateways.all()

    async def _load_apps(self) -> None:
        if self._attached:
            self._apps = dict.fromkeys(self.main_engine.apps, "loaded")
        else:
            self._apps = load_apps(self.main_engine, self._settings.apps)
        self._install_facades()
        if not self._attached:
            for name, init_engine in self._engines_to_init().items():
                try:
                    await asyncio.to_thread(init_engine)
                except Exception as error:  # noqa: BLE001 - a guarded door: a broken app must not end the start
                    self._apps[name] = describe(error)
                    _log.exception("an app could not be initialised", app=name)

    async def _keep_adopting(self) -> None:
        """A run.py may add apps and gateways after us."""
        while True:
            await asyncio.sleep(ADOPT_INTERVAL_S)
            self._apps = dict.fromkeys(self.main_engine.apps, "loaded")
            self._install_facades()
            await self.strategies.adopt(self._apps.get("CtaStrategy", ""))
            self._gateways.adopt()

    def _install_facades(self) -> None:
        engines, event_engine = self.main_engine.engines, self.main_engine.event_engine
        self._gate.install_paper_account(self.main_engine)
        if self._risk is None and "RiskManager" in engines:
            self._risk = RiskFacade(engines["RiskManager"], event_engine, self._clock, self._bridge.emit_risk)
            self._risk.install()
            self._undo.callback(self._risk.uninstall)
        if (uninstall := self.strategies.install()) is not None:
            self._undo.callback(uninstall)
        if self._algo is None and "AlgoTrading" in engines:
            self._algo = AlgoFacade(self.main_engine, event_engine, self._commands, self._bridge.emit)
            self._algo.install()
            self._undo.callback(self._algo.uninstall)

    def _engines_to_init(self) -> dict[str, Callable[[], None]]:
        """VnPy leaves calling `init_engine` to each app's window."""
        own = {"CtaStrategy": self.strategies.init_engine} if self.strategies.cta else {}
        others = ("AlgoTrading", "CtaBacktester")
        return own | {n: self.main_engine.engines[n].init_engine for n in others if n in self.main_engine.engines}

    def _on_sign_of_life(self, message: Message) -> None:
        event = message.data
        assert isinstance(event, Contract | Account)
        self._gateways.on_sign_of_life(event.gateway_name)
        if isinstance(event, Contract) and self._gateways.is_connected(event.gateway_name):
            self.strategies.on_contract(event.vt_symbol)

    async def _start_strategies(self) -> None:
        await self.strategies.start_waiting()

    def _ids_unique(self, gateway_name: str) -> bool:
        return self._gateways.ids_unique(gateway_name)

    def _is_tradable(self, vt_symbol: str) -> bool:
        offers = self._view.contracts.get(vt_symbol, {})
        return any(not self._recovery.reason(gateway_name) for gateway_name in offers)

    def _take_refusal(self) -> RiskDenied | None:
        return self._risk.take_refusal() if self._risk else None

    def _refuse_when_stopping(self) -> None:
        if self._stopping:
            raise Overloaded("the service is stopping")

    # --- a callback that hangs ---

    def _on_hang(self, hang: Hang) -> None:
        """Halt in memory at once, then cancel past the event thread; the strategy is put away when that is back."""
        reason = f"{hang.culprit} does not return"
        halt = Halt(scope=HaltScope.ALL, active=True, reason=reason, by="watchdog", at=self._clock.now())
        self._gate.halts = {**self._gate.halts, halt_key(halt): halt}
        self._tasks.spawn(self._halt_past_event_thread(halt), "halt for a hang")
        if hang.strategy_name is not None:
            self._tasks.spawn(self.strategies.put_away(hang.strategy_name), f"stop {hang.strategy_name}")

    async def _halt_past_event_thread(self, halt: Halt) -> None:
        active = self._stage.inspect(_active_orders)
        asked = await cancel_at_gateways(self.main_engine.gateways, active)
        _log.warning("orders were asked to cancel past the event thread", asked=asked, of=len(active))
        await self.halt(halt, cancel=False)

    def _hold(self, hang: Hang, reason: str) -> None:
        self._quarantine.add(hang.culprit, Entry(reason=reason, at=self._clock.now(), stack=hang.stack))

    # --- stop ---

    async def _quiesce(self, reached: bool) -> None:
        """Bring trading to rest while everything still works."""
        if reached:
            await self._step("stop strategies", self.strategies.stop_all())
            if self._algo:
                await self._step("stop algos", self._algo.stop_all())
            if self._settings.engine.cancel_on_stop:
                await self._step("cancel orders", self._cancel_all())
        await self._step("close gateways", self._gateways.close())

    async def _close_engine(self, reached: bool) -> None:
        # Stop drains first; MainEngine.close() would close apps and gateways after a queue that is no longer served.
        patience = self._settings.engine.drain_s + 1 if reached else 1
        stop = in_own_thread(self.main_engine.event_engine.stop)
        await self._step("stop the event engine", asyncio.wait_for(stop, patience))
        for name, engine in self.main_engine.engines.items():
            await self._step(f"close {name}", asyncio.wait_for(in_own_thread(engine.close), CLOSE_PATIENCE_S))

    async def _reached(self) -> bool:
        """Whether the event thread still takes commands; a handler that hangs must not hang the stop."""
        try:
            await self._commands.run(lambda: None, deadline_s=self._settings.engine.drain_s)
        except CoreError as error:
            _log.error("the event thread does not answer; stopping without it", detail=error.detail)
            return False
        return True

    async def _cancel_at_once(self) -> int:
        """Ask for every active order's end, straight at the gateways where the event thread does not answer."""
        # By the books, which know an order as soon as its gateway spoke of it; the view waits for the event thread.
        active = self._stage.inspect(_active_orders)
        if self._watchdog.lag_s > LATE_S:
            return await cancel_at_gateways(self.main_engine.gateways, active)
        asked = sum(await asyncio.gather(*(self._cancel_somehow(order) for order in active)))
        return asked + await self._cancel_late({order.vt_orderid for order in active})

    async def _cancel_late(self, asked: set[str]) -> int:
        """Ask for the end of those that had passed the gate when the halt came, and were in no book yet."""
        deadline = self._clock.monotonic() + self._settings.engine.command_deadline_s
        while self._is_sending() and self._clock.monotonic() < deadline:  # noqa: ASYNC110 - a short wait
            await asyncio.sleep(0.01)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(self._stage.barrier()), STALL_S)
        late = [order for order in self._stage.inspect(_active_orders) if order.vt_orderid not in asked]
        return sum(await asyncio.gather(*(self._cancel_somehow(order) for order in late)))

    def _is_sending(self) -> bool:
        return self._stage.inspect(lambda _: self._stage.sequencer.has_calls)

    async def _cancel_somehow(self, order: Order) -> bool:
        try:
            await self.cancel_order(order.vt_orderid)
        except Conflict:
            return False
        except (Overloaded, OutcomeUnknown):
            return await cancel_at_gateways(self.main_engine.gateways, [order]) == 1
        except Exception as error:  # noqa: BLE001 - a guarded door: one that cannot be cancelled must not keep the others in
            _log.error("an order could not be cancelled", vt_orderid=order.vt_orderid, detail=describe(error))
            return False
        return True

    async def _cancel_all(self) -> None:
        """Cancel what is active and wait until the venues have confirmed, `drain_s` at most."""
        reachable = [o for o in self._view.active_orders.values() if self._gateways.is_connected(o.gateway_name)]
        # Together, and each by itself: one that has just ended or cannot be cancelled must not keep the others in.
        asked = await asyncio.gather(*(self.cancel_order(o.vt_orderid) for o in reachable), return_exceptions=True)
        for order, error in zip(reachable, asked, strict=True):
            if isinstance(error, Exception) and not isinstance(error, Conflict):
                _log.error("an order could not be cancelled", vt_orderid=order.vt_orderid, detail=describe(error))
        deadline = self._clock.monotonic() + self._settings.engine.drain_s
        while self._view.active_orders and self._clock.monotonic() < deadline:  # noqa: ASYNC110 - a short wait
            await asyncio.sleep(0.02)
        if self._view.active_orders:
            _log.warning("orders are still active at the venue", vt_orderids=list(self._view.active_orders))

    async def _step(self, what: str, work: Awaitable[Any]) -> None:
        """One step of the stop; a step that fails is logged and the next ones follow."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - a guarded door: the stop must reach its end
            _log.error("a step of the stop failed", step=what, detail=describe(error))


def _active_orders(books: Books) -> list[Order]:
    return [k.event for k in books.orders.values() if isinstance(k.event, Order) and k.event.is_active]


def _everything(books: Books) -> dict[str, list[Event]]:
    tables = {"orders": books.orders, "trades": books.trades, "halts": books.halts, "stop_orders": books.stop_orders}
    return {name: [kept.event for kept in table.values()] for name, table in tables.items()}
