from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from testkit.fake_engine import NOON, FakeEngine
from testkit.fake_store import FakeStore
from vnpy_core.bus import topics
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.commands import SubmitOrder
from vnpy_core.domain.enums import Direction, Offset, OrderType, Status
from vnpy_core.domain.errors import StoreUnavailable
from vnpy_core.domain.events import Order
from vnpy_core.features.trading.history import History
from vnpy_core.features.trading.listing import ORDER_KEY, admits_order
from vnpy_core.ports.store import OrderQuery, TradeQuery

START = (0, "")
COMMAND = SubmitOrder(
    client_order_id="c",
    gateway_name="PAPER",
    symbol="rb2505",
    exchange="SHFE",
    direction=Direction.LONG,
    offset=Offset.OPEN,
    type=OrderType.LIMIT,
    volume=5.0,
    price=3500.0,
)
ALL, ALL_TRADES = OrderQuery(), TradeQuery()


def order(number: int, seq: int, status=Status.NOTTRADED, **fields) -> Order:
    known = {"client_order_id": f"c{number}", "price": 3500.0, "volume": 5.0, "datetime": NOON, "traded": 0.0}
    return Order(
        vt_orderid=f"P.{number}", orderid=str(number), gateway_name="P", vt_symbol="rb.SHFE", symbol="rb",
        exchange="SHFE", direction=Direction.LONG, offset=Offset.OPEN, type=OrderType.LIMIT, status=status,
        updated_at=NOON, seq=seq, **(known | fields),
    )  # fmt: skip


def show(view: ReadView, *events) -> None:
    for event in events:
        view.apply(Message(topics.ORDER_UPDATED, "", "e", event.seq, NOON, event))


@pytest.fixture
def view():
    return ReadView()


@pytest.fixture
def store():
    return FakeStore()


@pytest.fixture
def history(view, store):
    return History(view, store, deadline_s=0.05)


async def read_all(history: History, wanted=ALL, limit=2, after=START):
    items, incomplete = [], False
    while after is not None:
        page = await history.orders(wanted, after, limit)
        assert len(page.items) <= limit
        items += page.items
        incomplete |= page.incomplete
        after = page.next_key
    return items, incomplete


def restarted(view: ReadView, at: int) -> None:
    """The view of a process that knows the journal from `at` on."""
    view.seed(complete_from=at, seq=at)


# Whether the store is asked


async def test_a_list_that_the_view_holds_in_whole_never_asks_the_store(view, store, history):
    show(view, order(1, 1), order(2, 2, Status.ALLTRADED))
    assert [o.seq for o in (await history.orders(ALL, START, 10)).items] == [1, 2]
    assert (await history.trades(ALL_TRADES, START, 10)).items == []
    assert await history.order("P.9") is None
    assert store.calls == []


async def test_behind_the_point_from_which_the_view_is_complete_the_store_is_not_asked(view, store, history):
    restarted(view, 10)
    show(view, order(1, 11))
    assert [o.seq for o in (await history.orders(ALL, (11, ""), 10)).items] == [11]
    assert (await history.orders(ALL, (10, "P.1"), 10)).incomplete is False
    assert store.calls == []


async def test_a_list_that_begins_with_what_the_view_may_lack_asks_the_store(view, store, history):
    store.take(order(1, 10, Status.ALLTRADED))
    restarted(view, 10)
    assert [o.seq for o in (await history.orders(ALL, (10, ""), 10)).items] == [10]


@pytest.mark.parametrize("wanted", [OrderQuery(active=True), OrderQuery(status=Status.PARTTRADED)])
async def test_active_orders_never_ask_the_store_and_are_never_incomplete(view, store, history, wanted):
    restarted(view, 10)
    show(view, order(1, 11, Status.PARTTRADED))
    page = await history.orders(wanted, START, 10)
    assert ([o.seq for o in page.items], page.incomplete, store.calls) == ([11], False, [])


# Merging


async def test_past_and_live_orders_are_one_list(view, store, history):
    store.take(*(order(n, n, Status.ALLTRADED) for n in range(1, 6)))
    restarted(view, 5)
    show(view, order(6, 6), order(7, 7, Status.CANCELLED))
    items, incomplete = await read_all(history)
    assert [o.seq for o in items] == [1, 2, 3, 4, 5, 6, 7]
    assert not incomplete


