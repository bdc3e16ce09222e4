"""What tests let go wrong between a venue and its clients, by one seed. The venue itself stays right."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from vnpy_core.gateways.paper.model import VenueEvent, VenueOrder, VenueTrade
from vnpy_core.gateways.paper.wire import Counters, Switches

REORDER_PATIENCE_S = 0.02
"""Held events go out after so long, also where a window did not fill."""

Later = Callable[[float, Callable[[], None]], object]
"""Do something after so many seconds, on the same thread."""


class Faults:
    """The switches of one venue, its luck, and how often it was used. One thread."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.switches = Switches()
        self._counts: dict[str, int] = {}
        self._requests_to_lose = self._answers_to_lose = 0

    def set(self, switches: Switches) -> None:
        """From now on it is these."""
        self.switches = switches
        self._requests_to_lose, self._answers_to_lose = switches.lose_requests, switches.lose_answers

    def count(self, name: str) -> None:
        """One more of a `wire.Counters` field."""
        self._counts[name] = self._counts.get(name, 0) + 1

    def counters(self, **more: int) -> Counters:
        """How often each fault came to pass."""
        return Counters(**self._counts, **more)

    @property
    def distorts(self) -> bool:
        """Whether any event may go out otherwise than it came."""
        switches = self.switches
        return bool(switches.double_p or switches.late_p or switches.reorder)

    def loses_request(self) -> bool:
        """Whether this request is dropped."""
        if not self._requests_to_lose:
            return False
        self._requests_to_lose -= 1
        self.count("requests_lost")
        return True

    def loses_answer(self) -> bool:
        """Whether nothing is told of this order."""
        if self._answers_to_lose:
            self._answers_to_lose -= 1
        elif not self._happens(self.switches.lose_answers_p):
            return False
        self.count("answers_lost")
        return True

    def doubles(self) -> bool:
        """Whether this event goes out twice."""
        if not self._happens(self.switches.double_p):
            return False
        self.count("doubled")
        return True

    def delay(self) -> float:
        """Seconds that this event is late; 0 for in time."""
        if not self._happens(self.switches.late_p):
            return 0.0
        self.count("late")
        return self.random.uniform(0.0, self.switches.late_ms / 1000)

    def shuffle(self, events: list[VenueEvent]) -> None:
        """Any order, the same for the same seed."""
        if len(events) > 1:
            self.count("reordered")
        self.random.shuffle(events)

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self.random.random() < chance


class Distortion:
    """One client's events on their way through the switches. One thread."""

    def __init__(self, faults: Faults, send: Callable[[list[VenueEvent]], None], later: Later) -> None:
        self._faults = faults
        self._send = send
        self._later = later
        self._held: list[VenueEvent] = []
        self.silenced: set[str] = set()
        """Orders of which nothing is told."""

    def tell(self, events: list[VenueEvent]) -> None:
        """Send what the switches let through, when and as often as they say."""
        if self.silenced:
            events = [event for event in events if not self._is_silenced(event)]
        if not events:
            return
        if not self._faults.distorts:
            self._send(events)
            return
        for event in events:
            if not isinstance(event, VenueOrder | VenueTrade):
                self._send([event])
                continue
            for _ in range(2 if self._faults.doubles() else 1):
                self._delay(event)

    def _delay(self, event: VenueEvent) -> None:
        if delay := self._faults.delay():
            self._later(delay, lambda: self._hold(event))
        else:
            self._hold(event)

    def _hold(self, event: VenueEvent) -> None:
        """Keep an event until there are enough to change their order."""
        self._held.append(event)
        if len(self._held) >= self._faults.switches.reorder:
            self._release()
        elif len(self._held) == 1:
            self._later(REORDER_PATIENCE_S, self._release)

    def _release(self) -> None:
        held, self._held = self._held, []
        self._faults.shuffle(held)
        for event in held:
            self._send([event])

    def _is_silenced(self, event: VenueEvent) -> bool:
        return isinstance(event, VenueOrder | VenueTrade) and event.orderid in self.silenced


def check(switches: Switches) -> str:
    """What is wrong with them; "" when nothing is."""
    values = msgspec.structs.asdict(switches)
    chances = {name: value for name, value in values.items() if name.endswith("_p")}
    wrong = [name for name, value in chances.items() if not 0 <= value <= 1]
    wrong += [name for name, value in values.items() if name not in chances and not 0 <= value <= 60_000]
    return f"{', '.join(wrong)} is out of range" if wrong else ""
