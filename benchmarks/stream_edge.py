"""What 1,000 clients of an edge cost the core's orders: POST /orders in turn without and with them.

The core and who sends orders have a processor of their own, in both cases; all others (Redis, the edge, its clients)
share the rest, as if on another machine. Where there is one processor only, all share it and the row says so.
"""

from __future__ import annotations

import http.client
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream_kit import (
    CONTRACTS,
    REDIS,
    Child,
    Refused,
    Row,
    Service,
    cpu_s,
    median,
    percentile,
    reader,
    redis_server,
    say,
    service,
    spread,
)

CLIENTS = 1_000
WITHIN = 0.10
SYMBOLS = [f"rb27{month:02}.SHFE" for month in range(1, 13)]
"""Several, as VnPy's risk manager allows 1,000 cancels a day of one."""
ROUND_S, EVERY_S, SETTLE_S = 6.0, 0.01, 1.0
PAPER = """
[gateways.PAPER]
class = "vnpy_core.gateways.paper.gateway:PaperGateway"
auto_connect = true
[gateways.PAPER.setting]
contracts = "{contracts}"
symbols = "{symbols}"
"""
Times = dict[bool, list[float]]


def rows(folder: Path, rounds: int) -> list[Row]:
    own, others = processors()
    config = PAPER.format(contracts=CONTRACTS, symbols=";".join(SYMBOLS))
    times: Times = {False: [], True: []}
    p99s: Times = {False: [], True: []}
    frames: list[float] = []
    busy: list[float] = []
    with (
        redis_server(folder, cpus=others) as url,
        service(folder, config + REDIS.format(url=url), cpus=own) as core,
        edge(folder, REDIS.format(url=url), core, cpus=others) as node,
    ):
        for symbol in SYMBOLS:
            core.ask("POST", "/trading/subscriptions", {"vt_symbol": symbol})
        order_times(core, 0, 3.0)  # the first ones are slower
        for number in range(2 * rounds):
            crowded = number % 2 == 1
            clients = crowd(node, others) if crowded else None
            try:
                core.rest()
                time.sleep(SETTLE_S)
                used, began = cpu_s(node.process.pid), time.monotonic()
                if clients is not None:
                    clients.ask("begin")
                with running_on(own):
                    taken = order_times(core, number, ROUND_S)
                if clients is not None:
                    found = clients.ask("end")
                    assert not found["lost"], f"{found['lost']} clients were closed"
                    frames.append(found["frames"] / found["seconds"])
                    busy.append((cpu_s(node.process.pid) - used) / (time.monotonic() - began) * 100)
            finally:
                if clients is not None:
                    clients.stop()
            times[crowded] += taken
            p99s[crowded].append(percentile(taken, 0.99))
            say(f"edge {number + 1}, {CLIENTS if crowded else 0} clients: p50 {percentile(taken, 0.5):.2f} "
                f"p99 {p99s[crowded][-1]:.2f} ms of {len(taken)} orders")  # fmt: skip
    with_them, without = (percentile(times[crowded], 0.99) for crowded in (True, False))
    change = with_them / without - 1
    shared = "" if own else "; one processor for all"
    return [
        Row(
            f"order p99 of the core, {CLIENTS:,} clients on an edge",
            f"{with_them:.2f} ms of {len(times[True])} (rounds {spread(p99s[True])}), {change:+.1%}",
            f"without clients {without:.2f} ms of {len(times[False])} (rounds {spread(p99s[False])}){shared}",
            f"within {WITHIN:.0%}",
            change <= WITHIN,
        ),
        Row(
            "  its p50",
            f"{percentile(times[True], 0.5):.2f} ms",
            f"without {percentile(times[False], 0.5):.2f} ms; the edge sent {median(frames):,.0f} frames/s at "
            f"{median(busy):.0f} % CPU",
        ),
    ]


def processors() -> tuple[set[int] | None, set[int] | None]:
    """The core's, and everybody else's."""
    first, *rest = sorted(os.sched_getaffinity(0))
    return ({first}, set(rest)) if rest else (None, None)


@contextmanager
def running_on(cpus: set[int] | None) -> Iterator[None]:
    """This process, where the core is: it waits while the core works, and is not to wait for the clients."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def crowd(node: Service, cpus: set[int] | None) -> Child:
    return reader(
        node.port, CLIENTS, mode="count", token=node.token, topics=["tick.*", "order.updated", "trade.executed"],
        cpus=cpus,
    )  # fmt: skip


@contextmanager
def edge(folder: Path, config: str, core: Service, *, cpus: set[int] | None = None) -> Iterator[Service]:
    """A ready edge of a core beside it; it takes the core's tokens."""
    running = Service(folder, config, command="edge", cpus=cpus)
    try:
        running.wait_ready()
        running.log_in(core.token)
        yield running
    finally:
        running.stop()


def order_times(core: Service, seed: int, seconds: float) -> list[float]:
    """Milliseconds of POST /orders for a while, at uneven times; each order rests and is cancelled."""
    chance = random.Random(seed)
    until = time.monotonic() + seconds
    number, times = seed, []
    while time.monotonic() < until:
        time.sleep(EVERY_S * chance.uniform(0.5, 1.5))
        number += 1
        symbol = SYMBOLS[number % len(SYMBOLS)]
        try:
            bid = core.ask("GET", f"/trading/ticks/{symbol}")["bid_price_1"]
        except Refused:  # no tick yet
            continue
        body = {
            "vt_symbol": symbol, "direction": "LONG", "offset": "OPEN", "type": "LIMIT", "volume": 1,
            "price": bid - 20 - chance.randrange(150),
        }  # fmt: skip
        started = time.perf_counter()
        try:
            order = core.ask("POST", "/trading/orders", body)
        except (Refused, http.client.HTTPException):
            continue
        times.append((time.perf_counter() - started) * 1000)
        core.ask("DELETE", f"/trading/orders/{order['vt_orderid']}")
    assert len(times) > 20, f"{len(times)} orders were taken in {seconds:.0f} s"
    return times
