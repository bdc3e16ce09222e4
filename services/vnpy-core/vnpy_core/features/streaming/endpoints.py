"""`/ws`: check the origin, authorise, delegate."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from vnpy_core.domain.errors import CoreError, NotAuthenticated, NotPermitted, Overloaded, ValidationFailed
from vnpy_core.features.streaming.schemas import Auth, decode
from vnpy_core.features.streaming.server import EXTENSION, StreamingWebSocket
from vnpy_core.features.streaming.service import StreamingService
from vnpy_core.features.streaming.session import Session
from vnpy_core.features.streaming.settings import StreamingSettings
from vnpy_core.features.streaming.wire import JSON, Encoding, content, encoding_of
from vnpy_core.ports.auth import Authenticator, Principal

CLOSE_CODES: dict[str, int] = {
    ValidationFailed.code: 4400,
    NotAuthenticated.code: 4401,
    NotPermitted.code: 4403,
    Overloaded.code: 1013,
}
CLOSE_GRACE_S = 5.0
"""How long a client may take to answer a close before the connection is cut, seconds."""

router = APIRouter()
_log = structlog.get_logger(__name__)


@router.websocket("/ws")
async def stream(websocket: WebSocket) -> None:
    """One client from its handshake to its end."""
    service: StreamingService = websocket.app.state.streaming
    if not origin_allowed(
        websocket.headers.get("origin"), websocket.headers.get("host"), service.settings.allowed_origins
    ):
        _log.info("websocket refused", detail=f"pages of {websocket.headers.get('origin')} may not connect")
        await websocket.close(CLOSE_CODES[NotPermitted.code])  # before the handshake: the browser sees a 403
        return
    await websocket.accept()
    connection = WebSocketConnection(websocket)
    try:
        encoding = encoding_of(websocket.query_params.get("encoding", "json"))
        principal = await _authorise(websocket, service.settings, encoding)
        session = service.open(connection, principal, encoding)
    except CoreError as error:
        _log.info("websocket refused", address=connection.address, code=error.code, detail=error.detail)
        await connection.refuse(error)
        return
    except ConnectionError:
        return
    try:
        await _serve(websocket, service, session)
    finally:
        await service.leave(session)


def origin_allowed(origin: str | None, host: str | None, allowed: Iterable[str]) -> bool:
    """Whether a page from `origin` may connect: programs send none, the service's own pages its host."""
    if origin is None:
        return True
    if origin.lower() in {entry.lower().rstrip("/") for entry in allowed}:
        return True
    page = _place(origin)
    return page is not None and host is not None and page == _place(f"{urlsplit(origin).scheme}://{host}")


class WebSocketConnection:
    """A session's `Connection` over Starlette's WebSocket."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        # Another server than ours sends frame by frame, and leaves a client that does not read to its keepalive.
        self._direct: StreamingWebSocket | None = websocket.scope.get("extensions", {}).get(EXTENSION)

    @property
    def address(self) -> str:
        """Where the client connects from, as far as the server knows."""
        client = self._websocket.client
        return "" if client is None else f"{client.host}:{client.port}"

    @property
    def writable(self) -> bool:
        """Whether `send_now` may be called."""
        return self._direct is not None and self._direct.writable.is_set()

    def send_now(self, frames: list[bytes]) -> None:
        """Send whole frames without waiting. Raises ConnectionError when the client is gone."""
        assert self._direct is not None
        self._direct.send_frames_now(frames)

    async def send(self, frames: list[bytes]) -> None:
        """Send whole frames. Raises ConnectionError when the client is gone."""
        if self._direct is not None:
            await self._direct.send_frames(frames)
            return
        try:
            for frame in frames:
                data = content(frame)
                await (self._websocket.send_text(data) if isinstance(data, str) else self._websocket.send_bytes(data))
        except (WebSocketDisconnect, RuntimeError) as error:
            raise ConnectionResetError("the client is gone") from error

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye, and cut the connection of a client that does not answer. Raises ConnectionError."""
        try:
            await self._websocket.close(code, reason[:120])
        except (WebSocketDisconnect, RuntimeError) as error:
            raise ConnectionResetError("the client is gone") from error
        asyncio.get_running_loop().call_later(CLOSE_GRACE_S, self.abort)

    async def refuse(self, error: CoreError) -> None:
        """Close before there is a session, by the error's own code."""
        try:
            await self.close(CLOSE_CODES.get(error.code, 1008), error.detail)
        except ConnectionError:
            self.abort()

    def abort(self) -> None:
        """Cut the connection at once."""
        if self._direct is not None:
            self._direct.abort()


async def _authorise(websocket: WebSocket, settings: StreamingSettings, encoding: Encoding) -> Principal:
    """Raises NotAuthenticated, Overloaded (where tickets are kept does not answer), ConnectionError."""
    ticket = websocket.query_params.get("ticket")
    if ticket is not None:
        authenticator: Authenticator = websocket.app.state.authenticator
        return await authenticator.authenticate_ticket(ticket)
    scheme, _, token = websocket.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = await _first_token(websocket, settings, encoding)
    return await _viewer(websocket, token.strip())


async def _first_token(websocket: WebSocket, settings: StreamingSettings, encoding: Encoding) -> str:
    try:
        async with asyncio.timeout(settings.auth_timeout_s):
            frame = await _receive(websocket)
    except TimeoutError:
        raise NotAuthenticated(f"no token within {settings.auth_timeout_s:g} s") from None
    if frame is None:
        raise ConnectionResetError("the client left before it said who it is")
    try:
        op = decode(frame, settings.max_frame_bytes, binary=encoding is not JSON)
    except CoreError as error:
        raise NotAuthenticated("the first message must be auth") from error
    if not isinstance(op, Auth):
        raise NotAuthenticated("the first message must be auth")
    return op.token


async def _viewer(websocket: WebSocket, token: str) -> Principal:
    """Any valid credential may read. Raises NotAuthenticated."""
    authenticator: Authenticator = websocket.app.state.authenticator
    return await authenticator.authenticate(token)


async def _serve(websocket: WebSocket, service: StreamingService, session: Session) -> None:
    while (frame := await _receive(websocket)) is not None:
        renewal = service.receive(session, frame)
        if renewal is not None:
            try:
                service.renew(session, renewal, await _viewer(websocket, renewal.token))
            except NotAuthenticated as error:
                session.close(CLOSE_CODES[error.code], error.detail)


async def _receive(websocket: WebSocket) -> str | bytes | None:
    """The next frame; None when the client is gone."""
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        return None
    frame: str | bytes | None = message.get("text")
    return frame if frame is not None else message["bytes"]


def _place(url: str) -> tuple[str, int] | None:
    """Host and port of an address, with the scheme's own port where it names none."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return None
    return (parts.hostname, port) if parts.hostname else None
