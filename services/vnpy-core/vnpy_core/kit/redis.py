"""One way to reach Redis, for the rooms that use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from vnpy_core.kit.logging import hide

PREFIX = "vnpy_core"
"""What every key and channel of ours begins with."""


class RedisSettings(BaseModel):
    """`[redis]` of service.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """`redis://user:password@host:port/db` or `rediss://…`; one with a password belongs into VNPYCORE__REDIS__URL."""
    timeout_s: float = Field(default=2.0, gt=0, le=60)
    """How long an answer may take, seconds."""


def connect(settings: RedisSettings) -> Redis:
    """A client that connects when it is first used, and again after it was cut off; it never repeats a command itself.

    What it reads are bytes. Raises ValueError for a wrong URL.
    """
    url = settings.url.get_secret_value()
    if "@" in url:
        hide(url)
    client: Redis = Redis.from_url(
        url,
        protocol=2,
        socket_connect_timeout=settings.timeout_s,
        socket_timeout=settings.timeout_s,
        socket_keepalive=True,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
        client_name=PREFIX,
    )
    return client


@contextmanager
def unavailable_as(error: type[Exception]) -> Iterator[None]:
    """Whatever says that the server is away, is busy loading or answers wrongly becomes `error`."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as cause:
        raise error(f"Redis: {str(cause) or type(cause).__name__}") from cause
