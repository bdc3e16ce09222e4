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
    """Any thread may call; calls are short. Survives a restart."""

    def user(self, name: str) -> User | None:
        """The user of that name."""
        ...

    def put_user(self, user: User) -> None:
        """Add or replace."""
        ...

    def add_refresh(self, refresh: Refresh) -> None:
        """Keep a new refresh token."""
        ...

    def use_refresh(self, token_hash: str) -> Refresh | None:
        """Mark a token used; returns it as it was *before*, or None when there is no such token."""
        ...

    def end_session(self, session_id: str, until: datetime) -> None:
        """Drop the session's refresh tokens, and refuse its access tokens `until` the last of them has expired."""
        ...

    def session_ended(self, session_id: str) -> bool:
        """Whether the session was ended."""
        ...

    def prune(self, now: datetime) -> None:
        """Drop what has expired."""
        ...
