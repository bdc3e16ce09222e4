"""What waits for one client, bounded by the rule of each class of data. No framework, no clock, no task."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from itertools import count
from typing import Final

from vnpy_core.bus import topics
from vnpy_core.bus.message import Message
from vnpy_core.bus.topics import DataClass
from vnpy_core.domain.enums import LogLevel
from vnpy_core.domain.errors import Overloaded
from vnpy_core.domain.events import Event, Log, Tick
from vnpy_core.features.streaming.recent import Recent
from vnpy_core.features.streaming.schemas import Gap
from vnpy_core.features.streaming.settings import StreamingSettings
from vnpy_core.features.streaming.wire import Encoding


class Snapshot:
    """The state at `seq` of one topic, or of the ticks of many contracts (`topic` is the prefix then).

    It is encoded frame by frame when its turn comes, and `events` may be shared, so that waiting costs little.
    """

    __slots__ = ("epoch", "events", "seq", "topic")

    def __init__(self, topic: str, epoch: str, seq: int, events: Sequence[Event]) -> None:
        self.topic = topic
        self.epoch = epoch
        self.seq = seq
        self.events = events

    def states(self) -> Iterator[tuple[str, Event]]:
        """Exact topic and state."""
        for event in self.events:
            yield (topics.tick(event.vt_symbol) if isinstance(event, Tick) else self.topic), event


class Replay:
    """What a client missed: the messages of some topics after one seq, up to `seq`.

    They are read from `recent` page by page when their turn comes, so that waiting costs nothing.
    """

    __slots__ = ("_after", "_recent", "_topics", "seq", "waiting")

    def __init__(self, recent: Recent, after: int, until: int, of: Collection[str]) -> None:
        self.seq = until
        self.waiting = sum(message.topic in of for message in recent.after(after, until))
        """How many are still to come."""
        self._recent = recent
        self._after = after
        self._topics = of

    def pages(self, size: int) -> Iterator[list[Message]]:
        """All of them. Raises Overloaded when its turn came so late that the next ones are not kept any more."""
        while self.waiting:
            if self._after < self._recent.complete_from:
                raise Overloaded("too slow: what was to be replayed is not kept any more")
            page = self._recent.after(self._after, self.seq, size)
            self._after = page[-1].seq
            wanted = [message for message in page if message.topic in self._topics]
            self.waiting -= len(wanted)
            yield wanted


class _Placed:
    """A message that took the place of an older one, and that place."""

    __slots__ = ("message", "seq")

    def __init__(self, message: Message, seq: int) -> None:
        self.message = message
        self.seq = seq


class _Answer:
    """A frame that was made for this client alone."""

    __slots__ = ("frame", "seq")

    def __init__(self, frame: bytes, seq: int) -> None:
        self.frame = frame
        self.seq = seq


class _Run:
    """Ticks one behind the other, for a reader who asked for every one: thousands may wait, each for a pointer."""

    __slots__ = ("ticks",)

    def __init__(self) -> None:
        self.ticks: deque[Message] = deque()

    @property
    def seq(self) -> int:
        """The place of the first."""
        return self.ticks[0].seq


Item = Message | Snapshot | Replay | bytes
_Key = int | tuple[str, str]
KEPT_UP: Final = 64
"""Items that may wait for a reader who keeps up."""
LARGE_BYTES: Final = 4_096
"""An answer past this is counted at once."""


class Outbox:
    """What waits, in order of arrival. Loop thread only.

    For a reader who keeps up it is one plain queue. Once more than `KEPT_UP` items wait they are sorted, until all are
    sent: class A messages into one queue, everything else into another, where a newer message about a waiting thing
    takes its place. Each item knows its place, the last class A seq before it, and that is how the two are merged: what
    takes the turn of an older message is told at the older's seq, so that after a frame with a seq the reader has every
    class A message up to it.

    `hold` and `release` are called when a reader of every tick falls behind and has caught up.
    """

    def __init__(
        self, settings: StreamingSettings, encoding: Encoding, hold: Callable[[], None], release: Callable[[], None]
    ) -> None:
        self.conflated = 0
        self.dropped = 0
        self._settings = settings
        self._encoding = encoding
        self._hold = hold
        self._release = release
        self._line: deque[Item | tuple[Message]] = deque()
        """All that waits for a reader who keeps up; a tick of which every one is asked for stands in a tuple."""
        self._line_limit = min(
            KEPT_UP,
            settings.conflate_above,
            settings.lossless_limit,
            settings.hold_above,
            settings.log_queue,
            settings.reply_limit,
        )
        self._sorted = False
        self._lossless: deque[Message] = deque()
        self._others: OrderedDict[_Key, Message | _Placed | Snapshot | Replay | _Answer | _Run] = OrderedDict()
        self._run: _Run | None = None
        """The last of the others, where it is one."""
        self._place = 0
        self._numbers = count()
        self._answers = self._answer_bytes = 0
        self._snapshots = self._states = 0
        self._ticks = self._runs = 0
        """Ticks waiting for a reader who asked for every one."""
        self._fresh: deque[int] = deque()
        """Where ticks wait that were not conflated yet."""
        self._places: dict[str, int] = {}
        """Where the only waiting tick of a topic is."""
        self._minor_logs: deque[int] = deque()
        self._major_logs: deque[int] = deque()
        self._holding = False
        self._gaps: set[str] = set()

    def __len__(self) -> int:
        return len(self._line) + len(self._lossless) + len(self._others) + self._ticks - self._runs

    @property
    def is_pressed(self) -> bool:
        """Whether so many class A messages wait that the reader should be served without pause."""
        return len(self._lossless) * 4 >= self._settings.lossless_limit

    @property
    def lossless(self) -> int:
        """Class A messages waiting, without those to be replayed."""
        return len(self._lossless) + sum(
            isinstance(item, Message) and item.data_class is DataClass.LOSSLESS for item in self._line
        )

    @property
    def oldest(self) -> datetime | None:
        """When the message was published that is next in line."""
        for item in self._line:
            if isinstance(item, Message | tuple):
                return (item[0] if isinstance(item, tuple) else item).ts
        message = self._lossless[0] if self._lossless else None
        for other in self._others.values():
            if message is not None and other.seq >= message.seq:
                break
            if isinstance(other, Message):
                return other.ts
            if isinstance(other, _Placed | _Run):
                return (other.message if isinstance(other, _Placed) else other.ticks[0]).ts
        return None if message is None else message.ts

    def add(self, message: Message, *, every_tick: bool) -> None:
        """Queue a message by its class. Raises Overloaded where the reader cannot be served without loss."""
        if self._sorted:
            self._sort_message(message, every_tick)
        else:
            self._line.append((message,) if every_tick else message)
            if len(self._line) > self._line_limit:
                self._sort_line()

    def add_item(self, item: Snapshot | Replay | bytes) -> None:
        """Queue an answer (a frame), a state or what was missed: for a replay nothing later may wait already.

        Raises Overloaded for a client that asks on and on without reading.
        """
        if self._sorted:
            self._sort(item)
        else:
            self._line.append(item)
            if len(self._line) > self._line_limit or _is_large(item):
                self._sort_line()

    def add_heartbeat(self, frame: bytes) -> None:
        """Queue a heartbeat, unless something waits: that tells as much."""
        if not self:
            self._line.append(frame)

    def pop(self) -> Item | None:
        """The next item to send."""
        if self._line:
            item = self._line.popleft()
            return item[0] if isinstance(item, tuple) else item
        return self._pop_sorted() if self._sorted else None

    def clear(self) -> None:
        """Forget everything and let a replay go on."""
        while self.pop() is not None:
            pass

    def _sort_line(self) -> None:
        self._sorted = True
        line, self._line = self._line, deque()
        for item in line:
            self._sort(item)

    def _sort(self, item: Item | tuple[Message]) -> None:
        match item:
            case Message():
                self._sort_message(item, every_tick=False)
            case (Message() as message,):
                self._sort_message(message, every_tick=True)
            case bytes():
                if self._answers >= self._settings.reply_limit or self._answer_bytes >= self._settings.reply_bytes:
                    raise Overloaded(f"{self._answers} answers wait unread")
                self._append_answer(item)
            case Snapshot():
                if self._states and self._states + len(item.events) > self._settings.snapshot_limit:
                    raise Overloaded(f"{self._states} states wait unread")
                self._snapshots += 1
                self._states += len(item.events)
                self._append(item)
            case Replay():
                self._append(item)

    def _sort_message(self, message: Message, every_tick: bool) -> None:
        match message.data_class:
            case DataClass.STREAM if every_tick:
                self._add_every_tick(message)
            case DataClass.STREAM:
                self._add_tick(message)
            case DataClass.LOSSLESS:
                self._add_lossless(message)
            case DataClass.LATEST:
                key = (message.topic, message.key)
                if key in self._others:
                    self._replace(key, message)
                else:
                    self._append(message, key)
            case DataClass.LOG:
                self._add_log(message)

    def _pop_sorted(self) -> Item | None:
        first = next(iter(self._others.values()), None)
        if self._lossless and (first is None or self._lossless[0].seq <= first.seq):
            return self._lossless.popleft()
        if first is None:
            self._sorted = False
            return None
        if isinstance(first, _Run):
            return self._pop_tick(first)
        key, _ = self._others.popitem(last=False)
        match first:
            case Message():
                self._uncount(key, first)
                return first
            case _Placed(message=message):
                self._uncount(key, message)
                return message.at(first.seq)
            case _Answer(frame=frame):
                self._answers -= 1
                self._answer_bytes -= len(frame)
                return frame
            case Snapshot():
                self._snapshots -= 1
                self._states -= len(first.events)
        return first

    def _pop_tick(self, run: _Run) -> Message:
        message = run.ticks.popleft()
        if not run.ticks:
            self._others.popitem(last=False)
            self._runs -= 1
            if run is self._run:
                self._run = None
        self._ticks -= 1
        if self._ticks == 0:
            self._gaps.clear()
        if self._holding and self._ticks < self._settings.release_below:
            self._holding = False
            self._release()
        return message

    def _append(self, item: Message | Snapshot | Replay | _Answer | _Run, key: _Key | None = None) -> int:
        """Returns its number, which is its key where it has no other."""
        number = next(self._numbers)
        self._run = None
        self._others[number if key is None else key] = item
        self._place = max(self._place, item.seq)
        return number

    def _append_answer(self, frame: bytes) -> None:
        self._answers += 1
        self._answer_bytes += len(frame)
        self._append(_Answer(frame, self._place))

    def _replace(self, key: _Key, message: Message) -> None:
        self.conflated += 1
        place = self._others[key].seq
        if self._snapshots:
            # The place may lie before a snapshot that is older than the message: it goes to the end, at its own seq.
            self._others.move_to_end(key)
            self._run = None
            place = message.seq
        self._others[key] = message if message.seq == place else _Placed(message, place)

    def _add_tick(self, message: Message) -> None:
        limit, topic = self._settings.conflate_above, message.topic
        if topic not in self._places and len(self._fresh) >= limit:
            self._conflate()
        # A symbol whose tick waits in its own place stays there, or its ticks would pass each other.
        if topic in self._places:
            self._replace(self._places[topic], message)
        elif len(self._fresh) < limit:
            self._fresh.append(self._append(message))
        else:
            self._places[topic] = self._append(message)

    def _conflate(self) -> None:
        """Of the waiting ticks, only the newest of each symbol stays, where it is."""
        for number in self._fresh:
            tick = self._others[number]
            assert isinstance(tick, Message)
            older = self._places.get(tick.topic)
            if older is not None:
                del self._others[older]
                self.conflated += 1
            self._places[tick.topic] = number
        self._fresh.clear()

    def _add_every_tick(self, message: Message) -> None:
        if self._gaps or self._ticks >= self._settings.tick_queue:
            self._drop_tick(message.topic)
            return
        run = self._run
        if run is not None:
            run.ticks.append(message)
        else:
            run = _Run()
            run.ticks.append(message)
            self._append(run)
            self._run = run
            self._runs += 1
        self._ticks += 1
        if self._ticks > self._settings.hold_above and not self._holding:
            self._holding = True
            self._hold()

    def _drop_tick(self, topic: str) -> None:
        self.dropped += 1
        if topic not in self._gaps:
            self._gaps.add(topic)
            self._append_answer(self._encoding.reply(Gap(topic=topic)))

    def _add_lossless(self, message: Message) -> None:
        if len(self._lossless) >= self._settings.lossless_limit:
            raise Overloaded(f"{len(self._lossless)} lossless messages behind")
        self._lossless.append(message)
        self._place = max(self._place, message.seq)

    def _add_log(self, message: Message) -> None:
        logs = self._minor_logs if _is_minor(message) else self._major_logs
        if len(self._minor_logs) + len(self._major_logs) >= self._settings.log_queue:
            self.dropped += 1
            victims = self._minor_logs or self._major_logs
            if logs is self._minor_logs and victims is self._major_logs:
                return
            del self._others[victims.popleft()]
        logs.append(self._append(message))

    def _uncount(self, key: _Key, message: Message) -> None:
        match message.data_class:
            case DataClass.STREAM if self._fresh and self._fresh[0] == key:
                self._fresh.popleft()
            case DataClass.STREAM if self._places.get(message.topic) == key:
                del self._places[message.topic]
            case DataClass.LOG:
                (self._minor_logs if _is_minor(message) else self._major_logs).popleft()


def _is_large(item: Snapshot | Replay | bytes) -> bool:
    match item:
        case bytes():
            return len(item) > LARGE_BYTES
        case Snapshot():
            return len(item.events) > KEPT_UP
        case _:
            return False


def _is_minor(message: Message) -> bool:
    return isinstance(message.data, Log) and message.data.level in (LogLevel.DEBUG, LogLevel.INFO)
