"""Ten minutes without MariaDB under load, and what the test command only prints; not collected by `make test`:

    .venv/bin/python -m pytest -q -s tests/torture/long_outage.py

On an idle machine of two cores or more: the ratio of 1.1 means nothing beside other work.
"""

from __future__ import annotations

import os

import pytest

from e2e.test_database_outage import DRAIN_ROWS_S, database, outage, run  # noqa: F401 - fixtures
from testkit.kills import KillRun
from testkit.servers import MariaDb

OUTAGE_S = float(os.environ.get("VNPYCORE_TORTURE_OUTAGE_S", "600"))
NORMAL_S = max(30.0, OUTAGE_S / 5)
RATIO = 1.1


@pytest.mark.timeout(0)
def test_ten_minutes_without_the_database(run: KillRun, database: MariaDb) -> None:  # noqa: F811 - the fixtures
    normal, without, drained = outage(run, database, NORMAL_S, OUTAGE_S, queued=200_000)
    assert without.p99 <= RATIO * normal.p99, f"{without.p99:.1f} ms without, {normal.p99:.1f} ms with the database"
    assert drained.rate >= DRAIN_ROWS_S
