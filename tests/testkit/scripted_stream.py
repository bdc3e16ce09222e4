"""A model of the service's streaming, frame by frame, that tests drive: several nodes that show one history.

It keeps to the protocol of `/ws` and nothing else: no queues, no tasks, no clock. What the real one does is tried in
`tests/integration/client`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

from testkit.streaming import TIME, account, order, tick
from vnpy_core.bus import topics
from vnpy_core.domain.enums import Direction, Offset, Status
from vnpy_core.domain.events import Event, Order, Tick, Trade


def trade(number: int, seq: int = 0) -> Trade:
    return Trade(
        vt_tradeid=f"PAPER.T{number}",
        tradeid=f"T{number}",
        vt_orderid=f"PAPER.{number}",
        orderid=str(number),
        gateway_name="PAPER",
        vt_symbol="rb2505.SHFE",
        symbol="rb2505",
        exchange="SHFE",
        direction=Direction.LONG,
        offset=Offset.OPEN,
        price=3500.0,
        volume=1.0,
        datetime=TIME,
        seq=seq,
    )


def topic_of(event: Event) -> str:
    if isinstance(event, Tick):
        return topics.tick(event.vt_symbol)
    return {
        "Order": topics.ORDER_UPDATED,
        "Trade": topics.TRADE_EXECUTED,
        "Account": topics.ACCOUNT_UPDATED,
        "Position": topics.POSITION_UPDATED,
    }[type(event).__name__]


def is_lossless(topic: str) -> bool:
    return topics.data_class(topic) is topics.DataClass.LOSSLESS


class History:
    """What happened, in order; lossless events have their own `seq`."""

    def __init__(self, epoch: str = "e1", reach: int = 10_000) -> None:
        self.epoch = epoch
        self.reach = reach
        self.events: list[tuple[int, str, Event]] = []
        self.seq = 0

    def add(self, event: Event) -> Event:
        topic = topic_of(event)
        if is_lossless(topic):
            self.seq += 1
            event = msgspec.structs.replace(event, seq=self.seq)
        self.events.append((self.seq, topic, event))
        return event

    def order(self, number: int, status: Status = Status.NOTTRADED) -> Event:
        return self.add(msgspec.structs.replace(order(number, status)))

    def trade(self, number: int) -> Event:
        return self.add(trade(number))

    def tick(self, number: int, vt_symbol: str = "rb2505.SHFE") -> Event:
        return self.add(tick(vt_symbol, number))

    def account(self, balance: float) -> Event:
        return self.add(msgspec.structs.replace(account(balance), seq=self.seq))

    def orders(self) -> dict[str, Order]:
        return {event.vt_orderid: event for _, _, event in self.events if isinstance(event, Order)}

    def trades(self) -> list[Trade]:
        return [event for _, _, event in self.events if isinstance(event, Trade)]


class Node:
    """Shows the first `known` events of a history."""

    def __init__(self, history: History, *, heartbeat_s: float = 15.0) -> None:
        self.history = history
        self.heartbeat_s = heartbeat_s
        self.known = 0
        self.max_topics = 1_000
        self.sessions: list[NodeSession] = []

    @property
    def seq(self) -> int:
        return self.history.events[self.known - 1][0] if self.known else 0

    def catch_up(self, count: int | None = None) -> None:
        """Take in so many events more, by default all."""
        until = len(self.history.events) if count is None else min(self.known + count, len(self.history.events))
        while self.known < until:
            seq, topic, event = self.history.events[self.known]
            self.known += 1
            for session in self.sessions:
                session.publish(seq, topic, event)

    def snapshot(self, topic: str) -> list[Event]:
        latest: dict[str, Event] = {}
        for _, name, event in self.history.events[: self.known]:
            if name == topic:
                latest[_key(event)] = event
        return [event for event in latest.values() if not isinstance(event, Order) or event.is_active]

    def open(self) -> NodeSession:
        session = NodeSession(self)
        self.sessions.append(session)
        return session


class NodeSession:
    """One client of a node; `frames` wait to be sent."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.frames: deque[dict[str, Any]] = deque()
        self.patterns: dict[str, None] = {}
        self.prev_seq: int | None = None
        self.not_below = 0
        """Lossless events up to here were sent to this client before, here or at another node."""
        self.tokens: list[str] = []
        self._say(op="welcome", epoch=node.history.epoch, seq=node.seq, heartbeat_s=node.heartbeat_s)

    def close(self) -> None:
        if self in self.node.sessions:
            self.node.sessions.remove(self)

    def receive(self, content: str | bytes) -> None:
        op = json.loads(content) if isinstance(content, str) else msgspec.msgpack.decode(content)
        match op["op"]:
            case "subscribe":
                self._subscribe(op)
            case "unsubscribe":
                for pattern in op["topics"]:
                    self.patterns.pop(pattern, None)
                self._say(op="unsubscribed", id=op["id"], topics=op["topics"], errors=[])
            case "auth":
                self.tokens.append(op["token"])
                node = self.node
                self._say(op="welcome", id=op["id"], epoch=node.history.epoch, seq=node.seq,
                          heartbeat_s=node.heartbeat_s)  # fmt: skip

    def publish(self, seq: int, topic: str, event: Event) -> None:
        if not any(topics.matches(pattern, topic) for pattern in self.patterns):
            return
        lossless = is_lossless(topic)
        if lossless and seq <= self.not_below:
            return
        frame = self._frame(seq, topic, event) | {"ts": "2026-11-20T02:00:00Z"}
        if lossless:
            frame["prev_seq"], self.prev_seq = self.prev_seq, seq
        self.frames.append(frame)

    def _subscribe(self, op: dict[str, Any]) -> None:
        wanted, resume, node = list(op["topics"]), op.get("resume"), self.node
        if len({*self.patterns, *wanted}) > node.max_topics:
            self._say(op="error", id=op["id"], code="CONFLICT", detail=f"{node.max_topics} topics at most")
            return
        history = node.history
        lossless = [pattern for pattern in wanted if _covers_lossless(pattern)]
        resumed = None
        if resume is not None:
            resumed = resume["epoch"] == history.epoch and resume["seq"] >= node.seq - history.reach
        self.patterns |= dict.fromkeys(wanted)
        if lossless and self.prev_seq is None:
            self.prev_seq = resume["seq"] if resumed else node.seq
        shown = {topic: node.snapshot(topic) for topic in self._state_topics(wanted)
                 if not (resumed and is_lossless(topic))}  # fmt: skip
        self._say(
            op="subscribed", id=op["id"], topics=wanted, errors=[], epoch=history.epoch, seq=node.seq,
            snapshots={topic: len(items) for topic, items in shown.items()}, resumed=resumed,
        )  # fmt: skip
        if resumed is False:
            for pattern in lossless:
                self._say(op="gap", id=op["id"], topic=pattern)
        elif resumed:
            self.not_below = max(self.not_below, resume["seq"])
            self._replay(resume["seq"], wanted)
        for topic, items in shown.items():
            for item in items:
                self.frames.append(self._frame(node.seq, topic, item) | {"snapshot": True})

    def _replay(self, after: int, patterns: list[str]) -> None:
        for seq, topic, event in self.node.history.events[: self.node.known]:
            if seq > after and is_lossless(topic) and any(topics.matches(pattern, topic) for pattern in patterns):
                self.publish(seq, topic, event)

    def _state_topics(self, patterns: Iterable[str]) -> list[str]:
        known = [topics.ORDER_UPDATED, topics.ACCOUNT_UPDATED, topics.POSITION_UPDATED]
        known += {topic for _, topic, _ in self.node.history.events[: self.node.known] if topic.startswith("tick.")}
        known += [pattern for pattern in patterns if pattern.startswith("tick.") and not pattern.endswith("*")]
        return [topic for topic in dict.fromkeys(known) if any(topics.matches(pattern, topic) for pattern in patterns)]

    def _frame(self, seq: int, topic: str, event: Event) -> dict[str, Any]:
        return {"topic": topic, "epoch": self.node.history.epoch, "seq": seq, "data": msgspec.to_builtins(event)}

    def _say(self, **frame: Any) -> None:
        self.frames.append(frame)


def _covers_lossless(pattern: str) -> bool:
    return any(topics.matches(pattern, name) for name, kind in topics.FIXED_TOPICS.items()
               if kind is topics.DataClass.LOSSLESS)  # fmt: skip


def _key(event: Event) -> str:
    match event:
        case Order():
            return event.vt_orderid
        case Trade():
            return event.vt_tradeid
        case Tick():
            return event.vt_symbol
        case _:
            return getattr(event, "vt_accountid", getattr(event, "vt_positionid", ""))
