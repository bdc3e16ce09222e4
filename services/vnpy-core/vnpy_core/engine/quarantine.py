"""Strategies that hung: remembered in a file, and not run again until somebody releases them."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from vnpy_core.domain.errors import ConfigurationError, NotFound
from vnpy_core.kit.files import write_atomic

FILE = "quarantine.json"


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why something is held: `at` is in UTC, `stack` the last calls, innermost last."""

    reason: str
    at: datetime
    stack: str = ""


class Quarantine:
    """`<data>/quarantine.json`: name -> Entry. Any thread; another process (the command line) may change it too.

    The file is looked at with each question, and read where it is another one than the last time.
    """

    def __init__(self, data: Path) -> None:
        self._path = data / FILE
        self._read: tuple[tuple[int, int, int], dict[str, Entry]] | None = None
        """What the file was by its system's word (inode, time, size), and what was in it."""

    def entries(self) -> dict[str, Entry]:
        """All that is held, the oldest first. Raises ConfigurationError when the file is broken, OSError."""
        try:
            found = self._path.stat()
            version, read = (found.st_ino, found.st_mtime_ns, found.st_size), self._read
            if read is not None and read[0] == version:
                return dict(read[1])
            content = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            entries = msgspec.json.decode(content, type=dict[str, Entry])
            self._read = version, entries
            return dict(entries)
        except msgspec.DecodeError as error:
            raise ConfigurationError(
                f"{self._path} is broken: {error}. It says which strategies must not run: mend it, or remove it to let "
                "all of them run"
            ) from error

    def entry(self, name: str) -> Entry | None:
        """Why `name` is held, or None where it may run. Raises as `entries`."""
        return self.entries().get(name)

    def add(self, name: str, entry: Entry) -> None:
        """Hold `name` from now on, durably; a later entry replaces a former one. Raises as `entries`."""
        with self._changing() as entries:
            entries.pop(name, None)
            entries[name] = entry

    def release(self, name: str) -> Entry:
        """Let `name` run again, from its next start on; returns why it was held. Raises NotFound, as `entries`."""
        with self._changing() as entries:
            if name not in entries:
                held = ", ".join(entries) or "nothing"
                raise NotFound(f"{name} is not in quarantine; there is: {held}")
            return entries.pop(name)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Entry]]:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entries = self.entries()
            yield entries
            write_atomic(self._path, msgspec.json.format(msgspec.json.encode(entries)), mode=0o600)
