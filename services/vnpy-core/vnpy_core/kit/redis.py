"""One way to reach Redis, for the rooms that use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import RedisError
from redis.retry import Retry

from vnpy_core.kit.logging import hide

PREFIX = "vnpy_core"
"""What every key and channel of ours begins with."""
WRONG_URL = (
    "should be like redis://user:password@host:6379/0, rediss://… or unix://…; "
    "write / @ : # ? % [ in a password as %2F %40 %3A %23 %3F %25 %5B"
)


class RedisSettings(BaseModel):
    """`[redis]` of service.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """`redis://user:password@host:port/db` or `rediss://…`; one with a password belongs into VNPYCORE__REDIS__URL."""
    timeout_s: float = Field(default=2.0, gt=0, le=60)
    """How long an answer may take, seconds."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: SecretStr) -> SecretStr:
        try:
            parse_url(url.get_secret_value())  # type: ignore[no-untyped-call]
        except ValueError:  # its words may hold a part of the password
            raise ValueError(WRONG_URL) from None
        return url


def connect(settings: RedisSettings) -> Redis:
    """A client that connects when it is first used, and again after it was cut off; it never repeats a command itself.

    What it reads are bytes. Raises ValueError for a wrong URL, without a word of it: any may be of a password.
    """
    url = settings.url.get_secret_value()
    if "@" in url:
        hide(url)
    try:
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
        pool: Any = client.connection_pool  # untyped, as its connections are
        pool.make_connection()  # not connected yet: an option that there is not would be told only then
    except (ValueError, TypeError):
        raise ValueError(WRONG_URL) from None
    return client


async def close(client: Redis) -> None:
    """Close all connections; a server that hangs, or is away, changes nothing about that."""
    with suppress(RedisError, OSError, TimeoutError):
        await client.aclose()


@contextmanager
def unavailable_as(error: type[Exception]) -> Iterator[None]:
    """Whatever says that the server is away, is busy loading or answers wrongly becomes `error`."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as cause:
        raise error(f"Redis: {str(cause) or type(cause).__name__}") from cause
