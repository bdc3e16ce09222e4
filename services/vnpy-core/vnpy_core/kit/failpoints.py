"""Named instants at which a test kills the process, as a power cut or an out-of-memory kill would.

`VNPYCORE_FAILPOINT=name` kills at the first hit, `name:7` at the seventh. Unset, as in every real run, a hit costs one
comparison.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "VNPYCORE_FAILPOINT"


class _Armed:
    """The one failpoint that is armed, and how many hits it still lets pass."""

    def __init__(self, text: str) -> None:
        self.name, _, count = text.partition(":")
        self.left = int(count or 1)


_armed = _Armed(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def hit(name: str) -> None:
    """Kill this process with SIGKILL if the failpoint `name` is armed and its turn has come. Any thread."""
    if _armed is None or name != _armed.name:
        return
    _armed.left -= 1
    if _armed.left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


def arm(text: str) -> None:
    """Arm `name[:count]` in this process; for tests that fork from a warm parent. An empty text disarms."""
    global _armed  # noqa: PLW0603 - one per process, as the signal is
    _armed = _Armed(text) if text else None
