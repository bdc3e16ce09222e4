"""Rollovers: strategies' lots go from one contract to the next, in the strategies' names, then the strategies do.

A rollover that ends early leaves a strategy with lots in both contracts. What it moved is kept, over restarts too, and
the next rollover of the same contracts goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from vnpy_core.bus import topics
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.errors import Conflict, CoreError, NotFound
from vnpy_core.domain.events import StrategyUpdate, Trade
from vnpy_core.features.strategies import rollover_records as records
from vnpy_core.features.strategies.rollover_plan import Carried, Planner, RolloverPlan, RolloverRequest
from vnpy_core.features.strategies.rollover_records import RolledStrategy, Rollover, RolloverState
from vnpy_core.features.strategies.rollover_run import ORDER_ID, Doors, RolloverRun
from vnpy_core.kit.tasks import BackgroundTasks
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.engine import TradingEngine
from vnpy_core.ports.strategies import StrategyEngine
from vnpy_core.web.audit import AuditTrail

KEPT = 100
"""Rollovers that are remembered, beside those that left a strategy with lots in two contracts."""
REPRICE_S = 2.0
"""How long an order may wait for its fills, and how long after one without any the next is sent, seconds."""
CLOSE_S = 2.0
"""How long the service's end waits for cancelled orders to end, seconds."""

_log = structlog.get_logger(__name__)


