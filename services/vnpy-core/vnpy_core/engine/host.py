"""The VnPy host: it owns a MainEngine or attaches to a running one, and is the features' door to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from vnpy.trader.constant import Exchange
from vnpy.trader.engine import MainEngine
from vnpy.trader.object import SubscribeRequest
from vnpy.trader.utility import TEMP_DIR

from vnpy_core.bus import topics
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.commands import SubmitOrder, SubmittedOrder
from vnpy_core.domain.enums import GatewayState
from vnpy_core.domain.errors import (
    ConfigurationError,
    Conflict,
    CoreError,
    GatewayNotConnected,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    describe,
)
from vnpy_core.domain.events import Gateway
from vnpy_core.engine.apps.algo import AlgoFacade
from vnpy_core.engine.apps.cta import CtaFacade
from vnpy_core.engine.apps.risk import RiskFacade
from vnpy_core.engine.bridge import EventBridge
from vnpy_core.engine.commands import CommandDoor
from vnpy_core.engine.event_engine import EventGuard, InterruptibleEventEngine
from vnpy_core.engine.gateways import GatewayRecord, GatewayRegistry, Subscriptions, connect_setting, load_target
from vnpy_core.engine.orders import OrderDesk
from vnpy_core.engine.settings import AppSettings, EngineSettings, GatewaySettings, StrategySettings, default_apps
from vnpy_core.engine.watchdog import Watchdog
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.engine import EngineStatus
from vnpy_core.ports.flow import Flow

BACKLOG_LIMIT = 100_000
"""Messages waiting for the loop past which new orders are refused: orders and trades are never dropped."""
CONNECT_PATIENCE_S = 30.0
"""How long a connect may go without a word before the gateway's state says so."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class HostSettings:
    """All that the host can be told."""

    engine: EngineSettings = field(default_factory=EngineSettings)
    apps: dict[str, AppSettings] = field(default_factory=default_apps)
    gateways: dict[str, GatewaySettings] = field(default_factory=dict)
    strategies: dict[str, StrategySettings] = field(default_factory=dict)
    data: Path = Path("vnpy_data")
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
        epoch: str,
        main_engine: MainEngine | None = None,
    ) -> None:
        """`main_engine`: attach to this one, which somebody else made and will close."""
        self._settings = settings
        self._bus = bus
        self._view = view
        self._clock = clock
        self._flow = flow
        self._epoch = epoch
        self._attached = main_engine is not None
        self._main_engine = main_engine
        self._gateways = GatewayRegistry()
        self._subscriptions = Subscriptions(settings.data / "subscriptions.json")
        self._apps: dict[str, str] = {}
        self._waiting_strategies = dict(settings.strategies)
        self._undo: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.cta: CtaFacade | None = None
        self._algo: AlgoFacade | None = None
        self._risk: RiskFacade | None = None

    async def start(self) -> None:
        """Bring the engine up: apps, gateways, strategies; connect what connects by itself.

        A part that fails is logged and left out. Raises ConfigurationError where a required app (risk control) fails.
        """
        self._subscriptions.load()
        loop = asyncio.get_running_loop()
        event_engine = self._main_engine.event_engine if self._main_engine else InterruptibleEventEngine()
        self._guard = EventGuard(event_engine, drain_s=self._settings.engine.drain_s)
        self._guard.install()
        self._undo.append(self._guard.uninstall)
        if self._main_engine is None:
            self._main_engine = MainEngine(event_engine)
        self._commands = CommandDoor(event_engine, loop, deadline_s=self._settings.engine.command_deadline_s)
        self._commands.open()
        self._undo.append(self._commands.close)
        self._bridge = EventBridge(
            loop, self._bus, self._view, self._clock, self._flow, epoch=self._epoch, strategy_of=self._strategy_of
        )
        self._undo.append(self._bridge.attach(event_engine))
        self._undo.append(self._bus.subscribe([topics.CONTRACT_UPDATED, topics.ACCOUNT_UPDATED], self._on_sign_of_life))
        self._watchdog = Watchdog(self._guard, self._clock, limit_s=self._settings.engine.watchdog_s)
        self._watchdog.start()
        try:
            await self._load_apps()
        except ConfigurationError:
            await self.stop()
            raise
        self._desk = OrderDesk(self.main_engine, self._guard, self._risk, self._bridge.bind_client_id)
        if self._attached:
            await self._adopt()
        else:
            self._add_gateways()
        await self._add_strategies()
        for name, gateway in self._settings.gateways.items():
            if gateway.enabled and gateway.auto_connect:
                await self._connect_or_log(name)

    @property
    def main_engine(self) -> MainEngine:
        """VnPy's MainEngine, once started."""
        assert self._main_engine is not None
        return self._main_engine

    @property
    def seq(self) -> int:
        """The last global sequence given out."""
        return self._bridge.seq

    async def stop(self) -> None:
        """Strategies, cancels, gateways, drain, apps, in this order; a host attached to is left as it was found."""
        if self._stopping:
            return
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._attached:
            await self._detach()
        else:
            await self._shut_down()

    # --- TradingEngine -------------------------------------------------------------------------------------------

    async def submit_order(self, command: SubmitOrder) -> SubmittedOrder:
        """See `ports.engine.TradingEngine`."""
        self._refuse_when_stopping()
        self._require_connected(command.gateway_name)
        if self._bridge.backlog > BACKLOG_LIMIT:
            raise Overloaded(f"{self._bridge.backlog} events wait to be published; no order is taken until they are")
        try:
            vt_orderids = await self._commands.run(lambda: self._desk.submit(command))
        except OutcomeUnknown as error:
            error.extra.setdefault("client_order_id", command.client_order_id)
            raise
        orders = [
            await self._view.wait_for_order(vt_orderid, self._settings.engine.order_answer_s)
            for vt_orderid in vt_orderids
        ]
        known = [order for order in orders if order is not None]
        if len(known) < len(vt_orderids):
            raise OutcomeUnknown(
                "the order was sent, but the engine has no word of it yet",
                client_order_id=command.client_order_id,
                vt_orderid=vt_orderids[0],
            )
        return SubmittedOrder(order=known[0], children=tuple(known) if len(known) > 1 else ())

    async def cancel_order(self, vt_orderid: str) -> None:
        """See `ports.engine.TradingEngine`."""
        order = self._view.order(vt_orderid)
        if order is not None:
            self._require_connected(order.gateway_name)
        await self._commands.run(lambda: self._desk.cancel(vt_orderid))

    async def subscribe(self, vt_symbol: str, gateway_name: str) -> None:
        """See `ports.engine.TradingEngine`."""
        if gateway_name not in self._view.contracts.get(vt_symbol, {}):
            self._require_connected(gateway_name)
            raise NotFound(f"gateway {gateway_name} has no contract {vt_symbol}")
        self._require_connected(gateway_name)
        await self._commands.run(lambda: self._subscribe(vt_symbol, gateway_name))
        self._subscriptions.add(vt_symbol, gateway_name)

    async def unsubscribe(self, vt_symbol: str) -> None:
        """See `ports.engine.TradingEngine`."""
        self._subscriptions.remove(vt_symbol)

    def subscriptions(self) -> list[tuple[str, str]]:
        """See `ports.engine.TradingEngine`."""
        return self._subscriptions.all()

    async def connect(self, gateway_name: str, setting: dict[str, Any]) -> None:
        """See `ports.engine.TradingEngine`; ConfigurationError where the gateway's settings file is broken."""
        self._refuse_when_stopping()
        record = self._gateways.get(gateway_name)
        if record.state in (GatewayState.CONNECTED, GatewayState.CONNECTING):
            raise Conflict(f"gateway {gateway_name} is {record.state.lower()} already")
        if record.gateway is None:
            raise Conflict(f"gateway {gateway_name} did not load: {record.message}")
        if record.closed:
            await self._renew(record)
        configured = self._settings.gateways.get(gateway_name)
        folders = [Path(TEMP_DIR), *([self._settings.config_folder] if self._settings.config_folder else [])]
        overrides = (configured.setting if configured else {}) | setting
        merged = connect_setting(record.gateway, gateway_name, folders, overrides)
        self._set_state(record, GatewayState.CONNECTING)
        self._spawn(self._connect(record, merged), f"connect {gateway_name}")

    async def disconnect(self, gateway_name: str) -> None:
        """See `ports.engine.TradingEngine`."""
        record = self._gateways.get(gateway_name)
        if record.state not in (GatewayState.CONNECTED, GatewayState.CONNECTING):
            raise Conflict(f"gateway {gateway_name} is not connected")
        await self._close_gateway(record)

    def gateways(self) -> list[Gateway]:
        """See `ports.engine.TradingEngine`."""
        return [record.as_event() for record in self._gateways.all()]

    def status(self) -> EngineStatus:
        """See `ports.engine.TradingEngine`."""
        return EngineStatus(
            alive=self._watchdog.alive,
            lag_ms=round(self._watchdog.lag_s * 1000, 3),
            queue_length=self._guard.queue_length,
            events_handled=self._guard.events_handled,
            handler_errors=self._guard.handler_errors,
            ticks_conflated=self._guard.ticks_conflated + self._bridge.ticks_conflated,
            bridge_backlog=self._bridge.backlog,
            apps=dict(self._apps),
        )

    # --- start ---------------------------------------------------------------------------------------------------

    async def _load_apps(self) -> None:
        if not self._attached:
            # RiskManager last: an app that replaces send_order without chaining (PaperAccount does) would bypass it.
            ordered = sorted(self._settings.apps.items(), key=lambda item: item[1].required)
            for name, app in ordered:
                if app.enabled:
                    await self._load_app(name, app)
        self._install_facades()
        if self.cta is not None and not self._attached:
            await self._guarded_app("CtaStrategy", asyncio.to_thread(self.cta.init_engine))
        for name in ("AlgoTrading", "CtaBacktester"):
            if not self._attached and name in self.main_engine.engines:
                self.main_engine.engines[name].init_engine()

    async def _load_app(self, name: str, app: AppSettings) -> None:
        engines = set(self.main_engine.engines)
        try:
            self.main_engine.add_app(load_target(app.class_))
            self._apps[name] = "loaded"
        except Exception as error:
            # VnPy lists an app before its engine is built; a half-loaded one must not be offered.
            for half in set(self.main_engine.apps) - engines:
                self.main_engine.apps.pop(half)
            self._apps[name] = describe(error)
            if app.required:
                raise ConfigurationError(
                    f"apps.{name} could not be loaded and is required: {describe(error)}. "
                    "Trading without it is not safe; "
                    "mend it (a broken file in rules/ does this), or set `required = false` to start without it."
                ) from error
            _log.exception("an app could not be loaded; the service starts without it", app=name)

    async def _guarded_app(self, name: str, starting: Awaitable[None]) -> None:
        try:
            await starting
        except Exception as error:  # noqa: BLE001 - a guarded door: a broken app must not end the start
            self._apps[name] = describe(error)
            _log.exception("an app could not be initialised", app=name)

    def _install_facades(self) -> None:
        engines = self.main_engine.engines
        event_engine = self.main_engine.event_engine
        if self._attached:
            self._apps = dict.fromkeys(self.main_engine.apps, "loaded")
        if "RiskManager" in engines:
            self._risk = RiskFacade(engines["RiskManager"], event_engine, self._bridge.emit_risk)
            self._risk.install()
            self._undo.append(self._risk.uninstall)
        if "CtaStrategy" in engines:
            self.cta = CtaFacade(self.main_engine, event_engine, self._guard, self._commands, self._bridge.emit)
            self.cta.install()
            self._undo.append(self.cta.uninstall)
        if "AlgoTrading" in engines:
            self._algo = AlgoFacade(self.main_engine, event_engine, self._commands, self._bridge.emit)
            self._algo.install()
            self._undo.append(self._algo.uninstall)

    async def _adopt(self) -> None:
        """Take over the state of the engine that we attached to."""
        await self._commands.run(lambda: self._bridge.seed(self.main_engine), deadline_s=30)
        await self._bridge.flush()
        for name, gateway in self.main_engine.gateways.items():
            record = GatewayRecord(name, gateway)
            offers = any(name in offered for offered in self._view.contracts.values())
            record.state = GatewayState.CONNECTED if offers else GatewayState.DISCONNECTED
            self._gateways.add(record)
            self._publish(record)

    def _add_gateways(self) -> None:
        for name, settings in self._settings.gateways.items():
            if not settings.enabled:
                continue
            try:
                gateway = self.main_engine.add_gateway(load_target(settings.class_), name)
                record = GatewayRecord(name, gateway, target=settings.class_)
                self._bind_flow(gateway)
            except Exception as error:  # noqa: BLE001 - a guarded door: a broken gateway must not end the start
                record = GatewayRecord(name, None, target=settings.class_, message=describe(error))
                _log.exception("a gateway could not be loaded; the service starts without it", gateway_name=name)
            self._gateways.add(record)
            self._publish(record)

    def _bind_flow(self, gateway: Any) -> None:
        if hasattr(gateway, "bind_flow"):
            gateway.bind_flow(self._flow)

    async def _add_strategies(self) -> None:
        for name, settings in list(self._waiting_strategies.items()):
            try:
                if self.cta is None:
                    raise ConfigurationError("the CtaStrategy app is not loaded")
                await self.cta.add(name, settings)
            except CoreError as error:
                del self._waiting_strategies[name]
                _log.error("a strategy could not be added", strategy_name=name, detail=error.detail)

    # --- gateways ------------------------------------------------------------------------------------------------

    async def _connect_or_log(self, name: str) -> None:
        try:
            await self.connect(name, {})
        except CoreError as error:
            _log.error("a gateway could not be connected", gateway_name=name, detail=error.detail)

    async def _connect(self, record: GatewayRecord, setting: dict[str, Any]) -> None:
        try:
            await asyncio.to_thread(self.main_engine.connect, setting, record.name)
        except Exception as error:  # noqa: BLE001 - a guarded door: a gateway may raise anything
            self._fail(record, error)
            return
        # Behind all events that the gateway has put so far.
        await self._commands.run(lambda: None, deadline_s=CONNECT_PATIENCE_S)
        await self._bridge.flush()
        if record.reports_connection():
            self._set_state(record, GatewayState.CONNECTED if record.gateway.connected else GatewayState.FAILED)
        if record.state is GatewayState.CONNECTED:
            await self._go_on(record)
        else:
            await asyncio.sleep(CONNECT_PATIENCE_S)
            if record.state is GatewayState.CONNECTING:
                message = f"no contract or account arrived within {CONNECT_PATIENCE_S:g} s; see its log lines"
                self._set_state(record, GatewayState.CONNECTING, message)

    def _fail(self, record: GatewayRecord, error: Exception) -> None:
        _log.error("a gateway could not be connected", gateway_name=record.name, detail=describe(error))
        self._set_state(record, GatewayState.FAILED, describe(error))

    def _on_sign_of_life(self, message: Message) -> None:
        """A contract or an account shows that a gateway without a word of its own is connected."""
        name = message.data.gateway_name  # type: ignore[attr-defined]
        record = self._gateways.find(name)
        if record is None or record.closed:
            return
        if record.state is not GatewayState.CONNECTED and not record.reports_connection():
            self._set_state(record, GatewayState.CONNECTED)
            self._spawn(self._go_on(record), f"go on {name}")
        elif message.topic == topics.CONTRACT_UPDATED and record.state is GatewayState.CONNECTED:
            self._start_strategies_soon()

    async def _go_on(self, record: GatewayRecord) -> None:
        """What follows a connection: subscriptions, strategies, and the market where it waits for us."""
        for vt_symbol in self._subscriptions.of(record.name):
            if record.name in self._view.contracts.get(vt_symbol, {}):
                await self._commands.run(partial(self._subscribe, vt_symbol, record.name))
        await self._start_strategies()
        if hasattr(record.gateway, "open_market"):
            await asyncio.to_thread(record.gateway.open_market)

    def _start_strategies_soon(self) -> None:
        ready = any(s.vt_symbol in self._view.contracts for s in self._waiting_strategies.values())
        if ready:
            self._spawn(self._start_strategies(), "start strategies")

    async def _start_strategies(self) -> None:
        """Initialise and start the configured strategies whose contract is there."""
        if self.cta is None:
            return
        for name in list(self._waiting_strategies):
            vt_symbol = self.cta.vt_symbol(name)
            settings = self._waiting_strategies.get(name)
            if settings is None or vt_symbol not in self._view.contracts:
                continue
            del self._waiting_strategies[name]
            try:
                if settings.auto_init or settings.auto_start:
                    await self.cta.init(name)
                if settings.auto_start:
                    await self.cta.start(name)
            except CoreError as error:
                _log.error("a strategy could not be started", strategy_name=name, detail=error.detail)

    async def _renew(self, record: GatewayRecord) -> None:
        """A fresh gateway in place of the closed one."""
        gateway = await self._commands.run(
            lambda: self.main_engine.add_gateway(type(record.gateway), record.name), deadline_s=10
        )
        record.gateway, record.closed = gateway, False
        self._bind_flow(gateway)

    async def _close_gateway(self, record: GatewayRecord) -> None:
        record.closed = True
        self._set_state(record, GatewayState.DISCONNECTED)
        try:
            await asyncio.wait_for(asyncio.to_thread(record.gateway.close), timeout=5)
        except Exception as error:  # noqa: BLE001 - a guarded door: a gateway may raise anything
            record.message = f"close failed: {describe(error)}"
            _log.error("a gateway did not close well", gateway_name=record.name, detail=record.message)

    def _subscribe(self, vt_symbol: str, gateway_name: str) -> None:
        symbol, _, exchange = vt_symbol.rpartition(".")
        self.main_engine.subscribe(SubscribeRequest(symbol=symbol, exchange=Exchange(exchange)), gateway_name)

    def _require_connected(self, gateway_name: str) -> None:
        record = self._gateways.get(gateway_name)
        if record.state is GatewayState.CONNECTED and record.reports_connection() and not record.gateway.connected:
            self._set_state(record, GatewayState.DISCONNECTED, "the connection was lost")
        if record.state is not GatewayState.CONNECTED:
            raise GatewayNotConnected(f"gateway {gateway_name} is {record.state.lower()}; connect it first")

    def _refuse_when_stopping(self) -> None:
        if self._stopping:
            raise Overloaded("the service is stopping")

    def _set_state(self, record: GatewayRecord, state: GatewayState, message: str = "") -> None:
        record.state, record.message = state, message
        self._publish(record)

    def _publish(self, record: GatewayRecord) -> None:
        self._bridge.emit(topics.GATEWAY_UPDATED, record.name, record.as_event())

    def _strategy_of(self, vt_orderid: str, reference: str) -> str | None:
        return self.cta.strategy_of(vt_orderid, reference) if self.cta else None

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("background work failed", task=task.get_name(), exc_info=error)

    # --- stop ----------------------------------------------------------------------------------------------------

    async def _shut_down(self) -> None:
        if self._guard.thread_alive:
            await self._step("stop strategies", self.cta.stop_all() if self.cta else None)
            await self._step("stop algos", self._algo.stop_all() if self._algo else None)
            if self._settings.engine.cancel_on_stop:
                await self._step("cancel orders", self._cancel_all())
        for record in self._gateways.all():
            if record.gateway is not None and not record.closed:
                await self._close_gateway(record)
        await self._step("stop the watchdog", self._watchdog.stop())
        # Stop drains first; MainEngine.close() would close apps and gateways after a queue that is no longer served.
        await asyncio.to_thread(self.main_engine.event_engine.stop)
        for name, engine in self.main_engine.engines.items():
            await self._step(f"close {name}", asyncio.to_thread(engine.close))
        await self._bridge.flush()
        for undo in reversed(self._undo):
            undo()

    async def _detach(self) -> None:
        await self._step("stop the watchdog", self._watchdog.stop())
        for undo in reversed(self._undo):
            undo()
        await self._bridge.flush()

    async def _cancel_all(self) -> None:
        """Cancel what is active and wait until the venues have confirmed, `drain_s` at most."""
        for vt_orderid, order in list(self._view.active_orders.items()):
            record = self._gateways.find(order.gateway_name)
            if record is not None and record.state is GatewayState.CONNECTED:
                await self.cancel_order(vt_orderid)
        deadline = self._clock.monotonic() + self._settings.engine.drain_s
        while self._view.active_orders and self._clock.monotonic() < deadline:  # noqa: ASYNC110 - a short wait
            await asyncio.sleep(0.02)
        if self._view.active_orders:
            _log.warning("orders are still active at the venue", vt_orderids=list(self._view.active_orders))

    async def _step(self, what: str, work: Awaitable[Any] | None) -> None:
        """One step of the stop; a step that fails is logged and the next ones follow."""
        if work is None:
            return
        try:
            await work
        except Exception as error:  # noqa: BLE001 - a guarded door: the stop must reach its end
            _log.error("a step of the stop failed", step=what, detail=describe(error))
