"""Nothing is answered about a core whose state has not been read: an empty list would be a lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from vnpy_core.domain.errors import Overloaded
from vnpy_core.web.problems import problem_response, request_id

OPEN: Final = ("/health/", "/metrics", "/api/v1/system/", "/api/v1/auth/")
"""What an edge answers before: how it is itself, and who asks."""
DETAIL: Final = "this edge has not read its core's state yet"


class UntilLoaded:
    """ASGI middleware: 503 OVERLOADED while `loaded` says no. WebSockets are the streaming service's."""

    def __init__(self, app: ASGIApp, *, loaded: Callable[[], bool]) -> None:
        self._app = app
        self._loaded = loaded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http" or scope["path"].startswith(OPEN) or self._loaded():
            await self._app(scope, receive, send)
        else:
            answer = problem_response(Overloaded(DETAIL, retry_after=1), request_id(scope))
            await answer(scope, receive, send)
