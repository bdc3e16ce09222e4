"""Wire models of logging in, and examples of what comes back."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Form
from pydantic import BaseModel, ConfigDict, Field

from vnpy_core.ports.auth import Role


class TokenForm(BaseModel):
    """OAuth2's password form; what its clients send besides (`scope`, `client_id`) is ignored."""

    model_config = ConfigDict(frozen=True)

    username: str = Field(min_length=1, max_length=64, examples=["admin"])
    password: str = Field(min_length=1, max_length=1024, examples=["correct horse battery"], repr=False)
    grant_type: Literal["password"] = "password"


TokenRequest = Annotated[TokenForm, Form()]


class RefreshBody(BaseModel):
    """A refresh token, to be exchanged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    refresh_token: str = Field(
        min_length=1, max_length=512, examples=["p9r2X0mVb1nq7kW3sT5yZ8uC4dE6fG_hJ-lK0aQwRtY"], repr=False
    )


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """The caller."""

    name: str
    role: Role
    expires_at: datetime
    """When the access token ends."""


TOKENS_EXAMPLE: dict[str, Any] = {
    "access_token": "<access token>",
    "refresh_token": "p9r2X0mVb1nq7kW3sT5yZ8uC4dE6fG_hJ-lK0aQwRtY",
    "token_type": "bearer",
    "expires_in": 900,
}
ME_EXAMPLE: dict[str, Any] = {"name": "admin", "role": "admin", "expires_at": "2026-11-21T02:15:00Z"}
TICKET_EXAMPLE: dict[str, Any] = {"ticket": "<ticket>", "expires_in": 30}
