"""The user's strategy files: what there is, and new ones that an admin sends. Nothing is loaded here.

A file that comes is code that the next loading will run. So it is off by default, leaves alone what a strategy runs,
and goes on record with the hash of what was there before and of what is there now.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import io
import re
import sys
import tokenize
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from vnpy_core.domain.enums import StrategyState
from vnpy_core.domain.errors import (
    Conflict,
    CoreError,
    FieldError,
    NotPermitted,
    PayloadTooLarge,
    StorageFull,
    ValidationFailed,
    describe,
)
from vnpy_core.domain.strategies import StrategyClass
from vnpy_core.features.strategies.upload_settings import StrategyUploadSettings
from vnpy_core.kit.files import write_atomic
from vnpy_core.ports.strategies import StrategyEngine
from vnpy_core.web.audit import AuditTrail

FILE_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,63}\.py$"
RELOAD = "POST /api/v1/strategies/classes/reload"
CHECK_S = 10.0
"""How long Python may take to read a file, seconds."""
KB = 1024
MOST_FILES = 10_000
_CHECK = """
import sys, warnings
warnings.simplefilter("ignore")
try:
    compile(sys.stdin.buffer.read(), sys.argv[1], "exec", dont_inherit=True)
except SyntaxError as error:
    sys.exit(f"{error.lineno or 0} {error.msg}")
except (ValueError, RecursionError, MemoryError) as error:
    sys.exit(f"0 {error or type(error).__name__}")
"""


class StrategyFile(msgspec.Struct, frozen=True, kw_only=True):
    """A Python file of the strategies folder."""

    file_name: str
    size: int
    """Bytes."""
    hash: str
    """SHA-256 of what it holds."""
    modified_at: datetime
    loaded: bool
    """The classes that are there now were made of exactly this; false where it was changed since, or has none."""
    classes: list[str]
    """Those of them that came from this file, as it was when it was loaded."""
    error: str | None = None
    """Why it could not be loaded the last time."""


class UploadedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it was written. Nothing runs it before the classes are loaded again."""

    file_name: str
    size: int
    hash: str
    former_hash: str | None
    """Of the file that was there before."""
    next: str = RELOAD
    """What loads it."""


class _Found(NamedTuple):
    name: str
    size: int
    hash: str
    modified_at: datetime


