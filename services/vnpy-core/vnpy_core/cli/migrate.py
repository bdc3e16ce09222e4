"""`vnpy-core migrate`: the store's schema, brought up to date before a start would do it."""

from __future__ import annotations

import asyncio

from vnpy_core.adapters.store.errors import shown
from vnpy_core.adapters.store.schema import Step
from vnpy_core.adapters.store.sql import SqlStore
from vnpy_core.adapters.store.url import store_url
from vnpy_core.kit.clock import SystemClock
from vnpy_core.settings import Settings


def migrate(settings: Settings, *, check: bool = False) -> list[str]:
    """Do the migrations that are missing, or with `check` only find them; returns lines for the operator.

    Runs a loop of its own, so not from within one. Raises ConfigurationError (wrong URL or password, newer schema,
    tables of somebody else), StoreUnavailable (the server is away, another process is migrating).
    """
    url = store_url(settings.store, settings.paths.data)
    steps = asyncio.run(_migrate(SqlStore(url, settings.store, SystemClock()), check=check))
    if not steps:
        return [f"{shown(url)}: the schema is up to date"]
    what = "to be done" if check else "done"
    return [f"{shown(url)}: {what}:", *(f"  {step.revision} {step.what}" for step in steps)]


async def _migrate(store: SqlStore, *, check: bool) -> list[Step]:
    try:
        steps = await store.pending()
        if not check:
            await store.open()
        return steps
    finally:
        await store.close()
