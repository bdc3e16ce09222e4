"""What a stream tells its reader, and the frames of `/ws` that it is made of."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime as Datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from vnpy_core.domain import events
from vnpy_core.domain.errors import NotFound
from vnpy_core.domain.events import Event


class Encoding(StrEnum):
    """How frames travel."""

    JSON = "json"
    MSGPACK = "msgpack"


class Connected(msgspec.Struct, frozen=True):
    """A connection is open and asked for its topics.

    `resumed`: True where the lossless topics go on where they stood, False where they could not (a `Gap` for each of
    them and snapshots follow), None where there was nothing to go on from.
    """

    url: str
    resumed: bool | None


class Disconnected(msgspec.Struct, frozen=True):
    """The connection is gone; the next attempt follows by itself after `retry_in_s` seconds."""

    reason: str
    retry_in_s: float


class Subscribed(msgspec.Struct, frozen=True):
    """From here on these topics are delivered; of the lossless ones all after `seq`, or after where it resumed."""

    topics: tuple[str, ...]
    epoch: str
    seq: int
    resumed: bool | None


class Unsubscribed(msgspec.Struct, frozen=True):
    """The reader of the stream gave these topics up; what comes of them now is not whole any more."""

    topics: tuple[str, ...]


class Snapshot(msgspec.Struct, frozen=True):
    """The whole state of an exact topic at `seq`: what is not among `items` is not there (any more)."""

    topic: str
    epoch: str
    seq: int
    items: tuple[Event, ...]


class Update(msgspec.Struct, frozen=True, gc=False):
    """One event. `prev_seq` is set on those of lossless topics, whose `seq` is their own place in the sequence."""

    topic: str
    epoch: str
    seq: int
    ts: Datetime | None
    data: Event
    prev_seq: int | None = None


class Gap(msgspec.Struct, frozen=True):
    """Events under `topic` (a pattern as it was asked for) are missing from here on: read the state over REST.

    `told` is False where the service did not say so, which would be a fault of it: the sequence shows it.
    """

    topic: str
    told: bool = True


StreamMessage = Connected | Disconnected | Subscribed | Unsubscribed | Snapshot | Update | Gap


class TopicError(msgspec.Struct, frozen=True):
    """Why a topic was not taken."""

    topic: str
    code: str


class Frame(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Any frame of the service: those with an `op` are answers, the others have `data`."""

    op: str = ""
    id: int | str | None = None
    topic: str = ""
    epoch: str = ""
    seq: int = 0
    prev_seq: int | None = None
    ts: Datetime | None = None
    snapshot: bool = False
    data: msgspec.Raw = msgspec.Raw(b"")
    heartbeat_s: float = 0.0
    topics: tuple[str, ...] = ()
    errors: tuple[TopicError, ...] = ()
    snapshots: dict[str, int] = {}
    resumed: bool | None = None
    code: str = ""
    detail: str = ""


TICK: Final = "tick."
LOSSLESS: Final = ("order.updated", "trade.executed", "quote.updated", "risk.halt", "risk.event")
"""Topics whose events are never left out, and can be resumed."""
TYPES: Final[dict[str, type[Event]]] = {
    "order.updated": events.Order,
    "trade.executed": events.Trade,
    "quote.updated": events.Quote,
    "risk.halt": events.Halt,
    "risk.event": events.RiskEvent,
    "position.updated": events.Position,
    "account.updated": events.Account,
    "contract.updated": events.Contract,
    "gateway.updated": events.Gateway,
    "strategy.updated": events.StrategyUpdate,
    "strategy.log": events.Log,
    "stop_order.updated": events.StopOrderUpdate,
    "algo.updated": events.AlgoUpdate,
    "job.updated": events.Job,
    "log": events.Log,
}


class Codec:
    """Reads and writes frames in one encoding."""

    def __init__(self, encoding: Encoding) -> None:
        self.is_text = encoding is Encoding.JSON
        room: Any = msgspec.json if encoding is Encoding.JSON else msgspec.msgpack
        self._encoder = room.Encoder()
        self._frames = room.Decoder(Frame)
        self._events = {topic: room.Decoder(kind) for topic, kind in TYPES.items()}
        self._ticks = room.Decoder(events.Tick)

    def encode(self, op: dict[str, object]) -> bytes:
        """A request."""
        content: bytes = self._encoder.encode(op)
        return content

    def frame(self, content: bytes) -> Frame:
        """Raises msgspec.DecodeError."""
        frame: Frame = self._frames.decode(content)
        return frame

    def event(self, frame: Frame) -> Event | None:
        """Its typed data; None for a topic that a newer service may have. Raises msgspec.DecodeError."""
        decoder = self._ticks if frame.topic.startswith(TICK) else self._events.get(frame.topic)
        return None if decoder is None else decoder.decode(frame.data)


def matches(pattern: str, topic: str) -> bool:
    """Whether `topic` falls under `pattern`, an exact topic or a prefix with a trailing `*`."""
    return topic.startswith(pattern[:-1]) if pattern.endswith("*") else topic == pattern


def is_lossless(pattern: str) -> bool:
    """Whether events that are never left out fall under `pattern`."""
    return any(matches(pattern, topic) for topic in LOSSLESS)


def check_topics(patterns: Iterable[str]) -> None:
    """Raises NotFound for a pattern under which nothing is ever published."""
    for pattern in patterns:
        if not _exists(pattern):
            raise NotFound(f"no topic is called {pattern!r}")


def _exists(pattern: str) -> bool:
    if pattern.endswith("*"):
        return pattern.startswith(TICK) or any(matches(pattern, topic) for topic in [*TYPES, TICK])
    return pattern in TYPES or (pattern.startswith(TICK) and pattern != TICK)
