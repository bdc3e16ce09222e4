"""Events, clients and a hub for the streaming tests."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import msgspec

from testkit.clock import FakeClock
from vnpy_core.bus import topics
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.enums import Direction, LogLevel, Offset, OrderType, Status
from vnpy_core.domain.errors import NotAuthenticated
from vnpy_core.domain.events import Account, Event, Log, Order, StrategyUpdate, Tick, Trade
from vnpy_core.features.streaming.service import StreamingService
from vnpy_core.features.streaming.session import Session
from vnpy_core.features.streaming.settings import StreamingSettings
from vnpy_core.features.streaming.wire import JSON, Encoding, content
from vnpy_core.kit.flow import CreditFlow
from vnpy_core.ports.auth import Principal, Role

TIME = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)


def tick(vt_symbol: str = "rb2505.SHFE", tick_seq: int = 1) -> Tick:
    symbol, _, exchange = vt_symbol.rpartition(".")
    return Tick(
        gateway_name="PAPER", vt_symbol=vt_symbol, symbol=symbol, exchange=exchange, datetime=TIME, tick_seq=tick_seq
    )


def order(number: int, status: Status = Status.NOTTRADED) -> Order:
    return Order(
        vt_orderid=f"PAPER.{number}",
        orderid=str(number),
        gateway_name="PAPER",
        vt_symbol="rb2505.SHFE",
        symbol="rb2505",
        exchange="SHFE",
        direction=Direction.LONG,
        offset=Offset.OPEN,
        type=OrderType.LIMIT,
        price=3500.0,
        volume=1.0,
        traded=0.0,
        status=status,
        updated_at=TIME,
    )


def trade(number: int) -> Trade:
    return Trade(
        vt_tradeid=f"PAPER.{number}",
        tradeid=str(number),
        vt_orderid="PAPER.1",
        orderid="1",
        gateway_name="PAPER",
        vt_symbol="rb2505.SHFE",
        symbol="rb2505",
        exchange="SHFE",
        direction=Direction.LONG,
        offset=Offset.OPEN,
        price=3500.0,
        volume=1.0,
        datetime=TIME,
    )


def account(balance: float, number: str = "1") -> Account:
    return Account(
        vt_accountid=f"PAPER.{number}",
        accountid=number,
        balance=balance,
        frozen=0.0,
        available=balance,
        gateway_name="PAPER",
    )


def log(text: str, level: LogLevel = LogLevel.INFO) -> Log:
    return Log(level=level, source="test", msg=text, datetime=TIME)


def strategy(**variables: Any) -> StrategyUpdate:
    return StrategyUpdate(
        strategy_name="s", class_name="S", vt_symbol="rb2505.SHFE", author="", parameters={}, variables=variables
    )


def message(data: Event, seq: int = 0) -> Message:
    match data:
        case Tick():
            topic, key = topics.tick(data.vt_symbol), data.vt_symbol
        case Order():
            topic, key = topics.ORDER_UPDATED, data.vt_orderid
        case Trade():
            topic, key = topics.TRADE_EXECUTED, data.vt_tradeid
        case Account():
            topic, key = topics.ACCOUNT_UPDATED, data.vt_accountid
        case Log():
            topic, key = topics.LOG, data.source
        case StrategyUpdate():
            topic, key = topics.STRATEGY_UPDATED, data.strategy_name
        case _:
            raise AssertionError(data)
    return Message(topic, key, "e1", seq, TIME, data)


def holder(name: str = "ann", expires_at: datetime = datetime(9999, 1, 1, tzinfo=UTC)) -> Principal:
    """A principal."""
    return Principal(name=name, role=Role.VIEWER, session_id="s", expires_at=expires_at)


class Tokens:
    """An authenticator that knows some tokens, and tickets, each of which opens once."""

    def __init__(self, **holders: Principal) -> None:
        self.holders = holders
        self.tickets: dict[str, Principal] = {}

    async def authenticate(self, token: str) -> Principal:
        if token not in self.holders:
            raise NotAuthenticated("unknown token")
        return self.holders[token]

    async def authenticate_ticket(self, ticket: str) -> Principal:
        if ticket not in self.tickets:
            raise NotAuthenticated("unknown ticket")
        return self.tickets.pop(ticket)


class FakeConnection:
    """A client that reads while `reading` is set."""

    address = "127.0.0.1:50000"

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        """Whole WebSocket frames, as they came."""
        self.reading = asyncio.Event()
        self.reading.set()
        self.code: int | None = None
        self.aborted = False
        self.gone = False

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [decoded(frame) for frame in self.sent]

    @property
    def writable(self) -> bool:
        return self.reading.is_set()

    def send_now(self, frames: list[bytes]) -> None:
        if self.gone:
            raise ConnectionResetError
        self.sent += frames

    async def send(self, frames: list[bytes]) -> None:
        await self._ready()
        self.sent += frames

    async def close(self, code: int, reason: str) -> None:
        await self._ready()
        self.code = code

    def abort(self) -> None:
        self.aborted = self.gone = True
        self.reading.set()

    async def _ready(self) -> None:
        await self.reading.wait()
        if self.gone:
            raise ConnectionResetError


def decoded(frame: bytes) -> dict[str, Any]:
    """What a client of either encoding reads."""
    data = content(frame)
    read: dict[str, Any] = json.loads(data) if isinstance(data, str) else msgspec.msgpack.decode(data)
    return read


class Hub:
    """A streaming service with its world, and what tests do to it. Loop thread only."""

    def __init__(self, clock: Any = None, *, seeded: bool = True, **settings: Any) -> None:
        self.bus = Bus()
        self.view = ReadView()
        self.flow = CreditFlow()
        self.clock = clock or FakeClock()
        self.is_ready = True
        self.ended_logins: set[str] = set()
        self.service = StreamingService(
            self.bus,
            self.view,
            self.flow,
            self.clock,
            epoch="e1",
            settings=StreamingSettings(**settings),
            ready=lambda: self.is_ready,
            still_valid=lambda principal: principal.session_id not in self.ended_logins,
        )
        self.seq = 0
        if seeded:
            self.service.seed_recent([], 0)

    def publish(self, *events: Event) -> None:
        """As the bridge does: the read view first."""
        for event in events:
            published = message(event, self.seq)
            if published.data_class is topics.DataClass.LOSSLESS:
                self.seq += 1
                published = published.at(self.seq)
            self.view.apply(published)
            self.bus.publish(published)

    async def client(
        self, *patterns: str, conflate: bool = True, encoding: Encoding = JSON, **principal: Any
    ) -> tuple[Session, FakeConnection]:
        connection = FakeConnection()
        session = self.service.open(connection, holder(**principal), encoding)
        if patterns:
            self.ask(session, op="subscribe", topics=list(patterns), conflate=conflate)
        await settle()
        return session, connection

    def ask(self, session: Session, **request: Any) -> None:
        assert self.service.receive(session, json.dumps(request)) is None


async def settle() -> None:
    """Let the tasks run until they wait."""
    for _ in range(200):
        await asyncio.sleep(0)


def live(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages that are neither replies nor snapshots."""
    return [frame for frame in frames if "op" not in frame and "snapshot" not in frame]
