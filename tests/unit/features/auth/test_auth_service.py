import asyncio
import base64
import json
import stat
from datetime import UTC, timedelta

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pwdlib import PasswordHash

from testkit.clock import FakeClock
from vnpy_core.adapters.credentials.sqlite import SqliteCredentials
from vnpy_core.domain.errors import ConfigurationError, NotAuthenticated, Overloaded, RateLimited
from vnpy_core.features.auth.service import LOGINS_WAITING, jwt_secret
from vnpy_core.ports.auth import Role
from vnpy_core.ports.credentials import User

PASSWORD = "correct horse battery"
SECRET = "a secret of the tests, as long as any algorithm wants it, and then some"


async def log_in(auth, name="admin", password=PASSWORD, address="10.0.0.1"):
    return await auth.login(name, password, address)


async def is_refused(auth, token):
    with pytest.raises(NotAuthenticated):
        await auth.authenticate(token)
    return True


# Logging in


async def test_a_login_gives_an_access_token_of_15_minutes(auth, clock):
    tokens = await log_in(auth)
    assert (tokens.token_type, tokens.expires_in) == ("bearer", 900)
    principal = await auth.authenticate(tokens.access_token)
    assert (principal.name, principal.role) == ("admin", Role.ADMIN)
    assert principal.expires_at == clock.now() + timedelta(minutes=15)
    assert principal.expires_at.tzinfo is UTC
    clock.advance(14 * 60 + 59)
    await auth.authenticate(tokens.access_token)
    clock.advance(1)
    assert await is_refused(auth, tokens.access_token)


async def test_a_token_has_the_claims_that_others_check(auth, clock):
    first, second = await log_in(auth), await log_in(auth)
    header = jwt.get_unverified_header(first.access_token)
    claims = jwt.decode(first.access_token, options={"verify_signature": False})
    other = jwt.decode(second.access_token, options={"verify_signature": False})
    assert header == {"alg": "HS256", "typ": "JWT"}
    assert set(claims) == {"sub", "role", "sid", "jti", "aud", "iat", "exp"}
    assert (claims["sub"], claims["role"], claims["aud"]) == ("admin", "admin", "vnpy-core")
    assert claims["exp"] - claims["iat"] == 900
    assert claims["jti"] != other["jti"]
    assert claims["sid"] != other["sid"]
    assert (await auth.authenticate(first.access_token)).token_id == claims["jti"]


@pytest.mark.parametrize(
    ("name", "password"), [("admin", "wrong password!"), ("nobody", PASSWORD), ("", ""), ("ADMIN", PASSWORD)]
)
async def test_a_wrong_name_and_a_wrong_password_look_alike(auth, hasher, name, password):
    await log_in(auth)
    hasher.verified.clear()
    hashed = hasher.hashed
    with pytest.raises(NotAuthenticated) as refused:
        await log_in(auth, name, password)
    assert refused.value.detail == "the name or the password is wrong"
    assert refused.value.extra == {}
    # The same work, so the same time: one hash is verified and none is made.
    assert len(hasher.verified) == 1
    assert hasher.hashed == hashed


async def test_even_the_first_login_of_a_process_costs_the_same(make_auth, hasher):
    make_auth().bootstrap(PASSWORD)
    work = []
    for name in ("admin", "nobody"):
        auth = make_auth()
        before = hasher.hashed, len(hasher.verified)
        with pytest.raises(NotAuthenticated):
            await log_in(auth, name, "wrong password!")
        work.append((hasher.hashed - before[0], len(hasher.verified) - before[1]))
    assert work[0] == work[1]


async def test_passwords_are_kept_as_argon2id(store, make_auth, clock):
    auth = make_auth()
    auth._hasher = PasswordHash.recommended()
    auth.bootstrap(PASSWORD)
    assert store.user("admin").password_hash.startswith("$argon2id$")
    assert (await log_in(auth)).token_type == "bearer"


