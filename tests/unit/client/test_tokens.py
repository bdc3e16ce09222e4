from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import jwt
import pytest

from testkit.clock import FakeClock
from vnpy_core.client.tokens import FixedToken, Issued, Login, ProvidedTokens, life_of
from vnpy_core.domain.errors import NotAuthenticated, OutcomeUnknown, Overloaded


class Issuer:
    """The service's half: each refresh token is good for one use."""

    def __init__(self, life_s: float = 900.0) -> None:
        self.life_s = life_s
        self.asked: list[str] = []
        self.valid: set[str] = set()
        self.failures: list[Exception] = []
        self.running = 0

    async def __call__(self, path: str, fields: dict[str, str]) -> Issued:
        self.asked.append(path)
        self.running += 1
        assert self.running == 1
        await asyncio.sleep(0.01)
        self.running -= 1
        if self.failures:
            raise self.failures.pop(0)
        if path == "/auth/token":
            assert fields == {"username": "ann", "password": "pw"}
        elif fields["refresh_token"] not in self.valid:
            raise NotAuthenticated("used before")
        self.valid = {f"r{len(self.asked)}"}
        return Issued(f"a{len(self.asked)}", f"r{len(self.asked)}", self.life_s)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def login(issuer, clock) -> Login:
    return Login(issuer, "ann", "pw", clock)


async def test_many_callers_log_in_once(login, issuer):
    tokens = await asyncio.gather(*(login.token() for _ in range(20)))
    assert {token.text for token in tokens} == {"a1"}
    assert issuer.asked == ["/auth/token"]


async def test_many_callers_whose_token_is_refused_refresh_it_once(login, issuer):
    await login.token()
    tokens = await asyncio.gather(*(login.token(refused="a1") for _ in range(20)))
    assert {token.text for token in tokens} == {"a2"}
    assert issuer.asked == ["/auth/token", "/auth/refresh"]


async def test_it_is_renewed_before_it_ends(login, issuer, clock):
    assert (await login.token()).ends_at == clock.monotonic() + 900
    clock.advance(839)
    assert (await login.token()).text == "a1"
    clock.advance(1)
    assert (await login.token()).text == "a2"


async def test_a_short_life_is_renewed_in_its_last_quarter(login, issuer, clock):
    issuer.life_s = 8.0
    await login.token()
    clock.advance(5.9)
    assert (await login.token()).text == "a1"
    clock.advance(0.2)
    assert (await login.token()).text == "a2"


@pytest.mark.parametrize("error", [NotAuthenticated("the session ended"), OutcomeUnknown("the answer was lost")])
async def test_a_refresh_that_fails_or_is_lost_becomes_a_login(login, issuer, error):
    """A second use of the refresh token would end the session."""
    await login.token()
    issuer.failures = [error]
    assert (await login.token(refused="a1")).text == "a3"
    assert issuer.asked == ["/auth/token", "/auth/refresh", "/auth/token"]


async def test_a_refresh_that_was_not_looked_at_is_tried_again(login, issuer):
    await login.token()
    issuer.failures = [Overloaded("later")]
    with pytest.raises(Overloaded):
        await login.token(refused="a1")
    await login.token(refused="a1")
    assert issuer.asked == ["/auth/token", "/auth/refresh", "/auth/refresh"]


async def test_a_wrong_password_is_the_callers_business(login, issuer):
    issuer.failures = [NotAuthenticated("wrong")]
    with pytest.raises(NotAuthenticated):
        await login.token()


async def test_a_fixed_token_is_given_until_it_is_refused():
    token = FixedToken("key")
    assert (await token.token()).renew_at is None
    with pytest.raises(NotAuthenticated):
        await token.token(refused="key")
    assert (await token.token(refused="another")).text == "key"


async def test_a_provider_is_asked_when_the_last_token_ends_or_is_refused(clock):
    given = iter(["one", "two", "two"])

    async def provide() -> str:
        return next(given)

    tokens = ProvidedTokens(provide, clock)
    assert [(await tokens.token()).text for _ in range(3)] == ["one"] * 3
    assert (await tokens.token(refused="one")).text == "two"
    with pytest.raises(NotAuthenticated):
        await tokens.token(refused="two")


async def test_a_providers_jwt_is_renewed_before_its_end(clock):
    begin = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp())
    texts = iter([_jwt(iat=begin, exp=begin + 900), _jwt(iat=begin, exp=begin + 901)])

    async def provide() -> str:
        return next(texts)

    tokens = ProvidedTokens(provide, clock)
    first = await tokens.token()
    clock.advance(840)
    assert await tokens.token() != first


@pytest.mark.parametrize("text", ["", "vck_abcdef", "a.b.c", "a.e30.c", "....", "a.\N{SNOWMAN}.c", "a.W10.c"])
def test_what_is_no_jwt_has_no_known_end(text):
    assert life_of(text) is None


def _jwt(**claims: int) -> str:
    return jwt.encode(claims, "k" * 32, algorithm="HS256")
