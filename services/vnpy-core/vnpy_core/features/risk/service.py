"""The rules of halting: it takes effect at once and whatever else fails, and says who did it and why."""

from __future__ import annotations

import msgspec

from vnpy_core.domain.enums import HaltMode, HaltScope
from vnpy_core.domain.events import Halt
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.engine import TradingEngine
from vnpy_core.web.audit import AuditTrail


class RiskState(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps orders from passing."""

    halts: list[Halt]
    """Those in force; trading is open where there are none."""


class Halted(Halt, frozen=True, gc=False, kw_only=True):
    """A halt that is in force."""

    cancelled: int
    """Active orders that were asked to cancel."""
    persisted: bool
    """Whether it outlives a crash already; where it does not, it holds all the same and is written when that works."""


class RiskService:
    """Loop thread only. `by` is the name of who asks."""

    def __init__(self, engine: TradingEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._audit = AuditTrail(engine, clock)

    def state(self) -> RiskState:
        """The halts in force."""
        return RiskState(halts=self._engine.halts())

    async def halt(self, mode: HaltMode, *, cancel: bool, reason: str, by: str) -> Halted:
        """Stop all new orders, and cancel the active ones where `cancel`. Never refused; again renews it."""
        before = self._in_force()
        asked = Halt(scope=HaltScope.ALL, mode=mode, active=True, reason=reason, by=by, at=self._clock.now())
        halt, cancelled = await self._engine.halt(asked, cancel=cancel)
        after = {"halts": self._in_force(), "cancel": cancel, "cancelled": cancelled}
        await self._audit.note(by, "trading.halt", HaltScope.ALL, before={"halts": before}, after=after, reason=reason)
        return Halted(**msgspec.structs.asdict(halt), cancelled=cancelled, persisted=halt.seq > 0)

    async def resume(self, *, reason: str, by: str) -> Halt:
        """Let orders pass again, once that is durable. Raises Conflict (no halt), StorageFull, JournalFailed."""
        before = self._in_force()
        asked = Halt(scope=HaltScope.ALL, active=False, reason=reason, by=by, at=self._clock.now())
        halt = await self._engine.resume(asked)
        after = {"halts": self._in_force()}
        await self._audit.note(
            by, "trading.resume", HaltScope.ALL, before={"halts": before}, after=after, reason=reason
        )
        return halt

    def _in_force(self) -> list[dict[str, str]]:
        return [{"scope": h.scope, "target": h.target, "mode": h.mode} for h in self._engine.halts()]
