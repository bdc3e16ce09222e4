"""The hub between the bus and the WebSocket sessions: subscriptions, requests, housekeeping and shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import count

import structlog

from vnpy_core.bus import topics
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.bus.topics import DataClass
from vnpy_core.domain.errors import (
    Conflict,
    CoreError,
    NotFound,
    NotPermitted,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
)
from vnpy_core.domain.events import Event
from vnpy_core.features.streaming.index import TopicIndex
from vnpy_core.features.streaming.outbox import Replay, Snapshot
from vnpy_core.features.streaming.recent import Recent
from vnpy_core.features.streaming.schemas import (
    Auth,
    Error,
    Gap,
    Id,
    ListTopics,
    Op,
    Ping,
    Pong,
    Resume,
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
from vnpy_core.features.streaming.session import (
    GOING_AWAY,
    NOT_AUTHENTICATED,
    SERVICE_RESTART,
    Connection,
    Session,
)
from vnpy_core.features.streaming.settings import StreamingSettings
from vnpy_core.features.streaming.wire import JSON, UNENCODABLE, Encoding, shared_frame
from vnpy_core.ports.auth import Principal
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.flow import Flow

_log = structlog.get_logger(__name__)

DETAIL_LIMIT = 200
"""Characters of an error's detail: a decoder quotes what it was given, and that may be long."""


