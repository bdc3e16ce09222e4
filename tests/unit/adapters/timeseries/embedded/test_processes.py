"""Several processes write, roll and read one store."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np

from testkit import timeseries_child as child
from testkit.load import eventually
from testkit.timeseries import all_bars, all_ticks, prices
from vnpy_core.adapters.timeseries.embedded import EmbeddedStore
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.kit.clock import SystemClock

BATCHES = 16
FIRSTS = (0, 1000, 2000)


def test_processes_that_make_and_write_one_store_at_once_keep_all_of_it_while_another_reads(folder: Path) -> None:
    command = [sys.executable, child.__file__ or "", "write", str(folder)]
    writers = [subprocess.Popen([*command, str(first), str(BATCHES)]) for first in FIRSTS]
    try:
        eventually((folder / "catalog.sqlite").exists, 60, "no process has made the store")
        with closing(EmbeddedStore(folder, TimeSeriesSettings(roll_rows=40, roll_s=0.05), SystemClock())) as store:
            store.open()
            seen = 0
            while any(writer.poll() is None for writer in writers):
                found = all_ticks(store, columns=("last_price",))
                assert len(set(prices(found))) == len(found) >= seen
                assert (np.diff(found["ts"]) > 0).all()
                seen = len(found)
            assert [writer.wait() for writer in writers] == [0] * len(writers)
            expected = [first + number for first in FIRSTS for number in range(BATCHES * 3)]
            for _ in range(2):
                found = all_ticks(store)
                assert sorted(prices(found)) == expected
                assert (np.diff(found["ts"]) > 0).all()
                assert len(all_bars(store)) == BATCHES * len(FIRSTS)
                assert {one.count for one in store.overview()} == {len(expected), BATCHES * len(FIRSTS)}
                store.flush()
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