async def test_an_order_that_both_have_is_shown_once_as_the_newer_one(view, store, history):
    store.take(order(1, 1), order(2, 2, Status.ALLTRADED))
    restarted(view, 2)
    show(view, order(1, 9, Status.ALLTRADED))
    items, _ = await read_all(history)
    assert [(o.vt_orderid, o.seq, o.status) for o in items] == [("P.2", 2, "ALLTRADED"), ("P.1", 9, "ALLTRADED")]


async def test_the_store_may_be_ahead_of_the_view(view, store, history):
    restarted(view, 1)
    show(view, order(1, 5))
    store.take(order(1, 7, Status.ALLTRADED))
    items, _ = await read_all(history, limit=10)
    assert [(o.vt_orderid, o.seq) for o in items] == [("P.1", 7)]


async def test_a_filter_holds_of_the_newer_state(view, store, history):
    store.take(order(1, 1, Status.CANCELLED), order(2, 2, Status.CANCELLED))
    restarted(view, 2)
    show(view, order(1, 9, Status.ALLTRADED))
    found, _ = await read_all(history, OrderQuery(status=Status.CANCELLED))
    assert [o.seq for o in found] == [2]
    found, _ = await read_all(history, OrderQuery(status=Status.ALLTRADED))
    assert [o.seq for o in found] == [9]


async def test_a_page_goes_on_past_store_rows_that_are_out_of_date(view, store, history):
    store.take(*(order(n, n, Status.CANCELLED) for n in range(1, 10)))
    restarted(view, 9)
    show(view, *(order(n, 20 + n, Status.ALLTRADED) for n in range(1, 8)))
    page = await history.orders(ALL, START, 3)
    assert [o.seq for o in page.items] == [8, 9, 21]
    assert page.next_key == (21, "P.1")


async def test_live_orders_go_on_where_the_store_ends(view, store, history):
    restarted(view, 4)
    store.seq = 4
    show(view, *(order(n, 10 + n) for n in range(5)))
    page = await history.orders(ALL, START, 2)
    assert ([o.seq for o in page.items], page.next_key) == ([10, 11], (11, "P.1"))


async def test_what_the_view_gave_before_the_page_went_on_stays_on_it(view, store, history):
    store.take(order(2, 3), order(3, 4), order(1, 30, Status.ALLTRADED))
    view.seed(orders=[order(1, 2)], complete_from=4, seq=4)
    show(view, order(2, 13), order(3, 14))
    page = await history.orders(ALL, START, 1)
    assert [(o.orderid, o.seq) for o in page.items] == [("1", 2)]


async def test_a_state_is_left_out_only_where_the_newer_one_is_on_the_same_page(view, store, history):
    store.take(order(2, 5), order(3, 6), order(4, 7), order(1, 8, Status.ALLTRADED))
    view.seed(orders=[order(1, 3)], complete_from=2, seq=3)
    items, _ = await read_all(history, limit=3)
    assert (items[0].orderid, items[0].seq) == ("1", 3)
    assert [o.seq for o in (await history.orders(ALL, START, 5)).items] == [5, 6, 7, 8]


async def test_an_id_that_the_venue_uses_again_is_two_orders(view, store, history):
    old = order(1, 1, Status.ALLTRADED, client_order_id="a")
    unnamed = order(2, 2, Status.ALLTRADED, client_order_id=None, datetime=NOON - timedelta(days=1))
    store.take(old)
    store.take(unnamed, uid="P.2@yesterday")
    restarted(view, 2)
    show(view, order(1, 8, client_order_id="b"), order(2, 9, client_order_id=None))
    items, _ = await read_all(history)
    assert [o.seq for o in items] == [1, 2, 8, 9]
    assert items[0] == old


async def test_a_foreign_order_that_got_its_name_later_is_one(view, store, history):
    store.take(order(1, 1, client_order_id=None), uid="P.1@today")
    restarted(view, 1)
    show(view, order(1, 8, client_order_id="mine"))
    assert [o.seq for o in (await read_all(history))[0]] == [8]


async def test_past_and_live_trades_are_one_list_and_known_ones_shown_once(store):
    engine = FakeEngine()
    bought = engine.add_order(COMMAND)
    fills = [engine.add_trade(bought, volume=float(n)) for n in range(1, 6)]
    old = msgspec.structs.replace(fills[0], seq=1, datetime=NOON - timedelta(days=1), vt_orderid="PAPER.old")
    store.take(old, *fills[:3])
    view = ReadView()
    view.seed(trades=fills[1:], complete_from=fills[0].seq)
    history = History(view, store)
    assert (await history.trades(ALL_TRADES, START, 10)).items == [old, *fills]
    first = await history.trades(ALL_TRADES, START, 3)
    assert (await history.trades(ALL_TRADES, first.next_key, 10)).items == fills[2:]
    assert (await history.trades(TradeQuery(vt_orderid="PAPER.old"), START, 10)).items == [old]
    assert (await history.trades(TradeQuery(start=NOON), START, 10)).items == fills


