"""The rules of strategies by request: what may be made, set, started and removed, and who did it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from vnpy_core.domain.enums import LogLevel, StrategyState
from vnpy_core.domain.errors import Conflict, CoreError, FieldError, NotFound, OutcomeUnknown, ValidationFailed
from vnpy_core.domain.events import Order, StopOrderUpdate, StrategyUpdate, Trade
from vnpy_core.domain.pnl import Equity, Pnl, Resolution
from vnpy_core.domain.setting_check import check_setting
from vnpy_core.domain.strategies import LoadError, Parameter, Reloaded, StrategyClass
from vnpy_core.features.strategies.logs import StrategyLogLine, StrategyLogs
from vnpy_core.features.strategies.profit import ProfitLedger
from vnpy_core.ports.store import OrderQuery, SeqKey, TradeQuery
from vnpy_core.ports.strategies import StrategyEngine
from vnpy_core.web.audit import AuditTrail

ROUTE_WORDS = frozenset(
    {"all", "classes", "files", "init-all", "rollover", "rollovers", "start-all", "stop-all", "stop-orders"}
)
"""Names that no new strategy may have: they would stand for something else in a path, or, `all`, in a command."""

_log = structlog.get_logger(__name__)

T_co = TypeVar("T_co", covariant=True)


class HistoryPage(Protocol[T_co]):
    """Some orders or trades by `seq`; `next_key` where more follow."""

    @property
    def items(self) -> Sequence[T_co]:
        """What is on it."""
        ...

    @property
    def next_key(self) -> tuple[int, str] | tuple[str, str] | None:
        """The key of the last item."""
        ...

    @property
    def incomplete(self) -> bool:
        """Whether past ones may be missing."""
        ...


class StrategyHistory(Protocol):
    """Orders and trades, of today and before."""

    async def orders(self, wanted: OrderQuery, after: SeqKey, limit: int) -> HistoryPage[Order]:
        """A page of orders by `(seq, vt_orderid)`."""
        ...

    async def trades(self, wanted: TradeQuery, after: SeqKey, limit: int) -> HistoryPage[Trade]:
        """A page of trades by `(seq, vt_tradeid)`."""
        ...


class StrategyFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which strategies: each field that is not None must fit."""

    state: StrategyState | None = None
    class_name: str | None = None
    vt_symbol: str | None = None

    def admits(self, strategy: StrategyUpdate) -> bool:
        """Whether `strategy` is among those asked for."""
        return (
            self.state in (None, strategy.state)
            and self.class_name in (None, strategy.class_name)
            and self.vt_symbol in (None, strategy.vt_symbol)
        )


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one strategy where all were asked; `error` where it could not be done."""

    strategy_name: str
    state: StrategyState
    error: CoreError | None = None


class StrategiesService:
    """Loop thread only. `by` is the name of who asks: every change is put on record with it.

    Every method raises Conflict where the CtaStrategy app is not loaded; a Conflict's `extra` has the `state` of the
    strategy that it is about.
    """

    def __init__(
        self,
        engine: StrategyEngine,
        history: StrategyHistory,
        audit: AuditTrail,
        *,
        logs: StrategyLogs,
        profit: ProfitLedger,
        forget_rollovers: Callable[[str], None] = lambda name: None,
    ) -> None:
        """`forget_rollovers(name)`: what an unfinished one left of a strategy is nobody's now."""
        self._engine = engine
        self._history = history
        self._audit = audit
        self._logs = logs
        self._profit = profit
        self._forget_rollovers = forget_rollovers
        self._editing = asyncio.Lock()

    # Classes

    def classes(self) -> list[StrategyClass]:
        """All that strategies may be made of, by name."""
        return self._engine.classes()

    def class_(self, class_name: str) -> StrategyClass:
        """One of them. Raises NotFound."""
        found = self._find_class(class_name)
        if found is None:
            raise NotFound(f"there is no strategy class {class_name!r}")
        return found

    def load_errors(self) -> list[LoadError]:
        """The files that could not be loaded the last time."""
        return self._engine.load_errors()

    async def reload(self, *, by: str) -> Reloaded:
        """Load all files again. Strategies that exist keep their code."""
        before = self._hashes()
        async with self._unknown_on_record(by, "strategy.reload"):
            reloaded = await self._engine.reload()
        after = self._hashes()
        await self._audit.note(
            by,
            "strategy.reload",
            before=dict(before.items() - after.items()),
            after=dict(after.items() - before.items()) | {"failed": [failed.file for failed in reloaded.failed]},
        )
        return reloaded

    # Reading

    def strategies(self, wanted: StrategyFilter) -> list[StrategyUpdate]:
        """Those that fit, by name."""
        return [strategy for strategy in self._engine.strategies() if wanted.admits(strategy)]

    def strategy(self, name: str) -> StrategyUpdate:
        """One of them. Raises NotFound."""
        return self._engine.strategy(name)

    def stop_orders(self, strategy_name: str | None) -> list[StopOrderUpdate]:
        """Local stop orders that wait, of one strategy or all."""
        return [stop for stop in self._engine.stop_orders() if strategy_name in (None, stop.strategy_name)]

    async def orders(self, name: str, wanted: OrderQuery, after: SeqKey, limit: int) -> HistoryPage[Order]:
        """A page of its orders by `seq`, of today and before. Raises NotFound."""
        self._engine.strategy(name)
        return await self._history.orders(msgspec.structs.replace(wanted, strategy_name=name), after, limit)

    async def trades(self, name: str, wanted: TradeQuery, after: SeqKey, limit: int) -> HistoryPage[Trade]:
        """A page of its fills by `seq`, of today and before. Raises NotFound."""
        self._engine.strategy(name)
        return await self._history.trades(msgspec.structs.replace(wanted, strategy_name=name), after, limit)

    def logs(self, name: str, *, level: LogLevel, before: int | None, limit: int) -> list[StrategyLogLine]:
        """Its newest `limit` lines of at least `level` that are numbered below `before`, in order. Raises NotFound."""
        self._engine.strategy(name)
        return self._logs.newest(name, level=level, before=before, limit=limit)

    async def pnl(self, name: str, start: date | None, end: date | None) -> Pnl:
        """What it has earned, with the days from `start` to `end`, which both count in. Raises NotFound."""
        self._engine.strategy(name)
        return await self._profit.pnl(name, start=_iso(start), end=_iso(end))

    async def equity(self, name: str, resolution: Resolution, start: date | None, end: date | None) -> Equity:
        """How that came, from `start` to `end`, which both count in. Raises NotFound."""
        self._engine.strategy(name)
        return await self._profit.equity(name, resolution, start=_iso(start), end=_iso(end))

    # Making, setting, removing

    async def add(
        self, class_name: str, name: str, vt_symbol: str, setting: Mapping[str, Any], *, auto_start: bool, by: str
    ) -> StrategyUpdate:
        """Make one. Raises NotFound (class), ValidationFailed, Conflict (the name is taken)."""
        if name in ROUTE_WORDS:
            message = f"{name} is a word of the API or of its commands; name it otherwise"
            raise ValidationFailed(message, errors=[FieldError("strategy_name", message)])
        checked = check_setting(self.class_(class_name), setting, partial=False)
        wanted = {"class_name": class_name, "vt_symbol": vt_symbol, "parameters": checked, "auto_start": auto_start}
        async with self._unknown_on_record(by, "strategy.add", name, after=wanted):
            made = await self._engine.add(class_name, name, vt_symbol, checked, auto_start=auto_start, by=by)
        self._profit.forget(name)  # what a former one of this name held, where it went another way or filled late
        self._forget_rollovers(name)
        await self._audit.note(by, "strategy.add", name, after=_what_it_is(made))
        return made

    async def edit(self, name: str, setting: Mapping[str, Any], *, merge: bool, by: str) -> StrategyUpdate:
        """Set its parameters; those not given stay as they are where `merge`, else fall back to their defaults.

        Raises NotFound, ValidationFailed, Conflict (initialising).
        """
        async with self._editing:  # merging reads what another request may be about to write
            before = self._engine.strategy(name)
            class_ = self._class_of(before)
            checked = check_setting(class_, setting, partial=merge)
            wanted = _plain_parameters(before, class_) | checked if merge else checked
            unknown = self._unknown_on_record(by, "strategy.edit", name, before=before.parameters, after=wanted)
            async with self._saying_state(name), unknown:
                after = await self._engine.edit(name, wanted, by=by)
        await self._audit.note(by, "strategy.edit", name, before=before.parameters, after=after.parameters)
        return after

    async def set_auto_start(self, name: str, auto_start: bool, *, by: str) -> StrategyUpdate:
        """Whether the next starts of the service start it. Raises NotFound."""
        before = self._engine.strategy(name)
        was, wanted = {"auto_start": before.auto_start}, {"auto_start": auto_start}
        async with self._unknown_on_record(by, "strategy.auto_start", name, before=was, after=wanted):
            after = await self._engine.set_auto_start(name, auto_start, by=by)
        await self._audit.note(by, "strategy.auto_start", name, before=was, after=wanted)
        return after

    async def remove(self, name: str, *, by: str) -> None:
        """Forget it and its variables. Raises NotFound, Conflict (it trades, or is initialising)."""
        before = self._engine.strategy(name)
        was = _what_it_is(before) | {"pos": before.pos}
        async with self._saying_state(name), self._unknown_on_record(by, "strategy.remove", name, before=was):
            await self._engine.remove(name, by=by)
        self._logs.forget(name)
        self._profit.forget(name)
        self._forget_rollovers(name)
        await self._audit.note(by, "strategy.remove", name, before=was)

    # Its life

    async def init(self, name: str, *, wait_s: float = 0.0, by: str) -> StrategyUpdate:
        """Begin to initialise it and wait at most `wait_s`. Raises NotFound, Conflict (the reason)."""
        return await self._change(by, "strategy.init", name, lambda: self._engine.init(name, wait_s=wait_s))

    async def start(self, name: str, *, by: str) -> StrategyUpdate:
        """Let it trade. Raises NotFound, Conflict (the reason)."""
        return await self._change(by, "strategy.start", name, lambda: self._engine.start(name))

    async def stop(self, name: str, *, by: str) -> StrategyUpdate:
        """Let it trade no more; its orders are asked to cancel. Raises NotFound, Conflict (on_stop raised)."""
        return await self._change(by, "strategy.stop", name, lambda: self._engine.stop(name))

    async def init_all(self, *, by: str) -> list[Outcome]:
        """Begin to initialise all that are not, failed ones too; waits for none of them."""
        begun = (StrategyState.INITIALISING, StrategyState.INITED, StrategyState.RUNNING, StrategyState.STOPPED)
        return await self._change_all(by, "strategy.init_all", self._engine.init, but=begun)

    async def start_all(self, *, by: str) -> list[Outcome]:
        """Let all trade that do not; each on its own."""
        return await self._change_all(by, "strategy.start_all", self._engine.start, but=(StrategyState.RUNNING,))

    async def stop_all(self, *, by: str) -> list[Outcome]:
        """Let none of them trade any more; each on its own."""
        return await self._change_all(by, "strategy.stop_all", self._engine.stop)

    # Inside

    async def _change(
        self, by: str, what: str, name: str, ask: Callable[[], Awaitable[StrategyUpdate]]
    ) -> StrategyUpdate:
        before, unknown = self._engine.strategy(name).state, ""
        try:
            async with self._saying_state(name):
                return await ask()
        except OutcomeUnknown as error:  # a slow on_start may still end well
            unknown = error.detail
            raise
        finally:
            # Also where it was refused: one whose on_start raised is FAILED now, and somebody did that.
            after = self._state_of(name)
            if unknown or after is not before:
                was, now = {"state": before}, {"state": after}
                await self._audit.note(by, what, name, before=was, after=now, reason=unknown)

    async def _change_all(
        self,
        by: str,
        what: str,
        ask: Callable[[str], Awaitable[StrategyUpdate]],
        *,
        but: tuple[StrategyState, ...] = (),
    ) -> list[Outcome]:
        """Ask each of them at once, so that the event thread's limit for one is the limit for all."""
        before = self._engine.strategies()
        outcomes = await asyncio.gather(*(self._try(strategy, ask, but) for strategy in before))
        was = {strategy.strategy_name: strategy.state for strategy in before}
        changed = [
            outcome
            for outcome in outcomes
            if outcome.state is not was[outcome.strategy_name] or isinstance(outcome.error, OutcomeUnknown)
        ]
        if changed:
            states_before = {outcome.strategy_name: was[outcome.strategy_name] for outcome in changed}
            states_after = {outcome.strategy_name: outcome.state for outcome in changed}
            await self._audit.note(by, what, before=states_before, after=states_after)
        return outcomes

    async def _try(
        self,
        strategy: StrategyUpdate,
        ask: Callable[[str], Awaitable[StrategyUpdate]],
        but: tuple[StrategyState, ...],
    ) -> Outcome:
        name, state = strategy.strategy_name, strategy.state
        if state in but:
            return Outcome(strategy_name=name, state=state)
        try:
            return Outcome(strategy_name=name, state=(await ask(name)).state)
        except CoreError as error:
            return Outcome(strategy_name=name, state=self._state_of(name) or state, error=error)
        except Exception:  # noqa: BLE001 - a guarded door: what became of the others must be told
            _log.exception("a strategy could not be asked", strategy_name=name)
            hidden = CoreError("an internal error; the service's log has it")
            return Outcome(strategy_name=name, state=self._state_of(name) or state, error=hidden)

    @asynccontextmanager
    async def _unknown_on_record(
        self,
        by: str,
        what: str,
        name: str = "",
        *,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> AsyncIterator[None]:
        """What was begun, and may still come about, goes on record as it was wanted, with the doubt as its reason."""
        try:
            yield
        except OutcomeUnknown as error:
            await self._audit.note(by, what, name, before=before, after=after, reason=error.detail)
            raise

    @asynccontextmanager
    async def _saying_state(self, name: str) -> AsyncIterator[None]:
        """A Conflict says in which state the strategy is."""
        try:
            yield
        except Conflict as error:
            error.extra.setdefault("state", self._state_of(name))
            raise

    def _state_of(self, name: str) -> StrategyState | None:
        try:
            return self._engine.strategy(name).state
        except CoreError:  # it was removed meanwhile
            return None

    def _hashes(self) -> dict[str, str]:
        return {each.class_name: each.hash for each in self._engine.classes()}

    def _find_class(self, class_name: str) -> StrategyClass | None:
        return next((each for each in self._engine.classes() if each.class_name == class_name), None)

    def _class_of(self, strategy: StrategyUpdate) -> StrategyClass:
        """The class as the strategy has it: its file may be another one by now, or gone."""
        known = self._find_class(strategy.class_name)
        return _as_it_runs(strategy) if known is None or strategy.class_is_old else known


def _iso(day: date | None) -> str:
    return day.isoformat() if day else ""


def _what_it_is(strategy: StrategyUpdate) -> dict[str, Any]:
    """What is put on record of one that comes or goes."""
    return {
        "class_name": strategy.class_name,
        "class_hash": strategy.class_hash,
        "vt_symbol": strategy.vt_symbol,
        "parameters": strategy.parameters,
        "auto_start": strategy.auto_start,
    }


def _plain_parameters(strategy: StrategyUpdate, class_: StrategyClass) -> dict[str, Any]:
    """Its parameters, but for those that only look like a text here and are something else to the strategy."""
    objects = {parameter.name for parameter in class_.parameters if parameter.type == "object"}
    return {name: value for name, value in strategy.parameters.items() if name not in objects}


_TYPES = {bool: "bool", int: "number", float: "float", str: "str", list: "list", dict: "dict"}


def _as_it_runs(strategy: StrategyUpdate) -> StrategyClass:
    """A class with the parameters that the strategy has, which are the defaults too."""
    return StrategyClass(
        class_name=strategy.class_name,
        author=strategy.author,
        doc="",
        parameters=[
            Parameter(name=name, type=_TYPES.get(type(value), "any"), default=value)
            for name, value in strategy.parameters.items()
        ],
        variables=list(strategy.variables),
        module="",
        file=strategy.class_file,
        hash=strategy.class_hash,
        shipped=False,
    )
