"""A plain VnPy with the stamped ticks, as a child of benchmarks/stream.py. Needs VnPy only.

    python stream_plain.py RATE STATS [REQ_ADDRESS PUB_ADDRESS]

Alone it measures what VnPy itself takes from `on_tick` to a handler on the event thread; with addresses it is the
trader's half of vnpy_webtrader. Reads `begin` and `end` lines, answers each with a line of JSON, ends with its input.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from stream_ticks import StampedTicks
from vnpy.event import EventEngine
from vnpy.trader.engine import MainEngine
from vnpy.trader.event import EVENT_TICK


def main() -> None:
    rate, stats, *addresses = sys.argv[1:]
    main_engine = MainEngine(EventEngine())
    main_engine.add_gateway(StampedTicks)
    times: list[float] = []
    if addresses:
        from vnpy_webtrader import WebTraderApp  # noqa: PLC0415 - its own environment has it only

        main_engine.add_app(WebTraderApp).start_server(*addresses)
    else:

        def measure(event: Any) -> None:
            times.append(time.monotonic_ns() / 1000 - event.data.turnover)

        main_engine.event_engine.register(EVENT_TICK, measure)
    main_engine.connect({"rate": float(rate), "symbols": 50, "stats": stats}, "TICKS")
    answer({"ready": True})
    for line in sys.stdin:
        if line.strip() == "end":
            taken = sorted(times)
            answer({f"p{part}": taken[len(taken) * part // 100] / 1000 if taken else None for part in (50, 99)})
        else:
            times.clear()
            answer({})
    main_engine.close()


def answer(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    main()
