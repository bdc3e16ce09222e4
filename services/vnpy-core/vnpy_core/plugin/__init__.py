"""The service inside a VnPy trader that already runs: `main_engine.add_app(CoreServiceApp)` in any `run.py`.

It changes nothing of its host but these wraps, all taken off again on close: `put`, `_process` and `stop` of the
EventEngine (journal first, isolation, conflation, draining), `send_order` and `send_quote` of each gateway and of
PaperAccount (the intent gate) and `main_engine.add_gateway` (so that later gateways get it too), `check_allowed`,
`write_log` and `update_rule_setting` of RiskEngine (the reason of a denial, changed limits on record),
`call_strategy_func` and `sync_strategy_data` of CtaEngine (what a strategy raised, which fills it counted), and
`main_engine.send_email` where it is missing.
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
