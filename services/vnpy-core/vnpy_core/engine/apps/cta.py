"""CtaStrategy: CtaEngine with strategies that may fail, hang and be asked for by others than its window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import FunctionType
from typing import Any

import structlog
from vnpy.event import EVENT_TIMER, Event, EventEngine
from vnpy.trader.event import EVENT_ORDER, EVENT_TRADE
from vnpy.trader.object import LogData
from vnpy_ctastrategy import CtaTemplate, TargetPosTemplate
from vnpy_ctastrategy.base import APP_NAME, EVENT_CTA_LOG, EVENT_CTA_STOPORDER, EVENT_CTA_STRATEGY

from vnpy_core.bus import topics
from vnpy_core.domain.errors import Conflict, CoreError, NotFound, ValidationFailed, describe
from vnpy_core.domain.events import StrategySetting
from vnpy_core.engine import translate
from vnpy_core.engine.apps import cta_stops, mails
from vnpy_core.engine.apps.cta_calls import EVENT_FAILED, CtaCalls
from vnpy_core.engine.apps.cta_classes import StrategyClasses
from vnpy_core.engine.apps.cta_init import EVENT_PREPARED, CtaInits, DidNotReturn
from vnpy_core.engine.apps.cta_memory import CtaMemory, Record
from vnpy_core.engine.apps.cta_show import CtaShow, Emit
from vnpy_core.engine.event_engine import EventGuard
from vnpy_core.engine.last_resort import was_running
from vnpy_core.engine.quarantine import Quarantine
from vnpy_core.engine.settings import EngineSettings
from vnpy_core.ports.clock import Clock

_OURS = ("call_strategy_func", "init_strategy", "start_strategy", "write_log")
_TEMPLATES = (CtaTemplate, TargetPosTemplate)

_log = structlog.get_logger(__name__)


class CtaFacade:
    """One CtaEngine. Unless a method says otherwise it runs on the event thread.

    In the engine's place it calls strategies, initialises and starts them: CtaEngine calls one whose on_init failed
    initialised, one whose on_start failed trading, and waits for ever for one that does not return.
    """

    def __init__(
        self,
        main_engine: Any,
        event_engine: EventEngine,
        guard: EventGuard,
        settings: EngineSettings,
        *,
        emit: Emit,
        record: Record,
        clock: Clock,
        quarantine: Quarantine,
        on_failed: Callable[[str], None],
    ) -> None:
        """`record` is `Stage.record`; `on_failed` hears, on any thread, of each strategy that has just failed."""
        self.engine = main_engine.get_engine(APP_NAME)
        self.memory = CtaMemory(self.engine, record, clock)
        self.classes = StrategyClasses(self.engine, limit_s=settings.load_limit_s)
        self.calls = CtaCalls(
            self.engine, event_engine, guard, may_call=self.memory.may_call, on_failed=self._on_failed
        )
        self.shown = CtaShow(self.engine, self.memory, self.classes, self.calls, emit=emit, clock=clock)
        self.inits = CtaInits(
            self.engine,
            main_engine,
            event_engine,
            self.calls,
            limit_s=settings.init_limit_s,
            clock=clock,
            quarantine=quarantine,
            show=self.shown.show,
        )
        self.shown.is_initialising = self.inits.is_under_way
        self._main_engine = main_engine
        self._event_engine = event_engine
        self._guard = guard
        self._emit = emit
        self._clock = clock
        self._tell_failed = on_failed
        self._handlers = {
            EVENT_CTA_LOG: self._on_log,
            EVENT_CTA_STRATEGY: self.shown.on_strategy,
            EVENT_CTA_STOPORDER: self._on_stop_order,
            EVENT_TIMER: self.shown.on_timer,
            EVENT_ORDER: self._on_order,
            EVENT_PREPARED: self.inits.on_prepared,
            EVENT_FAILED: lambda event: self.calls.cancel_orders(event.data),
        }

    # --- in and out of the engine ---

    def install(self) -> None:
        """Take the places in the engine, and listen to its events. Any thread."""
        self.engine.call_strategy_func = self.calls.call
        self.engine.init_strategy = self.init
        self.engine.start_strategy = self._start_strategy
        self.engine.write_log = self._write_log
        self.classes.install()
        self.memory.install()
        cta_stops.install(self.engine)
        self._guard.on_error = self.calls.handler_failed
        self._guard.precede(EVENT_TRADE, self.memory.before_trade)
        self._gave_send_email = not hasattr(self._main_engine, "send_email")
        if self._gave_send_email:
            # VnPy 4.5 renamed it, but CtaEngine.send_email still calls it and the strategy that mails is stopped.
            self._main_engine.send_email = self._send_email
        for event_type, handler in self._handlers.items():
            self._event_engine.register(event_type, handler)

    def uninstall(self) -> None:
        """Give the engines their own methods back; VnPy's files are complete then. Any thread; waits a moment."""
        for event_type, handler in self._handlers.items():
            self._event_engine.unregister(event_type, handler)
        for name in _OURS:
            self.engine.__dict__.pop(name, None)
        cta_stops.uninstall(self.engine)
        self.classes.uninstall()
        self.memory.uninstall()
        if self._gave_send_email:
            self._main_engine.__dict__.pop("send_email", None)

    def init_engine(self) -> None:
        """Load the classes and the strategies of VnPy's files; what fails is logged and kept out.

        Blocks while modules are imported; not for the event thread.
        """
        self.engine.add_strategy = self._make_remembered
        try:
            self.engine.init_engine()
        finally:
            del self.engine.add_strategy

    def running_in(self, words: str) -> list[str]:
        """The strategies whose code is on a stack in `words`; before any is initialised."""
        strategies = list(self.engine.strategies.items())
        return [n for n, strategy in strategies if any(was_running(words, Path(f)) for f in _files_of(type(strategy)))]

    def strategy(self, name: str) -> Any:
        """The instance. Raises NotFound, Conflict (it could not be made). Any thread."""
        strategy = self.engine.strategies.get(name)
        if strategy is not None:
            return strategy
        if reason := self.shown.absent.get(name):
            raise Conflict(f"strategy {name} could not be made: {reason}")
        raise NotFound(f"there is no strategy {name}")

    def setting_of(self, name: str, *, auto_start: bool, configured: bool, by: str) -> StrategySetting:
        """What is to be kept of one that is there."""
        type_, entry = type(self.engine.strategies[name]), self.engine.strategy_setting[name]
        return StrategySetting(
            strategy_name=name,
            class_name=entry["class_name"],
            vt_symbol=entry["vt_symbol"],
            setting=translate.plain(entry["setting"]),
            auto_start=auto_start,
            configured=configured,
            class_file=self.classes.file_of(type_),
            class_hash=self.classes.hash_of(type_),
            by=by,
            at=self._clock.now(),
        )

    # --- changing them ---

    def add(self, class_name: str, name: str, vt_symbol: str, setting: Mapping[str, Any]) -> None:
        """Make a strategy. Raises NotFound (class), Conflict (the name is taken), ValidationFailed."""
        if name in self.engine.strategies or name in self.shown.absent:
            raise Conflict(f"there is a strategy {name} already")
        self.classes.type_of(class_name)
        if reason := self._make(class_name, name, vt_symbol, dict(setting)):
            raise ValidationFailed(f"strategy {name}: {reason}")

    def make_absent(self) -> None:
        """Make those that could not be made before, now that their class may be another one."""
        for name in list(self.shown.absent):
            if (kept := self.memory.setting(name)) is not None:
                self._make_remembered(kept.class_name, name, kept.vt_symbol, dict(kept.setting))

    def init(self, name: str) -> Future[None]:
        """Initialise it, see `CtaInits.begin`; one that has failed is made anew. Raises ValidationFailed.

        It was told nothing of its orders since, would wait for ever for their end, and its on_init may run even now.
        """
        if name in self.calls.failures and not self.inits.is_under_way(name):
            strategy = self.engine.strategies[name]
            self._replace(strategy, self._made_anew(strategy, strategy.vt_symbol))
        return self.inits.begin(name)

    def start(self, name: str) -> None:
        """Let it trade. Raises NotFound, Conflict (not initialised, trades already, on_start raised)."""
        strategy = self.strategy(name)
        if failure := self.calls.failures.get(name):
            raise Conflict(f"strategy {name} has failed and must be initialised again: {failure}", state="FAILED")
        if not strategy.inited:
            raise Conflict(f"strategy {name} is not initialised")
        if strategy.trading:
            raise Conflict(f"strategy {name} trades already")
        self.calls.clearing.discard(name)
        self.memory.restore_stops(name)
        self.engine.start_strategy(name)
        if failure := self.calls.failures.get(name):
            raise Conflict(f"strategy {name}: on_start failed: {failure}", state="FAILED")

    def stop(self, name: str) -> None:
        """Let it trade no more. Raises NotFound, Conflict (on_stop raised; it is stopped all the same)."""
        strategy = self.strategy(name)
        if not strategy.trading:
            return
        self.calls.clearing.add(name)
        try:
            self.engine.stop_strategy(name)
        except Exception:  # noqa: BLE001 - a guarded door: a gateway that cannot cancel must not keep it trading
            _log.exception("a strategy did not stop well", strategy_name=name)
            self.calls.cancel_orders(strategy)
            self.engine.sync_strategy_data(strategy)
            self.shown.show(name)
        if failure := self.calls.failures.get(name):
            raise Conflict(f"strategy {name}: on_stop failed: {failure}", state="FAILED")

    def stop_all(self) -> None:
        """Stop every strategy that trades; each asks for the end of its orders."""
        for name in list(self.engine.strategies):
            try:
                self.stop(name)
            except CoreError as error:
                _log.error("a strategy did not stop well", strategy_name=name, detail=error.detail)

    def put_away(self, name: str, reason: str) -> None:
        """End a strategy whose callback hung: it may have returned by itself, and must not go on."""
        if (strategy := self.engine.strategies.get(name)) is not None:
            self.calls.fail(strategy, DidNotReturn(reason))

    def edit(self, name: str, setting: Mapping[str, Any]) -> None:
        """Set its parameters. Raises NotFound, Conflict (initialising), ValidationFailed (it does not take them)."""
        strategy = self.strategy(name)
        self._refuse_initialising(name)
        before = {parameter: getattr(strategy, parameter) for parameter in strategy.parameters}
        kept = self.engine.strategy_setting[name]["setting"]
        try:
            self.engine.edit_strategy(name, dict(setting))
        except BaseException as error:  # also sys.exit() in its own update_setting
            for parameter, value in before.items():
                setattr(strategy, parameter, value)
            self.engine.update_strategy_setting(name, kept)  # CtaEngine saves it before the last thing that may raise
            raise ValidationFailed(f"strategy {name} does not take this: {describe(error)}") from error

    def remove(self, name: str) -> None:
        """Forget it. Raises NotFound, Conflict (it trades, or is initialising)."""
        if self.shown.absent.pop(name, None) is not None:
            self.engine.remove_strategy_setting(name)
            self.memory.forget(name)
            return
        strategy = self.strategy(name)
        self._refuse_busy(strategy)
        self.calls.cancel_orders(strategy)  # CtaEngine would trigger the stop orders of nobody
        self.engine.remove_strategy(name)
        self._hand_orders_over(strategy, None)
        self.calls.drop(strategy)
        self.memory.forget(name)
        self.shown.forget(name)

    def move(self, name: str, vt_symbol: str) -> None:
        """Make it anew for another contract. Raises NotFound, Conflict, ValidationFailed."""
        strategy = self.strategy(name)
        self._refuse_busy(strategy)
        moved = self._made_anew(strategy, vt_symbol)
        if strategy.inited:
            self.engine.sync_strategy_data(strategy)
        # Stop orders of before this start are about the old contract.
        self.memory.restore_stops(name)
        self.calls.cancel_orders(strategy)
        self._replace(strategy, moved)
        self.engine.update_strategy_setting(name, self.engine.strategy_setting[name]["setting"])

    def _make(self, class_name: str, name: str, vt_symbol: str, setting: dict[str, Any]) -> str:
        """Make a strategy; gives the reason where that fails, and then nothing of it is left or saved."""
        save = self.engine.update_strategy_setting
        # CtaEngine saves it before it is whole.
        self.engine.update_strategy_setting = lambda other, *rest: None if other == name else save(other, *rest)
        try:
            with self._guard.capture_logs() as lines:
                self.classes.type_of(class_name)
                type(self.engine).add_strategy(self.engine, class_name, name, vt_symbol, setting)
        except BaseException as error:  # noqa: BLE001 - a guarded door: a strategy's class may raise anything
            self._unmake(name)
            return describe(error)
        finally:
            self.engine.update_strategy_setting = save
        if name not in self.engine.strategies:
            return "; ".join(lines) or "CtaEngine did not add it"
        self.engine.update_strategy_setting(name, setting)
        return ""

    def _made_anew(self, strategy: Any, vt_symbol: str) -> Any:
        """Another one of its name, class and parameters. Raises ValidationFailed."""
        try:
            other = type(strategy)(self.engine, strategy.strategy_name, vt_symbol, strategy.get_parameters())
            other.get_data()
        except BaseException as error:
            raise ValidationFailed(f"strategy {strategy.strategy_name}: {describe(error)}") from error
        return other

    def _replace(self, strategy: Any, other: Any) -> None:
        self.calls.drop(strategy)
        self.engine.strategies[strategy.strategy_name] = other
        self._unlist(strategy)
        self.engine.symbol_strategy_map[other.vt_symbol].append(other)
        self._hand_orders_over(strategy, other)

    def _make_remembered(self, class_name: str, name: str, vt_symbol: str, setting: dict[str, Any]) -> None:
        """`add_strategy` for VnPy's own file, where one that raises would keep out all others and CtaEngine itself."""
        self.shown.absent.pop(name, None)
        if reason := self._make(class_name, name, vt_symbol, setting):
            self.shown.absent[name] = reason
            _log.error("a strategy could not be made", strategy_name=name, detail=reason)

    def _unmake(self, name: str) -> None:
        """Take out what `add_strategy` left of a strategy when it raised."""
        if (strategy := self.engine.strategies.pop(name, None)) is not None:
            self._unlist(strategy)

    def _unlist(self, strategy: Any) -> None:
        listed = self.engine.symbol_strategy_map
        listed[strategy.vt_symbol] = [other for other in listed[strategy.vt_symbol] if other is not strategy]

    def _hand_orders_over(self, strategy: Any, successor: Any) -> None:
        """CtaEngine keeps ended orders too, and would tell a strategy that is gone of their late fills."""
        owners = self.engine.orderid_strategy_map
        for vt_orderid in [vt_orderid for vt_orderid, owner in list(owners.items()) if owner is strategy]:
            if successor is None:
                del owners[vt_orderid]
            else:
                owners[vt_orderid] = successor

    def _refuse_initialising(self, name: str) -> None:
        if self.inits.is_under_way(name):
            raise Conflict(f"strategy {name} is being initialised")

    def _refuse_busy(self, strategy: Any) -> None:
        self._refuse_initialising(strategy.strategy_name)
        if strategy.trading:
            raise Conflict(f"strategy {strategy.strategy_name} trades; stop it first")

    # --- in CtaEngine's place ---

    def _start_strategy(self, name: str) -> None:
        """`CtaEngine.start_strategy`, which calls a strategy trading also where its on_start raised."""
        try:
            type(self.engine).start_strategy(self.engine, name)
        finally:  # it raises where a strategy cannot be shown, and calls it trading before
            strategy = self.engine.strategies[name]
            if name in self.calls.failures:
                strategy.trading = False
                self.shown.show(name)
            elif strategy.trading:
                self.calls.started.add(name)

    def _write_log(self, msg: str, strategy: Any = None) -> None:
        """`CtaEngine.write_log`, which says whose line it is in the text only. Any thread."""
        log = LogData(gateway_name=APP_NAME, msg=f"[{strategy.strategy_name}]  {msg}" if strategy else msg)
        if strategy:
            log.extra = {"strategy_name": strategy.strategy_name}
        self._event_engine.put(Event(EVENT_CTA_LOG, log))

    def tell(self, name: str, text: str) -> None:
        """A line in the log of a strategy, where it is there. Any thread."""
        if (strategy := self.engine.strategies.get(name)) is not None:
            self._write_log(text, strategy)

    def _send_email(self, subject: str, content: str, receiver: str | None = None) -> None:
        mails.send(self._main_engine, subject, content)

    # --- events ---

    def _on_failed(self, name: str) -> None:
        self.shown.show(name)
        self._tell_failed(name)

    def _on_log(self, event: Event) -> None:
        log = translate.strategy_log(event.data)
        self._emit(topics.STRATEGY_LOG, log.source, log)

    def _on_order(self, event: Event) -> None:
        # An order sent in the very callback that raised was not in the OMS yet when the others were cancelled.
        if not self.calls.clearing:
            return
        order = event.data
        strategy = self.engine.orderid_strategy_map.get(order.vt_orderid)
        if strategy is not None and strategy.strategy_name in self.calls.clearing and order.is_active():
            self._main_engine.cancel_order(order.create_cancel_request(), order.gateway_name)

    def _on_stop_order(self, event: Event) -> None:
        update = translate.stop_order(event.data)
        self._emit(topics.STOP_ORDER_UPDATED, update.stop_orderid, update)


def _files_of(type_: type) -> set[str]:
    """Where a strategy's methods were compiled from, its bases' too, VnPy's templates aside."""
    own = [cls for cls in type_.__mro__ if issubclass(cls, CtaTemplate) and cls not in _TEMPLATES]
    functions = [value for cls in own for value in vars(cls).values() if isinstance(value, FunctionType)]
    return {function.__code__.co_filename for function in functions}
