"""A core, two edges, Redis and clients as real processes: what they are told while all of that fails."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from testkit.kills import KillableService
from testkit.load import eventually
from testkit.stream_run import SHARED, StreamRun, stream_run
from testkit.venue import RB

DISCONNECTS = 40
STOPPED = 200
LIVE = 50
STOPPED_MB = 50


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Iterator[StreamRun]:
    seed = os.environ.get("VNPYCORE_TEST_SEED") or secrets.token_hex(4)
    with stream_run(tmp_path_factory.mktemp("streams") / "run", seed, checkers=6) as run:
        yield run


@pytest.fixture(autouse=True)
def _load_goes_on(run: StreamRun) -> None:
    run.core.resume()


def hurt(run: StreamRun, number: int) -> None:
    """Connections, and now and then an edge or the core."""
    if number % 20 == 10:
        run.kill_edge()
    elif number % 20 == 0:
        run.kill_core()
    else:
        run.disconnect()
    time.sleep(run.random.uniform(0.0, 0.2))


@pytest.mark.timeout(300)
def test_through_disconnects_core_restarts_and_edge_switches_nothing_is_missed_and_nothing_comes_twice(run) -> None:
    for number in range(1, DISCONNECTS + 1):
        hurt(run, number)
    reports = run.check()
    assert all(report.applied and report.resumed for report in reports)
    assert [report.gaps for report in reports] == [0] * len(reports)
    print(f"{run.disconnects} cut, {run.core_kills} cores and {run.edge_kills} edges ended: {run.counts()}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["hang", "kill", "flush"])
def test_redis_may_hang_be_killed_or_lose_everything_and_trading_does_not_notice(run, fault) -> None:
    before = [dict(load.statuses) for load in run.core.loads]
    match fault:
        case "hang":
            run.redis.pause()
        case "kill":
            run.redis.kill()
        case "flush":
            subprocess.run(["redis-cli", "-p", str(run.redis.port), "flushall"], check=True, capture_output=True)
    time.sleep(3)
    status, _ = run.core.service.request("GET", "/health/ready")
    assert status == 200
    run.redis.resume()
    if not run.redis.running:
        run.redis.start()
    run.redis_faults += 1
    eventually(lambda: _sinks_are_well(run), 60, lambda: f"the sinks stay behind: {_sinks(run)}")
    run.check()
    for load, known in zip(run.core.loads, before, strict=True):
        answered = {status: count - known.get(status, 0) for status, count in load.statuses.items()}
        assert answered.get(201, 0) > 0
        assert not [status for status, count in answered.items() if status >= 500 and count], answered


@pytest.mark.timeout(300)
def test_the_stream_in_redis_has_every_event_of_the_journal_once(run) -> None:
    run.check()
    eventually(lambda: all(sink["lag"] == 0 for sink in _sinks(run)), 30)
    found = run.core.check()
    journaled = [row.seq for row in found.journal if row.kind in ("order.updated", "trade.executed")]
    stream = run.redis_stream()
    kept = [seq for seq, topic in stream if topic in ("order.updated", "trade.executed")]
    first = max(kept[0], journaled[0])
    assert [seq for seq in kept if seq >= first] == [seq for seq in journaled if seq >= first]
    assert len(kept) > 100


@pytest.mark.timeout(300)
def test_two_hundred_clients_that_do_not_read_cost_little_and_harm_none_of_the_others(run) -> None:
    counts = asyncio.run(_beside_stopped(run.core.service))
    print(counts)
    assert counts["mb"] < STOPPED_MB
    assert counts["live"] == LIVE
    assert counts["trades"] == 1, "the live clients were not told the same"
    run.check()


@pytest.mark.timeout(300)
def test_a_second_core_does_not_trade_the_account_until_the_first_is_gone(run, tmp_path) -> None:
    first = run.core.service
    more = SHARED.format(name="second", url=run.redis.url())
    second = KillableService(tmp_path / "second", run.core.venue.socket, more=more)
    try:
        second.fork()
        second.wait_ready()
        assert {node["node"] for node in second.get("/api/v1/system/nodes")["items"]} >= {"tested", "second"}
        status, answer = second.request("POST", "/api/v1/trading/orders", _order("before"))
        assert (status, answer["code"]) == (423, "TRADING_HALTED"), answer
        run.core.rest()
        first.kill()

        def takes_over() -> bool:
            return second.request("POST", "/api/v1/trading/orders", _order("after"))[0] == 201

        eventually(takes_over, 30, "the second core does not take over")
        first.fork()
        first.wait_ready(reconciled=False)
        eventually(lambda: first.request("POST", "/api/v1/trading/orders", _order("again"))[0] == 423, 30)
        assert second.terminate() == 0
        first.kill()
        run.core.start()
    finally:
        second.close()


def _order(key: str) -> dict[str, Any]:
    return {
        "vt_symbol": RB, "direction": "LONG", "offset": "OPEN", "type": "LIMIT", "volume": 1, "price": 3000,
        "client_order_id": f"lease-{key}",
    }  # fmt: skip


def _sinks(run: StreamRun) -> list[dict[str, Any]]:
    sinks = run.core.service.get("/api/v1/system/status")["sinks"]
    return [sink for sink in sinks if sink["name"] in ("broker", "cache")]


def _sinks_are_well(run: StreamRun) -> bool:
    return all(not sink["error"] and sink["lag"] < 1000 for sink in _sinks(run))


def _memory_mb(pid: int) -> float:
    fields = Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()
    return int(fields[0]) / 1024


async def _beside_stopped(service: KillableService) -> dict[str, Any]:
    """Some clients subscribe to everything and never read; others read on; then all trades that these were told."""
    url, headers = f"ws://127.0.0.1:{service.port}/ws", {"Authorization": f"Bearer {service.token}"}

    async def client(topics: str, **options: Any) -> ClientConnection:
        socket = await connect(url, additional_headers=headers, proxy=None, compression=None, **options)
        await socket.recv()
        await socket.send(f'{{"op":"subscribe","topics":{topics},"conflate":false}}')
        return socket

    before = _memory_mb(service.pid)
    # A queue of one frame: then the socket is not read any more.
    stopped = [await client('["tick.*","order.updated"]', max_queue=1) for _ in range(STOPPED)]
    live = [await client('["trade.executed"]', max_queue=None) for _ in range(LIVE)]
    highest = before
    for _ in range(100):
        await asyncio.sleep(0.1)
        highest = max(highest, _memory_mb(service.pid))
    told: list[list[str]] = [[] for _ in live]
    for socket, frames in zip(live, told, strict=True):
        async with asyncio.timeout(30):
            while len(frames) < 20:
                frame = str(await socket.recv())
                if '"trade.executed"' in frame and '"prev_seq"' in frame:
                    frames.append(frame.partition('"data":')[2])
    # Those that came first began first: all have the trades from some place on.
    overlap = {tuple(frames[frames.index(told[-1][0]) :][:1]) for frames in told if told[-1][0] in frames}
    for socket in (*stopped, *live):
        socket.transport.abort()
    return {"mb": highest - before, "live": sum(len(frames) >= 20 for frames in told), "trades": len(overlap)}
