"""`[store]` of service.toml."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class StoreSettings(BaseModel):
    """The relational store. A URL with a password belongs into VNPYCORE__STORE__URL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: SecretStr = SecretStr("")
    """`sqlite+aiosqlite:///…`, `mysql+asyncmy://…`, `mysql+aiomysql://…`, `postgresql+asyncpg://…`; empty: store.sqlite
    in the data folder."""
    batch: int = Field(default=2000, ge=1, le=100_000)
    """Journal rows written in one transaction at most."""
    timeout_s: float = Field(default=10.0, gt=0)
    """A statement that takes longer counts as a server that is away, seconds."""
    pool_size: int = Field(default=5, ge=1, le=100)
    """Connections kept."""
