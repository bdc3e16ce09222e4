"""Publish to many, survive any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from vnpy_core.bus.message import Message

Subscriber = Callable[[Message], None]

_log = structlog.get_logger(__name__)


class Bus:
    """Loop thread only. Subscribers are plain functions that return at once; a slow reader brings its own queue."""

    def __init__(self) -> None:
        self._subscriptions: list[_Subscription] = []
        self._takers: dict[str, tuple[_Subscription, ...]] = {}
        """Topic -> who takes it, for each topic that was published since the subscriptions changed last."""
        self.subscriber_errors = 0

    def subscribe(self, patterns: Iterable[str], subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` once for each message under any of `patterns`; returns the way to unsubscribe."""
        subscription = _Subscription(patterns, subscriber)
        self._subscriptions.append(subscription)
        self._takers.clear()

        def unsubscribe() -> None:
            if subscription.active:
                subscription.active = False
                self._subscriptions.remove(subscription)
                self._takers.clear()

        return unsubscribe

    def publish(self, message: Message) -> None:
        """Hand `message` to each subscriber, in order of subscription; one that raises is logged, the others go on.

        Those who come during the delivery start with the next message, those who leave get none any more.
        """
        topic = message.topic
        takers = self._takers.get(topic)
        if takers is None:
            takers = self._takers[topic] = tuple(one for one in self._subscriptions if one.takes(topic))
        for subscription in takers:
            if not subscription.active:
                continue
            try:
                subscription.subscriber(message)
            except Exception:  # noqa: BLE001 - a guarded door: one reader's fault must not reach the others
                self._report(subscription.subscriber, topic)

    def _report(self, subscriber: Subscriber, topic: str) -> None:
        self.subscriber_errors += 1
        _log.exception("bus subscriber failed", subscriber=repr(subscriber), topic=topic)


class _Subscription:
    """A few in a process: those with many listeners (WebSocket) subscribe once and have an index of their own."""

    def __init__(self, patterns: Iterable[str], subscriber: Subscriber) -> None:
        patterns = frozenset(patterns)
        self.active = True
        self.subscriber = subscriber
        self._exact = frozenset(pattern for pattern in patterns if not pattern.endswith("*"))
        self._prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))

    def takes(self, topic: str) -> bool:
        """As `topics.matches` for any of the patterns."""
        return topic in self._exact or topic.startswith(self._prefixes)
