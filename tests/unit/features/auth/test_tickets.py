"""WebSocket tickets, and what tells that somebody who came in must leave."""

from datetime import timedelta

import jwt
import pytest

from testkit.clock import FakeClock
from vnpy_core.adapters.cache.memory import MemoryCache
from vnpy_core.domain.errors import CacheUnavailable, ConfigurationError, NotAuthenticated, Overloaded
from vnpy_core.features.auth import tokens
from vnpy_core.features.auth.service import AuthService
from vnpy_core.features.auth.tokens import AccessTokens, read_secret
from vnpy_core.ports.auth import Role

PASSWORD = "correct horse battery"
SECRET = "a secret of the tests, as long as any algorithm wants it, and then some"


class AwayCache:
    """The shared memory of used tickets, which may be away."""

    def __init__(self, clock):
        self.cache = MemoryCache(clock)
        self.is_away = False
        self.asked = []

    async def once(self, name, seconds):
        self.asked.append(name)
        if self.is_away:
            raise CacheUnavailable("Redis: away")
        return await self.cache.once(name, seconds)


@pytest.fixture
def shared(clock):
    return AwayCache(clock)


@pytest.fixture
def node(clock):
    """Another process with the same secret: `node(once, strict=True)` is an edge."""

    def make(once=None, **options):
        return AccessTokens(SECRET, clock, access=timedelta(minutes=15), once=once, **options)

    return make


@pytest.fixture
async def caller(auth):
    issued = await auth.login("admin", PASSWORD, "10.0.0.1")
    return await auth.authenticate(issued.access_token)


async def is_refused(tokens, ticket, reason=""):
    with pytest.raises(NotAuthenticated) as refused:
        await tokens.authenticate_ticket(ticket)
    assert reason in refused.value.detail
    return True


async def test_a_ticket_stands_for_who_asked_for_it_until_the_token_ends(auth, caller, clock):
    clock.advance(100)
    ticket = auth.issue_ticket(caller)
    assert ticket.expires_in == 30
    holder = await auth.authenticate_ticket(ticket.ticket)
    assert (holder.name, holder.role, holder.session_id) == (caller.name, caller.role, caller.session_id)
    assert holder.expires_at == caller.expires_at
    assert holder.token_id not in ("", caller.token_id)
    claims = jwt.decode(ticket.ticket, options={"verify_signature": False})
    assert set(claims) == {"sub", "role", "sid", "jti", "aud", "iat", "exp", "until"}
    assert (claims["aud"], claims["exp"] - claims["iat"]) == ("vnpy-core/ws", 30)


async def test_a_ticket_opens_once(auth, caller):
    first, second = auth.issue_ticket(caller).ticket, auth.issue_ticket(caller).ticket
    await auth.authenticate_ticket(first)
    assert await is_refused(auth, first, "used before")
    await auth.authenticate_ticket(second)


async def test_a_ticket_lasts_30_seconds(auth, caller, clock):
    good, late = auth.issue_ticket(caller).ticket, auth.issue_ticket(caller).ticket
    clock.advance(29)
    await auth.authenticate_ticket(good)
    clock.advance(1)
    assert await is_refused(auth, late, "expired")


async def test_a_ticket_does_not_outlive_its_token(auth, caller, clock):
    clock.advance(15 * 60 - 10)
    ticket = auth.issue_ticket(caller).ticket
    clock.advance(10)
    assert await is_refused(auth, ticket)


async def test_a_ticket_is_no_token_and_a_token_no_ticket(auth, caller):
    issued = await auth.login("admin", PASSWORD, "10.0.0.1")
    assert await is_refused(auth, issued.access_token, "not valid")
    with pytest.raises(NotAuthenticated):
        await auth.authenticate(auth.issue_ticket(caller).ticket)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"aud": "vnpy-core"}, id="another audience"),
        pytest.param({"aud": ["vnpy-core/ws"]}, id="a list of audiences"),
        pytest.param({"until": None}, id="no end"),
        pytest.param({"jti": None}, id="no id"),
        pytest.param({"role": "root"}, id="unknown role"),
        pytest.param({"iat": 1}, id="an old one made to last"),
    ],
)
async def test_a_forged_ticket_is_refused(auth, caller, clock, changes):
    claims = jwt.decode(auth.issue_ticket(caller).ticket, options={"verify_signature": False})
    assert (await auth.authenticate_ticket(jwt.encode(claims, SECRET, "HS256"))).name == "admin"
    claims["jti"] = "fresh"
    wrong = {name: value for name, value in (claims | changes).items() if value is not None}
    assert await is_refused(auth, jwt.encode(wrong, SECRET, "HS256"))
    assert await is_refused(auth, jwt.encode(claims, SECRET[::-1], "HS256"))
    for text in ("", "..", "x" * 100_000, "é"):
        assert await is_refused(auth, text)


async def test_a_logout_ends_tickets_and_those_who_came_in_by_them(auth, caller):
    waiting = auth.issue_ticket(caller).ticket
    holder = await auth.authenticate_ticket(auth.issue_ticket(caller).ticket)
    other = await auth.authenticate((await auth.login("admin", PASSWORD, "10.0.0.1")).access_token)
    assert auth.still_valid(holder)
    await auth.logout(caller)
    assert not auth.still_valid(holder)
    assert await is_refused(auth, waiting, "ended")
    assert auth.still_valid(other)


async def test_who_came_in_must_leave_when_the_token_ends(auth, caller, clock):
    clock.advance(60)
    holder = await auth.authenticate_ticket(auth.issue_ticket(caller).ticket)
    clock.advance(14 * 60 - 1)
    assert auth.still_valid(holder)
    clock.advance(1)
    assert not auth.still_valid(holder)


