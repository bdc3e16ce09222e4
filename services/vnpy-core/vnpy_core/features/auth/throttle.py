"""Failed logins make the next attempt wait: per address and per account, growing, in bounded memory."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

from vnpy_core.domain.errors import RateLimited
from vnpy_core.ports.clock import Clock

FREE_FAILURES = 5
LONGEST_ADDRESS_DELAY_S = 900.0
# Shorter, because strangers can make it grow for everybody's account, yet it leaves them one guess a minute.
LONGEST_ACCOUNT_DELAY_S = 60.0
FORGET_AFTER_S = 3600.0
REMEMBERED = 10_000


class LoginThrottle:
    """Loop thread only. After 5 failures the next attempt waits 1 s, then 2, 4, …; an hour of quiet forgets them.

    The 10,000 that failed last are remembered, each for its address and its account.
    """

    def __init__(self, clock: Clock) -> None:
        self._addresses = _Failures(clock, LONGEST_ADDRESS_DELAY_S)
        self._accounts = _Failures(clock, LONGEST_ACCOUNT_DELAY_S)

    def check(self, account: str, address: str) -> None:
        """Raises RateLimited, with the seconds to wait, while the account or the address must wait."""
        wait = max(self._accounts.wait(account), self._addresses.wait(_network(address)))
        if wait > 0:
            raise RateLimited("too many failed logins; try again later", retry_after=round(wait, 3))

    def failed(self, account: str, address: str) -> None:
        """Count a failed login."""
        self._accounts.add(account)
        self._addresses.add(_network(address))

    def succeeded(self, account: str) -> None:
        """Forget the account's failures. The address keeps its own: it may be guessing other accounts."""
        self._accounts.forget(account)


class _Failures:
    def __init__(self, clock: Clock, longest_delay_s: float) -> None:
        self._clock = clock
        self._longest_delay_s = longest_delay_s
        self._last: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def add(self, key: str) -> None:
        count, _ = self._recent(key)
        self._last[key] = (count + 1, self._clock.monotonic())
        self._last.move_to_end(key)
        if len(self._last) > REMEMBERED:
            self._last.popitem(last=False)

    def forget(self, key: str) -> None:
        self._last.pop(key, None)

    def wait(self, key: str) -> float:
        count, last = self._recent(key)
        if count < FREE_FAILURES:
            return 0.0
        delay = min(self._longest_delay_s, 2.0 ** min(count - FREE_FAILURES, 20))
        return last + delay - self._clock.monotonic()

    def _recent(self, key: str) -> tuple[int, float]:
        count, last = self._last.get(key, (0, 0.0))
        return (count, last) if self._clock.monotonic() - last < FORGET_AFTER_S else (0, 0.0)


def _network(address: str) -> str:
    """An IPv6 customer has 2**64 addresses, so its network counts."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))
