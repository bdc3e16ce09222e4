"""VnPy Core Service: a VnPy trader without a screen, served over REST and WebSocket."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`Database`: VnPy imports `vnpy_{database.name}`, so with `database.name = "core"` this package, and asks for it.

    Found when it is asked for, because everything else of this package must come without vnpy.
    """
    if name == "Database":
        from importlib import import_module  # noqa: PLC0415

        return import_module("vnpy_core.plugin.database").Database
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
