"""A disk that can really be full."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A small file system of its own at `folder`, which is made; skips the test where none can be mounted."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder.mkdir(parents=True, exist_ok=True)
    if libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, f"size={megabytes}m".encode()):
        pytest.skip(f"no file system can be mounted here ({os.strerror(ctypes.get_errno())}): NOT TESTED")
    try:
        yield folder
    finally:
        # Lazily, because a failed test may leave a file open there.
        assert libc.umount2(bytes(folder), 2) == 0


def fill(disk: Path) -> Path:
    """Take all the space that is left; the file that has it."""
    ballast = disk / "ballast"
    with open(ballast, "ab", buffering=0) as file:
        for size in (1 << 20, 65536, 4096, 512, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC
    return ballast
