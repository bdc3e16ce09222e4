"""Keeps the cache as the read view is, whatever Redis does meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import structlog

from vnpy_core.adapters.cache.settings import CacheSettings
from vnpy_core.bus import topics
from vnpy_core.bus.envelope import CACHED, TICK, encode_message
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import KEEP_JOBS, KEEP_STOP_ORDERS, ReadView
from vnpy_core.domain.errors import CacheUnavailable, CoreError, describe
from vnpy_core.domain.events import Event, Halt, Job, Order, Quote, StopOrderUpdate, Trade
from vnpy_core.kit.retry import Backoff, Wait, wait_for_event
from vnpy_core.ports.cache import Cache, CacheMark
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.store import SinkState

PATTERNS = (*CACHED, f"{topics.TICK_PREFIX}*")
"""What `take` is to be subscribed to."""
KINDS = (*CACHED.values(), TICK)
CHUNK = 1_000
"""Values in one put, so that neither the loop nor Redis is held up; the mark moves with the last one."""
CONFIRM_S = 1.0
"""How often it is seen whether the cache still is as it was left, seconds."""
REFRESH_S = 60.0
"""How often all of it is kept from expiring, seconds."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 10.0
"""Between two tries while the server is away, seconds."""

_Name = tuple[str, str]
"""`(kind, key)`"""
_Value = Message | Event | bytes | None
"""What to write, encoded when it is; a plain event is the view's. None: remove it."""
_TOPICS = {kind: topic for topic, kind in CACHED.items()}

_COMPLETE = frozenset({"order", "trade"})
"""The kinds that `complete_from` tells of."""

_log = structlog.get_logger(__name__)


