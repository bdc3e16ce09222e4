"""One client: what it listens to, what waits for it, and the task that sends. No framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

import structlog

from vnpy_core.bus.message import Message
from vnpy_core.bus.topics import DataClass
from vnpy_core.domain.errors import Overloaded
from vnpy_core.features.streaming.outbox import Outbox, Snapshot
from vnpy_core.features.streaming.schemas import Gap, Heartbeat, SessionStatus, snapshot_text
from vnpy_core.features.streaming.settings import StreamingSettings
from vnpy_core.ports.auth import Principal
from vnpy_core.ports.flow import Flow

GOING_AWAY = 1001
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013
NOT_AUTHENTICATED = 4401

TURN = 64
"""Frames that one client gets in one write before the others have their turn."""
UNENCODABLE = (TypeError, ValueError, RecursionError)
"""What msgspec raises for data that JSON has no words for, such as a strategy variable of a numpy type."""

_HEARTBEAT = Heartbeat().text()
_log = structlog.get_logger(__name__)


class Connection(Protocol):
    """The way to one client. Loop thread only."""

    async def send(self, frames: list[str]) -> None:
        """Send text frames; waits while the client does not read. Raises ConnectionError when it is gone."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye; waits while the client does not read. Raises ConnectionError when it is gone."""
        ...

    def abort(self) -> None:
        """Cut the connection at once, whatever waits in it."""
        ...


