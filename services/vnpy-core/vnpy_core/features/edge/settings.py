"""`[edge]` of service.toml."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class EdgeSettings(BaseModel):
    """How an edge follows its core."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stale_s: float = Field(default=15.0, gt=0)
    """After so many seconds without a sign of its core an edge says so in its health."""
    start_s: float = Field(default=30.0, gt=0)
    """An edge that still has nothing to serve so long after its start says so in its log, seconds."""
    refresh_s: float = Field(default=30.0, ge=1.0)
    """How often positions and the like are compared with the cache, seconds: channels lose what Redis loses."""
    ended_s: float = Field(default=2.0, gt=0)
    """How often the logins that have ended are read, seconds."""
    jwt_secret: SecretStr | None = None
    """The core's secret, where its file is not at hand: set it by VNPYCORE__EDGE__JWT_SECRET, never in a file."""
