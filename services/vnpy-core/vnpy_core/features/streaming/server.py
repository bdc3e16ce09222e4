"""What the streaming sessions ask of uvicorn."""

from __future__ import annotations

from asyncio.transports import BaseTransport
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

EXTENSION: Final = "vnpy_core.websocket"
"""Where the ASGI scope holds the connection's `StreamingWebSocket`."""
BUFFER_BYTES: Final = 32_768
"""What may wait in a connection before the next write waits."""


class StreamingWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's own protocol with two things that ASGI has no words for.

    It sends many frames, which were made once for all clients, in one write: that multiplies the fan-out. And it can
    cut the connection of a client that stopped reading: closing waits for the client, so its buffer and its socket
    would stay for ever.
    """

    def connection_made(self, transport: BaseTransport) -> None:
        """Wait for a client that does not read a little earlier than asyncio would: many of them may stop at once."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=BUFFER_BYTES)

    async def run_asgi(self) -> None:
        """Offer both to the application."""
        self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]
        await super().run_asgi()

    async def send_frames(self, frames: list[bytes]) -> None:
        """Send whole frames once the client has read enough of what came before. Raises ConnectionError."""
        await self.writable.wait()
        self.send_frames_now(frames)

    def send_frames_now(self, frames: list[bytes]) -> None:
        """Send whole frames, whatever the client has read. Raises ConnectionError."""
        if self.disconnected or self.conn.state is not State.OPEN:
            raise ConnectionResetError("the connection is closed")
        self.transport.write(b"".join(frames))

    def abort(self) -> None:
        """Cut the connection at once. Idempotent."""
        self.transport.abort()


UVICORN_SETTINGS: Final[dict[str, Any]] = {
    "ws": StreamingWebSocket,
    # Above the 64 KiB that a client may send, so that a frame past them is answered and not just cut off.
    "ws_max_size": 1_048_576,
    # Deflate halves the fan-out and wins nothing on a local network.
    "ws_per_message_deflate": False,
}
"""Keyword arguments for `uvicorn.Config`."""
