"""`[node]` of service.toml."""

from pydantic import BaseModel, ConfigDict, Field


class NodeSettings(BaseModel):
    """What this process is called."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="core", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")
    """Names this core's keys in Redis; two cores that share a Redis need two names."""
    address: str = ""
    """Where others reach this process, `http://host:port`; empty: where it listens."""
    lease_s: float = Field(default=10.0, ge=1.0, le=300.0)
    """How long after its last word a process counts as running, and an account as traded by it, seconds."""
