"""What the streaming sessions ask of uvicorn."""

from __future__ import annotations

from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

EXTENSION: Final = "vnpy_core.websocket"
"""Where the ASGI scope holds the connection's `StreamingWebSocket`."""


class StreamingWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's own protocol with two things that ASGI has no words for.

    It sends many frames in one write, which doubles the fan-out; and it can cut the connection of a client that stopped
    reading: closing waits for the client, so its buffer and its socket would stay for ever.
    """

    async def run_asgi(self) -> None:
        """Offer both to the application."""
        self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]
        await super().run_asgi()

    async def send_texts(self, texts: list[str]) -> None:
        """Send the frames once the client has read enough of what came before. Raises ConnectionError."""
        await self.writable.wait()
        try:
            for text in texts:
                self.conn.send_text(text.encode())
        except InvalidState as error:
            raise ConnectionResetError("the connection is closed") from error
        self.transport.write(b"".join(self.conn.data_to_send()))

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
