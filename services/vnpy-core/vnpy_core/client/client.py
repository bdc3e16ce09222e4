"""The service's door for Python programs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self

import httpx2

from vnpy_core.client.backoff import Uniform
from vnpy_core.client.http import Http
from vnpy_core.client.messages import Encoding
from vnpy_core.client.rest import Data, Risk, System, Trading, new_client_order_id
from vnpy_core.client.strategies import Strategies
from vnpy_core.client.stream import Stream
from vnpy_core.client.tokens import FixedToken, Issued, Login, ProvidedTokens, TokenSource
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.kit.clock import SystemClock


class Client:
    """One service or edge, over REST (`trading`, `strategies`, `risk`, `data`, `system`) and `/ws` (`stream`).

    Loop thread only. An async context; every call raises `domain.errors.CoreError` in the service's words,
    `ServiceUnreachable` where none answers. A log-in is made at the first call and renews itself.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8006",
        *,
        token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        token_provider: Callable[[], Awaitable[str]] | None = None,
        timeout_s: float = 30.0,
        trust_env: bool = False,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: SystemClock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Uniform = random.uniform,
        new_id: Callable[[], str] = new_client_order_id,
    ) -> None:
        """Give a `token` (or API key), a `username` and `password`, or a `token_provider` that knows fresh ones.

        `timeout_s` is one request's. `trust_env` goes through the environment's proxies. Raises ConfigurationError.
        """
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(f"an address is like http://127.0.0.1:8006, not {url!r}")
        if sum(way is not None for way in (token, username, token_provider)) > 1 or (username is None) != (
            password is None
        ):
            raise ConfigurationError("give a token, or a username and a password, or a token provider")
        self.url = url.rstrip("/")
        self._trust_env = trust_env
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._uniform = uniform
        self._client = httpx2.AsyncClient(
            base_url=self.url, timeout=timeout_s, transport=transport, trust_env=trust_env
        )
        self._http = Http(self._client, None, sleep)
        self._http.tokens = self._source(token, username, password, token_provider)
        self.trading = Trading(self._http, new_id)
        self.strategies = Strategies(self._http)
        self.risk = Risk(self._http)
        self.data = Data(self._http)
        self.system = System(self._http)

    def stream(
        self,
        topics: Iterable[str],
        *,
        conflate: bool = True,
        urls: Iterable[str] | None = None,
        encoding: Encoding | str = Encoding.JSON,
        open_timeout_s: float = 10.0,
    ) -> Stream:
        """Live events, from this address or from `urls` (edges) in turn; `conflate=False` asks for every tick.

        Raises NotFound for a topic that does not exist, ConfigurationError for a wrong address.
        """
        return Stream(
            topics,
            urls=[self.url] if urls is None else urls,
            tokens=self._http.tokens,
            conflate=conflate,
            encoding=encoding,
            open_timeout_s=open_timeout_s,
            trust_env=self._trust_env,
            clock=self._clock,
            sleep=self._sleep,
            uniform=self._uniform,
        )

    async def close(self) -> None:
        """Close the connections of REST; streams close by themselves. Idempotent."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _source(
        self,
        token: str | None,
        username: str | None,
        password: str | None,
        provider: Callable[[], Awaitable[str]] | None,
    ) -> TokenSource | None:
        if token is not None:
            return FixedToken(token)
        if provider is not None:
            return ProvidedTokens(provider, self._clock)
        if username is not None and password is not None:
            return Login(self._issue, username, password, self._clock)
        return None

    async def _issue(self, path: str, fields: dict[str, str]) -> Issued:
        return await self._http.issue(path, fields)
