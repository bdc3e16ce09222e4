import msgspec
import pytest
from structlog.testing import capture_logs

from testkit.fake_engine import FakeEngine
from vnpy_core.domain.commands import SubmitOrder
from vnpy_core.domain.enums import Direction, Offset, OrderType, Status

COMMAND = SubmitOrder(
    client_order_id="old",
    gateway_name="CTP",
    symbol="rb2505",
    exchange="SHFE",
    direction=Direction.LONG,
    offset=Offset.OPEN,
    type=OrderType.LIMIT,
    volume=5.0,
    price=3500.0,
)
LIVE = msgspec.structs.replace(COMMAND, client_order_id="new", gateway_name="PAPER")


@pytest.fixture
def past(engine, store):
    """An order and its fill that only the store has."""
    before = FakeEngine()
    order = before.add_order(COMMAND, Status.ALLTRADED, strategy_name="s")
    trade = before.add_trade(order)
    store.take(order, trade)
    for _ in range(2):
        engine.next_seq()
    engine.view.seed(seq=2, complete_from=2)
    return order, trade


async def ids(client, path, **query):
    response = await client.get(path, params=query)
    assert response.status_code == 200, response.text
    assert "x-incomplete" not in response.headers
    return [item["seq"] for item in response.json()["items"]]


async def test_orders_of_past_days_are_listed_with_the_live_ones_and_filtered_alike(client, engine, past):
    live = engine.add_order(LIVE)
    assert await ids(client, "/orders") == [1, live.seq]
    for wanted in ({"gateway_name": "CTP"}, {"status": "ALLTRADED"}, {"strategy_name": "s"}, {"active": "false"}):
        assert await ids(client, "/orders", **wanted) == [1], wanted
    assert await ids(client, "/orders", vt_symbol="rb2505.SHFE", start="2026-11-21T12:00:00Z") == [1, live.seq]
    assert await ids(client, "/orders", end="2026-11-21T12:00:00Z") == []
    assert await ids(client, "/orders", after_seq=1) == [live.seq]


async def test_past_and_live_orders_are_paged_by_one_cursor(client, engine, past):
    live = [engine.add_order(LIVE).seq for n in range(3)]
    seen, query = [], {"limit": 2}
    while True:
        page = (await client.get("/orders", params=query)).json()
        seen += [order["seq"] for order in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == [1, *live]


async def test_trades_of_past_days_are_listed_with_the_live_ones(client, engine, past):
    order, trade = past
    fill = engine.add_trade(engine.add_order(LIVE))
    assert await ids(client, "/trades") == [trade.seq, fill.seq]
    assert await ids(client, "/trades", vt_orderid=order.vt_orderid, strategy_name="s") == [trade.seq]


async def test_an_order_of_past_days_is_found_by_either_name(client, past):
    order, _ = past
    for path in (f"/orders/{order.vt_orderid}", "/orders/by-client-id/old"):
        response = await client.get(path)
        assert (response.status_code, response.json()["seq"]) == (200, 1)


async def test_without_the_database_lists_say_that_they_are_incomplete(client, engine, store, past):
    store.away = True
    live = engine.add_order(LIVE)
    for path, seqs in (("/orders", [live.seq]), ("/trades", [])):
        with capture_logs():
            response = await client.get(path)
        assert response.status_code == 200
        assert response.headers["x-incomplete"] == "history"
        assert [item["seq"] for item in response.json()["items"]] == seqs
    assert await ids(client, "/orders", active="true") == [live.seq]


async def test_without_the_database_an_order_that_only_it_could_know_is_a_503_and_not_a_404(
    client, engine, store, past
):
    store.away = True
    live = engine.add_order(LIVE)
    for path in ("/orders/CTP.none", "/orders/by-client-id/none"):
        response = await client.get(path)
        assert (response.status_code, response.json()["code"]) == (503, "OVERLOADED")
    assert (await client.get(f"/orders/{live.vt_orderid}")).status_code == 200


def test_the_header_is_documented(app):
    paths = app.openapi()["paths"]
    for path in ("/api/v1/trading/orders", "/api/v1/trading/trades"):
        assert "X-Incomplete" in paths[path]["get"]["responses"]["200"]["headers"]
