"""What the relational store answers and takes in: SQLite, or any database by its URL.

    .venv/bin/python benchmarks/store.py [--rows 1_000_000] [--url mysql+asyncmy://…] [--plans]

Fills orders and trades with rows of many days (an empty database only), then prints p50 and p99 of a page of 100 for
each filter of the API, from the start of the list, from its middle and near its end; then the rows that are taken in
per second in batches of 2,000. `--plans` shows how the database goes about each query instead.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from pydantic import SecretStr
from sqlalchemy import Connection, text

from vnpy_core.adapters.store import queries, tables, writing
from vnpy_core.adapters.store.merge import Record
from vnpy_core.adapters.store.settings import StoreSettings
from vnpy_core.adapters.store.sql import SqlStore
from vnpy_core.adapters.store.url import store_url
from vnpy_core.bus import records, topics
from vnpy_core.domain.enums import Direction, Offset, OrderType, Status
from vnpy_core.domain.events import Order, Trade
from vnpy_core.kit.clock import SystemClock
from vnpy_core.ports.journal import Row
from vnpy_core.ports.store import OrderQuery, TradeQuery

START = datetime(2024, 1, 2, tzinfo=UTC)
DAYS = 500
CHUNK = 20_000
TRIES = 40
EPOCH = "bench"

Filters = dict[str, dict[str, Any]]


def day(number: float) -> datetime:
    return START + timedelta(days=number)


ORDER_FILTERS: Filters = {
    "all": {},
    "active": {"active": True},
    "not active": {"active": False},
    "vt_symbol": {"vt_symbol": "rb17.SHFE"},
    "gateway_name": {"gateway_name": "CTP"},
    "status (rare)": {"status": Status.REJECTED},
    "status (most)": {"status": Status.ALLTRADED},
    "strategy_name": {"strategy_name": "trend-3"},
    "one day": {"start": day(DAYS * 0.7), "end": day(DAYS * 0.7 + 1)},
    "one hour": {"start": day(DAYS * 0.7), "end": day(DAYS * 0.7 + 1 / 24)},
    "since a day": {"start": day(DAYS * 0.7)},
    "until a day": {"end": day(DAYS * 0.3)},
    "one day, vt_symbol": {"start": day(DAYS * 0.7), "end": day(DAYS * 0.7 + 1), "vt_symbol": "rb17.SHFE"},
    "month, strategy, status": {
        "start": day(DAYS * 0.5), "end": day(DAYS * 0.5 + 30), "strategy_name": "trend-3", "status": Status.ALLTRADED,
    },
    "vt_symbol, gateway_name": {"vt_symbol": "rb17.SHFE", "gateway_name": "CTP"},
}  # fmt: skip
TRADE_FILTERS: Filters = {
    "all": {},
    "vt_symbol": {"vt_symbol": "rb17.SHFE"},
    "gateway_name": {"gateway_name": "CTP"},
    "vt_orderid": {"vt_orderid": "CTP.1000"},
    "strategy_name": {"strategy_name": "trend-3"},
    "one day": {"start": day(DAYS * 0.7), "end": day(DAYS * 0.7 + 1)},
    "since a day": {"start": day(DAYS * 0.7)},
    "one day, vt_symbol": {"start": day(DAYS * 0.7), "end": day(DAYS * 0.7 + 1), "vt_symbol": "rb17.SHFE"},
}


def order_records(first: int, last: int, rows: int) -> Iterator[Record]:
    """Rows of the table: filling it through the journal's path would take the greater part of the time."""
    chance = random.Random(first)
    for number in range(first, last):
        happened_at = day(DAYS * number / rows)
        status = Status.NOTTRADED if number > rows - 200 else chance.choices(
            (Status.ALLTRADED, Status.CANCELLED, Status.REJECTED), (70, 29, 1)
        )[0]  # fmt: skip
        gateway = chance.choice(("CTP", "PAPER", "IB"))
        symbol = f"rb{chance.randrange(50)}"
        yield {
            "uid": f"0193{chance.getrandbits(32):08x}{number:012d}",
            "epoch": EPOCH,
            "seq": number * 4,
            "vt_orderid": f"{gateway}.{number}",
            "orderid": str(number),
            "client_order_id": f"c{number}",
            "gateway_name": gateway,
            "vt_symbol": f"{symbol}.SHFE",
            "symbol": symbol,
            "exchange": "SHFE",
            "direction": "LONG",
            "offset": "OPEN",
            "type": "LIMIT",
            "price": 3500.5,
            "volume": 10.0,
            "traded": 10.0,
            "status": str(status),
            "active": int(status.is_active),
            "reason": "",
            "reference": "",
            "strategy_name": f"trend-{chance.randrange(10)}",
            "datetime": happened_at,
            "updated_at": happened_at,
            "happened_at": happened_at,
            "state_seq": number * 4,
            "time_seq": number * 4,
        }


