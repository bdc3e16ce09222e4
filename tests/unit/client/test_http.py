"""REST of the client against scripted answers; the real routes answer in `test_rest.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import pytest

from vnpy_core.client import Client, ServiceUnreachable, Unexpected
from vnpy_core.domain import errors
from vnpy_core.domain.errors import (
    CoreError,
    GatewayNotReconciled,
    NotAuthenticated,
    OutcomeUnknown,
    RiskDenied,
    StoreUnavailable,
    ValidationFailed,
)
from vnpy_core.web.problems import STATUS, problem

Answer = httpx2.Response | Exception


class Script:
    """Answers requests one after the other."""

    def __init__(self, *answers: Answer | Callable[[httpx2.Request], httpx2.Response]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []
        self.pauses: list[float] = []

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        await asyncio.sleep(0)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx2.Response) else answer(request)

    def client(self, **options: Any) -> Client:
        return Client(
            "http://test", transport=httpx2.MockTransport(self), sleep=self._sleep, **({"token": "t"} | options)
        )

    async def _sleep(self, delay: float) -> None:
        self.pauses.append(delay)


def refused(error: CoreError) -> httpx2.Response:
    members = problem(error, "r1")
    return httpx2.Response(
        members["status"], content=msgspec.json.encode(members), headers={"Content-Type": "application/problem+json"}
    )


def ok(content: object, **headers: str) -> httpx2.Response:
    return httpx2.Response(200, content=msgspec.json.encode(content), headers=headers)


EMPTY = {"items": [], "next_cursor": None}
KINDS = {
    kind.code: kind
    for kind in (
        errors.ValidationFailed, errors.NotFound, errors.Conflict, errors.IdempotencyMismatch, errors.PayloadTooLarge,
        errors.NotPermitted, errors.RiskDenied, errors.TradingHalted, errors.GatewayNotConnected,
        errors.GatewayRefused, errors.RateLimited, errors.Overloaded, errors.StorageFull, errors.OutcomeUnknown,
    )
}  # fmt: skip


@pytest.mark.parametrize("code", sorted(set(STATUS) - {"NOT_AUTHENTICATED"}))
async def test_each_code_is_raised_as_its_class(code):
    kind = KINDS.get(code, Unexpected)
    raised = KINDS.get(code, CoreError)("why")
    members = problem(raised, "r1") | {"code": code}
    answer = httpx2.Response(STATUS[code], json=members, headers={"Content-Type": "application/problem+json"})
    with pytest.raises(CoreError) as caught:
        await Script(answer).client().trading.cancel_order("PAPER.1")
    assert type(caught.value) is kind
    assert caught.value.extra["request_id"] == "r1"
    assert caught.value.extra["code"] == code


async def test_an_error_keeps_its_fields_and_members():
    denial = RiskDenied("too large", rule="order_size", limit=5)
    with pytest.raises(RiskDenied, match="too large") as caught:
        await Script(refused(denial)).client().trading.place_order("rb2505.SHFE", "LONG", 9)
    assert caught.value.extra["rule"] == "order_size"
    assert caught.value.extra["limit"] == 5
    wrong = ValidationFailed("price: no", errors=[errors.FieldError("price", "no")])
    with pytest.raises(ValidationFailed) as invalid:
        await Script(refused(wrong)).client().trading.place_order("rb2505.SHFE", "LONG", 9)
    assert [error.as_dict() for error in invalid.value.errors] == [{"field": "price", "message": "no"}]


async def test_an_unreconciled_gateway_is_told_from_an_unconnected_one():
    answer = refused(GatewayNotReconciled("wait", reconciliation={"state": "DIFFERENT"}))
    with pytest.raises(GatewayNotReconciled):
        await Script(answer).client().trading.place_order("rb2505.SHFE", "LONG", 1)


@pytest.mark.parametrize(
    "error", [httpx2.ReadError("cut"), httpx2.RemoteProtocolError("cut"), httpx2.ReadTimeout("late")]
)
async def test_an_order_whose_answer_is_lost_is_unknown_and_never_sent_again(error):
    script = Script(error)
    with pytest.raises(OutcomeUnknown) as caught:
        await script.client(new_id=lambda: "my-name").trading.place_order("rb2505.SHFE", "LONG", 1, price=3500)
    assert len(script.requests) == 1
    assert caught.value.extra["client_order_id"] == "my-name"


async def test_an_order_that_the_service_calls_unknown_keeps_its_name():
    script = Script(refused(OutcomeUnknown("it may have been sent")))
    with pytest.raises(OutcomeUnknown) as caught:
        await script.client().trading.place_order("rb2505.SHFE", "LONG", 1, client_order_id="mine")
    assert caught.value.extra["client_order_id"] == "mine"
    assert msgspec.json.decode(script.requests[0].content)["client_order_id"] == "mine"


async def test_every_order_has_a_name_of_its_own():
    script = Script(*[refused(errors.TradingHalted("halted"))] * 2)
    client = script.client()
    for _ in range(2):
        with pytest.raises(errors.TradingHalted):
            await client.trading.place_order("rb2505.SHFE", "LONG", 1)
    names = {msgspec.json.decode(request.content)["client_order_id"] for request in script.requests}
    assert len(names) == 2


async def test_an_order_that_never_left_is_told_from_an_unknown_one():
    with pytest.raises(ServiceUnreachable):
        await Script(httpx2.ConnectError("nobody")).client().trading.place_order("rb2505.SHFE", "LONG", 1)


async def test_a_read_is_tried_again_where_the_connection_breaks():
    script = Script(httpx2.ConnectError("nobody"), httpx2.ReadError("cut"), ok({"halts": []}))
    assert await script.client().risk.halts() == []
    assert script.pauses == [0.2, 0.2]


async def test_a_read_is_not_tried_for_ever():
    script = Script(*[httpx2.ReadError("cut")] * 9)
    with pytest.raises(ServiceUnreachable):
        await script.client().risk.halts()
    assert len(script.requests) == 3


async def test_a_read_that_took_too_long_is_not_tried_again():
    script = Script(httpx2.ReadTimeout("late"))
    with pytest.raises(ServiceUnreachable):
        await script.client().risk.halts()


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"items":[{}],"next_cursor":null}', b""])
async def test_an_answer_of_something_else_is_unexpected(content):
    with pytest.raises(Unexpected):
        await Script(httpx2.Response(200, content=content)).client().trading.gateways()
    with pytest.raises(Unexpected, match="status 502"):
        await Script(httpx2.Response(502, content=content)).client().trading.gateways()


async def test_lists_go_through_all_pages():
    position = {
        "vt_symbol": "rb.SHFE", "symbol": "rb", "exchange": "SHFE", "direction": "LONG", "volume": 1, "frozen": 0,
        "price": 1, "pnl": 0, "yd_volume": 0, "gateway_name": "P", "seq": 1,
    }  # fmt: skip
    script = Script(
        ok({"items": [position | {"vt_positionid": "1"}], "next_cursor": "c1"}),
        ok({"items": [position | {"vt_positionid": "2"}], "next_cursor": None}),
    )
    found = [each.vt_positionid async for each in script.client().trading.positions(gateway_name="P")]
    assert found == ["1", "2"]
    assert [dict(request.url.params) for request in script.requests] == [
        {"limit": "1000", "gateway_name": "P"},
        {"limit": "1000", "gateway_name": "P", "cursor": "c1"},
    ]


async def test_a_page_with_holes_is_read_again_until_it_is_whole():
    script = Script(ok(EMPTY, **{"X-Incomplete": "history"}), ok(EMPTY))
    assert [each async for each in script.client().trading.trades(after_seq=0)] == []
    holes = Script(*[ok(EMPTY, **{"X-Incomplete": "history"}) for _ in range(50)])
    with pytest.raises(StoreUnavailable):
        [each async for each in holes.client().trading.trades(after_seq=0)]


async def test_filters_travel_as_the_service_reads_them():
    script = Script(ok(EMPTY))
    client = script.client()
    assert [each async for each in client.trading.orders(active=True, status=errors_status())] == []
    assert dict(script.requests[0].url.params) == {"limit": "1000", "active": "true", "status": "NOTTRADED"}


async def test_names_stay_one_part_of_the_path():
    script = Script(refused(errors.NotFound("no")))
    with pytest.raises(errors.NotFound):
        await script.client().trading.tick("BTC/USDT ?#.BINANCE")
    assert script.requests[0].url.raw_path == b"/api/v1/trading/ticks/BTC%2FUSDT%20%3F%23.BINANCE"


async def test_a_refused_token_is_renewed_once_and_the_request_repeated():
    tokens = iter(["one", "two"])

    async def provide() -> str:
        return next(tokens)

    def check(request: httpx2.Request) -> httpx2.Response:
        good = request.headers["Authorization"] == "Bearer two"
        return ok({"halts": []}) if good else refused(NotAuthenticated("expired"))

    script = Script(*[check] * 3)
    client = script.client(token=None, token_provider=provide)
    assert await client.risk.halts() == []
    assert await client.risk.halts() == []
    assert len(script.requests) == 3


async def test_a_login_is_made_once_for_many_requests_at_once():
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/api/v1/auth/token":
            assert request.content == b"username=ann&password=p%26w"
            return ok({"access_token": "a", "refresh_token": "r", "token_type": "bearer", "expires_in": 900})
        assert request.headers["Authorization"] == "Bearer a"
        return ok({"halts": []})

    script = Script(*[answer] * 11)
    client = script.client(token=None, username="ann", password="p&w")
    await asyncio.gather(*(client.risk.halts() for _ in range(10)))
    assert [request.url.path for request in script.requests].count("/api/v1/auth/token") == 1


async def test_health_is_told_also_while_it_is_down():
    script = Script(httpx2.Response(503, json={"status": "down", "components": {"journal": "down"}}))
    assert (await script.client(token=None).system.health())["status"] == "down"


@pytest.mark.parametrize(
    "options",
    [
        {"url": "127.0.0.1:8006"},
        {"token": "t", "username": "a", "password": "p"},
        {"username": "a"},
        {"password": "p"},
    ],
)
def test_a_wrong_configuration_is_refused(options):
    with pytest.raises(errors.ConfigurationError):
        Client(**options)


def errors_status() -> Any:
    from vnpy_core.domain.enums import Status

    return Status.NOTTRADED
