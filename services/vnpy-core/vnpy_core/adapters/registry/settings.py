"""`[registry]` of service.toml."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class RegistrySettings(BaseModel):
    """Where cores and edges announce themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["memory", "redis"] = "memory"
    """`redis`: the server of `[redis]`; then no two cores that share it trade one account."""
