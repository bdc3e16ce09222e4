import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView, same_order
from vnpy_core.domain.enums import (
    Direction,
    GatewayState,
    HaltScope,
    JobState,
    LogLevel,
    Offset,
    OrderType,
    Product,
    Status,
)
from vnpy_core.domain.events import (
    Account,
    AlgoUpdate,
    Contract,
    Gateway,
    Halt,
    Job,
    Log,
    Order,
    Position,
    Quote,
    StopOrderUpdate,
    StrategyUpdate,
    Tick,
    Trade,
)

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PLACE = {"gateway_name": "P", "vt_symbol": "rb.SHFE", "symbol": "rb", "exchange": "SHFE"}
DEAL = PLACE | {"direction": Direction.LONG, "offset": Offset.OPEN, "price": 1.0, "volume": 1.0}


def order(number=1, status=Status.NOTTRADED, client_order_id=None, **fields):
    return Order(
        vt_orderid=f"P.{number}", orderid=str(number), client_order_id=client_order_id, type=OrderType.LIMIT,
        traded=0.0, status=status, updated_at=NOON, **(DEAL | fields),
    )  # fmt: skip


def trade(number=1, **fields):
    return Trade(vt_tradeid=f"P.{number}", tradeid=str(number), vt_orderid="P.1", orderid="1", **(DEAL | fields))


def quote(number=1, status=Status.NOTTRADED):
    return Quote(
        vt_quoteid=f"P.{number}", quoteid=str(number), bid_price=1, bid_volume=1, ask_price=2, ask_volume=1,
        bid_offset=Offset.OPEN, ask_offset=Offset.OPEN, status=status, **PLACE,
    )  # fmt: skip


def contract(gateway_name="P"):
    fields = PLACE | {"gateway_name": gateway_name}
    return Contract(name="rb", product=Product.FUTURES, size=10, pricetick=1, **fields)


TICK = Tick(datetime=NOON, **PLACE)
POSITION = Position(
    vt_positionid="P.rb.SHFE.LONG", direction=Direction.LONG, volume=1, frozen=0, price=1, pnl=0, yd_volume=0, **PLACE
)
ACCOUNT = Account(vt_accountid="P.1", accountid="1", balance=1, frozen=0, available=1, gateway_name="P")
GATEWAY = Gateway(
    gateway_name="P", connected=True, state=GatewayState.CONNECTED, exchanges=[], default_setting={}, capabilities={}
)
STRATEGY = StrategyUpdate(
    strategy_name="s", class_name="C", vt_symbol="rb.SHFE", author="", parameters={}, variables={}
)
STOP = StopOrderUpdate(
    stop_orderid="STOP.1", vt_symbol="rb.SHFE", direction=Direction.LONG, offset=Offset.OPEN, price=1, volume=1,
    strategy_name="s", status="WAITING", vt_orderids=[],
)  # fmt: skip
ALGO = AlgoUpdate(algo_name="a", vt_symbol="rb.SHFE", status="RUNNING", data={})


HALT = Halt(scope=HaltScope.ALL, active=True, at=NOON)


def stop(number=1, status="WAITING"):
    return msgspec.structs.replace(STOP, stop_orderid=f"STOP.{number}", status=status)


def job(job_id, state=JobState.RUNNING):
    return Job(id=job_id, kind="import", state=state, created_at=NOON, updated_at=NOON)


def feed(view, *events, seq=0):
    for event in events:
        view.apply(Message("log", "", "e", seq, NOON, event))


@pytest.fixture
def view():
    return ReadView(keep_finished=3)


@pytest.mark.parametrize(
    ("topic", "key", "event"),
    [
        ("tick.rb.SHFE", "rb.SHFE", TICK),
        ("order.updated", "P.1", order()),
        ("position.updated", "P.rb.SHFE.LONG", POSITION),
        ("account.updated", "P.1", ACCOUNT),
        ("contract.updated", "P.rb.SHFE", contract()),
        ("quote.updated", "P.1", quote()),
        ("gateway.updated", "P", GATEWAY),
        ("strategy.updated", "s", STRATEGY),
        ("stop_order.updated", "STOP.1", STOP),
        ("algo.updated", "a", ALGO),
        ("risk.halt", "all", HALT),
        ("job.updated", "j1", job("j1")),
    ],
)
def test_the_snapshot_of_a_topic_is_its_latest_state(view, topic, key, event):
    assert view.snapshot(topic) == []
    feed(view, event, event)
    assert view.snapshot(topic) == [(key, event)]


@pytest.mark.parametrize("topic", ["log", "trade.executed", "risk.halt", "nothing", "", "tick.", "tick.other.SHFE"])
def test_a_topic_without_state_has_an_empty_snapshot(view, topic):
    feed(view, TICK, trade(), Log(level=LogLevel.INFO, source="", msg="", datetime=NOON))
    assert view.snapshot(topic) == []


def test_a_halt_that_was_taken_back_is_no_state(view):
    feed(view, HALT, msgspec.structs.replace(HALT, active=False))
    assert view.snapshot("risk.halt") == []
    assert view.halts == {}


