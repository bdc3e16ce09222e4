"""What a reader is given over connections that end anywhere, at nodes that lag: nothing twice, nothing missing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.scripted_stream import History, Node, NodeSession
from vnpy_core.client.messages import Codec, Connected, Encoding, Gap, Snapshot, StreamMessage, Unsubscribed, Update
from vnpy_core.client.mirror import Mirror
from vnpy_core.client.position import Place
from vnpy_core.client.session import BrokenProtocol, Counters, NodeBehind, Session
from vnpy_core.domain.enums import Status
from vnpy_core.domain.events import Event, Order


class Rest:
    """What `Mirror.heal` asks of a client, answered from a history."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.trading = self

    async def orders(self, *, after_seq: int) -> AsyncIterator[Event]:
        for order in sorted(self.history.orders().values(), key=lambda order: order.seq):
            if order.seq > after_seq:
                yield order

    async def trades(self, *, after_seq: int) -> AsyncIterator[Event]:
        for trade in self.history.trades():
            if trade.seq > after_seq:
                yield trade


class Reader:
    """A stream without sockets: a Session at a model of the service, and a mirror of what it says."""

    def __init__(self, *topics: str, after_seq: int | None = 0) -> None:
        self.wanted = dict.fromkeys(topics)
        self.place = Place()
        self.counters = Counters()
        self.mirror = Mirror(after_seq=after_seq)
        self.messages: list[StreamMessage] = []
        self.session: Session | None = None
        self.server: NodeSession | None = None

    def connect(self, node: Node) -> None:
        self.disconnect()
        codec = Codec(Encoding.JSON)
        self.session = Session("node", self.wanted, self.place, codec, self.counters, conflate=True)
        self.server = node.open()

    def disconnect(self) -> None:
        if self.server is not None:
            self.server.close()
        self.server = self.session = None

    def add(self, *topics: str) -> None:
        fresh = [topic for topic in topics if topic not in self.wanted]
        self.wanted |= dict.fromkeys(fresh)
        if self.session is not None:
            try:
                self.session.subscribe(fresh)
            except NodeBehind:
                self.disconnect()
        self._send()

    def remove(self, *topics: str) -> None:
        ended = [topic for topic in topics if topic in self.wanted]
        for topic in ended:
            del self.wanted[topic]
        self.place.forget(ended)
        self._tell(Unsubscribed(tuple(ended)))
        if self.session is not None:
            self.session.unsubscribe(ended)
            self._send()

    def read(self, count: int | None = None) -> None:
        """Take so many frames, by default all that wait."""
        while self.server is not None and self.server.frames and count != 0:
            self.frame(self.server.frames.popleft())
            count = None if count is None else count - 1

    def frame(self, frame: dict[str, Any]) -> None:
        assert self.session is not None
        try:
            for message in self.session.take(json.dumps(frame).encode()):
                self._tell(message)
        except NodeBehind:
            self.disconnect()
        self._send()

    def heal(self, history: History) -> None:
        asyncio.run(self.mirror.heal(Rest(history)))

    @property
    def updates(self) -> list[Update]:
        return [message for message in self.messages if isinstance(message, Update)]

    def told(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.messages if isinstance(message, kind)]

    def _tell(self, message: StreamMessage) -> None:
        self.messages.append(message)
        self.mirror.apply(message)

    def _send(self) -> None:
        while self.session is not None and self.server is not None and self.session.ops:
            self.server.receive(json.dumps(self.session.ops.popleft()))


@pytest.fixture
def history() -> History:
    return History()


@pytest.fixture
def node(history: History) -> Node:
    return Node(history)


def test_a_first_connection_gets_the_state_and_then_what_happens(history, node):
    history.order(1)
    node.catch_up()
    reader = Reader("order.updated")
    reader.connect(node)
    reader.read()
    history.order(1, Status.ALLTRADED)
    node.catch_up()
    reader.read()

    [connected] = reader.told(Connected)
    assert connected.resumed is None
    [snapshot] = reader.told(Snapshot)
    assert [order.status for order in snapshot.items] == [Status.NOTTRADED]
    [update] = reader.updates
    assert (update.seq, update.prev_seq, update.data.status) == (2, 1, Status.ALLTRADED)


def test_an_empty_state_is_told_too(node):
    reader = Reader("order.updated", "tick.rb2505.SHFE")
    reader.connect(node)
    reader.read()
    assert {snapshot.topic: snapshot.items for snapshot in reader.told(Snapshot)} == {
        "order.updated": (),
        "tick.rb2505.SHFE": (),
    }


