"""The service's log: structlog, to people on a terminal or to machines as JSON lines, without secrets.

Usable before vnpy is imported. Secrets are taken out here and not where lines are written, so that no caller has to
remember it: by the name of their key, by their shape inside texts, and those that `hide` was told of.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

import msgspec

if "rich" in sys.modules:
    import structlog
else:
    # structlog.dev imports rich's tracebacks where it can: 0.2 s of the start, for a renderer that is not used here.
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog

    del sys.modules["rich"]

Entry = dict[str, Any]
Output = Callable[[Entry], None]
Format = Literal["auto", "console", "json"]

HIDDEN = "***"
TEXT_LIMIT = 2_000
"""Characters of a text that are written."""
TRACE_LIMIT = 16_000
"""Characters of a traceback that are written: its end, where the error is."""
ITEMS_LIMIT = 50
"""Entries of a mapping or sequence that are written."""
DEPTH_LIMIT = 4

_WORDS = (
    r"(?:password|passwd|passphrase|pwd|secret|token|authorization|(?:api|access|private|secret|signing)_?key"
    r"|auth_?code|cookie|credential|ticket|jwt)s?"
)
_SECRET_KEY = re.compile(rf"(?:^|_){_WORDS}$|密码|口令|密钥|授权")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SECRET_TEXTS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), HIDDEN),
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), rf"\1{HIDDEN}@"),
    (
        re.compile(
            rf"""(?i)((?:\b|_){_WORDS}["']?\s*[:=]\s*)(?!{re.escape(HIDDEN)})(?:"[^"]*"|'[^']*'|[^\s"'&,;)}}\]]+)"""
        ),
        rf"\1{HIDDEN}",
    ),
)
# Most texts hold none of these and need no closer look, which costs 10 µs.
_SUSPICIOUS = re.compile(r"eyJ|://|[=:]|(?i:bearer|basic) ")
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_COLOURS = {"debug": "\x1b[2m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[1;31m"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_FIRST = ("ts", "level", "logger", "event", "exception")

_hidden: set[str] = set()


def hide(secret: str) -> None:
    """Take this very text out of every line from now on. Shorter than 6 characters it would take out words; ignored."""
    if len(secret) >= 6:
        _hidden.add(secret)


@functools.lru_cache(maxsize=4_096)
def is_secret_key(key: str) -> bool:
    """Whether what stands under this name must not be shown: `password`, `API Key`, `accessToken`, `授权编码`, …"""
    return bool(_SECRET_KEY.search(re.sub(r"[\s-]+", "_", _CAMEL.sub("_", key)).lower()))


def redact(text: str) -> str:
    """`text` without the secrets that can be recognised in it."""
    for secret in _hidden:
        text = text.replace(secret, HIDDEN)
    if not _SUSPICIOUS.search(text):
        return text
    for pattern, replacement in _SECRET_TEXTS:
        text = pattern.sub(replacement, text)
    return text


def setup_logging(
    level: str = "INFO",
    format: Format = "auto",
    *,
    stream: TextIO | None = None,
    file: Path | None = None,
    rotate_mb: int = 50,
    keep_files: int = 5,
) -> Callable[[], None]:
    """The log of a process of our own: to `stream` (stderr) and `file`; returns the way to undo it.

    Stdlib logging (uvicorn), warnings and exceptions that end a thread go there too. Raises OSError where `file` cannot
    be written.
    """
    undo = configure_logging(
        level, format, stream=stream or sys.stderr, file=file, rotate_mb=rotate_mb, keep_files=keep_files
    )
    give_back = _route_the_rest(max(_LEVELS[level.lower()], logging.INFO))

    def undo_all() -> None:
        give_back()
        undo()

    return undo_all


def configure_logging(
    level: str = "INFO",
    format: Format = "json",
    *,
    stream: TextIO | None = None,
    file: Path | None = None,
    rotate_mb: int = 50,
    keep_files: int = 5,
) -> Callable[[], None]:
    """Send structlog's lines to `stream` and `file` and touch nothing else, as a guest in a process must.

    Returns the way to undo it. Raises OSError where `file` cannot be written.
    """
    outputs: list[Output] = []
    if stream is not None:
        for_people = format == "console" or (format == "auto" and stream.isatty())
        outputs.append(_to_stream(stream, _Console(stream) if for_people else _json_line))
    closers: list[Callable[[], None]] = []
    if file is not None:
        output, close = _to_file(file, rotate_mb, keep_files)
        outputs.append(output)
        closers.append(close)
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _finish],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level.lower()]),
        logger_factory=functools.partial(_Writer, outputs),
        cache_logger_on_first_use=False,
    )

    def undo() -> None:
        structlog.configure(**before)
        for close in closers:
            close()

    return undo


class _Writer:
    """What structlog calls last: hands a finished entry to each output."""

    def __init__(self, outputs: list[Output], name: str = "vnpy_core", *_: Any) -> None:
        self.name = name
        self._outputs = outputs

    def write(self, entry: Entry) -> None:
        for output in self._outputs:
            output(entry)

    debug = info = warning = error = critical = fatal = exception = msg = write


def _finish(logger: Any, method: str, event: MutableMapping[str, Any]) -> tuple[tuple[Entry], dict[str, Any]]:
    """The entry as it is written: stamped, bounded and without secrets."""
    entry: Entry = {
        "ts": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": "error" if method == "exception" else method,
        "logger": logger.name if isinstance(logger, _Writer) else "",
        "event": _clean(event.pop("event", "")),
    }
    trace = _trace(event.pop("exc_info", None))
    for key, value in event.items():
        entry[f"{key}_" if key in entry else key] = HIDDEN if is_secret_key(key) else _clean(value)
    if trace:
        entry["exception"] = trace
    return (entry,), {}


def _clean(value: Any, depth: int = 0) -> Any:
    """`value` as plain JSON data within the limits, without secrets."""
    if type(value) is str:
        return _text(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < 2**63 else str(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset) and depth >= DEPTH_LIMIT:
        return "…"
    if isinstance(value, Mapping):
        items = [(_writable(str(key)), inner) for key, inner in list(value.items())[:ITEMS_LIMIT]]
        return {key: HIDDEN if is_secret_key(key) else _clean(inner, depth + 1) for key, inner in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(inner, depth + 1) for inner in list(value)[:ITEMS_LIMIT]]
    return _text(repr(value) if isinstance(value, bytes) else str(value))


def _text(text: str) -> str:
    length = len(text)
    # Cut with room to spare, so that no secret is cut in two and goes unrecognised.
    text = redact(_writable(text[: 2 * TEXT_LIMIT]))
    return text if length <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}… ({length} characters)"


def _writable(text: str) -> str:
    """A lone surrogate, as in a file name of another encoding, cannot be written as UTF-8."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _trace(exc_info: Any) -> str:
    if not exc_info:
        return ""
    if isinstance(exc_info, BaseException):
        error: BaseException | None = exc_info
    else:
        error = (exc_info if isinstance(exc_info, tuple) else sys.exc_info())[1]
    if error is None:
        return ""
    text = "".join(traceback.format_exception(error)).rstrip()
    return redact(_writable(text[-2 * TRACE_LIMIT :]))[-TRACE_LIMIT:]


