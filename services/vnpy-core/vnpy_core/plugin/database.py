"""What VnPy's `get_database()` makes where `database.name` is `core`: the same store, in the service and elsewhere.

In the service's process it is the service's store. In any other (VeighNa Trader's window, a backtest, a notebook)
`database.database` of vt_setting.json says where it is: a service.toml or a service's data folder, absolute or from
VnPy's folder. Where that is not set ("" or VnPy's own default) it is, in this order: what $VNPYCORE_CONFIG names; the
store of the plugin in this VnPy's folder, if it has run there; VnPy's folder itself, which a service's data folder is.
Several processes may use one store at the same time.
"""

from __future__ import annotations

import atexit
import os
from pathlib import Path

from vnpy.trader.setting import SETTINGS
from vnpy.trader.utility import TEMP_DIR, TRADER_DIR

from vnpy_core.adapters.timeseries.build import build_store
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.engine.database import CoreDatabase, provided
from vnpy_core.kit.clock import SystemClock
from vnpy_core.plugin.engine import FOLDER, plugin_settings
from vnpy_core.settings import CONFIG_VARIABLE, Settings, load_settings

_UNSET = ("", "database.db")


def Database() -> CoreDatabase:
    """VnPy's name for it. Raises ConfigurationError and what the store's `open` raises."""
    if provided() is not None:
        return CoreDatabase()
    settings = configured()
    store = build_store(settings.timeseries, settings.paths.data, SystemClock())
    store.open()
    atexit.register(store.close)
    return CoreDatabase(store)


def configured() -> Settings:
    """The settings of the store that VnPy's own settings point to. Raises ConfigurationError."""
    named = SETTINGS.get("database.database") or ""
    if named not in _UNSET:
        return _named(Path(TRADER_DIR) / Path(named).expanduser())
    plugin = Path(TEMP_DIR) / FOLDER
    if os.environ.get(CONFIG_VARIABLE) or plugin.is_dir():
        return plugin_settings(plugin)
    return _of_folder(Path(TRADER_DIR))


def _named(path: Path) -> Settings:
    if path.is_dir():
        return _of_folder(path)
    if path.suffix == ".toml":
        return load_settings(path)
    raise ConfigurationError(f"database.database: {path} is neither a service.toml nor a data folder")


def _of_folder(data: Path) -> Settings:
    """The built-in settings and the environment's, with `data`."""
    settings = load_settings(Path(os.devnull))
    return settings.model_copy(update={"paths": settings.paths.model_copy(update={"data": data})})