async def test_hashing_leaves_the_loop_free(auth, hasher):
    import threading

    threads = []
    verify = hasher.verify
    hasher.verify = lambda *args: (threads.append(threading.current_thread()), verify(*args))[1]
    await log_in(auth)
    assert threads[0] is not threading.main_thread()


# Guessing


async def fail(auth, times, name="admin", address="10.0.0.1"):
    for _ in range(times):
        with pytest.raises(NotAuthenticated):
            await log_in(auth, name, "wrong password!", address)


async def test_after_five_failures_the_next_attempt_waits_longer_and_longer(auth, clock, hasher):
    await fail(auth, 5)
    waits = []
    for _ in range(12):
        verified = len(hasher.verified)
        with pytest.raises(RateLimited) as limited:
            await log_in(auth)  # even the right password
        assert len(hasher.verified) == verified
        waits.append(limited.value.extra["retry_after"])
        clock.advance(waits[-1])
        await fail(auth, 1)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


async def test_a_login_works_again_after_the_wait(auth, clock):
    await fail(auth, 5)
    clock.advance(1)
    await log_in(auth)
    with pytest.raises(NotAuthenticated):
        await log_in(auth, password="wrong password!", address="10.0.0.9")  # the account starts anew


async def test_an_address_that_guesses_names_waits_too(auth):
    for number in range(5):
        await fail(auth, 1, name=f"user{number}")
    with pytest.raises(RateLimited):
        await log_in(auth)
    await log_in(auth, address="10.0.0.2")


async def test_an_account_waits_whatever_the_address(auth):
    for number in range(5):
        await fail(auth, 1, address=f"10.0.1.{number}")
    with pytest.raises(RateLimited):
        await log_in(auth, address="10.0.2.1")


async def test_strangers_hold_up_an_account_for_a_minute_at_most(auth, clock):
    for number in range(30):
        await fail(auth, 1, address=f"10.0.1.{number}")
        clock.advance(60)
    await log_in(auth, address="10.0.2.1")


async def test_names_that_do_not_exist_wait_like_those_that_do(auth):
    for number in range(5):
        await fail(auth, 1, name="nobody", address=f"10.0.1.{number}")
    with pytest.raises(RateLimited):
        await log_in(auth, "nobody", address="10.0.2.1")


async def test_a_right_password_does_not_clear_the_address(auth, store):
    store.put_user(User(name="mallory", role=Role.VIEWER, password_hash="hashed:mallorys own one"))
    for number in range(5):
        await fail(auth, 1, name=f"user{number}")
        if number < 4:
            await log_in(auth, "mallory", "mallorys own one")
    with pytest.raises(RateLimited):
        await log_in(auth, "mallory", "mallorys own one")


async def test_parallel_guesses_are_counted_too(auth, hasher):
    outcomes = await asyncio.gather(
        *(log_in(auth, password=f"guess number {number}") for number in range(20)), return_exceptions=True
    )
    kinds = [type(outcome) for outcome in outcomes]
    assert (kinds.count(NotAuthenticated), kinds.count(RateLimited)) == (5, 15)


async def test_a_flood_of_logins_is_turned_away(auth, hasher):
    outcomes = await asyncio.gather(
        *(log_in(auth, f"user{number}", address=f"10.1.0.{number}") for number in range(LOGINS_WAITING + 10)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Overloaded) for outcome in outcomes) == 10
    await log_in(auth)


async def test_a_valid_session_is_not_held_up_by_guesses(auth):
    tokens = await log_in(auth)
    await fail(auth, 5)
    assert (await auth.authenticate(tokens.access_token)).name == "admin"
    assert await auth.refresh(tokens.refresh_token)


# Tokens that are not ours


NOW = int(FakeClock().now().timestamp())


