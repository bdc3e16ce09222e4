"""The recorder on the embedded store: kills, restarts, and a database that others hold."""

from __future__ import annotations

import contextlib
import os
import random
import select
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest

from testkit.clock import FakeClock
from testkit.recording import AU, RB, START, numbered
from vnpy_core.adapters.timeseries.embedded import EmbeddedStore
from vnpy_core.adapters.timeseries.live_bars import GRACE_S
from vnpy_core.adapters.timeseries.recorder import Recorder
from vnpy_core.adapters.timeseries.settings import RecorderSettings, TimeSeriesSettings
from vnpy_core.domain.bars import Period, bars_from_ticks
from vnpy_core.domain.events import Tick
from vnpy_core.domain.history import LAST_NS, Interval, Series, TickArray, empty_bars, empty_ticks
from vnpy_core.kit.clock import SystemClock
from vnpy_core.kit.flow import CreditFlow

TESTS = Path(__file__).resolve().parents[2]
PACKAGE = TESTS.parent / "services" / "vnpy-core"


@contextlib.contextmanager
def opened(folder: Path, clock: FakeClock | SystemClock, **settings: float) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(folder / "timeseries", TimeSeriesSettings(**settings), clock)
    store.open()
    try:
        yield store
    finally:
        store.close()


def recorder_on(store: EmbeddedStore, clock: FakeClock | SystemClock, folder: Path, **settings: int) -> Recorder:
    return Recorder(store, RecorderSettings(**settings), clock, CreditFlow(), folder / "recorder.json")


def stored_ticks(store: EmbeddedStore, series: Series) -> TickArray:
    return np.concatenate([empty_ticks(), *store.ticks(series, 0, LAST_NS)])


def settle(recorder: Recorder, clock: FakeClock) -> None:
    for _ in range(4):
        clock.advance(60 + GRACE_S)
        recorder.step(write=True)
    assert recorder.state().error == ""


def assert_bars_are_those_of_the_ticks(store: EmbeddedStore, *, at_least: int) -> None:
    for series in (RB, AU):
        bars = np.concatenate([empty_bars(), *store.bars(series, Interval.MINUTE, 0, LAST_NS)])
        expected = list(bars_from_ticks([stored_ticks(store, series)], Period.parse("1m"), series.exchange))
        assert bars.tobytes() == np.concatenate([empty_bars(), *expected]).tobytes()
        assert bars.size >= at_least


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def lives(folder: Path, first: int, chance: random.Random) -> int:
    """Record for a while from tick `first` on, then kill -9; how many ticks were told to be durable."""
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{PACKAGE}"}
    command = [sys.executable, "-m", "testkit.recording", str(folder), str(first), "400"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        try:
            assert select.select([child.stdout], [], [], 60)[0], "the recorder did not write"
            time.sleep(chance.uniform(0.05, 0.5))
        finally:
            child.kill()
        return int(child.stdout.read().split()[-1])


def test_kills_lose_no_durable_tick_and_leave_no_wrong_bar(tmp_path):
    chance = random.Random(4)
    first, durable = 0, 0
    for _ in range(4):
        durable += lives(tmp_path, first, chance)
        with opened(tmp_path, SystemClock()) as store:
            ticks = {series: stored_ticks(store, series) for series in (RB, AU)}
        for rows in ticks.values():
            numbers = rows["volume"].astype(int).tolist()
            assert numbers == sorted(set(numbers)), "no tick is stored twice"
        assert sum(rows.size for rows in ticks.values()) >= durable
        durable = sum(rows.size for rows in ticks.values())  # written, though the child was killed before it said so
        first = int(max(rows["volume"][-1] for rows in ticks.values())) + 1
    clock = FakeClock(START + timedelta(seconds=first))
    with opened(tmp_path, clock) as store:
        settle(recorder_on(store, clock, tmp_path), clock)
        assert_bars_are_those_of_the_ticks(store, at_least=1)


@pytest.mark.parametrize("seed", range(3))
def test_bars_are_those_of_the_ticks_over_restarts_kills_and_rolling(tmp_path, seed):
    chance = random.Random(seed)
    clock = FakeClock(START)
    with opened(tmp_path, clock, roll_rows=40, roll_s=0.02) as store:
        recorder = recorder_on(store, clock, tmp_path)
        for _ in range(150):
            late = chance.choice([0, 0, 0, 1, 90])
            number = max(0, int((clock.now() - START).total_seconds()) - late)
            for series in (RB, AU)[: chance.randint(1, 2)]:
                recorder.take(numbered(number, series))
            clock.advance(chance.choice([0.2, 1, 7]))
            match chance.randrange(12):
                case 0 | 1 | 2:
                    recorder.step(write=True)
                case 3:
                    recorder.step(write=True, ending=True)
                    recorder = recorder_on(store, clock, tmp_path)
                case 4:
                    recorder = recorder_on(store, clock, tmp_path)
        settle(recorder, clock)
        assert_bars_are_those_of_the_ticks(store, at_least=4)


def test_ticks_wait_while_another_process_holds_the_database_and_none_is_lost(tmp_path):
    clock = SystemClock()
    with opened(tmp_path, clock, timeout_s=0.1) as store:
        recorder = recorder_on(store, clock, tmp_path, flush_ms=20)
        recorder.start()
        (path,) = (tmp_path / "timeseries").glob("*.sqlite")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("begin immediate")
            for number in range(500):
                recorder.take(live(number, clock))
            until(lambda: recorder.state().error != "")
            assert recorder.state().waiting == 500
            other.execute("rollback")
        until(lambda: recorder.state().recorded == 500)
        recorder.stop()
        assert stored_ticks(store, RB)["volume"].tolist() == [float(number) for number in range(500)]
        assert (recorder.state().dropped, recorder.state().error) == (0, "")


def live(number: int, clock: SystemClock) -> Tick:
    return msgspec.structs.replace(numbered(number, RB), datetime=clock.now())
