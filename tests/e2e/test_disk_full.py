"""A data folder on a disk that is full: no new order, everything else goes on, and nothing acknowledged is lost."""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testkit.kills import KillRun
from testkit.load import eventually
from testkit.small_disk import fill, small_disk
from testkit.venue import RB

DISK_MB = 24


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small file system of its own."""
    with small_disk(tmp_path / "run" / "vnpy_data", DISK_MB) as folder:
        yield folder


@pytest.fixture
def run(disk: Path) -> Iterator[KillRun]:
    """The SQL store is elsewhere: it is the journal's disk that is full."""
    seed = os.environ.get("VNPYCORE_TEST_SEED") or secrets.token_hex(4)
    print(f"seed {seed}")
    store = f"sqlite+aiosqlite:///{disk.parent.parent}/store.sqlite"
    with KillRun(disk.parent, seed=seed, store_url=store) as run:
        run.start()
        yield run


def body(run: KillRun, key: str, price: float) -> dict[str, Any]:
    """An order of one lot."""
    return {
        "vt_symbol": RB, "direction": "LONG", "offset": "OPEN", "volume": 1, "price": price, "client_order_id": key,
        "reference": key,
    }  # fmt: skip


def place(run: KillRun, key: str, price: float) -> tuple[int, Any]:
    return run.service.request("POST", "/api/v1/trading/orders", body(run, key, price))


def state(run: KillRun, vt_orderid: str) -> str:
    return str(run.service.get(f"/api/v1/trading/orders/{vt_orderid}")["status"])


@pytest.mark.timeout(180)
def test_a_full_disk_refuses_orders_and_lets_all_else_go_on(run: KillRun, disk: Path) -> None:
    time.sleep(1.5)
    run.rest()
    price = run.market.price
    to_cancel, to_fill = (place(run, key, price - 40)[1]["vt_orderid"] for key in ("to-cancel", "to-fill"))
    run.resume()
    fill(disk)
    answers = Counter[str]()
    numbers = itertools.count()

    def refused() -> bool:
        fill(disk)  # what the service gives up, this takes too
        status, answer = place(run, f"late-{next(numbers)}", price - 50)
        answers[f"{status} {answer.get('code', '')}"] += 1
        return status == 507

    eventually(refused, 60, "orders pass on a full disk")
    answers.clear()
    for _ in range(10):
        refused()
    print(f"on a full disk: {dict(answers)}")
    assert set(answers) == {"507 STORAGE_FULL"}

    run.market.pause()
    for load in run.loads:
        load.pause()
    assert run.service.request("DELETE", f"/api/v1/trading/orders/{to_cancel}")[0] == 202
    eventually(lambda: state(run, to_cancel) == "CANCELLED", what="a cancel waits for the disk")
    run.venue.book(RB, price - 60, price - 59)
    eventually(lambda: state(run, to_fill) == "ALLTRADED", what="a fill waits for the disk")
    status = run.service.get("/api/v1/system/status")
    print(f"status: {status['status']}, journal: {status['journal']}")
    assert status["status"] != "ok"
    assert status["journal"]["refusal"]
    assert status["journal"]["waiting"] > 0

    (disk / "ballast").unlink()
    eventually(lambda: place(run, "again", price - 70)[0] == 201, 30, "orders do not pass again")
    eventually(lambda: run.service.get("/api/v1/system/status")["journal"]["waiting"] == 0)
    run.resume()
    time.sleep(1)
    run.check()
    run.service.kill()
    run.start()
    run.check()


@pytest.mark.timeout(180)
def test_a_kill_on_a_full_disk_loses_nothing_acknowledged(run: KillRun, disk: Path) -> None:
    time.sleep(1)
    fill(disk)
    time.sleep(1.5)
    run.service.kill()
    (disk / "ballast").unlink()
    run.start()
    run.check()
