"""Where access tokens come from, and how they are renewed: once, however many callers find theirs refused."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from vnpy_core.domain.errors import NotAuthenticated, OutcomeUnknown, TryLater
from vnpy_core.kit.clock import SystemClock

RENEW_BEFORE_S = 60.0
"""A token is renewed this long before it ends, or in the last quarter of a shorter life."""


class Token(msgspec.Struct, frozen=True):
    """An access token or API key; `renew_at` and `ends_at` are monotonic seconds, None for one without an end."""

    text: str
    renew_at: float | None = None
    ends_at: float | None = None


class Issued(msgspec.Struct, frozen=True):
    """What `POST /auth/token` and `/auth/refresh` answer; `expires_in` is seconds."""

    access_token: str
    refresh_token: str
    expires_in: float


class Monotonic(Protocol):
    """The part of a clock that is used here."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


class TokenSource(Protocol):
    """Gives tokens. Loop thread only."""

    async def token(self, *, refused: str | None = None) -> Token:
        """One that is good for a while; not `refused`, which the service did not take.

        Raises NotAuthenticated where there is none, else what the service answers.
        """
        ...


class FixedToken:
    """One token or API key, which nobody can renew."""

    def __init__(self, text: str) -> None:
        self._token = Token(text)

    async def token(self, *, refused: str | None = None) -> Token:
        """It. Raises NotAuthenticated once it was refused."""
        if refused == self._token.text:
            raise NotAuthenticated("the service refuses the token")
        return self._token


class ProvidedTokens:
    """Tokens from a function of the caller's, asked when the last one ends or was refused."""

    def __init__(self, provide: Callable[[], Awaitable[str]], clock: Monotonic | None = None) -> None:
        self._provide = provide
        self._clock = clock or SystemClock()
        self._lock = asyncio.Lock()
        self._token: Token | None = None

    async def token(self, *, refused: str | None = None) -> Token:
        """The last one, or a new one. Raises NotAuthenticated where a new one is what was refused."""
        async with self._lock:
            now = self._clock.monotonic()
            if not _is_good(self._token, refused, now):
                text = await self._provide()
                if text == refused:
                    raise NotAuthenticated("the service refuses the token that was provided")
                self._token = timed(text, life_of(text), now)
            assert self._token is not None
            return self._token


class Login:
    """Logs in with a name and a password, then lives on the refresh token, which is good for one use.

    `issue(path, form_or_body)` asks the service; it is only ever under way once. Where a refresh fails or its answer
    is lost, a new login follows: the token is spent then, and a second use would end the session.
    """

    def __init__(
        self,
        issue: Callable[[str, dict[str, str]], Awaitable[Issued]],
        username: str,
        password: str,
        clock: Monotonic | None = None,
    ) -> None:
        self._issue = issue
        self._credentials = {"username": username, "password": password}
        self._clock = clock or SystemClock()
        self._lock = asyncio.Lock()
        self._token: Token | None = None
        self._refresh_token = ""

    async def token(self, *, refused: str | None = None) -> Token:
        """The present one while it is good, else a new one. Raises what the service answers to a login."""
        async with self._lock:
            if not _is_good(self._token, refused, self._clock.monotonic()):
                self._token = await self._renewed()
            assert self._token is not None
            return self._token

    async def _renewed(self) -> Token:
        issued = await self._refreshed() or await self._issue("/auth/token", self._credentials)
        self._refresh_token = issued.refresh_token
        return timed(issued.access_token, issued.expires_in, self._clock.monotonic())

    async def _refreshed(self) -> Issued | None:
        spent, self._refresh_token = self._refresh_token, ""
        if not spent:
            return None
        try:
            return await self._issue("/auth/refresh", {"refresh_token": spent})
        except (NotAuthenticated, OutcomeUnknown):
            return None
        except TryLater:
            self._refresh_token = spent  # it was not looked at
            raise


def timed(text: str, life_s: float | None, now: float) -> Token:
    """A token that lives so long from `now` on."""
    if life_s is None:
        return Token(text)
    return Token(text, now + max(life_s - RENEW_BEFORE_S, life_s * 0.75), now + life_s)


def life_of(text: str) -> float | None:
    """How long a JWT lives, seconds, by its own word and unverified; None for one that does not say, or an API key."""
    try:
        body = text.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=dict[str, object])
        begin, end = claims["iat"], claims["exp"]
    except (IndexError, KeyError, ValueError, msgspec.DecodeError):
        return None
    return float(end - begin) if isinstance(begin, int | float) and isinstance(end, int | float) else None


def _is_good(token: Token | None, refused: str | None, now: float) -> bool:
    return token is not None and token.text != refused and (token.renew_at is None or now < token.renew_at)
