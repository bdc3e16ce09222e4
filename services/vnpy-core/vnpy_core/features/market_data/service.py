"""The rules of market data: who reads what how, what is put on record, what becomes a job."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog

from vnpy_core.domain.bars import Period
from vnpy_core.domain.errors import ConfigurationError, Overloaded, describe
from vnpy_core.domain.events import Job
from vnpy_core.domain.history import FIRST_NS, LAST_NS, Coverage, Interval, Series, to_datetime, to_ns
from vnpy_core.features.market_data import uploads
from vnpy_core.features.market_data.children import Child
from vnpy_core.features.market_data.downloading import DownloadSpec, download
from vnpy_core.features.market_data.exports import Exports
from vnpy_core.features.market_data.jobs import Jobs
from vnpy_core.features.market_data.jobspec import JobSpec, OnProgress
from vnpy_core.features.market_data.reading import BarSource, Range, read_bars, read_ticks
from vnpy_core.features.market_data.settings import DataSettings
from vnpy_core.features.market_data.uploads import MB, Room
from vnpy_core.features.market_data.wire import Stored, bar_page, tick_page
from vnpy_core.features.market_data.workers import Workers
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.history_source import HistorySource
from vnpy_core.ports.recorder import Recorder, RecorderState
from vnpy_core.ports.timeseries import TimeSeriesStore
from vnpy_core.web.audit import AuditTrail

Key = tuple[str, str]
"""`(vt_symbol, interval)`: what an overview is sorted by."""
UPLOADS = "uploads"
"""Folder of the data folder: files on their way in or out, none of which outlives its job."""

_log = structlog.get_logger(__name__)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which series of an overview."""

    vt_symbol: str | None = None
    kind: str | None = None

    def admits(self, item: Stored) -> bool:
        """Whether it is among those asked for."""
        return self.vt_symbol in (None, item.vt_symbol) and self.kind in (None, item.kind)


