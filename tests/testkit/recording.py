"""A process that records ticks into the embedded store until it is killed.

    python -m testkit.recording <folder> <first tick> <ticks a second>

Tick number n has the time START + n seconds, so that minutes pass quickly, and n as its running volume. Every write is
told on stdout: how many ticks of this life are durable.
"""

from __future__ import annotations

import itertools
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from testkit.clock import FakeClock
from vnpy_core.adapters.timeseries.embedded import EmbeddedStore
from vnpy_core.adapters.timeseries.recorder import Recorder
from vnpy_core.adapters.timeseries.settings import RecorderSettings, TimeSeriesSettings
from vnpy_core.domain.events import Tick
from vnpy_core.domain.history import Series
from vnpy_core.kit.flow import CreditFlow

START = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
RB, AU = Series("rb2701", "SHFE"), Series("au2702", "SHFE")
FLUSH_MS = 30


def numbered(number: int, series: Series) -> Tick:
    """The tick of that number."""
    return Tick(
        gateway_name="CTP", vt_symbol=series.vt_symbol, symbol=series.symbol, exchange=series.exchange,
        datetime=START + timedelta(seconds=number), last_price=100.0 + number % 7, volume=float(number),
    )  # fmt: skip


def main(folder: Path, first: int, rate: int) -> None:
    """Until somebody kills it."""
    clock = FakeClock(START + timedelta(seconds=first))
    store = EmbeddedStore(folder / "timeseries", TimeSeriesSettings(roll_rows=100, roll_s=0.05), clock)
    recorder = Recorder(store, RecorderSettings(flush_ms=FLUSH_MS), clock, CreditFlow(), folder / "recorder.json")
    recorder.start()
    told = 0
    for number in itertools.count(first):
        clock.advance(1)
        for series in (RB, AU):
            recorder.take(numbered(number, series))
        if (durable := recorder.state().recorded) > told:
            told = durable
            print(told, flush=True)
        time.sleep(1 / rate)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
