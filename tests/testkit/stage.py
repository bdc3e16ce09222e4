"""A stage on a memory journal, stepped by the test; VnPy events as gateways put them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from vnpy.event import Event
from vnpy.trader.constant import Direction, Exchange, Offset, OrderType, Status
from vnpy.trader.object import AccountData, OrderData, PositionData, QuoteData, TickData, TradeData

from testkit.clock import FakeClock
from testkit.memory_journal import Disk, MemoryJournal
from vnpy_core.bus import records
from vnpy_core.domain.books import Books
from vnpy_core.domain.events import OrderIntent
from vnpy_core.engine.stage import Stage, load_books
from vnpy_core.kit.flow import CreditFlow

START = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)


class StageWorld:
    """One life of a process on `disk`: `forwarded` is VnPy's queue. Nothing happens before `step`."""

    def __init__(self, disk: Disk | None = None, *, ids_unique: bool = False, **options: Any) -> None:
        self.clock = FakeClock()
        self.journal = MemoryJournal(disk)
        self.books = Books()
        load_books(self.journal, self.books)
        self.flow = CreditFlow()
        self.forwarded: list[Event] = []
        self.stage = Stage(
            self.journal, self.books, self.clock, self.forwarded.append, self.flow,
            ids_unique=lambda gateway_name: ids_unique, **options,
        )  # fmt: skip

    def put(self, *events: Event) -> None:
        for event in events:
            self.stage.put(event)

    def step(self) -> bool:
        return self.stage.step()

    def put_and_step(self, *events: Event) -> list[Event]:
        """What this made VnPy see."""
        before = len(self.forwarded)
        self.put(*events)
        self.step()
        return self.forwarded[before:]

    def send(self, intent: OrderIntent, venue_id: str, *events: Event) -> None:
        """As the gate does, with what the gateway puts inside its call."""
        self.stage.record(records.ORDER_INTENT, intent.client_order_id, intent)
        self.step()
        call = self.stage.begin_call(intent)
        self.put(*events)
        self.stage.end_call(call, venue_id)

    def restarted(self, **options: Any) -> StageWorld:
        return StageWorld(self.journal.disk, **options)

    @property
    def kinds(self) -> list[str]:
        return [row.kind for row in self.journal.rows]

    def rows(self, kind: str) -> list[Any]:
        return [records.decode(row.kind, row.payload) for row in self.journal.rows if row.kind == kind]

    def keys(self, kind: str) -> list[str]:
        return [row.key for row in self.journal.rows if row.kind == kind]


def order_data(number: str = "1", status: Status = Status.NOTTRADED, **changes: Any) -> OrderData:
    values = {
        "gateway_name": "P", "symbol": "rb", "exchange": Exchange.SHFE, "orderid": number, "status": status,
        "type": OrderType.LIMIT, "direction": Direction.LONG, "offset": Offset.OPEN, "price": 100.0, "volume": 10.0,
        "datetime": START,
    }  # fmt: skip
    return OrderData(**{**values, **changes})


def order_events(number: str = "1", status: Status = Status.NOTTRADED, **changes: Any) -> tuple[Event, Event]:
    """As `BaseGateway.on_order` puts them."""
    data = order_data(number, status, **changes)
    return Event("eOrder.", data), Event("eOrder." + data.vt_orderid, data)


def order_event(number: str = "1", status: Status = Status.NOTTRADED, **changes: Any) -> Event:
    return order_events(number, status, **changes)[0]


def trade_event(number: str = "1", tradeid: str = "t1", volume: float = 1.0, **changes: Any) -> Event:
    values = {
        "gateway_name": "P", "symbol": "rb", "exchange": Exchange.SHFE, "orderid": number, "tradeid": tradeid,
        "direction": Direction.LONG, "offset": Offset.OPEN, "price": 100.0, "volume": volume, "datetime": START,
    }  # fmt: skip
    return Event("eTrade.", TradeData(**{**values, **changes}))


def quote_event(status: Status = Status.NOTTRADED, **changes: Any) -> Event:
    values = {
        "gateway_name": "P", "symbol": "rb", "exchange": Exchange.SHFE, "quoteid": "q1", "bid_price": 99.0,
        "bid_volume": 1, "ask_price": 101.0, "ask_volume": 1, "status": status,
    }  # fmt: skip
    return Event("eQuote.", QuoteData(**{**values, **changes}))


def tick_event(gateway_name: str = "P", symbol: str = "rb") -> Event:
    tick = TickData(gateway_name=gateway_name, symbol=symbol, exchange=Exchange.SHFE, datetime=START, last_price=100.0)
    return Event("eTick.", tick)


def position_event(volume: float = 1.0, pnl: float = 0.0, **changes: Any) -> Event:
    values = {
        "gateway_name": "P", "symbol": "rb", "exchange": Exchange.SHFE, "direction": Direction.LONG, "volume": volume,
        "price": 100.0, "pnl": pnl,
    }  # fmt: skip
    return Event("ePosition.", PositionData(**{**values, **changes}))


def account_event(balance: float = 100.0, frozen: float = 0.0) -> Event:
    return Event("eAccount.", AccountData(gateway_name="P", accountid="1", balance=balance, frozen=frozen))


def order_intent(number: str = "1", **changes: Any) -> OrderIntent:
    from vnpy_core.domain import enums

    values = {
        "client_order_id": f"c{number}", "gateway_name": "P", "vt_symbol": "rb.SHFE", "symbol": "rb",
        "exchange": "SHFE", "direction": enums.Direction.LONG, "offset": enums.Offset.OPEN,
        "type": enums.OrderType.LIMIT, "price": 100.0, "volume": 10.0, "created_at": START,
    }  # fmt: skip
    return OrderIntent(**{**values, **changes})
