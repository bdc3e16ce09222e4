"""The rules of logging in: short access tokens, rotating refresh tokens, no word on which part was wrong."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import msgspec

from vnpy_core.domain.errors import ConfigurationError, NotAuthenticated, Overloaded
from vnpy_core.features.auth.throttle import LoginThrottle
from vnpy_core.features.auth.tokens import AccessTokens, Once, Ticket, check_secret
from vnpy_core.kit.files import write_secret
from vnpy_core.ports.auth import Principal, Role
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.credentials import CredentialStore, Refresh, User

ADMIN = "admin"
SHORTEST_PASSWORD = 12
LOGINS_WAITING = 32
"""Logins that may wait for their turn to be checked; hashing takes 64 MB and 0.2 s each."""


class Hasher(Protocol):
    """Slow on purpose; called in a worker thread."""

    def hash(self, password: str) -> str:
        """A salted hash."""
        ...

    def verify(self, password: str, hash: str) -> bool:
        """Whether `hash` was made of `password`."""
        ...


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What a login gives."""

    access_token: str
    """Send it as `Authorization: Bearer …`."""
    refresh_token: str
    """Good for one `POST /auth/refresh`."""
    token_type: str = "bearer"  # noqa: S105 - a word of OAuth2
    expires_in: int
    """The access token's life, seconds."""