class MarketDataService:
    """Loop thread only, but for `open`. `by` is the name of who asks: changes are put on record with it."""

    def __init__(
        self,
        store: TimeSeriesStore,
        jobs: Jobs,
        *,
        recorder: Recorder,
        source: HistorySource,
        audit: AuditTrail,
        clock: Clock,
        settings: DataSettings,
        command: Sequence[str],
        child: JobSpec,
    ) -> None:
        """`command` starts a child (see `jobspec`); `child` tells it where data, store and contracts are."""
        self._store = store
        self._jobs = jobs
        self._recorder = recorder
        self._source = source
        self._audit = audit
        self._clock = clock
        self._command = command
        self._child = child
        self._workers = Workers()
        self._room = Room(Path(child.data) / UPLOADS, settings.upload_mb * MB, settings.keep_free_mb * MB)
        self._exports = Exports(command, self._room, limit=settings.exports)
        self._uploads = settings.uploads
        self._uploading = 0

    def open(self) -> None:
        """Remember earlier jobs and remove what a killed run left behind. Blocks; before serving.

        Raises ConfigurationError: the folders cannot be used.
        """
        folder = self._room.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for left in filter(Path.is_file, folder.iterdir()):
                left.unlink()
            self._jobs.open()
        except OSError as error:
            raise ConfigurationError(f"{folder.parent} cannot be used: {describe(error)}") from error

    async def close(self) -> None:
        """End jobs, exports and their processes. The store is left open."""
        await self._jobs.close()
        await self._exports.close()
        self._workers.close()

    # Reading

    async def bars(self, wanted: Range, period: Period, source: BarSource | None) -> bytes:
        """One page as JSON. Raises ValidationFailed, Overloaded, TimeSeriesUnavailable."""
        now_ns = to_ns(self._clock.now())

        def read() -> bytes:
            return bar_page(wanted, period, read_bars(self._store, wanted, period, now_ns=now_ns, source=source))

        return await self._workers.call(read)

    async def ticks(self, wanted: Range) -> bytes:
        """One page as JSON. Raises Overloaded, TimeSeriesUnavailable."""
        return await self._workers.call(lambda: tick_page(wanted, read_ticks(self._store, wanted)))

    async def overview(self, wanted: Filter, after: Key | None, limit: int) -> tuple[list[Stored], Key | None]:
        """One page of what the store has, and the key of its last item where more follow.

        Raises Overloaded, TimeSeriesUnavailable.
        """
        return await self._workers.call(lambda: _listed(self._store.overview(), wanted, after, limit))

    # Changing

    async def delete(self, series: Series, interval: Interval | None, start_ns: int, end_ns: int, *, by: str) -> int:
        """Take a range of bars, or (no `interval`) of ticks away, once that is on record; returns how many rows.

        Raises StorageFull, JournalFailed, Overloaded, TimeSeriesUnavailable.
        """
        what = "bars" if interval else "ticks"
        asked = {"interval": interval, "start": _text(start_ns), "end": _text(end_ns)}
        await self._audit.require(by, f"{what}.delete", series.vt_symbol, after=asked)
        if interval is None:
            count = await self._workers.call(lambda: self._store.delete_ticks(series, start_ns, end_ns))
        else:
            count = await self._workers.call(lambda: self._store.delete_bars(series, interval, start_ns, end_ns))
        _log.info("market data deleted", kind=what, vt_symbol=series.vt_symbol, **asked, count=count, by=by)
        return count

    async def import_file(
        self,
        stream: AsyncGenerator[bytes, None],
        content_type: str,
        announced: int | None,
        spec_of: Callable[[dict[str, str]], dict[str, Any]],
        *,
        by: str,
    ) -> Job:
        """Take a file and the fields of an ImportSpec from a form, and queue the job.

        `announced` is the form's length as far as that is known; `spec_of` checks the form's other fields. Raises what
        it raises, ValidationFailed, PayloadTooLarge, StorageFull, Overloaded.
        """
        self._jobs.check_room()  # before gigabytes come for nothing
        if self._uploading >= self._uploads:
            raise Overloaded(f"{self._uploads} uploads are under way already")
        self._uploading += 1
        try:
            upload = await uploads.take(self._room, secrets.token_hex(8), stream, content_type, announced)
        finally:
            self._uploading -= 1
        remove = partial(upload.path.unlink, missing_ok=True)
        try:
            spec = spec_of(upload.fields) | {"path": str(upload.path), "name": upload.name}
            job = self._jobs.submit("import", partial(self._in_child, "import", spec), by=by, on_end=remove)
        except BaseException:
            await asyncio.to_thread(remove)
            raise
        after = {"job": job.id, "kind": spec["kind"], "vt_symbol": spec.get("vt_symbol", ""), "bytes": upload.size}
        await self._audit.note(by, "data.import", upload.name, after=after)
        return job

    async def download(self, spec: DownloadSpec, *, by: str) -> Job:
        """Queue a download. Raises Overloaded."""
        work = partial(download, spec, self._source, self._store, self._workers)
        job = self._jobs.submit("download", work, by=by)
        after = {"job": job.id, "interval": spec.interval, "start": spec.start.isoformat(), "end": spec.end.isoformat()}
        await self._audit.note(by, "data.download", spec.series.vt_symbol, after=after)
        return job

    def export(self, spec: dict[str, Any]) -> AbstractAsyncContextManager[AsyncGenerator[bytes, None]]:
        """The bytes of an ExportSpec's file as they come, see `Exports.open`."""
        job = msgspec.structs.replace(self._child, kind="export", spec=spec)
        return self._exports.open(job, seekable=spec["format"] == "parquet")

    # Jobs

    def jobs(self, before: str | None, limit: int) -> list[Job]:
        """The newest, of those older than the job `before`."""
        return self._jobs.jobs(before, limit)

    async def job(self, job_id: str) -> Job:
        """One with its whole result. Raises NotFound."""
        return await self._jobs.job(job_id)

    async def cancel(self, job_id: str, *, by: str) -> Job:
        """Ask it to end. Raises NotFound, Conflict (it has ended)."""
        job = self._jobs.cancel(job_id)
        await self._audit.note(by, "job.cancel", job_id)
        return job

    # Recording

    async def recorder(self) -> RecorderState:
        """What is recorded, and what was not."""
        return await asyncio.to_thread(self._recorder.state)  # it is to be seen though the store hangs

    async def record(self, patterns: tuple[str, ...], *, by: str) -> RecorderState:
        """Record these from now on. Raises ValidationFailed, StorageFull, TimeSeriesUnavailable."""
        before = self._recorder.patterns
        await asyncio.to_thread(self._recorder.set_patterns, patterns)
        await self._audit.note(by, "recorder.set", before={"symbols": before}, after={"symbols": patterns})
        return await self.recorder()

    async def _in_child(self, kind: str, spec: dict[str, Any], on_progress: OnProgress) -> dict[str, Any]:
        child = await Child.start(self._command, msgspec.structs.replace(self._child, kind=kind, spec=spec))
        try:
            return await child.result(on_progress)
        finally:
            await child.end()


def _listed(found: list[Coverage], wanted: Filter, after: Key | None, limit: int) -> tuple[list[Stored], Key | None]:
    items = sorted(filter(wanted.admits, map(Stored.of, found)), key=_key)
    items = [item for item in items if after is None or _key(item) > after]
    return items[:limit], _key(items[limit - 1]) if len(items) > limit else None


def _key(item: Stored) -> Key:
    return item.vt_symbol, item.interval


def _text(ns: int) -> str | None:
    return None if ns in (FIRST_NS, LAST_NS) else to_datetime(ns).isoformat()
