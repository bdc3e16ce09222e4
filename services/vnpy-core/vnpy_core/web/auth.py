"""Who may call a route: dependencies that turn a bearer token into a principal with a role.

Deny by default is checked from outside: `open_routes` lists what takes no credential, and a test compares it with
`OPEN_PATHS`.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import FastAPI, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from starlette.requests import HTTPConnection

from vnpy_core.domain.errors import NotAuthenticated, NotPermitted
from vnpy_core.ports.auth import Authenticator, Principal, Role

OPEN_PATHS: Final = frozenset({"/health/live", "/health/ready", "/api/v1/auth/token", "/api/v1/auth/refresh"})
"""What answers without a credential; everything else must ask for one. `/ws` asks inside its handshake."""

_scheme = OAuth2PasswordBearer(
    tokenUrl="/api/v1/auth/token",
    refreshUrl="/api/v1/auth/refresh",
    scopes={
        Role.VIEWER.value: "Read",
        Role.TRADER.value: "Read; orders, strategies, algos, halts",
        Role.ADMIN.value: "All of it; users, keys, gateways, limits, code",
    },
    description="An access token of `POST /api/v1/auth/token`",
    auto_error=False,
)


async def authenticate(connection: HTTPConnection, token: str | None) -> Principal:
    """The holder of `token`, for a request or a WebSocket. Raises NotAuthenticated."""
    if not token:
        raise NotAuthenticated("send `Authorization: Bearer <access token>`")
    authenticator: Authenticator = connection.app.state.authenticator
    return await authenticator.authenticate(token)


async def _principal(
    connection: HTTPConnection, scopes: SecurityScopes, token: Annotated[str | None, Security(_scheme)]
) -> Principal:
    caller = await authenticate(connection, token)
    for needed in scopes.scopes:
        if not caller.role.covers(Role(needed)):
            raise NotPermitted(f"this needs the role {needed}; {caller.name} is {caller.role}")
    return caller


async def require_viewer(caller: Annotated[Principal, Security(_principal, scopes=[Role.VIEWER.value])]) -> Principal:
    """Any valid credential. Raises NotAuthenticated."""
    return caller


async def require_trader(caller: Annotated[Principal, Security(_principal, scopes=[Role.TRADER.value])]) -> Principal:
    """Raises NotAuthenticated, NotPermitted."""
    return caller


async def require_admin(caller: Annotated[Principal, Security(_principal, scopes=[Role.ADMIN.value])]) -> Principal:
    """Raises NotAuthenticated, NotPermitted."""
    return caller


def open_routes(app: FastAPI) -> set[str]:
    """The paths of all routes, mounts and WebSockets that do not depend on one of the above."""
    paths = set()
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        if dependant is None or not _asks(dependant):
            paths.add(route.path or "")
    return paths


def _asks(dependant: Dependant) -> bool:
    return dependant.call is _principal or any(_asks(below) for below in dependant.dependencies)
