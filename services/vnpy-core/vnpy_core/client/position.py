"""Where a reader stands in the sequence of a session: what is new, what came twice, what is missing. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

import msgspec

from vnpy_core.client.messages import Frame, is_lossless


class Verdict(Enum):
    """What a lossless event is to its reader."""

    NEW = auto()
    DUPLICATE = auto()
    """It was delivered before: never deliver it again."""
    AFTER_GAP = auto()
    """It is new, and events before it are missing that nobody told of."""


class Resume(msgspec.Struct, frozen=True):
    """The place to go on from."""

    epoch: str
    seq: int


class Place:
    """Across connections. Loop thread only.

    Two numbers, both in `epoch`: `last` is the newest lossless event delivered, or where their delivery began: by it
    duplicates and gaps are seen. `mark` is the highest place that any live frame told: all lossless events up to it
    were delivered, so a reader of few of them need not go back as far as `last`.
    """

    def __init__(self) -> None:
        self.epoch = ""
        self.last = 0
        self.mark = 0
        self.known: set[str] = set()
        """Patterns that stand at `mark`: taken, and their snapshots delivered."""
        self._listening = False

    def connected(self) -> None:
        """A new session begins."""
        self._listening = False

    def resume(self) -> Resume | None:
        """Where the known lossless patterns go on; None where there are none."""
        if not any(map(is_lossless, self.known)):
            return None
        return Resume(self.epoch, self.mark)

    def subscribed(self, frame: Frame, asked: Resume | None) -> None:
        """The service took patterns; `asked` is what the request said to go on from."""
        lossless = any(map(is_lossless, frame.topics))
        if asked is not None and frame.resumed:
            self.epoch, self.last, self.mark = asked.epoch, asked.seq, asked.seq
        elif asked is not None or frame.epoch != self.epoch or (lossless and not self._listening):
            # It begins here, and so does a node that lags behind the last one: nothing is a repeat of what came before.
            self.epoch, self.last, self.mark = frame.epoch, frame.seq, frame.seq
        else:
            self.mark = max(self.mark, frame.seq)
        self._listening |= lossless

    def complete(self, patterns: Iterable[str]) -> None:
        """Their snapshots were delivered: from now on they can be resumed."""
        self.known.update(patterns)

    def forget(self, patterns: Iterable[str]) -> None:
        """They are not listened to any more, or their state is not whole."""
        self.known.difference_update(patterns)

    def unsubscribed(self, remaining: Iterable[str]) -> None:
        """The service ended some; these remain."""
        self._listening &= any(map(is_lossless, remaining))

    def live(self, frame: Frame) -> Verdict:
        """Take a live frame's place."""
        if frame.prev_seq is None:
            self.mark = max(self.mark, frame.seq)
            return Verdict.NEW
        if frame.seq <= self.last:
            return Verdict.DUPLICATE
        verdict = Verdict.AFTER_GAP if frame.prev_seq > self.last else Verdict.NEW
        self.last = frame.seq
        self.mark = max(self.mark, frame.seq)
        return verdict
