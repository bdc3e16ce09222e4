from contextlib import asynccontextmanager

import pytest

from vnpy_core.bus.bus import Bus
from vnpy_core.bus.read_view import ReadView
from vnpy_core.engine.settings import EngineSettings
from vnpy_core.kit.clock import SystemClock
from vnpy_core.kit.flow import CreditFlow


@pytest.fixture
def run_host(vnpy_home, tmp_path):
    """`async with run_host(gateways={…}) as host`: a real MainEngine with the real apps."""
    from vnpy_core.engine.host import EngineHost, HostSettings

    for path in (vnpy_home / ".vntrader").glob("*.json"):
        path.unlink()

    @asynccontextmanager
    async def run(*, main_engine=None, engine=None, **settings):
        bus, view = Bus(), ReadView()
        host = EngineHost(
            HostSettings(data=tmp_path, engine=EngineSettings(**engine or {}), **settings),
            bus=bus, view=view, clock=SystemClock(), flow=CreditFlow(), epoch="e1", main_engine=main_engine,
        )  # fmt: skip
        host.view, host.bus, host.messages = view, bus, []
        bus.subscribe(["*"], host.messages.append)
        try:
            await host.start()
            yield host
        finally:
            await host.stop()

    return run
