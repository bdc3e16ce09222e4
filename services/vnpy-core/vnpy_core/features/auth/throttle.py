"""Failed logins make the next attempt wait: per address and per account, growing, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict

from vnpy_core.domain.errors import RateLimited
from vnpy_core.ports.clock import Clock

FREE_FAILURES = 5
LONGEST_DELAY_S = 900.0
FORGET_AFTER_S = 3600.0
REMEMBERED = 10_000


class LoginThrottle:
    """Loop thread only. After 5 failures: 1, 2, 4, … seconds, 15 minutes at most, forgotten after an hour of quiet."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def check(self, *keys: str) -> None:
        """Raises RateLimited while one of `keys` must wait."""
        wait = max(self._wait(key) for key in keys)
        if wait > 0:
            raise RateLimited("too many failed logins; try again later", retry_after=wait)

    def failed(self, *keys: str) -> None:
        """Count a failed login."""
        now = self._clock.monotonic()
        for key in keys:
            count, _ = self._recent(key)
            self._failures[key] = (count + 1, now)
            self._failures.move_to_end(key)
        while len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, *keys: str) -> None:
        """Forget the failures."""
        for key in keys:
            self._failures.pop(key, None)

    def _recent(self, key: str) -> tuple[int, float]:
        count, last = self._failures.get(key, (0, 0.0))
        return (count, last) if self._clock.monotonic() - last < FORGET_AFTER_S else (0, 0.0)

    def _wait(self, key: str) -> float:
        count, last = self._recent(key)
        if count < FREE_FAILURES:
            return 0.0
        delay = min(LONGEST_DELAY_S, 2.0 ** min(count - FREE_FAILURES, 20))
        return last + delay - self._clock.monotonic()
