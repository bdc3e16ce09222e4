"""What the WebSocket can be told: `[streaming]` of service.toml."""

from pydantic import BaseModel, ConfigDict, Field


class StreamingSettings(BaseModel):
    """Limits and times; times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allowed_origins: tuple[str, ...] = ()
    """Origins of browsers (`https://desk.example`) that may connect besides the service's own host."""
    max_sessions: int = Field(default=1_000, ge=1)
    auth_timeout_s: float = Field(default=5.0, gt=0)
    heartbeat_s: float = Field(default=15.0, gt=0)
    check_s: float = Field(default=1.0, gt=0)
    """How often sessions are looked at for heartbeats, expired tokens and clients that stopped reading."""
    stall_s: float = Field(default=30.0, gt=0)
    """A client whose connection takes nothing for this long is cut off."""
    drain_s: float = Field(default=2.0, gt=0)
    """On shutdown: how long what waits may take to be sent."""

    max_frame_bytes: int = Field(default=65_536, ge=1)
    topics_per_message: int = Field(default=200, ge=1)
    topics_per_session: int = Field(default=1_000, ge=1)
    ops_per_s: float = Field(default=50.0, gt=0)
    ops_burst: int = Field(default=100, ge=1)

    reply_limit: int = Field(default=1_000, ge=1)
    """Answers waiting for a client that keeps asking and does not read; it is closed."""
    lossless_limit: int = Field(default=1_000, ge=1)
    """Orders, trades and their like waiting for one client; past it the client is closed with 1013."""
    conflate_above: int = Field(default=1_000, ge=0)
    """Ticks waiting for one client from which on a newer tick replaces the waiting one of its symbol."""
    tick_queue: int = Field(default=10_000, ge=1)
    """Ticks waiting for a client that asked for every one; past it they are dropped, with a `gap`."""
    hold_above: int = Field(default=5_000, ge=0)
    release_below: int = Field(default=1_000, ge=1)
    """Waiting ticks at which such a client pauses a fast replay, and lets it go on."""
    log_queue: int = Field(default=500, ge=1)