def trade_records(orders: list[Record]) -> Iterator[Record]:
    names = [column.name for column in tables.trades.columns]
    for order in orders:
        values = {
            **order,
            "uid": f"{order['gateway_name']}:{order['uid']}/{order['orderid']}",
            "seq": order["seq"] + 1,
            "vt_tradeid": f"{order['gateway_name']}.t{order['orderid']}",
            "tradeid": f"t{order['orderid']}",
        }
        yield {name: values[name] for name in names}


async def fill(store: SqlStore, rows: int) -> None:
    for first in range(0, rows, CHUNK):
        orders = list(order_records(first, min(first + CHUNK, rows), rows))
        trades = list(trade_records(orders))

        def work(connection: Connection, orders: list[Record] = orders, trades: list[Record] = trades) -> None:
            for table, name, records_ in ((tables.orders, "happened_at", orders), (tables.trades, "datetime", trades)):
                writing.upsert(connection, table, records_)
                writing.note_hours(connection, table.name, [(each[name], each["seq"]) for each in records_])

        await store.ask(work, writes=True)
        print(f"\rfilled {min(first + CHUNK, rows):,} orders and as many trades", end="", flush=True)
    print()
    await store.ask(_analyse, writes=True)


def _analyse(connection: Connection) -> None:
    """What servers do by themselves after a while; SQLite leaves it to us and gets along without."""
    statements = {"mysql": "analyze table orders, trades", "postgresql": "analyze"}
    if (statement := statements.get(connection.dialect.name)) is not None:
        connection.execute(text(statement))


async def timed(ask: Callable[[], Awaitable[list[Any]]]) -> tuple[float, int]:
    started = time.perf_counter()
    found = await ask()
    return (time.perf_counter() - started) * 1000, len(found)


async def measure(store: SqlStore, rows: int) -> None:
    lists: list[tuple[str, Filters, Callable[..., Any]]] = [
        ("orders", ORDER_FILTERS, lambda wanted, seq: store.orders(OrderQuery(**wanted), (seq, ""), 100)),
        ("trades", TRADE_FILTERS, lambda wanted, seq: store.trades(TradeQuery(**wanted), (seq, ""), 100)),
    ]
    print(f"{'':52} {'p50 ms':>9} {'p99 ms':>9}   items")
    for name, filters, ask in lists:
        for label, wanted in filters.items():
            for where, after in (("start", 0), ("middle", rows * 2), ("end", int(rows * 3.9))):
                results = [await timed(partial(ask, wanted, after)) for _ in range(TRIES)]
                show(f"{name}: {label}, from the {where}", results)
    chance = random.Random(1)
    singles: dict[str, Callable[[], Awaitable[list[Any]]]] = {
        "order by vt_orderid": lambda: _single(store.order(f"CTP.{chance.randrange(rows)}")),
        "order by client_order_id": lambda: _single(store.order_by_client_id(f"c{chance.randrange(rows)}")),
    }
    for label, look in singles.items():
        show(label, [await timed(look) for _ in range(TRIES * 5)])


