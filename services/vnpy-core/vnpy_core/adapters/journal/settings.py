"""`[journal]` of service.toml."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class JournalSettings(BaseModel):
    """The journal: one SQLite file in the data folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    durability: Literal["power", "process"] = "power"
    """`power`: a commit is on the disk before anybody acts on it. `process`: it survives kill -9, not a power cut."""
    retain_days: float = Field(default=7, gt=0)
    """Rows that the store has are kept this long, days."""
    max_mb: int = Field(default=4096, ge=8)
    """At this size rows go as soon as the store has them; where it lacks them, new orders are refused. Megabytes."""
    reserve_mb: int = Field(default=16, ge=0, le=1024)
    """Space that is kept free for fills and cancels on a full disk, megabytes."""
