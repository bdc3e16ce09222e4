"""`/api/v1/auth`: parse, delegate. An edge includes `reading` only: logging in is the core's."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Request, Response

from vnpy_core.features.auth.schemas import ME_EXAMPLE, TICKET_EXAMPLE, TOKENS_EXAMPLE, Me, RefreshBody, TokenRequest
from vnpy_core.features.auth.service import AuthService, Tokens
from vnpy_core.features.auth.tokens import Ticket
from vnpy_core.ports.auth import Principal
from vnpy_core.web.auth import require_viewer
from vnpy_core.web.problems import responses
from vnpy_core.web.responses import FastResponse, wire_model

reading = APIRouter(prefix="/api/v1/auth", tags=["auth"])
"""What needs the secret of the tokens only."""
_login = APIRouter(prefix="/api/v1/auth", tags=["auth"])

NO_STORE = {"Cache-Control": "no-store"}


class TicketOffice(Protocol):
    """Who makes tickets: `AuthService` or `AccessTokens`."""

    def issue_ticket(self, principal: Principal) -> Ticket:
        """A ticket with which `principal` opens one WebSocket."""
        ...


async def _service(request: Request) -> AuthService:
    service: AuthService = request.app.state.auth
    return service


async def _office(request: Request) -> TicketOffice:
    office: TicketOffice = request.app.state.authenticator
    return office


Auth = Annotated[AuthService, Depends(_service)]
Caller = Annotated[Principal, Depends(require_viewer)]


def _answers(example: dict[str, Any], *codes: str) -> dict[int | str, dict[str, Any]]:
    return responses(*codes) | {200: {"content": {"application/json": {"example": example}}}}


@_login.post(
    "/token",
    operation_id="create_token",
    summary="Log in",
    response_model=wire_model(Tokens),
    responses=_answers(TOKENS_EXAMPLE, "RATE_LIMITED", "OVERLOADED", "STORAGE_FULL"),
)
async def create_token(request: Request, auth: Auth, form: TokenRequest) -> Response:
    """Exchange a name and a password (OAuth2 password form) for an access and a refresh token. Open.

    After 5 failures of an account or an address the next attempt has to wait, 1 s and then longer: 429 with
    `Retry-After`.
    """
    address = request.client.host if request.client else "unknown"
    return FastResponse(await auth.login(form.username, form.password, address), headers=NO_STORE)


@_login.post(
    "/refresh",
    operation_id="refresh_token",
    summary="Renew a login",
    response_model=wire_model(Tokens),
    responses=_answers(TOKENS_EXAMPLE, "STORAGE_FULL"),
)
async def refresh_token(auth: Auth, body: RefreshBody) -> Response:
    """Exchange a refresh token for new ones. Each can be used once; a second use ends the session. Open."""
    return FastResponse(await auth.refresh(body.refresh_token), headers=NO_STORE)


@_login.post("/logout", operation_id="logout", summary="Log out", status_code=204, responses=responses("STORAGE_FULL"))
async def logout(auth: Auth, caller: Caller) -> Response:
    """End the session: its access and refresh tokens are refused from now on."""
    await auth.logout(caller)
    return Response(status_code=204)


@reading.get(
    "/me",
    operation_id="get_me",
    summary="Who am I?",
    response_model=wire_model(Me),
    responses=_answers(ME_EXAMPLE),
)
async def get_me(caller: Caller) -> Response:
    """The caller's name, role and when the access token expires."""
    return FastResponse(Me(name=caller.name, role=caller.role, expires_at=caller.expires_at), headers=NO_STORE)


@reading.post(
    "/ws-ticket",
    operation_id="create_ws_ticket",
    summary="A ticket for the WebSocket",
    response_model=wire_model(Ticket),
    responses=_answers(TICKET_EXAMPLE),
)
async def create_ws_ticket(caller: Caller, office: Annotated[TicketOffice, Depends(_office)]) -> Response:
    """A ticket that opens `/ws?ticket=…` once within 30 s: for browsers, which cannot send a header there.

    The WebSocket ends when the access token ends with which the ticket was asked for, and with its session.
    """
    return FastResponse(office.issue_ticket(caller), headers=NO_STORE)


router = APIRouter()
"""All of it."""
router.include_router(_login)
router.include_router(reading)
