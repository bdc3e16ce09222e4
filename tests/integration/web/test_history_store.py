"""History over a real database: the rows that come back are recognised as the things that the view has."""

import random

import pytest

from testkit.databases import Database
from testkit.journal_rows import EPOCH, START, order, row, trade
from vnpy_core.bus import topics
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.enums import Status
from vnpy_core.domain.events import Order, Trade
from vnpy_core.features.trading.history import History
from vnpy_core.features.trading.listing import ORDER_KEY, TRADE_KEY
from vnpy_core.ports.store import OrderQuery, TradeQuery

SEED = 20261121


@pytest.fixture
async def store(tmp_path):
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'store.sqlite'}", None)
    store = database.store()
    await store.open()
    yield store
    await database.close()


def happenings(chance: random.Random):
    """Orders, foreign ones among them, with awkward prices, that go on and end; and their fills."""
    steps, seq = [], 0
    for number in range(300):
        name = None if number % 3 == 0 else f"c{number}"
        same = {"client_order_id": name, "price": chance.uniform(0.001, 9e5), "volume": chance.uniform(1e-8, 1e5)}
        for status in (Status.SUBMITTING, Status.NOTTRADED, chance.choice([Status.NOTTRADED, Status.ALLTRADED])):
            steps.append((number, status, same))
    chance.shuffle(steps)
    steps.sort(key=lambda step: step[1].rank)  # an order only goes forward
    for number, status, same in steps:
        seq += 1
        moment = {"datetime": order(number).datetime} if status.rank else {"datetime": None}
        yield order(seq, str(number), status, **same, **moment)
        if status is Status.ALLTRADED:
            seq += 1
            yield trade(seq, str(number), price=same["price"])


def row_of(event):
    if isinstance(event, Order):
        return row(event.seq, topics.ORDER_UPDATED, event.client_order_id or event.vt_orderid, event)
    return row(event.seq, topics.TRADE_EXECUTED, f"PAPER:{event.orderid}/{event.tradeid}", event)


async def read_all(ask, wanted):
    items, after = [], (0, "")
    while after is not None:
        page = await ask(wanted, after, 37)
        assert not page.incomplete
        items += page.items
        after = page.next_key
    return items


async def test_past_and_live_items_of_a_real_database_are_one_list_without_a_double(store):
    events = list(happenings(random.Random(SEED)))
    view = ReadView(keep_finished=40)
    for event in events:
        view.apply(Message(topics.ORDER_UPDATED, "", EPOCH, event.seq, START, event))
    rows = [row_of(event) for event in events[:-30]]
    for first in range(0, len(rows), 100):
        await store.write(rows[first : first + 100])
    assert view.complete_from > 0
    history = History(view, store)
    latest = {event.vt_orderid: event for event in events if isinstance(event, Order)}
    fills = [event for event in events if isinstance(event, Trade)]
    assert await read_all(history.orders, OrderQuery()) == sorted(latest.values(), key=ORDER_KEY)
    assert await read_all(history.trades, TradeQuery()) == sorted(fills, key=TRADE_KEY)
    finished = [o for o in latest.values() if not o.is_active]
    assert await read_all(history.orders, OrderQuery(active=False)) == sorted(finished, key=ORDER_KEY)
    old = next(iter(finished))
    assert await history.order(old.vt_orderid) == old
