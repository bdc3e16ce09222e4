"""Loading VnPy's apps: one that fails is left out with a reason, or refuses the start where it is required."""

from __future__ import annotations

import structlog
from vnpy.trader.engine import MainEngine

from vnpy_core.domain.errors import ConfigurationError, describe
from vnpy_core.engine.gateways import load_target
from vnpy_core.engine.settings import AppSettings

_log = structlog.get_logger(__name__)


def load_apps(main_engine: MainEngine, apps: dict[str, AppSettings]) -> dict[str, str]:
    """Add the enabled apps; returns their names with "loaded" or the error that kept each out.

    Required ones come last: an app that replaces `send_order` without chaining (PaperAccount does) would otherwise
    bypass RiskManager. Raises ConfigurationError where a required one fails.
    """
    states: dict[str, str] = {}
    for name, app in sorted(apps.items(), key=lambda item: item[1].required):
        if not app.enabled:
            continue
        before = set(main_engine.apps)
        try:
            main_engine.add_app(load_target(app.class_))
            states[name] = "loaded"
        except Exception as error:
            # VnPy lists an app before its engine is built; a half-loaded one must not be offered.
            for half_loaded in set(main_engine.apps) - before:
                main_engine.apps.pop(half_loaded)
            states[name] = describe(error)
            if app.required:
                raise ConfigurationError(
                    f"apps.{name} could not be loaded and is required: {describe(error)}. Trading without it is not "
                    "safe; mend it (a broken file in rules/ does this), or set `required = false` to start without it."
                ) from error
            _log.exception("an app could not be loaded; the service starts without it", app=name)
    return states
