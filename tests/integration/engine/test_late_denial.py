"""An order whose denial comes after its caller has given up waiting: it is known all the same that none was sent."""

import threading

import pytest

from integration.engine.test_host import connected, gateway, order, until
from vnpy_core.domain.enums import IntentState
from vnpy_core.domain.errors import OutcomeUnknown


async def test_a_denial_after_the_deadline_closes_the_intent(run_host, monkeypatch):
    async with run_host(gateways={"P": gateway("PlainGateway")}, engine={"command_deadline_s": 0.2}) as host:
        await connected(host)
        go = threading.Event()
        monkeypatch.setattr(host.main_engine, "send_order", lambda request, name: (go.wait(5), "")[1])
        with pytest.raises(OutcomeUnknown):
            await host.submit_order(order())
        go.set()
        await until(lambda: host.intent("c1")[1] is not None, seconds=2)
        assert host.intent("c1")[1].state is IntentState.DENIED
