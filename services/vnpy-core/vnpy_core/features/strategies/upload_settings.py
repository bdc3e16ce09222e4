"""`[strategy_upload]` of service.toml."""

from pydantic import BaseModel, ConfigDict, Field


class StrategyUploadSettings(BaseModel):
    """Strategy files over REST. Who may upload them runs code in the service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = False
    """Admins may write into the strategies folder."""
    max_kb: int = Field(default=256, ge=1, le=1024)
    """Largest file, kilobytes; `server.body_limit` holds beside it."""
