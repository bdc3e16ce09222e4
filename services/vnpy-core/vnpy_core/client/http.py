"""REST of the service: requests that carry a token, and problem details turned into the domain's errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, Generic, TypeVar

import httpx2
import msgspec

from vnpy_core.client.tokens import Issued, TokenSource
from vnpy_core.domain import errors
from vnpy_core.domain.errors import CoreError, FieldError, NotAuthenticated, OutcomeUnknown, StoreUnavailable, TryLater

T = TypeVar("T")

BASE: Final = "/api/v1"
PAGE: Final = 1_000
"""Items that a page holds at most."""
READ_ATTEMPTS: Final = 3
"""How often a GET is tried where the connection breaks."""
RETRY_PAUSE_S: Final = 0.2
INCOMPLETE_ATTEMPTS: Final = 10
"""How often a page is read again whose past items were missing."""

_CLASSES: Final[dict[str, type[CoreError]]] = {
    kind.code: kind
    for kind in (
        errors.ValidationFailed, errors.NotFound, errors.Conflict, errors.IdempotencyMismatch, errors.PayloadTooLarge,
        errors.NotAuthenticated, errors.NotPermitted, errors.RiskDenied, errors.TradingHalted,
        errors.GatewayNotConnected, errors.GatewayRefused, errors.RateLimited, errors.Overloaded, errors.StorageFull,
        errors.OutcomeUnknown,
    )
}  # fmt: skip


class ServiceUnreachable(TryLater):
    """No service answers at the address; nothing was done there."""

    code = "OVERLOADED"


class Unexpected(CoreError):
    """An answer that is none of the service's: its internal error (`extra` has `request_id`), or another server's."""


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some items in order; `next_cursor` is None on the last page.

    `incomplete`: past items may be missing, because the service's database was away or behind.
    """

    items: list[T]
    next_cursor: str | None = None
    incomplete: bool = False


class Http:
    """One service. Loop thread only."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        tokens: TokenSource | None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`http` has the service's address as its base."""
        self._http = http
        self._sleep = sleep
        self.tokens = tokens

    async def get(self, path: str, kind: type[T], /, **query: object) -> T:
        """Read; tried again where the connection breaks. Raises CoreError."""
        return decoded((await self._request("GET", path, query=query)).content, kind)

    async def call(
        self, method: str, path: str, kind: type[T], body: Mapping[str, object] | None = None, **query: object
    ) -> T:
        """Do something, once. Raises CoreError; OutcomeUnknown where the connection broke before the answer came."""
        return decoded((await self._request(method, path, query=query, body=body)).content, kind)

    async def send(self, method: str, path: str, body: Mapping[str, object] | None = None) -> None:
        """As `call`, for what answers nothing."""
        await self._request(method, path, body=body)

    async def page(self, path: str, kind: type[T], /, **query: object) -> Page[T]:
        """One page of a list. Raises CoreError."""
        answer = await self._request("GET", path, query=query)
        page = decoded(answer.content, Page[kind])  # type: ignore[valid-type]
        return msgspec.structs.replace(page, incomplete="X-Incomplete" in answer.headers)

    async def pages(self, path: str, kind: type[T], /, **query: object) -> AsyncIterator[T]:
        """Every item of a list. Raises CoreError; StoreUnavailable where past items stay out of reach."""
        cursor: str | None = None
        while True:
            page = await self._whole_page(path, kind, {"limit": PAGE} | query | {"cursor": cursor})
            for item in page.items:
                yield item
            if (cursor := page.next_cursor) is None:
                return

    async def issue(self, path: str, fields: dict[str, str]) -> Issued:
        """A login (`/auth/token`) or its renewal (`/auth/refresh`). Raises CoreError."""
        form = path == "/auth/token"
        answer = await self._once("POST", BASE + path, token=None, form=fields if form else None,
                                  body=None if form else fields)  # fmt: skip
        _raise_for(answer)
        return decoded(answer.content, Issued)

    async def ready(self) -> dict[str, Any]:
        """`/health/ready`, which is open and also says why not: `{status, components}`. Raises ServiceUnreachable."""
        answer = await self._once("GET", "/health/ready", token=None)
        return decoded(answer.content, dict[str, Any])

    async def _whole_page(self, path: str, kind: type[T], query: dict[str, object]) -> Page[T]:
        for attempt in range(INCOMPLETE_ATTEMPTS):
            page = await self.page(path, kind, **query)
            if not page.incomplete:
                return page
            await self._sleep(RETRY_PAUSE_S * (attempt + 1))
        raise StoreUnavailable(f"{path}: past items are missing, the service's database is away or behind")

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> httpx2.Response:
        attempts = READ_ATTEMPTS if method == "GET" else 1
        refused: str | None = None
        while True:
            token = (await self.tokens.token(refused=refused)).text if self.tokens else None
            try:
                answer = await self._once(method, BASE + path, token=token, query=query, body=body)
                _raise_for(answer)
            except NotAuthenticated:
                if refused is not None or token is None:
                    raise
                refused = token  # it was refused before anything was done
            except ServiceUnreachable as error:
                attempts -= 1
                if attempts <= 0 or isinstance(error.__cause__, httpx2.TimeoutException):
                    raise
                await self._sleep(RETRY_PAUSE_S)
            else:
                return answer

    async def _once(
        self,
        method: str,
        path: str,
        *,
        token: str | None,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
        form: dict[str, str] | None = None,
    ) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        content = None if body is None else msgspec.json.encode(body)
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            return await self._http.request(
                method, path, params=_plain(query or {}), content=content, data=form, headers=headers
            )
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise ServiceUnreachable(f"no service answers at {self._http.base_url}: {error}") from error
        except httpx2.TransportError as error:
            what = f"{method} {path}: {type(error).__name__} {error}".rstrip()
            if method == "GET":
                raise ServiceUnreachable(f"the connection broke: {what}") from error
            raise OutcomeUnknown(f"the connection broke before the answer came: {what}") from error


def decoded(content: bytes, kind: type[T]) -> T:
    """Raises Unexpected."""
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise Unexpected(f"not an answer of VnPy Core Service: {error}") from error


def problem_of(content: bytes, status: int) -> CoreError:
    """The error that a problem document tells; `extra` has its other members, `request_id` among them."""
    try:
        members: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])
        code, detail = str(members["code"]), str(members["detail"])
        wrong = [FieldError(str(each["field"]), str(each["message"])) for each in members.get("errors", ())]
    except (msgspec.DecodeError, KeyError, TypeError):
        return Unexpected(f"status {status}: {content[:200].decode(errors='replace')}", status=status)
    extra = {name: value for name, value in members.items() if name not in {"detail", "errors", "type", "title"}}
    if code == errors.GatewayNotConnected.code and "reconciliation" in extra:
        return errors.GatewayNotReconciled(detail, errors=wrong, **extra)
    return _CLASSES.get(code, Unexpected)(detail, errors=wrong, **extra)


def _raise_for(answer: httpx2.Response) -> None:
    is_problem = answer.headers.get("Content-Type", "").startswith("application/problem+json")
    if is_problem or not 200 <= answer.status_code < 300:
        raise problem_of(answer.content, answer.status_code)


def _plain(query: Mapping[str, object]) -> dict[str, str]:
    return {name: _word(value) for name, value in query.items() if value is not None}


def _word(value: object) -> str:
    """As the service reads it: enums by name, times as ISO 8601, truth in small letters."""
    plain = msgspec.to_builtins(value)
    return str(plain).lower() if isinstance(plain, bool) else str(plain)
