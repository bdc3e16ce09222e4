"""However long a file is, reading and writing it takes the same memory."""

import subprocess
import sys

import pytest

CHILD = """
import gzip, os, resource, sys
from pathlib import Path

import numpy as np

from vnpy_core.domain.history import Series, empty_ticks
from vnpy_core.recordings.reading import Source
from vnpy_core.recordings.ticks import TickFile
from vnpy_core.recordings.writing import write_ticks

path, room = Path(sys.argv[1]), int(sys.argv[2])
HEADER = "symbol,exchange,datetime,last_price," + ",".join(f"bid_price_{n},bid_volume_{n}" for n in range(1, 6))
LINES = "".join(
    f"X,GLOBAL,2024-01-01 00:{n // 600 % 60:02}:{n // 10 % 60:02}.{n % 10:06},{n / 8:.6f}" + ",60123.456789,1.25" * 5
    for n in range(1, 10_001)
).replace("1.25X", "1.25\\nX")


def chunks(count):
    for n in range(count):
        ticks = empty_ticks(20_000)
        ticks["ts"] = 1_704_067_200 * 10**9 + (n * 20_000 + np.arange(20_000)) * 10**6
        yield ticks


def read():
    return sum(len(ticks) for _, ticks, _ in TickFile(Source(path=path)))


def write(count):
    with open(os.devnull, "wb") as out:
        return write_ticks(chunks(count), Series("X", "GLOBAL"), out)


def pack(times):
    with gzip.open(path, "wt", compresslevel=1) as out:
        print(HEADER, file=out)
        for _ in range(times):
            print(LINES, file=out)


# What any file takes: the libraries, and the chunks.
pack(6)
assert read() == 60_000
assert write(2) == 40_000
pack(80)
assert 80 * len(LINES) > 100_000_000, len(LINES)

with open("/proc/self/statm") as file:
    pages = int(file.read().split()[0])
limit = pages * resource.getpagesize() + room
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    bytearray(room + 2**24)
except MemoryError:
    pass
else:
    raise SystemExit("the limit does not hold")
assert read() == 800_000
assert write(10) == 200_000
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space as Linux does")
def test_a_hundred_megabytes_pass_through_64(tmp_path):
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "big.gz"), str(64 << 20)],
        capture_output=True,
        check=False,
        text=True,
        timeout=110,
    )
    assert child.returncode == 0, child.stderr[-3000:]