def _json_line(entry: Entry) -> str:
    return msgspec.json.encode(entry).decode()


class _Console:
    """`09:31:02.123 INFO    engine.host: message  key=value`, in colour where the terminal has it."""

    def __init__(self, stream: TextIO) -> None:
        self._colour = stream.isatty() and "NO_COLOR" not in os.environ

    def __call__(self, entry: Entry) -> str:
        fields = "".join(f"  {key}={self._shown(value)}" for key, value in entry.items() if key not in _FIRST)
        logger = entry["logger"].removeprefix("vnpy_core.")
        head = f"{entry['ts'][11:23]} {entry['level'].upper():<8}"
        line = f"{logger}: {_CONTROL.sub(' ', str(entry['event']))}{fields}"
        colour = _COLOURS.get(entry["level"], "") if self._colour else ""
        trace = "".join(f"\n    {part}" for part in entry.get("exception", "").splitlines())
        return f"{colour}{head}{line}{trace}\x1b[0m" if colour else f"{head}{line}{trace}"

    @staticmethod
    def _shown(value: Any) -> str:
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return repr(text) if not text or " " in text or _CONTROL.search(text) else text


def _to_stream(stream: TextIO, render: Callable[[Entry], str]) -> Output:
    lock = threading.Lock()

    def output(entry: Entry) -> None:
        line = render(entry) + "\n"
        # The reader of the log went away, or it is closed at exit: no reason for the caller to fail.
        try:
            with lock:
                stream.write(line)
                stream.flush()
        except (OSError, ValueError):
            pass

    return output


def _to_file(path: Path, rotate_mb: int, keep_files: int) -> tuple[Output, Callable[[], None]]:
    from logging.handlers import RotatingFileHandler  # noqa: PLC0415 - only where a file is asked for

    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(
        path, maxBytes=rotate_mb * 1_000_000, backupCount=keep_files, encoding="utf-8", errors="replace"
    )

    def output(entry: Entry) -> None:
        handler.handle(logging.makeLogRecord({"msg": _json_line(entry)}))

    return output, handler.close


class _Route(logging.Handler):
    """Stdlib log records, uvicorn's above all, as lines of structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        structlog.get_logger(record.name).log(record.levelno // 10 * 10, text, exc_info=record.exc_info)


def _route_the_rest(threshold: int) -> Callable[[], None]:
    """Take over stdlib logging, warnings and the exceptions that end threads; returns the way back."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, threading.excepthook
    root.handlers = [_Route()]
    root.setLevel(threshold)
    logging.captureWarnings(True)

    def on_thread_exception(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            name = args.thread.name if args.thread else "?"
            log = structlog.get_logger("threading")
            log.error("a thread ended with an error", thread=name, exc_info=args.exc_value)

    threading.excepthook = on_thread_exception

    def undo() -> None:
        root.handlers = handlers
        root.setLevel(level)
        logging.captureWarnings(False)
        threading.excepthook = hook

    return undo
