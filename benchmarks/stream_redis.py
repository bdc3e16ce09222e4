"""Events a second into Redis: journal rows through the sink into the stream, and ticks through it to the channels.

Each beside bare pipelines of the same commands with the same bytes, as many in a round trip. Nobody reads meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import redis.asyncio
import uvloop
from stream_kit import Row, median, redis_server, say, spread
from stream_server import messages

from vnpy_core.adapters.broker.build import build_broker
from vnpy_core.adapters.broker.settings import BrokerSettings
from vnpy_core.adapters.broker.sink import SIGNALS, BrokerSink
from vnpy_core.adapters.journal.file import FILE_NAME
from vnpy_core.adapters.journal.settings import JournalSettings
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.bus import records, topics
from vnpy_core.bus.envelope import encode_message, entry_of
from vnpy_core.domain.enums import Direction, Offset, OrderType, Status
from vnpy_core.domain.events import Order
from vnpy_core.kit.clock import SystemClock
from vnpy_core.kit.redis import RedisSettings
from vnpy_core.ports import journal as ports

ROWS, TICKS = 50_000, 40_000
COMMIT, BATCH = 1_000, 500
"""Rows in a commit of the journal, and in an append to the stream."""
TURN, ENOUGH = 256, 4_000
"""Ticks put at once, and waiting ones at which the next are held back, or newer ones would replace older ones."""
EVENTS_A_SECOND = 20_000
NODE = "bench"


def rows(folder: Path, rounds: int) -> list[Row]:
    rates: dict[str, list[float]] = {}
    with redis_server(folder) as url, journal(folder) as filled:
        for number in range(rounds):
            found = uvloop.run(all_ways(url, filled, number))
            for name, rate in found.items():
                rates.setdefault(name, []).append(rate)
            say(f"redis {number + 1}: " + ", ".join(f"{name} {rate:,.0f}/s" for name, rate in found.items()))
    return [
        Row(
            f"Redis {what}, events/s",
            spread(rates[name], ",.0f"),
            f"bare {command} pipeline of the same bytes {spread(rates[command], ',.0f')}",
            f">= {EVENTS_A_SECOND:,}",
            median(rates[name]) >= EVENTS_A_SECOND,
        )
        for name, command, what in (
            ("stream", "XADD", "stream, from journal rows"),
            ("channels", "PUBLISH", "pub/sub, from ticks on the bus"),
        )
    ]


@contextmanager
def journal(folder: Path) -> Iterator[SqliteJournal]:
    """With its rows."""
    filled = SqliteJournal(
        folder / FILE_NAME,
        settings=JournalSettings(durability="process", reserve_mb=0),
        boot_id="bench",
        run_id="bench",
        new_epoch=lambda: "bench",
    )
    now = datetime.now(UTC)
    for first in range(1, ROWS + 1, COMMIT):
        filled.append([journal_row(seq, filled.epoch, now) for seq in range(first, first + COMMIT)])
    try:
        yield filled
    finally:
        filled.close()


def journal_row(seq: int, epoch: str, now: datetime) -> ports.Row:
    order = Order(
        vt_orderid=f"TICKS.{seq}", orderid=str(seq), client_order_id=f"01K0000000000000000{seq:07}",
        gateway_name="TICKS", vt_symbol="rb2701.SHFE", symbol="rb2701", exchange="SHFE", direction=Direction.LONG,
        offset=Offset.OPEN, type=OrderType.LIMIT, price=3500.0 + seq % 50, volume=1.0, traded=0.0,
        status=Status.NOTTRADED, datetime=now, updated_at=now, seq=seq,
    )  # fmt: skip
    ts = int(now.timestamp() * 1_000_000) + seq
    return ports.Row(seq, epoch, "bench", ts, topics.ORDER_UPDATED, order.vt_orderid, records.encode(order))


async def all_ways(url: str, filled: SqliteJournal, number: int) -> dict[str, float]:
    node = f"{NODE}{number}"
    settings = BrokerSettings(kind="redis")
    broker = build_broker(settings, RedisSettings(url=url), node)
    await broker.open()
    sink = BrokerSink(broker, filled, SystemClock(), settings, node=node, batch=BATCH)
    began = time.perf_counter()
    sink.start()
    while sink.drained < ROWS:
        assert not sink.state().error, sink.state().error
        await asyncio.sleep(0.001)
    streamed = time.perf_counter()
    assert await broker.last(filled.epoch) == ROWS
    rates = {"stream": ROWS / (streamed - began)}
    ticks = messages(TICKS)
    began = time.perf_counter()
    for first in range(0, TICKS, TURN):
        for message in ticks[first : first + TURN]:
            sink.take(message)
        while sink.signals_waiting > ENOUGH:  # noqa: ASYNC110 - the sink has no event for it
            await asyncio.sleep(0.0005)
    while sink.signals_sent < TICKS:
        assert sink.signals_conflated + sink.signals_dropped == 0, "ticks were left out"
        await asyncio.sleep(0.001)
    rates["channels"] = TICKS / (time.perf_counter() - began)
    await sink.close(1)
    await broker.close()
    async with redis.asyncio.Redis.from_url(url) as client:
        rates["XADD"] = await bare_stream(client, filled)
        rates["PUBLISH"] = await bare_channels(client)
        await client.flushall()
    return rates


async def bare_stream(client: redis.asyncio.Redis, filled: SqliteJournal) -> float:
    entries = [entry_of(row, row.seq - 1, NODE) for row in filled.read(0, ROWS)]
    began = time.perf_counter()
    for first in range(0, ROWS, BATCH):
        pipeline = client.pipeline(transaction=False)
        for entry in entries[first : first + BATCH]:
            pipeline.execute_command("XADD", "bare", f"{entry.seq}-0", "event", entry.envelope)
        await pipeline.execute()
    return ROWS / (time.perf_counter() - began)


async def bare_channels(client: redis.asyncio.Redis) -> float:
    envelopes = [(f"bare:{message.topic}", encode_message(message, NODE)) for message in messages(TICKS)]
    began = time.perf_counter()
    for first in range(0, TICKS, SIGNALS):
        pipeline = client.pipeline(transaction=False)
        for channel, envelope in envelopes[first : first + SIGNALS]:
            pipeline.execute_command("PUBLISH", channel, envelope)
        await pipeline.execute()
    return TICKS / (time.perf_counter() - began)
