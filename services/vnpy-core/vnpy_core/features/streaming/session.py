"""One client: what it listens to, what waits for it, and the task that sends. No framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Protocol

import structlog

from vnpy_core.bus.message import Message
from vnpy_core.bus.topics import DataClass
from vnpy_core.domain.errors import Overloaded
from vnpy_core.features.streaming.outbox import Outbox, Replay, Snapshot
from vnpy_core.features.streaming.schemas import Gap, Heartbeat, Reply, SessionStatus
from vnpy_core.features.streaming.settings import StreamingSettings
from vnpy_core.features.streaming.wire import UNENCODABLE, Encoding, shared_frame
from vnpy_core.ports.auth import Principal
from vnpy_core.ports.flow import Flow

GOING_AWAY = 1001
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013
NOT_AUTHENTICATED = 4401

TURN = 64
"""Frames that one client gets in one write before the others have their turn."""
TURN_BYTES = 32_768
"""And about how many bytes at most: what a client that stopped reading holds in its connection is little more."""

_log = structlog.get_logger(__name__)


class Connection(Protocol):
    """The way to one client. Loop thread only."""

    @property
    def address(self) -> str:
        """Where it connects from, `host:port`."""
        ...

    @property
    def writable(self) -> bool:
        """Whether `send_now` may be called: the client has read enough of what came before."""
        ...

    def send_now(self, frames: list[bytes]) -> None:
        """Send whole WebSocket frames without waiting. Raises ConnectionError when the client is gone."""
        ...

    async def send(self, frames: list[bytes]) -> None:
        """Send whole WebSocket frames; waits while the client does not read. Raises ConnectionError when it is gone."""
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
        encoding: Encoding,
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
        self.encoding = encoding
        self.lossless_seq = 0
        """Up to here the client has, or is about to be sent, every class A event of its topics."""
        self._connection = connection
        self._settings = settings
        self._on_end = on_end
        self._outbox = Outbox(settings, encoding, lambda: flow.hold(self.id), lambda: flow.release(self.id))
        self._allowance = float(settings.ops_burst)
        self._allowance_at = self._beat_at = self._progress_at = now
        self._sent_before = 0
        self._sending = False
        """Whether the writer is at work."""
        self._flushing = False
        self.lane: list[bytes] | None = None
        """Frames that go out at the end of this turn of the loop; None while anything else waits."""
        self._lane_room = 0
        self._prev_seq: int | None = None
        """The seq of the class A frame before; at first, where the class A subscriptions begin."""
        self._replays: list[Replay] = []
        self._more: Iterator[bytes] | None = None
        """The rest of the snapshot or replay that is being sent."""
        self._taken: datetime | None = None
        """When the first message was published of the frames that are being sent."""
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
        if message.data_class is DataClass.LOSSLESS:
            if message.seq <= self.lossless_seq:
                return  # the client has it from another node, which was quicker
            self.lossless_seq = message.seq
        if self.lane is not None and self._is_open(self.lane):
            self._append(self.lane, self._message_frame(message))
            return
        self._close_lane()
        try:
            self._outbox.add(message, every_tick=every_tick)
        except Overloaded as error:
            self.close(TRY_AGAIN_LATER, error.detail)
        else:
            self._stir()

    def pass_on(self, frame: bytes) -> bool:
        """Send a frame that is the same for others, past the outbox; False where it has to be delivered."""
        lane = self.lane
        if lane is None or not self._is_open(lane):
            return False
        self._append(lane, frame)
        return True

    def begin_lossless(self, seq: int) -> None:
        """The client has all class A events of its topics up to `seq`, or asks for none of them."""
        self.lossless_seq = max(self.lossless_seq, seq)
        if self._prev_seq is None:
            self._prev_seq = seq

    def reply(self, reply: Reply) -> None:
        """Queue an answer; a client that never reads its answers is closed with 1013."""
        self._queue(lambda: self._outbox.add_item(self.encoding.reply(reply)))

    def replay(self, replay: Replay) -> None:
        """Queue what the client missed, up to the seq that `begin_lossless` names after it."""
        self._replays = [other for other in self._replays if other.waiting] + [replay]
        self._queue(lambda: self._outbox.add_item(replay))

    def deliver_snapshot(self, snapshot: Snapshot) -> None:
        """Queue a state; a client that asks for more and more and reads none is closed with 1013."""
        self._queue(lambda: self._outbox.add_item(snapshot))

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
            self._queue(lambda: self._outbox.add_heartbeat(self.encoding.reply(Heartbeat())))
        if not self._sending or self.sent != self._sent_before:
            self._sent_before = self.sent
            self._progress_at = now
        elif now - self._progress_at >= self._settings.stall_s:
            _log.warning("websocket client stopped reading", session=self.id, principal=self.principal.name)
            self.end()
            self._connection.abort()

    def status(self, now: datetime) -> SessionStatus:
        """For the operator."""
        oldest = self._taken or self._outbox.oldest
        replaying = sum(replay.waiting for replay in self._replays)
        return SessionStatus(
            id=self.id,
            principal=self.principal.name,
            address=self._connection.address,
            encoding=self.encoding.name,
            topics=len(self.patterns),
            queued=len(self._outbox) + len(self.lane or ()) + replaying,
            behind=self._outbox.lossless + replaying,
            lag_ms=0.0 if oldest is None else max(0.0, (now - oldest).total_seconds() * 1_000),
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
        self._close_lane()
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
            self.lane = None
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

    def _stir(self) -> None:
        """Something waits: send it after this step of the loop, with what comes until then."""
        if not self._flushing and not self._sending:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """One turn for a client that keeps up, which costs a third of waking the writer; the writer does the rest."""
        self._flushing = False
        if self.lane:
            self._write_lane()
            return
        if self._sending or self._ended or not self._connection.writable:
            self._wake.set()
            return
        is_sent = False
        try:
            if batch := self._turn():
                self._connection.send_now(batch)
                self.sent += len(batch)
                self._taken = None
            is_sent = True
        except ConnectionError:
            is_sent = True
            self._detach()
            self._outbox.clear()
        finally:
            if not is_sent:
                self.close(INTERNAL_ERROR, "internal error")
        if self._outbox or self._more is not None:
            self._wake.set()
        else:
            self._open_lane()

    def _is_open(self, lane: list[bytes]) -> bool:
        """Whether the client still reads: looked at once a turn."""
        if not lane and not self._connection.writable:
            self.lane = None
        return self.lane is not None

    def _append(self, lane: list[bytes], frame: bytes) -> None:
        if not lane:
            self._stir()
            self._lane_room = TURN_BYTES
        lane.append(frame)
        self._lane_room -= len(frame)
        if self._lane_room <= 0 or len(lane) >= TURN:
            self._write_lane()

    def _open_lane(self) -> None:
        """Nothing waits any more: what comes need not queue, as long as the client reads."""
        if not self._ended and self._connection.writable:
            self.lane = []

    def _write_lane(self) -> None:
        frames, self.lane = self.lane, None
        if not frames:
            return
        try:
            self._connection.send_now(frames)
        except ConnectionError:
            self._detach()
            self._outbox.clear()
            return
        self.sent += len(frames)
        self._taken = None
        self._open_lane()

    def _close_lane(self) -> None:
        """What follows goes by the outbox, behind what is in the lane."""
        if self.lane is not None:
            self._write_lane()
            self.lane = None

    async def _write(self) -> None:
        try:
            while not (self._ended and not self._outbox):
                await self._wake.wait()
                self._wake.clear()
                self._sending = True
                await self._drain()
                self._sending = False
                if not self._outbox and self._more is None:
                    self._open_lane()
        except ConnectionError:
            self._detach()
            self._outbox.clear()

    async def _drain(self) -> None:
        while batch := self._turn():
            await self._connection.send(batch)
            self._taken = None
            self.sent += len(batch)
            # No pause while many lossless messages wait: a burst of orders must not close a client that reads.
            if self._outbox and not self._outbox.is_pressed:
                await asyncio.sleep(0)

    def _turn(self) -> list[bytes]:
        """The frames that go out in one write; none when nothing waits."""
        batch: list[bytes] = []
        room = TURN_BYTES
        try:
            while room > 0 and len(batch) < TURN:
                if self._more is not None:
                    frame = next(self._more, None)
                    if frame is None:
                        self._more = None
                        continue
                else:
                    item = self._outbox.pop()
                    if item is None:
                        break
                    if isinstance(item, Snapshot | Replay):
                        self._more = self._snapshot_frames(item) if isinstance(item, Snapshot) else self._replayed(item)
                        continue
                    frame = self._message_frame(item) if isinstance(item, Message) else item
                batch.append(frame)
                room -= len(frame)
        except Overloaded as error:
            # Nothing may follow where something is missing.
            self.close(TRY_AGAIN_LATER, error.detail)
            self._outbox.clear()
            return []
        return batch

    def _message_frame(self, message: Message) -> bytes:
        if self._taken is None:
            self._taken = message.ts
        try:
            if message.data_class is not DataClass.LOSSLESS:
                return shared_frame(self.encoding, message)
            frame = shared_frame(self.encoding, message, self._prev_seq)
        except UNENCODABLE as error:
            return self._unencodable(message.topic, error)
        self._prev_seq = message.seq
        return frame

    def _replayed(self, replay: Replay) -> Iterator[bytes]:
        for page in replay.pages(TURN):
            for message in page:
                try:
                    # Not kept with the message: it is old, and there are many.
                    frame = self.encoding.message(message, self._prev_seq)
                except UNENCODABLE as error:
                    yield self._unencodable(message.topic, error)
                else:
                    self._prev_seq = message.seq
                    yield frame

    def _snapshot_frames(self, snapshot: Snapshot) -> Iterator[bytes]:
        for topic, event in snapshot.states():
            try:
                yield self.encoding.snapshot(topic, snapshot.epoch, snapshot.seq, event)
            except UNENCODABLE as error:
                yield self._unencodable(topic, error)

    def _unencodable(self, topic: str, error: Exception) -> bytes:
        _log.error("an event cannot be written on the wire", topic=topic, error=str(error))
        return self.encoding.reply(Gap(topic=topic))

    def _queue(self, add: Callable[[], None]) -> None:
        self._close_lane()
        if self._ended:
            return
        try:
            add()
        except Overloaded as error:
            self.close(TRY_AGAIN_LATER, error.detail)
        else:
            self._stir()

    def _writer_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("websocket writer failed", session=self.id, exc_info=error)
            self.close(INTERNAL_ERROR, "internal error")
