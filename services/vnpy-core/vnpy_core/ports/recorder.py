"""What is recorded of the live market, as the API shows and changes it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Ticks of one contract that came and were not recorded."""

    vt_symbol: str
    start: datetime
    end: datetime
    """The venue's times of the first and the last of them."""
    count: int
    reason: str


class RecordedSymbol(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one contract's ticks since the start."""

    recorded: int
    dropped: int
    last_tick: datetime | None
    """The venue's time of the newest recorded tick."""


class RecorderState(msgspec.Struct, frozen=True, kw_only=True):
    """How the recorder is; all counts are since the start."""

    patterns: tuple[str, ...]
    recorded: int
    """Ticks that the store has made durable."""
    dropped: int
    """Ticks that were wanted and are lost: the ring was full, or the store cannot take them."""
    ignored: int
    """Ticks of a gateway that replays, or of a second gateway that offers the same contract."""
    stale: int
    """Ticks whose time is more than a day off the clock."""
    waiting: int
    """Ticks that wait for the store now; `ring` may at most."""
    ring: int
    lag_ms: float
    """How long the oldest of them may have waited; 0 when none waits."""
    bars: int
    """1-minute bars written."""
    error: str
    """Why nothing is written at present; empty when all is well."""
    symbols: dict[str, RecordedSymbol]
    """By vt_symbol."""
    gaps: tuple[Gap, ...]
    """The last 1,000, oldest first. What a venue or gateway never sent is not known here."""


class Recorder(Protocol):
    """Any thread may call."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """The vt_symbols and patterns (`rb*.SHFE`) that are recorded."""
        ...

    def set_patterns(self, patterns: tuple[str, ...]) -> None:
        """Record these from now on, also after a restart. Blocks for a write to disk.

        Raises ValidationFailed (an empty or overlong pattern), StorageFull, TimeSeriesUnavailable (cannot be saved).
        """
        ...

    def state(self) -> RecorderState:
        """How it is; cheap enough for every scrape."""
        ...
