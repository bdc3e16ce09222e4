"""`/api/v1/auth`: parse, delegate."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Form, Request

from vnpy_core.features.auth.schemas import RefreshBody
from vnpy_core.features.auth.service import AuthService, Tokens
from vnpy_core.ports.auth import Principal, Role
from vnpy_core.web.auth import require_viewer
from vnpy_core.web.problems import responses
from vnpy_core.web.responses import FastResponse, wire_model

router = APIRouter(prefix="/api/v1/auth", tags=["auth"])

NO_STORE = {"Cache-Control": "no-store"}


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """The caller."""

    name: str
    role: Role
    expires_at: datetime


def _service(request: Request) -> AuthService:
    service: AuthService = request.app.state.auth
    return service


Auth = Annotated[AuthService, Depends(_service)]
Caller = Annotated[Principal, Depends(require_viewer)]


@router.post(
    "/token",
    operation_id="create_token",
    summary="Log in",
    response_model=wire_model(Tokens),
    responses=responses("RATE_LIMITED"),
)
async def create_token(
    request: Request,
    auth: Auth,
    username: Annotated[str, Form(min_length=1, max_length=64, examples=["admin"])],
    password: Annotated[str, Form(min_length=1, max_length=256, examples=["…"])],
    grant_type: Annotated[str, Form(pattern="^password$")] = "password",
) -> FastResponse:
    """Exchange a name and a password (OAuth2 password form) for an access and a refresh token."""
    address = request.client.host if request.client else "unknown"
    return FastResponse(await auth.login(username, password, address), headers=NO_STORE)


@router.post(
    "/refresh",
    operation_id="refresh_token",
    summary="Renew a login",
    response_model=wire_model(Tokens),
    responses=responses(),
)
async def refresh_token(auth: Auth, body: RefreshBody) -> FastResponse:
    """Exchange a refresh token for new ones. Each can be used once; a second use ends the session."""
    return FastResponse(await auth.refresh(body.refresh_token), headers=NO_STORE)


@router.post("/logout", operation_id="logout", summary="Log out", status_code=204, responses=responses())
async def logout(auth: Auth, caller: Caller) -> None:
    """End the session: its access and refresh tokens are refused from now on."""
    await auth.logout(caller)


@router.get("/me", operation_id="get_me", summary="Who am I", response_model=wire_model(Me), responses=responses())
async def get_me(caller: Caller) -> FastResponse:
    """The caller's name, role and when the access token expires."""
    return FastResponse(Me(name=caller.name, role=caller.role, expires_at=caller.expires_at))
