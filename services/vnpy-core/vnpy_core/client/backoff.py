"""How long to wait before the next attempt to connect."""

from __future__ import annotations

from collections.abc import Callable

FIRST_S = 1.0
LAST_S = 60.0
QUICK_S = 0.1
"""The first wait after a server that is there asked to come again."""

Uniform = Callable[[float, float], float]
"""A number between two, as `random.uniform`."""


class Backoff:
    """Full jitter: anything between 0 and a ceiling that doubles with each failure, up to `last_s`.

    The waits of many clients that lost one server spread over the whole time, so that they do not come back at once.
    """

    def __init__(self, uniform: Uniform, *, first_s: float = FIRST_S, last_s: float = LAST_S) -> None:
        self._uniform = uniform
        self._first_s = first_s
        self._last_s = last_s
        self._failures = 0

    def next(self, *, quick: bool = False) -> float:
        """Seconds to wait after one more failure; `quick` where the server itself asked to come again soon."""
        first_s = min(QUICK_S, self._first_s) if quick else self._first_s
        # Past 2**16 the ceiling is reached whatever the first wait was.
        ceiling = min(self._last_s, first_s * 2 ** min(self._failures, 16))
        self._failures += 1
        return self._uniform(0.0, ceiling)

    def reset(self) -> None:
        """A connection lived: the next failure is the first again."""
        self._failures = 0
