"""CtaStrategy: strategies added, initialised and started by configuration, with failures that show."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog
from vnpy.event import Event, EventEngine
from vnpy.trader.event import EVENT_ORDER, EVENT_TRADE
from vnpy_ctastrategy.base import EVENT_CTA_LOG, EVENT_CTA_STOPORDER, EVENT_CTA_STRATEGY

from vnpy_core.bus import topics
from vnpy_core.domain.errors import Conflict, CoreError, NotFound, ValidationFailed, describe
from vnpy_core.domain.events import Event as DomainEvent
from vnpy_core.engine import translate
from vnpy_core.engine.apps.cta_memory import CtaMemory
from vnpy_core.engine.commands import CommandDoor
from vnpy_core.engine.event_engine import EventGuard
from vnpy_core.engine.last_resort import was_running
from vnpy_core.engine.quarantine import Quarantine
from vnpy_core.engine.settings import StrategySettings
from vnpy_core.kit.tasks import Daemons

Emit = Callable[[str, str, DomainEvent], None]
INIT_TOLD_S = 60.0
"""How often an on_init that takes long is told of: it may read years of bars, or hang."""

_log = structlog.get_logger(__name__)


class CtaFacade:
    """One CtaEngine; its coroutines run on the loop, its handlers on the event thread.

    Its one wrap, of `call_strategy_func`, remembers what a callback raised: CtaEngine only logs it, then calls a
    strategy whose on_init failed initialised and one whose on_start failed trading.
    """

    def __init__(
        self,
        main_engine: Any,
        event_engine: EventEngine,
        guard: EventGuard,
        commands: CommandDoor,
        emit: Emit,
        quarantine: Quarantine,
    ) -> None:
        self.engine = main_engine.get_engine("CtaStrategy")
        self.failures: dict[str, str] = {}
        """strategy_name -> the last lines of what a callback raised."""
        self.load_errors: list[str] = []
        self.memory = CtaMemory(self.engine)
        self._main_engine = main_engine
        self._event_engine = event_engine
        self._guard = guard
        self._commands = commands
        self._emit = emit
        self._quarantine = quarantine
        self._handlers = {
            EVENT_CTA_LOG: self._on_log,
            EVENT_CTA_STRATEGY: self._on_strategy,
            EVENT_CTA_STOPORDER: self._on_stop_order,
            EVENT_ORDER: self._on_order,
        }

    def install(self) -> None:
        """Wrap the engine and listen to its events; the process's own engine is initialised too. Any thread."""
        self._call = self.engine.call_strategy_func
        self.engine.call_strategy_func = self._call_strategy_func
        # The interpreter waits at its end for VnPy's own, for ever where an on_init does not return.
        self._init_executor, self.engine.init_executor = self.engine.init_executor, Daemons("cta-init")
        self.memory.install()
        self._guard.precede(EVENT_TRADE, self.memory.before_trade)
        self._gave_send_email = not hasattr(self._main_engine, "send_email")
        if self._gave_send_email:
            # VnPy 4.5 renamed it, but CtaEngine.send_email still calls it and the strategy that mails is stopped.
            self._main_engine.send_email = self._send_email
        for event_type, handler in self._handlers.items():
            self._event_engine.register(event_type, handler)

    def uninstall(self) -> None:
        """Give the engines their own methods back."""
        for event_type, handler in self._handlers.items():
            self._event_engine.unregister(event_type, handler)
        self.engine.__dict__.pop("call_strategy_func", None)
        self.engine.init_executor = self._init_executor
        self.memory.uninstall()
        if self._gave_send_email:
            self._main_engine.__dict__.pop("send_email", None)

    def init_engine(self) -> None:
        """Load the strategy classes and VnPy's own strategy files; a file that fails is logged and kept out.

        Blocks while modules are imported; not for the event thread.
        """
        self.engine.add_strategy = self._add_remembered
        try:
            with self._guard.capture_logs() as lines:
                self.engine.init_engine()
        finally:
            del self.engine.add_strategy
        self.load_errors += [line for line in lines if "Traceback (most recent call last)" in line]
        for error in self.load_errors:
            _log.error("a strategy or its file could not be loaded", detail=error)

    def running_in(self, words: str) -> list[str]:
        """The strategies whose class's file is on a stack in `words`; before any is initialised."""
        strategies = self.engine.strategies.items()
        return [name for name, strategy in strategies if was_running(words, Path(inspect.getfile(type(strategy))))]

    async def add(self, name: str, settings: StrategySettings) -> None:
        """Add a strategy unless it is there. Raises NotFound (class), ValidationFailed."""
        await self._commands.run(lambda: self._add(name, settings))

    def vt_symbol(self, name: str) -> str:
        """What a strategy trades. Raises NotFound."""
        return str(self._strategy(name).vt_symbol)

    async def init(self, name: str) -> None:
        """Initialise and wait for it, however long its on_init takes.

        Raises NotFound, Conflict (in quarantine), CoreError (on_init raised).
        """
        self._strategy(name)
        self._refuse_quarantined(name)
        self.failures.pop(name, None)
        future = await self._commands.run(lambda: self.engine.init_strategy(name))
        waiting = asyncio.wrap_future(future)
        while not (await asyncio.wait({waiting}, timeout=INIT_TOLD_S))[0]:
            _log.warning("on_init has not returned; the strategies behind it wait", strategy_name=name)
        await waiting
        if name in self.failures:
            # VnPy calls it initialised all the same, and would feed it ticks.
            await self._commands.run(lambda: self._take_back(name, "inited"))
            raise CoreError(f"strategy {name}: on_init failed: {self.failures[name]}")

    async def start(self, name: str) -> None:
        """Start it. Raises NotFound, Conflict (not initialised, in quarantine), CoreError (on_start raised)."""
        self._refuse_quarantined(name)
        await self._commands.run(lambda: self._start(name))

    async def fail(self, name: str, reason: str) -> None:
        """Stop a strategy whose callback hung, once the event thread is back (60 s at most); cancel its orders."""
        await self._commands.run(lambda: self._fail(name, reason), deadline_s=60)

    async def stop_all(self) -> None:
        """Stop every strategy that trades; each cancels its orders."""
        await self._commands.run(self._stop_all, deadline_s=5)

    def _add(self, name: str, settings: StrategySettings) -> None:
        if name in self.engine.strategies:
            return
        if settings.class_name not in self.engine.classes:
            raise NotFound(f"strategy {name}: there is no strategy class {settings.class_name}")
        with self._guard.capture_logs() as lines:
            try:
                self.engine.add_strategy(settings.class_name, name, settings.vt_symbol, settings.setting)
            except Exception as error:
                self._forget(name, settings.vt_symbol)
                # Or the next start would read it back from VnPy's file.
                self.engine.remove_strategy_setting(name)
                raise ValidationFailed(f"strategy {name}: {describe(error)}") from error
        if name not in self.engine.strategies:
            raise ValidationFailed(f"strategy {name}: {'; '.join(lines) or 'CtaEngine did not add it'}")

    def _add_remembered(self, class_name: str, name: str, vt_symbol: str, setting: dict[str, Any]) -> None:
        """`add_strategy` for VnPy's own file, where one that raises would keep out all others and CtaEngine itself."""
        try:
            type(self.engine).add_strategy(self.engine, class_name, name, vt_symbol, setting)
        except Exception as error:  # noqa: BLE001 - a guarded door: a strategy's class may raise anything
            self._forget(name, vt_symbol)
            self.load_errors.append(f"strategy {name}: {describe(error)}")

    def _forget(self, name: str, vt_symbol: str) -> None:
        """Take out what `add_strategy` left of a strategy when it raised."""
        strategy = self.engine.strategies.pop(name, None)
        self.engine.symbol_strategy_map[vt_symbol] = [
            other for other in self.engine.symbol_strategy_map[vt_symbol] if other is not strategy
        ]

    def _start(self, name: str) -> None:
        strategy = self._strategy(name)
        if not strategy.inited:
            raise Conflict(f"strategy {name} is not initialised")
        self.memory.restore_stops(name)
        self.engine.start_strategy(name)
        if name in self.failures:
            self._take_back(name, "trading")  # VnPy sets it after an on_start that raised
            raise CoreError(f"strategy {name}: on_start failed: {self.failures[name]}")

    def _take_back(self, name: str, flag: str) -> None:
        """Take back a flag that VnPy set, and what it published with it."""
        strategy = self._strategy(name)
        setattr(strategy, flag, False)
        self.engine.put_strategy_event(strategy)

    def _refuse_quarantined(self, name: str) -> None:
        if entry := self._quarantine.entry(name):
            raise Conflict(
                f"strategy {name} is in quarantine since {entry.at:%Y-%m-%d %H:%M:%S} UTC: {entry.reason}; "
                f"`vnpy-core quarantine release {name}` lets it run again"
            )

    def _fail(self, name: str, reason: str) -> None:
        strategy = self.engine.strategies.get(name)
        if strategy is None or name in self.failures:
            return
        self.failures[name] = reason
        # Not by stop_strategy, which would call it once more.
        strategy.trading = strategy.inited = False
        self.engine.cancel_all(strategy)
        self.engine.put_strategy_event(strategy)

    def _stop_all(self) -> None:
        for name in list(self.engine.strategies):
            try:
                self.engine.stop_strategy(name)
            except Exception:  # noqa: BLE001 - a gateway that cannot cancel must not keep the next ones trading
                _log.exception("a strategy did not stop well", strategy_name=name)

    def _strategy(self, name: str) -> Any:
        strategy = self.engine.strategies.get(name)
        if strategy is None:
            raise NotFound(f"there is no strategy {name}")
        return strategy

    def _call_strategy_func(self, strategy: Any, function: Callable[..., Any], params: Any = None) -> None:
        if not self.memory.may_call(strategy, function):
            return
        name = strategy.strategy_name
        failed_before = name in self.failures

        def remembering(*args: Any) -> None:
            with self._remember_failure(name):
                if self._guard.on_event_thread:
                    # A call of its own within the handler's: ending this strategy leaves the next one its tick.
                    self._guard.callbacks.run(lambda _: function(*args), None)
                else:
                    function(*args)

        self._call(strategy, remembering, params)
        if name in self.failures and not failed_before:
            # CtaEngine leaves the orders of a strategy that it stopped in the market.
            self.engine.cancel_all(strategy)
            self.engine.put_strategy_event(strategy)

    @contextlib.contextmanager
    def _remember_failure(self, name: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.failures[name] = "".join(traceback.format_exception(error)[-3:]).strip()
            _log.exception("strategy failed and is stopped", strategy_name=name)
            if isinstance(error, Exception):
                raise
            # sys.exit() in a callback: CtaEngine would let it through, to the event thread or its pool.
            raise RuntimeError(describe(error)) from error

    def _send_email(self, subject: str, content: str, receiver: str | None = None) -> None:
        self._main_engine.send_notification(content, subject)

    def _on_log(self, event: Event) -> None:
        log = translate.log(event.data)
        self._emit(topics.STRATEGY_LOG, log.source, log)

    def _on_order(self, event: Event) -> None:
        # An order sent in the very callback that raised was not in the OMS yet when the others were cancelled.
        order = event.data
        strategy = self.engine.orderid_strategy_map.get(order.vt_orderid)
        if strategy is None or strategy.trading or strategy.strategy_name not in self.failures or not order.is_active():
            return
        self._main_engine.cancel_order(order.create_cancel_request(), order.gateway_name)

    def _on_strategy(self, event: Event) -> None:
        update = translate.strategy(event.data)
        self._emit(topics.STRATEGY_UPDATED, update.strategy_name, update)

    def _on_stop_order(self, event: Event) -> None:
        update = translate.stop_order(event.data)
        self._emit(topics.STOP_ORDER_UPDATED, update.stop_orderid, update)