# When the store is away, slow or behind


@pytest.mark.parametrize("fault", ["away", "hangs"])
async def test_without_the_store_a_list_is_answered_from_the_view_and_marked(view, store, history, fault):
    store.take(order(1, 1))
    restarted(view, 5)
    show(view, order(6, 6))
    setattr(store, fault, True)
    with capture_logs() as lines:
        page = await history.orders(ALL, START, 10)
    assert ([o.seq for o in page.items], page.incomplete) == ([6], True)
    assert len(lines) == 1


async def test_where_there_is_no_store_a_list_of_the_past_is_marked(view):
    restarted(view, 5)
    show(view, order(6, 6))
    history = History(view, None)
    assert (await history.orders(ALL, START, 10)).incomplete
    assert (await history.trades(ALL_TRADES, START, 10)).incomplete
    assert not (await history.orders(ALL, (6, ""), 10)).incomplete
    assert await history.order("P.1") is None


async def test_a_list_is_marked_while_the_store_lacks_what_the_view_has_let_go(store):
    view = ReadView(keep_finished=2)
    show(view, *(order(n, n, Status.CANCELLED) for n in range(1, 6)))
    history = History(view, store)
    store.take(order(1, 1, Status.CANCELLED))
    page = await history.orders(ALL, START, 10)
    assert ([o.seq for o in page.items], page.incomplete) == ([1, 4, 5], True)
    store.take(order(2, 2, Status.CANCELLED), order(3, 3, Status.CANCELLED))
    page = await history.orders(ALL, START, 10)
    assert ([o.seq for o in page.items], page.incomplete) == ([1, 2, 3, 4, 5], False)


async def test_a_page_within_what_the_store_has_is_complete_though_it_is_behind(store):
    view = ReadView(keep_finished=1)
    show(view, *(order(n, n, Status.CANCELLED) for n in range(1, 9)))
    store.take(*(order(n, n, Status.CANCELLED) for n in range(1, 5)))
    history = History(view, store)
    page = await history.orders(ALL, START, 3)
    assert ([o.seq for o in page.items], page.incomplete) == ([1, 2, 3], False)
    assert (await history.orders(ALL, page.next_key, 3)).incomplete


# One order


async def test_an_order_is_taken_from_the_view_first(view, store, history):
    restarted(view, 5)
    store.take(order(1, 1, Status.ALLTRADED))
    show(view, order(6, 6))
    assert (await history.order("P.6")).seq == 6
    assert (await history.order_by_client_id("c6")).seq == 6
    assert store.calls == []
    assert (await history.order("P.1")).seq == 1
    assert (await history.order_by_client_id("c1")).seq == 1


async def test_an_order_that_nobody_knows_is_none_once_the_store_has_all(view, store, history):
    restarted(view, 5)
    store.seq = 5
    assert await history.order("P.1") is None
    assert await history.order_by_client_id("c1") is None


@pytest.mark.parametrize("fault", ["away", "hangs"])
async def test_an_order_that_only_the_store_could_know_is_not_denied_while_it_is_away(view, store, history, fault):
    restarted(view, 5)
    setattr(store, fault, True)
    with pytest.raises(StoreUnavailable):
        await history.order("P.1")
    with pytest.raises(StoreUnavailable):
        await history.order_by_client_id("c1")


async def test_an_order_that_may_be_on_its_way_to_the_store_is_not_denied(view, store, history):
    restarted(view, 5)
    store.take(order(1, 1), order(2, 2, Status.ALLTRADED))
    with pytest.raises(StoreUnavailable):
        await history.order("P.3")
    with pytest.raises(StoreUnavailable):  # it has ended since, or the view would have it
        await history.order("P.1")
    assert (await history.order("P.2")).seq == 2


# Anything at any time


