"""The callbacks of CTA strategies: one that raises ends its strategy, and nothing else.

CtaEngine only logs what a callback raised, leaves the strategy's orders in the market and tells nobody.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from logging import ERROR
from threading import get_ident
from typing import Any

import structlog
from vnpy.event import Event, EventEngine
from vnpy.trader.object import LogData
from vnpy_ctastrategy import CtaTemplate
from vnpy_ctastrategy.base import APP_NAME, EVENT_CTA_LOG

from vnpy_core.domain.errors import describe
from vnpy_core.engine import translate
from vnpy_core.engine.event_engine import EventGuard

EVENT_FAILED = "eCoreStrategyFailed"
"""A strategy has failed on another thread: its orders are to be cancelled on the event thread."""
LAST_LINES = 3
"""Entries of a traceback that are shown."""
LONGEST = 2_000
"""Characters of them that are shown."""

_log = structlog.get_logger(__name__)


class CtaCalls:
    """One CtaEngine's calls of its strategies, and what became of those that raised."""

    def __init__(
        self,
        engine: Any,
        event_engine: EventEngine,
        guard: EventGuard,
        *,
        may_call: Callable[[Any, Callable[..., Any]], bool],
        on_failed: Callable[[str], None],
    ) -> None:
        """`may_call` is asked before a callback of a strategy that is not initialised; `on_failed` hears of each that
        has just failed. Both on the thread that ran its code.
        """
        self.failures: dict[str, str] = {}
        """strategy_name -> the last lines of what a callback raised."""
        self.started: set[str] = set()
        """Strategies that have traded since they were initialised."""
        self.clearing: set[str] = set()
        """Strategies that have just failed or stopped: orders of theirs that show up now are cancelled too."""
        self._engine = engine
        self._event_engine = event_engine
        self._guard = guard
        self._event_thread = event_engine._thread.ident
        self._run = guard.callbacks.run
        self._may_call = may_call
        self._on_failed = on_failed
        self._silenced: dict[str, list[tuple[str, Callable[[Event], None]]]] = {}
        """strategy_name -> handlers of a failed strategy's own, which hear again when it is initialised anew."""

    def call(self, strategy: Any, function: Callable[..., Any], params: Any = None) -> None:
        """`CtaEngine.call_strategy_func`: on the event thread for each tick of each strategy, elsewhere rarely."""
        if not strategy.inited and not self._may_call(strategy, function):
            return
        try:
            # On the event thread a call of its own within the handler's: the watchdog ends this strategy's, and the
            # next one gets its tick.
            if get_ident() != self._event_thread:
                _call(function, params)
            elif params:
                self._run(function, params)
            else:
                self._run(lambda _: function(), None)
        except BaseException as error:  # noqa: BLE001 - a guarded door: sys.exit() in a callback must end its strategy only
            self.fail(strategy, error)

    def handler_failed(self, handler: Callable[..., Any], error: BaseException) -> None:
        """A handler of the event engine raised: one that a strategy registered by itself is a callback like others."""
        owner = getattr(handler, "__self__", None)
        if isinstance(owner, CtaTemplate) and self._engine.strategies.get(owner.strategy_name) is owner:
            self.fail(owner, error)

    def fail(self, strategy: Any, error: BaseException) -> None:
        """End a strategy: it gets no event any more and its orders are asked to cancel. Any thread but the loop."""
        strategy.trading = strategy.inited = False
        name = strategy.strategy_name
        if name in self.failures:
            return
        self.failures[name] = _last_lines(error)
        _log.error("strategy failed and is stopped", strategy_name=name, exc_info=error)
        self._silence(strategy)
        self.clearing.add(name)
        if self._guard.on_event_thread:
            self.cancel_orders(strategy)
        else:
            self._event_engine.put(Event(EVENT_FAILED, strategy))
        self._say(name)
        self._on_failed(name)

    def cancel_orders(self, strategy: Any) -> None:
        """Ask for the end of a strategy's orders and local stop orders. Event thread."""
        self.cancel(strategy, list(self._engine.strategy_orderid_map.get(strategy.strategy_name, ())))

    def cancel(self, strategy: Any, vt_orderids: Iterable[str]) -> None:
        """Ask for the end of some of them. Event thread."""
        for vt_orderid in vt_orderids:
            try:
                self._engine.cancel_order(strategy, vt_orderid)
            except Exception as error:  # noqa: BLE001 - a guarded door: one that cannot be cancelled must not keep the others in
                _log.error("an order could not be cancelled", vt_orderid=vt_orderid, detail=describe(error))

    def begin_anew(self, strategy: Any) -> None:
        """It is initialised again: its failure is past, and its own handlers hear again."""
        for event_type, handler in self._silenced.pop(strategy.strategy_name, []):
            self._event_engine.register(event_type, handler)
        self._forget(strategy.strategy_name)

    def drop(self, strategy: Any) -> None:
        """It is there no longer."""
        self._silence(strategy)
        self._silenced.pop(strategy.strategy_name, None)
        self._forget(strategy.strategy_name)

    def _forget(self, name: str) -> None:
        self.failures.pop(name, None)
        self.started.discard(name)

    def _silence(self, strategy: Any) -> None:
        """Take out the handlers that a strategy registered by itself."""
        own = [
            (event_type, handler)
            for event_type, handlers in list(self._event_engine._handlers.items())
            for handler in list(handlers)
            if getattr(handler, "__self__", None) is strategy
        ]
        for event_type, handler in own:
            self._event_engine.unregister(event_type, handler)
        self._silenced[strategy.strategy_name] = own

    def _say(self, name: str) -> None:
        log = LogData(gateway_name=APP_NAME, msg=f"[{name}]  failed and is stopped\n{self.failures[name]}", level=ERROR)
        log.extra = {"strategy_name": name}
        self._event_engine.put(Event(EVENT_CTA_LOG, log))


def _call(function: Callable[..., Any], params: Any) -> None:
    """As CtaEngine calls: one argument or none."""
    if params:
        function(params)
    else:
        function()


def _last_lines(error: BaseException) -> str:
    """The end of its traceback, without our own calls that led to it."""
    at = error.__traceback__
    while at is not None and at.tb_frame.f_globals.get("__name__", "").startswith("vnpy_core.engine."):
        at = at.tb_next
    lines = [*traceback.format_tb(at), *traceback.format_exception_only(error)]
    return str(translate.plain("".join(lines[-LAST_LINES:]).strip()[-LONGEST:]))
