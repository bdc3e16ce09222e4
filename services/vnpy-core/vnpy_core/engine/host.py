"""The VnPy host: it owns a MainEngine or attaches to a running one, and is the features' door to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from vnpy.trader.engine import MainEngine
from vnpy.trader.utility import TEMP_DIR

from vnpy_core.bus import topics
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.commands import SubmitOrder, SubmittedOrder
from vnpy_core.domain.errors import (
    ConfigurationError,
    Conflict,
    CoreError,
    OutcomeUnknown,
    Overloaded,
    RiskDenied,
    describe,
)
from vnpy_core.domain.events import Account, Contract, Gateway
from vnpy_core.engine.apps.algo import AlgoFacade
from vnpy_core.engine.apps.cta import CtaFacade
from vnpy_core.engine.apps.loader import load_apps
from vnpy_core.engine.apps.risk import RiskFacade
from vnpy_core.engine.bridge import EventBridge
from vnpy_core.engine.commands import CommandDoor
from vnpy_core.engine.event_engine import EventGuard, InterruptibleEventEngine
from vnpy_core.engine.gateways import CLOSE_PATIENCE_S, Gateways, Subscriptions
from vnpy_core.engine.orders import OrderDesk
from vnpy_core.engine.settings import AppSettings, EngineSettings, GatewaySettings, StrategySettings, default_apps
from vnpy_core.engine.watchdog import Watchdog
from vnpy_core.kit.tasks import BackgroundTasks, in_own_thread
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.engine import EngineStatus
from vnpy_core.ports.flow import Flow

BACKLOG_LIMIT = 100_000
"""Messages waiting for the loop past which new orders are refused: orders and trades are never dropped."""
ADOPT_INTERVAL_S = 1.0

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
        epoch: str,
        main_engine: MainEngine | None = None,
    ) -> None:
        """Make an engine, or attach to `main_engine`, which somebody else made and will close. Not yet started."""
        self._settings = settings
        self._view = view
        self._clock = clock
        self._attached = main_engine is not None
        event_engine = main_engine.event_engine if main_engine else InterruptibleEventEngine()
        self._guard = EventGuard(event_engine, drain_s=settings.engine.drain_s)
        self._guard.install()
        self.main_engine = main_engine or MainEngine(event_engine)
        loop = asyncio.get_running_loop()
        self._commands = CommandDoor(event_engine, loop, deadline_s=settings.engine.command_deadline_s)
        self._bridge = EventBridge(loop, bus, view, clock, flow, epoch=epoch, strategy_of=self._strategy_of)
        self._watchdog = Watchdog(self._guard, clock, limit_s=settings.engine.watchdog_s)
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
            on_connected=self._start_strategies,
        )
        self._bus = bus
        self._apps: dict[str, str] = {}
        self._risk: RiskFacade | None = None
        self._algo: AlgoFacade | None = None
        self._cta: CtaFacade | None = None
        self._waiting_strategies: dict[str, StrategySettings] = {}
        self._stopping = False
        self._undo = ExitStack()  # runs all, also where one of them raises
        self._undo.callback(self._guard.uninstall)

    async def start(self) -> None:
        """Bring the engine up: apps, gateways, strategies; connect what connects by itself.

        A part that fails is logged and left out. Raises ConfigurationError where a required app (risk control) fails.
        """
        try:
            self._gateways.subscriptions.load()
            self._commands.open()
            self._undo.callback(self._commands.close)
            self._undo.callback(self._bridge.attach(self.main_engine.event_engine))
            signs = [topics.CONTRACT_UPDATED, topics.ACCOUNT_UPDATED]
            self._undo.callback(self._bus.subscribe(signs, self._on_sign_of_life))
            self._watchdog.start()
            await self._load_apps()
        except ConfigurationError:
            await self.stop()
            raise
        self._desk = OrderDesk(self.main_engine, self._guard, self._take_refusal, self._bridge.bind_client_id)
        if self._attached:
            await self._commands.run(lambda: self._bridge.seed(self.main_engine), deadline_s=30)
            await self._bridge.flush()
            self._gateways.adopt()
            self._tasks.spawn(self._keep_adopting(), "adopt what the host adds")
        else:
            self._gateways.load()
        await self._add_strategies()
        await self._gateways.auto_connect()

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
        self._undo.close()
        await self._bridge.flush()

    # --- ports.engine.TradingEngine ---

    async def submit_order(self, command: SubmitOrder) -> SubmittedOrder:
        """See `ports.engine.TradingEngine`."""
        self._refuse_when_stopping()
        self._gateways.require_connected(command.gateway_name)
        if self._bridge.backlog > BACKLOG_LIMIT:
            raise Overloaded(f"{self._bridge.backlog} events wait to be published; no order is taken until they are")
        try:
            vt_orderids = await self._commands.run(lambda: self._desk.submit(command))
        except OutcomeUnknown as error:
            error.extra.setdefault("client_order_id", command.client_order_id)
            raise
        patience = self._settings.engine.order_answer_s
        words = await asyncio.gather(*(self._view.wait_for_order(vt_orderid, patience) for vt_orderid in vt_orderids))
        orders = tuple(order for order in words if order is not None)
        if len(orders) < len(vt_orderids):
            raise OutcomeUnknown(
                "the order was sent, but the engine has no word of it yet",
                client_order_id=command.client_order_id,
                vt_orderid=vt_orderids[0],
            )
        return SubmittedOrder(order=orders[0], children=orders if len(orders) > 1 else ())

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
        )

    # --- start ---

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
            self._gateways.adopt()

    def _install_facades(self) -> None:
        engines, event_engine = self.main_engine.engines, self.main_engine.event_engine
        if self._risk is None and "RiskManager" in engines:
            self._risk = RiskFacade(engines["RiskManager"], event_engine, self._bridge.emit_risk)
            self._risk.install()
            self._undo.callback(self._risk.uninstall)
        if self._cta is None and "CtaStrategy" in engines:
            self._cta = CtaFacade(self.main_engine, event_engine, self._guard, self._commands, self._bridge.emit)
            self._cta.install()
            self._undo.callback(self._cta.uninstall)
        if self._algo is None and "AlgoTrading" in engines:
            self._algo = AlgoFacade(self.main_engine, event_engine, self._commands, self._bridge.emit)
            self._algo.install()
            self._undo.callback(self._algo.uninstall)

    def _engines_to_init(self) -> dict[str, Callable[[], None]]:
        """VnPy leaves calling `init_engine` to each app's window."""
        own = {"CtaStrategy": self._cta.init_engine} if self._cta else {}
        others = ("AlgoTrading", "CtaBacktester")
        return own | {n: self.main_engine.engines[n].init_engine for n in others if n in self.main_engine.engines}

    async def _add_strategies(self) -> None:
        for name, settings in self._settings.strategies.items():
            try:
                if self._cta is None:
                    raise ConfigurationError("the CtaStrategy app is not loaded")
                await self._cta.add(name, settings)
                self._waiting_strategies[name] = settings
            except CoreError as error:
                _log.error("a strategy could not be added", strategy_name=name, detail=error.detail)

    def _on_sign_of_life(self, message: Message) -> None:
        event = message.data
        assert isinstance(event, Contract | Account)
        self._gateways.on_sign_of_life(event.gateway_name)
        if isinstance(event, Contract) and self._gateways.is_connected(event.gateway_name):
            if any(settings.vt_symbol == event.vt_symbol for settings in self._waiting_strategies.values()):
                self._tasks.spawn(self._start_strategies(), "start strategies")

    async def _start_strategies(self) -> None:
        """Initialise and start the configured strategies whose contract is there by now."""
        for name, settings in list(self._waiting_strategies.items()):
            if self._cta is None or self._cta.vt_symbol(name) not in self._view.contracts:
                continue
            if self._waiting_strategies.pop(name, None) is None:
                continue
            try:
                if settings.auto_init or settings.auto_start:
                    await self._cta.init(name)
                if settings.auto_start:
                    await self._cta.start(name)
            except Exception as error:  # noqa: BLE001 - a guarded door: CtaEngine subscribes, and a gateway may raise
                _log.error("a strategy could not be started", strategy_name=name, detail=describe(error))
        for name, settings in self._waiting_strategies.items():
            _log.warning("a strategy waits for its contract", strategy_name=name, vt_symbol=settings.vt_symbol)

    def _strategy_of(self, vt_orderid: str, reference: str) -> str | None:
        return self._cta.strategy_of(vt_orderid, reference) if self._cta else None

    def _take_refusal(self) -> RiskDenied | None:
        return self._risk.take_refusal() if self._risk else None

    def _refuse_when_stopping(self) -> None:
        if self._stopping:
            raise Overloaded("the service is stopping")

    # --- stop ---

    async def _quiesce(self, reached: bool) -> None:
        """Bring trading to rest while everything still works."""
        if reached:
            if self._cta:
                await self._step("stop strategies", self._cta.stop_all())
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
