"""The real clock."""

import time
from datetime import UTC, datetime


class SystemClock:
    """The machine's clock; any thread may call."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()
