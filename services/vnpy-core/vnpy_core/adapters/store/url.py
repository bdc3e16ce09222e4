"""Where the store is: the configured URL, checked, and the engine that connects there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from vnpy_core.adapters.store.settings import StoreSettings
from vnpy_core.domain.errors import ConfigurationError

FILE_NAME = "store.sqlite"
DRIVERS = ("sqlite+aiosqlite", "mysql+asyncmy", "mysql+aiomysql", "postgresql+asyncpg")
WRITES = "vnpy_core_writes"
"""Execution option of a connection that is going to write."""


def store_url(settings: StoreSettings, data: Path) -> URL:
    """The configured URL, or that of a file in the data folder. Raises ConfigurationError."""
    text = settings.url.get_secret_value()
    if not text:
        return URL.create("sqlite+aiosqlite", database=str(data / FILE_NAME))
    try:
        url = make_url(text)
    except ArgumentError:
        raise ConfigurationError("store.url is no URL; like mysql+asyncmy://user:password@host/database") from None
    if url.drivername not in DRIVERS:
        raise ConfigurationError(f"store.url: {url.drivername!r} is none of {', '.join(DRIVERS)}")
    if not url.database or url.database == ":memory:":
        thing = "file" if is_sqlite(url) else "database"
        raise ConfigurationError(f"store.url names no {thing}, as in {url.drivername}://…/vnpy_core")
    return url


def is_sqlite(url: URL) -> bool:
    """Whether the store is a local file."""
    return url.get_backend_name() == "sqlite"


def make_engine(url: URL, settings: StoreSettings) -> AsyncEngine:
    """An engine for `url`; connects nowhere yet. Raises ConfigurationError (a wrong option in the URL)."""
    backend = url.get_backend_name()
    options: dict[str, Any] = {
        "hide_parameters": True,
        "pool_size": settings.pool_size,
        "max_overflow": 0,
        "pool_timeout": settings.timeout_s,
        "pool_recycle": 1800,
    }
    if backend == "sqlite":
        engine = create_async_engine(url, connect_args={"timeout": settings.timeout_s}, **options)
        _prepare_sqlite(engine)
        return engine
    connect_args = _mysql(settings.timeout_s) if backend == "mysql" else _postgresql(settings.timeout_s)
    isolation = "READ COMMITTED"  # there is one writer: nothing it has read can change under it
    return create_async_engine(url, connect_args=connect_args, pool_pre_ping=True, isolation_level=isolation, **options)


def _mysql(timeout_s: float) -> dict[str, Any]:
    """Strict, or MySQL would cut texts that are too long; charset of all of Unicode."""
    modes = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"
    wait = max(1, math.ceil(timeout_s))
    # No warnings: each costs a round trip and a line in the log, and strict mode makes errors of those that matter.
    quiet = "sql_notes=0, max_error_count=0"
    init = f"SET SESSION sql_mode='{modes}', innodb_lock_wait_timeout={wait}, lock_wait_timeout={wait}, {quiet}"
    return {"charset": "utf8mb4", "init_command": init, "connect_timeout": timeout_s}


def _postgresql(timeout_s: float) -> dict[str, Any]:
    limit = str(max(1, int(timeout_s * 1000)))
    settings = {"lock_timeout": limit, "application_name": "vnpy-core"}
    return {"timeout": timeout_s, "server_settings": settings}


def _prepare_sqlite(engine: AsyncEngine) -> None:
    """Transactions of our own: sqlite3 itself begins one late, without the DDL, and as a reader."""

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("pragma journal_mode = wal")
        cursor.execute("pragma synchronous = full")  # the journal lets rows go that the store has
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("begin immediate" if writes else "begin")
