"""The recorded ru1901 at 50 times real time, to 100 subscribers of two edges: half ask for every tick.

Only so much of the recording as takes half a minute. Who asks for every tick has each one; the last tick is the core's
for all.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from stream_edge import edge
from stream_kit import CONTRACTS, REDIS, REPOSITORY, Child, Refused, Row, cpu_s, reader, redis_server, say, service

RU1901 = REPOSITORY.parent / "shared" / "data" / "ctp" / "shfe_ru1901_20181008-20181012.tick-ctp.zip"
SYMBOL = "ru1901.SHFE"
SPEED, SUBSCRIBERS, EDGES = 50, 100, 2
TICKS = 3_000
"""Two a second."""
ENDS_S = 120.0
REPLAY = """
[gateways.RUBBER]
class = "vnpy_core.gateways.paper.gateway:PaperGateway"
auto_connect = false
[gateways.RUBBER.setting]
contracts = "{contracts}"
symbols = "{symbol}"
market = "replay"
files = "{file}"
exchange = "SHFE"
speed = {speed}
"""


def rows(folder: Path, rounds: int) -> list[Row]:
    what = f"ru1901 at {SPEED} x real time, {SUBSCRIBERS} subscribers of {EDGES} edges"
    if not RU1901.exists():
        return [Row(what, "skipped", f"there is no {'/'.join(RU1901.parts[-4:])} beside the repository")]
    part = folder / "ru1901.csv"
    part.write_text(beginning(RU1901, TICKS))
    replay = REPLAY.format(contracts=CONTRACTS, symbol=SYMBOL, file=part, speed=SPEED)
    with ExitStack() as stack:
        url = stack.enter_context(redis_server(folder))
        config = REDIS.format(url=url)
        core = stack.enter_context(service(folder, replay + config))
        edges = [stack.enter_context(edge(folder, config, core)) for _ in range(EDGES)]
        each = SUBSCRIBERS // EDGES // 2
        children = {
            conflate: [
                stack.enter_context(
                    reader(node.port, each, mode="follow", token=core.token, topics=["tick.*"], conflate=conflate)
                )
                for node in edges
            ]
            for conflate in (False, True)
        }
        for child in all_of(children):
            child.ask("begin")
        core.ask("POST", "/trading/gateways/RUBBER/connect", {"setting": {}})
        subscribe(core)
        began, used = time.monotonic(), [cpu_s(one.process.pid) for one in (core, *edges)]
        last = played(core)
        took = time.monotonic() - began
        busy = [
            (cpu_s(one.process.pid) - before) / took * 100 for one, before in zip((core, *edges), used, strict=True)
        ]
        time.sleep(1)
        found = {conflate: [child.ask("end") for child in asked] for conflate, asked in children.items()}
    cpu = f"CPU core {busy[0]:.0f} %, edges {busy[1]:.0f} and {busy[2]:.0f} %"
    say(f"rubber: {last['tick_seq']} ticks in {took:.0f} s; {cpu}")
    return [
        result(f"{what}: every tick", found[False], last, cpu, every=True),
        result(f"{what}: conflated", found[True], last, f"{last['tick_seq'] / took:,.0f} ticks/s", every=False),
    ]


def result(what: str, found: list[dict[str, Any]], last: dict[str, Any], beside: str, *, every: bool) -> Row:
    counts = [one for child in found for one in child["each"]]
    got, sent = [ticks for ticks, _, _ in counts], last["tick_seq"]
    missed = sum(missed for _, missed, _ in counts)
    at_end = sum(json.loads(frame or "{}").get("data") == last for child in found for frame in child["last"])
    lost = sum(child["lost"] for child in found)
    met = at_end == len(counts) and not lost and (not every or (min(got) == sent and not missed))
    return Row(
        what,
        f"{min(got):,}..{max(got):,} of {sent:,} ticks each; last tick equal for {at_end} of {len(counts)}",
        f"{missed} missed, {lost} connections lost; {beside}",
        "all" if every else "the last one",
        met,
    )


def all_of(children: dict[bool, list[Child]]) -> Iterable[Child]:
    return [child for asked in children.values() for child in asked]


def subscribe(core: Any) -> None:
    """The recording begins with the connect; what it shows before somebody subscribes is nobody's."""
    deadline = time.monotonic() + 20
    while True:
        try:
            core.ask("POST", "/trading/subscriptions", {"vt_symbol": SYMBOL, "gateway_name": "RUBBER"})
            return
        except Refused as error:
            if time.monotonic() > deadline:
                raise RuntimeError(str(error)) from error
            time.sleep(0.02)


def played(core: Any) -> dict[str, Any]:
    """The core's last tick, once no more comes."""
    deadline, last = time.monotonic() + ENDS_S, None
    while time.monotonic() < deadline:
        time.sleep(3)
        try:
            tick: dict[str, Any] = core.ask("GET", f"/trading/ticks/{SYMBOL}")
        except Refused:
            continue
        if tick == last:
            return tick
        last = tick
    raise AssertionError(f"the recording did not end in {ENDS_S:.0f} s: {last}")


def beginning(recording: Path, ticks: int) -> str:
    """The first rows of its first file, with the header."""
    with zipfile.ZipFile(recording) as archive:
        first = min(name for name in archive.namelist() if name.endswith(".csv"))
        lines = io.TextIOWrapper(archive.open(first), encoding="utf-8", errors="replace")
        return "".join(line for line, _ in zip(lines, range(ticks + 1), strict=False))
