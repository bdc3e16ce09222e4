"""A start whose journal is far ahead of the database."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from testkit import invariants
from testkit.journal_rows import at, intent, order
from testkit.kills import KillRun
from vnpy_core.adapters.journal.file import FILE_NAME
from vnpy_core.adapters.journal.settings import JournalSettings
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.bus import records, topics
from vnpy_core.domain.enums import IntentState, Status
from vnpy_core.domain.events import Event, IntentOutcome
from vnpy_core.ports.journal import Row

pytestmark = pytest.mark.alone

ROWS = 100_000
READY_LIMIT_S = 10.0


@pytest.mark.timeout(180)
def test_a_start_with_a_hundred_thousand_rows_that_sql_lacks(tmp_path: Path) -> None:
    """Written by an earlier run whose database was away: ready in 10 s, and all of them are in SQL a little later."""
    with KillRun(tmp_path / "run", seed="100k") as run:
        run.service.data.mkdir(exist_ok=True)
        written = write_rows(run.service.data / FILE_NAME, ROWS)
        run.start()
        print(f"ready after {run.service.ready_s:.2f} s with {written} rows to drain")
        assert run.service.ready_s < READY_LIMIT_S
        run.check(within=60)
        with closing(invariants.Sql(run.service.store_url)) as sql:
            stored = sql.execute("select count(*) as n from orders where gateway_name = 'EARLIER'")
        assert stored == [{"n": written // 4}]


def write_rows(path: Path, count: int) -> int:
    """A journal of orders that were sent, accepted and cancelled through a gateway that is there no more."""
    journal = SqliteJournal(path, settings=JournalSettings(), boot_id="b", run_id="earlier", new_epoch=lambda: "e1")
    rows: list[Row] = []
    for number in range(count // 4):
        key = f"early-{number}"
        common = {"gateway_name": "EARLIER", "client_order_id": key}
        sent = msgspec.structs.replace(intent(str(number), gateway_name="EARLIER"), client_order_id=key)
        bound = IntentOutcome(**common, state=IntentState.BOUND, vt_orderid=f"EARLIER.{number}", at=sent.created_at)
        facts: list[tuple[str, Event]] = [(records.ORDER_INTENT, sent), (records.INTENT_OUTCOME, bound)]
        for status in (Status.NOTTRADED, Status.CANCELLED):
            seq = len(rows) + len(facts) + 1
            now = order(
                seq, str(number), status, **common, vt_orderid=f"EARLIER.{number}", updated_at=at(0), datetime=at(0)
            )
            facts.append((topics.ORDER_UPDATED, now))
        for kind, event in facts:
            ts = time.time_ns() // 1000
            rows.append(Row(len(rows) + 1, journal.epoch, "earlier", ts, kind, key, records.encode(event)))
    for start in range(0, len(rows), 5_000):
        journal.append(rows[start : start + 5_000])
    journal.close()
    return len(rows)
