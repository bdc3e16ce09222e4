"""Carries the journal into the store, whatever the database does meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import structlog

from vnpy_core.bus import topics
from vnpy_core.bus.message import Message
from vnpy_core.domain.errors import CoreError, JournalFailed, PoisonRow, describe
from vnpy_core.domain.events import Contract, StrategyUpdate
from vnpy_core.kit.retry import Backoff, Wait, wait_for_event
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.journal import Journal, Row
from vnpy_core.ports.store import SinkState, Store, Watermark

TOPICS = (topics.CONTRACT_UPDATED, topics.STRATEGY_UPDATED)
"""What `keep` is to be subscribed to."""
POLL_S = 1.0
"""How often the journal is looked at when nobody calls `wake`, seconds."""
LINGER_S = 0.05
"""Rows that come within this time after a write are written together, seconds: each write costs as much as 200 rows."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 10.0
"""Between two tries while the database is away, seconds."""
TRIES = 5
"""How often a poison row is tried before it is parked."""
SAVE_S = 1.0
"""Contracts and strategies are saved this often at most, seconds."""
KEEP = 200_000
"""Contracts that wait for the database at most; the oldest go first, and come again with the next connect."""

_log = structlog.get_logger(__name__)


class StoreSink:
    """Loop thread only, but for `drained`. One task reads, writes and waits; `close` ends it."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        clock: Clock,
        *,
        batch: int = 2000,
        wait: Wait = wait_for_event,
        jitter: Callable[[], float] = random.random,
        name: str = "store",
    ) -> None:
        """`batch`: rows in one transaction; `wait`: how time passes; `jitter`: 0 to 1, spreads the tries of many."""
        self._store = store
        self._journal = journal
        self._batch = batch
        self._clock = clock
        self._wait = wait
        self._backoff = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S, jitter)
        self._name = name
        self.drained = 0
        """The store has all of the journal up to this seq; for the journal's retention, on any thread."""
        self._found = False
        self._written = 0
        self._parked = 0
        self._error = ""
        self._poison: tuple[int, int] = (0, 0)
        self._contracts: dict[tuple[str, str], Contract] = {}
        self._strategies: dict[str, StrategyUpdate] = {}
        self._saved_at = clock.monotonic() - SAVE_S
        self._woken = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to drain. Opens the store where the caller could not."""
        self._task = asyncio.create_task(self._run(), name=f"{self._name} sink")

    def wake(self) -> None:
        """The journal has new rows."""
        self._woken.set()

    def keep(self, message: Message) -> None:
        """Take in a contract or strategy for the next batch; a subscriber of the bus for `TOPICS`."""
        match message.data:
            case Contract() as contract:
                self._contracts[contract.gateway_name, contract.vt_symbol] = contract
                if len(self._contracts) > KEEP:
                    del self._contracts[next(iter(self._contracts))]
            case StrategyUpdate() as strategy:
                self._strategies[strategy.strategy_name] = strategy
            case _:
                pass

    def state(self) -> SinkState:
        """How far it is."""
        return SinkState(
            name=self._name,
            seq=self.drained,
            lag=max(0, self._journal.state().last_seq - self.drained),
            written=self._written,
            dead_letters=self._parked,
            error=self._error,
        )

    async def close(self, timeout: float) -> None:
        """Drain what can be in `timeout` seconds, without waiting for a database that is away; then end."""
        self._closing.set()
        self.wake()
        if self._task is None:
            return
        _, late = await asyncio.wait({self._task}, timeout=timeout)
        if late:
            self._task.cancel()
            await asyncio.wait(late)
        left = self.state().lag
        if left:
            _log.warning("the store lacks rows of the journal; the next start brings them", rows=left)

    # --- the task ---

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            done = await self._guarded_step()
            if self._closing.is_set():
                if not done:
                    return
            elif self._error:
                await self._wait(self._closing, self._backoff.pause())
            elif done < self._batch:
                await self._wait(self._closing, LINGER_S)
                await self._wait(self._woken, POLL_S)

    async def _guarded_step(self) -> int:
        """One step; 0 where there was nothing to do, or it failed."""
        try:
            done = await self._step()
        except PoisonRow as poison:
            return await self._guarded_poison(poison)
        except CoreError as error:
            self._failed(describe(error))
            return 0
        except Exception as error:  # noqa: BLE001 - a guarded door: the sink must outlive whatever a driver raises
            _log.exception("the store's sink met an unexpected error")
            self._failed(describe(error))
            return 0
        self._succeeded()
        return done

    async def _step(self) -> int:
        """Write a batch of each; how many were in the largest. Raises CoreError."""
        if not self._found:
            await self._find_place()
        saved = await self._save_kept()
        rows = await asyncio.to_thread(self._journal.read, self.drained, self._batch)
        if rows:
            await self._take_in(rows)
        return max(saved, len(rows))

    async def _find_place(self) -> None:
        """Where to go on: after the watermark if it is of this journal, else at the first row."""
        await self._store.open()
        mark = await self._store.watermark()
        if mark is not None and await asyncio.to_thread(self._has, mark):
            self.drained = mark.seq
        elif mark is not None:
            _log.warning("the store is of another epoch; the journal is read from its first row", epoch=mark.epoch)
        first = self._journal.state().first_seq
        if max(self.drained, mark.seq if mark else 0) + 1 < first:
            _log.error("the store lacks rows that the journal has no more", after=self.drained, before=first)
        self._found = True

    def _has(self, mark: Watermark) -> bool:
        """Whether the watermark's row is this journal's, so that all before it was taken in."""
        rows = self._journal.read(mark.seq - 1, 1)
        if rows and rows[0].seq == mark.seq:
            return rows[0].epoch == mark.epoch
        state = self._journal.state()
        return state.epoch == mark.epoch and mark.seq <= state.last_seq

    async def _take_in(self, rows: Sequence[Row]) -> None:
        """Raises PoisonRow after the rows before the poisoned one have been written."""
        try:
            await self._store.write(rows)
        except PoisonRow as poison:
            if before := [row for row in rows if row.seq < poison.seq]:
                await self._store.write(before)
                self._moved(before)
            raise
        self._moved(rows)

    def _moved(self, rows: Sequence[Row]) -> None:
        self.drained = rows[-1].seq
        self._written += len(rows)

    async def _save_kept(self) -> int:
        """Save some of what `keep` took in; what fails is kept, unless there is a newer one. How many were saved."""
        now = self._clock.monotonic()
        if now - self._saved_at < SAVE_S and not self._closing.is_set():
            return 0
        contracts = [self._contracts.pop(key) for key in list(self._contracts)[: self._batch]]
        strategies, self._strategies = list(self._strategies.values()), {}
        try:
            if contracts:
                await self._store.save_contracts(contracts)
            if strategies:
                await self._store.save_strategies(strategies)
        except CoreError:
            for contract in contracts:
                self._contracts.setdefault((contract.gateway_name, contract.vt_symbol), contract)
            for strategy in strategies:
                self._strategies.setdefault(strategy.strategy_name, strategy)
            raise
        if not self._contracts:
            self._saved_at = now
        return max(len(contracts), len(strategies))

    # --- what goes wrong ---

    async def _guarded_poison(self, poison: PoisonRow) -> int:
        """Count a try; after the last one, park the row. There is more to do at once, unless parking fails."""
        seq, tries = self._poison
        self._poison = (poison.seq, tries + 1 if seq == poison.seq else 1)
        if self._poison[1] < TRIES:
            await self._wait(self._closing, FIRST_WAIT_S)
            return self._batch
        try:
            await self._park(poison)
        except CoreError as error:
            self._failed(describe(error))
            return 0
        return self._batch

    async def _park(self, poison: PoisonRow) -> None:
        rows = await asyncio.to_thread(self._journal.read, poison.seq - 1, 1)
        if not rows or rows[0].seq != poison.seq:
            raise JournalFailed(f"row {poison.seq} is not in the journal any more")
        await self._store.park(rows[0], poison.detail)
        self.drained = poison.seq
        self._parked += 1
        self._poison = (0, 0)
        _log.critical("a journal row cannot be stored; it is a dead letter", seq=poison.seq, reason=poison.detail)

    def _failed(self, error: str) -> None:
        if not self._error:
            _log.error("the store is away; the journal keeps what it lacks", reason=error)
        self._error = error
        self._backoff.failed()

    def _succeeded(self) -> None:
        if self._error:
            _log.info("the store is back", tries=self._backoff.failures)
        self._error = ""
        self._backoff.succeeded()