# One use among several processes


async def test_a_ticket_opens_once_among_all_that_share_the_memory(node, shared, caller):
    core, edge = node(shared.once), node(shared.once, strict=True)
    ticket = core.issue_ticket(caller).ticket
    await edge.authenticate_ticket(ticket)
    assert await is_refused(core, ticket, "used before")
    assert shared.asked[0].startswith("ws-ticket:")


async def test_while_the_shared_memory_is_away_a_core_goes_by_its_own_and_an_edge_takes_none(node, shared, caller):
    core, edge = node(shared.once), node(shared.once, strict=True)
    used, first, second = (core.issue_ticket(caller).ticket for _ in range(3))
    await core.authenticate_ticket(used)
    shared.is_away = True
    assert await is_refused(core, used, "used before")  # what it took before, too
    await core.authenticate_ticket(first)
    assert await is_refused(core, first, "used before")
    with pytest.raises(Overloaded):
        await edge.authenticate_ticket(second)
    shared.is_away = False
    assert await is_refused(core, first, "used before")  # and after


async def test_a_forged_ticket_asks_nobody(node, shared, caller, clock):
    core = node(shared.once)
    ticket = core.issue_ticket(caller).ticket
    clock.advance(30)
    assert await is_refused(core, ticket, "expired")
    assert await is_refused(core, "x")
    assert shared.asked == []


async def test_the_own_memory_is_bounded_and_forgets(node, caller, clock, monkeypatch):
    monkeypatch.setattr(tokens, "MOST_REMEMBERED", 3)
    core = node()
    for _ in range(3):
        await core.authenticate_ticket(core.issue_ticket(caller).ticket)
    with pytest.raises(Overloaded):
        await core.authenticate_ticket(core.issue_ticket(caller).ticket)
    clock.advance(tokens.REMEMBERED_S)
    await core.authenticate_ticket(core.issue_ticket(caller).ticket)


# Sessions that end, for edges


@pytest.fixture
def ended():
    return {}


@pytest.fixture
def telling(store, hasher, clock, ended):
    auth = AuthService(
        store, hasher, clock, secret=SECRET, access=timedelta(minutes=15), refresh=timedelta(days=14),
        on_ended=ended.__setitem__,
    )  # fmt: skip
    auth.bootstrap(PASSWORD)
    return auth


async def test_whoever_wants_to_know_hears_of_a_logout_and_of_a_token_that_was_copied(telling, ended, clock):
    first = await telling.login("admin", PASSWORD, "10.0.0.1")
    caller = await telling.authenticate(first.access_token)
    await telling.logout(caller)
    assert ended == {caller.session_id: clock.now() + timedelta(minutes=15)}

    second = await telling.login("admin", PASSWORD, "10.0.0.1")
    copied = await telling.authenticate(second.access_token)
    await telling.refresh(second.refresh_token)
    with pytest.raises(NotAuthenticated):
        await telling.refresh(second.refresh_token)
    assert set(ended) == {caller.session_id, copied.session_id}
    assert telling.ended_sessions() == ended
    clock.advance(15 * 60)
    assert telling.ended_sessions() == {}


async def test_a_new_password_ends_sessions_that_are_listed_at_the_start(auth, make_auth):
    caller = await auth.authenticate((await auth.login("admin", PASSWORD, "10.0.0.1")).access_token)
    again = make_auth()
    again.bootstrap("another good password")
    assert set(again.ended_sessions()) == {caller.session_id}


async def test_a_session_that_ends_while_the_disk_is_full_is_told_all_the_same(telling, ended, store, monkeypatch):
    caller = await telling.authenticate((await telling.login("admin", PASSWORD, "10.0.0.1")).access_token)

    def full(*args):
        raise OSError("full")

    monkeypatch.setattr(store, "end_session", full)
    with pytest.raises(OSError, match="full"):
        await telling.logout(caller)
    assert set(ended) == {caller.session_id}
    assert not telling.still_valid(caller)


async def test_an_edge_refuses_the_sessions_it_was_told_of(node, auth, caller, ended):
    edge = node(is_ended=ended.__contains__)
    ticket = auth.issue_ticket(caller).ticket
    holder = await edge.authenticate_ticket(ticket)
    ended[caller.session_id] = None
    assert not edge.still_valid(holder)
    assert await is_refused(edge, auth.issue_ticket(caller).ticket, "ended")


async def test_roles_travel_in_tickets(node):
    core = node()
    viewer = await core.authenticate(core.issue("ann", Role.VIEWER, "s"))
    assert (await core.authenticate_ticket(core.issue_ticket(viewer).ticket)).role is Role.VIEWER


# The secret of an edge


def test_an_edge_reads_the_secret_and_never_makes_one(tmp_path):
    path = tmp_path / "secrets" / "jwt_secret"
    with pytest.raises(ConfigurationError, match="copy the core's"):
        read_secret(path)
    assert not path.parent.exists()
    path.parent.mkdir()
    path.write_text(f"{SECRET}\n")
    assert read_secret(path) == SECRET
    assert read_secret(path, SECRET[::-1]) == SECRET[::-1]


def test_a_secret_that_is_too_short_is_refused(tmp_path):
    (tmp_path / "short").write_text("x" * 31)
    with pytest.raises(ConfigurationError, match="32 bytes"):
        read_secret(tmp_path / "short")
    with pytest.raises(ConfigurationError, match=r"edge\.jwt_secret"):
        read_secret(tmp_path / "none", "x" * 31)
    with pytest.raises(ConfigurationError):
        read_secret(tmp_path)
    with pytest.raises(ConfigurationError):
        AccessTokens("x" * 31, FakeClock(), access=timedelta(minutes=15))