class Session:
    """Loop thread only. `on_end` is called once, synchronously, when nothing more may be delivered."""

    def __init__(
        self,
        number: int,
        connection: Connection,
        principal: Principal,
        settings: StreamingSettings,
        flow: Flow,
        now: float,
        on_end: Callable[[Session], None],
    ) -> None:
        self.id = f"ws-{number}"
        self.principal = principal
        self.patterns: dict[str, bool] = {}
        """Subscriptions in order, each with whether it asks for every tick."""
        self.sent = 0
        self._connection = connection
        self._settings = settings
        self._on_end = on_end
        self._outbox = Outbox(settings, lambda: flow.hold(self.id), lambda: flow.release(self.id))
        self._allowance = float(settings.ops_burst)
        self._allowance_at = self._beat_at = self._progress_at = now
        self._sent_before = 0
        self._sending = False
        self._prev_seq: int | None = None
        self._ended = False
        self._wake = asyncio.Event()
        self._writer = asyncio.create_task(self._write(), name=f"{self.id} writer")
        self._writer.add_done_callback(self._writer_done)
        self._farewell: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether the session takes no more messages and requests."""
        return self._ended

    def deliver(self, message: Message, every_tick: bool) -> None:
        """Queue a message; a client too far behind for it is closed with 1013."""
        try:
            self._outbox.add(message, every_tick=every_tick)
        except Overloaded as error:
            self.close(TRY_AGAIN_LATER, error.detail)
        else:
            self._wake.set()

    def reply(self, text: str) -> None:
        """Queue an answer; a client that never reads its answers is closed with 1013."""
        if self._ended:
            return
        try:
            self._outbox.add_reply(text)
        except Overloaded as error:
            self.close(TRY_AGAIN_LATER, error.detail)
        else:
            self._wake.set()

    def deliver_snapshot(self, snapshot: Snapshot) -> None:
        """Queue a topic's state."""
        if self._ended:
            return
        self._outbox.add_snapshot(snapshot)
        self._wake.set()

    def may_ask(self, now: float) -> bool:
        """Whether the client may have one more request done, by its allowance a second. `now` is monotonic seconds."""
        gained = (now - self._allowance_at) * self._settings.ops_per_s
        self._allowance = min(self._allowance + gained, float(self._settings.ops_burst))
        self._allowance_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def check(self, now: float) -> None:
        """Send a heartbeat when it is due, and cut off a client that takes nothing. `now` is monotonic seconds."""
        if now - self._beat_at >= self._settings.heartbeat_s:
            self._beat_at = now
            self._outbox.add_heartbeat(_HEARTBEAT)
            self._wake.set()
        if not self._sending or self.sent != self._sent_before:
            self._sent_before = self.sent
            self._progress_at = now
        elif now - self._progress_at >= self._settings.stall_s:
            _log.warning("websocket client stopped reading", session=self.id, principal=self.principal.name)
            self.end()
            self._connection.abort()

    def status(self) -> SessionStatus:
        """For the operator."""
        return SessionStatus(
            id=self.id,
            principal=self.principal.name,
            topics=len(self.patterns),
            queued=len(self._outbox),
            sent=self.sent,
            conflated=self._outbox.conflated,
            dropped=self._outbox.dropped,
        )

    def end(self) -> None:
        """Take no more messages, forget what waits and stop sending. Idempotent."""
        self._detach()
        self._outbox.clear()
        self._writer.cancel()

    def close(self, code: int, reason: str, *, drain_s: float = 0.0) -> None:
        """Take no more messages, send what waits if that takes `drain_s` at most, then say goodbye. Returns at once."""
        if self._ended:
            return
        self._detach()
        self._farewell = asyncio.create_task(self._say_goodbye(code, reason, drain_s), name=f"{self.id} farewell")

    async def wait_ended(self, within_s: float | None = None) -> None:
        """Return when the session's tasks are over; past `within_s` the connection is cut."""
        tasks = {task for task in (self._writer, self._farewell) if task is not None}
        _, late = await asyncio.wait(tasks, timeout=within_s)
        if late:
            self._connection.abort()
            for task in late:
                task.cancel()
            await asyncio.wait(late)

    def _detach(self) -> None:
        if not self._ended:
            self._ended = True
            self._wake.set()
            self._on_end(self)

    async def _say_goodbye(self, code: int, reason: str, drain_s: float) -> None:
        try:
            async with asyncio.timeout(drain_s or self._settings.stall_s):
                if drain_s:
                    await asyncio.wait({self._writer})
                else:
                    self.end()
                await self._connection.close(code, reason)
        except (TimeoutError, ConnectionError):
            self._connection.abort()
        finally:
            self.end()

    async def _write(self) -> None:
        try:
            while not (self._ended and not self._outbox):
                await self._wake.wait()
                self._wake.clear()
                self._sending = True
                await self._drain()
                self._sending = False
        except ConnectionError:
            self._detach()
            self._outbox.clear()

    async def _drain(self) -> None:
        frames = self._frames()
        while batch := list(islice(frames, TURN)):
            await self._connection.send(batch)
            self.sent += len(batch)
            # No pause while many lossless messages wait: a burst of orders must not close a client that reads.
            if self._outbox and self._outbox.lossless * 4 < self._settings.lossless_limit:
                await asyncio.sleep(0)

    def _frames(self) -> Iterator[str]:
        while (item := self._outbox.pop()) is not None:
            if isinstance(item, Message):
                yield self._message_frame(item)
            elif isinstance(item, str):
                yield item
            else:
                yield from _snapshot_frames(item)

    def _message_frame(self, message: Message) -> str:
        try:
            shared = message.text
        except UNENCODABLE as error:
            return _unencodable(message.topic, error)
        if message.data_class is not DataClass.LOSSLESS:
            return shared
        prev_seq = "null" if self._prev_seq is None else self._prev_seq
        self._prev_seq = message.seq
        return f'{{"prev_seq":{prev_seq},{shared[1:]}'

    def _writer_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("websocket writer failed", session=self.id, exc_info=error)
            self.close(INTERNAL_ERROR, "internal error")


def _snapshot_frames(snapshot: Snapshot) -> Iterator[str]:
    for _, event in snapshot.items:
        try:
            yield snapshot_text(snapshot.topic, snapshot.epoch, snapshot.seq, event)
        except UNENCODABLE as error:
            yield _unencodable(snapshot.topic, error)


def _unencodable(topic: str, error: Exception) -> str:
    _log.error("an event cannot be written as JSON", topic=topic, error=str(error))
    return Gap(topic=topic).text()
