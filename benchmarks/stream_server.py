"""A server that sends the same ticks to all of its clients, as a child of benchmarks/stream.py.

    python stream_server.py hub|bare PORT MESSAGES

`hub` is the service's hub and endpoint with nothing else of the service; `bare` is uvicorn and a loop over the open
sockets. Both send the bytes that `Message.json` gives, over uvicorn with the same settings but for its protocol class.
A line of input sends all messages once, as fast as the clients take them; the answer comes when they were handed over.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import uvicorn
from fastapi import FastAPI
from stream_reader import answer, each_line

from vnpy_core.bus import topics
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.events import Tick
from vnpy_core.features.streaming import endpoints
from vnpy_core.features.streaming.server import UVICORN_SETTINGS
from vnpy_core.features.streaming.service import StreamingService
from vnpy_core.features.streaming.settings import StreamingSettings
from vnpy_core.kit.clock import SystemClock
from vnpy_core.kit.flow import CreditFlow
from vnpy_core.ports.auth import Principal, Role

BATCH = 256
"""Messages in a turn of the loop, as `engine.bridge` publishes them."""
SYMBOLS = 50
LEVELS = {f"{side}_{what}_{n}": 3000.0 + n for side in ("bid", "ask") for what in ("price", "volume") for n in range(6)}
LEVELS = {name: value for name, value in LEVELS.items() if not name.endswith("_0")}


def messages(count: int) -> list[Message]:
    """New ones, of which nothing is encoded yet."""
    now = datetime.now(UTC)
    return [
        Message(topics.tick(f"tick{number % SYMBOLS:02}.SHFE"), f"tick{number % SYMBOLS:02}.SHFE", "bench", 0, now,
                _tick(f"tick{number % SYMBOLS:02}", number, now))
        for number in range(count)
    ]  # fmt: skip


def _tick(symbol: str, number: int, now: datetime) -> Tick:
    return Tick(
        gateway_name="TICKS", vt_symbol=f"{symbol}.SHFE", symbol=symbol, exchange="SHFE", datetime=now,
        tick_seq=100_000 + number, name=symbol, volume=1e5 + number, turnover=1e6, open_interest=1e5,
        last_price=3000.0 + number % 17, last_volume=1.0, limit_up=3300.0, limit_down=2700.0, open_price=3000.0,
        high_price=3100.0, low_price=2900.0, pre_close=3000.0, localtime=None, **LEVELS,
    )  # fmt: skip


class Hub:
    """The service's own."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.app.include_router(endpoints.router)
        self._bus, self._flow = Bus(), CreditFlow()
        self._streaming = build_streaming(self._bus, self._flow)
        self.app.state.streaming = self._streaming
        self.app.state.authenticator = self.app.state.auth = Everybody()
        self.settings: dict[str, Any] = UVICORN_SETTINGS

    def start(self) -> None:
        self._streaming.start()

    async def send(self, all_messages: list[Message]) -> None:
        for first in range(0, len(all_messages), BATCH):
            while not self._flow.open:  # noqa: ASYNC110 - as a replay waits, but on the loop
                await asyncio.sleep(0.001)
            for message in all_messages[first : first + BATCH]:
                self._bus.publish(message)
            await asyncio.sleep(0)


def build_streaming(bus: Bus, flow: CreditFlow) -> StreamingService:
    return StreamingService(
        bus, ReadView(), flow, SystemClock(), epoch="bench", settings=StreamingSettings(heartbeat_s=3_600)
    )


class Everybody:
    """Lets in whoever comes."""

    async def authenticate(self, token: str) -> Principal:
        expires = datetime.now(UTC) + timedelta(hours=1)
        return Principal(name=token, role=Role.VIEWER, session_id="", expires_at=expires)


class Bare:
    """A broadcast as a tutorial has it, without its framework."""

    def __init__(self) -> None:
        self._open: dict[int, Callable[[Any], Awaitable[None]]] = {}
        self.settings: dict[str, Any] = {"ws_per_message_deflate": False, "interface": "asgi3"}

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        self._open[id(scope)] = send
        while (await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": '{"op":"subscribed"}'})
        del self._open[id(scope)]

    def start(self) -> None:
        pass

    async def send(self, all_messages: list[Message]) -> None:
        for message in all_messages:
            text = message.json.decode()
            for send in self._open.values():
                await send({"type": "websocket.send", "text": text})


async def run(kind: str, port: int, count: int) -> None:
    server_of: Hub | Bare = Hub() if kind == "hub" else Bare()
    config = uvicorn.Config(
        server_of.app, port=port, log_config=None, access_log=False, lifespan="off", **server_of.settings
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    server_of.start()
    work = set()

    async def send() -> None:
        await server_of.send(messages(count))
        answer({})

    def ask(line: str) -> None:
        task = asyncio.create_task(send())
        work.add(task)
        task.add_done_callback(work.discard)

    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, each_line(ask, over.set))
    answer({"ready": True, "bytes": sum(len(message.json) for message in messages(count))})
    await over.wait()
    server.force_exit = server.should_exit = True
    await serving


def main() -> None:
    kind, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    loop = uvicorn.Config(SimpleNamespace(), loop="auto", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run(kind, port, count))


if __name__ == "__main__":
    main()
