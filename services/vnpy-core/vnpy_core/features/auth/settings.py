"""What logging in can be told: `[auth]` of service.toml."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class AuthSettings(BaseModel):
    """Lifetimes and the admin's password."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    access_minutes: float = Field(default=15.0, gt=0, le=24 * 60)
    """How long an access token is valid."""
    refresh_days: float = Field(default=14.0, gt=0, le=365)
    """How long a login can be renewed without the password."""
    admin_password: SecretStr | None = None
    """Set it by VNPYCORE__AUTH__ADMIN_PASSWORD, never in a file; without it the first start makes a random one."""