def test_what_happened_while_it_was_away_follows_once(history, node):
    reader = Reader("order.updated", "trade.executed")
    reader.connect(node)
    reader.read()
    history.order(1)
    node.catch_up()
    reader.read()
    reader.disconnect()
    history.order(2)
    history.trade(2)
    node.catch_up()
    reader.connect(node)
    reader.read()

    assert [message.resumed for message in reader.told(Connected)] == [None, True]
    assert [update.seq for update in reader.updates] == [1, 2, 3]
    assert not reader.told(Gap)


def test_a_node_that_lags_behind_the_last_one_repeats_nothing(history):
    quick, slow = Node(history), Node(history)
    reader = Reader("order.updated")
    reader.connect(quick)
    reader.read()
    for number in range(5):
        history.order(number)
    quick.catch_up()
    slow.catch_up(2)
    reader.read()
    reader.connect(slow)
    reader.read()
    slow.catch_up()
    history.order(9)
    slow.catch_up()
    reader.read()

    assert [update.seq for update in reader.updates] == [1, 2, 3, 4, 5, 6]
    assert (reader.counters.duplicates, reader.counters.gaps) == (0, 0)


def test_a_node_that_lags_is_left_where_a_lossless_topic_must_begin(history):
    quick, slow = Node(history), Node(history)
    reader = Reader("order.updated")
    reader.connect(quick)
    reader.read()
    history.order(1)
    quick.catch_up()
    reader.read()
    reader.connect(slow)
    reader.read()
    reader.add("trade.executed")
    assert reader.session is None  # what it does not know yet cannot be told from what it will not send
    slow.catch_up()
    reader.connect(slow)
    reader.read()
    history.trade(1)
    slow.catch_up()
    reader.read()
    assert [update.seq for update in reader.updates] == [1, 2]


def test_out_of_reach_is_a_gap_and_the_mirror_heals_it(history, node):
    history.reach = 2
    reader = Reader("order.updated", "trade.executed")
    reader.connect(node)
    history.order(1)
    history.order(2)
    node.catch_up()
    reader.read()
    reader.disconnect()
    history.order(1, Status.ALLTRADED)
    for number in range(5):
        history.trade(number)
    node.catch_up()
    reader.connect(node)
    reader.read()

    assert {gap.topic for gap in reader.told(Gap)} == {"order.updated", "trade.executed"}
    assert reader.told(Connected)[-1].resumed is False
    assert reader.mirror.needs_heal
    reader.heal(history)
    assert reader.mirror.orders == history.orders()
    assert list(reader.mirror.trades.values()) == history.trades()


def test_another_epoch_begins_anew(history, node):
    reader = Reader("order.updated")
    reader.connect(node)
    history.order(1)
    node.catch_up()
    reader.read()
    restored = History(epoch="e2")
    restored.order(7)
    other = Node(restored)
    other.catch_up()
    reader.connect(other)
    reader.read()
    restored.order(8)
    other.catch_up()
    reader.read()
    assert reader.told(Gap)
    assert set(reader.mirror.active_orders) == {"PAPER.7", "PAPER.8"}


def test_ticks_move_the_place_to_go_on_from(history, node):
    """A reader of rare events must not fall out of reach while others happen."""
    history.reach = 3
    reader = Reader("trade.executed", "tick.*")
    reader.connect(node)
    reader.read()
    for number in range(10):
        history.order(number)
    history.tick(1)
    node.catch_up()
    reader.read()
    reader.disconnect()
    history.trade(1)
    node.catch_up()
    reader.connect(node)
    reader.read()
    assert reader.told(Connected)[-1].resumed is True
    assert [update.data for update in reader.updates if update.prev_seq is not None] == history.trades()


def test_a_snapshot_that_did_not_come_whole_is_asked_for_again(history, node):
    for number in range(3):
        history.order(number)
    node.catch_up()
    reader = Reader("order.updated")
    reader.connect(node)
    reader.read(3)  # the welcome, the answer and one order
    reader.connect(node)
    reader.read()
    assert set(reader.mirror.active_orders) == {"PAPER.0", "PAPER.1", "PAPER.2"}


def test_a_repeated_event_is_counted_and_not_told(history, node):
    reader = Reader("order.updated")
    reader.connect(node)
    reader.read()
    history.order(1)
    node.catch_up()
    frame = reader.server.frames[-1]
    reader.read()
    reader.frame(frame)
    assert len(reader.updates) == 1
    assert reader.counters.duplicates == 1


def test_a_gap_that_nobody_told_is_told_and_logged(history, node, caplog):
    reader = Reader("order.updated", "trade.executed", "tick.*")
    reader.connect(node)
    reader.read()
    history.order(1)
    history.order(2)
    node.catch_up()
    del reader.server.frames[0]
    reader.read()
    assert reader.told(Gap) == [Gap("order.updated", told=False), Gap("trade.executed", told=False)]
    assert [update.seq for update in reader.updates] == [2]  # still given: it is new
    assert reader.counters.untold_gaps == 1
    assert "nobody said so" in caplog.text


