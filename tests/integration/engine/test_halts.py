"""Halts against what happens at the same moment: a resume, an end of the process, an order on its way to the venue."""

import asyncio
import threading
from datetime import UTC, datetime

import pytest

from integration.engine.test_host import connected, gateway, order, until
from testkit.gateways import PlainGateway
from vnpy_core.domain.enums import HaltScope
from vnpy_core.domain.errors import TradingHalted
from vnpy_core.domain.events import Halt


def halt(reason: str, *, active: bool = True) -> Halt:
    return Halt(scope=HaltScope.ALL, active=active, reason=reason, by="ann", at=datetime.now(UTC))


async def test_a_halt_that_comes_while_an_earlier_one_is_taken_back_holds(run_host, monkeypatch):
    async with run_host(gateways={"P": gateway("PlainGateway")}) as host:
        await connected(host)
        await host.halt(halt("first"), cancel=False)
        append, reached = host._journal.append, threading.Event()
        first, second = threading.Event(), threading.Event()
        gates = iter([first, second])

        def slow(rows):
            reached.set()
            assert next(gates, second).wait(5)
            append(rows)

        monkeypatch.setattr(host._journal, "append", slow)
        resuming = asyncio.create_task(host.resume(halt("fine", active=False)))
        assert await asyncio.to_thread(reached.wait, 5)
        halting = asyncio.create_task(host.halt(halt("second"), cancel=False))
        await asyncio.sleep(0.02)
        first.set()
        await resuming
        assert [h.reason for h in host.halts()] == ["second"]  # also while it is not durable yet
        second.set()
        await halting
        assert [h.reason for h in host.halts()] == ["second"]
        with pytest.raises(TradingHalted):
            await host.submit_order(order())


async def test_a_halt_is_in_the_journal_before_its_cancels_are_answered(run_host, monkeypatch):
    async with run_host(gateways={"P": gateway("PlainGateway")}) as host:
        await connected(host)
        await host.submit_order(order())
        go = threading.Event()
        cancel = PlainGateway.cancel_order
        monkeypatch.setattr(PlainGateway, "cancel_order", lambda self, req: (go.wait(5), cancel(self, req)))
        halting = asyncio.create_task(host.halt(halt("now"), cancel=True))
        try:
            await until(lambda: any(row.kind == "risk.halt" for row in host._journal.read(0, 1000)), seconds=2)
        finally:
            go.set()
            await halting


async def test_an_order_that_passed_the_gate_as_the_halt_came_is_cancelled_too(run_host, monkeypatch):
    reached, go, send = threading.Event(), threading.Event(), PlainGateway.send_order

    def slow(self, req):
        reached.set()
        assert go.wait(5)
        return send(self, req)

    monkeypatch.setattr(PlainGateway, "send_order", slow)
    async with run_host(gateways={"P": gateway("PlainGateway")}) as host:
        await connected(host)
        sending = asyncio.create_task(host.submit_order(order()))
        assert await asyncio.to_thread(reached.wait, 5)
        halting = asyncio.create_task(host.halt(halt("now"), cancel=True))
        await asyncio.sleep(0.05)
        go.set()
        _, cancelled = await halting
        await sending
        assert cancelled == 1
        await until(lambda: not host.view.active_orders)
