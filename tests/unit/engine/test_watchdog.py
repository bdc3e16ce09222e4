import asyncio
import threading

from vnpy.event import Event

from vnpy_core.engine.event_engine import EventGuard, InterruptibleEventEngine
from vnpy_core.engine.watchdog import Watchdog
from vnpy_core.kit.clock import SystemClock


async def test_a_stuck_event_thread_is_seen_and_so_is_its_return():
    engine = InterruptibleEventEngine()
    guard = EventGuard(engine)
    guard.install()
    engine.start()
    watchdog = Watchdog(guard, SystemClock(), limit_s=0.1, interval_s=0.02)
    watchdog.start()
    await asyncio.sleep(0.08)
    assert watchdog.alive
    release = threading.Event()
    engine.register("eX", lambda event: release.wait(10))
    engine.put(Event("eX"))
    async with asyncio.timeout(5):
        while watchdog.alive:
            await asyncio.sleep(0.01)
    assert watchdog.lag_s >= 0.1
    release.set()
    async with asyncio.timeout(5):
        while not watchdog.alive:
            await asyncio.sleep(0.01)
    await watchdog.stop()
    await asyncio.to_thread(engine.stop)
    assert not watchdog.alive
