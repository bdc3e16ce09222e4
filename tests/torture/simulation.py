"""Thousands of simulated trading lives: `simulation.py [COUNT [FIRST_SEED]]`. Failures are printed with their seeds.

`simulation.py 1 SEED` lives one life again.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
SQLITE_EVERY = 25
"""One in so many lives is on the real journal, which takes longer."""
PART = 50


def prepare(folder: str) -> None:
    """VnPy fixes its folder at its first import; the service's log lines would cost more than the lives."""
    home = Path(folder) / f"home-{os.getpid()}"
    (home / ".vntrader").mkdir(parents=True)
    os.environ["HOME"] = str(home)
    sys.path.insert(0, str(TESTS))
    import structlog

    level = structlog.make_filtering_bound_logger(50)
    structlog.configure(wrapper_class=level, logger_factory=structlog.ReturnLoggerFactory())


def live(seeds: range) -> list[str]:
    """What failed."""
    from testkit.simulation import Simulation

    failures = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            try:
                Simulation(seed, folder=Path(folder) if seed % SQLITE_EVERY == 0 else None).run()
            except Exception:  # noqa: BLE001 - any failure of a life is told with its seed
                failures.append(f"seed {seed}:\n{traceback.format_exc()}")
    return failures


def main(count: int = 10_000, first: int = 0) -> int:
    started = time.monotonic()
    parts = [range(seed, min(seed + PART, first + count)) for seed in range(first, first + count, PART)]
    context = multiprocessing.get_context("spawn")
    lived = failed = 0
    with (
        tempfile.TemporaryDirectory(prefix="vnpy-core-simulation-") as folder,
        context.Pool(min(len(parts), os.cpu_count() or 1), prepare, (folder,)) as pool,
    ):
        for part, failures in zip(parts, pool.imap(live, parts), strict=True):
            lived += len(part)
            failed += len(failures)
            for failure in failures:
                print(failure, flush=True)
            if lived % 1000 == 0 or lived == count:
                print(f"{lived} of {count} lives, {failed} failed, {time.monotonic() - started:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
