import asyncio
import threading

import pytest

from vnpy_core.domain.errors import Conflict, OutcomeUnknown, Overloaded
from vnpy_core.engine.commands import CommandDoor
from vnpy_core.engine.event_engine import EventGuard, InterruptibleEventEngine


@pytest.fixture
async def door():
    engine = InterruptibleEventEngine()
    guard = EventGuard(engine)
    guard.install()
    engine.start()
    door = CommandDoor(engine, asyncio.get_running_loop(), deadline_s=5)
    door.open()
    door.engine = engine
    yield door
    door.close()
    await asyncio.to_thread(engine.stop)


async def test_a_command_runs_on_the_event_thread_and_returns_its_result(door):
    assert await door.run(threading.current_thread) is door.engine._thread


async def test_commands_run_in_the_order_in_which_they_were_given(door):
    seen = []
    await asyncio.gather(*(door.run(lambda n=n: seen.append(n)) for n in range(200)))
    assert seen == list(range(200))


async def test_an_error_reaches_the_caller_and_not_the_event_thread(door):
    def failing():
        raise Conflict("not now")

    with pytest.raises(Conflict, match="not now"):
        await door.run(failing)
    assert await door.run(lambda: 1) == 1


async def test_sys_exit_in_a_command_reaches_the_caller_as_an_error(door):
    def exiting():
        raise SystemExit(2)

    with pytest.raises(RuntimeError, match="SystemExit"):
        await door.run(exiting)
    assert await door.run(lambda: 1) == 1


async def test_a_command_that_was_not_started_in_time_never_runs(door):
    release, ran = threading.Event(), []
    blocking = asyncio.ensure_future(door.run(lambda: release.wait(10)))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await door.run(lambda: ran.append(1), deadline_s=0.05)
    release.set()
    await blocking
    await door.run(lambda: None)
    assert ran == []


async def test_a_command_that_was_started_but_did_not_return_has_an_unknown_outcome(door):
    release = threading.Event()
    with pytest.raises(OutcomeUnknown):
        await door.run(lambda: release.wait(10), deadline_s=0.05)
    release.set()
    assert await door.run(lambda: 1) == 1


async def test_a_cancelled_caller_abandons_a_command_that_waits(door):
    release, ran = threading.Event(), []
    blocking = asyncio.ensure_future(door.run(lambda: release.wait(10)))
    waiting = asyncio.ensure_future(door.run(lambda: ran.append(1)))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    release.set()
    await blocking
    await door.run(lambda: None)
    assert ran == []
