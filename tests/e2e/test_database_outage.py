"""MariaDB stopped, hung and slow under load: orders do not notice, and everything is in it afterwards, once."""

from __future__ import annotations

import os
import secrets
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from testkit import invariants
from testkit.flood import SYMBOL
from testkit.kills import KillRun
from testkit.load import eventually
from testkit.servers import MariaDb, running

pytestmark = pytest.mark.alone

OUTAGE_S = 60.0
NORMAL_S = 10.0
"""So long orders are timed before the outage, and at its end at least."""
QUEUED = 200_000
RATE = 8_000
"""Journal rows a second until they are queued, where the machine is quick enough."""
LONGEST_S = 120.0
"""So long that may take."""
DRAIN_ROWS_S = 10_000
P99_MS = 100.0
"""Or twice the normal one, where the machine is noisy; the ratio of 1.1 is looked at in `make torture`."""
WINDOW_S = 3.0
"""The rate of draining is that of the best such window, and of the part of the machine that was left to it: other
programs share it."""
MORE = """
[store]
timeout_s = 2.0

[gateways.FLOOD]
class = "testkit.flood:FloodGateway"
auto_connect = true

[gateways.FLOOD.setting]
rate = {rate}
count_file = "{count_file}"
"""


@pytest.fixture(scope="module")
def database() -> Iterator[MariaDb]:
    with running(MariaDb) as server:
        assert isinstance(server, MariaDb)
        yield server


@pytest.fixture
def run(tmp_path, database: MariaDb) -> Iterator[KillRun]:
    seed = os.environ.get("VNPYCORE_TEST_SEED") or secrets.token_hex(4)
    url = database.url("asyncmy", database.fresh_database())
    more = MORE.format(rate=RATE, count_file=tmp_path / "count")
    with KillRun(tmp_path / "run", seed=seed, store_url=url, loads=1, pause_s=0.01, more=more) as run:
        run.start()
        yield run


class Times:
    """The milliseconds of the orders that are placed inside the block."""

    def __init__(self, run: KillRun) -> None:
        self._load = run.loads[0]
        self.values: list[float] = []

    def __enter__(self) -> Times:
        self._first = len(self._load.milliseconds)
        return self

    def __exit__(self, *_: object) -> None:
        self.values = self._load.milliseconds[self._first :]

    @property
    def p50(self) -> float:
        return statistics.median(self.values)

    @property
    def p99(self) -> float:
        return sorted(self.values)[int(len(self.values) * 0.99)]

    def __str__(self) -> str:
        return f"{len(self.values)} orders, p50 {self.p50:.1f} ms, p99 {self.p99:.1f} ms"


class Outcome(NamedTuple):
    """Order times with the database, and without it when all is queued; how all was stored afterwards."""

    normal: Times
    without: Times
    drained: Drain


def stored(run: KillRun) -> int:
    """The watermark; 0 where there is none."""
    with closing(invariants.Sql(run.service.store_url)) as sql:
        mark = sql.watermark()
    return mark.seq if mark else 0


def journaled(run: KillRun) -> int:
    return int(run.service.get("/api/v1/system/status")["journal"]["last_seq"])


class Drain(NamedTuple):
    """Rows, rows a second from the first one on and in the best window, and the machine's part that others took."""

    rows: int
    rate: float
    best: float
    others: float

    def __str__(self) -> str:
        return (
            f"{self.rows} stored, {self.rate:.0f}/s, {self.best:.0f}/s in the best {WINDOW_S:.0f} s; "
            f"{self.others:.0%} of the machine was others'"
        )


def drain(run: KillRun, database: MariaDb) -> Drain:
    """Wait until SQL has all."""
    looks = [(time.monotonic(), stored(run))]
    others = OthersShare(os.getpid(), run.service.pid, database.pid)
    end = journaled(run)
    deadline = time.monotonic() + 120
    while looks[-1][1] < end:
        assert time.monotonic() < deadline, f"SQL stays at {looks[-1][1]} of {end}"
        time.sleep(0.05)
        looks.append((time.monotonic(), stored(run)))
        end = journaled(run)
    begun = next((i for i, look in enumerate(looks) if look[1] > looks[0][1]), 1)
    looks = looks[max(0, begun - 1) :]
    rows, seconds = looks[-1][1] - looks[0][1], max(looks[-1][0] - looks[0][0], 1e-9)
    windows = [
        (later[1] - look[1]) / (later[0] - look[0])
        for look in looks
        if (later := next((other for other in looks if other[0] >= look[0] + WINDOW_S), None))
    ]
    return Drain(rows, rows / seconds, max([*windows, rows / seconds]), others.share())


