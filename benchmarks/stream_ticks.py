"""`tick_source`'s gateway with the moment of its `on_tick` in each tick. Needs VnPy only: any environment has it.

`turnover` is that moment: microseconds of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import time
from typing import Any

from tick_source import TickSource


class StampedTicks(TickSource):
    """Begins with the connect, ends when it is closed."""

    default_name = "TICKS"

    def on_tick(self, tick: Any) -> None:
        tick.turnover = time.monotonic_ns() // 1000 / 1
        super().on_tick(tick)
