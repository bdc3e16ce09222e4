"""The relational store: SQLite, MySQL or MariaDB, PostgreSQL, as the URL says."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy import URL, Connection, Table
from sqlalchemy.ext.asyncio import AsyncEngine

from vnpy_core.adapters.store import queries, schema, tables, writing
from vnpy_core.adapters.store.errors import DATABASE_ERRORS, explain, is_bad_value, named, shown
from vnpy_core.adapters.store.merge import Record
from vnpy_core.adapters.store.own_loop import OwnLoop
from vnpy_core.adapters.store.records import columns
from vnpy_core.adapters.store.schema import Step
from vnpy_core.adapters.store.settings import StoreSettings
from vnpy_core.adapters.store.url import WRITES, is_sqlite, make_engine
from vnpy_core.domain.errors import ConfigurationError, PoisonRow, StoreUnavailable
from vnpy_core.domain.events import Contract, Order, Quarantine, StrategyDay, StrategyUpdate, Trade
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.journal import Row
from vnpy_core.ports.store import DeadLetter, OrderQuery, SeqKey, TradeQuery, Watermark

T = TypeVar("T")

MIGRATION_S = 3600.0
"""How long a migration may take, seconds."""
_FOR_NOW = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
"""What SQLite says of a file that is good, but not now."""
_GRACE_S = 1.0
"""What a cancelled statement gets to let go of its connection, seconds."""

_log = structlog.get_logger(__name__)


class _BadValue(Exception):
    """The database refuses a value for good."""


class SqlStore:
    """Implements `ports.store.Store`. Its drivers run on a loop in a thread of its own."""

    def __init__(self, url: URL, settings: StoreSettings, clock: Clock) -> None:
        """`url` as from `store_url`; connects nowhere yet. Raises ConfigurationError."""
        self._url = url
        self._file = Path(url.database or "") if is_sqlite(url) else None
        self._settings = settings
        self._clock = clock
        self._loop = OwnLoop("store")
        self._engine: AsyncEngine | None = None

    # --- opening and closing ---

    async def open(self) -> None:
        """See the port; once is enough, and after StoreUnavailable it may be tried again."""
        if self._engine is not None:
            return
        if self._file is not None:
            await asyncio.to_thread(_make_file, self._file)
            await asyncio.to_thread(_check_file, self._file)
        engine = make_engine(self._url, self._settings)
        try:
            if await self._opening(engine, schema.pending, self._settings.timeout_s):
                for step in await self._opening(engine, schema.upgrade, MIGRATION_S, writes=True):
                    _log.info("the store's schema was migrated", revision=step.revision, what=step.what)
        except BaseException:
            await self._dispose(engine)
            raise
        self._engine = engine

    async def pending(self) -> list[Step]:
        """The migrations that `open` would do; changes nothing. Raises ConfigurationError, StoreUnavailable."""
        if self._file is not None:
            if not await asyncio.to_thread(self._file.exists):
                return schema.all_steps()
            await asyncio.to_thread(_check_file, self._file)
        engine = make_engine(self._url, self._settings)
        try:
            return await self._opening(engine, schema.pending, self._settings.timeout_s)
        finally:
            await self._dispose(engine)

    async def close(self) -> None:
        """See the port."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await self._dispose(engine)
        await self._loop.close()

    # --- writing ---

    async def watermark(self) -> Watermark | None:
        """See the port."""
        return await self.ask(writing.watermark)

    async def write(self, rows: Sequence[Row]) -> None:
        """See the port."""
        if not rows:
            return
        now = self._clock.now()
        try:
            contradictions = await self.ask(lambda run: writing.write(run, rows, now), writes=True)
        except _BadValue as error:
            raise await self._culprit(rows) from error
        for fact in contradictions:
            place = {"epoch": fact.record["epoch"], "seq": fact.record["seq"]}
            _log.error("a journal row contradicts the store; it is in quarantine", key=fact.record["key"], **place)

    async def park(self, row: Row, reason: str) -> None:
        """See the port."""
        now = self._clock.now()
        letter = {
            "epoch": row.epoch,
            "seq": row.seq,
            "at": now,
            "kind": _storable(row.kind)[:64],
            "key": _storable(row.key)[:2000],
            "payload": _storable(row.payload.decode(errors="backslashreplace")),
            "reason": _storable(reason)[:2000],
        }

        def work(run: Connection) -> None:
            writing.upsert(run, tables.dead_letters, [letter])
            writing.move_watermark(run, row, now)

        await self.ask(work, writes=True)

    async def save_contracts(self, contracts: Sequence[Contract]) -> None:
        """See the port. One that the database refuses is logged and left out."""
        await self._save(tables.contracts, contracts)

    async def save_strategies(self, strategies: Sequence[StrategyUpdate]) -> None:
        """See the port. One that the database refuses is logged and left out."""
        await self._save(tables.strategies, strategies)

    # --- reading ---

    async def orders(self, query: OrderQuery, after: SeqKey, limit: int) -> list[Order]:
        """See the port."""
        return await self.ask(lambda run: queries.orders(run, query, after, limit))

    async def trades(self, query: TradeQuery, after: SeqKey, limit: int) -> list[Trade]:
        """See the port."""
        return await self.ask(lambda run: queries.trades(run, query, after, limit))

    async def order(self, vt_orderid: str) -> Order | None:
        """See the port."""
        return await self.ask(lambda run: queries.newest_order(run, vt_orderid=vt_orderid))

    async def order_by_client_id(self, client_order_id: str) -> Order | None:
        """See the port."""
        return await self.ask(lambda run: queries.newest_order(run, client_order_id=client_order_id))

    async def strategy_days(self, name: str, start_day: str = "", end_day: str = "") -> list[StrategyDay]:
        """See the port."""
        return await self.ask(lambda run: queries.strategy_days(run, name, start_day, end_day))

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """See the port."""
        return await self.ask(lambda run: queries.dead_letters(run, limit))

    async def quarantine(self, limit: int) -> list[Quarantine]:
        """The newest contradictions, those that the journal found included."""
        return await self.ask(lambda run: queries.quarantine(run, limit))

    async def ask(self, work: Callable[[Connection], T], *, writes: bool = False, keep: bool = True) -> T:
        """Do `work` on the store's thread, in a transaction; without `keep`, undo it. Raises StoreUnavailable."""
        engine, limit = self._engine, self._settings.timeout_s
        if engine is None:
            raise StoreUnavailable(f"{shown(self._url)}: not connected yet")
        try:
            return await self._loop.run(_transaction(engine, work, limit, writes=writes, keep=keep), limit + _GRACE_S)
        except DATABASE_ERRORS as error:
            if is_bad_value(error):
                raise _BadValue(explain(error)) from error
            raise StoreUnavailable(f"{shown(self._url)}: {explain(error)}") from error

    # --- inside ---

    async def _culprit(self, rows: Sequence[Row]) -> PoisonRow:
        """The row that the database refuses, found by halving: the last one of the shortest start that fails."""
        good, bad = 0, len(rows)
        while bad - good > 1:
            middle = (good + bad) // 2
            if await self._fails(rows[:middle]):
                bad = middle
            else:
                good = middle
        row = rows[bad - 1]
        reason = await self._refusal(rows[:bad])
        if not reason:
            raise StoreUnavailable(f"{shown(self._url)}: refused rows that it takes now")
        return PoisonRow(f"row {row.seq} ({row.kind}): {reason}", seq=row.seq)

    async def _fails(self, rows: Sequence[Row]) -> bool:
        return bool(await self._refusal(rows))

    async def _refusal(self, rows: Sequence[Row]) -> str:
        """Why the database refuses these; empty where it would take them. Keeps nothing."""
        now = self._clock.now()
        try:
            await self.ask(lambda run: writing.write(run, rows, now), writes=True, keep=False)
        except _BadValue as error:
            return str(error)
        return ""

    async def _save(self, table: Table, events: Sequence[Contract | StrategyUpdate]) -> None:
        now, records = self._clock.now(), []
        for event in events:
            try:
                records.append({**columns(event), "updated_at": now})
            except ValueError as error:
                _log.error("this cannot be stored", table=table.name, row=event, reason=str(error))
        await self._replace(table, records)

    async def _replace(self, table: Table, records: Sequence[Record]) -> None:
        try:
            await self.ask(lambda run: writing.upsert(run, table, records), writes=True)
        except _BadValue as error:
            if len(records) == 1:
                _log.error("this cannot be stored", table=table.name, row=records[0], reason=str(error))
                return
            for record in records:
                await self._replace(table, [record])

    async def _opening(
        self, engine: AsyncEngine, work: Callable[[Connection], T], limit: float, *, writes: bool = False
    ) -> T:
        try:
            return await self._loop.run(_transaction(engine, work, limit, writes=writes), limit + _GRACE_S)
        except DATABASE_ERRORS as error:
            raise named(error, self._url) from error
        except (TypeError, ValueError) as error:  # an option in the URL that the driver does not know
            raise ConfigurationError(f"store.url: {shown(self._url)}: {error}") from error

    async def _dispose(self, engine: AsyncEngine) -> None:
        try:
            await self._loop.run(engine.dispose(), self._settings.timeout_s)
        except DATABASE_ERRORS as error:
            _log.warning("the store's connections could not be closed", reason=explain(error))


async def _transaction(
    engine: AsyncEngine, work: Callable[[Connection], T], limit: float, *, writes: bool, keep: bool = True
) -> T:
    """On the store's loop. A connection whose statement was cut off is thrown away by SQLAlchemy."""
    async with asyncio.timeout(limit), engine.connect() as connection:
        if writes:
            await connection.execution_options(**{WRITES: True})
        async with connection.begin() as transaction:
            result = await connection.run_sync(work)
            if not keep:
                await transaction.rollback()
            return result


def _make_file(file: Path) -> None:
    """For the owner only; SQLite's files beside it follow its mode."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigurationError(f"store.url: {file}: {error}") from error


def _check_file(file: Path) -> None:
    """Look at the file before aiosqlite does, which leaves a thread behind where it fails."""
    try:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("pragma schema_version")
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _FOR_NOW:
            raise StoreUnavailable(f"{file}: {error}") from error
        raise ConfigurationError(f"store.url: {file}: {error}") from error


def _storable(text: str) -> str:
    """`text` without what some databases refuse."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()
