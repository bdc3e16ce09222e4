"""Wire models of logging in."""

from pydantic import BaseModel, ConfigDict, Field


class RefreshBody(BaseModel):
    """A refresh token, to be exchanged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    refresh_token: str = Field(min_length=1, max_length=512, examples=["8f0TqY…"])