async def _single(answer: Awaitable[Order | None]) -> list[Any]:
    return [await answer]


def show(label: str, results: list[tuple[float, int]]) -> None:
    times = sorted(each for each, _ in results)
    print(f"{label:52} {statistics.median(times):9.2f} {times[int(len(times) * 0.99)]:9.2f}   {results[0][1]}")


async def plans(store: SqlStore, rows: int) -> None:
    for after in (0, rows * 2):
        for label, wanted in ORDER_FILTERS.items():
            await _explain(store, f"orders: {label}, after {after}", "orders", OrderQuery(**wanted), after)
        for label, wanted in TRADE_FILTERS.items():
            await _explain(store, f"trades: {label}, after {after}", "trades", TradeQuery(**wanted), after)


async def _explain(store: SqlStore, label: str, list_: str, query: OrderQuery | TradeQuery, after: int) -> None:
    lines = await store.ask(lambda connection: queries.plan(connection, query, (after, ""), 100))
    print(f"{label}\n    " + "\n    ".join(lines))


def journal_rows(count: int, after: int) -> Iterator[Row]:
    """Three events and a fill of each order."""
    seq = after
    for number in range(count // 4):
        base = Order(
            vt_orderid=f"CTP.n{number}", orderid=f"n{number}", client_order_id=f"n{number}", gateway_name="CTP",
            vt_symbol=f"rb{number % 50}.SHFE", symbol=f"rb{number % 50}", exchange="SHFE", direction=Direction.LONG,
            offset=Offset.OPEN, type=OrderType.LIMIT, price=3500.5, volume=1.0, traded=0.0, status=Status.SUBMITTING,
            strategy_name="trend-3", datetime=day(DAYS), updated_at=day(DAYS),
        )  # fmt: skip
        for status, traded in ((Status.SUBMITTING, 0.0), (Status.NOTTRADED, 0.0), (Status.ALLTRADED, 1.0)):
            seq += 1
            values = {name: getattr(base, name) for name in Order.__struct_fields__}
            order = Order(**{**values, "seq": seq, "status": status, "traded": traded})
            yield _row(seq, topics.ORDER_UPDATED, f"n{number}", records.encode(order))
        seq += 1
        trade = Trade(
            vt_tradeid=f"CTP.m{number}", tradeid=f"m{number}", vt_orderid=base.vt_orderid, orderid=base.orderid,
            gateway_name="CTP", vt_symbol=base.vt_symbol, symbol=base.symbol, exchange="SHFE",
            direction=Direction.LONG, offset=Offset.OPEN, price=3500.5, volume=1.0, strategy_name="trend-3",
            datetime=day(DAYS), seq=seq,
        )  # fmt: skip
        yield _row(seq, topics.TRADE_EXECUTED, f"CTP:n{number}/m{number}", records.encode(trade))


def _row(seq: int, kind: str, key: str, payload: bytes) -> Row:
    return Row(seq=seq, epoch=EPOCH, run_id="bench", ts=seq, kind=kind, key=key, payload=payload)


async def take_in(store: SqlStore, after: int, *, batch: int = 2000, count: int = 100_000) -> None:
    rows = list(journal_rows(count, after))
    started = time.perf_counter()
    for first in range(0, len(rows), batch):
        await store.write(rows[first : first + batch])
    print(f"taken in: {len(rows) / (time.perf_counter() - started):,.0f} journal rows/s in batches of {batch:,}")


async def main(options: argparse.Namespace, folder: Path) -> None:
    settings = StoreSettings(url=SecretStr(options.url or ""), timeout_s=600)
    store = SqlStore(store_url(settings, folder), settings, SystemClock())
    await store.open()
    try:
        await fill(store, options.rows)
        if options.plans:
            await plans(store, options.rows)
            return
        await measure(store, options.rows)
        await take_in(store, options.rows * 4)
    finally:
        await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--url", help="of an empty database; default: SQLite in a temporary folder")
    parser.add_argument("--plans", action="store_true")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(parser.parse_args(), Path(name)))
