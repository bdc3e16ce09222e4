"""The frames of `/ws` in both directions, and their strict decoder. No framework."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from vnpy_core.domain.errors import PayloadTooLarge, ValidationFailed
from vnpy_core.domain.events import Event

SAFE_INTEGER: Final = 2**53 - 1
"""What every JSON reader keeps exact."""

Id = Annotated[int, Meta(ge=-SAFE_INTEGER, le=SAFE_INTEGER)] | Annotated[str, Meta(max_length=64)]
"""A caller's name for its request; the answer carries it back."""

Topic = Annotated[str, Meta(max_length=256)]


class _Op(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", forbid_unknown_fields=True):
    """Base of what a client may send."""


class Auth(_Op, frozen=True, kw_only=True, tag="auth"):
    """The first message where no header carried the token; later, a fresh token for the same principal."""

    token: str
    id: Id | None = None


class Resume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The place up to which the client has every class A event of the topics that it asks for."""

    epoch: str
    seq: int


class Subscribe(_Op, frozen=True, kw_only=True, tag="subscribe"):
    """Listen to exact topics or prefixes with a trailing `*`; `conflate=false` asks for every tick."""

    topics: list[Topic]
    id: Id | None = None
    conflate: bool = True
    resume: Resume | None = None


class Unsubscribe(_Op, frozen=True, kw_only=True, tag="unsubscribe"):
    """Stop listening, in the words in which it was asked for."""

    topics: list[Topic]
    id: Id | None = None


class ListTopics(_Op, frozen=True, kw_only=True, tag="list"):
    """Which subscriptions does this session have?"""

    id: Id | None = None


class Ping(_Op, frozen=True, kw_only=True, tag="ping"):
    """Are you there?"""

    id: Id | None = None


Op = Auth | Subscribe | Unsubscribe | ListTopics | Ping


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", omit_defaults=True):
    """Base of what answers; an `id` that was not given is left out."""


class Welcome(Reply, frozen=True, kw_only=True, tag="welcome"):
    """The session is open, and answers a renewed token."""

    id: Id | None = None
    epoch: str
    seq: int
    heartbeat_s: float


class TopicError(msgspec.Struct, frozen=True):
    """Why one topic of a request was left out."""

    topic: str
    code: str


class Subscribed(Reply, frozen=True, kw_only=True, tag="subscribed"):
    """What was taken and what was not; `gap`s or replayed messages follow, then snapshots, then live messages.

    `seq` is the place from which on every class A event comes, unless `resumed`: then it is the client's own place.
    `snapshots` says how many snapshot frames of each exact topic follow. `resumed` is null where it was not asked for.
    """

    id: Id | None = None
    topics: list[str]
    errors: list[TopicError]
    epoch: str
    seq: int
    snapshots: dict[str, int]
    resumed: bool | None


class Unsubscribed(Reply, frozen=True, kw_only=True, tag="unsubscribed"):
    """What ended; nothing under it comes after this frame, unless another subscription covers it."""

    id: Id | None = None
    topics: list[str]
    errors: list[TopicError]


class Topics(Reply, frozen=True, kw_only=True, tag="topics"):
    """The session's subscriptions, oldest first."""

    id: Id | None = None
    topics: list[str]


class Pong(Reply, frozen=True, kw_only=True, tag="pong"):
    """Yes."""

    id: Id | None = None


class Heartbeat(Reply, frozen=True, kw_only=True, tag="heartbeat"):
    """Nothing happened, and the connection lives."""


class Gap(Reply, frozen=True, kw_only=True, tag="gap"):
    """Messages under `topic` are missing from here on: read the state over REST where it matters."""

    id: Id | None = None
    topic: str


class Error(Reply, frozen=True, kw_only=True, tag="error"):
    """The request was not done; `code` is one of the API's error codes."""

    id: Id | None = None
    code: str
    detail: str


class SnapshotFrame(msgspec.Struct, frozen=True, kw_only=True):
    """One thing's state at the moment of subscribing."""

    topic: str
    snapshot: bool = True
    epoch: str
    seq: int
    data: Event


class SessionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One client, for the operator; `sent`, `conflated` and `dropped` are totals since it came."""

    id: str
    principal: str
    address: str
    """Where it connects from, `host:port`."""
    encoding: str
    topics: int
    queued: int
    """Frames that wait."""
    behind: int
    """Class A messages among them, those of a replay included."""
    lag_ms: float
    """Age of the first message that waits, milliseconds; 0 where none does."""
    sent: int
    conflated: int
    dropped: int


class StreamingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All clients."""

    sessions: list[SessionStatus]


class _Named(msgspec.Struct):
    id: Id | None = None


_decoder: msgspec.json.Decoder[Op] = msgspec.json.Decoder(Op)
_unpacker: msgspec.msgpack.Decoder[Op] = msgspec.msgpack.Decoder(Op)
_name_decoder = msgspec.json.Decoder(_Named)
_name_unpacker = msgspec.msgpack.Decoder(_Named)


def decode(frame: str | bytes, max_bytes: int, *, binary: bool = False) -> Op:
    """The request in a text frame, or in a `binary` one where those are taken: then it is MessagePack.

    Raises ValidationFailed, PayloadTooLarge.
    """
    if isinstance(frame, bytes) and not binary:
        raise ValidationFailed("send JSON in text frames, not binary ones")
    try:
        encoded = frame if isinstance(frame, bytes) else frame.encode()
        if len(encoded) > max_bytes:
            raise PayloadTooLarge(f"a frame holds {max_bytes} bytes at most, this one has {len(encoded)}")
        return _unpacker.decode(encoded) if isinstance(frame, bytes) else _decoder.decode(encoded)
    except (ValueError, RecursionError) as error:
        raise ValidationFailed(str(error)) from error


def id_of(frame: str | bytes, max_bytes: int) -> Id | None:
    """The id in a frame that could not be taken, where it has one."""
    if len(frame) > max_bytes:
        return None
    try:
        return _name_unpacker.decode(frame).id if isinstance(frame, bytes) else _name_decoder.decode(frame).id
    except (ValueError, RecursionError):
        return None
