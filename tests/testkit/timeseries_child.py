"""Processes that work on an embedded store, to be killed or to get in each other's way.

`python timeseries_child.py kill FOLDER FAILPOINT...`: for each failpoint forks a process that works in a folder of
that name until the failpoint kills it, and says how far it came. `… write FOLDER FIRST BATCHES`: one that writes
batches beside others.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from testkit.clock import FakeClock
from testkit.timeseries import RU, bars_at, ticks_at
from vnpy_core.adapters.timeseries.embedded import EmbeddedStore
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.history import Interval, Series, TickBatch
from vnpy_core.kit import failpoints
from vnpy_core.kit.clock import SystemClock

CU = Series("cu1901", "SHFE")
BATCH = 10
STEPS = 8
DELETED = 3
"""The batch of CU that is taken away again."""


def work(folder: Path, said: int) -> None:
    """Appends, merges, rolls, merges files, removes and deletes; says each step once it was acknowledged."""
    clock = FakeClock()
    store = EmbeddedStore(folder, TimeSeriesSettings(roll_rows=10**6), clock)
    store.open()

    def say(what: str, step: int) -> None:
        os.write(said, json.dumps([what, step]).encode() + b"\n")

    for step in range(STEPS):
        first = step * BATCH
        ticks = ticks_at(range(first, first + BATCH), first=first)
        store.append_ticks(TickBatch({RU: ticks.copy(), CU: ticks.copy()}))
        say("ticks", step)
        store.merge_bars(RU, Interval.MINUTE, bars_at([0, step + 1], close=step))
        say("bars", step)
        if step % 2:
            store.flush()
        if step == DELETED:
            start = int(ticks["ts"][0])
            store.delete_ticks(CU, start, start + BATCH * 1000)
            say("deleted", step)
        clock.advance(100)
    store.close()


def kill(folder: Path, names: list[str]) -> dict[str, Any]:
    """For each failpoint: whether it killed, and the last step of each kind that was acknowledged."""
    found = {}
    for name in names:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            failpoints.arm(name)
            work(folder / name.replace(":", "-"), writing)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as lines:
            steps = dict(map(json.loads, lines))
        _, status = os.waitpid(child, 0)
        found[name] = {"killed": os.WIFSIGNALED(status), "status": status, **steps}
    return found


def write(folder: Path, first: int, batches: int) -> None:
    """Ticks of the same microseconds as other writers', rolled at once."""
    store = EmbeddedStore(folder, TimeSeriesSettings(roll_rows=20, roll_s=0.2), SystemClock())
    store.open()
    for number in range(batches):
        ticks = np.concatenate((ticks_at([number, number]), ticks_at([0])))
        ticks["last_price"] = first + number * 3 + np.arange(3)
        if number % 2:
            store.merge_ticks(RU, ticks)
        else:
            store.append_ticks(TickBatch({RU: ticks}))
        store.merge_bars(RU, Interval.MINUTE, bars_at([first + number]))
    store.close()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["kill", folder, *names]:
            print(json.dumps(kill(Path(folder), names)))
        case ["write", folder, first, batches]:
            write(Path(folder), int(first), int(batches))
