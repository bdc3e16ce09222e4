"""Who may trade an account, with time that the test moves."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.leases import LEASE_S, Core, SharedRegistry, Timeline
from vnpy_core.domain.enums import GatewayState
from vnpy_core.domain.errors import GatewayNotConnected


class World:
    def __init__(self):
        self.time = Timeline()
        self.registry = SharedRegistry(self.time.clock)
        self.cores = []

    def core(self, owner) -> Core:
        self.cores.append(core := Core(self.registry, self.time, owner))
        return core

    async def two(self):
        """Core a trades the account, core b stands by."""
        a, b = self.core("a"), self.core("b")
        await a.connect()
        await b.connect()
        assert (a.may_trade, b.may_trade) == (True, False)
        return a, b

    async def close(self):
        for core in self.cores:
            core.go_on()
            with suppress(asyncio.CancelledError):
                await core.leases.close()


@pytest.fixture
async def world():
    world = World()
    yield world
    await world.close()


# Deciding


async def test_the_first_core_trades_an_account_and_the_others_say_who_does(world):
    a, b = await world.two()
    await world.time.pass_time(5 * LEASE_S)
    assert (a.may_trade, b.may_trade) == (True, False)
    refusal = b.refusal()
    assert refusal.extra == {"scope": "gateway", "by": "a"}
    assert refusal.detail == "another core, a, trades account venue:Gateway:1"
    assert b.leases.problem == refusal.detail
    assert a.leases.problem == ""
    assert b.leases.holders() == {"account:venue:Gateway:1": "a"}


async def test_nothing_passes_before_the_registry_was_asked(world):
    a = world.core("a")
    assert "shown no account" in a.refusal().detail
    a.account("P", "1")
    assert "not decided" in a.refusal().detail
    await world.time.settle()
    assert a.may_trade


async def test_an_account_that_nobody_else_can_reach_needs_no_lease(world):
    a, b = world.core("a"), world.core("b")
    for core in (a, b):
        await core.connect("PAPER")
        assert core.refusal("PAPER") is None
        assert core.leases.holders() == {}


async def test_two_accounts_are_two_leases(world):
    a, b = world.core("a"), world.core("b")
    await a.connect("P", "1")
    await b.connect("P", "2")
    assert a.may_trade
    assert b.may_trade


async def test_a_gateway_with_several_accounts_needs_them_all(world):
    a, b = world.core("a"), world.core("b")
    await a.connect("P", "2")
    await b.connect("P", "1", "2", "3")
    assert b.refusal().extra["by"] == "a"


async def test_a_core_that_was_killed_and_comes_back_trades_at_once(world):
    a, b = await world.two()
    await a.kill()
    again = world.core("a")
    await again.connect()
    assert again.may_trade
    assert again.reconciled == []  # its connect did
    assert not b.may_trade


# Taking over


async def test_the_account_of_a_core_that_was_killed_is_reconciled_and_then_traded_by_the_other(world):
    a, b = await world.two()
    await a.kill()
    b.reconciling.clear()
    await world.time.pass_time(LEASE_S + LEASE_S / 3)
    refusal = b.refusal()
    assert "came back" in refusal.detail
    assert b.leases.problem == "the account of gateway P came back and is being reconciled"
    await world.time.pass_time(LEASE_S)
    assert not b.may_trade  # the comparison is under way
    b.reconciling.set()
    await world.time.settle()
    assert b.reconciled == ["P"]
    assert b.may_trade
    assert b.leases.problem == ""


async def test_a_clean_stop_gives_the_account_back(world):
    a, b = await world.two()
    await a.leases.close()
    await world.time.pass_time(LEASE_S / 3)
    assert b.leases.holders() == {"account:venue:Gateway:1": "b"}
    await world.time.pass_time(LEASE_S)
    assert b.may_trade


async def test_a_core_that_stood_still_refuses_before_it_has_looked_again(world):
    a, b = await world.two()
    a.stand_still()
    await world.time.pass_time(3 * LEASE_S)
    assert b.may_trade
    assert "not decided" in a.refusal().detail  # its next order comes before its next look
    a.go_on()
    await world.time.settle()
    assert a.refusal().extra["by"] == "b"
    assert b.may_trade


async def test_what_another_had_while_we_stood_still_is_reconciled(world):
    a, b = await world.two()
    a.stand_still()
    await world.time.pass_time(3 * LEASE_S)
    assert b.may_trade
    await b.leases.close()
    a.go_on()
    await world.time.settle()
    assert "came back" in a.refusal().detail
    await world.time.pass_time(LEASE_S)
    assert a.reconciled == ["P"]
    assert a.may_trade


async def test_a_short_stop_changes_nothing(world):
    a, _ = await world.two()
    a.stand_still()
    await world.time.pass_time(LEASE_S / 2)
    a.go_on()
    await world.time.settle()
    assert a.may_trade
    assert a.reconciled == []


async def test_an_account_that_is_lost_again_while_it_is_reconciled_stays_closed(world):
    a, b = await world.two()
    await a.kill()
    b.reconciling.clear()
    await world.time.pass_time(3 * LEASE_S)
    world.registry.flush()
    c = world.core("c")
    await c.connect()
    await world.time.pass_time(LEASE_S / 3)
    assert b.refusal().extra["by"] == "c"
    await c.leases.close()
    await world.time.pass_time(LEASE_S / 3)
    b.reconciling.set()
    await world.time.settle()
    assert b.reconciled == ["P"]  # what it saw is of before c
    assert "came back" in b.refusal().detail
    await world.time.pass_time(LEASE_S)
    assert b.reconciled == ["P", "P"]
    assert b.may_trade


async def test_a_comparison_that_fails_leaves_the_gateway_to_the_gates_own_reconciliation(world):
    a, b = await world.two()
    b.error = GatewayNotConnected("lost")
    await a.kill()
    await world.time.pass_time(3 * LEASE_S)
    assert b.reconciled == ["P"]
    assert b.may_trade


async def test_a_comparison_that_raises_what_nobody_expects_does_not_close_the_gateway_for_ever(world):
    a, b = await world.two()
    b.error = RuntimeError("a bug of a gateway")
    await a.kill()
    await world.time.pass_time(3 * LEASE_S)
    assert b.reconciled == ["P"]
    assert b.may_trade


# Without the registry


async def test_without_the_registry_trading_goes_on_and_says_so(world):
    a, b = await world.two()
    world.registry.is_away = True
    await world.time.pass_time(6 * LEASE_S)
    assert a.may_trade
    assert a.leases.problem == "trading goes on without account leases: Redis: away"
    assert b.refusal().extra["by"] == "a"  # which goes on, too
    world.registry.is_away = False
    await world.time.pass_time(LEASE_S)
    assert (a.may_trade, b.may_trade, a.reconciled) == (True, False, [])
    assert a.leases.problem == ""


async def test_a_start_without_the_registry_may_trade(world):
    world.registry.is_away = True
    a = world.core("a")
    await a.connect()
    assert a.may_trade
    assert "without account leases" in a.leases.problem


async def test_who_finds_another_when_the_registry_is_back_refuses(world):
    a, b = world.core("a"), world.core("b")
    world.registry.is_away = True
    await a.connect()
    await b.connect()
    assert a.may_trade
    assert b.may_trade  # the price of going on without the registry
    world.registry.is_away = False
    await world.time.pass_time(LEASE_S)
    assert sorted((a.may_trade, b.may_trade)) == [False, True]


async def test_a_core_that_stood_still_without_the_registry_looks_first(world):
    a, _ = await world.two()
    world.registry.is_away = True
    await world.time.pass_time(LEASE_S)
    assert a.may_trade
    a.stand_still()
    await world.time.pass_time(2 * LEASE_S)
    assert "not decided" in a.refusal().detail
    a.go_on()
    await world.time.settle()
    assert a.may_trade


async def test_a_driver_that_fails_in_a_way_of_its_own_does_not_stop_trading(world, monkeypatch):
    a, _ = await world.two()

    async def broken(*args):
        raise ZeroDivisionError("of a driver")

    monkeypatch.setattr(world.registry, "hold", broken)
    await world.time.pass_time(3 * LEASE_S)
    assert a.may_trade
    assert "ZeroDivisionError" in a.leases.problem
    monkeypatch.undo()
    await world.time.pass_time(LEASE_S)
    assert a.may_trade
    assert a.leases.problem == ""


async def test_closing_without_the_registry_ends(world):
    a, _ = await world.two()
    world.registry.is_away = True
    await a.leases.close()


# A registry that lost everything


async def test_after_a_flush_whoever_comes_first_has_it_and_never_both(world):
    a, b = await world.two()
    world.registry.flush()
    c = world.core("b")  # its next look comes first
    b.stand_still()
    await c.connect()
    assert c.may_trade  # it never knew of a: both, until a looks again
    await world.time.pass_time(LEASE_S / 3)
    assert (a.may_trade, c.may_trade) == (False, True)


STEPS = ["pass", "pass long", "flush", "stop a", "stop b", "go a", "go b"]


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=5, max_size=40))
def test_two_cores_that_know_of_each_other_never_trade_at_once(steps):
    """Whatever stands still and whatever is lost, while the registry answers."""

    async def play():
        world = World()
        a, b = await world.two()
        named = {"a": a, "b": b}
        for step in steps:
            what, _, who = step.partition(" ")
            match what:
                case "flush":
                    world.registry.flush()
                case "stop":
                    named[who].stand_still()
                case "go":
                    named[who].go_on()
                case _:
                    for _ in range(40 if who else 3):
                        await world.time.pass_time(0.5)
                        running = [core for core in (a, b) if not core.stands_still]
                        assert sum(core.may_trade for core in running) <= 1
            running = [core for core in (a, b) if not core.stands_still]
            assert sum(core.may_trade for core in running) <= 1
        a.go_on()
        b.go_on()
        await world.time.pass_time(4 * LEASE_S)
        assert sorted((a.may_trade, b.may_trade)) == [False, True]
        await world.close()

    asyncio.run(play())


# Connections


async def test_the_account_of_a_gateway_that_was_disconnected_is_free_a_lease_later(world):
    a, b = await world.two()
    a.gateway("P", GatewayState.DISCONNECTED)
    await world.time.pass_time(3 * LEASE_S)
    assert b.may_trade
    assert a.leases.holders() == {}
    await a.connect()
    assert a.refusal().extra["by"] == "b"


async def test_a_connection_that_is_lost_for_a_moment_loses_nothing(world):
    a, b = await world.two()
    a.gateway("P", GatewayState.DISCONNECTED)
    await world.time.pass_time(LEASE_S / 2)
    a.gateway("P", GatewayState.CONNECTED)
    await world.time.pass_time(2 * LEASE_S)
    assert (a.may_trade, b.may_trade, a.reconciled) == (True, False, [])


async def test_a_connect_with_another_account_needs_that_one(world):
    _, b = await world.two()
    b.gateway("P", GatewayState.DISCONNECTED)
    await b.connect("P", "2")
    assert b.may_trade
    assert b.leases.holders()["account:venue:Gateway:2"] == "b"


async def test_two_gateways_of_one_core_share_an_account(world):
    a = world.core("a")
    await a.connect("P")
    await a.connect("Q")
    assert a.refusal("P") is a.refusal("Q") is None