class CacheSink:
    """Loop thread only. One task writes every `flush_ms` what changed, the newest of each key; `close` ends it.

    All it needs to write again is in the read view: where the cache is lost, of another epoch, or was away, it is made
    anew from there. Finished orders, quotes and trades beyond `keep_finished` go, the oldest first.
    """

    def __init__(
        self,
        cache: Cache,
        view: ReadView,
        clock: Clock,
        settings: CacheSettings | None = None,
        *,
        epoch: Callable[[], str],
        node: str,
        conflict: Callable[[], str] = lambda: "",
        wait: Wait = wait_for_event,
        jitter: Callable[[], float] = random.random,
        name: str = "cache",
    ) -> None:
        """`epoch`: the journal's; `node`: the envelopes' source; `conflict`: why nothing may be written now, if so."""
        self._cache = cache
        self._view = view
        self._clock = clock
        self._settings = settings or CacheSettings()
        self._epoch = epoch
        self._node = node
        self._conflict = conflict
        self._wait = wait
        self._name = name
        self._changed: dict[_Name, _Value] = {}
        self._kept: dict[_Name, bytes] = {}
        self._kept_kinds: set[str] = set()
        keep = self._settings.keep_finished
        self._finished = {
            "order": _Finished(keep),
            "trade": _Finished(keep),
            "quote": _Finished(keep),
            "stop_order": _Finished(min(keep, KEEP_STOP_ORDERS)),
            "job": _Finished(KEEP_JOBS),
        }
        self._complete_from = 0
        self._mark: CacheMark | None = None
        """As it was left; None: it is to be made anew."""
        self._is_new = True
        """Whether not even an empty cache was written yet."""
        self._seq = 0
        self._written = 0
        self._dead = 0
        self._dead_names: set[_Name] = set()
        self._error = ""
        self._backoff = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S, jitter)
        self._began_at = clock.now()
        self._confirmed_at = self._refreshed_at = clock.monotonic()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write: first all that the read view knows, also of before this start."""
        self._task = asyncio.create_task(self._run(), name=f"{self._name} sink")

    def take(self, message: Message) -> None:
        """A subscriber of the bus for `PATTERNS`, behind the read view."""
        if self._mark is None:
            return  # all is written from the view
        kind = TICK if message.topic.startswith(topics.TICK_PREFIX) else CACHED.get(message.topic)
        if kind is not None:
            self._note(kind, message.key, message.data, message.seq, message)

    def keep(self, kind: str, key: str, value: bytes | None) -> None:
        """Have something in the cache that is no event (None: no longer), as sessions that ended. Not of `KINDS`."""
        self._kept_kinds.add(kind)
        if value is None:
            self._kept.pop((kind, key), None)
        else:
            self._kept[kind, key] = value
        self._changed[kind, key] = value

    def state(self) -> SinkState:
        """How far it is."""
        return SinkState(
            name=self._name,
            seq=self._seq,
            lag=max(0, self._view.seq - self._seq),
            written=self._written,
            dead_letters=self._dead,
            error=self._error,
        )

    async def close(self, timeout: float) -> None:
        """Write what changed in `timeout` seconds, without waiting for a server that is away; then end."""
        self._closing.set()
        if self._task is None:
            return
        _, late = await asyncio.wait({self._task}, timeout=timeout)
        if late:
            self._task.cancel()
            await asyncio.wait(late)

    # --- the task ---

    async def _run(self) -> None:
        while True:
            is_last = self._closing.is_set()
            await self._guarded_step()
            if is_last:
                return
            pause = self._backoff.pause() if self._error else self._settings.flush_ms / 1000
            await self._wait(self._closing, pause)

    async def _guarded_step(self) -> None:
        """Write what changed; after a failure all is written anew, from the view."""
        try:
            await self._step()
        except CoreError as error:
            self._failed(describe(error))
        except Exception as error:  # noqa: BLE001 - a guarded door: the sink must outlive whatever a driver raises
            _log.exception("the cache's sink met an unexpected error")
            self._failed(describe(error))
        else:
            if self._error:
                _log.info("the cache is back", tries=self._backoff.failures)
            self._error = ""
            self._backoff.succeeded()

    async def _step(self) -> None:
        if conflict := self._conflict():
            raise CacheUnavailable(conflict)
        now = self._clock.monotonic()
        if self._mark is not None and now - self._confirmed_at >= CONFIRM_S:
            held, _ = await self._cache.load(())
            self._confirmed_at = now
            if held != self._mark:
                _log.warning("the cache was lost or changed; it is written again", mark=held)
                self._forget()
        epoch = self._epoch()
        if self._mark is None or self._mark.epoch != epoch:
            await self._begin(epoch)
        await self._flush()
        if now - self._refreshed_at >= REFRESH_S and self._mark is not None:
            await self._cache.put({}, self._mark)
            self._refreshed_at = now

    async def _begin(self, epoch: str) -> None:
        """Note all that the view has, and the removal of what else the cache has."""
        held, values = await self._cache.load([*KINDS, *self._kept_kinds])
        if held is None or held.epoch != epoch:
            await self._cache.clear()
            values = {}
        self._forget()
        # From here on `take` notes changes. Until all of this is written, the mark promises nothing.
        self._mark = CacheMark(epoch=epoch, seq=0, complete_from=self._view.seq)
        self._began_at = self._clock.now()
        self._note_all()
        self._changed.update(self._kept)
        for kind, entries in values.items():
            for key in entries:
                self._changed.setdefault((kind, key), None)
        self._confirmed_at = self._refreshed_at = self._clock.monotonic()

    def _note_all(self) -> None:
        """Everything in the view; in bulk, because the loop waits meanwhile."""
        view = self._view
        ended_by_kind: dict[str, Mapping[str, Order | Trade | Quote]] = {
            "order": view.finished_orders,
            "trade": view.trades,
            "quote": view.finished_quotes,
        }
        for topic, kind in CACHED.items():
            items: Iterable[tuple[str, Event]] = view.snapshot(topic)
            self._changed.update({(kind, key): event for key, event in items})
            if (ended := ended_by_kind.get(kind)) is not None:
                surplus = max(0, len(ended) - self._settings.keep_finished)
                newest = dict(islice(ended.items(), surplus, None))
                self._changed.update({(kind, key): event for key, event in newest.items()})
                self._finished[kind].fill({key: event.seq for key, event in newest.items()})
                if kind in _COMPLETE:
                    gone = max((event.seq for event in islice(ended.values(), surplus)), default=0)
                    self._complete_from = max(self._complete_from, gone)
            elif kind in self._finished:
                self._finished[kind].fill({key: 0 for key, event in items if _is_final(event)})
        self._changed.update({(TICK, key): tick for key, tick in view.ticks.items()})

    def _note(self, kind: str, key: str, event: Event, seq: int, value: _Value) -> None:
        self._changed[kind, key] = None if isinstance(event, Halt) and not event.active else value
        finished = self._finished.get(kind)
        if finished is None:
            return
        for gone, gone_seq in finished.take(key, seq, is_final=_is_final(event)):
            self._changed[kind, gone] = None
            if kind in _COMPLETE:
                self._complete_from = max(self._complete_from, gone_seq)

    async def _flush(self) -> None:
        """Put what changed up to now; the mark moves with the last of it."""
        assert self._mark is not None
        seq = self._view.seq
        complete_from = max(self._complete_from, self._view.complete_from)
        target = CacheMark(epoch=self._mark.epoch, seq=seq, complete_from=complete_from)
        changed, self._changed = self._changed, {}
        if not changed and target == self._mark and not self._is_new:
            return
        names = list(changed)
        for start in range(0, max(1, len(names)), CHUNK):
            changes: dict[str, dict[str, bytes | None]] = {}
            for name in names[start : start + CHUNK]:
                self._encode(name, changed[name], changes)
            is_last = start + CHUNK >= len(names)
            # What was removed may be missed from the first put on.
            mark = target if is_last else CacheMark(
                epoch=self._mark.epoch, seq=self._mark.seq, complete_from=max(complete_from, self._mark.complete_from)
            )  # fmt: skip
            await self._cache.put(changes, mark)
            self._written += sum(map(len, changes.values()))
            if self._mark is None:
                return
            self._mark = mark
        self._seq = seq
        self._is_new = False

    def _encode(self, name: _Name, value: _Value, changes: dict[str, dict[str, bytes | None]]) -> None:
        """What JSON has no words for is left out, and what was there before it goes: it is not the latest."""
        kind, key = name
        try:
            if isinstance(value, Event):
                value = self._message(kind, key, value)
            encoded = encode_message(value, self._node) if isinstance(value, Message) else value
        except (TypeError, ValueError, RecursionError) as error:
            encoded = None
            self._dead += 1
            if name not in self._dead_names and len(self._dead_names) < 1000:
                self._dead_names.add(name)
                _log.warning("cannot be cached", kind=kind, key=key, reason=describe(error))
        changes.setdefault(kind, {})[key] = encoded

    def _message(self, kind: str, key: str, event: Event) -> Message:
        """What the view has as it would be published now; class A events say themselves which place is theirs."""
        assert self._mark is not None
        topic = topics.tick(key) if kind == TICK else _TOPICS[kind]
        seq: int = getattr(event, "seq", 0) or self._view.seq
        return Message(topic, key, self._mark.epoch, seq, self._began_at, event)

    def _forget(self) -> None:
        """All is to be written anew."""
        self._mark = None
        self._is_new = True
        self._seq = 0
        self._changed.clear()
        self._complete_from = 0
        for finished in self._finished.values():
            finished.clear()

    def _failed(self, error: str) -> None:
        if not self._error:
            _log.error("the cache is away; it is written again when it is back", reason=error)
        self._error = error
        self._backoff.failed()
        self._forget()


class _Finished:
    """Things that change no more, in the order in which they ended; the oldest go."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._seqs: OrderedDict[str, int] = OrderedDict()

    def take(self, key: str, seq: int, *, is_final: bool) -> list[tuple[str, int]]:
        """What goes now."""
        self._seqs.pop(key, None)
        if not is_final:
            return []
        self._seqs[key] = seq
        return [self._seqs.popitem(last=False) for _ in range(len(self._seqs) - self._keep)]

    def fill(self, seqs: Mapping[str, int]) -> None:
        """In this order, as many as are kept at most."""
        self._seqs.update(seqs)

    def clear(self) -> None:
        self._seqs.clear()


def _is_final(event: Event) -> bool:
    match event:
        case Order():
            return not event.is_active
        case Trade():
            return True
        case Quote():
            return not event.status.is_active
        case StopOrderUpdate():
            return event.status != "WAITING"
        case Job():
            return event.state.is_final
        case _:
            return False