class Rollovers:
    """Loop thread only."""

    def __init__(
        self,
        engine: TradingEngine,
        strategies: StrategyEngine,
        view: ReadView,
        bus: Bus,
        clock: Clock,
        *,
        file: Path,
        new_id: Callable[[], str],
        reprice_s: float = REPRICE_S,
    ) -> None:
        """`file` is where they are kept; `new_id` makes ids of at most 32 letters that sort by time."""
        self._strategies = strategies
        self._bus = bus
        self._view = view
        self._clock = clock
        self._file = file
        self._new_id = new_id
        self._doors = Doors(engine, strategies, view, clock, self._try_to_save, reprice_s)
        self._planner = Planner(engine, strategies, view, clock)
        self._audit = AuditTrail(engine, clock)
        self._records: OrderedDict[str, Rollover] = OrderedDict()
        self._runs: dict[str, RolloverRun] = {}
        self._tasks = BackgroundTasks()
        self._left: set[str] = set()
        """Strategies that the last rollover left with lots in two contracts, or without some."""
        self._saving = asyncio.Lock()
        self._unsubscribe: Callable[[], None] = lambda: None

    async def open(self) -> None:
        """Take over what was kept, and bring to rest what ran then. Once, after the engine has started."""
        self._unsubscribe = self._bus.subscribe([topics.ORDER_UPDATED, topics.TRADE_EXECUTED], self._tell)
        for record in await asyncio.to_thread(records.read, self._file):
            self._records[record.id] = record
            if record.state is RolloverState.RUNNING:
                run = self._run_of(record)
                self._tasks.spawn(self._settle(run), f"rollover {record.id} of before the restart")
            self._note_left(record)

    async def close(self) -> None:
        """End what runs, its orders cancelled; before the engine stops. Again is harmless."""
        runs = list(self._runs.values())
        for run in runs:
            run.stop("the service stops")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                for run in runs:
                    await run.ended.wait()
        await self._tasks.cancel()
        self._unsubscribe()

    def rollovers(self) -> list[Rollover]:
        """The last 100, newest first."""
        return list(reversed(self._records.values()))

    def rollover(self, rollover_id: str) -> Rollover:
        """One of them. Raises NotFound."""
        record = self._records.get(rollover_id)
        if record is None:
            raise NotFound(f"no rollover {rollover_id!r}")
        return record

    def plan(self, request: RolloverRequest) -> RolloverPlan:
        """What would be sent now, and what speaks against it. Raises NotFound, ValidationFailed."""
        return self._planner.plan(request, lambda strategy: self._carried(strategy, request))

    async def start(self, request: RolloverRequest, *, by: str) -> Rollover:
        """Begin. Raises NotFound, ValidationFailed, Conflict (the plan has problems), StorageFull, JournalFailed."""
        plan = self.plan(request)
        if plan.problems:
            raise Conflict("; ".join(plan.problems), problems=plan.problems)
        record = self._record_of(plan, request, by)
        self._records[record.id] = record  # from here on its strategies are taken
        try:
            await self._save()
            await self._audit.require(by, "strategies.rollover", record.id, after=msgspec.to_builtins(plan))
        except BaseException:
            del self._records[record.id]
            raise
        self._forget_old()
        self._tasks.spawn(self._roll(self._run_of(record)), f"rollover {record.id}")
        return record

    def _forget_old(self) -> None:
        """All but the newest, and those that say where a strategy's lots are."""
        last = {part.strategy_name: record.id for record in self._records.values() for part in record.strategies}
        for old in list(self._records)[:-KEPT]:
            is_needed = any(part.is_split and last[part.strategy_name] == old for part in self._records[old].strategies)
            if old not in self._runs and not is_needed:
                del self._records[old]

    def _record_of(self, plan: RolloverPlan, request: RolloverRequest, by: str) -> Rollover:
        now = self._clock.now()
        return Rollover(
            id=self._new_id(),
            state=RolloverState.RUNNING,
            from_vt_symbol=plan.from_vt_symbol,
            to_vt_symbol=plan.to_vt_symbol,
            gateway_name=plan.gateway_name,
            payup=request.payup,
            max_volume=request.max_volume,
            timeout_s=request.timeout_s,
            strategies=[
                RolledStrategy(
                    strategy_name=part.strategy_name,
                    pos=part.pos,
                    old=part.old,
                    new=part.new,
                    lacking=part.lacking,
                    auto_start=self._starts_by_itself(part.strategy_name),
                )
                for part in plan.strategies
            ],
            by=by,
            created_at=now,
            updated_at=now,
        )

    def _carried(self, strategy: StrategyUpdate, request: RolloverRequest) -> Carried:
        """What the last rollover of a strategy left, where it did not finish."""
        name = strategy.strategy_name
        if (last := self._last(name)) is None:
            return Carried()
        record, part = last
        if record.state is RolloverState.RUNNING:
            return Carried(problem=f"{name} is being rolled by {record.id}")
        if not part.is_split:
            return Carried()
        left = f"rollover {record.id} left {name} with {part.new_now:g} lots in {record.to_vt_symbol}"
        if part.traded_since:
            return Carried(problem=f"{left}, and it traded since: put that right by hand, then say ignore_unfinished")
        if (record.from_vt_symbol, record.to_vt_symbol) != (request.from_vt_symbol, request.to_vt_symbol):
            return Carried(problem=f"{left}: finish that one first, or say ignore_unfinished")
        if strategy.pos != part.pos_now:
            now = f"and a pos of {part.pos_now:g}, which is {strategy.pos:g} now"
            return Carried(problem=f"{left} {now}: put that right by hand, then say ignore_unfinished")
        return Carried(new=part.new_now, lacking=part.sign * part.to_open)

    def _starts_by_itself(self, name: str) -> bool:
        """Whether starts of the service are to start it; an unfinished rollover has turned that off."""
        last = self._last(name)
        return self._strategies.strategy(name).auto_start or (
            last is not None and last[1].is_split and last[1].auto_start
        )

    def _last(self, name: str) -> tuple[Rollover, RolledStrategy] | None:
        """The last rollover of a strategy, and its part."""
        found = ((record, record.part(name)) for record in self.rollovers())
        return next(((record, part) for record, part in found if part is not None), None)

    def _run_of(self, record: Rollover) -> RolloverRun:
        run = self._runs[record.id] = RolloverRun(record, self._doors)
        return run

    async def _roll(self, run: RolloverRun) -> None:
        try:
            await run.roll()
            await self._finish(run.record)
        finally:
            self._let_go(run)

    async def _settle(self, run: RolloverRun) -> None:
        try:
            if await run.settle():
                await self._finish(run.record)
        finally:
            self._let_go(run)

    async def _finish(self, record: Rollover) -> None:
        record.state = record.outcome()
        self._note_left(record)
        record.updated_at = self._clock.now()
        _log.info("a rollover has ended", id=record.id, state=record.state)
        await self._try_to_save()
        result = msgspec.to_builtins(record)
        await self._audit.note(record.by, "strategies.rollover_ended", record.id, after=result)

    def _note_left(self, record: Rollover) -> None:
        for part in record.strategies:
            (self._left.add if part.is_split else self._left.discard)(part.strategy_name)

    def _let_go(self, run: RolloverRun) -> None:
        del self._runs[run.record.id]
        run.ended.set()

    def _tell(self, message: Message) -> None:
        for run in self._runs.values():
            run.tell(message.data)
        if isinstance(message.data, Trade) and message.data.strategy_name in self._left:
            self._note_trade(message.data, message.data.strategy_name)

    def _note_trade(self, trade: Trade, name: str) -> None:
        """A strategy that was left with lots in two contracts has a fill."""
        order = self._view.order(trade.vt_orderid)
        is_ours = order is not None and (order.client_order_id or "").startswith(ORDER_ID)
        last = self._last(name)
        if is_ours or last is None or last[0].state is RolloverState.RUNNING or last[1].traded_since:
            return
        last[1].traded_since = True
        self._tasks.spawn(self._try_to_save(), "keep that an unfinished rollover cannot go on")

    def forget(self, name: str) -> None:
        """A strategy was removed, or is new: what was left of one of this name is nobody's."""
        for record in self._records.values():
            if record.state is not RolloverState.RUNNING and (part := record.part(name)) is not None:
                part.forgotten = True
        if name in self._left:
            self._left.discard(name)
            self._tasks.spawn(self._try_to_save(), "keep that an unfinished rollover is over")

    async def _try_to_save(self) -> None:
        try:
            await self._save()
        except CoreError as error:
            _log.error("how far a rollover is could not be kept", error=error.detail)

    async def _save(self) -> None:
        """Raises StorageFull, Conflict."""
        async with self._saving:
            await asyncio.to_thread(records.write, self._file, records.encode(self._records.values()))
