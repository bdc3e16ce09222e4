"""A 5 GB file on 1 GB of memory, into the embedded store; not collected by `make test`:

    .venv/bin/python -m pytest -q -s tests/torture/big_import.py

VNPYCORE_TORTURE_GB=1 makes it shorter. The file is gzipped: its content is that large, not what it takes of the disk.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from unit.recordings.test_ticks import ctp

GIGABYTES = float(os.environ.get("VNPYCORE_TORTURE_GB", "5"))
MEMORY = 1 << 30
ROWS_A_DAY = 20_000

CHILD = """
import resource, sys, time
from pathlib import Path

resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[3]),) * 2)

from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.cli.data_store import opened
from vnpy_core.features.market_data.importing import ImportSpec, run_import

with opened(TimeSeriesSettings(), Path(sys.argv[2])) as store:
    began = time.monotonic()
    result = run_import(
        ImportSpec(path=sys.argv[1], kind="tick", name="big.csv.gz"), store, lambda symbol: None, lambda *step: None
    )
    took = time.monotonic() - began
    store.flush()
    [coverage] = store.overview()
    assert coverage.count == result.added == result.rows, (coverage, result)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(f"{result.rows:,} rows, {result.rows / took:,.0f} rows/s, {peak} MB at most", result.bad_count)
"""


def write_days(path: Path, size: int) -> int:
    """CTP ticks of one day after the other; returns how many."""
    changes = []
    for n in range(ROWS_A_DAY):
        at = n // 2
        clock = f"{9 + at // 3600:02}:{at // 60 % 60:02}:{at % 60:02}"
        price = 12_000 + n * 7919 % 1000 / 2
        changes.append(
            {"TradingDay": "DAY", "ActionDay": "DAY", "UpdateTime": clock, "UpdateMillisec": f"{n % 2 * 500:03}"}
            | {"Volume": str(n * 3), "LastPrice": f"{price:.2f}", "Turnover": f"{n * 36_000_000:.2f}"}
        )  # fmt: skip
    header, _, day = ctp(*changes).partition("\n")
    written, when = 0, date(2000, 1, 3)
    with gzip.open(path, "wt", compresslevel=1) as out:
        print(header, file=out)
        while written * len(day) < size * 1.0:
            out.write(day.replace("DAY", when.strftime("%Y%m%d")))
            written, when = written + 1, when + timedelta(days=1)
    return written * ROWS_A_DAY


@pytest.mark.timeout(0)
def test_a_file_of_five_gigabytes_is_imported_with_one_of_memory(tmp_path: Path) -> None:
    rows = write_days(tmp_path / "big.csv.gz", int(GIGABYTES * 10**9))
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "big.csv.gz"), str(tmp_path / "store"), str(MEMORY)],
        capture_output=True,
        check=False,
        text=True,
    )
    print(child.stdout)
    assert child.returncode == 0, child.stderr[-3000:]
    assert child.stdout.startswith(f"{rows:,} rows")
    assert child.stdout.rstrip().endswith(" 0")
