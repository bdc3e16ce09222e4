"""The newest class A messages, for clients that come back."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterable
from operator import attrgetter

from vnpy_core.bus.message import Message

FRESH = 1_000
"""The newest messages keep the forms in which they are sent: live clients may still be about to send them."""
NOWHERE = sys.maxsize

_seq = attrgetter("seq")


class Recent:
    """The last `limit` class A messages in order of `seq`, and from where on they are all here. Loop thread only.

    A tenth more than `limit` may be held, so that old ones go many at a time. Before it is seeded it vouches for
    nothing but what was appended since.
    """

    def __init__(self, limit: int) -> None:
        self.complete_from = NOWHERE
        """All class A messages with a greater `seq` are here."""
        self._limit = limit
        self._messages: list[Message] = []

    def __len__(self) -> int:
        return len(self._messages)

    def seed(self, messages: Iterable[Message], complete_from: int) -> None:
        """Begin anew with `messages`, oldest first: all that were published after the seq `complete_from`."""
        self.complete_from = complete_from
        self._messages = list(messages)
        self._trim()

    def forget(self) -> None:
        """As before it was seeded."""
        self.complete_from = NOWHERE
        self._messages = []

    def append(self, message: Message) -> None:
        """Add the next one; its `seq` is above all that are here."""
        self.complete_from = min(self.complete_from, message.seq - 1)
        self._messages.append(message)
        if len(self._messages) > FRESH:
            self._messages[-FRESH - 1] = self._messages[-FRESH - 1].bare()
        if len(self._messages) > self._limit + self._limit // 10:
            self._trim()

    def after(self, seq: int, until: int, limit: int | None = None) -> list[Message]:
        """Those with a `seq` above `seq`, up to `until`: the first `limit` of them."""
        start, end = bisect_right(self._messages, seq, key=_seq), bisect_right(self._messages, until, key=_seq)
        return self._messages[start : end if limit is None else min(end, start + limit)]

    def _trim(self) -> None:
        surplus = len(self._messages) - self._limit
        if surplus > 0:
            self.complete_from = self._messages[surplus - 1].seq
            del self._messages[:surplus]
