"""What goes over the wire: whole WebSocket frames, made once for all clients of an encoding. No framework.

A server's frames are not masked, so that the bytes of one message are the same for everybody who has the same
`prev_seq`; they are kept with the message.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec
from websockets.frames import Frame, Opcode

from vnpy_core.bus.message import Message
from vnpy_core.domain.errors import ValidationFailed
from vnpy_core.domain.events import Event
from vnpy_core.features.streaming.schemas import Reply, SnapshotFrame

UNENCODABLE: Final = (TypeError, ValueError, RecursionError, OverflowError)
"""What msgspec raises for data that has no words on the wire, such as a strategy variable of a numpy type."""
FORMS: Final = 4
"""Frames kept with one message: those of class A differ by `prev_seq`, and so by what else a client listens to."""


class Encoding(Protocol):
    """How one client is talked to. Loop thread only. Every method returns a whole WebSocket frame."""

    name: str

    def reply(self, reply: Reply) -> bytes:
        """An answer."""
        ...

    def message(self, message: Message, prev_seq: int | None) -> bytes:
        """A live or replayed message; `prev_seq` is told where it is not None. Raises one of UNENCODABLE."""
        ...

    def snapshot(self, topic: str, epoch: str, seq: int, data: Event) -> bytes:
        """One thing's state. Raises one of UNENCODABLE."""
        ...


class Json:
    """JSON in text frames."""

    name = "json"

    def reply(self, reply: Reply) -> bytes:
        """An answer."""
        return _frame(Opcode.TEXT, msgspec.json.encode(reply))

    def message(self, message: Message, prev_seq: int | None) -> bytes:
        """A message. Raises one of UNENCODABLE."""
        if prev_seq is None:
            return _frame(Opcode.TEXT, b'%b,"data":%b}' % (message.head, message.payload))
        return _frame(Opcode.TEXT, b'%b,"prev_seq":%d,"data":%b}' % (message.head, prev_seq, message.payload))

    def snapshot(self, topic: str, epoch: str, seq: int, data: Event) -> bytes:
        """One thing's state. Raises one of UNENCODABLE."""
        return _frame(Opcode.TEXT, msgspec.json.encode(SnapshotFrame(topic=topic, epoch=epoch, seq=seq, data=data)))


class MessagePack:
    """The very maps of the JSON, times as texts too, as MessagePack in binary frames."""

    name = "msgpack"

    def reply(self, reply: Reply) -> bytes:
        """An answer."""
        return _frame(Opcode.BINARY, msgspec.msgpack.encode(reply))

    def message(self, message: Message, prev_seq: int | None) -> bytes:
        """A message. Raises one of UNENCODABLE."""
        told: dict[str, Any] = {
            "topic": message.topic,
            "epoch": message.epoch,
            "seq": message.seq,
            "ts": msgspec.to_builtins(message.ts),
        }
        if prev_seq is not None:
            told["prev_seq"] = prev_seq
        told["data"] = msgspec.Raw(message.packed)
        return _frame(Opcode.BINARY, msgspec.msgpack.encode(told))

    def snapshot(self, topic: str, epoch: str, seq: int, data: Event) -> bytes:
        """One thing's state. Raises one of UNENCODABLE."""
        text = msgspec.json.encode(SnapshotFrame(topic=topic, epoch=epoch, seq=seq, data=data))
        return _frame(Opcode.BINARY, msgspec.msgpack.encode(msgspec.json.decode(text)))


JSON: Final[Encoding] = Json()
ENCODINGS: Final[dict[str, Encoding]] = {encoding.name: encoding for encoding in (JSON, MessagePack())}


def encoding_of(name: str) -> Encoding:
    """The encoding that a client asked for. Raises ValidationFailed."""
    if name not in ENCODINGS:
        raise ValidationFailed(f"encoding is one of {', '.join(ENCODINGS)}")
    return ENCODINGS[name]


def shared_frame(encoding: Encoding, message: Message, prev_seq: int | None = None) -> bytes:
    """The frame of a message that others may send too, made once. Raises one of UNENCODABLE."""
    memo, form = message.memo, encoding.name if prev_seq is None else (encoding.name, prev_seq)
    frame: bytes | None = memo.get(form)
    if frame is None:
        frame = encoding.message(message, prev_seq)
        if len(memo) < FORMS:
            memo[form] = frame
    return frame


def content(frame: bytes) -> str | bytes:
    """What is in a whole frame, for servers that make frames themselves."""
    length = frame[1]
    payload = frame[{126: 4, 127: 10}.get(length, 2) :]
    return payload.decode() if frame[0] & 0x0F == Opcode.TEXT else payload


def _frame(opcode: Opcode, payload: bytes) -> bytes:
    return Frame(opcode, payload).serialize(mask=False)
