"""Which contracts are recorded: as the settings say, or as somebody has changed it since."""

from __future__ import annotations

import errno
import re
from fnmatch import translate
from pathlib import Path

import msgspec

from vnpy_core.domain.errors import ConfigurationError, FieldError, StorageFull, TimeSeriesUnavailable, ValidationFailed
from vnpy_core.kit.files import write_atomic

MOST_PATTERNS = 5_000
LONGEST_PATTERN = 100


class RecordList:
    """vt_symbols and patterns (`rb*.SHFE`), ready to be asked on the event thread. Any thread may call."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self.patterns = patterns
        self._names = frozenset(patterns)
        self._matches = [re.compile(translate(pattern)).match for pattern in patterns if set(pattern) & set("*?[")]

    def has(self, vt_symbol: str) -> bool:
        """Whether it is named or matched; case counts."""
        return vt_symbol in self._names or any(match(vt_symbol) for match in self._matches)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    symbols: tuple[str, ...]


def load(path: Path) -> tuple[str, ...] | None:
    """What was saved, None where nothing was. Raises ConfigurationError (the file is broken or cannot be read)."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File).symbols
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} is broken: {error}. It says what is recorded: mend it, or remove it to have what service.toml says"
        ) from error


def save(path: Path, patterns: tuple[str, ...]) -> None:
    """Keep them for later starts. Raises ValidationFailed, StorageFull, TimeSeriesUnavailable (cannot write)."""
    _check(patterns)
    try:
        write_atomic(path, msgspec.json.format(msgspec.json.encode(_File(patterns))) + b"\n")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"the disk of {path} is full") from error
        raise TimeSeriesUnavailable(f"{path} cannot be written: {error}") from error


def _check(patterns: tuple[str, ...]) -> None:
    if len(patterns) > MOST_PATTERNS:
        message = f"{len(patterns)} patterns; {MOST_PATTERNS} are the most"
        raise ValidationFailed(message, errors=[FieldError("symbols", message)])
    wrong = [
        FieldError(f"symbols.{number}", f"a pattern is 1 to {LONGEST_PATTERN} characters without spaces")
        for number, pattern in enumerate(patterns)
        if not 0 < len(pattern) <= LONGEST_PATTERN or pattern != "".join(pattern.split())
    ]
    if wrong:
        raise ValidationFailed("a pattern is wrong", errors=wrong)
