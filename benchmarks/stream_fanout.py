"""Frames a second to 100 clients: the hub beside a bare uvicorn broadcast of the same bytes, in turn."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from stream_kit import BENCHMARKS, Child, Row, cpu_s, free_port, median, reader, say, spread

CLIENTS, MESSAGES = 100, 2_500
RATIO = 0.8
WARM_UP = 1
"""Rounds before those that count."""


def rows(folder: Path, rounds: int) -> list[Row]:
    rounds = 2 * rounds - 1  # they are short
    rates: dict[str, list[float]] = {"hub": [], "bare": []}
    ratios: list[float] = []
    with ExitStack() as stack:
        servers, readers = {}, {}
        for kind in rates:
            port = free_port()
            command = [sys.executable, str(BENCHMARKS / "stream_server.py"), kind, str(port), str(MESSAGES)]
            servers[kind] = stack.enter_context(Child(command))
            readers[kind] = stack.enter_context(
                reader(port, CLIENTS, mode="count", token="x", topics=["tick.*"], conflate=False)
            )
        for number in range(WARM_UP + rounds):
            found = {kind: sent(servers[kind], readers[kind]) for kind in rates}
            if number < WARM_UP:
                continue
            for kind, one in found.items():
                rates[kind].append(one["rate"])
            ratios.append(found["hub"]["rate"] / found["bare"]["rate"])
            say(
                f"fanout {number}: {ratios[-1]:.2f}; "
                + ", ".join(f"{kind} {one['rate']:,.0f}/s (CPU {one['server']:.1f} s, reader {one['reader']:.1f} s)"
                            for kind, one in found.items())
            )  # fmt: skip
    return [
        Row(
            f"fan-out of {MESSAGES:,} ticks to {CLIENTS}, frames/s",
            spread(rates["hub"], ",.0f"),
            f"bare uvicorn broadcast {spread(rates['bare'], ',.0f')}; ratio {spread(ratios)}",
            f">= {RATIO}",
            median(ratios) >= RATIO,
        )
    ]


def sent(server: Child, child: Child) -> dict[str, Any]:
    child.ask(f"expect {CLIENTS * MESSAGES}")
    used, began = cpu_s(server.pid), time.monotonic()
    server.ask("go")
    found = child.answer()
    seconds = time.monotonic() - began
    assert found["frames"] == CLIENTS * MESSAGES, f"{found['frames']} frames"
    return {
        "rate": found["frames"] / found["flow_s"], "server": cpu_s(server.pid) - used,
        "reader": found["cpu"] * seconds / 100,
    }  # fmt: skip
