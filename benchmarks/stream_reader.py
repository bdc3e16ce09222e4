"""Many WebSocket clients in one process, as a child of benchmarks/stream.py.

    python stream_reader.py '{"port": 8006, "clients": 20, "path": "/ws", "token": "…", "topics": ["tick.*"]}'

A client looks for the ends of frames and for the stamp of `stream_ticks`, and understands nothing else, so that
reading costs little beside what is measured. Prints a line when all are subscribed; then answers lines of its input:
`begin` (count from now on), `end` (what came since), `expect N` (answers when so many more frames came). Times are ms.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import uvloop

STAMP, TICK_SEQ, SNAPSHOT = b'"turnover":', b'"tick_seq":', b'"snapshot":true'
TEXT, PING = 0x81, 0x89
AT_ONCE = 50
"""Handshakes under way."""
TRIES = 5
"""A server that is already too busy drops some."""
SETTLED = (b'"subscribed"', b'"error"')


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, reader: Reader) -> None:
        self.ticks = self.frames = 0
        self.missed = 0
        """Numbers left out between two ticks of one symbol; of a benchmark with one symbol."""
        self.tick_seq = 0
        self.last = b""
        self.subscribed: asyncio.Future[None] = reader.loop.create_future()
        self._reader = reader
        self._rest = b""
        self._upgraded = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        wanted = self._reader.wanted
        key = base64.b64encode(os.urandom(16)).decode()
        bearer = f"Authorization: Bearer {wanted['token']}\r\n" if wanted.get("token") else ""
        transport.write(
            (
                f"GET {wanted['path']} HTTP/1.1\r\nHost: 127.0.0.1:{wanted['port']}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{bearer}\r\n"
            ).encode()
        )

    def connection_lost(self, error: Exception | None) -> None:
        self._reader.lost(self)
        if not self.subscribed.done():
            port, said = self._reader.wanted["port"], self.last or self._rest
            self.subscribed.set_exception(ConnectionError(f"port {port} closed the connection, after {said[:300]!r}"))

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns() / 1000
        if self._rest:
            data = self._rest + data
        if not self._upgraded and not (data := self._upgrade(data)):
            return
        reader = self._reader
        at, size, stamped, frames = 0, len(data), reader.stamped, 0
        while at + 2 <= size:
            length = data[at + 1]
            body = at + 2
            if length == 126:
                body = at + 4
                length = int.from_bytes(data[at + 2 : body], "big")
            elif length == 127:
                body = at + 10
                length = int.from_bytes(data[at + 2 : body], "big")
            end = body + length
            if end > size:
                break
            frames += 1
            if stamped and (found := data.find(STAMP, body, end)) > 0:
                self.ticks += 1
                reader.times.append(now - float(data[found + 11 : data.index(b",", found)]))
            elif data[at] == PING:
                self._send(0x8A, data[body:end])
                frames -= 1
            elif not self.subscribed.done() or reader.following:
                self._look(data[body:end])
            at = end
        self._rest = data[at:] if at < size else b""
        self.frames += frames
        reader.count(frames, size - len(self._rest), now)

    def _upgrade(self, data: bytes) -> bytes:
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            self._rest = data
            return b""
        if not head.startswith(b"HTTP/1.1 101"):
            self._rest = data
            self._transport.close()
            return b""
        self._upgraded, self._rest = True, b""
        wanted = self._reader.wanted
        if wanted.get("topics"):
            op = {"op": "subscribe", "id": 1, "topics": wanted["topics"], "conflate": wanted.get("conflate", True)}
            self._send(TEXT, json.dumps(op).encode())
        else:
            self.subscribed.set_result(None)
        return rest

    def _look(self, frame: bytes) -> None:
        if not self.subscribed.done():
            self.last = frame
            if any(word in frame for word in SETTLED):
                if b'"error"' in frame:
                    self.subscribed.set_exception(ConnectionError(frame.decode()))
                else:
                    self.subscribed.set_result(None)
        elif (found := frame.find(TICK_SEQ)) > 0:
            seq = int(frame[found + 11 : frame.index(b",", found)])
            if SNAPSHOT not in frame:
                self.ticks += 1
                self.missed += max(0, seq - self.tick_seq - 1)
            self.tick_seq, self.last = seq, frame

    def _send(self, opcode: int, payload: bytes) -> None:
        """Masked with zeros, which leaves it as it is."""
        size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        self._transport.write(bytes([opcode]) + size + bytes(4) + payload)

    def close(self) -> None:
        self._transport.abort()


class Reader:
    """All of them."""

    def __init__(self, wanted: dict[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        self.wanted = wanted
        self.loop = loop
        self.stamped = wanted.get("mode", "stamps") == "stamps"
        self.following = wanted.get("mode") == "follow"
        self.times = array("d")
        self.clients: list[Client] = []
        self._frames = self._bytes = self._lost = 0
        self._first = self._last = 0.0
        self._expected = 0
        self._begun = self._cpu = 0.0

    async def connect(self) -> None:
        free = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with free:
                for left in reversed(range(TRIES)):
                    client = Client(self)
                    await self.loop.create_connection(lambda new=client: new, "127.0.0.1", self.wanted["port"])
                    try:
                        await asyncio.wait_for(client.subscribed, 60)
                        break
                    except ConnectionError:
                        if not left:
                            raise
                        await asyncio.sleep(0.2)
                self.clients.append(client)

        await asyncio.gather(*(one() for _ in range(self.wanted["clients"])))

    def count(self, frames: int, size: int, now: float) -> None:
        if not self._first:
            self._first = now
        self._frames += frames
        self._bytes += size
        self._last = now
        if self._expected and self._frames >= self._expected:
            self._expected = 0
            answer(self.result())

    def lost(self, client: Client) -> None:
        self._lost += 1

    def ask(self, line: str) -> None:
        match line.split():
            case ["begin"]:
                self._begin()
                answer({})
            case ["expect", count]:
                self._begin()
                self._expected = int(count)
                answer({})
            case ["end"]:
                answer(self.result())

    def _begin(self) -> None:
        self._frames = self._bytes = 0
        self._first = 0.0
        del self.times[:]
        self._begun, self._cpu = time.monotonic(), cpu_s()

    def result(self) -> dict[str, Any]:
        seconds = time.monotonic() - self._begun
        found: dict[str, Any] = {
            "frames": self._frames, "bytes": self._bytes, "seconds": seconds, "lost": self._lost,
            "flow_s": (self._last - self._first) / 1e6, "cpu": (cpu_s() - self._cpu) / seconds * 100,
        }  # fmt: skip
        if self.stamped and self.times:
            p50, p99, worst = np.percentile(np.frombuffer(self.times), (50, 99, 100)) / 1000
            found |= {"p50": float(p50), "p99": float(p99), "worst": float(worst), "ticks": len(self.times)}
        if self.following:
            found["each"] = [[client.ticks, client.missed, client.tick_seq] for client in self.clients]
            found["last"] = [client.last.decode() for client in self.clients]
        return found


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def answer(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


def each_line(handle: Callable[[str], None], at_end: Callable[[], None]) -> Callable[[], None]:
    """For `add_reader` on the standard input: its lines, and its end."""
    rest = b""

    def readable() -> None:
        nonlocal rest
        data = os.read(0, 65536)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            handle(line.decode())
        if not data:
            at_end()

    return readable


async def run(wanted: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    reader = Reader(wanted, loop)
    await reader.connect()
    over = asyncio.Event()
    loop.add_reader(0, each_line(reader.ask, over.set))
    answer({"ready": True})
    await over.wait()
    for client in reader.clients:
        client.close()


def main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    uvloop.run(run(json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
