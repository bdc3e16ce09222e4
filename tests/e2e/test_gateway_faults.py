"""A venue that flaps, keeps its answers to itself, or says things twice, late and in any order."""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from testkit.kills import KillRun
from testkit.load import eventually
from testkit.venue import RB

FLAPS = 100
LOST = 500


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Iterator[KillRun]:
    seed = os.environ.get("VNPYCORE_TEST_SEED") or secrets.token_hex(4)
    print(f"seed {seed}")
    with KillRun(tmp_path_factory.mktemp("faults") / "run", seed=seed) as run:
        run.start()
        yield run


@pytest.fixture(autouse=True)
def at_rest(run: KillRun) -> Iterator[None]:
    """Each test begins and ends with a sound venue and nothing on its way."""
    run.check()
    yield
    run.venue.control()
    if run.service.is_alive():
        reconnect(run)


def orders(run: KillRun, prefix: str, count: int) -> list[dict[str, Any]]:
    """Bodies of different orders: a third fills at once, the others rest."""
    price = run.market.price
    return [
        {
            "vt_symbol": RB, "direction": "LONG", "offset": "OPEN", "volume": 1 + number % 7,
            "price": price + 5 if number % 3 == 0 else price - 20 - number % 50,
            "client_order_id": f"{prefix}-{number}", "reference": f"{prefix}-{number}",
        }
        for number in range(count)
    ]  # fmt: skip


def place(run: KillRun, bodies: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Send them, fifty at a time; client_order_id -> order."""
    placed = {}
    for start in range(0, len(bodies), 50):
        body = {"orders": bodies[start : start + 50]}
        status, answer = run.service.request("POST", "/api/v1/trading/orders/batch", body)
        assert status == 207, answer
        refused = [item for item in answer["items"] if item["status"] != 201]
        assert not refused, refused[:3]
        placed |= {item["order"]["client_order_id"]: item["order"] for item in answer["items"]}
    return placed


def sent(run: KillRun, prefix: str) -> Counter[str]:
    """How often the venue has each of them."""
    return Counter(r for (r,) in run.venue.query(f"select reference from orders where reference like '{prefix}-%'"))


def statuses(run: KillRun, placed: dict[str, dict[str, Any]]) -> Counter[str]:
    """As REST shows them now."""
    ids = {order["vt_orderid"] for order in placed.values()}
    return Counter(order["status"] for order in run.service.state()["orders"] if order["vt_orderid"] in ids)


def reconnect(run: KillRun) -> None:
    """Drop the connection, and wait until the next one's books were compared with ours."""
    before = run.venue.counters().sessions
    run.venue.disconnect()
    eventually(lambda: run.venue.counters().sessions > before, what="the gateway does not come back")
    run.service.wait_ready()


@pytest.mark.timeout(180)
def test_a_hundred_flaps_under_load_double_nothing(run: KillRun) -> None:
    before = run.venue.counters()
    run.resume()
    placed, dropped = len(run.venue.orders()), 0
    while dropped < FLAPS:
        time.sleep(run.random.uniform(0.15, 0.3))
        dropped = run.venue.disconnect().dropped - before.dropped
    run.service.wait_ready()
    found = run.check()
    count = len(found.ledger_orders) - placed
    print(f"{dropped} connections dropped, {count} orders placed meanwhile")
    assert count > FLAPS / 4, "hardly any order passed"


@pytest.mark.timeout(120)
def test_lost_answers_leave_orders_submitting_until_the_venue_is_asked(run: KillRun) -> None:
    run.venue.control(lose_answers=LOST)
    bodies = orders(run, "lost", LOST)
    placed = place(run, bodies)
    assert run.venue.counters().answers_lost >= LOST
    assert statuses(run, placed) == {"SUBMITTING": LOST}
    again = place(run, bodies[:50])
    assert {key: again[key]["vt_orderid"] for key in again} == {key: placed[key]["vt_orderid"] for key in again}
    assert sent(run, "lost") == dict.fromkeys(placed, 1)
    run.venue.control()
    reconnect(run)
    run.check()
    assert sent(run, "lost") == dict.fromkeys(placed, 1)
    after = statuses(run, placed)
    print(f"after the reconnect: {dict(after)}")
    assert after["SUBMITTING"] == 0
    assert after["REJECTED"] == 0
    assert after["ALLTRADED"] > LOST / 4


@pytest.mark.timeout(120)
def test_lost_requests_are_not_sent_again_and_end_on_evidence_only(run: KillRun) -> None:
    run.venue.control(lose_requests=40)
    bodies = orders(run, "unheard", 40)
    placed = place(run, bodies)
    run.venue.control()
    assert statuses(run, placed) == {"SUBMITTING": 40}
    assert not sent(run, "unheard")
    reconnect(run)
    run.check()
    ids = {order["vt_orderid"] for order in placed.values()}
    ended = [order for order in run.service.state()["orders"] if order["vt_orderid"] in ids]
    assert Counter(order["status"] for order in ended) == {"CANCELLED": 40}
    assert all("not among" in order["reason"] for order in ended)
    assert not sent(run, "unheard")


@pytest.mark.timeout(120)
def test_a_kill_while_answers_are_lost(run: KillRun) -> None:
    for _ in range(3):
        run.venue.control(lose_answers_p=0.5, lose_requests=5)
        run.resume()
        run.kill_after(0.7)
        run.venue.control()
        run.start()
        run.check()


@pytest.mark.timeout(120)
def test_doubled_late_and_reordered_events_end_alike(run: KillRun) -> None:
    run.venue.control(double_p=0.5, late_p=0.5, late_ms=60, reorder=4)
    before = run.venue.counters()
    run.resume()
    time.sleep(5)
    for load in run.loads:
        load.pause()
    run.market.pause()
    time.sleep(0.3)  # what is late comes
    run.venue.control()
    found = run.check()
    after = run.venue.counters()
    late = list(found.rows("order.late"))
    print(f"{after.doubled - before.doubled} doubled, {after.late - before.late} late, {len(late)} rows went back")
    assert after.doubled - before.doubled > 50
    assert after.late - before.late > 50
    assert late, "no event went back in its order's life: nothing was tried"
