"""What streaming costs and how quick it is, each figure beside its peer in the same run.

    .venv/bin/python benchmarks/stream.py [--part latency|fanout|edge|redis|webtrader|rubber] [--rounds 3]

`latency`: a gateway's `on_tick` until a client process has read the frame, in a whole service; `fanout`: the hub beside
a bare uvicorn broadcast of the same bytes; `edge`: what 1,000 clients of an edge cost the core's orders; `redis`:
events/s into Redis; `webtrader`: the same ticks through vnpy_webtrader, in an environment of its own made here;
`rubber`: the recorded ru1901 at 50 times real time to 100 subscribers of two edges. One table at the end.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import stream_edge
import stream_fanout
import stream_latency
import stream_redis
import stream_rubber
import stream_webtrader
from stream_kit import Load, Row, machine, say, table

PARTS: dict[str, Callable[[Path, int], list[Row]]] = {
    "fanout": stream_fanout.rows,
    "latency": stream_latency.rows,
    "webtrader": stream_webtrader.rows,
    "redis": stream_redis.rows,
    "edge": stream_edge.rows,
    "rubber": stream_rubber.rows,
}


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--part", choices=PARTS)
    arguments.add_argument("--rounds", type=int, default=3)
    wanted = arguments.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
    begun = time.monotonic()
    before, load = machine(), Load()
    found: list[Row] = []
    for name in [wanted.part] if wanted.part else PARTS:
        say(f"{name} …")
        folder = Path(tempfile.mkdtemp(prefix=f"vnpy-core-bench-{name}-"))
        try:
            found += PARTS[name](folder, wanted.rounds)
        except (OSError, RuntimeError, EOFError, AssertionError) as error:
            found.append(Row(name, "did not run", (str(error).strip() or repr(error)).splitlines()[-1][:160]))
            print(f"{name}: {error!r}", file=sys.stderr)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print(before)
    print(f"{time.monotonic() - begun:.0f} s; medians of {wanted.rounds} rounds in turn (least..most)")
    print(load.told() + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
