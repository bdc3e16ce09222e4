"""What passes waits here for the message bus, bounded: the newest of everything survives."""

from __future__ import annotations

from collections import deque
from itertools import islice

from vnpy_core.bus.message import Message
from vnpy_core.bus.topics import DataClass
from vnpy_core.domain.events import Log

_QUIET = frozenset({"DEBUG", "INFO"})


class Waiting:
    """Loop thread only. In order while there is room; past half of it a newer message takes its elder's place.

    Logs have a tenth of their own. Where there is no room for one more thing, the one that waits longest goes.
    """

    def __init__(self, room: int) -> None:
        """`room`: messages, in all."""
        self._most_logs = room // 10
        self._most = (room - self._most_logs) // 2
        self._in_order: deque[Message] = deque()
        self._newest: dict[tuple[str, str], Message] = {}
        """Behind those in order."""
        self._logs: deque[Message] = deque()
        self.conflated = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._in_order) + len(self._newest) + len(self._logs)

    def add(self, message: Message) -> None:
        """Take one more."""
        if message.data_class is DataClass.LOG:
            self._add_log(message)
        elif self._newest or len(self._in_order) >= self._most:
            self._keep_newest(message)
        else:
            self._in_order.append(message)

    def next(self, limit: int) -> list[Message]:
        """Take out the oldest, `limit` at most; logs last."""
        if not self._in_order:
            self._in_order.extend(self._newest.values())
            self._newest.clear()
        taken = _take(self._in_order, limit)
        if not self._in_order and not self._newest:
            taken += _take(self._logs, limit - len(taken))
        return taken

    def put_back(self, messages: list[Message]) -> None:
        """These may not have been sent: states stay, to be sent again; ticks and logs go, which are sent once at most.

        Of all that waits only the newest is kept: whoever hears it after a while wants no old ticks.
        """
        states = [message for message in messages if message.data_class is DataClass.LATEST]
        self.dropped += len(messages) - len(states)
        states += [*self._in_order, *self._newest.values()]
        self._in_order.clear()
        self._newest.clear()
        for message in states:
            self._keep_newest(message)

    def clear(self) -> None:
        """Drop all."""
        self.dropped += len(self)
        self._in_order.clear()
        self._newest.clear()
        self._logs.clear()

    def _keep_newest(self, message: Message) -> None:
        name = (message.topic, message.key)
        if self._newest.pop(name, None) is not None:
            self.conflated += 1
        elif len(self._newest) >= self._most:
            del self._newest[next(iter(self._newest))]
            self.dropped += 1
        self._newest[name] = message

    def _add_log(self, message: Message) -> None:
        if len(self._logs) >= self._most_logs:
            self.dropped += 1
            if isinstance(message.data, Log) and message.data.level in _QUIET:
                return
            self._logs.popleft()
        self._logs.append(message)


def _take(messages: deque[Message], limit: int) -> list[Message]:
    return [messages.popleft() for _ in islice(range(len(messages)), max(0, limit))]
