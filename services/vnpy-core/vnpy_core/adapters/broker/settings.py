"""`[broker]` of service.toml."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

LEAST: Final = 10_000
"""Events that a stream keeps whatever their age: clients may resume from them."""


class BrokerSettings(BaseModel):
    """Where events go for other services."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["memory", "redis"] = "memory"
    """`redis`: the server of `[redis]`."""
    length: int = Field(default=1_000_000, ge=LEAST)
    """Events that a stream keeps, about."""
    keep_hours: float = Field(default=72.0, gt=0)
    """And how long at most, hours; but never fewer than the 10,000 that clients may resume from."""
    refill: int = Field(default=100_000, ge=LEAST)
    """Events that are published again where the server lost the stream."""
    queue: int = Field(default=20_000, ge=1_000)
    """Ticks and other passing messages that wait at most; past it a newer one takes its elder's place."""