def test_stop_orders_that_wait_no_longer_are_bounded_and_waiting_ones_stay(view):
    feed(view, *(stop(number) for number in range(5)))
    feed(view, *(stop(number, "TRIGGERED") for number in range(100, 110)), stop(0, "CANCELLED"))
    assert list(view.stop_orders) == [f"STOP.{n}" for n in (0, 1, 2, 3, 4, 108, 109)]
    feed(view, stop(200, "CANCELLED"))
    assert "STOP.108" not in view.stop_orders
    assert "STOP.0" in view.stop_orders


def test_jobs_that_have_ended_are_bounded_and_running_ones_stay(view):
    feed(view, job("first"), *(job(f"j{number}", JobState.DONE) for number in range(30)))
    assert list(view.jobs) == ["first", *(f"j{number}" for number in range(10, 30))]


# What is known from before the start


def test_a_seeded_view_is_as_if_it_had_seen_the_events(view):
    view.seed(
        orders=[order(1, Status.ALLTRADED, client_order_id="a", seq=3), order(2, client_order_id="b", seq=4)],
        trades=[trade(1)],
        halts=[HALT],
        stop_orders=[STOP],
        seq=9,
        complete_from=2,
    )
    assert (list(view.finished_orders), list(view.active_orders), list(view.trades)) == (["P.1"], ["P.2"], ["P.1"])
    assert view.order_by_client_id("a").vt_orderid == "P.1"
    assert view.order_by_client_id("b").vt_orderid == "P.2"
    assert view.snapshot("risk.halt") == [("all", HALT)]
    assert view.snapshot("stop_order.updated") == [("STOP.1", STOP)]
    assert (view.seq, view.complete_from) == (9, 2)


def test_a_seed_too_large_to_hold_is_complete_from_what_was_let_go(view):
    view.seed(orders=[order(n, Status.ALLTRADED, seq=10 + n) for n in range(5)], complete_from=2)
    assert list(view.finished_orders) == ["P.2", "P.3", "P.4"]
    assert view.complete_from == 11


# From where on nothing is missing


def test_a_view_is_complete_until_it_lets_something_go(view):
    feed(view, *(order(n, Status.ALLTRADED, seq=n) for n in range(1, 4)), *(trade(n, seq=10 + n) for n in range(3)))
    assert view.complete_from == 0
    feed(view, order(4, Status.ALLTRADED, seq=20))
    assert view.complete_from == 1
    feed(view, trade(3, seq=21))
    assert view.complete_from == 10


def test_a_finished_order_that_changes_again_is_let_go_as_late_as_its_change(view):
    feed(view, *(order(n, Status.CANCELLED, seq=n) for n in range(1, 4)))
    feed(view, order(1, Status.ALLTRADED, seq=4), order(5, Status.CANCELLED, seq=5))
    assert list(view.finished_orders) == ["P.3", "P.1", "P.5"]
    assert view.complete_from == 2


@pytest.mark.parametrize("status", [Status.ALLTRADED, Status.NOTTRADED])
def test_an_id_that_the_venue_uses_again_stands_for_the_later_order(view, status):
    feed(view, order(1, status, client_order_id="a", seq=5), order(1, client_order_id="b", seq=6))
    assert view.order("P.1").client_order_id == "b"
    assert view.order_by_client_id("a") is None
    assert view.order_by_client_id("b").seq == 6
    assert view.complete_from == 5


def test_a_fill_whose_id_the_venue_used_before_is_another_one(view):
    feed(view, trade(1, seq=5), trade(1, seq=6))
    assert view.complete_from == 0
    feed(view, trade(1, seq=7, datetime=NOON))
    assert view.complete_from == 6


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"client_order_id": "a"}, {"client_order_id": "a", "price": 2.0}, True),
        ({"client_order_id": "a"}, {"client_order_id": "b"}, False),
        ({"client_order_id": "a"}, {}, True),
        ({}, {}, True),
        ({}, {"volume": 2.0}, False),
        ({}, {"datetime": NOON}, True),
        ({"datetime": NOON}, {"datetime": NOON + timedelta(minutes=1)}, True),
        ({"datetime": NOON}, {"datetime": NOON + timedelta(days=1)}, False),
    ],
)
def test_states_of_one_order_are_told_from_another_with_its_id(one, other, same):
    assert same_order(order(1, **one), order(1, Status.ALLTRADED, **other)) is same


def test_a_snapshot_does_not_change_when_the_view_does(view):
    feed(view, order(1))
    taken = view.snapshot("order.updated")
    feed(view, order(2))
    assert len(taken) == 1


def test_the_same_contract_of_two_gateways_is_two(view):
    feed(view, contract("P"), contract("Q"))
    assert [key for key, _ in view.snapshot("contract.updated")] == ["P.rb.SHFE", "Q.rb.SHFE"]


