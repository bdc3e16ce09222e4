"""Renewals and logouts that meet: whatever the order, nobody ends up with more than one login gave."""

import asyncio

import pytest

from vnpy_core.domain.errors import NotAuthenticated

PASSWORD = "correct horse battery"


async def outcomes(calls):
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_of_many_renewals_at_once_one_wins_and_the_session_ends(auth):
    first = await auth.login("admin", PASSWORD, "10.0.0.1")
    other = await auth.login("admin", PASSWORD, "10.0.0.1")
    results = await outcomes(auth.refresh(first.refresh_token) for _ in range(20))
    won = [result for result in results if not isinstance(result, NotAuthenticated)]
    assert len(won) <= 1  # none where the reuse was noticed before the winner's answer
    for tokens in (first, *won):
        with pytest.raises(NotAuthenticated):
            await auth.authenticate(tokens.access_token)
        with pytest.raises(NotAuthenticated):
            await auth.refresh(tokens.refresh_token)
    assert (await auth.authenticate(other.access_token)).name == "admin"


async def test_renewals_of_different_sessions_do_not_disturb_each_other(auth):
    sessions = [await auth.login("admin", PASSWORD, "10.0.0.1") for _ in range(8)]
    renewed = await asyncio.gather(*(auth.refresh(one.refresh_token) for one in sessions))
    assert len({tokens.refresh_token for tokens in renewed}) == 8
    for tokens in renewed:
        await auth.authenticate(tokens.access_token)


@pytest.mark.parametrize("head_start", range(4))
async def test_a_logout_that_meets_a_renewal_ends_what_comes_of_it(auth, head_start):
    tokens = await auth.login("admin", PASSWORD, "10.0.0.1")
    caller = await auth.authenticate(tokens.access_token)
    renewal = asyncio.create_task(auth.refresh(tokens.refresh_token))
    for _ in range(head_start):
        await asyncio.sleep(0.001)
    await auth.logout(caller)
    (result,) = await outcomes([renewal])
    if isinstance(result, NotAuthenticated):
        return
    with pytest.raises(NotAuthenticated):
        await auth.authenticate(result.access_token)
    with pytest.raises(NotAuthenticated):
        await auth.refresh(result.refresh_token)
