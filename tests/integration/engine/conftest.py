from contextlib import asynccontextmanager
from itertools import count

import pytest

from vnpy_core.adapters.journal.settings import JournalSettings
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.read_view import ReadView
from vnpy_core.engine.settings import EngineSettings
from vnpy_core.features.trading.idempotency import sortable_ids
from vnpy_core.kit.clock import SystemClock
from vnpy_core.kit.flow import CreditFlow


@pytest.fixture
def run_host(vnpy_home, tmp_path):
    """`async with run_host(gateways={…}) as host`: a real MainEngine with the real apps.

    `before(host)` is called before its start.
    """
    from vnpy_core.engine.host import EngineHost, HostSettings

    for path in (vnpy_home / ".vntrader").glob("*.json"):
        path.unlink()

    @asynccontextmanager
    async def run(
        *, main_engine=None, engine=None, data=tmp_path, history=None, require_account=None, before=None, **settings
    ):
        bus, view, clock = Bus(), ReadView(), SystemClock()
        journal = SqliteJournal(
            data / "journal.sqlite",
            settings=JournalSettings(durability="process"),
            boot_id="boot",
            run_id=str(next(runs)),
            new_epoch=lambda: "e1",
        )
        host = EngineHost(
            HostSettings(data=data, engine=EngineSettings(**{"settle_s": 0.05, **(engine or {})}), **settings),
            bus=bus, view=view, clock=clock, flow=CreditFlow(), journal=journal, new_id=sortable_ids(clock),
            history=history, main_engine=main_engine,
            **({"require_account": require_account} if require_account else {}),
        )  # fmt: skip
        host.view, host.bus, host.messages = view, bus, []
        bus.subscribe(["*"], host.messages.append)
        if before:
            before(host)
        try:
            await host.start()
            yield host
        finally:
            await host.stop()
            journal.close(clean=host.is_durable)

    runs = count(1)
    return run
