"""How leases are kept: renewed three times while they last."""

from typing import Final

RENEWALS: Final = 3
CLOSE_S: Final = 2.0
"""How long the end waits for the registry, seconds; what it did not hear of runs out by itself."""


def pause(lease_s: float, jitter: float) -> float:
    """Until the next renewal, seconds; `jitter` (0 to 1) spreads those of many by a quarter, never makes it later."""
    return lease_s / RENEWALS * (1 - jitter / 4)
