import threading
import time
from datetime import UTC, datetime

from vnpy_core.domain.enums import Direction, Offset, OrderType, Status
from vnpy_core.domain.events import Order
from vnpy_core.engine.emergency import cancel_at_gateways


class Venue:
    def __init__(self, *, hangs_at: str = "", refuses: str = "") -> None:
        self.cancelled = []
        self.threads = set()
        self.released = threading.Event()
        self._hangs_at = hangs_at
        self._refuses = refuses

    def cancel_order(self, request) -> None:
        self.threads.add(threading.current_thread())
        if request.orderid == self._hangs_at:
            self.released.wait(20)
        if request.orderid == self._refuses:
            raise OSError("the socket broke")
        self.cancelled.append((request.orderid, request.vt_symbol))


def order(gateway_name: str, orderid: str, symbol: str = "rb2701") -> Order:
    now = datetime.now(UTC)
    return Order(
        vt_orderid=f"{gateway_name}.{orderid}", orderid=orderid, gateway_name=gateway_name, vt_symbol=f"{symbol}.SHFE",
        symbol=symbol, exchange="SHFE", direction=Direction.LONG, offset=Offset.OPEN, type=OrderType.LIMIT, price=1.0,
        volume=1.0, traded=0.0, status=Status.NOTTRADED, updated_at=now,
    )  # fmt: skip


async def test_each_order_is_cancelled_at_its_own_gateway_off_the_loop():
    one, two = Venue(), Venue()
    orders = [order("ONE", "1"), order("TWO", "1", "ru2701"), order("ONE", "2")]
    assert await cancel_at_gateways({"ONE": one, "TWO": two}, orders) == 3
    assert one.cancelled == [("1", "rb2701.SHFE"), ("2", "rb2701.SHFE")]
    assert two.cancelled == [("1", "ru2701.SHFE")]
    assert threading.current_thread() not in one.threads | two.threads


async def test_one_that_raises_keeps_neither_the_next_order_nor_the_next_gateway():
    venue = Venue(refuses="1")
    orders = [order("V", "1"), order("GONE", "1"), order("V", "2")]
    assert await cancel_at_gateways({"V": venue}, orders) == 1
    assert venue.cancelled == [("2", "rb2701.SHFE")]


async def test_a_gateway_that_hangs_is_given_up_and_the_others_are_done():
    stuck, well = Venue(hangs_at="2"), Venue()
    started = time.monotonic()
    try:
        orders = [order("STUCK", "1"), order("STUCK", "2"), order("STUCK", "3"), order("WELL", "1")]
        assert await cancel_at_gateways({"STUCK": stuck, "WELL": well}, orders, patience_s=0.2) == 2
        assert time.monotonic() - started < 5
        assert well.cancelled == [("1", "rb2701.SHFE")]
    finally:
        stuck.released.set()


async def test_nothing_to_cancel_is_done_at_once():
    assert await cancel_at_gateways({}, []) == 0
