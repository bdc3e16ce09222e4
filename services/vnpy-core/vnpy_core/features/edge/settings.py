"""`[edge]` of service.toml."""

from pydantic import BaseModel, ConfigDict, Field


class EdgeSettings(BaseModel):
    """How an edge follows its core."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stale_s: float = Field(default=15.0, gt=0)
    """After so many seconds without a sign of its core an edge says so in its health."""
    start_s: float = Field(default=30.0, gt=0)
    """How long `vnpy-core edge` waits at its start for Redis and the core's state, seconds; it serves then, unready."""
