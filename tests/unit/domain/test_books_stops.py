"""Local stop orders' ids across a cut of the journal."""

from vnpy_core.domain.books import Books
from vnpy_core.domain.enums import Direction, Offset
from vnpy_core.domain.events import StopOrderUpdate


def stop(number: int, status: str) -> StopOrderUpdate:
    return StopOrderUpdate(
        stop_orderid=f"STOP.{number}", vt_symbol="rb.SHFE", direction=Direction.LONG, offset=Offset.OPEN, price=1,
        volume=1, strategy_name="s", status=status, vt_orderids=[],
    )  # fmt: skip


def test_the_highest_id_is_carried_though_its_stop_order_has_ended():
    books = Books()
    for seq, event in enumerate([stop(1, "WAITING"), stop(2, "WAITING"), stop(2, "TRIGGERED")], 1):
        books.apply(event.stop_orderid, event, seq, seq)
    after = Books()
    for key, kept in books.living(10):
        after.apply(key, kept.event, kept.seq, kept.ts, carried=True)
    assert (after.highest_stop, list(after.stop_orders)) == (2, ["STOP.1"])
