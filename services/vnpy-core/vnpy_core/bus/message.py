"""One published event, encoded once whatever the number of its receivers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from vnpy_core.bus import topics
from vnpy_core.domain.events import Event, RiskEvent

_encoder = msgspec.json.Encoder()
_packer = msgspec.msgpack.Encoder()


R = TypeVar("R")


class once(Generic[R]):
    """functools.cached_property without its lock, which before Python 3.12 costs more than what is made here."""

    def __init__(self, make: Callable[[Any], R]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __get__(self, owner: Any, kind: Any = None) -> R:
        made = owner.__dict__[self._make.__name__] = self._make(owner)
        return made


class Message:
    """What the bus carries. Made by the bridge, read on the loop; never changed after it was published.

    `key` names the thing the event is about (a vt_symbol, vt_orderid, …): the newest of a key replaces an older one in
    conflating queues. `seq` is a class A event's own place in the global sequence; others carry the last place given
    out, so that a reader who has one has all class A events up to its `seq`.
    """

    def __init__(
        self,
        topic: str,
        key: str,
        epoch: str,
        seq: int,
        ts: datetime,
        data: Event,
        *,
        payload: bytes | None = None,
    ) -> None:
        """`payload` is `data` as JSON, where that is known already."""
        self.topic = topic
        self.key = key
        self.epoch = epoch
        self.seq = seq
        self.ts = ts
        self.data = data
        self._origin: Message | None = None
        if payload is not None:
            self.payload = payload

    @once
    def data_class(self) -> topics.DataClass:
        """What happens to it when a reader is slow."""
        if self.topic == topics.RISK_EVENT and isinstance(self.data, RiskEvent) and not self.data.seq:
            return topics.DataClass.LATEST  # a rule's own state, which is not journaled
        return topics.data_class(self.topic)

    @once
    def payload(self) -> bytes:
        """`data` as JSON. Raises TypeError, ValueError or RecursionError for what JSON has no words for."""
        return _encoder.encode(self.data) if self._origin is None else self._origin.payload

    @once
    def packed(self) -> bytes:
        """`data` as MessagePack, the very maps and texts of the JSON. Raises as `payload`, and OverflowError."""
        return _packer.encode(msgspec.json.decode(self.payload)) if self._origin is None else self._origin.packed

    @once
    def head(self) -> bytes:
        """`{"topic":…,"epoch":…,"seq":…,"ts":…`: the beginning of every form in which it is sent."""
        return b'{"topic":%b,"epoch":"%b","seq":%d,"ts":%b' % (
            _encoder.encode(self.topic),
            self.epoch.encode(),
            self.seq,
            _encoder.encode(self.ts),
        )

    @once
    def json(self) -> bytes:
        """`{"topic":…,"epoch":…,"seq":…,"ts":…,"data":{…}}`, encoded at the first call and shared after it."""
        return b'%b,"data":%b}' % (self.head, self.payload)

    @once
    def text(self) -> str:
        """`json` as a text, for those who send texts."""
        return self.json.decode()

    @once
    def memo(self) -> dict[Hashable, Any]:
        """Where those who send it keep what they made of it, so that each form is made once."""
        return {}

    def at(self, seq: int) -> Message:
        """The same event told at another place, for a queue in which it takes an older message's turn.

        Nothing is encoded for it, and what is encoded later is shared.
        """
        if seq == self.seq:
            return self
        moved = Message(self.topic, self.key, self.epoch, seq, self.ts, self.data)
        moved._origin = self._origin or self
        return moved

    def bare(self) -> Message:
        """The same message without the forms that were made of it, for those who keep many; they can be made again."""
        return Message(self.topic, self.key, self.epoch, self.seq, self.ts, self.data)
