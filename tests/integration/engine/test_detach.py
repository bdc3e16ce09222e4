"""A guest that goes while its host trades: no event may pass one that came before it."""

import asyncio
import threading

import pytest

from integration.engine.test_host import connected, until
from testkit.gateways import PlainGateway


@pytest.fixture
def main_engine(vnpy_home):
    from vnpy.event import EventEngine
    from vnpy.trader.engine import MainEngine

    main_engine = MainEngine(EventEngine())
    main_engine.add_gateway(PlainGateway, "P")
    main_engine.connect({}, "P")
    yield main_engine
    main_engine.close()


def order_data(orderid, status):
    from vnpy.trader.constant import Direction, Exchange
    from vnpy.trader.object import OrderData

    return OrderData(
        gateway_name="P", symbol="rb2701", exchange=Exchange.SHFE, orderid=orderid, direction=Direction.LONG,
        price=3000, volume=1, status=status,
    )  # fmt: skip


async def test_an_event_that_is_being_journaled_reaches_the_host_before_what_comes_after_us(
    run_host, main_engine, monkeypatch
):
    from vnpy.trader.constant import Status

    await until(lambda: main_engine.get_contract("rb2701.SHFE"))
    venue = main_engine.get_gateway("P")
    async with run_host(main_engine=main_engine) as host:
        await connected(host)
        append, reached, go = host._journal.append, threading.Event(), threading.Event()

        def slow(rows):
            reached.set()
            assert go.wait(5)
            append(rows)

        monkeypatch.setattr(host._journal, "append", slow)
        venue.on_order(order_data("7", Status.NOTTRADED))
        assert await asyncio.to_thread(reached.wait, 5)
        stopping = asyncio.create_task(host.stop())
        await asyncio.sleep(0.05)
        venue.on_order(order_data("7", Status.CANCELLED))
        await asyncio.sleep(0.05)
        go.set()
        await stopping
        assert host.is_durable
    await until(lambda: main_engine.get_order("P.7") is not None)
    await asyncio.sleep(0.1)
    assert main_engine.get_order("P.7").status is Status.CANCELLED
    assert {"put", "_process", "stop"} & vars(main_engine.event_engine).keys() == set()
