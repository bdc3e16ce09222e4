"""A child of the jobs that does as the file's or contract's name tells it; it speaks the protocol of `jobspec`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from vnpy_core.domain.errors import FieldError, TimeSeriesUnavailable, ValidationFailed
from vnpy_core.features.market_data.jobspec import JobSpec, OnProgress, serve_job

LINE = b"2026-11-20T13:00:00Z,3500,1\n"


def work(spec: JobSpec, on_progress: OnProgress) -> dict[str, Any]:
    return export(spec) if spec.kind == "export" else import_(spec, on_progress)


def import_(spec: JobSpec, on_progress: OnProgress) -> dict[str, Any]:
    path = Path(spec.spec["path"])
    name = Path(spec.spec["name"]).name.partition(".")[0]
    if name == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    on_progress(0.1, f"pid {os.getpid()}")
    match name:
        case "slow" | "stubborn":
            for step in range(3_000):
                time.sleep(0.02)
                on_progress(0.1 + step / 10_000, f"pid {os.getpid()}")
        case "quick":
            on_progress(0.5, "half")
            on_progress(1.0, "all of it")
        case "silent":
            time.sleep(60)
        case "crash":
            raise RuntimeError("a bug in the child")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "refused":
            wrong = FieldError("refused.csv:17", "LastPrice is no number")
            raise ValidationFailed("the file has bad rows", errors=[wrong])
        case "noisy":
            print("not a report")
            print("x" * 1_000_000, file=sys.stderr)
        case "bad":
            bad = [{"place": f"bad.csv:{row}", "reason": "is no number"} for row in range(1_000)]
            return {"rows": 1, "bad": bad, "bad_count": 2_000}
    with path.open("rb") as file:
        rows = size = 0
        while part := file.read(1 << 20):
            rows += part.count(b"\n")
            size += len(part)
    return {"rows": rows, "bytes": size, "path": str(path), "fields": spec.spec, "nice": os.nice(0)}


def export(spec: JobSpec) -> dict[str, Any]:
    name = spec.spec["vt_symbol"].partition(".")[0]
    if name == "early":
        raise TimeSeriesUnavailable("the store is away")
    if name == "hangs":
        time.sleep(60)
    if name == "wrong":
        raise ValidationFailed("no such series")
    rows = 0
    with open(spec.out, "wb") as out:
        while name == "endless" or rows < 100_000:
            out.write(LINE * 1_000)
            rows += 1_000
            if name == "late" and rows == 50_000:
                out.flush()
                raise TimeSeriesUnavailable("the store went away")
            if name == "dies" and rows == 50_000:
                out.flush()
                os.kill(os.getpid(), signal.SIGKILL)
    return {"rows": rows}


if __name__ == "__main__":
    sys.exit(serve_job(work))
