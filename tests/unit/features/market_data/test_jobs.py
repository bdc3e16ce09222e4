"""The runner of jobs by itself: states, what is published and kept, how it ends."""

import asyncio
import json

import pytest

from testkit.clock import FakeClock
from vnpy_core.domain.enums import JobState
from vnpy_core.domain.errors import Conflict, NotFound, Overloaded, ValidationFailed
from vnpy_core.features.market_data import jobs as module
from vnpy_core.features.market_data.jobs import SERVICE_ENDED, Jobs

DEADLINE_S = 10


class Runner:
    def __init__(self, folder, **settings):
        self.events = []
        self.folder = folder
        self.jobs = Jobs(folder, FakeClock(), lambda topic, key, event: self.events.append(event), **settings)
        self.jobs.open()

    def submit(self, work, **more):
        return self.jobs.submit("import", work, by="tester", **more)

    async def ended(self, job):
        async with asyncio.timeout(DEADLINE_S):
            while not (now := await self.jobs.job(job.id)).state.is_final:
                await asyncio.sleep(0.005)
        return now

    async def when(self, condition):
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.005)

    def states(self, job):
        return [event.state for event in self.events if event.id == job.id]

    def kept(self, job):
        return json.loads((self.folder / f"{job.id}.json").read_bytes())


@pytest.fixture
async def runner(tmp_path):
    runner = Runner(tmp_path)
    yield runner
    await runner.jobs.close()


async def quick(report):
    return {"rows": 1}


async def endless(report):
    await asyncio.Event().wait()


async def test_a_job_is_queued_runs_and_is_done(runner):
    job = runner.submit(quick)
    assert job.state is JobState.QUEUED
    ended = await runner.ended(job)
    assert (ended.state, ended.progress, ended.result, ended.by) == (JobState.DONE, 1.0, {"rows": 1}, "tester")
    assert runner.states(job) == [JobState.QUEUED, JobState.RUNNING, JobState.DONE]
    assert runner.kept(job)["state"] == "DONE"


async def test_each_state_is_on_disk_before_it_matters(runner):
    seen = []

    async def work(report):
        seen.append(runner.kept(job)["state"])
        return {}

    job = runner.submit(work)
    await runner.ended(job)
    assert seen == ["RUNNING"]


async def test_an_error_is_told_and_a_bug_is_not(runner):
    async def refuse(report):
        raise ValidationFailed("wrong columns")

    async def fail(report):
        raise RuntimeError("inner detail")

    refused, failed = [await runner.ended(runner.submit(work)) for work in (refuse, fail)]
    assert (refused.state, refused.message) == (JobState.FAILED, "wrong columns")
    assert refused.result == {"code": "VALIDATION_FAILED", "errors": []}
    assert failed.state is JobState.FAILED
    assert "inner detail" not in failed.message


async def test_progress_is_published_seldom_but_the_last_of_it_is(runner, monkeypatch):
    monkeypatch.setattr(module, "EMIT_S", 0.05)
    go = asyncio.Event()

    async def work(report):
        for step in range(1, 101):
            report(step / 200, f"{step}")
        await go.wait()
        return {}

    job = runner.submit(work)
    await runner.when(lambda: runner.events[-1].message == "100")
    assert 2 <= len(runner.events) <= 5
    assert runner.events[-1].progress == 0.5
    go.set()
    await runner.ended(job)


async def test_progress_never_goes_back_nor_past_the_end(runner):
    async def work(report):
        for fraction in (0.5, 0.2, 7.0):
            report(fraction, "")
            seen.append((await runner.jobs.job(job.id)).progress)
        return {}

    seen = []
    job = runner.submit(work)
    await runner.ended(job)
    assert seen == [0.5, 0.5, 1.0]


async def test_so_many_at_a_time_in_the_order_in_which_they_came(tmp_path):
    runner = Runner(tmp_path, parallel=2)
    order, most, running = [], 0, set()

    def work(number):
        async def run(report):
            nonlocal most
            order.append(number)
            running.add(number)
            most = max(most, len(running))
            await asyncio.sleep(0.01)
            running.remove(number)
            return {}

        return run

    made = [runner.submit(work(number)) for number in range(8)]
    for job in made:
        await runner.ended(job)
    assert most == 2
    assert order == sorted(order)
    assert [job.id for job in runner.jobs.jobs(None, 100)] == [job.id for job in made][::-1]
    await runner.jobs.close()


async def test_the_queue_is_bounded_and_what_is_refused_is_not_called(tmp_path):
    runner = Runner(tmp_path, queue=3)
    running = runner.submit(endless)
    await runner.when(lambda: JobState.RUNNING in runner.states(running))
    for _ in range(3):
        runner.submit(endless)
    called = []
    with pytest.raises(Overloaded):
        runner.submit(quick, on_end=lambda: called.append(1))
    with pytest.raises(Overloaded):
        runner.jobs.check_room()
    await runner.jobs.close()
    assert called == []


@pytest.mark.parametrize("begun", [True, False])
async def test_cancelling_ends_it_once_and_cleans_up(runner, begun):
    called, cleaned = [], asyncio.Event()

    async def work(report):
        called.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            called.append("ended")

    job = runner.submit(work, on_end=cleaned.set)
    if begun:
        await runner.when(lambda: called)
    runner.jobs.cancel(job.id)
    runner.jobs.cancel(job.id)
    ended = await runner.ended(job)
    await asyncio.wait_for(cleaned.wait(), DEADLINE_S)
    assert ended.state is JobState.CANCELLED
    assert called == (["began", "ended"] if begun else [])
    with pytest.raises(Conflict):
        runner.jobs.cancel(job.id)
    with pytest.raises(NotFound):
        runner.jobs.cancel("abc")


async def test_closing_fails_what_is_under_way_and_takes_no_more(runner):
    jobs = [runner.submit(endless) for _ in range(3)]
    await runner.when(lambda: JobState.RUNNING in runner.states(jobs[0]))
    await runner.jobs.close()
    assert [(runner.kept(job)["state"], runner.kept(job)["message"]) for job in jobs] == [("FAILED", SERVICE_ENDED)] * 3
    with pytest.raises(Overloaded):
        runner.submit(quick)


async def test_a_restart_remembers_and_fails_what_was_under_way(runner, tmp_path):
    done = await runner.ended(runner.submit(quick))
    left = runner.submit(endless)
    await runner.when((runner.folder / f"{left.id}.json").exists)
    await runner.when(lambda: runner.kept(left)["state"] == "RUNNING")
    again = Runner(tmp_path)
    assert (await again.jobs.job(done.id)) == done
    assert ((await again.jobs.job(left.id)).state, (await again.jobs.job(left.id)).message) == ("FAILED", SERVICE_ENDED)
    assert again.kept(left)["state"] == "FAILED"
    assert again.states(left) == ["FAILED"]  # told to those who follow the topic, too


async def test_the_oldest_are_forgotten_but_never_what_runs(runner, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 3)
    first = runner.submit(endless)
    runner.jobs._slots.release()  # the first one keeps its own
    made = [runner.submit(quick) for _ in range(5)]
    await runner.ended(made[-1])
    await runner.when(lambda: len(list(runner.folder.iterdir())) == 3)
    assert {job.id for job in runner.jobs.jobs(None, 100)} == {first.id, made[-1].id, made[-2].id}


async def test_a_disk_that_is_full_does_not_stop_the_work(runner, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomic", full)
    assert (await runner.ended(runner.submit(quick))).state is JobState.DONE