class StrategyFiles:
    """Loop thread only; files are read and written in other threads."""

    def __init__(
        self, folder: Path, settings: StrategyUploadSettings, strategies: StrategyEngine, audit: AuditTrail
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._strategies = strategies
        self._audit = audit
        self._writing = asyncio.Lock()

    async def files(self) -> list[StrategyFile]:
        """All Python files of the folder, by name. Raises Conflict (CtaStrategy is not loaded, no such folder)."""
        classes = [known for known in self._strategies.classes() if not known.shipped]
        errors = {failed.file: failed.error for failed in self._strategies.load_errors()}
        found = await asyncio.to_thread(_files, self._folder)
        return [_described(file, classes, errors.get(file.name)) for file in found]

    def require_enabled(self) -> None:
        """Raises NotPermitted where uploads are off."""
        if not self._settings.enabled:
            raise NotPermitted("uploads are off; `[strategy_upload] enabled = true` in service.toml turns them on")

    async def write(self, file_name: str, content: bytes, *, by: str) -> UploadedFile:
        """Put a file into the folder, in place of one of that name. It is not loaded.

        Raises NotPermitted (off), PayloadTooLarge, ValidationFailed (name; no Python, with the line), Conflict (a
        strategy runs code of that file; the folder cannot be written), StorageFull, JournalFailed (it cannot be put on
        record, so it is not written).
        """
        self.require_enabled()
        if len(content) > self._settings.max_kb * KB:
            raise PayloadTooLarge(f"a strategy file may have {self._settings.max_kb} kB")
        _check_name(file_name)
        _check_text(content)
        await _check_syntax(file_name, content)
        async with self._writing:
            self._refuse_running(file_name)
            former = await asyncio.to_thread(_former, self._folder / file_name)
            written = UploadedFile(
                file_name=file_name,
                size=len(content),
                hash=_hash(content),
                former_hash=None if former is None else _hash(former),
            )
            # First: code of which nobody knows who sent it must not lie where the next loading runs it.
            await self._audit.require(
                by,
                "strategies.upload",
                file_name,
                before={"hash": written.former_hash},
                after={"hash": written.hash, "size": written.size},
            )
            try:
                await asyncio.to_thread(_write, self._folder / file_name, content)
            except CoreError as error:
                unchanged = {"hash": written.former_hash}
                await self._audit.note(
                    by, "strategies.upload_failed", file_name, before=unchanged, after=unchanged, reason=error.detail
                )
                raise
            return written

    def _refuse_running(self, file_name: str) -> None:
        running = [
            strategy.strategy_name
            for strategy in self._strategies.strategies()
            if strategy.class_file == file_name
            and (strategy.inited or strategy.trading or strategy.state is StrategyState.INITIALISING)
        ]
        if running:
            shown = ", ".join(running[:5]) + (" and others" if len(running) > 5 else "")
            raise Conflict(f"{shown} run code of {file_name}: remove them first, or choose another file name")


def _described(file: _Found, classes: list[StrategyClass], error: str | None) -> StrategyFile:
    own = [known for known in classes if known.file == file.name]
    return StrategyFile(
        file_name=file.name,
        size=file.size,
        hash=file.hash,
        modified_at=file.modified_at,
        loaded=any(known.hash == file.hash for known in own),
        classes=sorted(known.class_name for known in own),
        error=error,
    )


def _check_name(file_name: str) -> None:
    if not re.fullmatch(FILE_NAME_PATTERN, file_name) or file_name.startswith("__"):
        raise _wrong("file_name", "must be letters of ASCII, digits and _, then .py; names like __init__ are Python's")


def _check_text(content: bytes) -> None:
    """Raises ValidationFailed unless `content` is UTF-8 and says nothing else of itself."""
    try:
        content.decode()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    except (UnicodeDecodeError, SyntaxError) as error:
        raise _wrong("body", f"is not UTF-8: {error}") from None
    if encoding not in ("utf-8", "utf-8-sig"):
        raise _wrong("body", f"says that it is {encoding}; strategy files are UTF-8")
    if not content.strip():
        raise _wrong("body", "is empty")


async def _check_syntax(file_name: str, content: bytes) -> None:
    """Raises ValidationFailed with the line where Python cannot read it.

    In a process of its own: compiling holds up every thread of this one, and some texts crash Python's compiler.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", _CHECK, file_name),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, told = await asyncio.wait_for(process.communicate(content), CHECK_S)
    except TimeoutError:
        raise _wrong("body", f"Python does not read it within {CHECK_S:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        line, _, message = told.decode(errors="replace").strip().partition(" ")
        where = f"line {line}: " if line.isdigit() and line != "0" else ""
        raise _wrong("body", f"is no Python: {where}{message[:200] or 'its compiler crashed'}")


def _files(folder: Path) -> list[_Found]:
    """Blocks."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".py" and path.is_file())
    except OSError as error:
        raise Conflict(f"the strategies folder cannot be read: {error.strerror}") from None
    found = []
    for path in paths[:MOST_FILES]:
        with contextlib.suppress(OSError):  # it went meanwhile, or may not be read
            content, status = path.read_bytes(), path.stat()
            modified_at = datetime.fromtimestamp(status.st_mtime, UTC)
            found.append(_Found(path.name, len(content), _hash(content), modified_at))
    return found


def _former(path: Path) -> bytes | None:
    """What is there now. Blocks."""
    try:
        return path.read_bytes() if path.exists() else None
    except OSError as error:
        raise _unwritable(path, error) from error


def _write(path: Path, content: bytes) -> None:
    """Blocks."""
    try:
        write_atomic(path, content)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("the disk is full") from error
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> Conflict:
    return Conflict(f"{path.name} cannot be written: {describe(error)}")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _wrong(field: str, message: str) -> ValidationFailed:
    return ValidationFailed(f"{field} {message}", errors=[FieldError(field, message)])