def forged(secret=SECRET, algorithm="HS256", **changes):
    claims = {
        "sub": "admin",
        "role": "admin",
        "sid": "s",
        "jti": "j",
        "aud": "vnpy-core",
        "iat": NOW,
        "exp": NOW + 900,
    }
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode(claims, secret, algorithm)


def unsigned(header, claims):
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, claims))
    return ".".join([*parts, ""])


async def test_the_forgers_tool_makes_good_tokens_when_it_has_the_secret(auth):
    assert (await auth.authenticate(forged())).name == "admin"


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(forged(secret=SECRET[::-1]), id="another secret"),
        pytest.param(forged(algorithm="HS512"), id="another algorithm"),
        pytest.param(unsigned({"alg": "none"}, {"sub": "admin", "role": "admin"}), id="no algorithm"),
        pytest.param(unsigned({"alg": "None", "typ": "JWT"}, {"sub": "admin"}), id="no algorithm, spelled otherwise"),
        pytest.param(forged(aud="another-service"), id="another audience"),
        pytest.param(forged(aud=["vnpy-core"]), id="a list of audiences"),
        pytest.param(forged(aud=None), id="no audience"),
        pytest.param(forged(exp=1), id="expired"),
        pytest.param(forged(exp=None), id="no expiry"),
        pytest.param(forged(exp="later"), id="expiry is no number"),
        pytest.param(forged(exp=1e300), id="expiry is no whole number"),
        pytest.param(forged(jti=None), id="no id"),
        pytest.param(forged(iat=None), id="no time of issue"),
        pytest.param(forged(sid=None), id="no session"),
        pytest.param(forged(role=None), id="no role"),
        pytest.param(forged(role="root"), id="unknown role"),
        pytest.param(forged()[:-2], id="cut"),
        pytest.param("", id="empty"),
        pytest.param("..", id="dots"),
        pytest.param("é.ü.ß", id="not ascii"),
        pytest.param("\ud800", id="not even text"),
        pytest.param("x" * 1_000_000, id="a megabyte"),
        pytest.param(base64.urlsafe_b64encode(b"[" * 3_000).decode() + ".e30.x", id="a nested header"),
        pytest.param(unsigned({"alg": ["HS256"]}, {}), id="a list of algorithms"),
        pytest.param(unsigned({"alg": "HS256", "kid": 1}, {}), id="a key id that is no text"),
        pytest.param(unsigned({"alg": "HS256", "crit": ["exp"]}, {}), id="critical extensions"),
        pytest.param(unsigned([], {}), id="a header that is a list"),
    ],
)
async def test_other_tokens_are_refused(auth, token):
    assert await is_refused(auth, token)


async def test_a_changed_claim_breaks_the_signature(auth):
    head, _, signature = forged(role="viewer").split(".")
    body = forged(role="admin").split(".")[1]
    assert await is_refused(auth, ".".join([head, body, signature]))


@pytest.mark.parametrize("changes", [{"iat": 1}, {"iat": NOW - 900}, {"iat": NOW - 900, "exp": NOW + 86_400}])
async def test_a_token_lives_no_longer_than_tokens_do_now(auth, changes):
    assert await is_refused(auth, forged(**changes))


@pytest.mark.parametrize("iat", [10**15, -(10**15), 253_402_300_799])
async def test_a_time_of_issue_beyond_all_time_is_refused(auth, iat):
    assert await is_refused(auth, forged(iat=iat))


async def test_an_expiry_beyond_all_time_is_refused(auth):
    assert await is_refused(auth, forged(exp=10**15))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.text(max_size=50),
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner)
    ),
)
async def test_no_token_breaks_the_service(auth, text, part):
    for token in (text, f"{text}.{text}.{text}", unsigned(part, part), unsigned({"alg": "HS256", "x": part}, part)):
        assert await is_refused(auth, token)


# Renewing


