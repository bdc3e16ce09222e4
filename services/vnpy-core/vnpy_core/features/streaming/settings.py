"""What the WebSocket can be told: `[streaming]` of service.toml."""

from pydantic import BaseModel, ConfigDict, Field


class StreamingSettings(BaseModel):
    """Limits and times; times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allowed_origins: tuple[str, ...] = ()
    """Origins of browsers (`https://desk.example`) that may connect besides the service's own host."""
    max_sessions: int = Field(default=2_000, ge=1)
    sessions_per_principal: int = Field(default=1_000, ge=1)
    """Past either a client is told to come later (1013)."""
    auth_timeout_s: float = Field(default=5.0, gt=0)
    heartbeat_s: float = Field(default=15.0, gt=0)
    check_s: float = Field(default=1.0, gt=0)
    """How often sessions are looked at for heartbeats, expired tokens, logouts and clients that stopped reading."""
    stall_s: float = Field(default=30.0, gt=0)
    """A client whose connection takes nothing for this long is cut off."""
    drain_s: float = Field(default=2.0, gt=0)
    """On shutdown: how long what waits may take to be sent."""

    max_frame_bytes: int = Field(default=65_536, ge=1)
    topics_per_message: int = Field(default=200, ge=1)
    topics_per_session: int = Field(default=1_000, ge=1)
    ops_per_s: float = Field(default=50.0, gt=0)
    ops_burst: int = Field(default=100, ge=1)

    resume_events: int = Field(default=10_000, ge=1)
    """Orders, trades and their like that are kept for clients that come back."""

    reply_limit: int = Field(default=1_000, ge=1)
    reply_bytes: int = Field(default=1_048_576, ge=1)
    snapshot_limit: int = Field(default=50_000, ge=1)
    """Answers, their size, and states in snapshots waiting for a client that keeps asking and does not read; past any
    of them it is closed with 1013. What comes while nothing of its kind waits is always taken."""
    lossless_limit: int = Field(default=1_000, ge=1)
    """Orders, trades and their like waiting for one client; past it the client is closed with 1013."""
    conflate_above: int = Field(default=1_000, ge=0)
    """Ticks waiting for one client from which on only the newest of each symbol waits."""
    tick_queue: int = Field(default=10_000, ge=1)
    """Ticks waiting for a client that asked for every one; past it they are dropped, with a `gap`."""
    hold_above: int = Field(default=5_000, ge=0)
    release_below: int = Field(default=1_000, ge=1)
    """Waiting ticks at which such a client pauses a fast replay, and lets it go on."""
    log_queue: int = Field(default=500, ge=1)
