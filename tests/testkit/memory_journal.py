"""A journal in memory that fails, hangs and crashes on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import count

from vnpy_core.domain.errors import CoreError, JournalFailed, StorageFull
from vnpy_core.ports.journal import JournalState, Row


class Crash(BaseException):
    """The process ends here. Nothing in the service may catch it."""


class Disk:
    """What outlives a crash: the rows, and where a start begins to read."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.history: list[Row] = []
        """All rows that were ever durable, those too that were cut since."""
        self.commits: list[int] = []
        """The last seq of each commit."""
        self.anchor = 0
        self.replay_from = 0
        self.marked = False
        self.epochs = count(1)
        self.epoch = f"e{next(self.epochs)}"


class Faults:
    """What can go wrong with an append; `before` and `after` surround the writing itself."""

    def __init__(self) -> None:
        self.failures: list[CoreError] = []
        """Each append raises the next one of these, writing nothing."""
        self.is_full = False
        self.is_broken = False
        self.go = threading.Event()
        """Cleared, an append hangs until it is set again."""
        self.go.set()
        self.hanging = threading.Event()
        """Set while an append hangs."""
        self.crash_before = self.crash_after = False
        self.during: Callable[[], None] | None = None
        """Called once, in the middle of the next append."""

    def before(self) -> None:
        if not self.go.is_set():
            self.hanging.set()
            assert self.go.wait(30), "a test left the journal hanging"
            self.hanging.clear()
        if self.during is not None:
            during, self.during = self.during, None
            during()
        if self.failures:
            raise self.failures.pop(0)
        if self.is_full:
            raise StorageFull("the disk is full")
        if self.is_broken:
            raise JournalFailed("the disk is broken")
        if self.crash_before:
            raise Crash

    def after(self) -> None:
        if self.crash_after:
            raise Crash


class MemoryJournal(Faults):
    """Implements `ports.journal.Journal` on a `Disk`; a start on a marked one begins a new epoch."""

    def __init__(self, disk: Disk | None = None, *, run_id: str = "run") -> None:
        super().__init__()
        self.disk = disk or Disk()
        self._run_id = run_id
        self.refusal = ""
        self.retain_rows: int | None = None
        """How many of the newest rows stay where the store has all; None: all."""
        self.cuts: list[tuple[int, int]] = []
        self.closed: bool | None = None
        if self.disk.marked:
            self.disk.epoch = f"e{next(self.disk.epochs)}"
            self.disk.marked = False

    @property
    def epoch(self) -> str:
        return self.disk.epoch

    @property
    def run_id(self) -> str:
        return self._run_id

    @property
    def rows(self) -> list[Row]:
        return self.disk.rows

    def append(self, rows: Sequence[Row]) -> None:
        for seq, row in enumerate(rows, self._last() + 1):
            if row.seq != seq:
                raise ValueError(f"row {row.seq} came where {seq} was due")
        self.before()
        self.disk.rows.extend(rows)
        self.disk.history.extend(rows)
        if rows:
            self.disk.commits.append(rows[-1].seq)
        self.after()

    def read(self, after: int, limit: int) -> list[Row]:
        first = max(0, after - self.disk.anchor)
        return self.disk.rows[first : first + limit]

    def replay_from(self) -> int:
        return self.disk.replay_from

    def cuttable(self, drained: int, now_us: int) -> int:
        through = min(drained, self._last() - (self._last() if self.retain_rows is None else self.retain_rows))
        return max((end for end in self.disk.commits if self.disk.anchor < end <= through), default=0)

    def cut(self, through: int, carried_from: int) -> None:
        if through and through not in self.disk.commits:
            raise ValueError(f"row {through} does not end a commit")
        if not through <= carried_from <= self._last():
            raise ValueError("what is carried does not replace what goes")
        removed = max(0, through - self.disk.anchor)
        del self.disk.rows[:removed]
        self.disk.anchor += removed
        self.disk.commits = [end for end in self.disk.commits if end > self.disk.anchor]
        self.disk.replay_from = carried_from
        self.cuts.append((through, carried_from))

    def maintain(self, drained: int) -> None:
        if self.is_broken:
            raise JournalFailed("the disk is broken")

    def state(self) -> JournalState:
        return JournalState(
            epoch=self.epoch, first_seq=self.disk.anchor + 1, last_seq=self._last(), size_bytes=0,
            reserve=not self.is_full, refusal=self.refusal,
        )  # fmt: skip

    def new_epoch(self) -> None:
        self.disk.epoch = f"e{next(self.disk.epochs)}"

    def mark_undurable(self, undurable: bool) -> None:
        self.disk.marked = undurable

    def close(self, *, clean: bool = True) -> None:
        self.closed = clean

    def _last(self) -> int:
        return self.disk.rows[-1].seq if self.disk.rows else self.disk.anchor
