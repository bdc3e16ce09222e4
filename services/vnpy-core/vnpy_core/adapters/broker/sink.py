"""The publisher: carries the journal into the stream, and what passes into the channels, whatever Redis does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from vnpy_core.adapters.broker.settings import BrokerSettings
from vnpy_core.adapters.broker.waiting import Waiting
from vnpy_core.bus.envelope import encode_message, entry_of
from vnpy_core.bus.message import Message
from vnpy_core.bus.topics import DataClass
from vnpy_core.domain.errors import BrokerUnavailable, CoreError, StreamMoved, describe
from vnpy_core.kit.retry import Backoff, Wait, wait_for_event
from vnpy_core.ports.broker import Broker, Entry, Signal
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.journal import Journal, Row
from vnpy_core.ports.store import SinkState

PATTERNS = ("*",)
"""What `take` is to be subscribed to."""
POLL_S = 1.0
"""How often the journal is looked at when nobody calls `wake`, and the server when there is nothing new, seconds."""
LINGER_S = 0.002
"""Rows that come within this time after a write are written together, seconds."""
SIGNAL_LINGER_S = 0.004
"""And what passes: this long after the first one, seconds."""
SIGNALS = 500
"""Sent in one round trip."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 10.0
"""Between two tries while the server is away, seconds."""
AGE_S = 60.0
"""How often it is looked up from which row on events are young enough, seconds."""

_payloads = msgspec.json.Decoder(msgspec.Raw)

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Place:
    """Where in the journal and in the stream it is."""

    epoch: str
    cursor: int
    """Journal rows up to this seq are dealt with."""
    prev_seq: int
    """Of the next entry."""
    last: int | None
    """What the stream ends at; None: there is none yet."""


@dataclass(slots=True)
class _Read:
    """What was made of some rows."""

    cursor: int
    rows: int
    entries: list[Entry]
    dead: list[tuple[int, str]]
    is_new_epoch: bool


