"""Long work with progress: a few at a time, the rest in a bounded queue, and honest about it after a restart.

Each job has a file in the folder `jobs`, written when it comes, begins and ends. The last `KEPT` jobs are remembered;
of a long list of bad rows memory has the first few, and the file all that were reported.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from vnpy_core.bus import topics
from vnpy_core.domain.enums import JobState
from vnpy_core.domain.errors import Conflict, CoreError, NotFound, Overloaded, describe
from vnpy_core.domain.events import Event, Job
from vnpy_core.features.market_data.jobspec import OnProgress
from vnpy_core.kit.files import write_atomic
from vnpy_core.ports.clock import Clock

T = TypeVar("T")

KEPT = 1_000
"""Jobs that are remembered; the oldest that have ended go first."""
EMIT_S = 0.25
"""Progress of one job is published no more often, seconds."""
ROWS_IN_MEMORY = 20
"""Items of a list in a result that lists and events show; `GET /jobs/{id}` shows all."""
SERVICE_ENDED = "the service ended"

Work = Callable[[OnProgress], Awaitable[dict[str, Any]]]
"""What a job does: given a way to report progress (loop thread), it returns the result. Cancelled to end it."""
Emit = Callable[[str, str, Event], None]
"""`EngineHost.emit`."""

_log = structlog.get_logger(__name__)


class Jobs:
    """Loop thread only, but for `open`."""

    def __init__(self, folder: Path, clock: Clock, emit: Emit, *, parallel: int = 1, queue: int = 100) -> None:
        self._folder = folder
        self._clock = clock
        self._emit = emit
        self._queue = queue
        self._slots = asyncio.Semaphore(parallel)
        self._disk = ThreadPoolExecutor(1, "jobs")  # one thread, so that a job's states are written in their order
        self._jobs: dict[str, Job] = {}
        self._works: dict[str, asyncio.Task[dict[str, Any]]] = {}
        """What is under way, until its end is on record."""
        self._ends: set[asyncio.Task[None]] = set()
        self._emitted: dict[str, float] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closing = False
        self._last_id = 0

    def open(self) -> None:
        """Remember the jobs of earlier runs; those that were under way have failed. Blocks; before serving."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for job in filter(None, map(_read, sorted(self._folder.glob("*.json")))):
            self._jobs[job.id] = _light(job if job.state.is_final else self._ended_with_service(job))
        _remove(self._forget_old())

    def check_room(self) -> None:
        """Raises Overloaded where `submit` would: the queue is full, or the service is ending."""
        waiting = sum(self._jobs[job_id].state is JobState.QUEUED for job_id in self._works)
        if self._closing or waiting >= self._queue:
            raise Overloaded(SERVICE_ENDED if self._closing else f"{waiting} jobs wait already")

    def submit(self, kind: str, work: Work, *, by: str, on_end: Callable[[], None] | None = None) -> Job:
        """Queue `work`. `on_end` (blocks; in a thread) is called when it has ended, also where it never began.

        Raises Overloaded; nothing is called then.
        """
        self.check_room()
        now = self._clock.now()
        job = Job(id=self._new_id(), kind=kind, state=JobState.QUEUED, created_at=now, updated_at=now, by=by)
        self._jobs[job.id] = job
        self._publish(job.id)
        self._on_disk(self._write, job)
        self._works[job.id] = asyncio.create_task(self._run(job.id, work), name=f"job {job.id}")
        end = asyncio.create_task(self._end(job.id, on_end), name=f"end of job {job.id}")
        self._ends.add(end)
        end.add_done_callback(self._ends.discard)
        return job

    def jobs(self, before: str | None, limit: int) -> list[Job]:
        """The newest `limit` that are older than the job `before`, newest first."""
        ids = sorted((name for name in self._jobs if before is None or name < before), reverse=True)
        return [self._jobs[name] for name in ids[:limit]]

    async def job(self, job_id: str) -> Job:
        """One with its whole result. Raises NotFound."""
        job = self._known(job_id)
        if not job.state.is_final:
            return job
        return await self._on_disk(_read, self._path(job_id)) or job

    def cancel(self, job_id: str) -> Job:
        """Ask it to end; CANCELLED follows as soon as it has. Raises NotFound, Conflict (it has ended)."""
        job = self._known(job_id)
        work = self._works.get(job_id)
        if work is None or work.done():
            raise Conflict(f"the job {job_id} has ended already")
        if not work.cancelling():
            work.cancel()
            job = self._change(job_id, message="being cancelled")
        return job

    async def close(self) -> None:
        """End what runs and what waits, all of it FAILED, and wait until it has ended."""
        self._closing = True
        for work in self._works.values():
            work.cancel()
        await asyncio.gather(*self._ends)

    async def _run(self, job_id: str, work: Work) -> dict[str, Any]:
        async with self._slots:
            await self._on_disk(self._write, self._change(job_id, state=JobState.RUNNING))
            return await work(lambda fraction, message: self._progress(job_id, fraction, message))

    async def _end(self, job_id: str, on_end: Callable[[], None] | None) -> None:
        work = self._works[job_id]
        await asyncio.wait({work})
        changes = self._outcome(job_id, work)
        job = msgspec.structs.replace(self._jobs[job_id], updated_at=self._clock.now(), **changes)
        # First the file, for whoever asks for the whole result as soon as he hears of the end.
        await self._on_disk(self._write, job)
        self._jobs[job_id] = _light(job)
        del self._works[job_id]
        self._publish(job_id)
        del self._emitted[job_id]
        if on_end is not None:
            await self._on_disk(on_end)
        await self._on_disk(_remove, self._forget_old())

    def _outcome(self, job_id: str, work: asyncio.Task[dict[str, Any]]) -> dict[str, Any]:
        """What changes about the job as it ends."""
        if work.cancelled() and self._closing:
            return {"state": JobState.FAILED, "message": SERVICE_ENDED}
        if work.cancelled():
            return {"state": JobState.CANCELLED, "message": "cancelled"}
        error = work.exception()
        if error is None:
            return {"state": JobState.DONE, "progress": 1.0, "result": work.result()}
        if isinstance(error, CoreError):
            result = {"code": error.code, "errors": [field.as_dict() for field in error.errors]}
            return {"state": JobState.FAILED, "message": error.detail, "result": result}
        _log.error("a job failed unexpectedly", job=job_id, exc_info=error)
        return {"state": JobState.FAILED, "message": "an internal error; the service's log has it"}

    def _ended_with_service(self, job: Job) -> Job:
        now = self._clock.now()
        job = msgspec.structs.replace(job, state=JobState.FAILED, message=SERVICE_ENDED, updated_at=now)
        self._write(job)
        self._emit(topics.JOB_UPDATED, job.id, _light(job))
        return job

    def _progress(self, job_id: str, fraction: float, message: str) -> None:
        fraction = min(max(fraction, self._jobs[job_id].progress), 1.0)
        changed = {"progress": fraction, "message": message, "updated_at": self._clock.now()}
        self._jobs[job_id] = msgspec.structs.replace(self._jobs[job_id], **changed)
        loop = asyncio.get_running_loop()
        due = self._emitted.get(job_id, 0.0) + EMIT_S
        if loop.time() >= due:
            self._publish(job_id)
        elif job_id not in self._timers:
            self._timers[job_id] = loop.call_at(due, self._publish, job_id)

    def _change(self, job_id: str, **changes: Any) -> Job:
        job = msgspec.structs.replace(self._jobs[job_id], updated_at=self._clock.now(), **changes)
        self._jobs[job_id] = job
        self._publish(job_id)
        return job

    def _publish(self, job_id: str) -> None:
        if timer := self._timers.pop(job_id, None):
            timer.cancel()
        self._emitted[job_id] = asyncio.get_running_loop().time()
        self._emit(topics.JOB_UPDATED, job_id, self._jobs[job_id])

    def _known(self, job_id: str) -> Job:
        if (job := self._jobs.get(job_id)) is None:
            raise NotFound(f"there is no job {job_id}")
        return job

    def _new_id(self) -> str:
        """Sortable by time, and not to be guessed."""
        self._last_id = max(self._last_id + 1, int(self._clock.now().timestamp() * 1000))
        return f"{self._last_id:011x}{secrets.token_hex(2)}"

    def _forget_old(self) -> list[Path]:
        """The files of those that are too many."""
        ended = sorted(name for name, job in self._jobs.items() if job.state.is_final and name not in self._works)
        old = ended[: max(len(self._jobs) - KEPT, 0)]
        for name in old:
            del self._jobs[name]
        return [self._path(name) for name in old]

    def _on_disk(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._disk, function, *arguments)

    def _write(self, job: Job) -> None:
        try:
            write_atomic(self._path(job.id), msgspec.json.encode(job))
        except OSError as error:
            # The work itself goes on; after a restart this job is unknown, or shown as it was when written last.
            _log.warning("a job's state is not on disk", job=job.id, state=job.state, error=describe(error))

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.json"


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _read(path: Path) -> Job | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Job)
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("a job's file cannot be read", path=str(path), error=describe(error))
        return None


def _light(job: Job) -> Job:
    """The job with long lists of its result cut."""
    if job.result is None:
        return job
    cut = {k: v[:ROWS_IN_MEMORY] if isinstance(v, list) else v for k, v in job.result.items()}
    return msgspec.structs.replace(job, result=cut)
