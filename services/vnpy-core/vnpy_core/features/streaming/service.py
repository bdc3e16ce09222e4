"""The hub between the bus and the WebSocket sessions: subscriptions, requests, housekeeping and shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import count

from vnpy_core.bus import topics
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.errors import (
    Conflict,
    CoreError,
    NotFound,
    NotPermitted,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
)
from vnpy_core.features.streaming.index import TopicIndex
from vnpy_core.features.streaming.outbox import Snapshot
from vnpy_core.features.streaming.schemas import (
    Auth,
    Error,
    Gap,
    Id,
    ListTopics,
    Op,
    Ping,
    Pong,
    StreamingStatus,
    Subscribe,
    Subscribed,
    TopicError,
    Topics,
    Unsubscribe,
    Unsubscribed,
    Welcome,
    decode,
    id_of,
)
from vnpy_core.features.streaming.session import GOING_AWAY, NOT_AUTHENTICATED, Connection, Session
from vnpy_core.features.streaming.settings import StreamingSettings
from vnpy_core.ports.auth import Principal
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.flow import Flow

DETAIL_LIMIT = 200
"""Characters of an error's detail: a decoder quotes what it was given, and that may be long."""


class StreamingService:
    """Loop thread only. `start` it before the first client; `close` it while the server still holds its connections."""

    def __init__(
        self, bus: Bus, view: ReadView, flow: Flow, clock: Clock, *, epoch: str, settings: StreamingSettings
    ) -> None:
        self.settings = settings
        self._view = view
        self._flow = flow
        self._clock = clock
        self._epoch = epoch
        self._sessions: dict[str, Session] = {}
        self._leaving: set[Session] = set()
        """Ended, with a connection that is still there."""
        self._index: TopicIndex[Session] = TopicIndex()
        self._numbers = count(1)
        self._open = True
        self._unsubscribe = bus.subscribe(["*"], self.publish)
        self._housekeeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look after the sessions."""
        self._housekeeper = asyncio.create_task(self._keep_house(), name="streaming housekeeper")

    def publish(self, message: Message) -> None:
        """Queue a message for those who listen; it is encoded when the first of them sends it."""
        for session, every_tick in self._index.receivers(message.topic):
            session.deliver(message, every_tick)

    def open(self, connection: Connection, principal: Principal) -> Session:
        """Greet a client. Raises Overloaded when there are too many, or on shutdown."""
        if not self._open or len(self._sessions) + len(self._leaving) >= self.settings.max_sessions:
            raise Overloaded("no more sessions" if self._open else "shutting down")
        now = self._clock.monotonic()
        session = Session(
            next(self._numbers), connection, principal, self.settings, self._flow, now, on_end=self._forget
        )
        self._sessions[session.id] = session
        self._welcome(session, None)
        return session

    def receive(self, session: Session, frame: str | bytes) -> Auth | None:
        """Do what a frame asks for; whatever is wrong with it is answered by an `error`.

        Returns a request to renew the token, which the caller answers by `renew` or `refuse`.
        """
        if session.ended:
            return None
        limit = self.settings.max_frame_bytes
        op: Op | None = None
        try:
            if not session.may_ask(self._clock.monotonic()):
                raise RateLimited(f"{self.settings.ops_per_s:g} requests a second at most")
            op = decode(frame, limit)
            return self._do(session, op)
        except CoreError as error:
            self._deny(session, op.id if op is not None else id_of(frame, limit), error)
            return None

    def renew(self, session: Session, request: Auth, principal: Principal) -> None:
        """The session goes on until the new token's expiry; another principal's token changes nothing."""
        if principal.name != session.principal.name:
            self._deny(session, request.id, NotPermitted("the token is another principal's"))
            return
        session.principal = principal
        self._welcome(session, request.id)

    async def leave(self, session: Session) -> None:
        """The client is gone: forget it."""
        session.end()
        await session.wait_ended()
        self._leaving.discard(session)

    def check(self) -> None:
        """Heartbeats, expired tokens, clients that stopped reading."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for session in tuple(self._sessions.values()):
            if session.principal.expires_at <= now:
                session.close(NOT_AUTHENTICATED, "the token expired")
            else:
                session.check(monotonic)

    def status(self) -> StreamingStatus:
        """For `/system/status`."""
        return StreamingStatus(sessions=[session.status() for session in self._sessions.values()])

    async def close(self) -> None:
        """Take no more clients, send what waits (`drain_s` at most) and close every session with 1001. Idempotent."""
        self._open = False
        self._unsubscribe()
        if self._housekeeper is not None:
            self._housekeeper.cancel()
        within_s = self.settings.drain_s
        everyone = {*self._sessions.values(), *self._leaving}
        for session in everyone:
            session.close(GOING_AWAY, "the service stops", drain_s=within_s)
        await asyncio.gather(*(session.wait_ended(within_s) for session in everyone))

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(self.settings.check_s)
            self.check()

    def _forget(self, session: Session) -> None:
        del self._sessions[session.id]
        self._leaving.add(session)
        for pattern in session.patterns:
            self._index.remove(session, pattern)

    def _welcome(self, session: Session, id: Id | None) -> None:
        welcome = Welcome(id=id, epoch=self._epoch, seq=self._view.seq, heartbeat_s=self.settings.heartbeat_s)
        session.reply(welcome.text())

    def _deny(self, session: Session, id: Id | None, error: CoreError) -> None:
        session.reply(Error(id=id, code=error.code, detail=error.detail[:DETAIL_LIMIT]).text())

    def _do(self, session: Session, op: Op) -> Auth | None:
        match op:
            case Subscribe():
                self._subscribe(session, op)
            case Unsubscribe():
                self._unsubscribe_from(session, op)
            case ListTopics():
                session.reply(Topics(id=op.id, topics=list(session.patterns)).text())
            case Ping():
                session.reply(Pong(id=op.id).text())
            case Auth():
                return op
        return None

    def _subscribe(self, session: Session, op: Subscribe) -> None:
        """One step on the loop: no message can come between the snapshots and what follows them."""
        self._check_count(op.topics)
        wanted = list(dict.fromkeys(op.topics))
        accepted = [topic for topic in wanted if topics.exists(topic)]
        if len({*session.patterns, *accepted}) > self.settings.topics_per_session:
            raise Conflict(f"a session has {self.settings.topics_per_session} topics at most")
        for pattern in accepted:
            session.patterns[pattern] = not op.conflate
            self._index.add(session, pattern, every_tick=not op.conflate)
        errors = [TopicError(topic, NotFound.code) for topic in wanted if not topics.exists(topic)]
        session.reply(Subscribed(id=op.id, topics=accepted, errors=errors).text())
        if op.resume is not None:
            self._answer_resume(session, op.id, accepted)
        for topic in self._topics_under(accepted):
            items = self._view.snapshot(topic)
            if items:
                session.deliver_snapshot(Snapshot(topic, self._epoch, self._view.seq, items))

    def _answer_resume(self, session: Session, id: Id | None, patterns: Iterable[str]) -> None:
        # Nothing is replayed yet, so each pattern that covers lossless topics has a gap; snapshots heal the others.
        for pattern in patterns:
            if any(topics.matches(pattern, topic) for topic in _LOSSLESS_TOPICS):
                session.reply(Gap(id=id, topic=pattern).text())

    def _unsubscribe_from(self, session: Session, op: Unsubscribe) -> None:
        self._check_count(op.topics)
        wanted = list(dict.fromkeys(op.topics))
        errors = [TopicError(topic, NotFound.code) for topic in wanted if topic not in session.patterns]
        left = [topic for topic in wanted if topic in session.patterns]
        for pattern in left:
            del session.patterns[pattern]
            self._index.remove(session, pattern)
        session.reply(Unsubscribed(id=op.id, topics=left, errors=errors).text())

    def _check_count(self, asked: list[str]) -> None:
        if len(asked) > self.settings.topics_per_message:
            raise PayloadTooLarge(f"a message names {self.settings.topics_per_message} topics at most")

    def _topics_under(self, patterns: list[str]) -> list[str]:
        """The exact topics that may have a state, each once."""
        found: dict[str, None] = {}
        for pattern in patterns:
            if pattern.endswith("*"):
                known = [*topics.FIXED_TOPICS, *map(topics.tick, self._view.ticks)]
                found |= dict.fromkeys(topic for topic in known if topics.matches(pattern, topic))
            else:
                found[pattern] = None
        return list(found)


_LOSSLESS_TOPICS = [name for name, kind in topics.FIXED_TOPICS.items() if kind is topics.DataClass.LOSSLESS]
