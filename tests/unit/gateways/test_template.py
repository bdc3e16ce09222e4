import pytest
from vnpy.trader.constant import Direction, Exchange, OrderType, Status
from vnpy.trader.object import CancelRequest, OrderRequest, SubscribeRequest

from vnpy_core.domain.errors import ConfigurationError


class Queue:
    """What a gateway sees of an event engine."""

    def __init__(self) -> None:
        self.events = []

    def put(self, event) -> None:
        self.events.append(event)


@pytest.fixture
def gateway(vnpy_home):
    from vnpy_core.gateways._template.gateway import TemplateGateway

    return TemplateGateway(Queue(), "TEMPLATE")


def test_the_template_refuses_orders_as_a_venue_would_with_ids_that_vnpy_can_split(gateway):
    request = OrderRequest(
        symbol="x", exchange=Exchange.LOCAL, direction=Direction.LONG, type=OrderType.LIMIT, volume=1, price=1
    )
    ids = [gateway.send_order(request) for _ in range(3)]
    told = [event.data for event in gateway.event_engine.events if event.type == "eOrder."]
    assert [order.vt_orderid for order in told] == ids
    assert len(set(ids)) == 3
    assert all(vt_orderid.count(".") == 1 for vt_orderid in ids)
    assert {order.status for order in told} == {Status.REJECTED}
    assert all(order.extra["reason"] and order.datetime.tzinfo for order in told)


def test_the_template_raises_only_from_connect(gateway):
    with pytest.raises(ConfigurationError, match="no venue"):
        gateway.connect(dict(gateway.default_setting))
    assert gateway.connected is False
    gateway.subscribe(SubscribeRequest(symbol="x", exchange=Exchange.LOCAL))
    gateway.cancel_order(CancelRequest(orderid="1", symbol="x", exchange=Exchange.LOCAL))
    gateway.query_account()
    gateway.query_position()
    gateway.close()
    gateway.close()
    assert len([event for event in gateway.event_engine.events if event.type == "eLog"]) == 2