class BrokerSink:
    """Loop thread only, but for `drained`. One task writes the stream, one the channels; `close` ends them.

    The stream's own last id is the cursor, and an append that may or may not have happened is looked up there: each
    event stands in the stream once. Where the server lost the stream, the newest `refill` events are written again,
    under the same ids.
    """

    def __init__(
        self,
        broker: Broker,
        journal: Journal,
        clock: Clock,
        settings: BrokerSettings | None = None,
        *,
        node: str,
        batch: int = 500,
        wait: Wait = wait_for_event,
        jitter: Callable[[], float] = random.random,
        name: str = "broker",
    ) -> None:
        """`node`: the envelopes' source; `batch`: rows in one append; `wait`: how time passes; `jitter`: 0 to 1."""
        self._broker = broker
        self._journal = journal
        self._clock = clock
        self._settings = settings or BrokerSettings()
        self._node = node
        self._batch = batch
        self._wait = wait
        self._name = name
        self.drained = 0
        """Journal rows up to this seq are in the stream."""
        self.signals_sent = 0
        self.conflict = ""
        """Why nothing may be published now: another core publishes under this name; empty where none does."""
        self._place: _Place | None = None
        self._written = 0
        self._dead = 0
        self._error = ""
        self._backoff = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S, jitter)
        self._heard_at = 0.0
        self._keep_from = 0
        self._aged_at = clock.monotonic() - AGE_S
        self._waiting = Waiting(self._settings.queue)
        self._unsendable = 0
        self._unsendable_topics: set[str] = set()
        self._signal_error = ""
        self._signal_backoff = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S, jitter)
        self._woken = asyncio.Event()
        self._signalled = asyncio.Event()
        self._closing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to publish. Connects where the caller could not."""
        self._tasks = {
            asyncio.create_task(self._run(), name=f"{self._name} sink"),
            asyncio.create_task(self._pass_on(), name=f"{self._name} signals"),
        }

    def wake(self) -> None:
        """The journal has new rows."""
        self._woken.set()

    def take(self, message: Message) -> None:
        """A subscriber of the bus for `PATTERNS`: what is lossless comes from the journal, all else passes here."""
        if message.data_class is DataClass.LOSSLESS:
            self._woken.set()
        else:
            self._waiting.add(message)
            self._signalled.set()

    @property
    def signals_conflated(self) -> int:
        """Messages that a newer one of their topic and key replaced before they were sent."""
        return self._waiting.conflated

    @property
    def signals_dropped(self) -> int:
        """Messages that never were sent, for want of room, of a server, or of JSON that says what they say."""
        return self._waiting.dropped + self._unsendable

    @property
    def signals_waiting(self) -> int:
        """Messages that are not sent yet."""
        return len(self._waiting)

    def state(self) -> SinkState:
        """How far the stream is."""
        return SinkState(
            name=self._name,
            seq=self.drained,
            lag=max(0, self._journal.state().last_seq - self.drained),
            written=self._written,
            dead_letters=self._dead,
            error=self._error,
        )

    async def close(self, timeout: float) -> None:
        """Publish what can be in `timeout` seconds, without waiting for a server that is away; then end."""
        self._closing.set()
        self._woken.set()
        self._signalled.set()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=timeout)
        if late:
            for task in late:
                task.cancel()
            await asyncio.wait(late)
        left = self.state().lag
        if left:
            _log.warning("the message bus lacks rows of the journal; the next start brings them", rows=left)

    # --- the stream ---

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            is_closing = self._closing.is_set()  # a step that began before may have looked too early
            done = await self._guarded_step()
            if is_closing:
                if not done:
                    return
            elif self._error:
                await self._wait(self._closing, self._backoff.pause())
            elif done < self._batch:
                await self._wait(self._closing, LINGER_S)
                await self._wait(self._woken, POLL_S)

    async def _guarded_step(self) -> int:
        """One step; 0 where there was nothing to do, or it failed."""
        try:
            done = await self._step()
        except StreamMoved as error:
            self.conflict = describe(error) if error.extra.get("by_other") else ""
            self._failed(describe(error))
            return 0
        except CoreError as error:
            self._failed(describe(error))
            return 0
        except Exception as error:  # noqa: BLE001 - a guarded door: the sink must outlive whatever a driver raises
            _log.exception("the message bus' sink met an unexpected error")
            self._failed(describe(error))
            return 0
        self._succeeded()
        return done

    async def _step(self) -> int:
        """Write a batch; how many rows were in it. Raises CoreError."""
        place = self._place
        if place is None:
            place = self._place = await self._find_place()
        elif self._clock.monotonic() - self._heard_at >= POLL_S:
            await self._confirm(place)
        read = await asyncio.to_thread(self._read, place)
        for seq, reason in read.dead:
            self._dead += 1
            _log.critical("a journal row cannot be published; it is left out", seq=seq, reason=reason)
        if read.entries:
            await self._broker.append(place.epoch, read.entries, keep_from=await self._young_from())
            self._heard_at = self._clock.monotonic()
            place.last = place.prev_seq = read.entries[-1].seq
            self._written += len(read.entries)
        place.cursor = self.drained = max(place.cursor, read.cursor)
        if read.is_new_epoch:
            self._place = None
            return self._batch
        return read.rows

    async def _find_place(self) -> _Place:
        """Where to go on: after the stream's last entry; in a new stream, at the newest `refill` rows."""
        epoch = self._journal.epoch
        last = await self._broker.begin(epoch)
        self._heard_at = self._clock.monotonic()
        state = self._journal.state()
        start = max(state.first_seq - 1, state.last_seq - self._settings.refill, 0)
        if last is not None and last > state.last_seq:
            detail = f"the stream ends at {last}, the journal at {state.last_seq}: another data folder has its epoch"
            raise StreamMoved(detail, by_other=True)
        if last is not None and last + 1 < state.first_seq:
            # Readers see by the next entry's `prev_seq` that there is a gap, and start from a snapshot.
            _log.error("the stream lacks rows that the journal has no more", after=last, before=state.first_seq)
            last = await self._broker.begin(epoch, anew=True)
        if last is None:
            self.drained = start
            return _Place(epoch, start, start, None)
        self.drained = last
        return _Place(epoch, last, last, last)

    async def _confirm(self, place: _Place) -> None:
        """See that all is as it was, and say that this core is still there. Raises StreamMoved."""
        last = await self._broker.begin(place.epoch)
        self._heard_at = self._clock.monotonic()
        if last != place.last:
            found = "is lost" if last is None else f"ends at {last}"
            raise StreamMoved(f"the stream {found}, this core wrote up to {place.last}")

    def _read(self, place: _Place) -> _Read:
        """Rows of the journal as entries. Any thread; raises JournalFailed, StreamMoved (they do not follow)."""
        rows = self._journal.read(place.cursor, self._batch)
        if rows and rows[0].seq > place.cursor + 1:
            # The store had them, so they went before they were carried. To go on here would say that there were none.
            raise StreamMoved(f"the journal's rows after {place.cursor} were cut, it begins at {rows[0].seq}")
        read = _Read(place.cursor, len(rows), [], [], is_new_epoch=False)
        prev_seq = place.prev_seq
        for row in rows:
            if row.epoch != place.epoch:
                if row.epoch == self._journal.epoch:
                    read.is_new_epoch = True
                    return read
            else:
                try:
                    entry = self._entry(row, prev_seq)
                except (ValueError, TypeError) as error:
                    read.dead.append((row.seq, describe(error)))
                    entry = None
                if entry is not None:
                    read.entries.append(entry)
                    prev_seq = entry.seq
            read.cursor = row.seq
        return read

    def _entry(self, row: Row, prev_seq: int) -> Entry | None:
        """Raises ValueError for a payload that no reader could decode."""
        entry = entry_of(row, prev_seq, self._node)
        if entry is not None:
            _payloads.decode(row.payload)
        return entry

    async def _young_from(self) -> int:
        """The seq below which events are too old; 0 where none is known to be."""
        now = self._clock.monotonic()
        if now - self._aged_at >= AGE_S:
            self._aged_at = now
            oldest = self._clock.now().timestamp() - self._settings.keep_hours * 3600
            self._keep_from = await asyncio.to_thread(self._first_since, int(oldest * 1_000_000))
        return self._keep_from

    def _first_since(self, ts: int) -> int:
        """The first row after a moment, by bisection; 0 where the journal begins after it. Any thread."""
        state = self._journal.state()
        low, high = state.first_seq, state.last_seq + 1
        first = low
        while low < high:
            middle = (low + high) // 2
            rows = self._journal.read(middle - 1, 1)
            if rows and rows[0].ts < ts:
                low = middle + 1
            else:
                high = middle
        return low if low > first else 0

    def _failed(self, error: str) -> None:
        if not self._error:
            _log.error("the message bus lacks events; the journal keeps them", reason=error)
        self._error = error
        self._backoff.failed()
        # Whether the last append happened, only the stream knows.
        self._place = None

    def _succeeded(self) -> None:
        if self._error:
            _log.info("the message bus is back", tries=self._backoff.failures)
        self._error = self.conflict = ""
        self._backoff.succeeded()

    # --- the channels ---

    async def _pass_on(self) -> None:
        while not self._closing.is_set():
            await self._signalled.wait()
            await self._wait(self._closing, SIGNAL_LINGER_S)
            self._signalled.clear()
            while len(self._waiting) and not self._signal_error:
                await self._guarded_publish()
            if self._signal_error:
                await self._wait(self._closing, self._signal_backoff.pause())
                self._signal_error = ""
                self._signalled.set()

    async def _guarded_publish(self) -> None:
        """Send some of what waits; ticks and logs go at most once, states are tried again."""
        if self.conflict:
            self._waiting.clear()
            return
        messages = self._waiting.next(SIGNALS)
        try:
            signals = [signal for message in messages if (signal := self._signal(message)) is not None]
            await self._broker.publish(signals)
        except BrokerUnavailable as error:
            self._signal_failed(messages, describe(error))
            return
        except Exception as error:  # noqa: BLE001 - a guarded door: the sink must outlive whatever a driver raises
            _log.exception("the message bus' sink met an unexpected error")
            self._signal_failed(messages, describe(error))
            return
        self._signal_backoff.succeeded()
        self.signals_sent += len(signals)

    def _signal(self, message: Message) -> Signal | None:
        """None for what JSON has no words for: a strategy's variable may hold anything."""
        try:
            return message.topic, encode_message(message, self._node)
        except (TypeError, ValueError, RecursionError) as error:
            self._unsendable += 1
            if message.topic not in self._unsendable_topics and len(self._unsendable_topics) < 1000:
                self._unsendable_topics.add(message.topic)
                _log.warning("cannot be published", topic=message.topic, key=message.key, reason=describe(error))
            return None

    def _signal_failed(self, messages: list[Message], error: str) -> None:
        self._waiting.put_back(messages)
        self._signal_error = error
        self._signal_backoff.failed()
