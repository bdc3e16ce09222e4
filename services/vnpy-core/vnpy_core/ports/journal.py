"""The journal: every class A and B event in one append-only sequence, durable before anybody acts on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row. `seq` counts up by one; `ts` is UTC microseconds; `kind`, `key`, `payload` as in `bus.records`."""

    seq: int
    epoch: str
    run_id: str
    ts: int
    kind: str
    key: str
    payload: bytes


class JournalState(msgspec.Struct, frozen=True, kw_only=True):
    """The journal at a glance."""

    epoch: str
    first_seq: int
    """The oldest row kept; `last_seq` + 1 in an empty journal."""
    last_seq: int
    size_bytes: int
    reserve: bool
    """Whether the reserve file is in place; without it the disk has just been full."""
    refusal: str
    """Why no new order may be taken now (disk full, size cap reached); empty when they may."""


class Journal(Protocol):
    """One file, one writer: `append`, `cut` and `maintain` run on the journal's thread, `read` and `state` on any.

    Errors: StorageFull (no space, the reserve is used up; nothing was written), JournalFailed (any other I/O error).
    """

    @property
    def epoch(self) -> str:
        """Names this sequence; clients that know another one must start from a snapshot."""
        ...

    @property
    def run_id(self) -> str:
        """Names this run of the process."""
        ...

    def append(self, rows: Sequence[Row]) -> None:
        """Write all rows in one commit, durable as configured when this returns; `rows` follow `last_seq` without gap.

        Where the disk is full, the reserve file is given up and the commit tried again, once.
        """
        ...

    def read(self, after: int, limit: int) -> list[Row]:
        """Committed rows with `seq` > `after`, in order, `limit` at most."""
        ...

    def replay_from(self) -> int:
        """The seq after which rows must be read to know all state that still counts (0: from the first row)."""
        ...

    def cuttable(self, drained: int, now_us: int) -> int:
        """The seq up to which rows may go, 0 for none: older than the retention (or over the size cap) and at most
        `drained`, the store's watermark. Always the end of a commit.
        """
        ...

    def cut(self, through: int, carried_from: int) -> None:
        """Remove rows up to `through` (from `cuttable`; 0: none); the next start reads on from `carried_from`, the seq
        after which the carried rows begin.
        """
        ...

    def maintain(self, drained: int) -> None:
        """Put the reserve file back where there is room, and look at the size cap. Called about every second."""
        ...

    def state(self) -> JournalState:
        """At a glance."""
        ...

    def new_epoch(self) -> None:
        """Begin another epoch with the next row, because rows were published that will never be written."""
        ...

    def mark_undurable(self, undurable: bool) -> None:
        """Remember, also on a full disk, that events were acted upon that are not written yet; a start that finds
        this mark begins a new epoch.
        """
        ...

    def close(self, *, clean: bool = True) -> None:
        """Close the file; `clean` says that all was written."""
        ...
