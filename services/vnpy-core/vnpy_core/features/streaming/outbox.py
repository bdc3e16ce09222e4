"""What waits for one client, bounded by the rule of each class of data. No framework, no clock, no task."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import count

from vnpy_core.bus.message import Message
from vnpy_core.bus.topics import DataClass
from vnpy_core.domain.enums import LogLevel
from vnpy_core.domain.errors import Overloaded
from vnpy_core.domain.events import Event, Log
from vnpy_core.features.streaming.schemas import Gap
from vnpy_core.features.streaming.settings import StreamingSettings

SNAPSHOT = "snapshot"


class Snapshot:
    """One topic's state at `seq`; encoded frame by frame when its turn comes, so that waiting costs little."""

    __slots__ = ("epoch", "items", "seq", "topic")

    def __init__(self, topic: str, epoch: str, seq: int, items: list[tuple[str, Event]]) -> None:
        self.topic = topic
        self.epoch = epoch
        self.seq = seq
        self.items = items


Item = Message | Snapshot | str
_Key = int | str | tuple[str, str]


class Outbox:
    """One queue in order of arrival. Loop thread only.

    Each entry has a key: a number of its own, or the name of the thing it is about; a newer message about a waiting
    thing takes its place in the queue. Only conflating ticks and class B do so; the others are counted and bounded.
    `hold` and `release` are called when a reader of every tick falls behind and has caught up.
    """

    def __init__(self, settings: StreamingSettings, hold: Callable[[], None], release: Callable[[], None]) -> None:
        self.conflated = 0
        self.dropped = 0
        self.lossless = 0
        """Class A messages waiting."""
        self.ticks = 0
        """Ticks waiting that nothing may replace."""
        self._settings = settings
        self._hold = hold
        self._release = release
        self._waiting: OrderedDict[_Key, Item] = OrderedDict()
        self._numbers = count()
        self._replies = 0
        self._minor_logs: deque[int] = deque()
        self._major_logs: deque[int] = deque()
        self._holding = False
        self._gaps: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, message: Message, *, every_tick: bool) -> None:
        """Queue a message by its class. Raises Overloaded where the reader cannot be served without loss."""
        match message.data_class:
            case DataClass.STREAM if every_tick:
                self._add_every_tick(message)
            case DataClass.STREAM:
                self._add_tick(message)
            case DataClass.LOSSLESS:
                self._add_lossless(message)
            case DataClass.LATEST:
                self._replace((message.topic, message.key), message)
            case DataClass.LOG:
                self._add_log(message)

    def add_reply(self, text: str) -> None:
        """Queue an answer. Raises Overloaded for a client that asks on and on without reading."""
        if self._replies >= self._settings.reply_limit:
            raise Overloaded(f"{self._replies} answers wait unread")
        self._append_reply(text)

    def add_heartbeat(self, text: str) -> None:
        """Queue a heartbeat, unless one waits."""
        self._waiting.setdefault(("", "heartbeat"), text)

    def add_snapshot(self, snapshot: Snapshot) -> None:
        """Queue a topic's state; an older one still waiting goes."""
        key = (SNAPSHOT, snapshot.topic)
        self._waiting[key] = snapshot
        self._waiting.move_to_end(key)

    def pop(self) -> Item | None:
        """The next item to send."""
        if not self._waiting:
            return None
        key, item = self._waiting.popitem(last=False)
        if type(key) is int:
            self._uncount(item)
        return item

    def clear(self) -> None:
        """Forget everything and let a replay go on."""
        while self.pop() is not None:
            pass

    def _append(self, item: Item) -> int:
        number = next(self._numbers)
        self._waiting[number] = item
        return number

    def _append_reply(self, text: str) -> None:
        self._replies += 1
        self._append(text)

    def _replace(self, key: _Key, message: Message) -> None:
        if key in self._waiting:
            self.conflated += 1
        self._waiting[key] = message
        if (SNAPSHOT, message.topic) in self._waiting:
            # The place it took may lie before a snapshot that is older than it.
            self._waiting.move_to_end(key)

    def _add_tick(self, message: Message) -> None:
        # A symbol whose tick waits in its own place stays there, or its ticks would pass each other.
        if self.ticks < self._settings.conflate_above and message.topic not in self._waiting:
            self.ticks += 1
            self._append(message)
        else:
            self._replace(message.topic, message)

    def _add_every_tick(self, message: Message) -> None:
        if self._gaps or self.ticks >= self._settings.tick_queue:
            self._drop_tick(message.topic)
            return
        self.ticks += 1
        self._append(message)
        if self.ticks > self._settings.hold_above and not self._holding:
            self._holding = True
            self._hold()

    def _drop_tick(self, topic: str) -> None:
        self.dropped += 1
        if topic not in self._gaps:
            self._gaps.add(topic)
            self._append_reply(Gap(topic=topic).text())

    def _add_lossless(self, message: Message) -> None:
        if self.lossless >= self._settings.lossless_limit:
            raise Overloaded(f"{self.lossless} lossless messages behind")
        self.lossless += 1
        self._append(message)

    def _add_log(self, message: Message) -> None:
        logs = self._minor_logs if _is_minor(message) else self._major_logs
        if len(self._minor_logs) + len(self._major_logs) >= self._settings.log_queue:
            self.dropped += 1
            victims = self._minor_logs or self._major_logs
            if logs is self._minor_logs and victims is self._major_logs:
                return
            del self._waiting[victims.popleft()]
        logs.append(self._append(message))

    def _uncount(self, item: Item) -> None:
        if isinstance(item, str):
            self._replies -= 1
        elif isinstance(item, Message):
            match item.data_class:
                case DataClass.STREAM:
                    self._uncount_tick()
                case DataClass.LOSSLESS:
                    self.lossless -= 1
                case DataClass.LOG:
                    (self._minor_logs if _is_minor(item) else self._major_logs).popleft()

    def _uncount_tick(self) -> None:
        self.ticks -= 1
        if self.ticks == 0:
            self._gaps.clear()
        if self._holding and self.ticks < self._settings.release_below:
            self._holding = False
            self._release()


def _is_minor(message: Message) -> bool:
    return isinstance(message.data, Log) and message.data.level in (LogLevel.DEBUG, LogLevel.INFO)
