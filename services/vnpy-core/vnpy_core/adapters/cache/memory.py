"""The cache within one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vnpy_core.ports.cache import CacheMark
from vnpy_core.ports.clock import Clock

FORGET_AT = 1_000
"""So many names are looked through for those whose time is over."""


class MemoryCache:
    """Implements `ports.cache.Cache`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mark: CacheMark | None = None
        self._held: dict[str, dict[str, bytes]] = {}
        self._said: dict[str, float] = {}
        self._forget_at = FORGET_AT

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nothing to close."""

    async def put(self, changes: Mapping[str, Mapping[str, bytes | None]], mark: CacheMark) -> None:
        """Set, remove and mark."""
        for kind, values in changes.items():
            held = self._held.setdefault(kind, {})
            for key, value in values.items():
                if value is None:
                    held.pop(key, None)
                else:
                    held[key] = value
        self._mark = mark

    async def clear(self) -> None:
        """Forget everything but the names that were said."""
        self._held.clear()
        self._mark = None

    async def load(self, kinds: Sequence[str]) -> tuple[CacheMark | None, dict[str, dict[str, bytes]]]:
        """Copies."""
        return self._mark, {kind: dict(self._held.get(kind, {})) for kind in kinds}

    async def get(self, kind: str, key: str) -> bytes | None:
        """One envelope."""
        return self._held.get(kind, {}).get(key)

    async def once(self, name: str, seconds: float) -> bool:
        """Names are forgotten when their time is over."""
        now = self._clock.monotonic()
        if len(self._said) >= self._forget_at:
            self._said = {said: until for said, until in self._said.items() if until > now}
            self._forget_at = max(FORGET_AT, 2 * len(self._said))
        if self._said.get(name, 0.0) > now:
            return False
        self._said[name] = now + seconds
        return True
