"""The two small files beside the journal that help when the disk is full."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk, and of a full quota."""
_HEADROOM = 1.5


class Reserve:
    """Space kept free: a file of `size` bytes, really allocated, that is given up when the disk is full.

    The journal's thread only. With `size` 0 nothing is kept, but that the disk was full is remembered all the same.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self.in_place = False
        """False from the moment the disk was full until there is room again."""

    def restore(self) -> None:
        """Put the file in place where there is room for it and half as much again. Raises OSError (not for room)."""
        if self.in_place:
            return
        kept = self._path.stat().st_blocks * 512 if self._path.exists() else 0
        space = os.statvfs(self._path.parent)
        if self._size <= kept or space.f_bavail * space.f_frsize + kept >= self._size * _HEADROOM:
            self.in_place = self._allocate() if self._size else not is_full(self._path.parent)

    def give_up(self) -> bool:
        """Free the space; whether there was any to free. Raises OSError."""
        self.in_place = False
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True

    def _allocate(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size)
        except OSError as error:
            self._path.unlink()
            if error.errno in FULL:
                return False
            raise
        finally:
            os.close(descriptor)
        return True


def is_full(folder: Path) -> bool:
    """Whether not even 64 KB can be had in `folder`, by disk or quota: tried, because statvfs knows no quota."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, 65536)
    except OSError as error:
        return error.errno in FULL
    return False


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Mark:
    """One byte on the disk that can be changed on a full disk too, because its block is there already.

    Any one thread at a time. Raises OSError from all methods.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not os.fstat(self._descriptor).st_size:
                self.set(False)
                sync_folder(path.parent)
            self.is_set = os.pread(self._descriptor, 1, 0) != b"0"
        except BaseException:
            self.close()
            raise

    def set(self, value: bool) -> None:
        """Durable when this returns."""
        os.pwrite(self._descriptor, b"1" if value else b"0", 0)
        os.fsync(self._descriptor)
        self.is_set = value

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