class AuthService:
    """Implements `ports.auth.Authenticator`. Loop thread only, but for `bootstrap`."""

    def __init__(
        self,
        store: CredentialStore,
        hasher: Hasher,
        clock: Clock,
        *,
        secret: str,
        access: timedelta,
        refresh: timedelta,
        once: Once | None = None,
        on_ended: Callable[[str, datetime], None] = lambda session_id, until: None,
    ) -> None:
        """`once`: see `AccessTokens`. `on_ended(session_id, until)` hears of each session that ends while serving, and
        until when its tokens would have been valid; those that ended before are in `ended_sessions`.

        Raises ConfigurationError for a `secret` shorter than 32 bytes.
        """
        self._tokens = AccessTokens(
            secret, clock, access=access, is_ended=lambda session_id: session_id in self._ended, once=once
        )
        self._store = store
        self._hasher = hasher
        self._clock = clock
        self._access = access
        self._refresh = refresh
        self._on_ended = on_ended
        self._throttle = LoginThrottle(clock)
        self._checking = asyncio.Lock()
        self._waiting = 0
        self._nobody: str | None = None
        # Kept here too, so that no request waits for the disk.
        self._ended = store.ended_sessions()

    def bootstrap(self, chosen: str | None) -> str | None:
        """Make sure there is an admin; returns the random password made for it, if one was. Blocks; before serving.

        `chosen` replaces the admin's password, which ends its sessions. Raises ConfigurationError when it is shorter
        than 12 characters.
        """
        if chosen is not None and len(chosen) < SHORTEST_PASSWORD:
            raise ConfigurationError(f"auth.admin_password must have {SHORTEST_PASSWORD} characters or more")
        admin = self._store.user(ADMIN)
        if admin is not None and (chosen is None or self._hasher.verify(chosen, admin.password_hash)):
            return None
        password = chosen or secrets.token_urlsafe(18)
        self._store.put_user(User(name=ADMIN, role=Role.ADMIN, password_hash=self._hasher.hash(password)))
        self._store.end_sessions_of(ADMIN, self._clock.now() + self._access)
        self._ended = self._store.ended_sessions()
        return None if chosen else password

    async def login(self, name: str, password: str, address: str) -> Tokens:
        """Raises NotAuthenticated, RateLimited, Overloaded (too many logins wait), StorageFull."""
        user = await self._check(name, password, address)
        session_id, refresh_token = secrets.token_hex(16), secrets.token_urlsafe(32)
        now = self._clock.now()
        first = Refresh(
            token_hash=_digest(refresh_token),
            session_id=session_id,
            user_name=user.name,
            expires_at=now + self._refresh,
        )
        await asyncio.to_thread(self._open_session, first, now)
        return self._issue(user, session_id, refresh_token)

    async def refresh(self, token: str) -> Tokens:
        """Exchange a refresh token for new tokens. Raises NotAuthenticated, StorageFull.

        A token that was used before was copied by somebody: its whole session ends.
        """
        following = secrets.token_urlsafe(32)
        now = self._clock.now()
        found = await asyncio.to_thread(
            self._store.rotate_refresh, _digest(token), _digest(following), now, now + self._refresh
        )
        if found is None or found.expires_at <= now:
            raise NotAuthenticated("the refresh token is not valid; log in again")
        if found.used:
            await self._end(found.session_id)
            raise NotAuthenticated("the refresh token was used before, so its session was ended; log in again")
        user = await asyncio.to_thread(self._store.user, found.user_name)
        if user is None or found.session_id in self._ended:
            raise NotAuthenticated("the session was ended; log in again")
        return self._issue(user, found.session_id, following)

    async def logout(self, principal: Principal) -> None:
        """End the session that the caller's token belongs to. Raises StorageFull: ended until the next restart only."""
        await self._end(principal.session_id)

    async def authenticate(self, token: str) -> Principal:
        """Raises NotAuthenticated."""
        return await self._tokens.authenticate(token)

    async def authenticate_ticket(self, ticket: str) -> Principal:
        """See `ports.auth.Authenticator`."""
        return await self._tokens.authenticate_ticket(ticket)

    def still_valid(self, principal: Principal) -> bool:
        """See `ports.auth.Authenticator`."""
        return self._tokens.still_valid(principal)

    def issue_ticket(self, principal: Principal) -> Ticket:
        """A ticket with which `principal` opens one WebSocket within 30 s."""
        return self._tokens.issue_ticket(principal)

    def ended_sessions(self) -> dict[str, datetime]:
        """Session id -> until when tokens of it would be valid, for all that were ended and still have some."""
        now = self._clock.now()
        return {session_id: until for session_id, until in self._ended.items() if until > now}

    async def _check(self, name: str, password: str, address: str) -> User:
        """The user that `name` and `password` belong to; one login at a time, so that parallel guesses are counted."""
        self._throttle.check(name, address)
        if self._waiting >= LOGINS_WAITING:
            raise Overloaded("too many logins at once; try again later", retry_after=1)
        self._waiting += 1
        try:
            async with self._checking:
                self._throttle.check(name, address)
                user = await asyncio.to_thread(self._verified, name, password)
                if user is None:
                    self._throttle.failed(name, address)
                    raise NotAuthenticated("the name or the password is wrong")
                self._throttle.succeeded(name)
                return user
        finally:
            self._waiting -= 1

    def _verified(self, name: str, password: str) -> User | None:
        """An unknown name costs the same time, so that answers do not tell which names exist."""
        if self._nobody is None:  # made at the first login and not at the start, which it would delay by 0.2 s
            self._nobody = self._hasher.hash(secrets.token_hex(16))
        user = self._store.user(name)
        right = self._hasher.verify(password, user.password_hash if user else self._nobody)
        return user if right else None

    def _open_session(self, first: Refresh, now: datetime) -> None:
        self._store.prune(now)
        self._store.add_refresh(first)

    async def _end(self, session_id: str) -> None:
        now = self._clock.now()
        until = now + self._access
        self._ended = self.ended_sessions() | {session_id: until}
        self._on_ended(session_id, until)
        await asyncio.to_thread(self._store.end_session, session_id, until)

    def _issue(self, user: User, session_id: str, refresh_token: str) -> Tokens:
        return Tokens(
            access_token=self._tokens.issue(user.name, user.role, session_id),
            refresh_token=refresh_token,
            expires_in=int(self._access.total_seconds()),
        )


def jwt_secret(path: Path) -> str:
    """The key of the access tokens; the first start writes a random one of 256 bits to `path` (0600).

    Blocks. Raises ConfigurationError for a file that cannot be read or is shorter than 32 bytes.
    """
    try:
        if not path.exists():
            write_secret(path, secrets.token_hex(32))
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    return check_secret(secret, str(path), "; delete it to have one made (ends all sessions)")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
