"""Exports: a child produces the file, and the client gets it as it comes.

CSV goes through a pipe; Parquet, which must seek, into a file that is sent when it is whole and removed then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import Any, BinaryIO

import msgspec

from vnpy_core.domain.errors import Overloaded
from vnpy_core.features.market_data.children import Child
from vnpy_core.features.market_data.jobspec import JobSpec
from vnpy_core.features.market_data.uploads import Room

PART = 65_536
"""Bytes sent at a time."""


class Exports:
    """Loop thread only."""

    def __init__(self, command: Sequence[str], room: Room, *, limit: int) -> None:
        """`room`: where Parquet waits for being sent. At most `limit` exports at a time."""
        self._command = command
        self._room = room
        self._limit = limit
        self._running: set[Child] = set()
        self._count = 0
        self._closed = False

    @contextlib.asynccontextmanager
    async def open(self, spec: JobSpec, *, seekable: bool) -> AsyncGenerator[AsyncGenerator[bytes, None], None]:
        """The export's bytes, for as long as the context lasts; leaving it ends the child.

        Raises Overloaded (too many at a time). The iteration raises what the child reports as its error, ChildFailed,
        StorageFull: what came before is no whole file then.
        """
        if self._closed or self._count >= self._limit:
            raise Overloaded("the service ended" if self._closed else f"{self._limit} exports are under way already")
        self._count += 1
        try:
            parts = self._file(spec) if seekable else self._pipe(spec)
            async with contextlib.aclosing(parts):
                yield parts
        finally:
            self._count -= 1

    async def close(self) -> None:
        """End all; whoever reads them sees ChildFailed."""
        self._closed = True
        await asyncio.gather(*(child.end() for child in self._running))

    async def _pipe(self, spec: JobSpec) -> AsyncGenerator[bytes, None]:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb", 0) as source:
            try:
                there = msgspec.structs.replace(spec, out=f"/dev/fd/{writing}")
                child = await Child.start(self._command, there, pass_fds=[writing])
            finally:
                os.close(writing)  # or the end of the child would not be the end of the pipe
            async with self._ending(child), _following(child) as result:
                while part := await _read(source):
                    yield part
                await result

    async def _file(self, spec: JobSpec) -> AsyncGenerator[bytes, None]:
        await asyncio.to_thread(self._room.check)
        path = self._room.folder / f"export-{secrets.token_hex(8)}"
        try:
            child = await Child.start(self._command, msgspec.structs.replace(spec, out=str(path)))
            async with self._ending(child):
                await child.result(_no_progress)
            with await asyncio.to_thread(path.open, "rb") as file:
                while part := await asyncio.to_thread(file.read, PART):
                    yield part
        finally:
            path.unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def _ending(self, child: Child) -> AsyncGenerator[None, None]:
        self._running.add(child)
        try:
            yield
        finally:
            self._running.discard(child)
            await child.end()


@contextlib.asynccontextmanager
async def _following(child: Child) -> AsyncGenerator[asyncio.Task[dict[str, Any]], None]:
    """The child's result, whose reports are read all the while, so that it never waits for us."""
    result = asyncio.create_task(child.result(_no_progress))
    try:
        yield result
    finally:
        result.cancel()
        await asyncio.gather(result, return_exceptions=True)


async def _read(source: BinaryIO) -> bytes:
    """What comes next through a pipe; empty at its end.

    By hand, because the loops do not agree on who closes the file of a transport, and once too often hits a stranger.
    """
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(source, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(source)
    return source.read(PART)  # of a pipe that has something: at once, and no more than it has


def _no_progress(fraction: float, message: str) -> None:
    """An export's progress is what has come of it."""
