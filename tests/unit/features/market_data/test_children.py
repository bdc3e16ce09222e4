"""Children that outlive nobody."""

import asyncio
import os
import sys

import pytest

from testkit import job_child
from testkit.data_api import COMMAND, DEADLINE_S
from vnpy_core.features.market_data.children import Child, ChildFailed
from vnpy_core.features.market_data.jobspec import JobSpec

PARENT = """
import asyncio, sys
from vnpy_core.features.market_data.children import Child
from vnpy_core.features.market_data.jobspec import JobSpec
async def main():
    spec = JobSpec(kind="import", data="", timeseries={}, spec={"path": "", "name": sys.argv[1]})
    child = await Child.start(sys.argv[2:], spec)
    await child.result(lambda fraction, message: print(message, flush=True))
asyncio.run(main())
"""


def spec(name):
    return JobSpec(kind="import", data="", timeseries={}, spec={"path": job_child.__file__, "name": name})


async def gone(pid):
    async with asyncio.timeout(DEADLINE_S):
        while os.path.exists(f"/proc/{pid}"):
            await asyncio.sleep(0.02)
    return True


@pytest.mark.parametrize("name", ["slow.csv", "silent.csv"])
async def test_a_child_dies_when_its_parent_is_killed(name):
    command = [sys.executable, "-c", PARENT, name, *COMMAND]
    parent = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        words = await asyncio.wait_for(parent.stdout.readline(), DEADLINE_S)
        pid = int(words.split()[1])
        assert os.path.exists(f"/proc/{pid}")
    finally:
        parent.kill()
        await parent.wait()
    assert await gone(pid)


async def test_the_last_word_of_a_child_that_is_quick_is_heard():
    told = []
    child = await Child.start(COMMAND, spec("quick.csv"))
    await child.result(lambda fraction, message: told.append((fraction, message)))
    assert told[-1] == (1.0, "all of it")
    assert len(told) == 2


async def test_a_cancelled_caller_leaves_no_child():
    pids = []
    child = await Child.start(COMMAND, spec("slow.csv"))
    following = asyncio.create_task(child.result(lambda fraction, message: pids.append(int(message.split()[1]))))
    async with asyncio.timeout(DEADLINE_S):
        while not pids:
            await asyncio.sleep(0.01)
    following.cancel()
    await child.end()
    await child.end()
    assert await gone(pids[0])


async def test_a_command_that_does_not_exist_is_an_error_of_ours():
    with pytest.raises(ChildFailed, match="no process can be started"):
        await Child.start(["/nowhere/at/all"], spec("ok.csv"))


async def test_a_command_that_is_no_child_is_an_error_of_ours():
    child = await Child.start([sys.executable, "-c", "print('hello')"], spec("ok.csv"))
    with pytest.raises(ChildFailed, match="exit code 0"):
        await child.result(lambda fraction, message: None)
    await child.end()
