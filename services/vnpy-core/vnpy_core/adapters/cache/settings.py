"""`[cache]` of service.toml."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class CacheSettings(BaseModel):
    """Where others find the latest of everything."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["memory", "redis"] = "memory"
    """`redis`: the server of `[redis]`."""
    flush_ms: int = Field(default=100, ge=10, le=10_000)
    """How often what changed is written."""
    keep_finished: int = Field(default=10_000, ge=100)
    """Finished orders, and trades, that are kept, each."""
    expire_hours: float = Field(default=24.0, gt=0)
    """When a core's entries go after it wrote the last one, hours."""
