import asyncio

import pytest
from structlog.testing import capture_logs

from testkit.clock import FakeClock
from testkit.fake_engine import FakeEngine
from vnpy_core.domain.errors import JournalFailed, StorageFull
from vnpy_core.domain.events import Audit
from vnpy_core.web.audit import AuditTrail


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def trail(engine):
    return AuditTrail(engine, FakeClock(), patience_s=0.01)


@pytest.mark.parametrize("way", ["require", "note"])
async def test_who_did_what_is_recorded_with_the_time(engine, trail, way):
    await getattr(trail, way)("ann", "limit.set", "size", before={"limit": 1}, after={"limit": 2}, reason="asked")
    now = FakeClock().now()
    assert engine.audits == [
        Audit(
            who="ann", what="limit.set", target="size", before={"limit": 1}, after={"limit": 2}, reason="asked", at=now
        )
    ]


@pytest.mark.parametrize("error", [StorageFull("full"), JournalFailed("broken")])
async def test_what_cannot_be_recorded_is_refused_or_logged(engine, trail, error):
    engine.journal_error = error
    with capture_logs(), pytest.raises(type(error)):
        await trail.require("ann", "limit.set")
    with capture_logs() as lines:
        await trail.note("ann", "orders.cancel_all", "all")
    (line,) = [line for line in lines if line["log_level"] == "error"]
    assert (line["who"], line["what"], line["target"], line["error"]) == (
        "ann",
        "orders.cancel_all",
        "all",
        error.detail,
    )


async def test_nobody_waits_long_for_a_record_and_it_is_written_all_the_same(engine, trail):
    engine.journal_hold = asyncio.Event()
    with pytest.raises(JournalFailed, match="not on record yet"):
        await trail.require("ann", "limit.set")
    engine.journal_hold.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [audit.what for audit in engine.audits] == ["limit.set"]


async def test_who_goes_away_does_not_take_the_record_along(engine, trail):
    engine.journal_hold = asyncio.Event()
    caller = asyncio.create_task(trail.require("ann", "limit.set"))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    engine.journal_hold.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [audit.what for audit in engine.audits] == ["limit.set"]


async def test_a_late_failure_disturbs_nobody(engine, trail):
    engine.journal_hold = asyncio.Event()
    with capture_logs():
        await trail.note("ann", "limit.set")
        engine.journal_error = StorageFull("full")
        engine.journal_hold.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert engine.audits == []
    assert not trail._writing