class World:
    """A journal of order events; the view has come to `shown`, the store to `stored`, at most as far as there is."""

    def __init__(self, events: list[Order], keep: int) -> None:
        self.events = events
        self.view = ReadView(keep_finished=keep)
        self.store = FakeStore()
        self.shown = self.stored = 0

    def go_on(self, shown: int, stored: int) -> None:
        # Nothing is published before it is journaled, and both follow the journal.
        for event in self.events[self.shown : self.shown + shown]:
            show(self.view, event)
        self.shown = min(len(self.events), self.shown + shown)
        for event in self.events[self.stored : self.stored + stored]:
            self.store.take(event)
        self.stored = min(len(self.events), self.stored + stored)

    def restart(self) -> None:
        """A new process knows the journal's last part, and what is active."""
        known = self.events[: self.shown]
        half = known[len(known) // 2].seq if known else 0
        latest = {event.vt_orderid: event for event in known}
        living = [o for o in latest.values() if o.seq > half or o.is_active]
        view = ReadView(keep_finished=self.view._keep)
        view.seed(orders=sorted(living, key=ORDER_KEY), seq=len(known), complete_from=half)
        self.view = view

    def latest(self, count: int) -> dict[str, Order]:
        return {event.vt_orderid: event for event in self.events[:count]}


@st.composite
def journals(draw) -> list[Order]:
    """Orders that begin, go on and end, in any mixture."""
    steps = draw(st.lists(st.tuples(st.integers(0, 7), st.sampled_from(list(Status))), min_size=8, max_size=40))
    events, ranks = [], {}
    for number, status in steps:
        if status.rank >= ranks.get(number, 0) and ranks.get(number, 0) < Status.REJECTED.rank:
            ranks[number] = status.rank
            events.append(order(number, len(events) + 1, status))
    return events


moves = st.tuples(st.integers(0, 6), st.integers(0, 6))


@settings(max_examples=300, deadline=None)
@given(
    journal=journals(),
    keep=st.integers(1, 6),
    begin=moves,
    course=st.lists(moves, max_size=30),
    restarts=st.booleans(),
    limit=st.integers(1, 5),
    wanted=st.sampled_from([ALL, OrderQuery(status=Status.ALLTRADED), OrderQuery(active=False)]),
)
async def test_whatever_happens_while_a_caller_pages_nothing_is_missed(
    journal, keep, begin, course, restarts, limit, wanted
):
    world = World(journal, keep)
    world.go_on(begin[0] * 3, begin[1] * 3)
    if restarts:
        world.restart()
    course = list(course)
    store_had = []

    def before_answer() -> None:
        world.go_on(*(course.pop() if course else (0, 0)))

    def after_answer() -> None:
        store_had.append(world.stored)
        world.go_on(*(course.pop() if course else (0, 0)))

    world.store.before_answer, world.store.after_answer = before_answer, after_answer
    history = History(world.view, world.store)
    items, after, incomplete = [], START, False
    while after is not None:
        store_had.clear()
        page = await history.orders(wanted, after, limit)
        assert len(page.items) == limit or (page.next_key is None and len(page.items) < limit)
        for item in page.items:
            now = world.view.order(item.vt_orderid)
            assert now is None or now.seq <= item.seq, "no state is shown that the view has left behind"
        assert len({item.vt_orderid for item in page.items}) == len(page.items)
        items += page.items
        incomplete |= page.incomplete
        after = page.next_key

    keys = [ORDER_KEY(item) for item in items]
    assert keys == sorted(set(keys)), "in order, and none twice with the same seq"
    assert all(item in journal and admits_order(wanted, item) for item in items)
    if not incomplete:
        final = {item.vt_orderid: item for item in items}
        known = max([world.shown, *store_had[-1:]])
        expected = {name: last for name, last in world.latest(known).items() if admits_order(wanted, last)}
        # What a page before showed may be newer still: the store can be ahead of the view.
        missed = {name for name, last in expected.items() if name not in final or final[name].seq < last.seq}
        assert not missed
    if world.stored >= world.view.complete_from and not course:
        assert not (await history.orders(wanted, START, 1000)).incomplete


@settings(max_examples=200, deadline=None)
@given(journal=journals(), keep=st.integers(1, 6), stored=st.integers(0, 40), limit=st.integers(1, 5))
async def test_while_nothing_happens_the_pages_are_the_latest_state_of_all(journal, keep, stored, limit):
    world = World(journal, keep)
    world.go_on(len(journal), max(stored, 0))
    history = History(world.view, world.store)
    items, incomplete = await read_all(history, limit=limit)
    expected = sorted(world.latest(len(journal)).values(), key=ORDER_KEY)
    assert incomplete == (world.stored < world.view.complete_from)
    if not incomplete:
        assert items == expected
    else:
        assert [item for item in items if item.seq > world.view.complete_from] == [
            item for item in expected if item.seq > world.view.complete_from
        ]
