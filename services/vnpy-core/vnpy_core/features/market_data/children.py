"""The parent's side of `jobspec`: start a child, follow its reports, end it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog

from vnpy_core.domain.errors import CoreError, describe
from vnpy_core.features.market_data.jobspec import JobSpec, OnProgress, Report, raised_by

GRACE_S = 2.0
"""How long a child may take to end after SIGTERM, seconds; SIGKILL follows."""
LINE_LIMIT = 8 * 1024 * 1024
"""The longest report, bytes: a result with a thousand bad rows is far below."""
STDERR_KEPT = 4_000
"""Characters of a crashed child's last words that go to the log."""

_log = structlog.get_logger(__name__)


class ChildFailed(CoreError):
    """The child ended without a result: it crashed or was killed."""


class Child:
    """One running child. Loop thread only.

    Usage: `child = await Child.start(…)`, `await child.result(…)`, and `await child.end()` in any case.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._last_words = asyncio.create_task(_tail(process), name=f"stderr of {process.pid}")

    @classmethod
    async def start(cls, command: Sequence[str], spec: JobSpec, *, pass_fds: Sequence[int] = ()) -> Child:
        """Start `command` and hand it `spec`; it inherits `pass_fds`. Raises ChildFailed."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=LINE_LIMIT, pass_fds=pass_fds
            )
        except OSError as error:
            raise ChildFailed(f"no process can be started: {describe(error)}") from error
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(spec) + b"\n")  # small: the pipe takes it without waiting
        return cls(process)

    async def result(self, on_progress: OnProgress) -> dict[str, Any]:
        """Follow it to its end. Raises what it reports as its error, or ChildFailed."""
        end = Report()
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            report = _report(line)
            if report.progress is not None:
                on_progress(report.progress, report.message)
            if report.result is not None or report.error is not None:
                end = report
        code = await self._process.wait()
        if end.error is not None:
            raise raised_by(end.error)
        if code or end.result is None:
            words = await self._last_words
            _log.error("a job's process failed", ended=_how(code), stderr=words)
            raise ChildFailed(f"the job's process {_how(code)}")
        return end.result

    async def end(self) -> None:
        """End it, if it runs still, and wait until it is gone. Again is harmless."""
        try:
            if self._process.returncode is None:
                self._signal(self._process.terminate)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), GRACE_S)
        finally:
            if self._process.returncode is None:
                self._signal(self._process.kill)
            self._last_words.cancel()
            if self._process.stdin is not None:
                self._process.stdin.close()
        await self._process.wait()

    @staticmethod
    def _signal(send: Callable[[], None]) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
            send()


def _report(line: bytes) -> Report:
    try:
        return msgspec.json.decode(line, type=Report)
    except msgspec.DecodeError:
        _log.warning("a job's process wrote what is no report", line=line[:200])
        return Report()


async def _tail(process: Process) -> str:
    """Read stderr to its end, so that the child never waits for us; returns the last of it."""
    assert process.stderr is not None
    words = b""
    while part := await process.stderr.read(65_536):
        words = (words + part)[-STDERR_KEPT:]
    return words.decode(errors="replace").strip()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"
