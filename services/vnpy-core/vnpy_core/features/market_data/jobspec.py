"""Jobs that run in a process of their own, so that long Python work does not hold the trading process' interpreter.

The parent writes one line to the child's stdin, a JobSpec as JSON, and leaves it open: when it closes, the parent is
gone, and the child ends. The child writes lines to stdout: `{"progress":0.42,"message":"…"}` as it goes on, then either
`{"result":{…}}` (exit 0) or `{"error":{"code":"…","detail":"…","errors":[…]}}` (exit 1). SIGTERM ends it.

The child's side is `serve_job`; it imports no framework, so that the child starts quickly.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from vnpy_core.domain.errors import (
    ConfigurationError,
    CoreError,
    FieldError,
    NotFound,
    StorageFull,
    TimeSeriesUnavailable,
    ValidationFailed,
)

NICENESS = 10
"""How far a child stands back behind trading."""
REPORT_S = 0.1
"""A child reports its progress no more often, seconds."""

OnProgress = Callable[[float, str], None]
"""`(fraction, message)`: how far the work is, 0 to 1."""


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a child shall do, and where. It holds secrets in the clear: it goes over stdin only."""

    kind: str
    """`import` or `export`."""
    data: str
    """The data folder."""
    timeseries: dict[str, Any]
    """`TimeSeriesSettings`, secrets revealed."""
    contracts: str = ""
    """Path of contracts.toml."""
    spec: dict[str, Any] = {}
    """The fields of ImportSpec or ExportSpec."""
    out: str = ""
    """Where an export goes: a path to open with "wb". Of a CSV it is a pipe (`/dev/fd/<n>`), which cannot seek."""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a child failed."""

    code: str
    detail: str
    errors: list[dict[str, str]] = []
    """`{field, message}` for each wrong field or row."""


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a child: progress, or the end as a result or an error."""

    progress: float | None = None
    message: str = ""
    result: dict[str, Any] | None = None
    error: Problem | None = None


_KINDS: tuple[type[CoreError], ...] = (
    ValidationFailed,
    NotFound,
    TimeSeriesUnavailable,
    StorageFull,
    ConfigurationError,
)
_ERRORS = {kind.code: kind for kind in _KINDS}


def raised_by(problem: Problem) -> CoreError:
    """The error that a child reported, for its parent to raise."""
    errors = [FieldError(error["field"], error["message"]) for error in problem.errors]
    return _ERRORS.get(problem.code, CoreError)(problem.detail, errors=errors)


def serve_job(work: Callable[[JobSpec, OnProgress], dict[str, Any]]) -> int:
    """Be the child: read the spec from stdin, do `work`, report on stdout. Returns the exit code.

    `work` returns the result, JSON's types and times; a CoreError that it raises is reported, others leave a trace on
    stderr and end the process. What anything else writes to stdout goes to stderr.
    """
    os.nice(NICENESS)
    spec = msgspec.json.decode(_line(0), type=JobSpec)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    answers = os.dup(1)
    os.dup2(2, 1)
    reported = -REPORT_S
    waiting: Report | None = None

    def on_progress(fraction: float, message: str) -> None:
        nonlocal reported, waiting
        waiting = Report(progress=fraction, message=message)
        if (now := time.monotonic()) - reported >= REPORT_S:
            reported = now
            _write(answers, waiting)
            waiting = None

    try:
        result = work(spec, on_progress)
    except CoreError as error:
        wrong = [field.as_dict() for field in error.errors]
        _write(answers, Report(error=Problem(error.code, error.detail, wrong)))
        return 1
    if waiting is not None:
        _write(answers, waiting)  # the last word stays on the job
    _write(answers, Report(result=result))
    return 0


def _line(descriptor: int) -> bytes:
    """The first line; unbuffered, because a thread goes on to wait at this descriptor while the process ends."""
    line = bytearray()
    while not line.endswith(b"\n") and (part := os.read(descriptor, 65_536)):
        line += part
    return bytes(line)


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)  # without a word: nobody reads stderr any more


def _write(descriptor: int, report: Report) -> None:
    left = memoryview(msgspec.json.encode(report, enc_hook=str) + b"\n")
    while left:
        left = left[os.write(descriptor, left) :]
