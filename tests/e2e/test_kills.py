"""kill -9 at random instants and at every named failpoint: nothing is lost, nothing is doubled, and it goes on.

`VNPYCORE_TEST_SEED=n` repeats a run's load and instants; each failure names its seed.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from testkit import invariants
from testkit.kills import (
    GATEWAY_SECRET,
    STRATEGY_NAME,
    KillRun,
    failpoints,
    outlived_starts,
    owner,
    positions,
)
from testkit.load import eventually
from vnpy_core.adapters.journal.file import FILE_NAME

KILLS = 50
SOONER = {"CUT_S": 0.2, "MAINTAIN_S": 0.1, "CARRY_ROWS_TO_CUT": 1, "CARRY_SPREAD": 0}
"""The journal's housekeeping begins at once instead of after a minute, and goes on for as little as a row."""
OTHERS = "timeseries."
"""The tick store's points are killed at in its own tests: tests/unit/adapters/timeseries/embedded/test_kills.py."""
POINTS = sorted((name for name in failpoints() if not name.startswith(OTHERS)), key=lambda name: ("cut" in name, name))
"""Those that remove old rows come last, so that until then the whole history can be looked at."""


@pytest.fixture(scope="module")
def seed() -> str:
    return os.environ.get("VNPYCORE_TEST_SEED") or secrets.token_hex(4)


@pytest.fixture(scope="module")
def run(tmp_path_factory, seed) -> Iterator[KillRun]:
    with KillRun(tmp_path_factory.mktemp("kills") / "run", seed=seed) as run:
        run.start()
        run.service.kill()
        yield run


@pytest.fixture(autouse=True)
def dead_again(run: KillRun) -> Iterator[None]:
    """Whatever became of a test, the next one starts the service itself."""
    yield
    run.service.kill()


@pytest.mark.timeout(400)
def test_kills_at_random_instants(run: KillRun, seed: str) -> None:
    print(f"seed {seed}")
    while run.kills < KILLS:
        if run.random.random() < 0.5:
            run.service.fork()
            run.kill_after(run.random.uniform(0.0, 1.2))  # during the start, or a little later
            continue
        run.start()
        run.check()
        run.resume()
        run.kill_after(run.random.uniform(0.0, 0.8))
    run.start()
    found = run.check()
    times = sorted(run.ready)
    print(
        f"{run.kills} kills: {len(found.ledger_orders)} orders, {len(found.ledger_trades)} fills, "
        f"{len(found.journal)} journal rows; ready after {times[len(times) // 2]:.2f} s, {times[-1]:.2f} s at most"
    )
    assert len(found.ledger_orders) > KILLS
    assert len(found.ledger_trades) > KILLS
    outlived = outlived_starts(found)
    print(f"{len(outlived)} local stop orders ended in a later run than they began in")
    assert outlived, "no local stop order began before a kill and ended after it"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("failpoint", POINTS)
def test_a_kill_at_a_failpoint(run: KillRun, seed: str, failpoint: str) -> None:
    rng = random.Random(f"{seed} {failpoint}")
    sooner = {"vnpy_core.engine.stage": SOONER} if "cut" in failpoint else {}
    for count in (1, 2 if sooner else rng.randint(2, 60)):
        run.die_at(f"{failpoint}:{count}", constants=sooner)
    run.start()
    run.check()


def test_the_strategy_and_secrets_after_all_of_it(run: KillRun) -> None:
    run.start()
    run.check()
    log_in_to_a_gateway(run)
    assert run.canaries().found() == []
    assert run.service.terminate() == 0
    assert run.canaries().found() == []
    ended = invariants.check(run.venue.ledger, run.service.data / FILE_NAME, run.service.store_url, within=0)
    assert [o for o, order in ended.ledger_orders.items() if order["status"] in ("NOTTRADED", "PARTTRADED")] == []
    kept = json.loads((run.service.data / ".vntrader" / "cta_strategy_data.json").read_text())
    assert kept[STRATEGY_NAME]["pos"] == pytest.approx(positions(ended)[STRATEGY_NAME], abs=1e-9)


@pytest.mark.timeout(400)
def test_strategies_survive_twenty_kills_while_they_trade(tmp_path: Path, seed: str) -> None:
    """`pos`, attribution, local stop orders and variables of each, against the venue's ledger."""
    names = [f"killed_{number}" for number in range(6)]
    with KillRun(tmp_path / "run", seed=f"{seed} strategies", strategies=names, loads=1, pause_s=0.03) as run:
        print(f"seed {seed}")
        found = kill_and_look(run, 20)
        assert run.service.terminate() == 0
        ended = invariants.check(run.venue.ledger, run.service.data / FILE_NAME, run.service.store_url, within=0)
        assert_files_are_the_journals(run, ended)
    assert set(positions(found)) == set(names), "one of them has not traded"
    stops = outlived_starts(found)
    assert stops, "no local stop order began before a kill and ended after it"
    missed = run.service.log.read_text().count("a fill was not counted before the restart")
    assert missed, "no fill was journaled and not counted before a kill"
    sent = [order for order in found.ledger_orders.values() if owner(order) and float(order["volume"]) >= 1]
    print(
        f"{len(stops)} stop orders ended in a later run than they began in; {len(sent)} were sent; "
        f"{missed} fills were counted at a start"
    )
    assert sent, "no local stop order was triggered"


