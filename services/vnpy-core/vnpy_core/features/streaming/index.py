"""Who listens to what."""

from __future__ import annotations

from typing import Generic, TypeVar

from vnpy_core.bus import topics

Listener = TypeVar("Listener")

Receivers = tuple[tuple[Listener, bool], ...]


class TopicIndex(Generic[Listener]):
    """Patterns -> listeners, with the answer for each topic remembered until a subscription changes. Loop thread only.

    A listener comes once for a topic however many of its patterns match; it gets every tick if one of them says so.
    """

    def __init__(self) -> None:
        self._exact: dict[str, dict[Listener, bool]] = {}
        self._prefixes: dict[str, dict[Listener, bool]] = {}
        self._receivers: dict[str, Receivers[Listener]] = {}

    def add(self, listener: Listener, pattern: str, *, every_tick: bool) -> None:
        """Start, or change `every_tick`."""
        self._table(pattern).setdefault(pattern, {})[listener] = every_tick
        self._receivers.clear()

    def remove(self, listener: Listener, pattern: str) -> None:
        """Stop, if the listener listens."""
        table = self._table(pattern)
        listeners = table.get(pattern, {})
        listeners.pop(listener, None)
        if not listeners:
            table.pop(pattern, None)
        self._receivers.clear()

    def receivers(self, topic: str) -> Receivers[Listener]:
        """Those who listen to an exact topic, each with whether it wants every tick."""
        found = self._receivers.get(topic)
        if found is None:
            found = self._receivers[topic] = self._find(topic)
        return found

    def _table(self, pattern: str) -> dict[str, dict[Listener, bool]]:
        return self._prefixes if pattern.endswith("*") else self._exact

    def _find(self, topic: str) -> Receivers[Listener]:
        merged = dict(self._exact.get(topic, {}))
        for pattern, listeners in self._prefixes.items():
            if topics.matches(pattern, topic):
                for listener, every_tick in listeners.items():
                    merged[listener] = merged.get(listener, False) or every_tick
        return tuple(merged.items())
