"""The service inside a VnPy trader that already runs: `main_engine.add_app(CoreServiceApp)` in any `run.py`.

It changes nothing of its host but these wraps, all taken off again on close: `put`, `_process` and `stop` of the
EventEngine (isolation, conflation, draining), `check_allowed` and `write_log` of RiskEngine (the reason of a denial),
`call_strategy_func` of CtaEngine (what a strategy raised), and `main_engine.send_email` where it is missing.
"""

from pathlib import Path

from vnpy.trader.app import BaseApp

from vnpy_core.plugin.engine import APP_NAME, CoreServiceEngine

__all__ = ["APP_NAME", "CoreServiceApp", "CoreServiceEngine"]


class CoreServiceApp(BaseApp):  # type: ignore[misc]
    """What `add_app` takes."""

    app_name = APP_NAME
    app_module = __module__
    app_path = Path(__file__).parent
    display_name = "Core Service"
    engine_class = CoreServiceEngine
    widget_name = "CoreServiceWidget"
    icon_name = str(app_path / "ui" / "core.ico")
