"""One published event, encoded once whatever the number of its receivers."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property

import msgspec

from vnpy_core.bus import topics
from vnpy_core.domain.events import Event

_encoder = msgspec.json.Encoder()


class Message:
    """What the bus carries. Made by the bridge, read on the loop; never changed after it was published.

    `key` names the thing the event is about (a vt_symbol, vt_orderid, …): the newest of a key replaces an older one in
    conflating queues. `seq` is the global sequence of class A and B events; others carry the last one given out.
    """

    def __init__(self, topic: str, key: str, epoch: str, seq: int, ts: datetime, data: Event) -> None:
        self.topic = topic
        self.key = key
        self.epoch = epoch
        self.seq = seq
        self.ts = ts
        self.data = data

    @cached_property
    def data_class(self) -> topics.DataClass:
        """What happens to it when a reader is slow."""
        return topics.data_class(self.topic)

    @cached_property
    def json(self) -> bytes:
        """`{"topic":…,"epoch":…,"seq":…,"ts":…,"data":{…}}`, encoded at the first call and shared after it."""
        return _encoder.encode(
            {"topic": self.topic, "epoch": self.epoch, "seq": self.seq, "ts": self.ts, "data": self.data}
        )

    @cached_property
    def text(self) -> str:
        """`json` as a text, for those who send texts."""
        return self.json.decode()
