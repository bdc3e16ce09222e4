"""VnPy's folders, language and settings, prepared before its first import.

VnPy fixes its folder (`TRADER_DIR`) when `vnpy.trader.utility` is imported, from the current folder; it reads
`vt_setting.json` when `vnpy.trader.setting` is, and its enums' texts from the locale. So this room imports no vnpy at
its top, and another home means another process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import structlog

from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.kit.files import write_atomic, write_secret

_log = structlog.get_logger(__name__)


def prepare_home(data: Path, strategies: Path, *, config_folder: Path | None = None, language: str = "zh_CN") -> None:
    """Make `data` VnPy's TRADER_DIR and load VnPy's settings; call once, before anything imports vnpy.

    `data/.vntrader` holds VnPy's own files, `data/strategies` links to `strategies`. `vt_setting.json` of
    `config_folder` is laid over the one in `.vntrader`. Changes the process's folder, `sys.path` and LANGUAGE.
    Where neither names a database, VnPy's is the tick and bar store, unless VnPy's own SQLite file has data.
    Raises ConfigurationError where VnPy would read from elsewhere or a settings file is broken.
    """
    data, strategies = data.resolve(), strategies.resolve()
    _refuse_second_home(data)
    temp = data / ".vntrader"
    temp.mkdir(parents=True, exist_ok=True, mode=0o700)
    _link_strategies(data, strategies)
    overrides = _read_settings(config_folder / "vt_setting.json") if config_folder else {}
    # VnPy reads it at import and would fail without naming the file.
    settings = _read_settings(temp / "vt_setting.json") | overrides
    if "database.name" not in settings:
        choose_database(temp, settings)
        settings = _read_settings(temp / "vt_setting.json") | overrides
    os.environ["LANGUAGE"] = language
    os.chdir(data)
    sys.path[:] = [str(data), *(entry for entry in sys.path if entry not in ("", str(data)))]
    _check_strategies_resolve(strategies)
    _load_vnpy_settings(data, settings)


def make_json_writes_safe() -> Callable[[], None]:
    """Replace VnPy's `save_json` in every module that has it: atomic, and tolerant of what JSON cannot hold.

    VnPy rewrites `cta_strategy_setting.json` and others in place: a kill leaves half a file, and a variable that JSON
    cannot hold truncates it and raises on the event thread. Returns the way to undo it.
    """
    from vnpy.trader import utility

    original = utility.save_json

    def save_json(filename: str, data: dict[str, Any]) -> None:
        text = json.dumps(data, indent=4, ensure_ascii=False, default=_plain)
        # CtaEngine saves at each trade, on the event thread, which must not wait for a disk.
        write_atomic(utility.get_file_path(filename), text.encode(), durable=False)

    replaced = [m for m in list(sys.modules.values()) if getattr(m, "save_json", None) is original]
    for module in replaced:
        module.save_json = save_json  # type: ignore[attr-defined]

    def undo() -> None:
        for module in list(sys.modules.values()):
            if getattr(module, "save_json", None) is save_json:
                module.save_json = original  # type: ignore[attr-defined]

    return undo


def use_core_database(temp: Path) -> None:
    """Name the tick and bar store as VnPy's database in `vt_setting.json` of `temp`, VnPy's folder `.vntrader`.

    In the file, because the processes that VnPy's apps start read it anew. Raises ConfigurationError, OSError.
    """
    path = temp / "vt_setting.json"
    settings = _read_settings(path) | {"database.name": "core"}
    write_secret(path, json.dumps(settings, indent=4, ensure_ascii=False))


def choose_database(temp: Path, settings: dict[str, Any]) -> None:
    """Where `settings` name no database: use the tick and bar store, unless vnpy_sqlite's file in `temp` has data."""
    path = temp / (settings.get("database.database") or "database.db")
    if not _has_rows(path):
        use_core_database(temp)
        return
    _log.warning("VnPy goes on with its SQLite file; `vnpy-core data migrate` brings it into the store", path=str(path))


def _has_rows(path: Path) -> bool:
    """Whether a file of vnpy_sqlite has data, or may have some: one that cannot be read is somebody's."""
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("select name from sqlite_master")}
            filled = [
                connection.execute(f"select 1 from {table} limit 1").fetchone()  # noqa: S608 - our own names
                for table in ("dbbardata", "dbtickdata")
                if table in tables
            ]
    except sqlite3.Error:
        return True
    return any(filled)


def _plain(value: Any) -> Any:
    """What JSON can hold instead of `value`: numpy scalars as numbers, sets as lists, the rest as text."""
    if hasattr(value, "item") and callable(value.item):
        return value.item()
    if isinstance(value, set | frozenset | tuple):
        return sorted(value, key=repr)
    return str(value)


def _refuse_second_home(data: Path) -> None:
    utility = sys.modules.get("vnpy.trader.utility")
    if utility is not None and Path(utility.TRADER_DIR).resolve() != data:
        raise ConfigurationError(
            f"vnpy already runs in {utility.TRADER_DIR}; its folder is fixed for the life of the process. "
            f"Start another process for {data}."
        )


def _link_strategies(data: Path, strategies: Path) -> None:
    link = data / "strategies"
    if not strategies.is_dir():
        raise ConfigurationError(f"paths.strategies: there is no folder {strategies}")
    if link.resolve() == strategies:
        return
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise ConfigurationError(
            f"{link} is a folder of its own, so VnPy would load strategies from there and not from {strategies}. "
            "Move its files to the configured folder and remove it."
        )
    link.symlink_to(os.path.relpath(strategies, data), target_is_directory=True)


def _read_settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigurationError(f"{path} must hold an object of settings")
    return settings


def _check_strategies_resolve(strategies: Path) -> None:
    loaded = sys.modules.get("strategies")
    spec = loaded.__spec__ if loaded else importlib.util.find_spec("strategies")
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places or Path(places[0]).resolve() != strategies:
        raise ConfigurationError(
            f"`import strategies` would load from {places[0] if places else 'nowhere'} and not from {strategies}; "
            "remove that module from the Python path."
        )


def _load_vnpy_settings(data: Path, settings: dict[str, Any]) -> None:
    from vnpy.trader.setting import SETTINGS
    from vnpy.trader.utility import TRADER_DIR

    if Path(TRADER_DIR).resolve() != data:
        raise ConfigurationError(f"vnpy chose {TRADER_DIR} as its folder and not {data}")
    SETTINGS.update(settings)
    # VnPy's log lines reach the service's log over the bus; its own sinks would cost the event thread 50 µs a line.
    SETTINGS.update({"log.active": False, "log.console": False, "log.file": False})
    make_json_writes_safe()
    for path in sorted((data / ".vntrader").glob("*.json")):
        try:
            _read_settings(path)
        except ConfigurationError as error:
            _log.error("a file of VnPy's is broken; the app that reads it may not start", detail=error.detail)
