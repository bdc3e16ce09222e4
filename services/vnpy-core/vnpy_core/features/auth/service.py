"""The rules of logging in: short access tokens, rotating refresh tokens, no word on which part was wrong."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import jwt
import msgspec

from vnpy_core.domain.errors import ConfigurationError, NotAuthenticated
from vnpy_core.features.auth.throttle import LoginThrottle
from vnpy_core.ports.auth import Principal, Role
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.credentials import CredentialStore, Refresh, User

ALGORITHM = "HS256"
AUDIENCE = "vnpy-core"
ADMIN = "admin"
SHORTEST_PASSWORD = 12
SHORTEST_SECRET = 32
_CLAIMS = ["exp", "iat", "jti", "aud", "sub", "sid", "role"]


class Hasher(Protocol):
    """Slow on purpose; called in a worker thread."""

    def hash(self, password: str) -> str:
        """A salted hash."""
        ...

    def verify(self, password: str, hash: str) -> bool:
        """Whether `hash` was made of `password`."""
        ...


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What a login gives; `expires_in` is the access token's life in seconds."""

    access_token: str
    refresh_token: str
    token_type: str = "bearer"  # noqa: S105 - a word of OAuth2
    expires_in: int


class AuthService:
    """Loop thread only. Implements `ports.auth.Authenticator`."""

    def __init__(
        self,
        store: CredentialStore,
        hasher: Hasher,
        clock: Clock,
        *,
        secret: str,
        access: timedelta,
        refresh: timedelta,
    ) -> None:
        """Raises ConfigurationError for a `secret` shorter than 32 characters."""
        if len(secret) < SHORTEST_SECRET:
            raise ConfigurationError(f"the token secret must have {SHORTEST_SECRET} characters or more")
        self._store = store
        self._hasher = hasher
        self._clock = clock
        self._secret = secret
        self._access = access
        self._refresh = refresh
        self._throttle = LoginThrottle(clock)
        self._nobody: str | None = None

    def bootstrap(self, chosen: str | None) -> str | None:
        """Make sure there is an admin; returns the random password made for it, if one was. Blocks; before serving.

        `chosen` replaces the admin's password. Raises ConfigurationError when it is shorter than 12 characters.
        """
        admin = self._store.user(ADMIN)
        if chosen is not None:
            if len(chosen) < SHORTEST_PASSWORD:
                raise ConfigurationError(f"auth.admin_password must have {SHORTEST_PASSWORD} characters or more")
            if admin is None or not self._hasher.verify(chosen, admin.password_hash):
                self._put_admin(chosen)
            return None
        if admin is not None:
            return None
        made = secrets.token_urlsafe(18)
        self._put_admin(made)
        return made

    async def login(self, name: str, password: str, address: str) -> Tokens:
        """Raises NotAuthenticated, RateLimited."""
        keys = (f"account {name[:64]}", f"address {address}")
        self._throttle.check(*keys)
        user = self._store.user(name)
        if self._nobody is None:  # made at the first login and not at the start, which it would delay by 0.2 s
            self._nobody = await asyncio.to_thread(self._hasher.hash, secrets.token_hex(16))
        # An unknown name costs the same time, so that answers do not tell which names exist.
        known = user.password_hash if user else self._nobody
        right = await asyncio.to_thread(self._hasher.verify, password, known)
        if user is None or not right:
            self._throttle.failed(*keys)
            raise NotAuthenticated("the name or the password is wrong")
        self._throttle.succeeded(*keys)
        self._store.prune(self._clock.now())
        return self._issue(user, secrets.token_hex(16))

    async def refresh(self, token: str) -> Tokens:
        """Exchange a refresh token for new tokens. Raises NotAuthenticated.

        A token that was used before was copied by somebody: its whole session ends.
        """
        found = self._store.use_refresh(_digest(token))
        if found is None or found.expires_at <= self._clock.now():
            raise NotAuthenticated("the refresh token is not valid; log in again")
        if found.used:
            self._end(found.session_id)
            raise NotAuthenticated("the refresh token was used before, so its session was ended; log in again")
        user = self._store.user(found.user_name)
        if user is None or self._store.session_ended(found.session_id):
            raise NotAuthenticated("the session was ended; log in again")
        return self._issue(user, found.session_id)

    async def logout(self, principal: Principal) -> None:
        """End the session that the caller's token belongs to."""
        self._end(principal.session_id)

    async def authenticate(self, token: str) -> Principal:
        """Raises NotAuthenticated."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                options={"require": _CLAIMS, "verify_exp": False, "verify_iat": False},
            )
            expires_at = datetime.fromtimestamp(int(claims["exp"]), UTC)
            principal = Principal(
                name=claims["sub"], role=Role(claims["role"]), session_id=claims["sid"], expires_at=expires_at
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError) as error:
            raise NotAuthenticated("the access token is not valid") from error
        # The injected clock decides, so that tests own the time.
        if expires_at <= self._clock.now():
            raise NotAuthenticated("the access token has expired; refresh it")
        if self._store.session_ended(principal.session_id):
            raise NotAuthenticated("the session was ended; log in again")
        return principal

    def _issue(self, user: User, session_id: str) -> Tokens:
        now = self._clock.now()
        claims = {
            "sub": user.name,
            "role": user.role.value,
            "sid": session_id,
            "jti": secrets.token_hex(16),
            "aud": AUDIENCE,
            "iat": int(now.timestamp()),
            "exp": int((now + self._access).timestamp()),
        }
        refresh_token = secrets.token_urlsafe(32)
        self._store.add_refresh(
            Refresh(
                token_hash=_digest(refresh_token),
                session_id=session_id,
                user_name=user.name,
                expires_at=now + self._refresh,
            )
        )
        return Tokens(
            access_token=jwt.encode(claims, self._secret, ALGORITHM),
            refresh_token=refresh_token,
            expires_in=int(self._access.total_seconds()),
        )

    def _end(self, session_id: str) -> None:
        self._store.end_session(session_id, until=self._clock.now() + self._access)

    def _put_admin(self, password: str) -> None:
        self._store.put_user(User(name=ADMIN, role=Role.ADMIN, password_hash=self._hasher.hash(password)))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
