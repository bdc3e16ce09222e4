"""The file system: names that survive a power cut, and what its errors mean."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vnpy_core.domain.errors import CoreError, StorageFull, TimeSeriesUnavailable

_FULL = (errno.ENOSPC, errno.EDQUOT)
_PROBE_BYTES = 65_536
_LOOK_S = 0.01


class LockHeld(TimeSeriesUnavailable):
    """Another thread or process holds the lock."""


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder whose name survives a power cut, with those above it; nothing where it is there. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True, mode=0o700)
    sync(folder.parent)


def is_full(folder: Path, error: Exception) -> bool:
    """Whether a library's error comes from a full disk: it says so, or not even 64 KB can be had."""
    if any(os.strerror(number) in str(error) for number in _FULL):
        return True
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, _PROBE_BYTES)
    except OSError as refused:
        return refused.errno in _FULL
    return False


def meaning(error: OSError, what: str) -> CoreError:
    """What a failed file operation means to the caller."""
    if error.errno in _FULL:
        return StorageFull(f"the disk is full: {what}")
    return TimeSeriesUnavailable(f"{what}: {error}")


@contextmanager
def locked(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock of this file, which is made, against other threads and processes; a kill lets go of it.

    Raises LockHeld when it is not free in time; with 0 it is tried once.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise meaning(error, f"{path} cannot be opened") from error
    try:
        until = time.monotonic() + timeout_s
        while not _take(descriptor):
            if time.monotonic() >= until:
                raise LockHeld(f"{path} is held by another thread or process")
            time.sleep(_LOOK_S)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