class StreamingService:
    """Loop thread only. `start` it before the first client; `close` it while the server still holds its connections."""

    def __init__(
        self,
        bus: Bus,
        view: ReadView,
        flow: Flow,
        clock: Clock,
        *,
        epoch: str,
        settings: StreamingSettings,
        ready: Callable[[], bool] = lambda: True,
        still_valid: Callable[[Principal], bool] = lambda principal: True,
    ) -> None:
        """While not `ready` no client is taken. `still_valid` says whether a principal's login was not ended."""
        self.settings = settings
        self.epoch = epoch
        self.seq = view.seq
        """The last class A event that was published: the place of everything that is sent now."""
        self._view = view
        self._flow = flow
        self._clock = clock
        self._ready = ready
        self._still_valid = still_valid
        self._sessions: dict[str, Session] = {}
        self._leaving: set[Session] = set()
        """Ended, with a connection that is still there."""
        self._index: TopicIndex[Session] = TopicIndex()
        self._recent = Recent(settings.resume_events)
        self._states: dict[str, Sequence[Event]] = {}
        """Snapshots of fixed topics, until the next message of their topic: many clients share one."""
        self._numbers = count(1)
        self._open = True
        self._unsubscribe = bus.subscribe(["*"], self.publish)
        self._housekeeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look after the sessions."""
        self._housekeeper = asyncio.create_task(self._keep_house(), name="streaming housekeeper")

    def seed_recent(self, messages: Iterable[Message], complete_from: int) -> None:
        """What was published before: all class A messages with a seq above `complete_from`, oldest first.

        To be called before anything is published and, where messages were missed, after `drop_sessions`. Without it no
        client can resume from a place before this start.
        """
        newest = list(messages)
        self._recent.seed(newest, complete_from)
        self.seq = max(complete_from, newest[-1].seq if newest else 0)
        self._states.clear()

    def set_epoch(self, epoch: str) -> None:
        """Begin another sequence of seqs: what was kept goes, and so do all clients. Then `seed_recent`."""
        if epoch == self.epoch:
            return
        self.drop_sessions(reason="another epoch begins")
        self.epoch = epoch
        self.seq = 0
        self._recent.forget()

    def drop_sessions(self, code: int = SERVICE_RESTART, reason: str = "the node begins anew; come again") -> None:
        """Close all sessions, whatever waits for them: their clients come again and resume or start from a snapshot."""
        for session in tuple(self._sessions.values()):
            session.close(code, reason)
        self._states.clear()

    def publish(self, message: Message) -> None:
        """Queue a message for those who listen; it is encoded when the first of them sends it."""
        self._states.pop(message.topic, None)
        if message.data_class is DataClass.LOSSLESS:
            if message.seq <= self.seq:
                _log.warning("a class A event came again", topic=message.topic, seq=message.seq, last=self.seq)
                return
            self.seq = message.seq
            self._recent.append(message)
        receivers = self._index.receivers(message.topic)
        if not receivers:
            return
        # Several threads publish: what is no class A event may have been numbered before or after its turn.
        message = message.at(self.seq)
        if message.data_class is DataClass.LOSSLESS:
            for session, every_tick in receivers:
                session.deliver(message, every_tick)
            return
        frames: dict[Encoding, bytes | None] = {}
        for session, every_tick in receivers:
            encoding = session.encoding
            if encoding not in frames:
                frames[encoding] = _frame_of(encoding, message)
            frame = frames[encoding]
            if frame is None or not session.pass_on(frame):
                session.deliver(message, every_tick)

    def open(self, connection: Connection, principal: Principal, encoding: Encoding = JSON) -> Session:
        """Greet a client. Raises Overloaded when there are too many, before the node is ready, or on shutdown."""
        self._check_room(principal)
        now = self._clock.monotonic()
        session = Session(
            next(self._numbers), connection, principal, encoding, self.settings, self._flow, now, on_end=self._forget
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
            op = decode(frame, limit, binary=session.encoding is not JSON)
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
        """Heartbeats, expired tokens, ended logins, clients that stopped reading."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for session in tuple(self._sessions.values()):
            if session.principal.expires_at <= now:
                session.close(NOT_AUTHENTICATED, "the token expired")
            elif not self._still_valid(session.principal):
                session.close(NOT_AUTHENTICATED, "the login was ended")
            else:
                session.check(monotonic)

    def status(self) -> StreamingStatus:
        """For `/system/status`."""
        now = self._clock.now()
        return StreamingStatus(sessions=[session.status(now) for session in self._sessions.values()])

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
            try:
                self.check()
            except Exception:  # noqa: BLE001 - a guarded door: heartbeats and the end of logins must go on for the others
                _log.exception("the sessions could not be looked after")

    def _check_room(self, principal: Principal) -> None:
        if not self._open:
            raise Overloaded("shutting down")
        if not self._ready():
            raise Overloaded("the node is not ready yet")
        everyone = [*self._sessions.values(), *self._leaving]
        if len(everyone) >= self.settings.max_sessions:
            raise Overloaded("no more sessions")
        if sum(other.principal.name == principal.name for other in everyone) >= self.settings.sessions_per_principal:
            raise Overloaded(f"no more sessions of {principal.name}")

    def _forget(self, session: Session) -> None:
        del self._sessions[session.id]
        self._leaving.add(session)
        for pattern in session.patterns:
            self._index.remove(session, pattern)

    def _welcome(self, session: Session, id: Id | None) -> None:
        session.reply(Welcome(id=id, epoch=self.epoch, seq=self.seq, heartbeat_s=self.settings.heartbeat_s))

    def _deny(self, session: Session, id: Id | None, error: CoreError) -> None:
        session.reply(Error(id=id, code=error.code, detail=error.detail[:DETAIL_LIMIT]))

    def _do(self, session: Session, op: Op) -> Auth | None:
        match op:
            case Subscribe():
                self._subscribe(session, op)
            case Unsubscribe():
                self._unsubscribe_from(session, op)
            case ListTopics():
                session.reply(Topics(id=op.id, topics=list(session.patterns)))
            case Ping():
                session.reply(Pong(id=op.id))
            case Auth():
                return op
        return None

    def _subscribe(self, session: Session, op: Subscribe) -> None:
        """One step on the loop: no message can come between the snapshots and what follows them.

        A refused message changes nothing.
        """
        self._check_count(op.topics)
        wanted = list(dict.fromkeys(op.topics))
        accepted = [topic for topic in wanted if topics.exists(topic)]
        if len({*session.patterns, *accepted}) > self.settings.topics_per_session:
            raise Conflict(f"a session has {self.settings.topics_per_session} topics at most")
        lossless = _lossless_under(accepted)
        place = self._place_of(session, op.resume, lossless)
        if lossless and session.lossless_seq > self.seq and (place is None or place < session.lossless_seq):
            # What comes up to the client's own place is not sent to it, and of these topics it lacks that.
            raise Overloaded(f"this node has not come to seq {session.lossless_seq} yet; ask again")
        counts, snapshots = self._snapshots(accepted, without=lossless if place is not None else ())
        has_lossless = bool(_lossless_under(session.patterns))
        for pattern in accepted:
            session.patterns[pattern] = not op.conflate
            self._index.add(session, pattern, every_tick=not op.conflate)
        session.reply(
            Subscribed(
                id=op.id,
                topics=accepted,
                errors=[TopicError(topic, NotFound.code) for topic in wanted if not topics.exists(topic)],
                epoch=self.epoch,
                seq=self.seq,
                snapshots=counts,
                resumed=None if op.resume is None else place is not None,
            )
        )
        if lossless and place is not None:
            # Where other class A topics go on here, the client cannot be ahead of this node.
            self._resume(session, min(place, max(self.seq, session.lossless_seq)) if has_lossless else place, lossless)
        elif lossless:
            session.begin_lossless(self.seq)
            for pattern in accepted:
                if op.resume is not None and _lossless_under([pattern]):
                    session.reply(Gap(id=op.id, topic=pattern))
        for snapshot in snapshots:
            session.deliver_snapshot(snapshot)

    def _place_of(self, session: Session, resume: Resume | None, lossless: Collection[str]) -> int | None:
        """The seq from which a client can go on without a gap; None where it cannot, or did not ask to."""
        if resume is None or resume.epoch != self.epoch:
            return None
        if not lossless:
            return resume.seq
        # Clients may be ahead of this node, by what another had already sent them; not by any number.
        if not self._recent.complete_from <= resume.seq <= self.seq + self.settings.resume_events:
            return None
        missed = self._recent.after(resume.seq, self.seq) if resume.seq < session.lossless_seq else ()
        # Not behind later ones that the session was sent already: the client would take them for repeats.
        return None if any(message.topic in lossless for message in missed) else resume.seq

    def _resume(self, session: Session, after: int, lossless: Collection[str]) -> None:
        session.begin_lossless(after)
        replay = Replay(self._recent, after, self.seq, lossless)
        if replay.waiting:
            session.replay(replay)
        session.begin_lossless(self.seq)

    def _snapshots(self, patterns: list[str], without: Collection[str]) -> tuple[dict[str, int], list[Snapshot]]:
        """How many states each exact topic under `patterns` has, and the states of those that have some."""
        counts: dict[str, int] = {}
        snapshots = []
        for topic in STATES:
            if topic not in without and any(topics.matches(pattern, topic) for pattern in patterns):
                events = self._state(topic)
                counts[topic] = len(events)
                if events:
                    snapshots.append(Snapshot(topic, self.epoch, self.seq, events))
        ticks: dict[str, Event] = {}
        for pattern in patterns:
            if pattern.endswith("*"):
                known = {topics.tick(vt_symbol): tick for vt_symbol, tick in self._view.ticks.items()}
                ticks |= {topic: tick for topic, tick in known.items() if topics.matches(pattern, topic)}
            elif topics.data_class(pattern) is DataClass.STREAM:
                counts[pattern] = 0
                ticks.update((pattern, tick) for _, tick in self._view.snapshot(pattern))
        if ticks:
            snapshots.append(Snapshot(topics.TICK_PREFIX, self.epoch, self.seq, list(ticks.values())))
        return counts | dict.fromkeys(ticks, 1), snapshots

    def _state(self, topic: str) -> Sequence[Event]:
        events = self._states.get(topic)
        if events is None:
            events = self._states[topic] = [event for _, event in self._view.snapshot(topic)]
        return events

    def _unsubscribe_from(self, session: Session, op: Unsubscribe) -> None:
        self._check_count(op.topics)
        wanted = list(dict.fromkeys(op.topics))
        errors = [TopicError(topic, NotFound.code) for topic in wanted if topic not in session.patterns]
        left = [topic for topic in wanted if topic in session.patterns]
        for pattern in left:
            del session.patterns[pattern]
            self._index.remove(session, pattern)
        session.reply(Unsubscribed(id=op.id, topics=left, errors=errors))

    def _check_count(self, asked: list[str]) -> None:
        if len(asked) > self.settings.topics_per_message:
            raise PayloadTooLarge(f"a message names {self.settings.topics_per_message} topics at most")


LOSSLESS = [name for name, kind in topics.FIXED_TOPICS.items() if kind is DataClass.LOSSLESS]
STATES = [
    name
    for name in topics.FIXED_TOPICS
    if name not in (topics.TRADE_EXECUTED, topics.RISK_EVENT, topics.STRATEGY_LOG, topics.LOG)
]
"""Fixed topics that have a state; the others tell what happened and is over."""


def _lossless_under(patterns: Iterable[str]) -> frozenset[str]:
    return frozenset(topic for topic in LOSSLESS if any(topics.matches(pattern, topic) for pattern in patterns))


def _frame_of(encoding: Encoding, message: Message) -> bytes | None:
    """The frame for all who keep up; None where each is to be told that there is none."""
    try:
        return shared_frame(encoding, message)
    except UNENCODABLE:
        return None