class OthersShare:
    """How much of the machine went to other processes than these, since it was made."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._began, self._busy, self._own = time.monotonic(), self._all(), self._ours()

    def share(self) -> float:
        ticks = (time.monotonic() - self._began) * os.sysconf("SC_CLK_TCK") * (os.cpu_count() or 1)
        return max(0.0, (self._all() - self._busy - self._ours() + self._own) / ticks)

    @staticmethod
    def _all() -> int:
        user, nice, system, _, _, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
        return user + nice + system + irq + softirq + steal

    def _ours(self) -> int:
        stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self._pids)
        return sum(int(fields[11]) + int(fields[12]) for fields in stats)


def check_flood(run: KillRun, count: int) -> None:
    """Every order of the flood is in SQL once, in its last state, and nothing was put aside."""
    with closing(invariants.Sql(run.service.store_url)) as sql:
        shown = sql.execute("select status, count(*) as n, count(distinct vt_orderid) as m from orders "
                            "where gateway_name = 'FLOOD' group by status")  # fmt: skip
        aside = [*sql.read("dead_letters"), *sql.read("quarantine")]
    assert shown == [{"status": "CANCELLED", "n": count, "m": count}]
    assert not aside, aside[:3]


def start_flood(run: KillRun) -> None:
    status, answer = run.service.request("POST", "/api/v1/trading/subscriptions", {"vt_symbol": SYMBOL})
    assert status == 201, answer


def end_flood(run: KillRun) -> int:
    """How many orders it has shown."""
    status, answer = run.service.request("POST", "/api/v1/trading/gateways/FLOOD/disconnect")
    assert status == 202, answer
    path = run.service.folder.parent / "count"
    return int(eventually(lambda: path.exists() and path.read_text()))


def outage(run: KillRun, database: MariaDb, normal_s: float, outage_s: float, queued: int) -> Outcome:
    """A stop of the database under load, with the check of everything after it."""
    run.resume()
    with Times(run) as normal:
        time.sleep(normal_s)
    database.stop()
    started, before = time.monotonic(), journaled(run)
    start_flood(run)
    with Times(run) as flooded:
        eventually(lambda: journaled(run) - before >= queued, LONGEST_S, "too few rows wait")
    count = end_flood(run)
    with Times(run) as without:
        time.sleep(max(normal_s, started + outage_s - time.monotonic()))
    seconds = time.monotonic() - started
    run.rest()
    waiting = journaled(run) - before
    database.start()
    drained = drain(run, database)
    print(
        f"normal: {normal}\n{seconds:.0f} s without the database, at last with {waiting} rows queued: {without}\n"
        f"while they came: {flooded}\n{drained}"
    )
    run.check(within=30)
    check_flood(run, count)
    assert run.loads[0].statuses[201] > 0.9 * sum(run.loads[0].statuses.values())
    assert drained.best >= DRAIN_ROWS_S * (1 - drained.others)
    return Outcome(normal, without, drained)


@pytest.mark.timeout(300)
def test_a_minute_without_the_database_costs_no_order_and_no_row(run: KillRun, database: MariaDb) -> None:
    normal, without, _ = outage(run, database, NORMAL_S, OUTAGE_S, QUEUED)
    assert without.p99 < max(P99_MS, 2 * normal.p99)


@contextmanager
def slow(database: MariaDb) -> Iterator[None]:
    """It gets a tenth of the time."""
    ended = threading.Event()

    def stutter() -> None:
        while not ended.wait(0.03):
            database.pause()
            ended.wait(0.27)
            database.resume()

    thread = threading.Thread(target=stutter)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        database.resume()


@pytest.mark.timeout(180)
def test_a_database_that_hangs_or_is_slow_delays_no_order(run: KillRun, database: MariaDb) -> None:
    run.resume()
    with slow(database), Times(run) as slowly:
        time.sleep(4)
    database.pause()
    with Times(run) as hung:
        time.sleep(6)
    sink = run.service.get("/api/v1/system/status")["sinks"][0]
    database.resume()
    print(f"slow: {slowly}\nhung: {hung}\nthe sink says: {sink}")
    assert sink["error"]
    assert sink["lag"] > 0
    run.rest()
    drain(run, database)
    run.check()
    assert max(slowly.p99, hung.p99) < P99_MS


@pytest.mark.timeout(180)
def test_kills_of_the_service_and_of_the_database_together(run: KillRun, database: MariaDb) -> None:
    for _ in range(4):
        run.resume()
        time.sleep(run.random.uniform(0.2, 0.6))
        victims = [run.service.kill, database.kill]
        run.random.shuffle(victims)
        for kill in victims:
            kill()
        database.start()
        run.start()
        run.check(within=30)
