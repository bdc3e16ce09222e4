"""A TCP proxy that treats connections badly, by a seed: it cuts, delays, half-closes and swallows."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Self

CHUNK = 65_536


class Harm(StrEnum):
    """What happens to a connection once its time has come."""

    CUT = "cut"
    """Both ends get a reset, in the middle of a frame as it may be."""
    DELAY = "delay"
    """Nothing passes for a while; then it goes on, until the next harm."""
    HALF_CLOSE = "half-close"
    """The client gets an end of stream, what it sends still passes."""
    BLACK_HOLE = "black hole"
    """Nothing passes any more and nobody is told: only silence shows it."""


class _Connection:
    def __init__(
        self, client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:  # fmt: skip
        self.client_reader, self.client_writer = client
        self.server_reader, self.server_writer = server
        self.open = asyncio.Event()
        """Cleared while nothing passes."""
        self.open.set()
        self.swallows = False
        self.tasks: list[asyncio.Task[None]] = []

    def cut(self) -> None:
        self.client_writer.transport.abort()
        self.server_writer.transport.abort()


class CuttingProxy:
    """Between clients and `target`, which may be changed or be None for nobody there. Loop thread only.

    Connection number n draws from `seed` and n when it is harmed (after so many bytes to the client, or so many
    seconds, whichever is first) and how. `calm()` harms none any more, `begin()` begins (again).
    """

    def __init__(
        self,
        target: int | None,
        *,
        seed: int | str,
        harms: Sequence[Harm] = (Harm.CUT, Harm.DELAY, Harm.HALF_CLOSE),
        within_bytes: int = 60_000,
        within_s: float = 1.0,
        delay_s: float = 0.1,
        calm: bool = False,
    ) -> None:
        self.target = target
        self.done: Counter[Harm] = Counter()
        self.connections = 0
        self._seed = seed
        self._harms = tuple(harms)
        self._within_bytes = within_bytes
        self._within_s = within_s
        self._delay_s = delay_s
        self._open: set[_Connection] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._calm = calm
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut_all()
        for task in list(self._handlers):
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    def calm(self) -> None:
        """Harm no connection any more; those that are being harmed end."""
        self._calm = True
        self.cut_all()

    def begin(self) -> None:
        """Harm all connections that come from now on; those that are there end."""
        self._calm = False
        self.cut_all()

    def cut_all(self) -> None:
        for connection in list(self._open):
            connection.cut()

    def cut_one(self, draw: random.Random) -> bool:
        """Reset one open connection, whichever; False where there is none."""
        connections = sorted(self._open, key=id)
        if connections:
            draw.choice(connections).cut()
        return bool(connections)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the end of a connection, or of the proxy
        finally:
            self._handlers.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.target is None:
            return
        server = await asyncio.open_connection("127.0.0.1", self.target)
        self.connections += 1
        draw = random.Random(f"{self._seed}:{self.connections}")
        connection = _Connection((reader, writer), server)
        self._open.add(connection)
        trigger = asyncio.Event()
        bytes_left = draw.randrange(1, self._within_bytes)
        connection.tasks = [
            asyncio.create_task(self._to_server(connection)),
            asyncio.create_task(self._to_client(connection, trigger, bytes_left)),
            asyncio.create_task(self._harm(connection, trigger, draw)),
        ]
        try:
            await asyncio.wait(connection.tasks[:2])
        finally:
            self._open.discard(connection)
            for task in connection.tasks:
                task.cancel()
            await asyncio.gather(*connection.tasks, return_exceptions=True)
            connection.cut()

    async def _to_server(self, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            while content := await connection.client_reader.read(CHUNK):
                await connection.open.wait()
                if not connection.swallows:
                    connection.server_writer.write(content)
                    await connection.server_writer.drain()
        connection.server_writer.close()

    async def _to_client(self, connection: _Connection, trigger: asyncio.Event, bytes_left: int) -> None:
        with contextlib.suppress(OSError):
            while content := await connection.server_reader.read(CHUNK):
                if not trigger.is_set() and not self._calm and len(content) >= bytes_left:
                    connection.client_writer.write(content[:bytes_left])
                    content = content[bytes_left:]
                    trigger.set()
                    await asyncio.sleep(0)
                bytes_left -= len(content)
                await connection.open.wait()
                if connection.swallows:
                    continue
                if connection.client_writer.transport.is_closing():
                    return
                connection.client_writer.write(content)
                await connection.client_writer.drain()
            connection.client_writer.close()

    async def _harm(self, connection: _Connection, trigger: asyncio.Event, draw: random.Random) -> None:
        while not self._calm:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(draw.uniform(0, self._within_s)):
                    await trigger.wait()
            if self._calm:
                return
            harm = draw.choice(self._harms)
            self.done[harm] += 1
            match harm:
                case Harm.CUT:
                    connection.cut()
                    return
                case Harm.HALF_CLOSE:
                    connection.swallows = True
                    with contextlib.suppress(OSError):
                        connection.client_writer.write_eof()
                    return
                case Harm.BLACK_HOLE:
                    connection.swallows = True
                    return
                case Harm.DELAY:
                    connection.open.clear()
                    await asyncio.sleep(draw.uniform(0, self._delay_s))
                    connection.open.set()
                    trigger.clear()
