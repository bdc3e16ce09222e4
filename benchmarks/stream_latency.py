"""From a gateway's `on_tick` to a client process that has read the frame, in a whole service."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from stream_kit import BENCHMARKS, TICKS, Child, Row, Service, cpu_s, median, reader, say, service, spread, ticks_sent

RATE, SUBSCRIBERS = 5_000, 20
P50_MS, P99_MS = 1.0, 5.0
WARM_S, MEASURE_S = 2.0, 5.0


def rows(folder: Path, rounds: int) -> list[Row]:
    floor = plain(folder)
    measured: dict[int, list[dict[str, Any]]] = {SUBSCRIBERS: [], 1: []}
    with service(folder, TICKS.format(rate=RATE, folder=folder)) as core:
        time.sleep(WARM_S)
        alone = idle(core)
        for number in range(rounds):
            for clients, found in measured.items():
                found.append(streamed(core, clients))
                say(f"latency {number + 1}: {told(found[-1])}")
    told_floor = f"plain VnPy, on_tick to a handler: p50 {floor['p50']:.2f}, p99 {floor['p99']:.2f} ms"
    result = []
    for clients, found in measured.items():
        p50, p99 = ([one[name] for one in found] for name in ("p50", "p99"))
        what = f"gateway to client, {RATE:,} ticks/s to {clients}"
        first = clients == SUBSCRIBERS
        met = (median(p50) <= P50_MS, median(p99) <= P99_MS) if first else (None, None)
        asked = (f"<= {P50_MS:g} ms", f"<= {P99_MS:g} ms") if first else ("", "")
        result += [
            Row(f"{what}: p50", f"{spread(p50)} ms", told_floor if first else "", asked[0], met[0]),
            Row(f"{what}: p99", f"{spread(p99)} ms", beside(found, alone), asked[1], met[1]),
        ]
    return result


def beside(found: list[dict[str, Any]], alone: float) -> str:
    middle = {name: median([one[name] for one in found]) for name in ("rate", "share", "service", "cpu")}
    return (
        f"{middle['rate']:,.0f} frames/s, {middle['share']:.1%} of what was sent; CPU service "
        f"{middle['service']:.0f} % (without clients {alone:.0f} %), reader {middle['cpu']:.0f} %"
    )


def told(one: dict[str, Any]) -> str:
    return (
        f"p50 {one['p50']:.2f} p99 {one['p99']:.2f} worst {one['worst']:.1f} ms, {one['rate']:,.0f} frames/s, "
        f"{one['share']:.1%}, service {one['service']:.0f} %, reader {one['cpu']:.0f} %"
    )


def streamed(core: Service, clients: int) -> dict[str, Any]:
    with reader(core.port, clients, token=core.token, topics=["tick.*"]) as child:
        time.sleep(WARM_S)
        return window(child, core.folder, core.process.pid, clients)


def window(child: Child, folder: Path, pid: int, clients: int) -> dict[str, Any]:
    """What came in some seconds; `share` is the part of what was sent, as it is told once a second."""
    used, (sent, at) = cpu_s(pid), ticks_sent(folder)
    child.ask("begin")
    time.sleep(MEASURE_S)
    found = child.ask("end")
    found["service"] = (cpu_s(pid) - used) / found["seconds"] * 100
    later, at_last = ticks_sent(folder)
    found["sent"] = (later - sent) / (at_last - at)
    found["rate"] = found.get("ticks", 0) / found["seconds"]
    found["share"] = found["rate"] / (found["sent"] * clients)
    return found


def idle(core: Service) -> float:
    """CPU without clients, percent of a core."""
    used = cpu_s(core.process.pid)
    time.sleep(MEASURE_S)
    return (cpu_s(core.process.pid) - used) / MEASURE_S * 100


def plain(folder: Path) -> dict[str, Any]:
    """What VnPy itself needs for half of the way."""
    home = folder / "plain"
    (home / ".vntrader").mkdir(parents=True)
    (home / ".vntrader" / "vt_setting.json").write_text('{"log.console": false, "log.file": false}')
    command = [sys.executable, str(BENCHMARKS / "stream_plain.py"), str(RATE), str(home / "stats.json")]
    with Child(command, cwd=home) as child:
        time.sleep(WARM_S)
        child.ask("begin")
        time.sleep(MEASURE_S)
        return child.ask("end")
