"""`vnpy-core import-vnpy`: takes over the files of a trader that ran with VnPy's own window."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.kit.files import write_secret
from vnpy_core.kit.lock import DataFolderLock

PATTERNS = ("vt_setting.json", "connect_*.json", "cta_strategy_data.json", "*_setting.json")
"""VnPy's settings, gateways' log-ins, CTA variables, and the settings of strategies, rules, algos and other apps."""


@dataclass(frozen=True)
class Taken:
    """One file and what became of it; `problem` is empty where it was taken over."""

    name: str
    outcome: str
    problem: bool = False


def take_over(source: Path, data: Path, *, force: bool = False) -> list[Taken]:
    """Copy the known files of `source` (a `.vntrader` folder or its parent) into `data/.vntrader`, for the owner only.

    The source is only read. Broken files are reported and skipped. Raises ConfigurationError where a file with other
    content would be overwritten (nothing is copied then), FolderInUse while a service runs on `data`.
    """
    source = source / ".vntrader" if (source / ".vntrader").is_dir() else source
    if not source.is_dir():
        raise ConfigurationError(f"there is no folder {source}")
    names = sorted(p.name for p in source.iterdir() if p.is_file() and any(fnmatch(p.name, x) for x in PATTERNS))
    if not names:
        raise ConfigurationError(f"{source} has none of VnPy's files ({', '.join(PATTERNS)})")
    target = data / ".vntrader"
    with DataFolderLock(data):
        other = [name for name in names if _differs(source / name, target / name)]
        if other and not force:
            raise ConfigurationError(f"{target} has other versions of {', '.join(other)}; --force writes over them")
        return [_take(source / name, target / name) for name in names]


def _differs(source: Path, target: Path) -> bool:
    return target.exists() and target.read_bytes() != source.read_bytes()


def _take(source: Path, target: Path) -> Taken:
    try:
        text = source.read_text(encoding="utf-8-sig")
        content = json.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        return Taken(source.name, f"skipped, it cannot be read: {error}", problem=True)
    except json.JSONDecodeError as error:
        # Not the error's own text alone: with the document it could show a password.
        return Taken(source.name, f"skipped, broken JSON at line {error.lineno}, column {error.colno}", problem=True)
    if not isinstance(content, dict | list):
        return Taken(source.name, "skipped, it holds no settings", problem=True)
    write_secret(target, text)
    return Taken(source.name, f"taken over ({len(content)} entries)")
