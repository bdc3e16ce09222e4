"""Rollovers as they are shown and kept."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import msgspec
import structlog

from vnpy_core.domain.errors import Conflict, StorageFull, describe
from vnpy_core.features.strategies.rollover_plan import exact
from vnpy_core.kit.files import write_atomic

_log = structlog.get_logger(__name__)


class RolloverState(StrEnum):
    """How far a rollover is."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    INCOMPLETE = "INCOMPLETE"
    """It has ended; some strategies were not moved, and may have lots in both contracts."""
    FAILED = "FAILED"
    """It has ended; nothing was traded, and no strategy moved."""


class RolledStrategy(msgspec.Struct, kw_only=True):
    """How far one strategy is. `pos`, `old`, `new` and `lacking` are those of the plan it began with."""

    strategy_name: str
    pos: float
    old: float
    new: float
    lacking: float
    closed: float = 0.0
    """Lots closed in the old contract by this rollover."""
    opened: float = 0.0
    """Lots opened in the new contract by this rollover."""
    moved: bool = False
    """It trades the new contract from now on."""
    auto_start: bool = False
    """Starts of the service start it. That is off while it has lots in both contracts."""
    traded_since: bool = False
    """It ended unfinished, and the strategy has traded otherwise since: nobody knows what is in which contract."""
    forgotten: bool = False
    """The strategy was removed afterwards: one of its name has nothing to do with this."""
    problem: str | None = None
    """Why it does not get on, or did not."""

    @property
    def sign(self) -> int:
        """1 where it is long, -1 where it is short."""
        return -1 if (self.old or self.lacking) < 0 else 1

    @property
    def to_close(self) -> float:
        """Lots that are still to be closed."""
        return exact(abs(self.old), -self.closed)

    @property
    def to_open(self) -> float:
        """Lots that are closed and not opened again."""
        return exact(abs(self.lacking), self.closed, -self.opened)

    @property
    def new_now(self) -> float:
        """What it holds in the new contract, signed."""
        return exact(self.new, self.sign * self.opened)

    @property
    def is_split(self) -> bool:
        """It trades the old contract, and has lots in the new one, or lacks some."""
        return not (self.moved or self.forgotten) and bool(self.new_now or self.to_open)

    @property
    def pos_now(self) -> float:
        """What it holds in both, signed."""
        return exact(self.pos, self.sign * self.opened, -self.sign * self.closed)


class Rollover(msgspec.Struct, kw_only=True):
    """A rollover and how far it is."""

    id: str
    state: RolloverState
    from_vt_symbol: str
    to_vt_symbol: str
    gateway_name: str
    payup: int
    """Ticks beyond the opposite best price."""
    max_volume: float
    """Lots of one order."""
    timeout_s: float
    strategies: list[RolledStrategy]
    by: str
    created_at: datetime
    updated_at: datetime

    def part(self, strategy_name: str) -> RolledStrategy | None:
        """A strategy's part."""
        return next((part for part in self.strategies if part.strategy_name == strategy_name), None)

    def outcome(self) -> RolloverState:
        """What it has come to, where nothing more is done."""
        if all(part.moved for part in self.strategies):
            return RolloverState.DONE
        touched = any(part.moved or part.closed or part.opened for part in self.strategies)
        return RolloverState.INCOMPLETE if touched else RolloverState.FAILED


_decode = msgspec.json.Decoder(list[Rollover]).decode


def read(path: Path) -> list[Rollover]:
    """What was written last, oldest first; a broken file is put aside. Blocks."""
    try:
        return _decode(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        _log.error("the rollovers of before cannot be read; the file is put aside", file=str(path), error=str(error))
    aside = path.with_name(f"{path.name}.broken")
    try:
        path.replace(aside)
    except OSError as error:
        _log.error("it cannot be put aside either", error=str(error))
    return []


def encode(records: Iterable[Rollover]) -> bytes:
    """What `write` takes."""
    return msgspec.json.encode(list(records))


def write(path: Path, content: bytes) -> None:
    """Durable. Blocks. Raises StorageFull, Conflict."""
    try:
        write_atomic(path, content)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("the disk is full") from error
        raise Conflict(f"{path.name} cannot be written: {describe(error)}") from error
