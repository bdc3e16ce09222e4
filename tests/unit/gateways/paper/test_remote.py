"""RemotePaperGateway without a venue; with one in tests/integration/venue."""

from itertools import islice

import pytest

from testkit.venue import Tape, request
from vnpy_core.domain.errors import ConfigurationError


@pytest.fixture
def gateway():
    from vnpy_core.gateways.paper.remote import RemotePaperGateway

    gateway = RemotePaperGateway(Tape(), "PAPER")
    yield gateway
    gateway.close()


def test_waits_double_up_to_the_longest():
    from vnpy_core.gateways.paper.remote import waits_between_attempts

    assert list(islice(waits_between_attempts(), 7)) == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({}, "socket"),
        ({"socket": "x", "timeout_s": 0}, "timeout_s"),
        ({"socket": "x", "timeout_s": float("nan")}, "timeout_s"),
        ({"socket": "x", "port": 1}, "port"),
        ({"socket": 1}, "socket"),
    ],
)
def test_a_wrong_setting_is_named(gateway, setting, named):
    with pytest.raises(ConfigurationError, match=named):
        gateway.connect(setting)


def test_never_connected_it_takes_no_order_and_answers_no_query_and_says_so(gateway):
    assert gateway.connected is False
    assert gateway.send_order(request()) == ""
    assert gateway.query_orders() is gateway.query_trades() is False
    gateway.query_account()
    gateway.query_position()
    gateway.close()
    assert len(gateway.event_engine.logs) == 5
    assert gateway.event_engine.orders == []


def test_what_it_can_do_is_what_reconciliation_relies_on(gateway):
    assert gateway.capabilities["can_query_orders"] is gateway.capabilities["can_query_trades"] is True
    assert gateway.capabilities["ids_unique_across_restart"] is True
    assert "LIMIT" in gateway.capabilities["order_types"]
    assert not hasattr(gateway, "bind_flow")


def test_a_socket_with_nobody_behind_it_is_tried_again_until_close(gateway, tmp_path):
    gateway.connect({"socket": str(tmp_path / "absent")})
    assert gateway.connected is False
    assert any("absent" in line for line in gateway.event_engine.logs)
    assert gateway._thread.is_alive()
    thread = gateway._thread
    gateway.close()
    assert not thread.is_alive()
