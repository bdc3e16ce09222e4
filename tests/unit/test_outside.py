"""What a core shows outside its process, without a server."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from testkit.clock import FakeClock
from testkit.memory_journal import MemoryJournal
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.read_view import ReadView
from vnpy_core.outside import Outside
from vnpy_core.settings import Settings


class Hanging:
    """A part whose server has stopped answering; it may take a minute by the settings."""

    def __init__(self) -> None:
        self.cut_off = False

    async def close(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cut_off = True


def make(folder: Path, clock: FakeClock, **tables: dict[str, str]) -> Outside:
    settings = Settings.model_validate({"paths": {"data": str(folder)}, **tables}, context={"folder": folder})
    return Outside(settings, Bus(), ReadView(), clock, MemoryJournal(), boot_id="")


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    return make(tmp_path, FakeClock())


async def test_servers_that_hang_do_not_hold_up_the_end(outside):
    hanging = [Hanging(), Hanging(), Hanging()]
    outside.broker, outside.cache, outside.registry = hanging
    async with asyncio.timeout(60):
        await outside.close()
    assert all(part.cut_off for part in hanging)


async def test_logins_that_ended_are_kept_for_edges_only_while_their_tokens_would_be_valid(tmp_path):
    clock = FakeClock()
    outside = make(tmp_path, clock, cache={"kind": "redis"})
    for number in range(100):
        outside.keep_ended(f"s{number}", clock.now() + timedelta(minutes=15))
        clock.advance(60)
    assert [session_id for _, session_id in outside._cache_sink._kept] == [f"s{number}" for number in range(85, 100)]
    await outside.close()