def test_the_sequence_never_goes_back(view):
    feed(view, TICK, seq=5)
    feed(view, TICK, seq=3)
    assert view.seq == 5


@pytest.mark.parametrize("status", list(Status))
def test_an_order_is_active_or_finished_and_found_either_way(view, status):
    feed(view, order(), order(status=status))
    assert view.order("P.1").status is status
    assert [one.vt_orderid for one in view.orders()] == ["P.1"]
    assert ("P.1" in view.active_orders) == status.is_active
    assert len(view.snapshot("order.updated")) == status.is_active


def test_an_order_that_comes_back_to_life_is_held_once(view):
    feed(view, order(status=Status.CANCELLED), order(status=Status.NOTTRADED))
    assert list(view.active_orders) == ["P.1"]
    assert not view.finished_orders


def test_an_unknown_order_is_none(view):
    assert view.order("P.9") is None
    assert view.order_by_client_id("mine") is None


def test_finished_orders_are_bounded_and_active_ones_stay(view):
    feed(view, *(order(number) for number in range(10)))
    feed(view, *(order(number, Status.ALLTRADED) for number in range(100, 110)))
    assert len(view.active_orders) == 10
    assert list(view.finished_orders) == ["P.107", "P.108", "P.109"]


def test_trades_are_bounded_and_the_oldest_go(view):
    feed(view, *(trade(number) for number in range(10)), trade(9))
    assert list(view.trades) == ["P.7", "P.8", "P.9"]


def test_finished_quotes_are_bounded_and_active_ones_stay(view):
    feed(view, *(quote(number) for number in range(5)))
    feed(view, *(quote(number, Status.CANCELLED) for number in range(100, 200)))
    assert [key for key, _ in view.snapshot("quote.updated")] == [f"P.{number}" for number in range(5)]
    assert list(view.finished_quotes) == ["P.197", "P.198", "P.199"]


def test_a_quote_is_held_once_whatever_becomes_of_it(view):
    feed(view, quote(), quote(status=Status.CANCELLED))
    assert (list(view.active_quotes), list(view.finished_quotes)) == ([], ["P.1"])
    feed(view, quote())
    assert (list(view.active_quotes), list(view.finished_quotes)) == (["P.1"], [])


def test_an_order_is_found_by_its_callers_name(view):
    feed(view, order(1, client_order_id="mine"), order(1, Status.ALLTRADED, client_order_id="mine"))
    assert view.order_by_client_id("mine").vt_orderid == "P.1"


def test_names_go_with_their_orders(view):
    feed(view, *(order(number, Status.ALLTRADED, client_order_id=f"c{number}") for number in range(10)))
    assert view.order_by_client_id("c0") is None
    assert view.order_by_client_id("c9").vt_orderid == "P.9"
    assert len(view._client_ids) == 3


def test_a_name_that_was_given_again_outlives_the_first_order(view):
    feed(view, order(1, Status.REJECTED, client_order_id="mine"), order(2, client_order_id="mine"))
    feed(view, *(order(number, Status.ALLTRADED) for number in range(10, 20)))
    assert view.order("P.1") is None
    assert view.order_by_client_id("mine").vt_orderid == "P.2"


async def test_a_known_order_is_not_waited_for(view):
    feed(view, order())
    assert (await view.wait_for_order("P.1", 0)).vt_orderid == "P.1"


async def test_all_who_wait_for_an_order_get_it_when_it_comes(view):
    waiting = [asyncio.create_task(view.wait_for_order("P.1", 5)) for _ in range(3)]
    await asyncio.sleep(0)
    feed(view, order(2), order(1, Status.REJECTED), order(1, Status.REJECTED))
    assert [one.vt_orderid for one in await asyncio.gather(*waiting)] == ["P.1"] * 3
    assert not view._waiters


@pytest.mark.parametrize("timeout", [0, -1, 0.01])
async def test_waiting_ends_without_an_order_and_leaves_nothing(view, timeout):
    assert await view.wait_for_order("P.1", timeout) is None
    assert not view._waiters


async def test_one_who_gives_up_takes_nobody_along(view):
    stays = asyncio.create_task(view.wait_for_order("P.1", 5))
    leaves = asyncio.create_task(view.wait_for_order("P.1", 5))
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.gather(leaves, return_exceptions=True)
    feed(view, order())
    assert await stays is not None
    assert not view._waiters


def test_events_that_the_view_holds_cannot_be_changed(view):
    feed(view, order())
    with pytest.raises(AttributeError):
        view.order("P.1").price = 2.0
    assert msgspec.json.encode(view.order("P.1"))


async def test_an_earlier_order_of_the_same_id_is_not_the_one_that_is_waited_for(view):
    feed(view, order(client_order_id="old"))
    waiting = asyncio.create_task(view.wait_for_order("P.1", 5, "c1"))
    await asyncio.sleep(0)
    feed(view, order(1, Status.CANCELLED, client_order_id="old"))
    feed(view, order(1, client_order_id="c1.2"))
    assert (await waiting).client_order_id == "c1.2"
    assert not view._waiters
