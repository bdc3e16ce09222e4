"""Who is asking, and what they may do."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec


class Role(StrEnum):
    """Each may do what the ones before it may."""

    VIEWER = "viewer"
    TRADER = "trader"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The holder of a valid credential."""

    name: str
    role: Role
    session_id: str
    """The login that the credential came from; logging out ends all credentials of it."""
    expires_at: datetime
    token_id: str = ""
    """The credential itself, for the audit log."""


class Authenticator(Protocol):
    """Turns a credential into its holder. Loop thread only."""

    async def authenticate(self, token: str) -> Principal:
        """Raises NotAuthenticated."""
        ...

    async def authenticate_ticket(self, ticket: str) -> Principal:
        """The same for a WebSocket ticket, once; the holder's `expires_at` is that of the token it was made with.

        Raises NotAuthenticated, Overloaded (it cannot be known whether the ticket was used).
        """
        ...

    def still_valid(self, principal: Principal) -> bool:
        """Whether a holder may stay: its credential has not expired and its session was not ended. At once."""
        ...
