"""In the place of CtaEngine's pool of initialisations: one strategy after another, each with a limit."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from vnpy.event import Event, EventEngine
from vnpy.trader.object import SubscribeRequest

from vnpy_core.engine.apps.cta_calls import CtaCalls
from vnpy_core.engine.apps.fresh_imports import Attempt
from vnpy_core.engine.interrupt import CallbackInterrupted
from vnpy_core.engine.quarantine import Entry, Quarantine
from vnpy_core.kit.tasks import Daemons
from vnpy_core.ports.clock import Clock

EVENT_PREPARED = "eCoreStrategyPrepared"
"""An on_init has returned: the strategy gets its saved variables, between two events."""


class DidNotReturn(Exception):
    """A callback was ended at its limit, or left behind."""


class CtaInits:
    """One CtaEngine's. An on_init that does not return within the limit is ended and its strategy held."""

    def __init__(
        self,
        engine: Any,
        main_engine: Any,
        event_engine: EventEngine,
        calls: CtaCalls,
        *,
        limit_s: float,
        clock: Clock,
        quarantine: Quarantine,
        show: Callable[[str], None],
    ) -> None:
        """`show` publishes a strategy. Does nothing before `begin`."""
        self._engine = engine
        self._main_engine = main_engine
        self._event_engine = event_engine
        self._calls = calls
        self._limit_s = limit_s
        self._clock = clock
        self._quarantine = quarantine
        self._show = show
        # The interpreter waits at its end for VnPy's own, for ever where an on_init does not return.
        self._thread = Daemons("cta-init")
        self._under_way: dict[str, Future[None]] = {}
        self._lock = threading.Lock()

    def is_under_way(self, name: str) -> bool:
        """Whether a strategy is being initialised, or waits for those before it. Any thread."""
        return name in self._under_way

    def begin(self, name: str) -> Future[None]:
        """`CtaEngine.init_strategy`: initialise it, anew where it has failed. Any thread.

        Done when that has ended, one way or the other; where it is under way already, with that.
        """
        with self._lock:
            if (under_way := self._under_way.get(name)) is not None:
                return under_way
            strategy = self._engine.strategies[name]
            self._calls.begin_anew(strategy)
            done = self._under_way[name] = Future()
        self._show(name)  # first, so that it is seen before what comes of it
        self._thread.submit(self._initialise, strategy, done)
        return done

    def on_prepared(self, event: Event) -> None:
        """Its saved variables, `pos` among them: no fill may come between reading and setting. Event thread."""
        strategy, settled = event.data
        try:
            saved = self._engine.strategy_data.get(strategy.strategy_name) or {}
            for name in strategy.variables:
                if saved.get(name) is not None:
                    setattr(strategy, name, saved[name])
            # Unless a handler that it registered in its on_init has raised already.
            strategy.inited = strategy.strategy_name not in self._calls.failures
        except BaseException as error:  # noqa: BLE001 - a guarded door: the init thread waits, and says what it was
            settled.set_exception(error)
        else:
            settled.set_result(None)

    def _initialise(self, strategy: Any, done: Future[None]) -> None:
        """The init thread. Raises nothing."""
        name = strategy.strategy_name
        try:
            if not strategy.inited:
                self._engine.write_log("is being initialised", strategy)
                self._prepare(strategy)
                settled: Future[None] = Future()
                self._event_engine.put(Event(EVENT_PREPARED, (strategy, settled)))
                settled.result()
                self._engine.write_log("is initialised", strategy)
        except BaseException as error:  # noqa: BLE001 - a guarded door: those behind it wait for this thread
            self._calls.fail(strategy, error)
        finally:
            with self._lock:
                self._under_way.pop(name, None)
            self._show(name)
            done.set_result(None)

    def _prepare(self, strategy: Any) -> None:
        """Its on_init and its subscription, which are foreign code. Raises what they raise, DidNotReturn."""
        attempt = Attempt(lambda: self._prepare_now(strategy), f"on_init {strategy.strategy_name}")
        is_over = attempt.run(self._limit_s)
        error = attempt.outcome.exception() if is_over else None
        if not is_over or isinstance(error, CallbackInterrupted):
            words = f"on_init did not return within {self._limit_s:g} s"
            stack = "".join(traceback.format_tb(error.__traceback__)) if error else ""
            self._quarantine.add(strategy.strategy_name, Entry(reason=words, at=self._clock.now(), stack=stack))
            raise DidNotReturn(words) from error
        if error is not None:
            raise error

    def _prepare_now(self, strategy: Any) -> None:
        strategy.on_init()
        contract = self._main_engine.get_contract(strategy.vt_symbol)
        if contract is None:
            self._engine.write_log(f"no gateway offers {strategy.vt_symbol}: it gets no ticks", strategy)
            return
        request = SubscribeRequest(symbol=contract.symbol, exchange=contract.exchange)
        self._main_engine.subscribe(request, contract.gateway_name)
