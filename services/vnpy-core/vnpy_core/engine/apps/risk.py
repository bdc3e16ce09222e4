"""RiskManager: its refusals as typed errors instead of `""`, and a rule that raises refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import structlog
from vnpy.event import Event, EventEngine

from vnpy_core.domain.errors import RiskDenied, describe
from vnpy_core.domain.events import Audit, RiskEvent
from vnpy_core.engine.stage import EVENT_AUDIT, EVENT_DENIED
from vnpy_core.engine.translate import plain
from vnpy_core.ports.clock import Clock

EVENT_RISK_RULE = "eRiskRule"

_log = structlog.get_logger(__name__)


class RiskFacade:
    """Wraps one RiskEngine instance; `uninstall` takes the wraps off.

    RiskManager says no with `""`, a log line and nothing that names the rule. The wrap runs its own loop over the
    rules, exactly RiskEngine.check_allowed's, and remembers which one refused and what it wrote.
    """

    def __init__(
        self, engine: Any, event_engine: EventEngine, clock: Clock, publish: Callable[[RiskEvent], None]
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._event_engine = event_engine
        self._publish = publish
        self._refusal = threading.local()

    def install(self) -> None:
        """Begin to watch refusals and rule states."""
        self._engine.check_allowed = self._check_allowed
        self._engine.write_log = self._write_log
        self._engine.update_rule_setting = self._update_rule_setting
        self._event_engine.register(EVENT_RISK_RULE, self._on_rule)

    def uninstall(self) -> None:
        """Give RiskEngine its own methods back."""
        for name in ("check_allowed", "write_log", "update_rule_setting"):
            if name in vars(self._engine):
                delattr(self._engine, name)
        self._event_engine.unregister(EVENT_RISK_RULE, self._on_rule)

    def take_refusal(self) -> RiskDenied | None:
        """Why the last order sent from this thread was refused, once; None when it was not."""
        refusal: RiskDenied | None = getattr(self._refusal, "error", None)
        self._refusal.error = None
        return refusal

    def _check_allowed(self, request: Any, gateway_name: str) -> bool:
        self._refusal.error = None
        for rule in self._engine.rules.values():
            if rule.active and not self._allows(rule, request, gateway_name):
                return False
        return True

    def _allows(self, rule: Any, request: Any, gateway_name: str) -> bool:
        self._refusal.text = ""
        try:
            if rule.check_allowed(request, gateway_name):
                return True
            reason = self._refusal.text or "the rule refused without a word"
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a guarded door: foreign code that fails must refuse
            _log.exception("risk rule failed; the order is refused", rule=rule.name)
            reason = f"the rule raised {describe(error)}"
        name = type(rule).__name__
        self._refusal.error = RiskDenied(reason, rule=name, rule_name=rule.name, limit=_parameters(rule))
        # Through the stage, which journals it, and the bridge, which publishes it.
        self._event_engine.put(Event(EVENT_DENIED, RiskEvent(kind="DENIED", rule=name, message=reason)))
        return False

    def _write_log(self, message: str) -> None:
        self._refusal.text = message
        type(self._engine).write_log(self._engine, message)

    def _update_rule_setting(self, rule_name: str, setting: dict[str, Any]) -> None:
        """A changed limit, from whichever window, goes on record."""
        before = _parameters(self._engine.rules[rule_name]) if rule_name in self._engine.rules else None
        type(self._engine).update_rule_setting(self._engine, rule_name, setting)
        audit = Audit(
            who="VnPy",
            what="risk.rule",
            target=rule_name,
            before=before,
            after=_parameters(self._engine.rules[rule_name]),
            at=self._clock.now(),
        )
        self._event_engine.put(Event(EVENT_AUDIT, audit))

    def _on_rule(self, event: Event) -> None:
        self._publish(RiskEvent(kind="RULE", rule=str(event.data.get("class_name", "")), data=plain(event.data)))


def _parameters(rule: Any) -> dict[str, Any]:
    return {name: plain(getattr(rule, name)) for name in rule.parameters if name != "active"}
