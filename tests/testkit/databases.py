"""An empty database of any kind, with stores on it and a way past them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import text

from testkit.clock import FakeClock
from testkit.servers import Server
from vnpy_core.adapters.store.settings import StoreSettings
from vnpy_core.adapters.store.sql import SqlStore
from vnpy_core.adapters.store.tables import metadata
from vnpy_core.adapters.store.url import WRITES, make_engine, store_url

TIMEOUT_S = 5.0
SERVED = ("mysql+aiomysql", "mysql+asyncmy", "postgresql+asyncpg")
"""The dialects and drivers that talk to a server."""
EVERY = ("sqlite+aiosqlite", *SERVED)


class Database:
    """An empty database of one kind, and stores on it."""

    def __init__(self, url: str, server: Server | None) -> None:
        self.url = url
        self.server = server
        self.clock = FakeClock()
        self._stores: list[SqlStore] = []

    @property
    def kind(self) -> str:
        return self.url.partition("+")[0]

    def settings(self, **changes: Any) -> StoreSettings:
        return StoreSettings(**{"url": SecretStr(self.url), "timeout_s": TIMEOUT_S, **changes})

    def store(self, **changes: Any) -> SqlStore:
        settings = self.settings(**changes)
        store = SqlStore(store_url(settings, Path()), settings, self.clock)
        self._stores.append(store)
        return store

    async def execute(self, *statements: str) -> None:
        """Run statements past the store."""
        engine = make_engine(store_url(self.settings(), Path()), self.settings())
        async with engine.connect() as connection:
            await connection.execution_options(**{WRITES: True})
            for statement in statements:
                await connection.execute(text(statement))
            await connection.commit()
        await engine.dispose()

    async def clear(self) -> None:
        """Empty the tables; quicker than making them anew."""
        await self.execute(*(f"delete from {table.name}" for table in metadata.sorted_tables))

    async def rows(self, statement: str) -> list[Any]:
        """What the tables have, as the database gives it."""
        engine = make_engine(store_url(self.settings(), Path()), self.settings())
        async with engine.connect() as connection:
            rows = (await connection.execute(text(statement))).all()
        await engine.dispose()
        return list(rows)

    def quoted(self, name: str) -> str:
        return f"`{name}`" if self.kind == "mysql" else f'"{name}"'

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
