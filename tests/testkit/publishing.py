"""A core's publishing half: a real journal, the bus, the read view and the sinks, without VnPy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from testkit.journal_rows import order, row, trade
from vnpy_core.adapters.broker.settings import BrokerSettings
from vnpy_core.adapters.broker.sink import PATTERNS, BrokerSink
from vnpy_core.adapters.cache.settings import CacheSettings
from vnpy_core.adapters.cache.sink import PATTERNS as CACHE_PATTERNS
from vnpy_core.adapters.cache.sink import CacheSink
from vnpy_core.adapters.journal.settings import JournalSettings
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.bus import records, topics
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.envelope import key_of, message_of
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.enums import Status
from vnpy_core.domain.errors import BrokerUnavailable
from vnpy_core.domain.events import Event
from vnpy_core.kit.clock import SystemClock
from vnpy_core.ports.broker import Broker, Entry
from vnpy_core.ports.cache import Cache
from vnpy_core.ports.journal import Row

SYSTEM = SystemClock()


def open_journal(folder: Path, *, epoch: str = "e1", **settings: Any) -> SqliteJournal:
    values = {"reserve_mb": 1, "durability": "process", **settings}
    return SqliteJournal(
        folder / "journal.sqlite",
        settings=JournalSettings(**values),
        boot_id="boot",
        run_id="run",
        new_epoch=lambda: epoch,
    )


class Core:
    """What a core does with its events. `happen` is the venue."""

    def __init__(
        self, journal: SqliteJournal, broker: Broker, cache: Cache | None = None, *, node: str = "core",
        broker_settings: BrokerSettings | None = None, cache_settings: CacheSettings | None = None,
    ) -> None:  # fmt: skip
        self.journal = journal
        self.broker = broker
        self.bus = Bus()
        self.view = ReadView()
        self.sink = BrokerSink(broker, journal, SYSTEM, broker_settings, node=node)
        self.bus.subscribe(["*"], self.view.apply)
        self.bus.subscribe(PATTERNS, self.sink.take)
        self.cache_sink: CacheSink | None = None
        if cache is not None:
            self.cache_sink = CacheSink(
                cache, self.view, SYSTEM, cache_settings, epoch=lambda: journal.epoch, node=node,
                conflict=lambda: self.sink.conflict,
            )  # fmt: skip
            self.bus.subscribe(CACHE_PATTERNS, self.cache_sink.take)

    def start(self) -> None:
        self.sink.start()
        if self.cache_sink is not None:
            self.cache_sink.start()

    async def close(self, timeout: float = 10) -> None:
        await self.sink.close(timeout)
        if self.cache_sink is not None:
            await self.cache_sink.close(timeout)
        await self.broker.close()

    @property
    def last(self) -> int:
        return self.journal.state().last_seq

    def happen(self, count: int = 1, *, status: Status = Status.NOTTRADED) -> None:
        """Orders change, one after another."""
        first = self.last + 1
        self.journalled([self.row(order(n, str(n), status)) for n in range(first, first + count)])

    def trade(self, count: int = 1) -> None:
        first = self.last + 1
        self.journalled([self.row(trade(n, str(n))) for n in range(first, first + count)])

    def row(self, event: Any) -> Row:
        kind = topics.ORDER_UPDATED if hasattr(event, "traded") else topics.TRADE_EXECUTED
        made = row(event.seq, kind, key_of(event), event, epoch=self.journal.epoch)
        return msgspec.structs.replace(made, ts=_now())

    def crowd(self, count: int, *, ts: int | None = None) -> None:
        """Many orders in the journal, quickly made: they look alike. Any thread."""
        first, payload, ts = self.last + 1, records.encode(order(0)), _now() if ts is None else ts
        epoch, kind = self.journal.epoch, topics.ORDER_UPDATED
        self.journal.append([Row(n, epoch, "run", ts, kind, "c1", payload) for n in range(first, first + count)])

    def journalled(self, rows: list[Row]) -> None:
        self.journal.append(rows)
        for each in rows:
            if (message := message_of(each)) is not None:
                self.bus.publish(message)

    def passing(self, *events: Event, topic: str | None = None) -> None:
        """What is not journaled."""
        for event in events:
            name = topic or topics.tick(key_of(event))
            self.bus.publish(Message(name, key_of(event), self.journal.epoch, self.view.seq, SYSTEM.now(), event))

    async def published(self, seq: int | None = None, timeout: float = 60) -> None:
        """Returns when the stream has everything (up to `seq`)."""
        await until(lambda: self.sink.drained >= (self.last if seq is None else seq) and not self.sink.state().error)

    async def cached(self) -> None:
        """Returns when the cache has everything."""
        sink = self.cache_sink
        assert sink is not None
        await until(lambda: sink.state().seq >= self.last and not sink.state().error)


def _now() -> int:
    return int(SYSTEM.now().timestamp() * 1_000_000)


async def until(condition: Callable[[], bool], timeout: float = 60) -> None:
    """Returns when it holds; fails when it does not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it does not come to pass"
        await asyncio.sleep(0.01)


async def whole_stream(broker: Broker, epoch: str, after: int = 0) -> list[Entry]:
    """All of it that is there. A server that answers late is asked again."""
    found: list[Entry] = []
    async with asyncio.timeout(60):
        while True:
            try:
                batch = await broker.read(epoch, after, 1_000, 0)
            except BrokerUnavailable:
                continue
            if not batch:
                return found
            found += batch
            after = batch[-1].seq


def assert_chained(entries: Iterable[Entry], after: int | None = None) -> None:
    """No gap, no repeat."""
    for entry in entries:
        assert after is None or entry.prev_seq == after, f"{entry.seq} follows {entry.prev_seq}, not {after}"
        assert entry.seq > entry.prev_seq
        after = entry.seq
