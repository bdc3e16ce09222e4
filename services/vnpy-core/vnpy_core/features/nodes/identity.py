"""What a process is called among others."""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path


def core_id(node: str, host: str, folder: Path, boot_id: str) -> str:
    """The name of the core that runs on a data folder: `core@desk-1a2b3c4d5e6f`. Raises OSError.

    The last part stands for this very folder (device and inode) on this very running machine. Only one process has it
    at a time, because the folder's lock is on the same thing; so one that was killed takes its own leases over at once.
    A copy of the folder, there or on another machine, and a machine that was started anew are somebody else, who waits
    until the leases have run out. Without a `boot_id` each process is its own.
    """
    place = folder.stat()
    what = f"{boot_id}:{place.st_dev}:{place.st_ino}" if boot_id else secrets.token_hex(16)
    return _name(node, host, hashlib.blake2b(what.encode(), digest_size=6).hexdigest())


def edge_id(node: str, host: str) -> str:
    """The name of an edge's process: it has nothing that outlives it."""
    return _name(f"{node}-edge", host, secrets.token_hex(6))


def _name(node: str, host: str, distinct: str) -> str:
    return f"{node}@{re.sub(r'[^A-Za-z0-9_.-]', '_', host)[:64]}-{distinct}"
