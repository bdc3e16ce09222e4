"""Twice the peak load: memory stays bounded, nothing is lost on the way, an order is still answered.

A whole futures market at its busiest shows some 5,000 ticks a second; the paper market shows twice that here. Some
seconds in the test command, which find what grows without bound; `SOAK_MINUTES=30` finds a leak (`scripts/soak`).
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import pytest

from e2e.conftest import DEMO, RunningService

MINUTES = float(os.environ.get("SOAK_MINUTES", "0.08"))
WARM_UP_S = 3.0
TICKS_PER_S = 10_000
SYMBOLS = 4
GROWTH_MB = 40.0
"""What a short run may gain: rings and caches that are still filling."""
SLOPE_MB_PER_MIN = 1.0
"""What a long run may gain."""
QUEUE_LIMIT = 25_000
"""Past 20,000 waiting events ticks are conflated; what is no tick comes on top."""
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20

pytestmark = pytest.mark.timeout(120 + MINUTES * 60)


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_MB


def observe(service: RunningService, seconds: float) -> tuple[list[float], list[float], list[int]]:
    """Times (s), resident memory (MB) and waiting events, some thirty times over `seconds` or once a second."""
    times, memory, waiting = [], [], []
    started = time.monotonic()
    while (now := time.monotonic() - started) < seconds:
        status = service.client.get("/system/status").json()["event_thread"]
        assert status["alive"], status
        times.append(now)
        memory.append(resident_mb(service.process.pid))
        waiting.append(status["queue_length"] + status["bridge_backlog"])
        time.sleep(min(1.0, seconds / 30))
    return times, memory, waiting


def test_twice_the_peak_load_leaves_memory_and_queues_bounded(make_service):
    service = make_service(DEMO.replace("rate = 20.0", f"rate = {TICKS_PER_S / SYMBOLS}"))
    contracts = [c["vt_symbol"] for c in service.get_all("/trading/contracts")][:SYMBOLS]
    for vt_symbol in contracts:
        answer = service.client.post("/trading/subscriptions", json={"vt_symbol": vt_symbol})
        assert answer.status_code < 300, answer.text
    observe(service, WARM_UP_S)
    handled = service.client.get("/system/status").json()["event_thread"]["events_handled"]
    times, memory, waiting = observe(service, MINUTES * 60)
    status = service.client.get("/system/status").json()["event_thread"]
    rate = (status["events_handled"] - handled) / times[-1]
    slope = statistics.linear_regression(times, memory).slope * 60
    growth = memory[-1] - memory[0]
    print(
        f"{len(contracts)} symbols, {rate:.0f} events/s, {status['ticks_conflated']} ticks conflated, at most "
        f"{max(waiting)} waiting; {memory[0]:.0f} MB at first, {growth:+.1f} MB, {slope:+.2f} MB/min"
    )
    assert status["handler_errors"] == 0
    assert max(waiting) < QUEUE_LIMIT
    assert growth < GROWTH_MB
    if MINUTES >= 5:
        assert slope < SLOPE_MB_PER_MIN
    order = {
        "vt_symbol": "ru2701.SHFE", "direction": "LONG", "offset": "OPEN", "type": "LIMIT", "volume": 1, "price": 13000,
    }  # fmt: skip
    answer = service.client.post("/trading/orders", json=order)
    assert answer.status_code == 201, answer.text
    assert service.stop(30) == 0
