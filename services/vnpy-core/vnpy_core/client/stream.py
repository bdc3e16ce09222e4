"""Live events that outlive their connection: reconnect, resume, renew the token, and hold back what is not read."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from vnpy_core.client.backoff import Backoff, Uniform
from vnpy_core.client.http import Unexpected
from vnpy_core.client.messages import (
    Codec,
    Disconnected,
    Encoding,
    StreamMessage,
    Unsubscribed,
    check_topics,
    is_lossless,
)
from vnpy_core.client.position import Place
from vnpy_core.client.session import TOPICS_PER_REQUEST, BrokenProtocol, Counters, NodeBehind, Session
from vnpy_core.client.tokens import Token, TokenSource
from vnpy_core.domain.errors import (
    ConfigurationError,
    CoreError,
    NotAuthenticated,
    NotPermitted,
    OutcomeUnknown,
    TryLater,
    ValidationFailed,
)
from vnpy_core.kit.clock import SystemClock

NOT_UNDERSTOOD: Final = 4400
NOT_AUTHENTICATED: Final = 4401
NOT_PERMITTED: Final = 4403
COME_AGAIN: Final = frozenset({1012, 1013})
SILENT_HEARTBEATS: Final = 2.5
"""A connection that says nothing for so many heartbeats is dead."""
LIVED_S: Final = 5.0
"""A connection that lasted so long starts the waits from the beginning."""
WATCH_S: Final = 0.25
"""How often silence and a token's end are looked for, seconds."""
RENEWAL_PAUSE_S: Final = 2.0
"""Between attempts to get a fresh token."""
QUEUE: Final = (256, 64)
"""Frames that wait for a slow reader: above the first number the socket is not read, below the second it is again."""
MAX_FRAME: Final = 16_777_216

_log = logging.getLogger(__name__)


class _Lost(Exception):
    """The connection is gone; `code` is the WebSocket's, or 0 where there was none."""

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class _Link(msgspec.Struct, eq=False):
    """An open connection and who looks after it."""

    socket: ClientConnection
    session: Session
    codec: Codec
    opened_at: float
    waiting_since: float | None = None
    """Since when the reader waits for a frame; None while it does something else."""
    fate: str = ""
    """Why we cut it ourselves."""
    tasks: list[asyncio.Task[None]] = []