async def test_a_refresh_token_gives_new_tokens_of_the_same_session(auth, clock):
    first = await log_in(auth)
    clock.advance(3_600)
    second = await auth.refresh(first.refresh_token)
    assert second.refresh_token != first.refresh_token
    old, new = (jwt.decode(tokens.access_token, options={"verify_signature": False}) for tokens in (first, second))
    assert old["sid"] == new["sid"]
    assert (await auth.authenticate(second.access_token)).name == "admin"
    assert await auth.refresh(second.refresh_token)


async def test_using_a_refresh_token_again_ends_its_session(auth):
    stolen = await log_in(auth)
    other = await log_in(auth)
    thiefs = await auth.refresh(stolen.refresh_token)
    with pytest.raises(NotAuthenticated, match="used before"):
        await auth.refresh(stolen.refresh_token)
    for tokens in (stolen, thiefs):
        assert await is_refused(auth, tokens.access_token)
        with pytest.raises(NotAuthenticated):
            await auth.refresh(tokens.refresh_token)
    assert await auth.authenticate(other.access_token)
    assert await auth.refresh(other.refresh_token)


async def test_two_at_once_are_a_reuse(auth):
    tokens = await log_in(auth)
    outcomes = await asyncio.gather(*(auth.refresh(tokens.refresh_token) for _ in range(2)), return_exceptions=True)
    assert sum(isinstance(outcome, NotAuthenticated) for outcome in outcomes) >= 1
    for outcome in outcomes:
        if not isinstance(outcome, Exception):
            assert await is_refused(auth, outcome.access_token)


async def test_a_refresh_token_ends_after_14_days_without_use(auth, clock):
    tokens = await log_in(auth)
    clock.advance(14 * 86_400 - 1)
    tokens = await auth.refresh(tokens.refresh_token)
    clock.advance(14 * 86_400)
    with pytest.raises(NotAuthenticated):
        await auth.refresh(tokens.refresh_token)


@pytest.mark.parametrize("token", ["", "x", "é", "x" * 500])
async def test_other_refresh_tokens_are_refused(auth, token):
    with pytest.raises(NotAuthenticated):
        await auth.refresh(token)


async def test_an_access_token_is_no_refresh_token_and_the_other_way_round(auth):
    tokens = await log_in(auth)
    assert await is_refused(auth, tokens.refresh_token)
    with pytest.raises(NotAuthenticated):
        await auth.refresh(tokens.access_token)


async def test_refresh_tokens_have_256_bits_and_are_kept_hashed(auth, path):
    tokens = await log_in(auth)
    assert len(base64.urlsafe_b64decode(tokens.refresh_token + "=")) == 32
    kept = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert tokens.refresh_token.encode() not in kept
    assert tokens.access_token.encode() not in kept


async def test_a_new_role_shows_at_the_next_renewal(auth, store):
    tokens = await log_in(auth)
    store.put_user(User(name="admin", role=Role.VIEWER, password_hash="x"))
    renewed = await auth.refresh(tokens.refresh_token)
    assert (await auth.authenticate(renewed.access_token)).role is Role.VIEWER


# Logging out


async def test_logging_out_ends_the_session_and_no_other(auth):
    tokens, other = await log_in(auth), await log_in(auth)
    renewed = await auth.refresh(tokens.refresh_token)
    await auth.logout(await auth.authenticate(tokens.access_token))
    for ended in (tokens, renewed):
        assert await is_refused(auth, ended.access_token)
        with pytest.raises(NotAuthenticated):
            await auth.refresh(ended.refresh_token)
    assert await auth.authenticate(other.access_token)


async def test_sessions_and_their_ends_outlive_a_restart(auth, make_auth, path, clock):
    ended, kept = await log_in(auth), await log_in(auth)
    await auth.logout(await auth.authenticate(ended.access_token))
    store = SqliteCredentials(path)
    again = make_auth(store)
    assert again.bootstrap(PASSWORD) is None
    assert await is_refused(again, ended.access_token)
    assert await again.authenticate(kept.access_token)
    assert await again.refresh(kept.refresh_token)
    store.close()


