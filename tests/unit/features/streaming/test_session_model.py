"""Whatever happens in whatever order, a client that follows the rules misses nothing and applies nothing twice."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.streaming import Hub, account, decoded, order, settle, tick, trade
from vnpy_core.domain.enums import Status
from vnpy_core.domain.events import Event
from vnpy_core.features.streaming.wire import ENCODINGS

PATTERNS = ["order.updated", "trade.*", "tick.*", "account.updated", "order.*"]
NODES = 2


class Client:
    """It follows docs/api.md, and fails where a frame breaks what is promised there."""

    def __init__(self, encoding: str) -> None:
        self._encoding = ENCODINGS[encoding]
        self.last: int | None = None
        self.applied: list[int] = []
        """Seqs of the class A events, from the newest gap on."""
        self.told_seq = 0
        """The seq of the last frame, of whatever kind."""
        self.orders: dict[str, str] = {}
        self.balances: dict[str, float] = {}
        self.ticks: dict[str, int] = {}
        self._read = 0
        self._snapshots: dict[str, int] = {}
        self._asked: int | None = None

    async def come(self, hub: Hub, resume: int | None) -> None:
        self.hub = hub
        self.session, self.connection = await hub.client(encoding=self._encoding)
        self._read = self._frame_seq = 0
        self._sent_seq = -1
        self._snapshots.clear()
        self.ask(resume)

    def ask(self, resume: int | None) -> None:
        self.knows_answers = False
        self._asked = resume
        request: dict[str, Any] = {"op": "subscribe", "topics": PATTERNS}
        self.hub.ask(self.session, **request, **({} if resume is None else {"resume": {"epoch": "e1", "seq": resume}}))

    async def leave(self) -> None:
        self.connection.abort()
        await self.hub.service.leave(self.session)

    def read(self, frames: int) -> None:
        for frame in self.connection.sent[self._read : self._read + frames]:
            self._read += 1
            self._take(decoded(frame))

    def place(self, resume: str) -> int | None:
        """Where it may resume: nowhere, while the state that it began with has not come whole."""
        if resume == "none" or self._snapshots.get("order.updated"):
            return None
        return self.last if resume == "last" else self.told_seq

    @property
    def has_read_all(self) -> bool:
        return self._read == len(self.connection.sent) and not any(self._snapshots.values())

    def _take(self, frame: dict[str, Any]) -> None:
        match frame:
            case {"op": "subscribed"}:
                self._begin(frame)
            case {"op": "gap"}:
                assert self._was_gap
            case {"op": "error"}:
                # The node has not come to the client's place yet.
                assert frame["code"] == "OVERLOADED"
                assert frame["detail"].startswith("this node")
                self.knows_answers = True
            case {"op": _}:
                pass
            case _:
                self._take_event(frame)

    def _begin(self, frame: dict[str, Any]) -> None:
        assert frame["resumed"] in ((None,) if self._asked is None else (True, False))
        self._was_gap = frame["resumed"] is False
        for topic, number in frame["snapshots"].items():
            self._snapshots[topic] = self._snapshots.get(topic, 0) + number
        if frame["resumed"]:
            assert "order.updated" not in frame["snapshots"]
            assert self._asked is not None
            self.last = max(self.last or 0, self._asked)
            self._sent_seq = max(self._sent_seq, self._asked)
        else:
            # It begins anew, from the snapshots.
            self.last = self.told_seq = frame["seq"]
            self.applied.clear()
            self.orders.clear()
        self._asked = None
        self.knows_answers = True

    def _take_event(self, frame: dict[str, Any]) -> None:
        topic, seq, data = frame["topic"], frame["seq"], frame["data"]
        assert self.last is not None
        assert seq >= self._frame_seq, "seqs never decrease"
        self._frame_seq = seq
        if "snapshot" in frame:
            self._snapshots[topic] -= 1
            assert self._snapshots[topic] >= 0
        if "prev_seq" in frame:
            assert frame["prev_seq"] <= self.last, "a gap"
            assert frame["prev_seq"] == seq - 1, "all class A topics are subscribed to"
            assert seq > self._sent_seq, "in order, and once"
            self._sent_seq = seq
            if seq <= self.last:
                return
            self.last = seq
            self.applied.append(seq)
        assert seq <= self.last, "every class A event up to a frame's seq came before it"
        self.told_seq = seq
        match topic:
            case "order.updated":
                self.orders[data["vt_orderid"]] = data["status"]
            case "account.updated":
                self.balances[data["vt_accountid"]] = data["balance"]
            case "trade.executed":
                pass
            case _:
                self.ticks[topic] = data["tick_seq"]


class World:
    """Nodes that publish the same events, each at its own pace, and one client."""

    def __init__(self, encoding: str) -> None:
        limits = {"resume_events": 12, "lossless_limit": 6, "conflate_above": 2}
        self.nodes = [Hub(**limits) for _ in range(NODES)]
        self.events: list[Event] = []
        self._published = [0] * NODES
        self.client = Client(encoding)

    def happen(self, node: int, happened: list[tuple[str, int]]) -> None:
        """New events, which one node publishes at once; the others are behind."""
        for kind, number in happened:
            match kind:
                case "order":
                    status = Status.ALLTRADED if number % 2 else Status.NOTTRADED
                    self.events.append(order(number % 3, status))
                case "trade":
                    self.events.append(trade(len(self.events)))
                case "account":
                    self.events.append(account(len(self.events), str(number % 2)))
                case "tick":
                    self.events.append(tick(f"s{number % 3}.X", len(self.events)))
        self.advance(node, len(self.events))

    def advance(self, node: int, count: int) -> None:
        start = self._published[node]
        self.nodes[node].publish(*self.events[start : start + count])
        self._published[node] = min(len(self.events), start + count)

    async def switch(self, node: int, resume: str) -> None:
        await self.client.leave()
        await self.client.come(self.nodes[node], self._place(resume))

    async def ask_again(self, resume: str) -> None:
        """For the same topics, in the same session, once it knows the answer to what it asked before."""
        await settle()
        self.client.read(1_000_000)
        if not self.client.session.ended and self.client.knows_answers:
            self.client.ask(self._place(resume))

    def _place(self, resume: str) -> int | None:
        return self.client.place(resume)

    async def finish(self) -> None:
        for node in range(NODES):
            self.advance(node, len(self.events))
        client = self.client
        client.connection.reading.set()
        await settle()
        client.read(1_000_000)
        if client.session.ended:
            await client.leave()
            await client.come(client.hub, client.place("last"))
            await settle()
            client.read(1_000_000)
        assert not client.session.ended
        assert client.has_read_all
        view = client.hub.view
        [status] = client.hub.service.status().sessions
        assert (status.queued, status.behind, status.lag_ms) == (0, 0, 0)
        assert client.last == client.hub.seq
        assert client.applied == list(range(client.last - len(client.applied) + 1, client.last + 1))
        active = {name for name, status in client.orders.items() if status == "NOTTRADED"}
        assert active == set(view.active_orders)
        assert client.balances == {name: held.balance for name, held in view.accounts.items()}
        assert client.ticks == {f"tick.{name}": held.tick_seq for name, held in view.ticks.items()}


kinds = st.sampled_from(["order", "trade", "account", "tick", "tick"])
nodes = st.integers(0, NODES - 1)
events = st.lists(st.tuples(kinds, st.integers(0, 5)), min_size=1, max_size=12)
resumes = st.sampled_from(["last", "last", "told", "last", "none"])
reads = st.sampled_from([0, 1, 3, 10, 100])
steps = st.one_of(
    st.tuples(st.just("happen"), nodes, events, reads),
    st.tuples(st.just("advance"), nodes, st.integers(1, 30), reads),
    st.tuples(st.just("stop")),
    st.tuples(st.just("go")),
    st.tuples(st.just("again"), resumes),
    st.tuples(st.just("switch"), nodes, resumes),
)


async def play(encoding: str, played: list[tuple[Any, ...]]) -> None:
    world = World(encoding)
    await world.client.come(world.nodes[0], None)
    await settle()
    world.client.read(2)
    for name, *values in played:
        client = world.client
        match name:
            case "happen" | "advance":
                node, what, reads = values
                (world.happen if name == "happen" else world.advance)(node, what)
                await settle()
                client.read(reads)
            case "stop":
                client.connection.reading.clear()
            case "go":
                client.connection.reading.set()
            case "again":
                await world.ask_again(*values)
            case "switch" if client.last is not None:
                await world.switch(*values)
    await world.finish()
    for hub in world.nodes:
        await hub.service.close()


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(["json", "json", "msgpack"]), st.lists(steps, min_size=8, max_size=60))
def test_nothing_is_missed_and_nothing_is_applied_twice(encoding: str, played: list[tuple[Any, ...]]) -> None:
    asyncio.run(play(encoding, played))