class Stream:
    """An async iterator of messages, and an async context that closes the connection. One reader; loop thread only.

    Waiting for a message may be cancelled (by `asyncio.timeout`, say) and goes on at the next call. A reader that
    stops reading holds back the socket and thereby the service, which closes what takes nothing for too long; then
    this resumes. Raises NotAuthenticated and NotPermitted where no new attempt would help, and what a subscription was
    refused with.
    """

    def __init__(
        self,
        topics: Iterable[str],
        *,
        urls: Iterable[str],
        tokens: TokenSource | None,
        conflate: bool = True,
        encoding: Encoding | str = Encoding.JSON,
        open_timeout_s: float = 10.0,
        trust_env: bool = False,
        clock: SystemClock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Uniform = random.uniform,
    ) -> None:
        """`urls` as `http://host:port`, tried one after the other. Raises NotFound, ConfigurationError."""
        self.counters = Counters()
        self.place = Place()
        self._wanted: dict[str, None] = {}
        self._encoding = Encoding(encoding)
        self._urls = deque(_socket_url(url, self._encoding) for url in urls)
        self._tokens = tokens
        self._conflate = conflate
        self._open_timeout_s = open_timeout_s
        self._trust_env = trust_env
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._backoff = Backoff(uniform)
        self._ready: deque[StreamMessage] = deque()
        self._link: _Link | None = None
        self._retry_at: float | None = None
        self._refused: str | None = None
        """The token that the service did not take at the last attempt."""
        self._used: str | None = None
        """The token of this attempt, or the one that has renewed it since."""
        self._closed = False
        self._want(topics)

    @property
    def topics(self) -> tuple[str, ...]:
        """What it listens to."""
        return tuple(self._wanted)

    async def add(self, topics: Iterable[str]) -> None:
        """Listen to more, also while another task waits for messages. Raises NotFound, ValidationFailed."""
        fresh = self._want(topics)
        if self._link is not None and fresh:
            try:
                self._link.session.subscribe(fresh)
            except NodeBehind as error:
                self._cut(self._link, str(error))
            await self._flush(self._link)

    async def remove(self, topics: Iterable[str]) -> None:
        """Stop listening, in the words in which it was asked for."""
        ended = [pattern for pattern in topics if pattern in self._wanted]
        for pattern in ended:
            del self._wanted[pattern]
        self.place.forget(ended)
        if ended:
            self._ready.append(Unsubscribed(tuple(ended)))
        if self._link is not None and ended:
            self._link.session.unsubscribe(ended)
            await self._flush(self._link)

    async def close(self) -> None:
        """End the connection and the iteration. Idempotent."""
        self._closed = True
        link, self._link = self._link, None
        await _end(link)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[StreamMessage]:
        return self

    async def __anext__(self) -> StreamMessage:
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            try:
                if self._link is None:
                    await self._connect()
                else:
                    await self._receive(self._link)
            except _Lost as lost:
                await self._lose(lost)
        return self._ready.popleft()

    def _want(self, topics: Iterable[str]) -> list[str]:
        fresh = [pattern for pattern in dict.fromkeys(topics) if pattern not in self._wanted]
        check_topics(fresh)
        if sum(map(is_lossless, [*self._wanted, *fresh])) > TOPICS_PER_REQUEST:
            raise ValidationFailed(f"{TOPICS_PER_REQUEST} patterns for lossless topics at most; use a wildcard")
        self._wanted |= dict.fromkeys(fresh)
        return fresh

    # A connection's life

    async def _connect(self) -> None:
        """Raises _Lost, NotAuthenticated, NotPermitted."""
        if self._retry_at is not None:
            if (delay := self._retry_at - self._clock.monotonic()) > 0:
                await self._sleep(delay)
            self._retry_at = None
        url = self._urls[0]
        token = await self._token()
        self._used = None if token is None else token.text
        socket = await self._handshake(url, token)
        codec = Codec(self._encoding)
        session = Session(url, self._wanted, self.place, codec, self.counters, conflate=self._conflate)
        link = self._link = _Link(socket, session, codec, self._clock.monotonic())
        link.tasks.append(asyncio.create_task(self._watch(link), name="stream watch"))
        if token is not None and token.renew_at is not None:
            link.tasks.append(asyncio.create_task(self._renew(link, token), name="stream token"))

    async def _token(self) -> Token | None:
        if self._tokens is None:
            return None
        try:
            return await self._tokens.token(refused=self._refused)
        except (TryLater, OutcomeUnknown, Unexpected) as error:
            raise _Lost(f"no token: {error.detail}") from error

    async def _handshake(self, url: str, token: Token | None) -> ClientConnection:
        headers = {} if token is None else {"Authorization": f"Bearer {token.text}"}
        try:
            return await connect(
                url,
                additional_headers=headers,
                open_timeout=self._open_timeout_s,
                # The service's heartbeats do it: a pong would wait behind the frames of a slow reader.
                ping_interval=None,
                close_timeout=1.0,
                compression=None,
                max_size=MAX_FRAME,
                max_queue=QUEUE,
                proxy=True if self._trust_env else None,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            code = {401: NOT_AUTHENTICATED, 403: NOT_PERMITTED}.get(status, 0)
            raise _Lost(f"{url} answers {status}", code) from error
        except InvalidURI as error:
            raise ConfigurationError(str(error)) from error
        except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed) as error:
            raise _Lost(f"{url}: {str(error) or type(error).__name__}") from error

    async def _receive(self, link: _Link) -> None:
        """Raises _Lost, CoreError."""
        try:
            link.waiting_since = self._clock.monotonic()
            try:
                content = await link.socket.recv(decode=False)
            finally:
                link.waiting_since = None
            self._ready.extend(link.session.take(content))
        except ConnectionClosed as error:
            raise _lost(link, error) from error
        except (BrokenProtocol, NodeBehind) as error:
            raise _Lost(str(error)) from error
        if link.session.connected:
            self._refused = None
        if link.session.ops:
            await self._flush(link)

    async def _flush(self, link: _Link) -> None:
        """Send what the session asks for, also where the caller is cancelled meanwhile."""
        await asyncio.shield(asyncio.ensure_future(_send_all(link)))

    async def _lose(self, lost: _Lost) -> None:
        """Tell it and plan the next attempt. Raises NotAuthenticated, NotPermitted, ValidationFailed."""
        link, self._link = self._link, None
        try:
            self._plan(lost, link)
        finally:
            await _end(link)

    def _plan(self, lost: _Lost, link: _Link | None) -> None:
        if lost.code == NOT_PERMITTED:
            raise NotPermitted(lost.reason)
        if lost.code == NOT_UNDERSTOOD:
            raise ValidationFailed(lost.reason)
        connected = link is not None and link.session.connected
        if link is not None and connected and self._clock.monotonic() - link.opened_at >= LIVED_S:
            self._backoff.reset()
        if lost.code == NOT_AUTHENTICATED:
            if self._used is None or self._refused is not None:
                raise NotAuthenticated(lost.reason)
            self._refused = self._used
            delay = 0.0
        else:
            self._urls.rotate(-1)
            delay = self._backoff.next(quick=connected and lost.code in COME_AGAIN)
        self._retry_at = self._clock.monotonic() + delay
        _log.info("stream lost: %s; next attempt in %.1f s", lost.reason, delay)
        self._ready.append(Disconnected(lost.reason, delay))

    def _cut(self, link: _Link, fate: str) -> None:
        """End a connection from which no goodbye is to be expected; the reader is told."""
        link.fate = fate
        link.socket.transport.abort()

    # Beside the reader

    async def _watch(self, link: _Link) -> None:
        """Cut a connection that is silent although the reader waits."""
        while True:
            await asyncio.sleep(WATCH_S)
            heartbeat_s = link.session.heartbeat_s
            limit = self._open_timeout_s if heartbeat_s is None else heartbeat_s * SILENT_HEARTBEATS
            since = link.waiting_since
            if since is not None and self._clock.monotonic() - since > limit:
                self._cut(link, f"silent for {limit:g} s")
                return

    async def _renew(self, link: _Link, token: Token) -> None:
        """Send a fresh token before the session's ends; past that the service closes it with 4401."""
        assert self._tokens is not None
        while token.renew_at is not None:
            await asyncio.sleep(WATCH_S)
            if self._clock.monotonic() < token.renew_at:
                continue
            try:
                fresh = await self._tokens.token()
            except CoreError as error:
                _log.warning("the stream's token cannot be renewed yet: %s", error.detail)
                await self._sleep(RENEWAL_PAUSE_S)
                continue
            if fresh.text != token.text:
                self._used = fresh.text
                link.session.authenticate(fresh.text)
                await self._flush(link)
            token = fresh


async def _end(link: _Link | None) -> None:
    if link is not None:
        for task in link.tasks:
            task.cancel()
        await asyncio.gather(*link.tasks, return_exceptions=True)
        await link.socket.close()


async def _send_all(link: _Link) -> None:
    while link.session.ops:
        op = link.session.ops.popleft()
        try:
            await link.socket.send(link.codec.encode(op), text=link.codec.is_text)
        except ConnectionClosed:
            return  # the reader finds out


def _lost(link: _Link, error: ConnectionClosed) -> _Lost:
    if link.fate:
        return _Lost(link.fate)
    if error.rcvd is None:
        return _Lost("the connection broke")
    return _Lost(f"closed with {error.rcvd.code} {error.rcvd.reason}".rstrip(), error.rcvd.code)


def _socket_url(url: str, encoding: Encoding) -> str:
    """Raises ConfigurationError."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise ConfigurationError(f"an address is like http://127.0.0.1:8006, not {url!r}")
    query = "" if encoding is Encoding.JSON else f"encoding={encoding}"
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/ws", query, ""))