async def test_ended_sessions_are_forgotten_with_their_last_token(auth, store, clock):
    for _ in range(3):
        await auth.logout(await auth.authenticate((await log_in(auth)).access_token))
    assert len(auth._ended) == len(store.ended_sessions()) == 3
    clock.advance(15 * 60)
    await auth.logout(await auth.authenticate((await log_in(auth)).access_token))
    assert len(auth._ended) == len(store.ended_sessions()) == 1


async def test_an_ended_session_does_not_come_back_after_the_lifetime_was_shortened(make_auth, clock):
    auth = make_auth(access_minutes=24 * 60)
    auth.bootstrap(PASSWORD)
    tokens, other = await log_in(auth), await log_in(auth)
    auth = make_auth(access_minutes=15)
    await auth.logout(await auth.authenticate(tokens.access_token))
    clock.advance(16 * 60)
    await log_in(auth)
    auth = make_auth(access_minutes=15)
    assert auth._ended == {}
    assert await is_refused(auth, tokens.access_token)
    assert await is_refused(auth, other.access_token)


async def test_expired_tokens_are_dropped_from_the_store(auth, store, clock):
    await log_in(auth)
    clock.advance(15 * 86_400)
    await log_in(auth)
    assert store._connection.execute("select count(*) from refresh_tokens").fetchone() == (1,)


# The first start


async def test_the_first_start_makes_a_random_password_once(make_auth):
    made = make_auth().bootstrap(None)
    assert len(made) == 24
    again = make_auth()
    assert again.bootstrap(None) is None
    assert await log_in(again, password=made)


async def test_two_installations_have_two_passwords(make_auth, tmp_path):
    stores = [SqliteCredentials(tmp_path / name / "c.sqlite") for name in "ab"]
    assert len({make_auth(store).bootstrap(None) for store in stores}) == 2
    for store in stores:
        store.close()


async def test_a_chosen_password_replaces_the_old_one_and_ends_its_sessions(auth, make_auth):
    before = await log_in(auth)
    again = make_auth()
    assert again.bootstrap("another battery staple") is None
    assert await is_refused(again, before.access_token)
    with pytest.raises(NotAuthenticated):
        await again.refresh(before.refresh_token)
    with pytest.raises(NotAuthenticated):
        await log_in(again)
    assert await log_in(again, password="another battery staple")


async def test_the_same_chosen_password_changes_nothing(auth, make_auth, hasher):
    before = await log_in(auth)
    hashed = hasher.hashed
    again = make_auth()
    assert again.bootstrap(PASSWORD) is None
    assert hasher.hashed == hashed
    assert await again.authenticate(before.access_token)


async def test_a_password_that_is_no_longer_chosen_stays(auth, make_auth):
    again = make_auth()
    assert again.bootstrap(None) is None
    assert await log_in(again)


@pytest.mark.parametrize("weak", ["", "x", "eleven char"])
def test_a_short_password_is_refused(make_auth, store, weak):
    with pytest.raises(ConfigurationError, match="12 characters"):
        make_auth().bootstrap(weak)
    assert store.user("admin") is None


def test_a_short_secret_is_refused(make_auth):
    with pytest.raises(ConfigurationError, match="32 bytes"):
        make_auth(secret="x" * 31)


def test_the_secret_is_made_once_and_for_its_owner_only(tmp_path):
    path = tmp_path / "secrets" / "jwt_secret"
    secret = jwt_secret(path)
    assert len(bytes.fromhex(secret)) == 32
    assert jwt_secret(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert jwt_secret(tmp_path / "other") != secret


@pytest.mark.parametrize("content", [b"", b"short\n", b"x" * 31 + b"\n", b"\xff" * 40])
def test_a_secret_file_that_is_no_good_is_refused(tmp_path, content):
    path = tmp_path / "jwt_secret"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="jwt_secret"):
        jwt_secret(path)
