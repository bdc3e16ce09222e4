"""Where users and their logins are kept."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec

from vnpy_core.ports.auth import Role


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may log in."""

    name: str
    role: Role
    password_hash: str


class Refresh(msgspec.Struct, frozen=True, kw_only=True):
    """A refresh token, known by its hash; `used` once it was exchanged for the next one of its session."""

    token_hash: str
    session_id: str
    user_name: str
    expires_at: datetime
    used: bool = False


class CredentialStore(Protocol):
    """Any thread may call. Writes wait for the disk: call in a worker thread. What was written survives a crash.

    All may raise StorageFull.
    """

    def user(self, name: str) -> User | None:
        """The user of that name."""
        ...

    def put_user(self, user: User) -> None:
        """Add or replace."""
        ...

    def add_refresh(self, refresh: Refresh) -> None:
        """Keep a new session's first refresh token."""
        ...

    def rotate_refresh(self, token_hash: str, next_hash: str, now: datetime, expires_at: datetime) -> Refresh | None:
        """Exchange a token for the next of its session, which ends at `expires_at`; both or nothing.

        Returns the token as it was *before*, None when there is no such token. One that was used or has expired is
        not exchanged.
        """
        ...

    def end_session(self, session_id: str, until: datetime) -> None:
        """Drop the session's refresh tokens, and refuse its access tokens `until` the last of them has expired."""
        ...

    def end_sessions_of(self, user_name: str, until: datetime) -> None:
        """End all sessions of a user."""
        ...

    def ended_sessions(self) -> dict[str, datetime]:
        """The sessions that were ended, each with its `until`."""
        ...

    def prune(self, now: datetime) -> None:
        """Drop what has expired."""
        ...
