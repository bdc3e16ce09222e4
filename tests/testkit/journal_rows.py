"""Journal rows, and a journal in memory, for the store's tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from vnpy_core.bus import records, topics
from vnpy_core.domain.enums import Direction, Offset, OrderType, Product, Status
from vnpy_core.domain.events import Contract, Event, Order, OrderIntent, Trade
from vnpy_core.ports.journal import JournalState, Row

EPOCH = "e1"
START = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def row(seq: int, kind: str, key: str, event: Event | bytes, *, epoch: str = EPOCH) -> Row:
    payload = event if isinstance(event, bytes) else records.encode(event)
    ts = 1_700_000_000_000_000 + seq
    return Row(seq=seq, epoch=epoch, run_id="run", ts=ts, kind=kind, key=key, payload=payload)


def order(seq: int, /, number: str = "1", status: Status = Status.NOTTRADED, **changes: Any) -> Order:
    values: dict[str, Any] = {
        "vt_orderid": f"PAPER.{number}",
        "orderid": number,
        "client_order_id": f"c{number}",
        "gateway_name": "PAPER",
        "vt_symbol": "rb2505.SHFE",
        "symbol": "rb2505",
        "exchange": "SHFE",
        "direction": Direction.LONG,
        "offset": Offset.OPEN,
        "type": OrderType.LIMIT,
        "price": 3500.5,
        "volume": 10.0,
        "traded": 0.0,
        "status": status,
        "datetime": at(seq),
        "updated_at": at(seq + 0.5),
        "seq": seq,
    }
    return Order(**{**values, **changes})


def order_row(seq: int, /, number: str = "1", status: Status = Status.NOTTRADED, **changes: Any) -> Row:
    event = order(seq, number, status, **changes)
    return row(seq, topics.ORDER_UPDATED, event.client_order_id or event.vt_orderid, event)


def trade(seq: int, /, number: str = "1", **changes: Any) -> Trade:
    values: dict[str, Any] = {
        "vt_tradeid": f"PAPER.t{number}",
        "tradeid": f"t{number}",
        "vt_orderid": f"PAPER.{number}",
        "orderid": number,
        "gateway_name": "PAPER",
        "vt_symbol": "rb2505.SHFE",
        "symbol": "rb2505",
        "exchange": "SHFE",
        "direction": Direction.LONG,
        "offset": Offset.OPEN,
        "price": 3500.5,
        "volume": 1.0,
        "datetime": at(seq),
        "seq": seq,
    }
    return Trade(**{**values, **changes})


def trade_row(seq: int, /, number: str = "1", **changes: Any) -> Row:
    event = trade(seq, number, **changes)
    return row(seq, topics.TRADE_EXECUTED, f"{event.gateway_name}:c{number}/{event.tradeid}", event)


def intent(number: str = "1", **changes: Any) -> OrderIntent:
    fields = {name: getattr(order(0, number), name) for name in OrderIntent.__struct_fields__ if name != "created_at"}
    return msgspec.structs.replace(OrderIntent(**fields, created_at=at(0)), **changes)


def contract(number: int = 1, **changes: Any) -> Contract:
    values: dict[str, Any] = {
        "gateway_name": "PAPER",
        "vt_symbol": f"rb{number}.SHFE",
        "symbol": f"rb{number}",
        "exchange": "SHFE",
        "name": "螺纹钢",
        "product": Product.FUTURES,
        "size": 10.0,
        "pricetick": 0.1,
    }
    return Contract(**{**values, **changes})


class ListJournal:
    """As much of a journal as the sink needs."""

    def __init__(self, *rows: Row) -> None:
        self.rows = list(rows)
        self.failure: Exception | None = None
        self.reads: list[tuple[int, int]] = []

    def grow(self, count: int, epoch: str = "e1") -> None:
        last = self.rows[-1].seq if self.rows else 0
        self.rows += [row(last + n, "k", "x", b"{}", epoch=epoch) for n in range(1, count + 1)]

    def read(self, after: int, limit: int) -> list[Row]:
        self.reads.append((after, limit))
        if self.failure:
            raise self.failure
        return [each for each in self.rows if each.seq > after][:limit]

    def state(self) -> JournalState:
        last = self.rows[-1].seq if self.rows else 0
        first = self.rows[0].seq if self.rows else last + 1
        epoch = self.rows[-1].epoch if self.rows else "e1"
        return JournalState(epoch=epoch, first_seq=first, last_seq=last, size_bytes=0, reserve=True, refusal="")
