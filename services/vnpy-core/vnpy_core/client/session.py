"""One connection's side of the protocol: requests out, frames in, messages for the reader. No I/O, no clock."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from itertools import count, islice

import msgspec

from vnpy_core.client.http import problem_of
from vnpy_core.client.messages import (
    LOSSLESS,
    Codec,
    Connected,
    Frame,
    Gap,
    Snapshot,
    StreamMessage,
    Subscribed,
    Update,
    is_lossless,
    matches,
)
from vnpy_core.client.position import Place, Resume, Verdict
from vnpy_core.domain.errors import NotFound, TryLater
from vnpy_core.domain.events import Event

TOPICS_PER_REQUEST = 200

_log = logging.getLogger(__name__)


class BrokenProtocol(Exception):
    """The service said what makes no sense; a new connection may."""


class NodeBehind(Exception):
    """This node cannot do it yet: it has not come as far as the last one did, or is busy. Another may."""


class Counters(msgspec.Struct):
    """What a stream saw since it began."""

    connects: int = 0
    resumed: int = 0
    updates: int = 0
    duplicates: int = 0
    """Lossless events that came twice; the reader never sees them again."""
    gaps: int = 0
    untold_gaps: int = 0
    """Of them, those that the service did not tell: must stay 0."""


class _Request(msgspec.Struct, frozen=True):
    patterns: tuple[str, ...]
    resume: Resume | None


class _Collecting(msgspec.Struct):
    seq: int
    remaining: int
    items: list[Event] = []


class Session:
    """Loop thread only. `ops` is what has to be sent, oldest first."""

    def __init__(
        self, url: str, wanted: dict[str, None], place: Place, codec: Codec, counters: Counters, *, conflate: bool
    ) -> None:
        """`wanted` is shared with the stream: what it listens to, now."""
        self.ops: deque[dict[str, object]] = deque()
        self.heartbeat_s: float | None = None
        """None before the service's welcome."""
        self.connected = False
        """Whether the service answered the first request."""
        self._url = url
        self._wanted = wanted
        self._place = place
        self._codec = codec
        self._counters = counters
        self._conflate = conflate
        self._numbers = count(1)
        self._asked: dict[int | str | None, _Request] = {}
        self._taken: dict[str, None] = {}
        """Patterns that the service said it delivers."""
        self._node_seq = 0
        """As far as this node is known to have come."""
        self._collecting: dict[str, _Collecting] = {}
        self._incomplete: list[tuple[tuple[str, ...], set[str]]] = []
        """Lossless patterns, and those of their snapshots that are not here yet."""
        self._strange: set[str] = set()
        place.connected()

    def subscribe(self, patterns: Iterable[str]) -> None:
        """Ask for more; before the welcome that happens by itself. Raises NodeBehind."""
        if self.heartbeat_s is not None:
            self._begin(list(patterns))

    def unsubscribe(self, patterns: Iterable[str]) -> None:
        """End some."""
        left = iter(patterns)
        while self.heartbeat_s is not None and (part := list(islice(left, TOPICS_PER_REQUEST))):
            self.ops.append({"op": "unsubscribe", "id": next(self._numbers), "topics": part})

    def authenticate(self, token: str) -> None:
        """Go on with a fresh token of the same principal."""
        self.ops.append({"op": "auth", "id": next(self._numbers), "token": token})

    def take(self, content: bytes) -> list[StreamMessage]:
        """What a frame means to the reader. Raises BrokenProtocol, NodeBehind, CoreError (a request was refused)."""
        try:
            frame = self._codec.frame(content)
            return self._take_event(frame) if frame.topic and not frame.op else self._take_answer(frame)
        except msgspec.DecodeError as error:
            raise BrokenProtocol(f"not a frame of VnPy Core Service: {error}") from error

    def _take_answer(self, frame: Frame) -> list[StreamMessage]:
        match frame.op:
            case "welcome":
                return self._welcomed(frame)
            case "subscribed":
                return self._subscribed(frame)
            case "unsubscribed":
                self._unsubscribed(frame)
            case "gap":
                return self._gap(frame)
            case "error":
                self._refused(frame)
            case _:
                pass  # heartbeats and pongs; what a newer service may say besides is not needed
        return []

    def _gap(self, frame: Frame) -> list[StreamMessage]:
        if frame.id is not None:
            return []  # the answer to a resume has said it already
        gaps = self._told_gaps([frame.topic])
        # It may stand for a state that the service could not write.
        return gaps + self._take_snapshot(frame, None) if frame.topic in self._collecting else gaps

    def _told_gaps(self, topics: Iterable[str]) -> list[StreamMessage]:
        gaps: list[StreamMessage] = [Gap(topic) for topic in topics]
        if gaps:
            self._counters.gaps += len(gaps)
            _log.warning("%s told a gap in %s", self._url, topics)
        return gaps

    def _welcomed(self, frame: Frame) -> list[StreamMessage]:
        first = self.heartbeat_s is None
        self.heartbeat_s = frame.heartbeat_s
        self._node_seq = max(self._node_seq, frame.seq)
        if not first:
            return []  # the answer to a renewed token
        resume = self._place.resume()
        known = [pattern for pattern in self._wanted if pattern in self._place.known] if resume else []
        if resume and known:
            self._ask(known, resume)
        else:
            resume = None
        fresh = [pattern for pattern in self._wanted if pattern not in known]
        behind = resume is not None and resume.epoch == frame.epoch and frame.seq < resume.seq
        if behind and any(map(is_lossless, fresh)):
            raise NodeBehind(f"{self._url} is behind: {frame.seq}, and we are at {self._place.mark}")
        self._ask(fresh, None)
        if not self._wanted:
            return self._connect(None)
        return []

    def _begin(self, fresh: list[str]) -> None:
        if any(map(is_lossless, fresh)) and self._node_seq < self._place.mark and self._place.resume():
            raise NodeBehind(f"{self._url} is behind: {self._node_seq}, and we are at {self._place.mark}")
        self._ask(fresh, None)

    def _ask(self, patterns: list[str], resume: Resume | None) -> None:
        """The lossless ones first and in one request, so that their sequence is one."""
        left = iter(sorted(patterns, key=lambda pattern: not is_lossless(pattern)))
        while part := tuple(islice(left, TOPICS_PER_REQUEST)):
            number = next(self._numbers)
            op: dict[str, object] = {"op": "subscribe", "id": number, "topics": part, "conflate": self._conflate}
            if resume is not None:
                op["resume"] = {"epoch": resume.epoch, "seq": resume.seq}
            self._asked[number] = _Request(part, resume)
            self.ops.append(op)

    def _connect(self, resumed: bool | None) -> list[StreamMessage]:
        self.connected = True
        self._counters.connects += 1
        self._counters.resumed += resumed is True
        return [Connected(self._url, resumed)]

    def _subscribed(self, frame: Frame) -> list[StreamMessage]:
        request = self._asked.pop(frame.id, None)
        if request is None:
            raise BrokenProtocol("an answer to nothing that was asked")
        if frame.errors:
            raise NotFound("; ".join(f"{error.topic}: {error.code}" for error in frame.errors))
        resumed = None if request.resume is None else frame.resumed is True
        messages = [] if self.connected else self._connect(resumed)
        self._node_seq = max(self._node_seq, frame.seq)
        self._place.subscribed(frame, request.resume)
        self._taken |= dict.fromkeys(frame.topics)
        messages.append(Subscribed(frame.topics, frame.epoch, frame.seq, resumed))
        if resumed is False:
            messages += self._told_gaps(tuple(filter(is_lossless, frame.topics)))
        for topic, number in frame.snapshots.items():
            # One that is under way to us was replaced by this one, or would have come before this answer.
            self._collecting.pop(topic, None)
            if number:
                self._collecting[topic] = _Collecting(frame.seq, number)
            else:
                messages.append(Snapshot(topic, frame.epoch, frame.seq, ()))
        self._await_snapshots(frame, resumed)
        return messages

    def _await_snapshots(self, frame: Frame, resumed: bool | None) -> None:
        patterns = tuple(filter(is_lossless, frame.topics))
        if not resumed:
            self._place.forget(patterns)
        self._incomplete.append((patterns, {topic for topic in frame.snapshots if topic in LOSSLESS}))
        self._settle()

    def _settle(self) -> None:
        """What has all its snapshots can be resumed from now on."""
        waiting = []
        for patterns, topics in self._incomplete:
            topics.intersection_update(self._collecting)
            if topics:
                waiting.append((patterns, topics))
            else:
                self._place.complete(pattern for pattern in patterns if pattern in self._wanted)
        self._incomplete = waiting

    def _unsubscribed(self, frame: Frame) -> None:
        for pattern in frame.topics:
            self._taken.pop(pattern, None)
        self._place.forget(frame.topics)
        self._place.unsubscribed(self._taken)
        for topic in list(self._collecting):
            if not any(matches(pattern, topic) for pattern in self._taken):
                del self._collecting[topic]
        self._settle()

    def _refused(self, frame: Frame) -> None:
        """Raises CoreError where it was about a subscription, NodeBehind where that may go well later."""
        if frame.id in self._asked:
            error = problem_of(msgspec.json.encode({"code": frame.code, "detail": frame.detail}), 0)
            raise NodeBehind(error.detail) if isinstance(error, TryLater) else error
        _log.warning("%s refused a request: %s %s", self._url, frame.code, frame.detail)

    def _take_event(self, frame: Frame) -> list[StreamMessage]:
        event = self._codec.event(frame)
        if frame.snapshot:
            return self._take_snapshot(frame, event)
        if frame.epoch != self._place.epoch:
            raise BrokenProtocol(f"epoch {frame.epoch} in a session of epoch {self._place.epoch}")
        self._node_seq = max(self._node_seq, frame.seq)
        verdict = self._place.live(frame)
        if verdict is Verdict.DUPLICATE:
            self._counters.duplicates += 1
            return []
        messages: list[StreamMessage] = []
        if verdict is Verdict.AFTER_GAP:
            messages += self._untold_gap(frame)
        if event is None:
            self._note_strange(frame.topic)
            return messages
        self._counters.updates += 1
        messages.append(Update(frame.topic, frame.epoch, frame.seq, frame.ts, event, frame.prev_seq))
        return messages

    def _take_snapshot(self, frame: Frame, event: Event | None) -> list[StreamMessage]:
        collecting = self._collecting.get(frame.topic)
        if collecting is None:
            # Of a subscription that has ended meanwhile, or of a service that does not count: what it says is true.
            return [] if event is None else [Update(frame.topic, frame.epoch, frame.seq, frame.ts, event)]
        if event is not None:
            collecting.items.append(event)
        collecting.remaining -= 1
        if collecting.remaining > 0:
            return []
        del self._collecting[frame.topic]
        self._settle()
        return [Snapshot(frame.topic, self._place.epoch, collecting.seq, tuple(collecting.items))]

    def _untold_gap(self, frame: Frame) -> list[StreamMessage]:
        missing = [pattern for pattern in self._taken if is_lossless(pattern)]
        self._counters.gaps += len(missing)
        self._counters.untold_gaps += 1
        _log.error("events are missing before %s %d of %s, and nobody said so", frame.topic, frame.seq, self._url)
        return [Gap(pattern, told=False) for pattern in missing]

    def _note_strange(self, topic: str) -> None:
        if topic not in self._strange:
            self._strange.add(topic)
            _log.warning("%s sends %s, which this client does not know", self._url, topic)
