"""Publish to many, survive any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from vnpy_core.bus import topics
from vnpy_core.bus.message import Message

Subscriber = Callable[[Message], None]

_log = structlog.get_logger(__name__)


class Bus:
    """Loop thread only. Subscribers are plain functions that return at once; a slow reader brings its own queue."""

    def __init__(self) -> None:
        self._exact: dict[str, list[Subscriber]] = {}
        self._prefixes: list[tuple[str, Subscriber]] = []
        self.subscriber_errors = 0

    def subscribe(self, patterns: Iterable[str], subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` for each message under one of `patterns`; returns the way to unsubscribe."""
        exact = [p for p in patterns if not p.endswith("*")]
        prefixes = [(p, subscriber) for p in patterns if p.endswith("*")]
        for topic in exact:
            self._exact.setdefault(topic, []).append(subscriber)
        self._prefixes.extend(prefixes)

        def unsubscribe() -> None:
            for topic in exact:
                self._exact[topic].remove(subscriber)
            for entry in prefixes:
                self._prefixes.remove(entry)
            exact.clear()
            prefixes.clear()

        return unsubscribe

    def publish(self, message: Message) -> None:
        """Hand `message` to each subscriber, in order of subscription; one that raises is logged, the others go on."""
        for subscriber in tuple(self._exact.get(message.topic, ())):
            self._deliver(subscriber, message)
        for pattern, subscriber in tuple(self._prefixes):
            if topics.matches(pattern, message.topic):
                self._deliver(subscriber, message)

    def _deliver(self, subscriber: Subscriber, message: Message) -> None:
        try:
            subscriber(message)
        except Exception:  # noqa: BLE001 - a guarded door: one reader's fault must not reach the others
            self.subscriber_errors += 1
            _log.exception("bus subscriber failed", subscriber=repr(subscriber), topic=message.topic)
