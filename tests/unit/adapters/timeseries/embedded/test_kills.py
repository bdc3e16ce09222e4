"""kill -9 at any moment: what was acknowledged is there exactly once, and no file is left that nobody needs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from testkit import timeseries_child as child
from testkit.clock import FakeClock
from testkit.timeseries import RU, START_US, all_bars, all_ticks, prices
from vnpy_core.adapters.timeseries.embedded import EmbeddedStore
from vnpy_core.adapters.timeseries.embedded.rolling import GRACE_S
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings

NAMES = [
    f"timeseries.{name}:{count}"
    for name, counts in {
        "before_commit": (1, 5, 6, 8, 20, 30),
        "after_commit": (1, 5, 6, 8, 20, 30),
        "before_rename": (1, 5),
        "after_rename": (1, 5),
        "before_removal": (1,),
        "written": (5,),
    }.items()
    for count in counts
]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """All kills, one after the other, and where."""
    folder = tmp_path_factory.mktemp("kills")
    command = [sys.executable, child.__file__ or "", "kill", str(folder), *NAMES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    return folder, json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_acknowledged_rows_survive_a_kill_exactly_once(killed, name: str) -> None:
    folder, results = killed
    result = results[name]
    assert result["killed"], f"{name} was never reached"
    place = folder / name.replace(":", "-")
    later = FakeClock(datetime(2027, 1, 1, tzinfo=UTC))
    with closing(EmbeddedStore(place, TimeSeriesSettings(), later)) as store:
        store.open()
        for _ in range(2):
            check(store, result)
            store.flush()
            later.advance(GRACE_S + 1)
        store.flush()
        with store._catalog.reading() as db:
            listed = {path for (path,) in db.execute("select path from files")}
        there = {str(path.relative_to(place)) for path in place.rglob("*") if "~" in str(path) and path.is_file()}
        assert there == listed


def check(store: EmbeddedStore, result: dict[str, Any]) -> None:
    """All that was acknowledged is there; of the next step all or nothing."""
    ru = prices(all_ticks(store, RU))
    acknowledged = (result.get("ticks", -1) + 1) * child.BATCH
    assert ru == list(range(len(ru)))
    assert len(ru) in (acknowledged, acknowledged + child.BATCH)
    cu = prices(all_ticks(store, child.CU))
    gone = [price for price in ru if price // child.BATCH == child.DELETED]
    without = [price for price in ru if price not in gone]
    if result.get("deleted") is not None:
        assert cu == without
    else:
        assert cu in (ru, without)
    bars = all_bars(store)
    starts = [int(start) for start in (bars["ts"] - START_US * 1000) // (60 * 10**9)]
    assert starts == list(range(len(starts)))
    assert len(starts) - 2 in (result.get("bars", -2), result.get("bars", -1) + 1) or not starts
    assert Counter(starts).most_common(1)[:1] in ([], [(0, 1)])
    if starts:
        assert float(bars["close_price"][0]) == float(bars["close_price"][-1]) == len(starts) - 2
