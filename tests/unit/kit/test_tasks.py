import asyncio
import gc
import threading

import pytest
from structlog.testing import capture_logs

from vnpy_core.kit.tasks import BackgroundTasks, in_own_thread


@pytest.fixture
def tasks():
    return BackgroundTasks()


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_work_runs_by_itself_and_is_forgotten(tasks):
    done = []

    async def work():
        done.append(asyncio.current_task().get_name())

    tasks.spawn(work(), "the work")
    await settle()
    assert done == ["the work"]
    assert not tasks._tasks


async def test_work_is_not_collected_while_it_runs(tasks):
    done = asyncio.Event()

    async def work():
        await asyncio.sleep(0.01)
        done.set()

    tasks.spawn(work(), "w")
    gc.collect()
    await asyncio.wait_for(done.wait(), 5)


async def test_a_failure_is_logged_with_its_name_and_stops_nobody(tasks):
    done = []

    async def broken():
        raise ValueError("broken")

    async def fine():
        await settle()
        done.append(1)

    with capture_logs() as logs:
        tasks.spawn(broken(), "the broken one")
        tasks.spawn(fine(), "fine")
        await settle()
        await settle()
    assert done == [1]
    assert [(entry["log_level"], entry["task"]) for entry in logs] == [("error", "the broken one")]
    assert isinstance(logs[0]["exc_info"], ValueError)


async def test_cancelling_waits_until_all_have_cleaned_up_and_logs_nothing(tasks):
    cleaned = []

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            await settle()
            cleaned.append(1)

    tasks.spawn(work(), "a")
    tasks.spawn(work(), "b")
    await settle()
    with capture_logs() as logs:
        await tasks.cancel()
    assert cleaned == [1, 1]
    assert logs == []
    assert not tasks._tasks


async def test_a_failure_while_cleaning_up_is_logged_and_not_raised(tasks):
    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("broken")

    tasks.spawn(work(), "w")
    await settle()
    with capture_logs() as logs:
        await tasks.cancel()
    assert [entry["task"] for entry in logs] == ["w"]


async def test_work_spawned_while_cancelling_is_cancelled_too(tasks):
    ended = []

    async def late():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("late")

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            tasks.spawn(late(), "late")
            await settle()

    tasks.spawn(work(), "w")
    await settle()
    await tasks.cancel()
    assert ended == ["late"]
    assert not tasks._tasks


async def test_cancelling_nothing_and_twice_is_fine(tasks):
    await tasks.cancel()
    await tasks.cancel()


async def test_foreign_code_runs_in_a_thread_that_the_end_of_the_process_does_not_wait_for():
    thread = await in_own_thread(threading.current_thread)
    assert thread.daemon
    assert thread is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        await in_own_thread(lambda: 1 / 0)


async def test_a_cancellation_that_a_library_loses_is_said_again(tasks):
    lost: list[str] = []

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost.append("once")

    tasks.spawn(stubborn(), "stubborn")
    await asyncio.sleep(0)
    await tasks.cancel()
    assert lost == ["once"]
