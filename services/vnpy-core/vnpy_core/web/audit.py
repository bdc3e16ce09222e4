"""Who did what: put on record from every feature alike."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from vnpy_core.domain.errors import JournalFailed, TryLater
from vnpy_core.domain.events import Audit
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.engine import TradingEngine

PATIENCE_S = 0.5
"""How long an answer waits for its record, seconds. One that takes longer is still written when the journal can be."""

_log = structlog.get_logger(__name__)


class AuditTrail:
    """Loop thread only."""

    def __init__(self, engine: TradingEngine, clock: Clock, *, patience_s: float = PATIENCE_S) -> None:
        self._engine = engine
        self._clock = clock
        self._patience_s = patience_s
        self._writing: set[asyncio.Task[None]] = set()

    async def require(
        self,
        who: str,
        what: str,
        target: str = "",
        *,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
        reason: str = "",
    ) -> None:
        """Record what `who` did to `target`, never with a secret. Raises StorageFull, JournalFailed."""
        audit = Audit(
            who=who, what=what, target=target, before=before, after=after, reason=reason, at=self._clock.now()
        )
        # A task of its own: who waits no longer must not take the record along.
        writing = asyncio.create_task(self._engine.record_audit(audit))
        self._writing.add(writing)
        writing.add_done_callback(self._forget)
        done, _ = await asyncio.wait({writing}, timeout=self._patience_s)
        if not done:
            raise JournalFailed(f"{what} is not on record yet: the journal does not answer")
        writing.result()

    async def note(
        self,
        who: str,
        what: str,
        target: str = "",
        *,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
        reason: str = "",
    ) -> None:
        """As `require`, for what must not fail for want of a record: that is logged instead."""
        try:
            await self.require(who, what, target, before=before, after=after, reason=reason)
        except TryLater as error:
            _log.error("not on record", who=who, what=what, target=target, after=after, error=error.detail)

    def _forget(self, writing: asyncio.Task[None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled() and (error := writing.exception()):
            _log.debug("an audit record was not written", error=str(error))