def test_a_topic_given_up_and_taken_again_is_healed(history, node):
    reader = Reader("order.updated", "trade.executed", "tick.*")
    reader.connect(node)
    reader.read()
    history.trade(1)
    node.catch_up()
    reader.read()
    reader.remove("trade.executed")
    history.trade(2)
    history.tick(1)
    node.catch_up()
    reader.read()
    reader.add("trade.executed")
    history.trade(3)
    node.catch_up()
    reader.read()
    reader.heal(history)
    assert list(reader.mirror.trades.values()) == history.trades()
    assert not reader.told(Gap)


def test_another_epoch_in_the_middle_ends_the_session(history, node):
    reader = Reader("order.updated")
    reader.connect(node)
    reader.read()
    history.order(1)
    node.catch_up()
    with pytest.raises(BrokenProtocol):
        reader.frame(reader.server.frames.pop() | {"epoch": "e9"})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"topic":"order.updated","epoch":"e1","seq":1,"data":{}}'])
def test_what_is_no_frame_ends_the_session(node, content):
    reader = Reader("order.updated")
    reader.connect(node)
    reader.read()
    with pytest.raises(BrokenProtocol):
        reader.session.take(content)


STEPS = st.one_of(
    st.tuples(st.just("order"), st.integers(0, 5), st.sampled_from([Status.NOTTRADED, Status.PARTTRADED])),
    st.tuples(st.just("end"), st.integers(0, 5)),
    st.tuples(st.just("trade"), st.integers(0, 50)),
    st.tuples(st.just("tick"), st.integers(1, 50)),
    st.tuples(st.just("account"), st.integers(1, 50)),
    st.tuples(st.just("catch up"), st.integers(0, 1), st.integers(1, 10)),
    st.tuples(st.just("connect"), st.integers(0, 1)),
    st.tuples(st.just("cut")),
    st.tuples(st.just("read"), st.integers(1, 8)),
    st.tuples(st.just("add"), st.sampled_from(["trade.executed", "account.updated", "t*"])),
    st.tuples(st.just("remove"), st.sampled_from(["trade.executed", "account.updated", "t*"])),
    st.tuples(st.just("heal")),
)


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(STEPS, max_size=60), reach=st.sampled_from([3, 10_000]))
def test_whatever_happens_the_mirror_ends_equal_and_nothing_comes_twice(steps, reach):
    history = History(reach=reach)
    nodes = [Node(history), Node(history)]
    reader = Reader("order.updated", "tick.*")
    reader.connect(nodes[0])
    for name, *arguments in steps:
        match name:
            case "order":
                history.order(*arguments)
            case "end":
                history.order(arguments[0], Status.ALLTRADED)
            case "trade":
                history.trade(*arguments)
            case "tick":
                history.tick(*arguments)
            case "account":
                history.account(*arguments)
            case "catch up":
                nodes[arguments[0]].catch_up(arguments[1])
            case "connect":
                reader.connect(nodes[arguments[0]])
            case "cut":
                reader.disconnect()
            case "read":
                reader.read(*arguments)
            case "add":
                reader.add(*arguments)
            case "remove":
                reader.remove(*arguments)
            case "heal":
                reader.heal(history)
    reader.add("trade.executed", "account.updated")
    nodes[0].catch_up()
    nodes[1].catch_up()
    if reader.session is None:
        reader.connect(nodes[1])
    reader.read()
    reader.heal(history)

    assert reader.mirror.orders == history.orders()
    assert {event.seq for event in reader.mirror.trades.values()} == {event.seq for event in history.trades()}
    latest = {event.vt_symbol: event for _, topic, event in history.events if topic.startswith("tick.")}
    assert reader.mirror.ticks == latest
    accounts = {event.vt_accountid: event for _, topic, event in history.events if topic == "account.updated"}
    assert reader.mirror.accounts == accounts
    assert reader.counters.untold_gaps == reader.counters.duplicates == reader.mirror.counters.duplicates == 0
    if reach == 10_000:
        assert not reader.told(Gap)
        _assert_orders_came_once_each(reader, history)


def _assert_orders_came_once_each(reader: Reader, history: History) -> None:
    """`order.updated` was listened to all the time; where it went on, each order's change came exactly once."""
    came = [update.seq for update in reader.updates if isinstance(update.data, Order)]
    fresh = [message for message in reader.told(Connected) if message.resumed is not True]
    if len(fresh) == 1:
        first = next(message.seq for message in reader.messages if isinstance(message, Snapshot | Update))
        happened = [seq for seq, _, event in history.events if isinstance(event, Order) and seq > first]
        assert [seq for seq in came if seq > first] == happened
        assert len(came) == len(set(came))
