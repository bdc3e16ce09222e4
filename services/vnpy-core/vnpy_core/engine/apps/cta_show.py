"""CTA strategies as they are now: their state, read off the instances, and published when they show themselves."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import structlog
from vnpy.event import Event

from vnpy_core.bus import topics
from vnpy_core.domain.enums import StrategyState
from vnpy_core.domain.errors import NotFound, describe
from vnpy_core.domain.events import Event as DomainEvent
from vnpy_core.domain.events import StrategySetting, StrategyUpdate
from vnpy_core.engine import translate
from vnpy_core.engine.apps.cta_calls import CtaCalls
from vnpy_core.engine.apps.cta_classes import StrategyClasses
from vnpy_core.engine.apps.cta_memory import MARK, CtaMemory
from vnpy_core.ports.clock import Clock

Emit = Callable[[str, str, DomainEvent], None]
SHOW_S = 0.1
"""A strategy that shows itself more often is published so often, and with the next second what it showed last."""
_READ_TRIES = 3

_log = structlog.get_logger(__name__)


class CtaShow:
    """One CtaEngine's strategies. Any thread, but for the handlers."""

    def __init__(
        self, engine: Any, memory: CtaMemory, classes: StrategyClasses, calls: CtaCalls, *, emit: Emit, clock: Clock
    ) -> None:
        self.absent: dict[str, str] = {}
        """Strategies that could not be made at the start, and why."""
        self.held: dict[str, str] = {}
        """What is in quarantine, and why, as it was read last."""
        self.is_initialising: Callable[[str], bool] = lambda name: False
        self._engine = engine
        self._memory = memory
        self._classes = classes
        self._calls = calls
        self._emit = emit
        self._clock = clock
        self._shown: dict[str, tuple[float, StrategyState]] = {}
        """When each was published last, and how far it was then."""
        self._late: set[str] = set()
        """Those that have shown themselves again since."""

    def names(self) -> list[str]:
        """All, by name."""
        return sorted({*list(self._engine.strategies), *list(self.absent)})

    def state(self, strategy: Any) -> StrategyState:
        """How far a strategy is."""
        name = strategy.strategy_name
        if name in self._calls.failures or name in self.held:
            return StrategyState.FAILED
        if strategy.trading:
            return StrategyState.RUNNING
        if self.is_initialising(name):
            return StrategyState.INITIALISING
        if strategy.inited:
            return StrategyState.STOPPED if name in self._calls.started else StrategyState.INITED
        return StrategyState.CREATED

    def update(self, name: str) -> StrategyUpdate:
        """All about one. Raises NotFound."""
        if (strategy := self._engine.strategies.get(name)) is not None:
            return self._update_of(strategy)
        setting = self._memory.setting(name)
        if name in self.absent and setting is not None:
            return self._update_of_absent(setting)
        raise NotFound(f"there is no strategy {name}")

    def show(self, name: str) -> None:
        """Publish one as it is now; VnPy's window sees it too."""
        strategy = self._engine.strategies.get(name)
        try:
            if strategy is not None:
                self._shown.pop(name, None)
                self._engine.put_strategy_event(strategy)
                return
        except Exception as error:  # noqa: BLE001 - a guarded door: reads what the strategy has, which may be gone
            _log.warning("a strategy cannot be shown whole", strategy_name=name, detail=describe(error))
        with contextlib.suppress(NotFound):
            self._emit(topics.STRATEGY_UPDATED, name, self.update(name))

    def show_all(self) -> None:
        """Publish each of them."""
        for name in self.names():
            self.show(name)

    def forget(self, name: str) -> None:
        """It is there no longer."""
        self._shown.pop(name, None)

    def on_strategy(self, event: Event) -> None:
        """A strategy shows itself. Event thread."""
        name, now = event.data["strategy_name"], self._clock.monotonic()
        strategy = self._engine.strategies.get(name)
        if strategy is None:
            return  # it was removed meanwhile
        state = self.state(strategy)
        shown_at, shown_state = self._shown.get(name, (-math.inf, None))
        if now - shown_at < SHOW_S and state is shown_state:
            self._late.add(name)
            return
        self._shown[name] = now, state
        self._late.discard(name)
        self._emit(topics.STRATEGY_UPDATED, name, self._update_of(strategy))

    def on_timer(self, event: Event) -> None:
        """Publish what was held back. Event thread."""
        late, self._late = self._late, set()
        for name in late & self._engine.strategies.keys():
            self._emit(topics.STRATEGY_UPDATED, name, self.update(name))

    def _update_of(self, strategy: Any) -> StrategyUpdate:
        name, type_, state = strategy.strategy_name, type(strategy), self.state(strategy)
        variables = {variable: _read(strategy, variable) for variable in strategy.variables}
        if not strategy.inited:
            # What its on_init is followed by. A fill that comes before that is counted there only.
            saved = self._saved(name)
            names = variables.keys() if state in (StrategyState.CREATED, StrategyState.INITIALISING) else {"pos"}
            variables |= {variable: saved[variable] for variable in names if saved.get(variable) is not None}
        setting = self._memory.setting(name)
        return StrategyUpdate(
            strategy_name=name,
            class_name=type_.__name__,
            vt_symbol=strategy.vt_symbol,
            author=translate.plain(str(strategy.author)),
            parameters={parameter: _read(strategy, parameter) for parameter in strategy.parameters},
            variables=variables,
            inited=bool(strategy.inited),
            trading=bool(strategy.trading),
            pos=_number(variables.get("pos")),
            state=state,
            error=self.held.get(name) or self._calls.failures.get(name),
            auto_start=setting is not None and setting.auto_start,
            attributed_pos=self._memory.attributed(name),
            class_file=self._classes.file_of(type_),
            class_hash=self._classes.hash_of(type_),
            class_is_old=not self._classes.is_current(type_),
        )

    def _update_of_absent(self, setting: StrategySetting) -> StrategyUpdate:
        name = setting.strategy_name
        saved = self._saved(name)
        return StrategyUpdate(
            strategy_name=name,
            class_name=setting.class_name,
            vt_symbol=setting.vt_symbol,
            author="",
            parameters=setting.setting,
            variables=saved,
            pos=_number(saved.get("pos")),
            state=StrategyState.FAILED,
            error=f"it could not be made: {self.absent[name]}",
            auto_start=setting.auto_start,
            attributed_pos=self._memory.attributed(name),
            class_file=setting.class_file,
            class_hash=setting.class_hash,
        )

    def _saved(self, name: str) -> dict[str, Any]:
        """What CtaEngine keeps of its variables, without our mark among them."""
        saved = dict(self._engine.strategy_data.get(name, {}))
        return {variable: translate.plain(value) for variable, value in saved.items() if variable != MARK}


def _read(strategy: Any, name: str) -> Any:
    """An attribute as JSON can hold it, while another thread may change it."""
    for _ in range(_READ_TRIES):
        try:
            return translate.plain(getattr(strategy, name))
        except RuntimeError as error:  # a dict that changed its size meanwhile
            words = describe(error)
        except Exception as error:  # noqa: BLE001 - a guarded door: a property is a strategy's code
            return describe(error)
    return words


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
