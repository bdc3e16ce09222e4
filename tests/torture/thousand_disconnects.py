"""A thousand disconnects, core restarts, edge switches and Redis faults, with clients that check. Some minutes:

    .venv/bin/python -m pytest -q -s tests/torture/thousand_disconnects.py

`VNPYCORE_TEST_SEED=n` repeats a run, `VNPYCORE_TORTURE_DISCONNECTS` is how many (1000).
"""

from __future__ import annotations

import os
import secrets
import time

import pytest

from testkit.stream_run import StreamRun, stream_run

EVENTS = int(os.environ.get("VNPYCORE_TORTURE_DISCONNECTS", "1000"))
SEED = os.environ.get("VNPYCORE_TEST_SEED") or secrets.token_hex(4)
CHECK_EVERY = 100


def hurt(run: StreamRun) -> None:
    """Mostly a connection; sometimes a process, or Redis."""
    chance = run.random.random()
    if chance < 0.90:
        run.disconnect()
    elif chance < 0.95:
        run.kill_edge()
    elif chance < 0.98:
        run.kill_core()
    else:
        run.hurt_redis()
    time.sleep(run.random.uniform(0.0, 0.2))


@pytest.mark.timeout(0)
def test_nothing_is_missed_and_nothing_comes_twice(tmp_path) -> None:
    with stream_run(tmp_path / "run", SEED, checkers=10) as run:
        for number in range(1, EVENTS + 1):
            hurt(run)
            if number % CHECK_EVERY == 0 or number == EVENTS:
                run.check()
                print(f"{number}: {run.counts()}")
                run.core.resume()
        print(
            f"{run.disconnects} connections cut, {run.core_kills} cores and {run.edge_kills} edges ended, "
            f"{run.redis_faults} times Redis; {run.counts()}"
        )
