"""VnPy's window imports this package of every app and takes the widget from it; without Qt the import still works."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "CoreServiceWidget":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vnpy_core.plugin.ui.widget import CoreServiceWidget

    return CoreServiceWidget
