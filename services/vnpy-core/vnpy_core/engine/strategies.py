"""The strategies of one host: what is done with them at its start, and the features' door to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import structlog
from msgspec.structs import replace
from vnpy.trader.engine import MainEngine

from vnpy_core.bus import topics
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.books import Books
from vnpy_core.domain.enums import StrategyState
from vnpy_core.domain.errors import Conflict, CoreError, describe
from vnpy_core.domain.events import (
    Order,
    OrderIntent,
    StopOrderUpdate,
    StrategyData,
    StrategySetting,
    StrategyUpdate,
    Trade,
)
from vnpy_core.domain.strategies import LoadError, Reloaded, StrategyClass
from vnpy_core.engine.apps.cta import CtaFacade
from vnpy_core.engine.bridge import EventBridge
from vnpy_core.engine.commands import CommandDoor
from vnpy_core.engine.event_engine import EventGuard
from vnpy_core.engine.last_resort import LastResort
from vnpy_core.engine.quarantine import Entry, Quarantine
from vnpy_core.engine.settings import EngineSettings, StrategySettings
from vnpy_core.engine.stage import STALL_S, Stage
from vnpy_core.kit.tasks import BackgroundTasks, in_own_thread
from vnpy_core.ports.clock import Clock

APP = "CtaStrategy"
LAST_ROWS = 10
"""Journal rows before the end in which the order of a stop order that was just triggered is looked for."""
LOOK_AGAIN_S = 0.5
"""Between two looks at the orders that a strategy left behind."""
LOOKS = 4
LONG_S = 30.0
"""For commands to the event thread that do much."""
BY_CONFIGURATION = "service.toml"

_log = structlog.get_logger(__name__)


class StrategyHost:
    """Implements `ports.strategies.StrategyEngine`. Loop thread only, but for `init_engine`."""

    def __init__(
        self,
        configured: Mapping[str, StrategySettings],
        settings: EngineSettings,
        *,
        main_engine: MainEngine,
        guard: EventGuard,
        commands: CommandDoor,
        bridge: EventBridge,
        stage: Stage,
        view: ReadView,
        clock: Clock,
        quarantine: Quarantine,
        tasks: BackgroundTasks,
        last_resort: LastResort | None,
        first_seq: int,
        is_tradable: Callable[[str], bool],
        cancel: Callable[[Order], Awaitable[bool]],
    ) -> None:
        """`first_seq`: the journal's last number before this start; `is_tradable(vt_symbol)`: a reconciled gateway
        offers it; `cancel(order)` asks for an order's end in whatever way there is.
        """
        self.cta: CtaFacade | None = None
        self._configured = configured
        self._settings = settings
        self._main_engine = main_engine
        self._guard = guard
        self._commands = commands
        self._bridge = bridge
        self._stage = stage
        self._view = view
        self._clock = clock
        self._quarantine = quarantine
        self._tasks = tasks
        self._last_resort = last_resort
        self._first_seq = first_seq
        self._is_tradable = is_tradable
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._reloading = asyncio.Lock()
        self._refusal = "the CtaStrategy app is not loaded"
        self._has_begun = self._is_stopping = False
        self._waiting: dict[str, str] = {}
        """Strategies to bring up -> the contracts that they wait for."""
        self._told: set[str] = set()
        """Those of them whose waiting was told."""

    # --- ports.strategies.StrategyEngine ---

    def classes(self) -> list[StrategyClass]:
        """See `ports.strategies.StrategyEngine`."""
        return self._working().classes.all()

    def load_errors(self) -> list[LoadError]:
        """See `ports.strategies.StrategyEngine`."""
        return self._working().classes.errors()

    async def reload(self) -> Reloaded:
        """See `ports.strategies.StrategyEngine`."""
        cta = self._working()
        async with self._reloading:
            loaded = await in_own_thread(cta.classes.load)
            await self._commands.run(partial(self._make_absent, cta), deadline_s=LONG_S)
            kept = [update.strategy_name for update in self.strategies() if update.class_is_old]
            await self._commands.run(cta.shown.show_all, deadline_s=LONG_S)
        return replace(loaded, kept=kept)

    def strategies(self) -> list[StrategyUpdate]:
        """See `ports.strategies.StrategyEngine`."""
        cta = self._working()
        self._read_quarantine(cta)
        return [cta.shown.update(name) for name in cta.shown.names()]

    def strategy(self, name: str) -> StrategyUpdate:
        """See `ports.strategies.StrategyEngine`."""
        cta = self._working()
        self._read_quarantine(cta)
        return cta.shown.update(name)

    def stop_orders(self) -> list[StopOrderUpdate]:
        """See `ports.strategies.StrategyEngine`."""
        self._working()
        return sorted((s for s in self._view.stop_orders.values() if s.status == "WAITING"), key=_number_of)

    async def add(
        self,
        class_name: str,
        strategy_name: str,
        vt_symbol: str,
        setting: Mapping[str, Any],
        *,
        auto_start: bool,
        by: str,
    ) -> StrategyUpdate:
        """See `ports.strategies.StrategyEngine`."""
        cta = self._working()
        await self._add(cta, class_name, strategy_name, vt_symbol, setting, auto_start=auto_start, by=by)
        await self._durable()
        return self.strategy(strategy_name)

    async def init(self, name: str, *, wait_s: float = 0.0) -> StrategyUpdate:
        """See `ports.strategies.StrategyEngine`."""
        return await self._init(name, wait_s)

    async def start(self, name: str) -> StrategyUpdate:
        """See `ports.strategies.StrategyEngine`."""
        cta = self._working()
        self._refuse_held(cta, name)
        await self._commands.run(lambda: cta.start(name))
        return self.strategy(name)

    async def stop(self, name: str) -> StrategyUpdate:
        """See `ports.strategies.StrategyEngine`."""
        cta = self._working()
        self._waiting.pop(name, None)
        was_trading = bool(cta.strategy(name).trading)
        try:
            await self._commands.run(lambda: cta.stop(name))
        finally:
            if was_trading:
                self._look_after(name)
        return self.strategy(name)

    async def edit(self, name: str, setting: Mapping[str, Any], *, by: str) -> StrategyUpdate:
        """See `ports.strategies.StrategyEngine`."""
        cta = self._working()

        def change() -> None:
            cta.edit(name, setting)
            self._keep_changed(cta, name, by, setting=dict(setting))

        await self._commands.run(change)
        await self._durable()
        return self.strategy(name)

    async def set_auto_start(self, name: str, auto_start: bool, *, by: str) -> StrategyUpdate:
        """See `ports.strategies.StrategyEngine`."""
        cta = self._working()
        cta.shown.update(name)
        if not auto_start:
            self._waiting.pop(name, None)

        def change() -> None:
            self._keep_changed(cta, name, by, auto_start=auto_start, configured=False)
            cta.shown.show(name)

        await self._commands.run(change)
        await self._durable()
        return self.strategy(name)

    async def remove(self, name: str, *, by: str) -> None:
        """See `ports.strategies.StrategyEngine`."""
        cta = self._working()
        gone = cta.shown.update(name)

        def change() -> None:
            kept = self._kept(cta, name)
            cta.remove(name)
            cta.memory.keep_setting(replace(kept, removed=True, by=by, at=self._clock.now()))

        await self._commands.run(change)
        self._waiting.pop(name, None)
        await self._durable()
        await self._bridge.flush()
        self._view.forget(gone)

    async def move(self, name: str, vt_symbol: str, *, by: str) -> StrategyUpdate:
        """See `ports.strategies.StrategyEngine`."""
        cta = self._working()
        cta.strategy(name)
        self._refuse_waiting_for_orders(cta, name)

        def change() -> None:
            cta.move(name, vt_symbol)
            self._keep_changed(cta, name, by)
            cta.shown.show(name)

        await self._commands.run(change)
        await self._durable()
        return self.strategy(name)

    # --- for the host: start and stop ---

    def install(self) -> Callable[[], None] | None:
        """Take hold of CtaEngine as soon as it is there; returns the way back, once."""
        if self.cta is not None or APP not in self._main_engine.engines:
            return None
        self.cta = CtaFacade(
            self._main_engine,
            self._main_engine.event_engine,
            self._guard,
            self._settings,
            emit=self._bridge.emit,
            record=self._stage.record,
            clock=self._clock,
            quarantine=self._quarantine,
            on_failed=self._on_failed,
        )
        self.cta.install()
        return self.cta.uninstall

    def init_engine(self) -> None:
        """Decide between the journal and VnPy's files, and load both classes and strategies. Blocks; any thread."""
        assert self.cta is not None
        settings, data = self._stage.inspect(_strategies_in)
        self.cta.memory.resolve(settings, data)
        self.cta.init_engine()

    async def begin(self, state: str, *, attached: bool) -> None:
        """Take up what was before this start. `state`: "loaded", or why the app is not.

        Not with an app that failed half way: CtaEngine would forget positions, and write over what it did not read.
        """
        if self._has_begun:
            return
        if self.cta is None or state != "loaded":
            self._refusal = ": ".join(filter(None, ("the CtaStrategy app is not loaded", state)))
            for name in self._configured:
                _log.error("a strategy could not be added", strategy_name=name, detail=self._refusal)
            return
        cta = self.cta
        self._refusal, self._has_begun = "", True
        if attached:
            await self._commands.run(partial(self._take_in, cta), deadline_s=LONG_S)
        await self._add_configured(cta)
        self._judge_last_words(cta)
        self._read_quarantine(cta)
        await self._restore(cta)
        known = cta.shown.names()
        for name in dict.fromkeys((*self._configured, *known)):  # in service.toml's order
            if name in known:
                self._look_at_start(cta, name)

    async def adopt(self, state: str) -> None:
        """A running engine may get the app, and strategies, after we attached to it."""
        if self.cta is None or state != "loaded":
            return
        await self.begin(state, attached=True)
        if any(self.cta.memory.setting(name) is None for name in list(self.cta.engine.strategies)):
            await self._commands.run(partial(self._take_in, self.cta), deadline_s=LONG_S)

    def on_contract(self, vt_symbol: str) -> None:
        """A connected gateway offers it."""
        if vt_symbol in self._waiting.values():
            self._tasks.spawn(self.start_waiting(), "start strategies")

    async def start_waiting(self) -> None:
        """Bring up the strategies whose contract is there by now, one after another."""
        for name, vt_symbol in list(self._waiting.items()):
            # Another one of us may have it.
            if self._is_tradable(vt_symbol) and self._waiting.pop(name, None) is not None:
                await self._bring_up(name)
        for name, vt_symbol in self._waiting.items():
            if name not in self._told:
                self._told.add(name)
                _log.warning(
                    "a strategy waits for its contract and its gateway's reconciliation",
                    strategy_name=name,
                    vt_symbol=vt_symbol,
                )

    def tell(self, name: str, text: str) -> None:
        """A line in the log of a strategy, where it is there. Any thread."""
        if self.cta is not None:
            self.cta.tell(name, text)

    async def put_away(self, name: str) -> None:
        """End a strategy whose callback hung, once the event thread is back (60 s at most)."""
        if (cta := self.cta) is not None:
            words = "a callback did not return in time"
            await self._commands.run(lambda: cta.put_away(name, words), deadline_s=60)

    async def stop_all(self) -> None:
        """Stop every strategy that trades; each asks for the end of its orders. The service ends."""
        self._is_stopping = True
        if self.cta is not None:
            await self._commands.run(self.cta.stop_all, deadline_s=5)

    # --- inside ---

    def _working(self) -> CtaFacade:
        if self._refusal or self.cta is None:
            raise Conflict(self._refusal)
        return self.cta

    async def _durable(self) -> None:
        """Until the journal has what was just kept; where it is slow it has it later."""
        try:
            await asyncio.wait_for(asyncio.wrap_future(self._stage.barrier()), STALL_S)
        except TimeoutError:
            _log.warning("the journal is slow; a strategy's change is written later")

    async def _add(
        self,
        cta: CtaFacade,
        class_name: str,
        name: str,
        vt_symbol: str,
        setting: Mapping[str, Any],
        *,
        auto_start: bool,
        by: str,
        configured: bool = False,
    ) -> None:
        def make() -> None:
            cta.add(class_name, name, vt_symbol, setting)
            cta.memory.keep_setting(cta.setting_of(name, auto_start=auto_start, configured=configured, by=by))
            cta.shown.show(name)

        await self._commands.run(make)

    def _kept(self, cta: CtaFacade, name: str) -> StrategySetting:
        kept = cta.memory.setting(name)
        return cta.setting_of(name, auto_start=False, configured=False, by="") if kept is None else kept

    def _keep_changed(self, cta: CtaFacade, name: str, by: str, **changes: Any) -> None:
        cta.memory.keep_setting(replace(self._kept(cta, name), by=by, at=self._clock.now(), **changes))

    async def _init(self, name: str, wait_s: float | None) -> StrategyUpdate:
        cta = self._working()
        strategy = cta.strategy(name)
        self._refuse_held(cta, name)
        if strategy.inited:
            raise Conflict(f"strategy {name} is initialised already")
        if not self._view.contracts.get(strategy.vt_symbol):
            raise Conflict(f"strategy {name} needs {strategy.vt_symbol}, which no connected gateway offers yet")
        ended = await self._commands.run(lambda: cta.init(name))
        await asyncio.wait({asyncio.wrap_future(ended)}, timeout=wait_s)
        update = self.strategy(name)
        if update.state is StrategyState.FAILED:
            raise Conflict(f"strategy {name}: on_init failed: {update.error}", state=update.state)
        return update

    def _refuse_held(self, cta: CtaFacade, name: str) -> None:
        cta.strategy(name)
        if self._quarantine.entry(name) is None:
            return
        self._read_quarantine(cta)
        words = (
            f"strategy {name} is {cta.shown.held.get(name)}; `vnpy-core quarantine release {name}` lets it run again"
        )
        raise Conflict(words, state=StrategyState.FAILED)

    def _read_quarantine(self, cta: CtaFacade) -> None:
        """Another process may release what we hold."""
        try:
            entries = self._quarantine.entries()
        except (CoreError, OSError) as error:
            _log.error("the quarantine cannot be read", detail=describe(error))
            return
        cta.shown.held = {
            name: f"in quarantine since {entry.at:%Y-%m-%d %H:%M:%S} UTC: {entry.reason}"
            for name, entry in entries.items()
        }

    def _refuse_waiting_for_orders(self, cta: CtaFacade, name: str) -> None:
        active = {order.vt_orderid for order in self._view.active_orders.values() if order.strategy_name == name}
        if waiting := active | set(cta.engine.strategy_orderid_map.get(name, ())):
            raise Conflict(f"strategy {name} waits for orders: {', '.join(sorted(waiting))}")

    def _end_stops(self, stops: list[StopOrderUpdate]) -> None:
        """Or the next start, which looks at other rows, would put them back into force."""
        for stop in stops:
            ended = replace(stop, status="CANCELLED")
            self._stage.record(topics.STOP_ORDER_UPDATED, stop.stop_orderid, ended)
            self._bridge.emit(topics.STOP_ORDER_UPDATED, stop.stop_orderid, ended)

    # --- orders that a strategy left behind ---

    def _on_failed(self, name: str) -> None:
        """Any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._look_after, name)

    def _look_after(self, name: str) -> None:
        if not self._is_stopping:
            self._tasks.spawn(self._clear_orders(name), f"clear the orders of {name}")

    async def _clear_orders(self, name: str) -> None:
        """They were asked to cancel; an order that was on its way out then may not have heard it.

        Only those that were there then: what a person or a rollover sends for the strategy afterwards is wanted.
        """
        cta = self.cta
        assert cta is not None
        theirs = cta.engine.strategy_orderid_map
        left = set(theirs.get(name, ()))
        try:
            for looks_left in reversed(range(LOOKS)):
                await asyncio.sleep(LOOK_AGAIN_S)
                strategy = cta.engine.strategies.get(name)
                left &= theirs.get(name, set())
                if not left or strategy is None or strategy.trading:
                    return
                if looks_left:
                    await self._commands.run(partial(cta.calls.cancel, strategy, sorted(left)))
        finally:
            cta.calls.clearing.discard(name)
        _log.error(
            "orders of a strategy that does not trade are still active", strategy_name=name, vt_orderids=sorted(left)
        )

    async def _cancel_if_held(self, name: str) -> None:
        """A strategy in quarantine has nobody who looks after the orders that it left behind."""
        if self._quarantine.entry(name) is None:
            return
        left = [order for order in self._view.active_orders.values() if order.strategy_name == name]
        await asyncio.gather(*(self._cancel(order) for order in left))

    # --- at a start ---

    def _make_absent(self, cta: CtaFacade) -> None:
        """Those that are there now were not when the others were given their orders and fills. Event thread."""
        absent = set(cta.shown.absent)
        cta.make_absent()
        for name in sorted(absent & cta.engine.strategies.keys()):
            orders, trades = self._stage.inspect(lambda books: (_orders_by_their_ids(books), _trades(books)))
            cta.memory.take_up(name, orders, trades)

    def _take_in(self, cta: CtaFacade) -> None:
        """Strategies of an engine that ran before us are kept as its own files have them. Event thread."""
        settings, _ = self._stage.inspect(_strategies_in)
        for name in list(cta.engine.strategies):
            if cta.memory.setting(name) is not None or name not in cta.engine.strategy_setting:
                continue
            former = settings.get(name)
            auto_start = former is not None and not former.removed and former.auto_start
            configured = former is None or former.removed or former.configured
            cta.memory.keep_setting(cta.setting_of(name, auto_start=auto_start, configured=configured, by="host"))

    async def _add_configured(self, cta: CtaFacade) -> None:
        """Those of service.toml which nobody knows; of the others its `auto_start`, unless somebody has set that."""
        removed = {name for name, kept in self._stage.inspect(_strategies_in)[0].items() if kept.removed}
        for name, settings in self._configured.items():
            if cta.memory.setting(name) is not None:
                continue
            if name in removed and name not in cta.engine.strategies:
                _log.warning(
                    "a strategy of service.toml was removed and is not added again; POST /strategies brings it back",
                    strategy_name=name,
                )
                continue
            await self._add_from_configuration(cta, name, settings)
        for name in cta.shown.names():
            kept = cta.memory.setting(name)
            auto_start = name in self._configured and self._configured[name].auto_start
            if kept is not None and kept.configured and kept.auto_start is not auto_start:
                changes = partial(self._keep_changed, cta, name, BY_CONFIGURATION, auto_start=auto_start)
                await self._commands.run(changes)

    async def _add_from_configuration(self, cta: CtaFacade, name: str, settings: StrategySettings) -> None:
        try:
            await self._add(
                cta,
                settings.class_name,
                name,
                settings.vt_symbol,
                settings.setting,
                auto_start=settings.auto_start,
                by=BY_CONFIGURATION,
                configured=True,
            )
        except CoreError as error:
            _log.error("a strategy could not be added", strategy_name=name, detail=error.detail)

    def _look_at_start(self, cta: CtaFacade, name: str) -> None:
        update, settings = cta.shown.update(name), self._configured.get(name)
        if update.state is StrategyState.FAILED:
            cta.shown.show(name)
        if name not in cta.shown.absent and (update.auto_start or (settings is not None and settings.auto_init)):
            self._waiting[name] = update.vt_symbol

    async def _bring_up(self, name: str) -> None:
        cta = self._working()
        try:
            if not cta.strategy(name).inited:
                await self._init(name, None)
            if self.strategy(name).auto_start and not cta.strategy(name).trading:
                await self.start(name)
        except Exception as error:  # noqa: BLE001 - a guarded door: one that cannot start must not keep the next ones back
            _log.error("a strategy could not be started", strategy_name=name, detail=describe(error))
        await self._cancel_if_held(name)

    def _judge_last_words(self, cta: CtaFacade) -> None:
        """An earlier process stood still and was ended: the strategies whose code was running then must not run."""
        if self._last_resort is None or not (words := self._last_resort.last_words):
            return
        held = cta.running_in(words)
        _log.critical("an earlier process stood still and was ended", quarantined=held, stack=words)
        for name in held:
            entry = Entry(reason="the process stood still in its code", at=self._clock.now(), stack=words)
            self._quarantine.add(name, entry)
        self._last_resort.forget()

    async def _restore(self, cta: CtaFacade) -> None:
        """Give CtaEngine back what it keeps in memory only: whose orders are whose, and which fills were counted."""
        memory = cta.memory
        self._stage.sequencer.bound = memory.attribute
        highest_stop = self._stage.inspect(lambda books: books.highest_stop)
        orders = self._stage.inspect(_orders_by_their_ids)
        trades = self._stage.inspect(_trades)
        stops, sent = self._stage.inspect(lambda books: _waiting_stops(books, self._first_seq))
        for stop in sent:
            _log.error(
                "a stop order is not put back into force: its order seems to have been sent as the process ended",
                strategy_name=stop.strategy_name,
                stop_orderid=stop.stop_orderid,
            )
        self._end_stops(sent)
        await self._commands.run(lambda: memory.restore(orders, trades, stops, highest_stop), deadline_s=LONG_S)


def _strategies_in(books: Books) -> tuple[dict[str, StrategySetting], dict[str, StrategyData]]:
    settings = {name: kept.event for name, kept in books.strategy_settings.items()}
    data = {name: kept.event for name, kept in books.strategy_data.items()}
    return (
        {name: event for name, event in settings.items() if isinstance(event, StrategySetting)},
        {name: event for name, event in data.items() if isinstance(event, StrategyData)},
    )


def _trades(books: Books) -> list[Trade]:
    return [kept.event for kept in books.trades.values() if isinstance(kept.event, Trade)]


def _orders_by_their_ids(books: Books) -> list[Order]:
    """Without those whose venue has given their id to another one since."""
    orders = ((uid, kept.event) for uid, kept in books.orders.items())
    return [order for uid, order in orders if isinstance(order, Order) and books.uid(order.vt_orderid) == uid]


def _waiting_stops(books: Books, last_seq: int) -> tuple[list[StopOrderUpdate], list[StopOrderUpdate]]:
    """Local stop orders that wait, and those whose order was meant to be sent among the last rows before `last_seq`.

    A stop order is TRIGGERED in the journal only after its order was sent: a kill between the two would send it twice.
    """
    late = {
        (record.intent.strategy_name, record.intent.vt_symbol, record.intent.direction, record.intent.volume)
        for record in books.intents.values()
        if isinstance(record.intent, OrderIntent) and last_seq - LAST_ROWS < record.kept.seq <= last_seq
    }
    waiting: list[StopOrderUpdate] = []
    sent: list[StopOrderUpdate] = []
    for kept in books.stop_orders.values():
        if isinstance(stop := kept.event, StopOrderUpdate):
            is_sent = (stop.strategy_name, stop.vt_symbol, stop.direction, stop.volume) in late
            (sent if is_sent else waiting).append(stop)
    return waiting, sent


def _number_of(stop: StopOrderUpdate) -> tuple[int, str]:
    """CtaEngine counts them up."""
    number = stop.stop_orderid.rpartition(".")[2]
    return (int(number) if number.isdigit() else 0, stop.stop_orderid)
