"""What durability costs: events a second through the stage and its journal, and what an order waits for its intent.

    .venv/bin/python benchmarks/durability.py [--events 30000] [--orders 1500] [--folder DIR]

Each mode of the journal beside a bare `INSERT` loop (sqlite3, one commit each, synchronous = FULL and NORMAL) in the
same run and folder, so on the same disk. An order goes through the intent gate to a gateway that answers at once; the
row "no journal" is the same gateway called directly.
"""

from __future__ import annotations

import argparse
import os
import platform
import secrets
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

from vnpy_core.adapters.journal.file import FILE_NAME
from vnpy_core.adapters.journal.settings import JournalSettings
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.domain.books import Books
from vnpy_core.engine.home import prepare_home
from vnpy_core.features.trading.idempotency import sortable_ids
from vnpy_core.kit.clock import SystemClock
from vnpy_core.kit.flow import CreditFlow

Durability = Literal["power", "process"]


class Bench:
    """A stage on a journal of its own, and a gateway behind the gate."""

    def __init__(self, folder: Path, durability: Durability) -> None:
        from vnpy_core.engine.gate import IntentGate  # noqa: PLC0415 - after the home is prepared, as all of vnpy
        from vnpy_core.engine.stage import Stage  # noqa: PLC0415

        clock = SystemClock()
        self.journal = SqliteJournal(
            folder / FILE_NAME,
            settings=JournalSettings(durability=durability, reserve_mb=0),
            boot_id="bench",
            run_id="bench",
            new_epoch=lambda: secrets.token_hex(4),
        )
        self.forwarded = 0
        self.stage = Stage(self.journal, Books(), clock, self._forward, CreditFlow(), ids_unique=lambda name: True)
        self.gate = IntentGate(
            self.stage,
            clock,
            new_id=sortable_ids(clock),
            reconciliation=lambda name: "",
            write_log=lambda text, name: None,
        )
        self.stage.start()

    def close(self) -> None:
        assert self.stage.stop(30), "the journal was not written to its end"
        self.journal.close()

    def _forward(self, event: Any) -> None:
        self.forwarded += 1


class InstantGateway:
    """Takes every order and says nothing more."""

    gateway_name = "INSTANT"

    def __init__(self) -> None:
        self.count = 0

    def send_order(self, req: Any) -> str:
        self.count += 1
        return f"INSTANT.{self.count}"


@contextmanager
def bench(folder: Path, durability: Durability) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(dir=folder) as own:
        running = Bench(Path(own), durability)
        try:
            yield running
        finally:
            running.close()


def orders(count: int) -> list[Any]:
    """So many orders as a gateway shows them, each in its first state."""
    from vnpy.trader.constant import Direction, Exchange, Offset, OrderType, Status  # noqa: PLC0415
    from vnpy.trader.object import OrderData  # noqa: PLC0415

    return [
        OrderData(
            gateway_name="INSTANT", symbol="rb2701", exchange=Exchange.SHFE, orderid=f"1-{number}",
            type=OrderType.LIMIT, direction=Direction.LONG, offset=Offset.OPEN, price=3500 + number % 50, volume=1,
            traded=0, status=Status.NOTTRADED,
        )
        for number in range(count)
    ]  # fmt: skip


def events_a_second(folder: Path, durability: Durability, count: int) -> float:
    """From the first `put` until the last event is durable and forwarded."""
    from vnpy.event import Event  # noqa: PLC0415
    from vnpy.trader.event import EVENT_ORDER  # noqa: PLC0415

    events = [Event(EVENT_ORDER, order) for order in orders(count)]
    with bench(folder, durability) as running:
        started = time.perf_counter()
        for event in events:
            running.stage.put(event)
        running.stage.barrier().result(300)
        seconds = time.perf_counter() - started
        assert running.forwarded == running.journal.state().last_seq == count
    return count / seconds


def order_times(folder: Path, durability: Durability, count: int) -> list[float]:
    """Milliseconds of `send_order` through the gate, one after another."""
    gateway = InstantGateway()
    with bench(folder, durability) as running:
        running.gate.install(gateway)
        times = timed(gateway.send_order, requests(count))
        assert gateway.count == count
        running.stage.barrier().result(60)
        assert running.journal.state().last_seq == 2 * count  # the intents and what became of them
    return times


def requests(count: int) -> list[Any]:
    from vnpy.trader.constant import Direction, Exchange, Offset, OrderType  # noqa: PLC0415
    from vnpy.trader.object import OrderRequest  # noqa: PLC0415

    return [
        OrderRequest(
            symbol="rb2701", exchange=Exchange.SHFE, direction=Direction.LONG, type=OrderType.LIMIT, volume=1,
            price=3500 + number % 50, offset=Offset.OPEN,
        )
        for number in range(count)
    ]  # fmt: skip


def timed(call: Callable[[Any], object], arguments: list[Any]) -> list[float]:
    times = []
    for argument in arguments:
        started = time.perf_counter()
        call(argument)
        times.append((time.perf_counter() - started) * 1000)
    return times


def insert_times(folder: Path, synchronous: str, count: int) -> list[float]:
    """Milliseconds of a bare INSERT of an order's row, each in a commit of its own."""
    row = (1, "epoch", "run", 1, "order.updated", "0123456789abcdef", b"x" * 420, b"h" * 32)
    with (
        tempfile.TemporaryDirectory(dir=folder) as own,
        closing(sqlite3.connect(Path(own) / "bare.sqlite", isolation_level=None)) as connection,
    ):
        connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma synchronous = {synchronous}")
        connection.execute("create table rows (seq integer primary key, a, b, c, d, e, f blob, g blob)")
        statement = "insert into rows values (?, ?, ?, ?, ?, ?, ?, ?)"
        return timed(lambda n: connection.execute(statement, (n, *row[1:])), list(range(1, count + 1)))


def shown(times: list[float]) -> str:
    p99 = sorted(times)[int(len(times) * 0.99)]
    return f"p50 {statistics.median(times):7.3f} ms   p99 {p99:7.3f} ms"


def machine(folder: Path) -> str:
    """What the figures are to be read with."""
    model = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ""
    )
    found = subprocess.run(["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=False)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} x {model or platform.machine()}, load {load}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {found.stdout.strip()} at {folder}"
    )


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--events", type=int, default=30_000)
    arguments.add_argument("--orders", type=int, default=1_500)
    arguments.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    wanted = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=wanted.folder) as home:
        folder = Path(home)
        (folder / "strategies").mkdir()
        prepare_home(folder / "data", folder / "strategies")
        print(machine(wanted.folder))
        print("\nevents journaled and forwarded, put by one thread")
        for durability in ("power", "process"):
            print(f"  stage, {durability:8} {events_a_second(folder, durability, wanted.events):10,.0f}/s")
        bare = {mode: insert_times(folder, mode, wanted.orders) for mode in ("full", "normal")}
        for mode, times in bare.items():
            print(f"  bare INSERT, {mode:6} {1000 * len(times) / sum(times):6,.0f}/s   {shown(times)}")
        print("\nan order until the gateway has taken it")
        print(f"  no journal      {shown(timed(InstantGateway().send_order, requests(wanted.orders)))}")
        for durability in ("power", "process"):
            print(f"  {durability:8}        {shown(order_times(folder, durability, wanted.orders))}")


if __name__ == "__main__":
    main()
