"""Access tokens and WebSocket tickets: made and looked at by whoever has the secret, a core or its edges."""

from __future__ import annotations

import math
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import jwt
import msgspec

from vnpy_core.domain.errors import CacheUnavailable, ConfigurationError, NotAuthenticated, Overloaded
from vnpy_core.ports.auth import Principal, Role
from vnpy_core.ports.clock import Clock

ALGORITHM = "HS256"
AUDIENCE = "vnpy-core"
TICKET_AUDIENCE = "vnpy-core/ws"
TICKET_S = 30
"""How long a ticket is good, seconds."""
REMEMBERED_S = 120.0
"""How long a used ticket is remembered, seconds: so far may the clocks of machines that share it be apart."""
MOST_REMEMBERED = 100_000
SHORTEST_SECRET = 32
LONGEST_TOKEN = 4_096
_LAST_SECOND = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
_Second = Annotated[int, msgspec.Meta(ge=0, le=_LAST_SECOND)]

Once = Callable[[str, float], Awaitable[bool]]
"""`ports.cache.Cache.once`: whether nobody said the name within the last so many seconds; it is said now."""


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """Opens one WebSocket."""

    ticket: str
    """Send it as `/ws?ticket=…`; good once."""
    expires_in: int = TICKET_S
    """Its life, seconds."""


class _Claims(msgspec.Struct, frozen=True, kw_only=True):
    sub: str
    role: Role
    sid: str
    jti: str
    aud: str
    iat: _Second
    exp: _Second


class _TicketClaims(_Claims, frozen=True, kw_only=True):
    until: _Second
    """When the access token ends that it was made with."""


C = TypeVar("C", bound=_Claims)


class AccessTokens:
    """Implements `ports.auth.Authenticator`. Loop thread only. Needs no credential store, so edges have one too."""

    def __init__(
        self,
        secret: str,
        clock: Clock,
        *,
        access: timedelta,
        is_ended: Callable[[str], bool] = lambda session_id: False,
        once: Once | None = None,
        strict: bool = False,
    ) -> None:
        """`access`: how long an access token is valid; `is_ended`: whether a session was ended, by its id.

        `once` is the memory of used tickets that all who take them share (`Cache.once`); None: this process is alone.
        While it is away a core goes by its own memory; with `strict`, for edges, no ticket is taken.
        Raises ConfigurationError for a `secret` shorter than 32 bytes.
        """
        check_secret(secret, "the token secret")
        self._secret = secret
        self._clock = clock
        self._access = access
        self._is_ended = is_ended
        self._once = once
        self._strict = strict
        self._used = _Used(clock)

    def issue(self, name: str, role: Role, session_id: str) -> str:
        """An access token."""
        now = self._clock.now()
        claims = _Claims(
            sub=name,
            role=role,
            sid=session_id,
            jti=secrets.token_hex(16),
            aud=AUDIENCE,
            iat=int(now.timestamp()),
            exp=int((now + self._access).timestamp()),
        )
        return jwt.encode(msgspec.to_builtins(claims), self._secret, ALGORITHM)

    def issue_ticket(self, principal: Principal) -> Ticket:
        """A ticket with which `principal` opens one WebSocket within 30 s."""
        now = int(self._clock.now().timestamp())
        claims = _TicketClaims(
            sub=principal.name,
            role=principal.role,
            sid=principal.session_id,
            jti=secrets.token_hex(16),
            aud=TICKET_AUDIENCE,
            iat=now,
            exp=now + TICKET_S,
            until=int(principal.expires_at.timestamp()),
        )
        return Ticket(ticket=jwt.encode(msgspec.to_builtins(claims), self._secret, ALGORITHM))

    async def authenticate(self, token: str) -> Principal:
        """Raises NotAuthenticated."""
        claims = self._claims(token, _Claims, AUDIENCE, "access token")
        # A lifetime that was shortened holds for older tokens too; ended sessions are remembered no longer than it.
        lifetime = math.ceil(self._access.total_seconds())
        return self._principal(claims, min(claims.exp, claims.iat + lifetime))

    async def authenticate_ticket(self, ticket: str) -> Principal:
        """See `ports.auth.Authenticator`."""
        claims = self._claims(ticket, _TicketClaims, TICKET_AUDIENCE, "ticket")
        if min(claims.exp, claims.iat + TICKET_S) <= self._clock.now().timestamp():
            raise NotAuthenticated("the ticket has expired; ask for another")
        principal = self._principal(claims, claims.until)
        if not await self._first_use(claims.jti):
            raise NotAuthenticated("the ticket was used before; ask for another")
        return principal

    def still_valid(self, principal: Principal) -> bool:
        """See `ports.auth.Authenticator`."""
        return principal.expires_at > self._clock.now() and not self._is_ended(principal.session_id)

    async def _first_use(self, jti: str) -> bool:
        """Here first: what this process has taken it takes no more, whatever becomes of the shared memory."""
        if not self._used.first(jti):
            return False
        if self._once is None:
            return True
        try:
            return await self._once(f"ws-ticket:{jti}", REMEMBERED_S)
        except CacheUnavailable as error:
            if self._strict:
                raise Overloaded("it cannot be known whether the ticket was used; ask for another later") from error
            return True

    def _principal(self, claims: _Claims, expires: int) -> Principal:
        expires_at = datetime.fromtimestamp(expires, UTC)
        if expires_at <= self._clock.now():
            raise NotAuthenticated("the access token has expired; refresh it")
        if self._is_ended(claims.sid):
            raise NotAuthenticated("the session was ended; log in again")
        return Principal(
            name=claims.sub, role=claims.role, session_id=claims.sid, expires_at=expires_at, token_id=claims.jti
        )

    def _claims(self, token: str, kind: type[C], audience: str, what: str) -> C:
        try:
            if len(token) > LONGEST_TOKEN:
                raise ValueError("longer than any of ours")
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                audience=audience,
                # The injected clock decides on time, so that tests own it; msgspec sees that all claims are there.
                options={"verify_exp": False, "verify_iat": False},
            )
            return msgspec.convert(claims, kind)
        # RecursionError: a header of a thousand brackets, before the signature is looked at.
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise NotAuthenticated(f"the {what} is not valid") from error


class _Used:
    """The tickets that this process has taken, in bounded memory: full, it takes none until the oldest are past."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: OrderedDict[str, float] = OrderedDict()

    def first(self, jti: str) -> bool:
        """Raises Overloaded."""
        now = self._clock.monotonic()
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        if jti in self._until:
            return False
        if len(self._until) >= MOST_REMEMBERED:
            raise Overloaded("too many tickets at once; try again later", retry_after=1)
        self._until[jti] = now + REMEMBERED_S
        return True


def check_secret(secret: str, what: str, hint: str = "") -> str:
    """`secret`, where it is as long as HS256 wants it. Raises ConfigurationError, which names `what` it is."""
    if len(secret.encode()) < SHORTEST_SECRET:
        raise ConfigurationError(f"{what} must have {SHORTEST_SECRET} bytes or more{hint}")
    return secret


def read_secret(path: Path, configured: str = "") -> str:
    """An edge's key of the access tokens: `configured` where it is set, else what the core wrote to `path`.

    Never makes one: it would fit no token of the core's. Blocks. Raises ConfigurationError.
    """
    if configured:
        return check_secret(configured, "edge.jwt_secret")
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no {path}; copy the core's there, or set VNPYCORE__EDGE__JWT_SECRET to what it holds"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    return check_secret(secret, str(path))