def kill_and_look(run: KillRun, kills: int) -> invariants.Observed:
    """Restart after restart, with a look at all after each; every second kill is between a fill's row and its count."""
    run.start()
    while run.kills < kills:
        if run.kills % 2:
            run.service.kill()
            run.die_at(f"stage.after_commit:{run.random.randint(20, 120)}")
        else:
            run.kill_after(run.random.uniform(0.2, 1.5))
        run.start()
        found = run.check()
        run.resume()
    return found


def assert_files_are_the_journals(run: KillRun, ended: invariants.Observed) -> None:
    """After a clean stop VnPy's files hold what the journal says, with the fills that came while it stopped."""
    files = run.service.data / ".vntrader"
    kept = json.loads((files / "cta_strategy_data.json").read_text())
    rows = {row.key: row.data for row in ended.rows("strategy.data")}
    truth = positions(ended)
    for name in run.strategies:
        assert kept[name]["pos"] == pytest.approx(truth[name], abs=1e-9)
        assert kept[name]["pos"] == rows[name]["variables"]["pos"] == pytest.approx(rows[name]["attributed_pos"])
        assert (kept[name]["fills"], kept[name]["trail"]) == tuple(
            rows[name]["variables"][k] for k in ("fills", "trail")
        )
    settings = json.loads((files / "cta_strategy_setting.json").read_text())
    assert {name: settings[name]["class_name"] for name in run.strategies} == dict.fromkeys(
        run.strategies, "KillStrategy"
    )


def log_in_to_a_gateway(run: KillRun) -> None:
    """With a secret over REST, over one from the configuration; then ask for all that is shown of it."""
    body = {"setting": {"account_password": GATEWAY_SECRET}}
    status, answer = run.service.request("POST", "/api/v1/trading/gateways/LOCKED/connect", body)
    assert status == 202, answer
    gateways = "/api/v1/trading/gateways"
    eventually(lambda: any(g["connected"] for g in run.service.get_all(gateways) if g["gateway_name"] == "LOCKED"))
    run.service.get("/api/v1/system/status")
    run.service.get("/api/v1/system/logs?limit=1000")


TAMPERINGS = {
    "I1 trade": ("store.sqlite", "delete from trades where seq = (select max(seq) from trades)"),
    "I1 order": ("store.sqlite", "update orders set status = 'NOTTRADED' where status = 'CANCELLED'"),
    "I2": (FILE_NAME, "update rows set kind = 'audit' where kind like '%intent.order'"),
    "I3": (
        FILE_NAME,
        "update rows set payload = cast(replace(payload, 'SUBMITTING', 'ALLTRADED') as blob) "
        "where kind like '%order.updated'",
    ),
    "I4": ("ledger.sqlite", "update holdings set today = '123456'"),
    "I5": (FILE_NAME, "update rows set ts = ts + 1 where seq = (select max(seq) from rows)"),
}


@pytest.mark.parametrize("invariant", TAMPERINGS)
def test_the_checker_finds_what_is_broken(run: KillRun, tmp_path: Path, invariant: str) -> None:
    """On copies of what the kills left: the checks above can fail."""
    run.service.kill()
    for source in (run.service.data / FILE_NAME, run.service.data / "store.sqlite", run.venue.ledger):
        copy(source, tmp_path / source.name)
    file, statement = TAMPERINGS[invariant]
    with closing(sqlite3.connect(tmp_path / file)) as connection:
        assert connection.execute(statement).rowcount > 0
        connection.commit()
    url = f"sqlite+aiosqlite:///{tmp_path}/store.sqlite"
    found = invariants.observe(tmp_path / run.venue.ledger.name, tmp_path / FILE_NAME, url)
    assert any(problem.startswith(invariant) for problem in invariants.violations(found))


def test_the_checker_finds_planted_secrets(tmp_path: Path) -> None:
    (tmp_path / "service.log").write_text("login with hunter2-canary")
    assert invariants.Canaries({"password": "hunter2-canary"}, [tmp_path]).found()


def copy(source: Path, target: Path) -> None:
    """A database with its write-ahead log, made one file."""
    for suffix in ("", "-wal"):
        path = source.with_name(source.name + suffix)
        if path.exists():
            shutil.copy(path, target.with_name(target.name + suffix))
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
