"""What the features may ask of VnPy's CTA engine. Coroutines run on the asyncio loop and raise `domain.errors`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from vnpy_core.domain.events import StopOrderUpdate, StrategyUpdate
from vnpy_core.domain.strategies import LoadError, Reloaded, StrategyClass


class StrategyEngine(Protocol):
    """The door to CtaEngine. Every method raises Conflict where the CtaStrategy app is not loaded, and says why."""

    def classes(self) -> list[StrategyClass]:
        """All that was loaded, by name."""
        ...

    def load_errors(self) -> list[LoadError]:
        """The files that could not be loaded the last time, by name."""
        ...

    async def reload(self) -> Reloaded:
        """Load all files again. Strategies that exist keep the code that they were made of."""
        ...

    def strategies(self) -> list[StrategyUpdate]:
        """All of them as they are now, by name."""
        ...

    def strategy(self, name: str) -> StrategyUpdate:
        """One of them. Raises NotFound."""
        ...

    def stop_orders(self) -> list[StopOrderUpdate]:
        """Local stop orders that wait, oldest first."""
        ...

    async def add(
        self,
        class_name: str,
        strategy_name: str,
        vt_symbol: str,
        setting: Mapping[str, Any],
        *,
        auto_start: bool,
        by: str,
    ) -> StrategyUpdate:
        """Make one. `setting` was checked against the class.

        Raises NotFound (class), Conflict (the name is taken), ValidationFailed (its __init__ raised).
        """
        ...

    async def init(self, name: str, *, wait_s: float = 0.0) -> StrategyUpdate:
        """Begin to initialise it and wait at most `wait_s` for the end; where it has failed by then, it says so.

        Raises NotFound, Conflict (initialised, in quarantine, no gateway offers its contract yet, on_init raised).
        """
        ...

    async def start(self, name: str) -> StrategyUpdate:
        """Let it trade. Raises NotFound, Conflict (not initialised, trades already, quarantine, on_start raised)."""
        ...

    async def stop(self, name: str) -> StrategyUpdate:
        """Let it trade no more; its orders are asked to cancel. One that does not trade stays as it is.

        Raises NotFound, Conflict (on_stop raised; it is stopped all the same).
        """
        ...

    async def edit(self, name: str, setting: Mapping[str, Any], *, by: str) -> StrategyUpdate:
        """Set all of its parameters, checked before. A running one has them from its next callback on.

        Raises NotFound, Conflict (initialising).
        """
        ...

    async def set_auto_start(self, name: str, auto_start: bool, *, by: str) -> StrategyUpdate:
        """Whether the next starts of the service start it. Raises NotFound."""
        ...

    async def remove(self, name: str, *, by: str) -> None:
        """Forget it and its variables. Its orders and trades stay on record.

        Raises NotFound, Conflict (it trades, or is initialising).
        """
        ...

    async def move(self, name: str, vt_symbol: str, *, by: str) -> StrategyUpdate:
        """Let it trade another contract from now on, with its parameters, variables and `pos`; not initialised then.

        Raises NotFound, Conflict (it trades, or is initialising; it waits for orders).
        """
        ...
