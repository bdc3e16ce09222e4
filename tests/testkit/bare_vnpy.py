"""VnPy without the service, in a process of its own, and the market that both are given to compare them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from vnpy_core.gateways.paper.feeds.replay import Replay
from vnpy_core.gateways.paper.model import Snapshot

VT_SYMBOL = "ru1901.SHFE"
ZONE = "Asia/Shanghai"
"""What TZ must be for both: VnPy takes the machine's zone for its own."""
_RECORDING = Path("ctp") / "shfe_ru1901_20181008-20181012.tick-ctp.zip"
_CHILD = Path(__file__).with_name("bare_vnpy_child.py")
_SHANGHAI = ZoneInfo(ZONE)
_COLUMNS = [
    "symbol", "exchange", "datetime", "interval",
    "open_price", "high_price", "low_price", "close_price", "volume", "turnover", "open_interest",
]  # fmt: skip


class Strategy(msgspec.Struct):
    """One strategy of a plan; it trades VT_SYMBOL."""

    class_name: str
    setting: dict[str, Any]


class Plan(msgspec.Struct):
    """What is played: `gateway` is the paper gateway's setting, `history` a CSV of bars that `load_bar` finds."""

    history: str
    gateway: dict[str, Any]
    strategies: dict[str, Strategy]


def run_bare(folder: Path, plan: Plan) -> dict[str, Any]:
    """Play `plan` in VnPy's home `folder`, whose `strategies` may have more classes; see the child for what it says."""
    home = folder / ".vntrader"
    home.mkdir(parents=True)
    (home / "vt_setting.json").write_text(json.dumps({"log.active": False}))
    (folder / "plan.json").write_bytes(msgspec.json.encode(plan))
    done = subprocess.run(
        [sys.executable, str(_CHILD), "plan.json"],
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def recorded_days(shared_data: Path, folder: Path) -> list[Path]:
    """The recording's five days, unpacked into `folder`, a file each."""
    with zipfile.ZipFile(shared_data / _RECORDING) as archive:
        return [Path(archive.extract(name, folder)) for name in sorted(archive.namelist())]


def write_history(days: list[Path], path: Path, *, until: date) -> None:
    """The days' minute bars twice over, the last ones dated `until`, as a CSV with VnPy's columns.

    `load_bar` asks for the last few days by the clock, so a recording's own dates would never be found. Three days
    twice over are more than the hundred quarters of an hour that ArrayManager waits for.
    """
    bars = list(_minute_bars(Replay([str(day) for day in days], exchange="SHFE")))
    first, last = bars[0]["datetime"].date(), bars[-1]["datetime"].date()
    shift = until - last
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, _COLUMNS)
        table.writeheader()
        for days_on in (shift - (last - first) - timedelta(days=1), shift):
            # By the clock on the wall, as VnPy's windows and ends of the day go by it.
            table.writerows(bar | {"datetime": (bar["datetime"] + days_on).isoformat()} for bar in bars)


def _minute_bars(snapshots: Iterable[Snapshot]) -> Iterator[dict[str, Any]]:
    bar: dict[str, Any] = {}
    for snapshot in snapshots:
        if not snapshot.last_volume:
            continue
        minute = snapshot.time.astimezone(_SHANGHAI).replace(second=0, microsecond=0)
        if bar.get("datetime") != minute:
            if bar:
                yield bar
            bar = _opened(snapshot, minute)
        bar["high_price"] = max(bar["high_price"], snapshot.last_price)
        bar["low_price"] = min(bar["low_price"], snapshot.last_price)
        bar["close_price"] = snapshot.last_price
        bar["open_interest"] = snapshot.open_interest
        bar["volume"] += snapshot.last_volume
    yield bar


def _opened(snapshot: Snapshot, minute: datetime) -> dict[str, Any]:
    prices = dict.fromkeys(("open_price", "high_price", "low_price", "close_price"), snapshot.last_price)
    return {
        "symbol": snapshot.symbol, "exchange": snapshot.exchange, "datetime": minute, "interval": "1m", **prices,
        "volume": 0.0, "turnover": 0.0, "open_interest": 0.0,
    }  # fmt: skip
