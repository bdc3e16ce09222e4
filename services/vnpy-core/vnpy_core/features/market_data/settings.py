"""`[data]` of service.toml."""

from pydantic import BaseModel, ConfigDict, Field


class DataSettings(BaseModel):
    """Import, export and download of market data over REST."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload_mb: int = Field(default=4096, ge=1)
    """Largest file to import, megabytes; it is kept in the data folder's `uploads` until its job has ended."""
    keep_free_mb: int = Field(default=512, ge=0)
    """Uploads and exports leave so much of the disk free, megabytes: trading needs it more."""
    jobs: int = Field(default=1, ge=1, le=8)
    """Jobs that run at a time."""
    queue: int = Field(default=100, ge=1, le=1000)
    """Jobs that may wait."""
    exports: int = Field(default=2, ge=1, le=16)
    """Exports at a time."""
    uploads: int = Field(default=4, ge=1, le=16)
    """Uploads at a time."""
