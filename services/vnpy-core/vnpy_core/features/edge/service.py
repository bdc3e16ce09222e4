"""The rules of following a core: seed a view, follow its stream without a gap, hear its channels, and mend.

Three tasks, each behind a guarded door, none of which ever ends by itself:

- *stream*: class A in order. It loads the whole state from the cache where it has none, or where the chain of
  `prev_seq` broke; after a lost connection it goes on from where it was, so that sessions stay open.
- *channels*: what is sent at most once: ticks, and the latest of everything else.
- *tending*: because channels lose what is sent while nobody listens, the cache is compared with the view after every
  connect and now and then, and what differs is published.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

import msgspec
import structlog

from vnpy_core.bus import topics
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.envelope import CACHED, TICK, Envelope, decode
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.bus.topics import DataClass
from vnpy_core.domain.errors import BrokerUnavailable, CacheUnavailable, describe
from vnpy_core.domain.events import Account, Contract, Event, Position, Tick
from vnpy_core.features.edge.settings import EdgeSettings
from vnpy_core.kit.retry import Backoff
from vnpy_core.kit.tasks import BackgroundTasks
from vnpy_core.ports.broker import Broker, Entry, Signal
from vnpy_core.ports.cache import Cache, CacheMark
from vnpy_core.ports.clock import Clock

SERVICE_RESTART: Final = 1012
"""WebSocket close code: come again, at once."""
RECENT: Final = 10_000
"""Entries of the stream's end from which clients may resume."""
READ: Final = 500
"""Entries taken in one read."""
READ_WAIT_S: Final = 1.0
"""How long a read waits for the next entry, and so how soon another epoch is noticed, seconds."""
TURN: Final = 100
"""Messages after which sessions and requests have their turn."""
TEND_S: Final = 1.0
"""How often figures are read, and what a mend that is due waits at most, seconds."""
PATIENCE_S: Final = 5.0
"""How long a stream that is not there is waited for, seconds: a core that wrote long ago has none to fill it with."""
OLD_PATIENCE_S: Final = 30.0
"""How long a state older than the one that is served is not believed, seconds: a Redis that was restored from a copy
has it until the core writes again, which may wait 10 s between two tries."""
HEAVY_EVERY: Final = 10
"""Contracts and ticks are many: each so many refreshes they are compared too."""
RETRY_S: Final = 0.1
RETRY_MOST_S: Final = 5.0

_TOPIC_OF: Final = {kind: topic for topic, kind in CACHED.items()}
_LOSSLESS_KINDS: Final = frozenset(
    kind for topic, kind in CACHED.items() if topics.data_class(topic) is DataClass.LOSSLESS
)
_LATEST_KINDS: Final = tuple(kind for kind in CACHED.values() if kind not in _LOSSLESS_KINDS)
_HEAVY_KINDS: Final = frozenset({CACHED[topics.CONTRACT_UPDATED], TICK})
_LIGHT_KINDS: Final = tuple(kind for kind in _LATEST_KINDS if kind not in _HEAVY_KINDS)
_ALL_KINDS: Final = (*CACHED.values(), TICK)
_WITH_STATE: Final = (DataClass.LATEST, DataClass.STREAM)
_UNDECODABLE: Final = (msgspec.DecodeError, KeyError, ValueError, RecursionError)

_MOMENT: Final = timedelta(microseconds=1)

_Name = tuple[str, str]
"""Kind and key of a thing in the cache."""

_log = structlog.get_logger(__name__)


class FeedState(StrEnum):
    """Where an edge is with its core."""

    CONNECTING = "CONNECTING"
    """Redis does not answer, or the core has not published anything yet; there is nothing to serve."""
    LOADING = "LOADING"
    """The core's state is being read; what was known before, if anything, is served meanwhile."""
    FOLLOWING = "FOLLOWING"
    """All is well."""
    STALE = "STALE"
    """Redis answers, and there has been no sign of the core for long."""
    LOST = "LOST"
    """Redis does not answer, or has lost everything; what was known last is served."""


class Hub(Protocol):
    """What the feed tells the WebSocket sessions. Loop thread only."""

    def set_epoch(self, epoch: str) -> None:
        """Sequences of another epoch can no longer be resumed."""
        ...

    def seed_recent(self, messages: Sequence[Message], complete_from: int) -> None:
        """From these class A messages, oldest first, clients may resume; none above `complete_from` is missing."""
        ...

    def drop_sessions(self, code: int, reason: str) -> None:
        """Close every session; the clients come again."""
        ...


class FeedStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How an edge follows its core; counts are totals since the start."""

    state: FeedState
    detail: str
    """Why it is not FOLLOWING; empty when it is."""
    epoch: str
    seq: int
    """The last class A event that was published here."""
    position: int
    """The last entry of the core's stream that was taken in."""
    stream_seq: int | None
    """The last entry of the core's stream, when it was last looked at; null where there is none."""
    cache_seq: int | None
    """How far the core's cache is, when it was last looked at."""
    lag: int
    """By how many numbers this edge is behind the stream or the cache, whichever is further."""
    silent_s: float
    """Since the core's last sign of life, seconds."""
    listening: bool
    """Whether the channels are heard."""
    loads: int
    """Times the whole state was read."""
    interruptions: int
    """Times a connection was lost, or an answer did not come in time."""
    events: int
    """Entries of the stream taken in."""
    signals: int
    """Messages of the channels taken in."""
    mended: int
    """Differences between the view and the cache that were found and published."""
    duplicates: int
    """Events that came again and were left out."""
    foreign: int
    """Messages of the channels left out: of another epoch, or of a topic that has no place there."""
    undecodable: int
    """Messages left out because they cannot be understood."""
    faults: int
    """Errors of our own, which the log has."""


class _NotYet(Exception):
    """The core's state cannot be read yet; the message says why."""


class _Broken(Exception):
    """Entries of the stream are missing."""


