"""The service's log: structlog to people on a terminal or to machines as JSON lines, without secrets.

Usable before vnpy is imported. Secrets are taken out here and not where lines are written, so that no caller has to
remember it: by the name of a key, by their shape inside texts, and those that `hide` was told of.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from logging import LogRecord
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, TextIO

import msgspec

if "rich" not in sys.modules:
    # structlog.dev imports rich's tracebacks where it can: 0.2 s of the start, for a renderer that is not used here.
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog

    del sys.modules["rich"]
else:
    import structlog

Format = Literal["auto", "console", "json"]
Entry = dict[str, Any]

HIDDEN = "***"
TEXT_LIMIT = 2_000
"""Characters of a field that are written."""
TRACE_LIMIT = 16_000
ITEMS_LIMIT = 50
"""Entries of a mapping or sequence that are written."""
DEPTH_LIMIT = 4

_SECRET_WORDS = (
    r"pass(?:word|wd|phrase)|pwd|secret(?:_?key)?|token|authorization|(?:api|access|private|signing)_?key|api"
    r"|cookie|credentials?|auth_?code|ticket|jwt|密码|口令|密钥|授权编?码"
)
_SECRET_KEY = re.compile(rf"(?:^|_|\b|[a-z])(?:{_SECRET_WORDS.removesuffix('|api').replace('|api|', '|')})s?$", re.IGNORECASE)
_SECRET_TEXTS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), HIDDEN),
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), rf"\1{HIDDEN}@"),
)
