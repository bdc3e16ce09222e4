"""The last lines of each strategy's log."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from datetime import datetime
from itertools import islice

import msgspec

from vnpy_core.bus.message import Message
from vnpy_core.domain.enums import LogLevel
from vnpy_core.domain.events import Log
from vnpy_core.kit.logging import redact

LINES = 1_000
"""Lines kept of each strategy."""
STRATEGIES = 2_000
"""Strategies whose lines are kept; those of the one that has been silent longest go first."""
_SEVERITY = {level: rank for rank, level in enumerate(LogLevel)}


class StrategyLogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a strategy's log; `number` counts the strategy's lines up from 1 since the start."""

    number: int
    level: LogLevel
    msg: str
    datetime: datetime


class StrategyLogs:
    """Loop thread only."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[StrategyLogLine]] = OrderedDict()

    def keep(self, message: Message) -> None:
        """Keep a line, without the secrets in it; a bus subscriber for `strategy.log`."""
        log = message.data
        if isinstance(log, Log) and log.strategy_name is not None:
            lines = self._of(log.strategy_name)
            number = lines[-1].number + 1 if lines else 1
            lines.append(StrategyLogLine(number=number, level=log.level, msg=redact(log.msg), datetime=log.datetime))

    def newest(self, name: str, *, level: LogLevel, before: int | None, limit: int) -> list[StrategyLogLine]:
        """The newest `limit` lines of at least `level`, oldest of them first; with `before` those numbered lower."""
        found = list(islice(self._backwards(name, level, before), limit))
        return found[::-1]

    def forget(self, name: str) -> None:
        """Drop the lines of a strategy that is gone."""
        self._lines.pop(name, None)

    def _backwards(self, name: str, level: LogLevel, before: int | None) -> Iterator[StrategyLogLine]:
        for line in reversed(self._lines.get(name, ())):
            if (before is None or line.number < before) and _SEVERITY[line.level] >= _SEVERITY[level]:
                yield line

    def _of(self, name: str) -> deque[StrategyLogLine]:
        lines = self._lines.setdefault(name, deque(maxlen=LINES))
        self._lines.move_to_end(name)
        if len(self._lines) > STRATEGIES:
            self._lines.popitem(last=False)
        return lines
