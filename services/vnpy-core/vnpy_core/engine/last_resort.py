"""The end of a process in which no Python runs any more, so that no watchdog of ours can.

Code in C that keeps the interpreter lock (a regular expression that backtracks for hours, a sum over 10^13 numbers)
stops the event thread, the loop and every other thread at once. faulthandler's timer is a thread in C that needs no
lock: unless it is put off in time it writes every thread's stack to a file and ends the process.
"""

from __future__ import annotations

import faulthandler
import re
from pathlib import Path

FILE = "last_words.txt"

_SOURCE = re.compile(r'^  File "(.*)", line \d+ in ', re.MULTILINE)


class LastResort:
    """One a process: faulthandler has one timer. Loop thread only, so that a loop that hangs is an end too."""

    def __init__(self, data: Path, limit_s: float) -> None:
        """After `limit_s` without `put_off`, by the monotonic clock, the process ends with code 1. Raises OSError."""
        self._limit_s = limit_s
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = (data / FILE).open("a+", encoding="utf-8", errors="replace")
        self._file.seek(0)
        self.last_words = self._file.read()
        """The stacks that an earlier process on this folder was ended with; "" where it ended otherwise."""

    def forget(self) -> None:
        """What was to be done about the last words is done."""
        self._file.truncate(0)

    def put_off(self) -> None:
        """All is well: wait `limit_s` from now on."""
        faulthandler.dump_traceback_later(self._limit_s, file=self._file, exit=True)

    def close(self) -> None:
        """Do not end this process any more. Once or again."""
        faulthandler.cancel_dump_traceback_later()
        self._file.close()


def was_running(words: str, source: Path) -> bool:
    """Whether code of the file `source` was on a stack in `words`."""
    # As faulthandler writes a path.
    return str(source).encode("ascii", "backslashreplace").decode() in _SOURCE.findall(words)
