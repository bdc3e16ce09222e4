"""Two hundred kills of a service whose strategies trade; half an hour. Not collected by `make test`, run by:

    scripts/torture strategies

`VNPYCORE_TEST_SEED=n` repeats a run, `VNPYCORE_TORTURE_STRATEGY_KILLS` is how many (200), `…_STRATEGIES` how many trade
at once (20).
"""

from __future__ import annotations

import os
import secrets

import pytest

from testkit.kills import KillRun, failpoints, outlived_starts, positions

KILLS = int(os.environ.get("VNPYCORE_TORTURE_STRATEGY_KILLS", "200"))
STRATEGIES = int(os.environ.get("VNPYCORE_TORTURE_STRATEGIES", "20"))
SEED = os.environ.get("VNPYCORE_TEST_SEED") or secrets.token_hex(4)
POINTS = [name for name in failpoints() if name.startswith(("cta.", "gate.", "stage."))]
"""Where a strategy's orders, fills and files are on their way; after a commit fills are known and not counted yet."""


def kill_somehow(run: KillRun) -> None:
    """Under load, during a start, or where a strategy's file is written."""
    chance = run.random.random()
    if chance < 0.2:
        run.service.kill()
        run.service.fork()
        run.kill_after(run.random.uniform(0.0, 2.0))
    elif chance < 0.5:
        run.service.kill()
        point = run.random.choice(POINTS)
        run.die_at(f"{point}:{run.random.randint(1, 20 if point.startswith('cta') else 120)}")
    else:
        run.kill_after(run.random.uniform(0.1, 2.0))


@pytest.mark.timeout(0)
def test_strategies_survive_kills(tmp_path) -> None:
    print(f"seed {SEED}")
    names = [f"killed_{number}" for number in range(STRATEGIES)]
    with KillRun(tmp_path / "run", seed=f"{SEED} strategies", strategies=names, loads=1, pause_s=0.05) as run:
        run.start()
        while run.kills < KILLS:
            kill_somehow(run)
            run.start()
            found = run.check(within=60)
            run.resume()
            if run.kills % 20 == 0:
                print(f"{run.kills} kills: {len(found.ledger_trades)} fills", flush=True)
        stops = outlived_starts(found)
        print(f"{run.kills} kills, {len(found.ledger_orders)} orders, {len(stops)} stop orders outlived a start")
    assert set(positions(found)) == set(names), "one of them has not traded"
    assert stops
