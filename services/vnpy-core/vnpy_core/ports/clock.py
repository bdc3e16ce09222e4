"""Time, injected so that tests own it."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Any thread may call."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...