class EdgeFeed:
    """Loop thread only. Feeds a view, a bus and the sessions' hub with what one core publishes.

    `view` stays the same object; its content is replaced in one step of the loop, together with the hub's.
    """

    def __init__(
        self,
        broker: Broker,
        cache: Cache,
        *,
        bus: Bus,
        view: ReadView,
        hub: Hub,
        clock: Clock,
        settings: EdgeSettings,
        recent: int = RECENT,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`recent`: how many entries of the stream's end clients may resume from, about.

        `wait` pauses for some seconds; `jitter` gives numbers from 0 to 1 that keep edges from acting in step.
        """
        self._broker = broker
        self._cache = cache
        self._bus = bus
        self._view = view
        self._hub = hub
        self._clock = clock
        self._settings = settings
        self._recent = recent
        self._wait = wait
        self._jitter = jitter
        self._tasks = BackgroundTasks()
        self._state = FeedState.CONNECTING
        self._detail = "not connected yet"
        self._loaded = asyncio.Event()
        self._intact = False
        """Whether the stream can be followed from `position`."""
        self._epoch = ""
        self._seq = 0
        self._position = 0
        self._stream_seq: int | None = None
        self._mark: CacheMark | None = None
        self._heard_at = clock.monotonic()
        self._listening = False
        self._without_stream_since: float | None = None
        self._newest: datetime | None = None
        """When the newest of what is served was published."""
        self._older_since: float | None = None
        """Since when Redis has an older state than that."""
        self._mends_due = 0
        self._refreshed_at = clock.monotonic()
        self._refreshes = 0
        self._held: dict[_Name, datetime] = {}
        """When what is held of each thing was published; not of class A, which its sequence orders."""
        self._looked_at: dict[_Name, int] = {}
        """Hashes of the cache's entries as they were last compared."""
        self._missing: dict[_Name, Event] = {}
        """Things that the cache did not have when it was last compared."""
        self._ahead: dict[_Name, datetime] = {}
        """What the cache brought before the channels did, when it was last compared."""
        self._loads = self._interruptions = self._events = self._signals = self._mended = 0
        self._duplicates = self._foreign = self._undecodable = self._faults = 0

    def start(self) -> None:
        """Begin to follow."""
        self._tasks.spawn(self._for_ever(self._follow, FeedState.LOST), "edge stream")
        self._tasks.spawn(self._for_ever(self._listen, None), "edge channels")
        self._tasks.spawn(self._for_ever(self._tend, None), "edge tending")

    async def close(self) -> None:
        """Stop following. The broker and the cache are closed by whoever opened them."""
        await self._tasks.cancel()

    async def wait_loaded(self) -> None:
        """Return when there is a state to serve."""
        await self._loaded.wait()

    @property
    def loaded(self) -> bool:
        """Whether there is a state to serve, old as it may be."""
        return self._loaded.is_set()

    @property
    def state(self) -> FeedState:
        """Where it is with its core."""
        if self._state is FeedState.FOLLOWING and self._silent_s > self._settings.stale_s:
            return FeedState.STALE
        return self._state

    @property
    def epoch(self) -> str:
        """Of what is served; empty before anything is."""
        return self._epoch

    @property
    def seq(self) -> int:
        """The last class A event that was published here."""
        return self._seq

    @property
    def taken_in(self) -> int:
        """Messages since the start."""
        return self._events + self._signals

    def core_seen(self) -> None:
        """Somebody else has heard of the core: it lives, though it may have nothing to say."""
        self._heard_at = self._clock.monotonic()

    def status(self) -> FeedStatus:
        """At a glance."""
        state = self.state
        detail = f"no sign of the core for {self._silent_s:.0f} s" if state is FeedState.STALE else self._detail
        return FeedStatus(
            state=state,
            detail="" if state is FeedState.FOLLOWING else detail,
            epoch=self._epoch,
            seq=self._seq,
            position=self._position,
            stream_seq=self._stream_seq,
            cache_seq=self._mark.seq if self._mark else None,
            lag=max(
                0, (self._stream_seq or 0) - self._position, (self._mark.seq if self._mark else 0) - self._position
            ),
            silent_s=round(self._silent_s, 3),
            listening=self._listening,
            loads=self._loads,
            interruptions=self._interruptions,
            events=self._events,
            signals=self._signals,
            mended=self._mended,
            duplicates=self._duplicates,
            foreign=self._foreign,
            undecodable=self._undecodable,
            faults=self._faults,
        )

    @property
    def _silent_s(self) -> float:
        return self._clock.monotonic() - self._heard_at

    # A guarded door around each task

    async def _for_ever(self, work: Callable[[Backoff], Awaitable[None]], lost: FeedState | None) -> None:
        """`work` again and again, later and later while it fails; `lost`: what the state is while it does."""
        retry = Backoff(RETRY_S, RETRY_MOST_S, self._jitter)
        while True:
            try:
                await work(retry)
            except (BrokerUnavailable, CacheUnavailable) as error:
                self._interruptions += 1
                if not retry.failures:
                    _log.warning("the core cannot be followed", error=describe(error))
                self._fell_back(lost, describe(error))
            except _NotYet as reason:
                self._fell_back(lost, str(reason))
            except Exception as error:  # noqa: BLE001 - a guarded door: an edge follows its core whatever comes
                self._faults += 1
                _log.exception("following the core failed")
                self._fell_back(lost, describe(error))
            retry.failed()
            await self._wait(retry.pause())

    def _fell_back(self, lost: FeedState | None, detail: str) -> None:
        if lost is not None:
            self._state = lost if self.loaded else FeedState.CONNECTING
            self._detail = detail

    # The stream

    async def _follow(self, retry: Backoff) -> None:
        await self._broker.open()
        await self._cache.open()
        while True:
            epoch = await self._current_epoch()
            if epoch != self._epoch or not self._intact:
                self._state, self._detail = FeedState.LOADING, "reading the core's state"
                await self._load(epoch)
            elif self._state is not FeedState.FOLLOWING:
                _log.info("following the core again", epoch=epoch, seq=self._seq)
            self._state = FeedState.FOLLOWING
            self._mends_due = 2
            try:
                await self._read_on(epoch, retry)
            except _Broken as why:
                self._intact = False
                _log.warning("the stream has a gap; reading the core's state anew", why=str(why))

    async def _current_epoch(self) -> str:
        epoch = await self._broker.epoch()
        if epoch is None:
            self._stream_seq = None
            raise _NotYet("Redis has nothing that the core published; waiting for the core")
        return epoch

    async def _read_on(self, epoch: str, retry: Backoff) -> None:
        """Take in what comes, until there is another epoch. Raises _Broken, _NotYet."""
        while True:
            entries = await self._broker.read(epoch, self._position, READ, READ_WAIT_S)
            if entries:
                await self._take(entries)
            elif await self._current_epoch() != epoch:
                return
            retry.succeeded()

    async def _take(self, entries: Iterable[Entry]) -> None:
        for number, entry in enumerate(entries, 1):
            if entry.seq <= self._position:
                self._duplicates += 1
                continue
            if entry.prev_seq > self._position:
                raise _Broken(f"{entry.prev_seq} came before {entry.seq}, and {self._position} is known")
            self._position = entry.seq
            self._events += 1
            # Of positions and accounts the stream has what was journaled: once a second, without what only moved the
            # profit, and under seqs of its own. The channels have all of it, and the cache what they lost.
            message = self._decoded(entry.envelope, entry.seq)
            if message is not None and message.data_class is DataClass.LOSSLESS:
                self._seq = entry.seq
                self._publish(message)
            if number % TURN == 0:
                await asyncio.sleep(0)
        self.core_seen()

    def _publish(self, message: Message) -> None:
        if message.data_class in _WITH_STATE and message.topic != topics.RISK_EVENT:
            self._held[_name(message)] = message.ts
        if self._newest is None or message.ts > self._newest:
            self._newest = message.ts
        self._view.apply(message)
        self._bus.publish(message)

    def _is_newer(self, message: Message) -> bool:
        """Than what the channels brought of the same thing; what has no state is always news."""
        held = self._held.get(_name(message))
        return held is None or message.ts > held

    def _decoded(self, envelope: bytes, seq: int | None = None) -> Message | None:
        """With its own seq if it is class A and with ours otherwise; None for what cannot be understood."""
        try:
            return self._message(decode(envelope), seq)
        except _UNDECODABLE as error:
            self._undecodable += 1
            if self._undecodable & (self._undecodable - 1) == 0:  # the 1st, 2nd, 4th, 8th …
                _log.error("an event cannot be understood", count=self._undecodable, error=str(error)[:200])
            return None

    def _message(self, envelope: Envelope, seq: int | None = None) -> Message:
        if topics.data_class(envelope.topic) is not DataClass.LOSSLESS:
            seq = self._seq
        return envelope.message(seq=seq)

    # The whole state

    async def _load(self, epoch: str) -> None:
        """Read the core's state and replace the view, the hub's recent messages and the sessions. Raises _NotYet."""
        await self._check_loadable(epoch)
        mark, kinds = await self._cache.load(_ALL_KINDS)
        if mark is None or not _is_whole(mark, epoch):
            raise _NotYet("the cache has changed meanwhile")
        entries = await self._broker.tail(epoch, self._recent)
        found = await self._decode_all(kinds)
        target = max(mark.seq, max((m.seq for (kind, _), m in found.items() if kind in _LOSSLESS_KINDS), default=0))
        if entries and entries[0].prev_seq > mark.seq:
            await self._bridge(epoch, mark.seq, entries[0].prev_seq, found)
        entries = await self._until(epoch, entries, target, mark.seq)
        recent = await self._fold(entries, mark.seq, found)
        newest = max((message.ts for message in [*found.values(), *recent]), default=None)
        if epoch != self._epoch and self._is_older(newest):
            raise _NotYet("Redis has an older state than the one served here; waiting for the core")
        self._newest = newest
        self._mark = mark
        self._replace(epoch, mark, found, recent, entries, target)

    async def _bridge(self, epoch: str, after: int, until: int, found: dict[_Name, Message]) -> None:
        """Fold in what lies between the mark and the stream's end: much, where positions change and nobody trades."""
        is_cut = False
        seen = 0
        while after < until:
            entries = await self._broker.read(epoch, after, READ, READ_WAIT_S)
            if not entries:
                raise _NotYet("the stream has changed meanwhile")
            is_cut = is_cut or entries[0].prev_seq > after
            after = entries[-1].seq
            seen += len(await self._fold([entry for entry in entries if entry.seq <= until], 0, found))
        if is_cut and seen:
            raise _NotYet("the cache is behind the stream; waiting for the core")

    async def _fold(self, entries: list[Entry], after: int, found: dict[_Name, Message]) -> list[Message]:
        """Put what is newer than the cache, above `after`, into `found`; returns the class A messages."""
        lossless: list[Message] = []
        for number, entry in enumerate(entries, 1):
            message = self._decoded(entry.envelope, entry.seq)
            if message is not None and message.data_class is DataClass.LOSSLESS:
                lossless.append(message)
                if entry.seq > after:
                    _keep_newer(found, message)
            if number % TURN == 0:
                await asyncio.sleep(0)
        return lossless

    async def _check_loadable(self, epoch: str) -> None:
        """Cheap questions first: reading all takes long."""
        mark, _ = await self._cache.load(())
        if mark is None:
            raise _NotYet("the cache is empty; waiting for the core")
        if mark.epoch != epoch:
            raise _NotYet("the cache is of another epoch; waiting for the core")
        if not _is_whole(mark, epoch):
            raise _NotYet("the core is writing the cache")
        last = await self._broker.last(epoch)
        if last is None and mark.seq and self._is_early():
            raise _NotYet("there is no stream; waiting for the core")
        if last is not None:
            self._without_stream_since = None
            if last < mark.seq:
                raise _NotYet("the stream is behind the cache; waiting for the core")

    def _is_early(self) -> bool:
        """Whether a stream that is not there may still come."""
        now = self._clock.monotonic()
        if self._without_stream_since is None:
            self._without_stream_since = now
        return now - self._without_stream_since < PATIENCE_S

    def _is_older(self, newest: datetime | None) -> bool:
        """Whether a state of another epoch is a former one: what the core wrote is as new as what it told before."""
        if newest is None or self._newest is None or newest >= self._newest:
            self._older_since = None
            return False
        now = self._clock.monotonic()
        if self._older_since is None:
            self._older_since = now
        return now - self._older_since < OLD_PATIENCE_S  # then it is the core's clock that was set back

    async def _until(self, epoch: str, entries: list[Entry], target: int, mark_seq: int) -> list[Entry]:
        """`entries` and those that follow, so that nothing the cache shows lies ahead of them. Raises _NotYet."""
        position = entries[-1].seq if entries else mark_seq
        while position < target:
            more = await self._broker.read(epoch, position, READ, READ_WAIT_S)
            if not more or more[0].prev_seq > position:
                raise _NotYet("the stream is behind the cache")
            entries = [*entries, *more]
            position = more[-1].seq
        return entries

    async def _decode_all(self, kinds: Mapping[str, Mapping[str, bytes]]) -> dict[_Name, Message]:
        found: dict[_Name, Message] = {}
        number = 0
        for kind in _ALL_KINDS:
            for key, envelope in kinds.get(kind, {}).items():
                message = self._decoded(envelope)
                if message is not None:
                    found[kind, key] = message
                number += 1
                if number % TURN == 0:
                    await asyncio.sleep(0)
        return found

    def _replace(
        self,
        epoch: str,
        mark: CacheMark,
        found: dict[_Name, Message],
        recent: list[Message],
        entries: list[Entry],
        seq: int,
    ) -> None:
        """In one step of the loop: nobody sees half of it."""
        # Every class A event up to the end of `entries` is in it, so any number up to there may be told.
        complete_from = entries[0].prev_seq if entries else seq
        self._seq = max(seq, complete_from, recent[-1].seq if recent else 0)
        self._epoch = epoch
        self._position = entries[-1].seq if entries else seq
        self._intact = True
        # By their numbers, because the oldest go first where there are too many.
        ordered = sorted(found.items(), key=lambda item: item[1].seq if item[0][0] in _LOSSLESS_KINDS else 0)
        self._view.clear()
        self._view.seed(
            others=(message.data for _, message in ordered), seq=self._seq, complete_from=mark.complete_from
        )
        self._held = {name: message.ts for name, message in found.items() if name[0] not in _LOSSLESS_KINDS}
        for notes in (self._looked_at, self._missing, self._ahead):
            notes.clear()
        if self.loaded:
            self._hub.drop_sessions(SERVICE_RESTART, "the core's state was read anew; resume")
        self._hub.set_epoch(epoch)
        self._hub.seed_recent(recent, complete_from)
        self._loads += 1
        self._stream_seq = max(self._stream_seq or 0, self._position)
        self.core_seen()
        self._loaded.set()
        _log.info("the core's state was read", epoch=epoch, seq=self._seq, things=len(found), resumable=len(recent))

    # The channels

    async def _listen(self, retry: Backoff) -> None:
        await self._broker.open()
        try:
            async with self._broker.listen(["*"]) as batches:
                self._listening = True
                self._mends_due = 2
                retry.succeeded()
                async for batch in batches:
                    await self._hear(batch)
        finally:
            self._listening = False

    async def _hear(self, batch: Sequence[Signal]) -> None:
        for number, (_, envelope) in enumerate(batch, 1):
            self._hear_one(envelope)
            if number % TURN == 0:
                await asyncio.sleep(0)

    def _hear_one(self, envelope: bytes) -> None:
        message = self._decoded(envelope)
        if message is None:
            return
        if message.epoch != self._epoch or message.data_class is DataClass.LOSSLESS:
            self._foreign += 1  # also before anything is loaded: the cache has what matters
            return
        self._signals += 1
        self.core_seen()
        # Only there times decide: a core's clock may be set back, and its channels would fall silent.
        if self._ahead and message.ts <= self._ahead.get(_name(message), message.ts - _MOMENT):
            self._duplicates += 1
            return
        self._publish(message)

    # Tending

    async def _tend(self, retry: Backoff) -> None:
        await self._broker.open()
        await self._cache.open()
        while True:
            await self._wait(TEND_S)
            if not self.loaded:
                continue
            self._stream_seq = await self._broker.last(self._epoch)
            mark, _ = await self._cache.load(())
            if mark is not None and mark != self._mark:
                self.core_seen()
            self._mark = mark
            await self._mend_where_due()
            retry.succeeded()

    async def _mend_where_due(self) -> None:
        is_time = self._clock.monotonic() - self._refreshed_at >= self._settings.refresh_s
        if not self._mends_due and not is_time:
            return
        heavy = self._mends_due > 0 or self._refreshes % HEAVY_EVERY == 0
        if await self.mend((*_LIGHT_KINDS, *sorted(_HEAVY_KINDS)) if heavy else _LIGHT_KINDS):
            self._mends_due = max(0, self._mends_due - 1)
            self._refreshed_at = self._clock.monotonic()
            self._refreshes += 1

    async def mend(self, kinds: Sequence[str]) -> bool:
        """Compare what is held with the cache: publish what is newer there, and let go of what is gone.

        Returns whether the cache could be compared. Raises CacheUnavailable.
        """
        epoch = self._epoch
        mark, cached = await self._cache.load(kinds)
        if mark is None or not _is_whole(mark, epoch):
            return False
        self._ahead.clear()
        number = 0
        for kind in kinds:
            envelopes = cached.get(kind, {})
            for key, envelope in envelopes.items():
                if self._is_unseen((kind, key), envelope):
                    self._compare(kind, key, envelope)
                number += 1
                if number % TURN == 0:
                    await asyncio.sleep(0)
                    if self._epoch != epoch:
                        return False
            if kind != TICK:
                self._let_go(kind, envelopes)
        return True

    def _is_unseen(self, name: _Name, envelope: bytes) -> bool:
        """Most are as they were, and what is held never becomes older."""
        hashed = hash(envelope)
        if self._looked_at.get(name) == hashed:
            return False
        self._looked_at[name] = hashed
        return True

    def _compare(self, kind: str, key: str, envelope: bytes) -> None:
        message = self._decoded(envelope)
        if message is None or message.epoch != self._epoch or not self._is_newer(message):
            return
        if self._current(message) == message.data:
            self._held[kind, key] = message.ts
            return
        self._mended += 1
        self._ahead[kind, key] = message.ts
        self._publish(message)

    def _current(self, message: Message) -> Event | None:
        """What the view has of the same thing."""
        view, key = self._view, message.key
        match message.data:
            case Tick():
                return view.ticks.get(key)
            case Contract() as contract:
                return view.contracts.get(contract.vt_symbol, {}).get(contract.gateway_name)
            case Position():
                return view.positions.get(key)
            case Account():
                return view.accounts.get(key)
            case _:  # few
                return dict(view.snapshot(message.topic)).get(key)

    def _let_go(self, kind: str, cached: Mapping[str, bytes]) -> None:
        """Of what the cache lacks twice in a row and nobody has told of since: the cache may be a little late."""
        held = dict(self._view.snapshot(_TOPIC_OF[kind]))
        for name in [name for name in self._held if name[0] == kind and name[1] not in held]:
            self._drop_notes(name)  # the view has let go of it by itself, as of jobs that ended long ago
        for key, event in held.items():
            name = (kind, key)
            if key in cached:
                self._missing.pop(name, None)
            elif self._missing.get(name) is event:
                self._view.forget(event)
                self._drop_notes(name)
            else:
                self._missing[name] = event

    def _drop_notes(self, name: _Name) -> None:
        self._held.pop(name, None)
        self._looked_at.pop(name, None)
        self._missing.pop(name, None)


def _name(message: Message) -> _Name:
    return CACHED.get(message.topic, TICK), message.key


def _keep_newer(found: dict[_Name, Message], message: Message) -> None:
    if message.topic not in CACHED:
        return
    name = _name(message)
    held = found.get(name)
    lossless = message.data_class is DataClass.LOSSLESS
    if held is None or (message.seq > held.seq if lossless else message.ts > held.ts):
        found[name] = message


def _is_whole(mark: CacheMark, epoch: str) -> bool:
    """Whether the cache has all of this epoch: a core that writes it anew says so by a mark that promises nothing."""
    return mark.epoch == epoch and mark.seq >= mark.complete_from
