"""What a venue process and its clients say to each other: msgpack messages in frames of a 4-byte length.

A client logs in and is sent the venue's contracts and one complete snapshot, then whatever happens after it, without
gap or repeat. It names its orders itself, `<session>-<n>`, as CTP's clients do.
"""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Literal

import msgspec

from vnpy_core.gateways.paper.model import ContractSpec, NewOrder, Snapshot, VenueEvent

PROTOCOL = 1
REQUEST_LIMIT = 4 * 1024
"""Bytes of a client's frame. An order's record holds little more than its request, and twice its symbol."""
ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes of a venue's frame."""
LIST_PART = 200
"""Records that one frame carries, so that it stays below `ANSWER_LIMIT` whatever they are."""
HEADER = struct.Struct(">I")
ORDERID = r"[0-9]{1,12}-[0-9]{1,12}"

Topic = Literal["orders", "trades", "positions", "account"]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="m", tag=True):
    """Anything on the wire."""


# --- from clients ---


class Login(_Message, frozen=True):
    """The first frame of a trading client."""

    protocol: int = PROTOCOL


class Place(_Message, frozen=True):
    """Take this order. One with an `orderid` that is known already is answered with the known order."""

    orderid: str
    order: NewOrder


class Cancel(_Message, frozen=True):
    """Cancel an active order."""

    orderid: str


class Query(_Message, frozen=True):
    """Show these again; orders and trades of today, the active ones, and those since `since` (aware)."""

    number: int
    """The client's, unique in its session, from 1 on; the answer repeats it."""
    topic: Topic
    since: datetime | None = None


class Subscribe(_Message, frozen=True):
    """Send this contract's ticks from now on."""

    symbol: str
    exchange: str


class Bye(_Message, frozen=True):
    """The client goes."""


# --- from tests, where the venue allows it ---


class Switches(_Message, frozen=True):
    """Set all faults anew; what is not named is off. Chances are from 0 to 1."""

    lose_requests: int = 0
    """So many orders and cancels from now on are dropped unread."""
    lose_answers: int = 0
    """So many orders from now on are executed and booked, but their client hears nothing until it asks."""
    lose_answers_p: float = 0.0
    double_p: float = 0.0
    """Chance that an order's or trade's event is sent twice."""
    late_p: float = 0.0
    late_ms: float = 0.0
    """Such an event is sent up to so much later, behind others."""
    reorder: int = 0
    """So many such events at a time are sent in any order."""


class Stall(_Message, frozen=True):
    """Hear and say nothing for a while; controls work. 0 ends it."""

    seconds: float


class Disconnect(_Message, frozen=True):
    """Drop all clients' connections, `times` times; they may come back at once."""

    times: int = 1
    every_ms: float = 0.0


class Book(_Message, frozen=True):
    """The market of one contract becomes this: one level on each side, `volume` 0 for none at all."""

    symbol: str
    exchange: str
    bid: float
    ask: float
    volume: float


class Ask(_Message, frozen=True):
    """Tell the counters."""


Control = Switches | Stall | Disconnect | Book | Ask
Request = Login | Place | Cancel | Query | Subscribe | Bye | Control


# --- from the venue ---


class Welcome(_Message, frozen=True):
    """The answer to a log-in; the snapshot follows as `Shown` with number 0."""

    session: int
    """Never twice on one ledger: the client's order ids begin with it."""
    contracts: list[ContractSpec]
    live: bool
    """Whether ticks carry the clock's times; a recording's do not."""
    server_stops: bool


class Shown(_Message, frozen=True):
    """A part of an answer to a query."""

    number: int
    events: list[VenueEvent]
    last: bool


class Happened(_Message, frozen=True):
    """What one call of the venue caused, in order."""

    events: list[VenueEvent]


class Tick(_Message, frozen=True):
    """The market of a subscribed contract moved."""

    snapshot: Snapshot


class Listed(_Message, frozen=True):
    """A contract that was not there at the log-in."""

    contract: ContractSpec


class Notice(_Message, frozen=True):
    """Words for the log: a request that changed nothing."""

    text: str


class Counters(_Message, frozen=True):
    """The answer to every control."""

    sessions: int = 0
    """Log-ins since the process began."""
    clients: int = 0
    orders: int = 0
    """Orders taken, refused ones included, since the process began."""
    requests_lost: int = 0
    answers_lost: int = 0
    doubled: int = 0
    late: int = 0
    reordered: int = 0
    dropped: int = 0
    """Connections that were ended by a switch."""
    overflowed: int = 0
    """Clients that were disconnected because they did not read."""


Answer = Welcome | Shown | Happened | Tick | Listed | Notice | Counters

_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(Request)
_answers = msgspec.msgpack.Decoder(Answer)


class BadFrame(Exception):
    """The other side does not speak this language; the text says how. The connection is of no more use."""


def frame(message: Request | Answer) -> bytes:
    """A message as it goes out. Any thread. Raises BadFrame for a text that cannot be written as UTF-8."""
    try:
        body = _encoder.encode(message)
    except UnicodeEncodeError as error:
        raise BadFrame(f"a message cannot be written: {error}") from error
    return HEADER.pack(len(body)) + body


def length(header: bytes | bytearray, limit: int) -> int:
    """How many bytes follow a header. Raises BadFrame above `limit`."""
    size: int = HEADER.unpack(header)[0]
    if size > limit:
        raise BadFrame(f"a frame of {size} bytes is above the limit of {limit}")
    return size


def request(body: bytes) -> Request:
    """A client's message. Raises BadFrame."""
    try:
        message: Request = _requests.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadFrame(f"a frame is not a request: {error}") from error
    return message


def answer(body: bytes) -> Answer:
    """A venue's message. Raises BadFrame."""
    try:
        message: Answer = _answers.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadFrame(f"a frame is not an answer: {error}") from error
    return message


class Splitter:
    """Bytes as they come, cut into frames. One thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that are complete now. Raises BadFrame."""
        self._buffer += data
        bodies, start = [], 0
        while len(self._buffer) - start >= HEADER.size:
            begin = start + HEADER.size
            end = begin + length(self._buffer[start:begin], self._limit)
            if end > len(self._buffer):
                break
            bodies.append(bytes(self._buffer[begin:end]))
            start = end
        del self._buffer[:start]
        return bodies
