"""A running service over REST, for commands that need its engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import msgspec

from vnpy_core.domain.enums import JobState
from vnpy_core.domain.errors import ConfigurationError, CoreError

TIMEOUT_S = 30.0
POLL_S = 0.5


class ServiceClient:
    """Blocks; one thread."""

    def __init__(self, url: str, token: str) -> None:
        """`url` as `http://127.0.0.1:8006`. Raises ConfigurationError."""
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(f"--url is like http://127.0.0.1:8006, not {url!r}")
        if not token:
            raise ConfigurationError("this needs a token: --token or $VNPYCORE_TOKEN, from POST /api/v1/auth/token")
        self._base = f"{url.rstrip('/')}/api/v1"
        self._token = token

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One request; its answer. Raises CoreError in the service's words, ConfigurationError where there is none."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        content = None if body is None else msgspec.json.encode(body)
        request = Request(self._base + path, content, headers, method=method)  # noqa: S310 - the scheme was checked
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                return msgspec.json.decode(answer.read())
        except HTTPError as error:
            raise CoreError(f"{self._base}{path}: {error.code} {_said(error.read())}") from None
        except (URLError, HTTPException, OSError) as error:
            raise ConfigurationError(f"no service answers at {self._base}: {error}") from None
        except msgspec.DecodeError:
            raise ConfigurationError(f"{self._base} is no VnPy Core Service") from None

    def follow(self, job: dict[str, Any], on_progress: Callable[[float, str], None]) -> dict[str, Any]:
        """Wait for a job's end; returns it. One that is interrupted here is cancelled there. Raises as `call` does."""
        path = f"/data/jobs/{job['id']}"
        try:
            while not JobState(job["state"]).is_final:
                on_progress(job["progress"], job["message"])
                time.sleep(POLL_S)
                job = self.call("GET", path)
        except KeyboardInterrupt:
            self.call("DELETE", path)
            raise
        return job


def _said(content: bytes) -> str:
    """What a problem document says."""
    try:
        problem = msgspec.json.decode(content)
        wrong = "; ".join(f"{each['field']}: {each['message']}" for each in problem.get("errors") or ())
        return f"{problem['detail']}{f' ({wrong})' if wrong else ''}"
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return content[:200].decode(errors="replace")
