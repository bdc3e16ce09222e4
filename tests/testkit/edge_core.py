"""What an edge follows, without Redis: a core that publishes, a bus and a cache that fail, when they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from testkit.clock import FakeClock
from vnpy_core.adapters.broker.memory import MemoryBroker
from vnpy_core.adapters.cache.memory import MemoryCache
from vnpy_core.bus import topics
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.envelope import CACHED, TICK, encode_message, entry_of, key_of
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.enums import Direction, HaltScope, JobState, Offset, OrderType, Product, Status
from vnpy_core.domain.errors import BrokerUnavailable, CacheUnavailable, StreamMoved
from vnpy_core.domain.events import Account, Contract, Event, Halt, Job, Order, Position, Tick, Trade
from vnpy_core.features.edge.service import EdgeFeed
from vnpy_core.features.edge.settings import EdgeSettings
from vnpy_core.ports.broker import Entry, Signal
from vnpy_core.ports.cache import CacheMark
from vnpy_core.ports.journal import Row

START = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
QUIET_S = 0.005
"""How long a read waits here, seconds: long enough to give way, short enough for many examples."""
DEADLINE_S = 20


class Outage:
    """The bus and the cache of one server: both are away, or lose all they have, together."""

    def __init__(self) -> None:
        self.down = False
        self.broker: Any = _Broker(self)
        self.cache: Any = _Cache(self)

    def fail(self) -> None:
        """From now on nothing answers, and connections are lost."""
        self.down = True
        self.broker.cut_off()

    def heal(self) -> None:
        self.down = False

    def flush(self) -> None:
        """It loses all it has; connections stay."""
        self.broker.forget()
        self.cache.forget()


class _Broker:
    def __init__(self, outage: Outage) -> None:
        self._outage = outage
        self._inner = MemoryBroker()
        self.trimmed_to = 0
        """Entries up to this seq are gone for readers, as if the stream had been trimmed."""

    def forget(self) -> None:
        former, self._inner = self._inner, MemoryBroker()
        self._inner._listeners = former._listeners
        self.trimmed_to = 0

    def cut_off(self) -> None:
        for listener in self._inner._listeners:
            listener.cut_off()

    def _check(self) -> None:
        if self._outage.down:
            raise BrokerUnavailable("out")

    async def open(self) -> None:
        self._check()

    async def close(self) -> None: ...

    async def begin(self, epoch: str, *, anew: bool = False) -> int | None:
        self._check()
        return await self._inner.begin(epoch, anew=anew)

    async def append(self, epoch: str, entries: Sequence[Entry], *, keep_from: int = 0) -> None:
        self._check()
        await self._inner.append(epoch, entries, keep_from=keep_from)

    async def publish(self, signals: Sequence[Signal]) -> None:
        self._check()
        await self._inner.publish(signals)

    async def epoch(self) -> str | None:
        self._check()
        return await self._inner.epoch()

    async def last(self, epoch: str) -> int | None:
        self._check()
        return await self._inner.last(epoch)

    async def tail(self, epoch: str, limit: int) -> list[Entry]:
        self._check()
        return [entry for entry in await self._inner.tail(epoch, limit) if entry.seq > self.trimmed_to]

    async def read(self, epoch: str, after: int, limit: int, wait_s: float) -> list[Entry]:
        self._check()
        found = await self._inner.read(epoch, max(after, self.trimmed_to), limit, min(wait_s, QUIET_S))
        self._check()
        return found

    @asynccontextmanager
    async def listen(self, patterns: Sequence[str]) -> AsyncIterator[AsyncIterator[list[Signal]]]:
        self._check()
        async with self._inner.listen(patterns) as batches:
            yield batches


class _Cache:
    def __init__(self, outage: Outage) -> None:
        self._outage = outage
        self._inner = MemoryCache(FakeClock())

    def forget(self) -> None:
        self._inner = MemoryCache(FakeClock())

    def _check(self) -> None:
        if self._outage.down:
            raise CacheUnavailable("out")

    async def open(self) -> None:
        self._check()

    async def close(self) -> None: ...

    async def put(self, changes: Mapping[str, Mapping[str, bytes | None]], mark: CacheMark) -> None:
        self._check()
        await self._inner.put(changes, mark)

    async def clear(self) -> None:
        self._check()
        await self._inner.clear()

    async def load(self, kinds: Sequence[str]) -> tuple[CacheMark | None, dict[str, dict[str, bytes]]]:
        self._check()
        return await self._inner.load(kinds)


class FakeCore:
    """Makes events; they leave it by `publish_stream`, `publish_signals` and `write_cache`, each when it is called."""

    def __init__(self, outage: Outage, epoch: str = "e1") -> None:
        self._outage = outage
        self.epoch = epoch
        self.view = ReadView()
        self.seq = 0
        """Of the last class A event."""
        self.class_a: list[int] = []
        """Their numbers, in the epoch of the moment."""
        self._now = START
        self._rows: list[Row] = []
        self._last_row = 0
        self._signals: list[Signal] = []
        self._cached: dict[tuple[str, str], bytes | None] = {}

    # What happens

    def order(self, number: int, status: Status = Status.NOTTRADED, traded: float = 0.0) -> Order:
        order = Order(
            vt_orderid=f"P.{number}", orderid=str(number), gateway_name="P", vt_symbol="rb2505.SHFE", symbol="rb2505",
            exchange="SHFE", direction=Direction.LONG, offset=Offset.OPEN, type=OrderType.LIMIT, price=3500.0,
            volume=10.0, traded=traded, status=status, updated_at=self._next_time(), seq=self._last_row + 1,
        )  # fmt: skip
        self._lossless(topics.ORDER_UPDATED, order)
        return order

    def trade(self, number: int) -> None:
        self._lossless(
            topics.TRADE_EXECUTED,
            Trade(
                vt_tradeid=f"P.{number}", tradeid=str(number), vt_orderid="P.1", orderid="1", gateway_name="P",
                vt_symbol="rb2505.SHFE", symbol="rb2505", exchange="SHFE", direction=Direction.LONG,
                offset=Offset.OPEN, price=3500.0, volume=1.0, datetime=START, seq=self._last_row + 1,
            ),
        )  # fmt: skip

    def halt(self, target: str, *, active: bool) -> None:
        self._lossless(
            topics.RISK_HALT,
            Halt(scope=HaltScope.ALL, target=target, active=active, at=self._next_time(), seq=self._last_row + 1),
        )

    def position(self, symbol: str, volume: float, *, journaled: bool = False) -> None:
        self._latest(topics.POSITION_UPDATED, self._position(symbol, volume), journaled=journaled)

    def journal_position(self, symbol: str, volume: float) -> None:
        """As the journal does it, up to a second after the position was shown."""
        self._row(topics.POSITION_UPDATED, self._position(symbol, volume))

    def _position(self, symbol: str, volume: float) -> Position:
        return Position(
            vt_positionid=f"P.{symbol}.SHFE.LONG", vt_symbol=f"{symbol}.SHFE", symbol=symbol, exchange="SHFE",
            direction=Direction.LONG, volume=volume, frozen=0.0, price=1.0, pnl=0.0, yd_volume=0.0,
            gateway_name="P",
        )  # fmt: skip

    def account(self, balance: float) -> None:
        self._latest(
            topics.ACCOUNT_UPDATED,
            Account(
                vt_accountid="P.1", accountid="1", balance=balance, frozen=0.0, available=balance, gateway_name="P"
            ),
        )

    def contract(self, symbol: str, size: float = 10.0) -> None:
        self._latest(
            topics.CONTRACT_UPDATED,
            Contract(
                gateway_name="P", vt_symbol=f"{symbol}.SHFE", symbol=symbol, exchange="SHFE", name=symbol,
                product=Product.FUTURES, size=size, pricetick=1.0,
            ),
        )  # fmt: skip

    def job(self, number: int, state: JobState = JobState.RUNNING) -> None:
        now = self._next_time()
        self._latest(
            topics.JOB_UPDATED, Job(id=str(number), kind="import", state=state, created_at=START, updated_at=now)
        )

    def tick(self, symbol: str, price: float) -> None:
        tick = Tick(
            gateway_name="P", vt_symbol=f"{symbol}.SHFE", symbol=symbol, exchange="SHFE", datetime=START,
            last_price=price,
        )  # fmt: skip
        self._latest(topics.tick(tick.vt_symbol), tick)

    def vanish(self, event: Event) -> None:
        """A restart has forgotten it."""
        self.view.forget(event)
        self._cached[CACHED[_topic_of(event)], key_of(event)] = None

    def new_epoch(self, epoch: str) -> None:
        """Restored from a backup: what it has now is all there is, under other numbers."""
        self.epoch = epoch
        self._rows.clear()
        self.class_a = []
        self._signals.clear()

    # How it leaves

    async def publish(self) -> None:
        """Everything. Raises what the bus and the cache raise."""
        await self.publish_stream()
        await self.publish_signals()
        await self.write_cache()

    async def publish_stream(self, limit: int = 1_000_000) -> None:
        broker = self._outage.broker
        last = await broker.begin(self.epoch)
        prev_seq = last if last is not None else (self._rows[0].seq - 1 if self._rows else 0)
        entries: list[Entry] = []
        for row in self._rows:
            if row.seq > prev_seq and len(entries) < limit:
                entry = entry_of(row, prev_seq, "core")
                assert entry is not None
                entries.append(entry)
                prev_seq = row.seq
        try:
            await broker.append(self.epoch, entries)
        except StreamMoved:
            await broker.begin(self.epoch)  # it was lost meanwhile: the next time fills it

    async def publish_signals(self) -> None:
        signals, self._signals = self._signals, []
        await self._outage.broker.publish(signals)  # what is lost is lost

    async def write_cache(self) -> None:
        cache = self._outage.cache
        mark, _ = await cache.load(())
        everything = self._cached
        if mark is None or mark.epoch != self.epoch:
            await cache.clear()
            everything = self._everything()
        changes: dict[str, dict[str, bytes | None]] = {}
        for (kind, key), value in everything.items():
            changes.setdefault(kind, {})[key] = value
        await cache.put(changes, CacheMark(epoch=self.epoch, seq=self.view.seq, complete_from=self.view.complete_from))
        self._cached.clear()

    def forget_rows(self, through: int) -> None:
        """The journal was cut, so the stream can be filled from there on only."""
        self._rows = [row for row in self._rows if row.seq > through]

    # Within

    def _lossless(self, topic: str, event: Event) -> None:
        row = self._row(topic, event)
        self.seq = row.seq
        self.class_a.append(row.seq)
        self._happen(topic, event, self._now)

    def _latest(self, topic: str, event: Event, *, journaled: bool = False) -> None:
        if journaled:
            self._row(topic, event)
        self._next_time()
        self._happen(topic, event, self._now)
        self._signals.append((topic, encode_message(self._message(topic, event, self._now), "core")))

    def _row(self, topic: str, event: Event) -> Row:
        self._last_row += 1
        micros = int(self._next_time().timestamp() * 1_000_000)
        row = Row(
            seq=self._last_row, epoch=self.epoch, run_id="r", ts=micros, kind=topic, key=key_of(event),
            payload=msgspec.json.encode(event),
        )  # fmt: skip
        self._rows.append(row)
        return row

    def _happen(self, topic: str, event: Event, ts: datetime) -> None:
        message = self._message(topic, event, ts)
        self.view.apply(message)
        gone = isinstance(event, Halt) and not event.active
        kind = CACHED.get(topic, TICK)
        self._cached[kind, message.key] = None if gone else encode_message(message, "core")

    def _message(self, topic: str, event: Event, ts: datetime) -> Message:
        return Message(topic, key_of(event), self.epoch, self.seq, ts, event)

    def _everything(self) -> dict[tuple[str, str], bytes | None]:
        found: dict[tuple[str, str], bytes | None] = {}
        for topic, kind in CACHED.items():
            events: list[Event] = [event for _, event in self.view.snapshot(topic)]
            if kind == "order":
                events = list(self.view.orders())
            if kind == "trade":
                events = list(self.view.trades.values())
            for event in events:
                seq = getattr(event, "seq", 0) or self.seq
                message = Message(topic, key_of(event), self.epoch, seq, self._now, event)
                found[kind, message.key] = encode_message(message, "core")
        for tick in self.view.ticks.values():
            message = Message(topics.tick(tick.vt_symbol), tick.vt_symbol, self.epoch, self.seq, self._now, tick)
            found[TICK, tick.vt_symbol] = encode_message(message, "core")
        return found

    def _next_time(self) -> datetime:
        self._now += timedelta(milliseconds=1)
        return self._now


def _topic_of(event: Event) -> str:
    return {Contract: topics.CONTRACT_UPDATED, Job: topics.JOB_UPDATED, Position: topics.POSITION_UPDATED}[type(event)]


class Hub:
    """What sessions would get: `told` is everything that reached them, in order."""

    def __init__(self, bus: Bus) -> None:
        self.told: list[Message] = []
        self.epoch = ""
        self.recent: list[Message] = []
        self.complete_from = 0
        self.drops: list[int] = []
        self.eras: list[tuple[str, int, list[int]]] = []
        """Between two replacements of the whole state: epoch, the seq it was at, and the class A seqs after it."""
        bus.subscribe(["*"], self._take)

    def set_epoch(self, epoch: str) -> None:
        self.epoch = epoch

    def seed_recent(self, messages: Sequence[Message], complete_from: int) -> None:
        self.recent = list(messages)
        self.complete_from = complete_from
        seq = max((message.seq for message in messages), default=complete_from)
        self.eras.append((self.epoch, seq, []))

    def drop_sessions(self, code: int, reason: str) -> None:
        self.drops.append(code)

    def of(self, topic: str) -> list[Message]:
        return [message for message in self.told if message.topic == topic]

    def _take(self, message: Message) -> None:
        self.told.append(message)
        if message.data_class is topics.DataClass.LOSSLESS:
            self.eras[-1][2].append(message.seq)


class EdgeUnderTest:
    """A feed with its view and its hub, in a time of its own."""

    def __init__(
        self,
        outage: Outage,
        *,
        wait: Callable[[float], Awaitable[None]] | None = None,
        recent: int = 10_000,
        **settings: Any,
    ) -> None:
        self.clock = FakeClock()
        self.view = ReadView()
        bus = Bus()
        self.hub = Hub(bus)
        self.feed = EdgeFeed(
            outage.broker,
            outage.cache,
            bus=bus,
            view=self.view,
            hub=self.hub,
            clock=self.clock,
            settings=EdgeSettings(**settings),
            recent=recent,
            wait=wait or self._pass,
            jitter=lambda: 1.0,
        )

    async def __aenter__(self) -> EdgeUnderTest:
        self.feed.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.feed.close()

    async def _pass(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await asyncio.sleep(0.001)


async def until(is_so: Callable[[], bool], why: Callable[[], object] = lambda: "") -> None:
    """Wait for something that must become true."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not is_so():
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"it never came: {why()}") from None


def state_of(view: ReadView) -> dict[str, Any]:
    """What two views must agree on."""
    return {
        "seq": view.seq,
        "active_orders": dict(view.active_orders),
        "finished_orders": dict(view.finished_orders),
        "trades": dict(view.trades),
        "positions": dict(view.positions),
        "accounts": dict(view.accounts),
        "contracts": {name: dict(offers) for name, offers in view.contracts.items()},
        "halts": dict(view.halts),
        "jobs": dict(view.jobs),
        "ticks": dict(view.ticks),
    }


def differences(one: ReadView, other: ReadView) -> dict[str, Any]:
    left, right = state_of(one), state_of(other)
    return {name: (left[name], right[name]) for name in left if left[name] != right[name]}
