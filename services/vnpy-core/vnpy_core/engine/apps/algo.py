"""AlgoTrading: its progress as events, and a stop that runs on the event thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from vnpy.event import Event, EventEngine

from vnpy_core.bus import topics
from vnpy_core.domain.events import Event as DomainEvent
from vnpy_core.engine import translate
from vnpy_core.engine.commands import CommandDoor

EVENT_ALGO_LOG = "eAlgoLog"
EVENT_ALGO_UPDATE = "eAlgoUpdate"

_log = structlog.get_logger(__name__)


class AlgoFacade:
    """One AlgoEngine; coroutines on the loop, handlers on the event thread."""

    def __init__(
        self,
        main_engine: Any,
        event_engine: EventEngine,
        commands: CommandDoor,
        emit: Callable[[str, str, DomainEvent], None],
    ) -> None:
        self.engine = main_engine.get_engine("AlgoTrading")
        self._event_engine = event_engine
        self._commands = commands
        self._emit = emit
        self._handlers = {EVENT_ALGO_LOG: self._on_log, EVENT_ALGO_UPDATE: self._on_update}

    def install(self) -> None:
        """Listen to its events."""
        for event_type, handler in self._handlers.items():
            self._event_engine.register(event_type, handler)

    def uninstall(self) -> None:
        """Stop listening."""
        for event_type, handler in self._handlers.items():
            self._event_engine.unregister(event_type, handler)

    async def stop_all(self) -> None:
        """Stop every algorithm; each cancels its orders. From another thread this has killed the event thread."""
        await self._commands.run(self._stop_all, deadline_s=5)

    def _stop_all(self) -> None:
        for name in list(self.engine.algos):
            try:
                self.engine.stop_algo(name)
            except Exception:  # noqa: BLE001 - a gateway that cannot cancel must not keep the next ones trading
                _log.exception("an algo did not stop well", algo_name=name)

    def _on_log(self, event: Event) -> None:
        log = translate.log(event.data)
        self._emit(topics.LOG, log.source, log)

    def _on_update(self, event: Event) -> None:
        update = translate.algo(event.data)
        self._emit(topics.ALGO_UPDATED, update.algo_name, update)
