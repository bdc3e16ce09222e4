"""`vnpy-core check`: what a start would stumble over, found without starting and without writing."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vnpy_core.domain.errors import ConfigurationError, describe
from vnpy_core.engine.settings import GatewaySettings
from vnpy_core.gateways.paper.contracts import ContractTable
from vnpy_core.settings import Settings


def check(settings: Settings) -> list[str]:
    """Everything that is wrong, in the order in which a start would meet it; imports vnpy, so once a process."""
    found = [*_folders(settings), *_json_files(settings), *_contracts(settings)]
    if settings.paths.strategies.is_dir():
        classes, broken = _strategy_classes(settings.paths.strategies)
        found += [*broken, *_strategies(settings, classes), *_targets(settings)]
    return found


def _folders(settings: Settings) -> Iterator[str]:
    strategies = settings.paths.strategies
    if not strategies.is_dir():
        yield f"paths.strategies: there is no folder {strategies}"
    elif not os.access(strategies, os.R_OK | os.X_OK):
        yield f"paths.strategies: {strategies} cannot be read"
    existing = next(path for path in (settings.paths.data, *settings.paths.data.parents) if path.exists())
    if not existing.is_dir():
        yield f"paths.data: {existing} is a file and not a folder"
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield f"paths.data: {existing} cannot be written to"


def _json_files(settings: Settings) -> Iterator[str]:
    """VnPy's own settings, which would keep an app or a gateway from starting."""
    for folder in (settings.paths.config, settings.paths.data / ".vntrader"):
        for path in sorted(folder.glob("*.json")):
            try:
                if not isinstance(json.loads(path.read_text(encoding="utf-8")), dict):
                    yield f"{path}: must hold an object of settings"
            except json.JSONDecodeError as error:
                yield f"{path}: broken JSON at line {error.lineno}, column {error.colno}"
            except (OSError, UnicodeDecodeError) as error:
                yield f"{path}: cannot be read: {error}"


def _contracts(settings: Settings) -> Iterator[str]:
    path = settings.paths.config / "contracts.toml"
    if path.exists():
        try:
            ContractTable(path)
        except ConfigurationError as error:
            yield error.detail


def _strategy_classes(folder: Path) -> tuple[set[str], list[str]]:
    """The classes that VnPy would find, the shipped ones included, and what is wrong with the user's files."""
    classes, broken = set[str](), list[str]()
    shipped = importlib.util.find_spec("vnpy_ctastrategy")
    places = [Path(place) / "strategies" for place in (shipped.submodule_search_locations or [])] if shipped else []
    for path in (file for place in (*places, folder) for file in sorted(place.rglob("*.py"))):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
            classes |= {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        except SyntaxError as error:
            broken.append(f"{path}, line {error.lineno}: {error.msg}")
        except (OSError, ValueError) as error:
            broken.append(f"{path}: cannot be read: {error}")
    return classes, broken


def _strategies(settings: Settings, classes: set[str]) -> Iterator[str]:
    for name, strategy in settings.strategies.items():
        if strategy.class_name not in classes:
            near = difflib.get_close_matches(strategy.class_name, classes, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield f"strategies.{name}.class_name: no file has a class {strategy.class_name}{hint}"
        symbol, _, exchange = strategy.vt_symbol.rpartition(".")
        if not symbol or not exchange:
            yield f"strategies.{name}.vt_symbol: {strategy.vt_symbol!r} is not like rb2505.SHFE"


def _targets(settings: Settings) -> Iterator[str]:
    """Apps and gateways that cannot be imported. VnPy is given a passing folder, as it writes where it is imported."""
    from vnpy_core.engine.home import prepare_home

    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="vnpy_core-check-") as home:
        try:
            prepare_home(Path(home), settings.paths.strategies, language=settings.engine.language)
        except ConfigurationError as error:
            yield error.detail
            return
        finally:
            os.chdir(here)
        for name, app in settings.apps.items():
            if app.enabled and (problem := _import_problem(app.class_)):
                yield f"apps.{name}.class: {problem}"
        for name, gateway in settings.gateways.items():
            if gateway.enabled and (problem := _import_problem(gateway.class_)):
                yield f"gateways.{name}.class: {problem}"
            elif gateway.enabled:
                yield from (f"gateways.{name}.setting.{text}" for text in _unknown_setting(gateway))


def _unknown_setting(gateway: GatewaySettings) -> Iterator[str]:
    known: Any = getattr(_load(gateway.class_), "default_setting", None)
    for key in gateway.setting if isinstance(known, dict) else ():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            yield f"{key}: unknown to the gateway" + (f"; did you mean {near[0]}?" if near else "")


def _load(target: str) -> Any:
    module_name, _, class_name = target.partition(":")
    return getattr(importlib.import_module(module_name), class_name)


def _import_problem(target: str) -> str:
    module_name, _, class_name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        package = (error.name or module_name).partition(".")[0]
        is_absent = importlib.util.find_spec(package) is None
        return f"there is no module {error.name}" + (f"; make add PACKAGE={package}" if is_absent else "")
    except Exception as error:  # noqa: BLE001 - a guarded door: a third party's module may raise anything
        return f"{module_name} cannot be imported: {describe(error)}"
    if hasattr(module, class_name):
        return ""
    near = difflib.get_close_matches(class_name, _classes(module), 1)
    return f"{module_name} has no class {class_name}" + (f"; did you mean {near[0]}?" if near else "")


def _classes(module: Any) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, type)]
