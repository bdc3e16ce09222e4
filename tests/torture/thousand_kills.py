"""A thousand kills at random instants and failpoints; hours. Not collected by `make test`, run by `make torture`:

    .venv/bin/python -m pytest -q -s tests/torture/thousand_kills.py

`VNPYCORE_TEST_SEED=n` repeats a run, `VNPYCORE_TORTURE_KILLS` is how many (1000).
"""

from __future__ import annotations

import os
import secrets

import pytest

from testkit.kills import KillRun, failpoints

KILLS = int(os.environ.get("VNPYCORE_TORTURE_KILLS", "1000"))
PARTS = max(1, KILLS // 200)
ON_ONE_FOLDER = max(1, KILLS // (2 * PARTS))
"""Kills in one data folder; there are two durabilities."""
SEED = os.environ.get("VNPYCORE_TEST_SEED") or secrets.token_hex(4)
SOONER = {"CUT_S": 0.2, "MAINTAIN_S": 0.1, "CARRY_ROWS_TO_CUT": 1, "CARRY_SPREAD": 0}


def kill_somehow(run: KillRun) -> None:
    """During a start, under load, or at a failpoint; the journal's housekeeping works in a fifth of them."""
    constants = {"vnpy_core.engine.stage": SOONER} if run.random.random() < 0.2 else {}
    points = [name for name in failpoints() if constants or "cut" not in name]
    chance = run.random.random()
    if chance < 0.3:
        run.service.fork(constants=constants)
        run.kill_after(run.random.uniform(0.0, 1.5))
    elif chance < 0.6:
        point = run.random.choice(points)
        run.die_at(f"{point}:{1 if 'cut' in point else run.random.randint(1, 80)}", constants=constants)
    else:
        run.start(constants=constants)
        run.kill_after(run.random.uniform(0.0, 2.0))


@pytest.mark.timeout(0)
@pytest.mark.parametrize("durability", ["power", "process"])
@pytest.mark.parametrize("part", range(PARTS))
def test_kills(tmp_path, durability: str, part: int) -> None:
    seed = f"{SEED}-{durability}-{part}"
    print(f"seed {SEED}, part {seed}")
    with KillRun(tmp_path / "run", seed=seed, durability=durability) as run:
        run.start()
        while run.kills < ON_ONE_FOLDER:
            run.service.kill()
            kill_somehow(run)
            run.start()
            run.check()
            run.resume()
        found = run.check()
        assert run.canaries().found() == []
        times = sorted(run.ready)
        print(
            f"{run.kills} kills: {len(found.ledger_orders)} orders, {len(found.ledger_trades)} fills; "
            f"ready after {times[len(times) // 2]:.2f} s, {times[-1]:.2f} s at most"
        )
