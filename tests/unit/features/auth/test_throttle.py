import pytest

from testkit.clock import FakeClock
from vnpy_core.domain.errors import RateLimited
from vnpy_core.features.auth import throttle as module
from vnpy_core.features.auth.throttle import LoginThrottle


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def throttle(clock):
    return LoginThrottle(clock)


def held(throttle, account, address):
    try:
        throttle.check(account, address)
    except RateLimited:
        return True
    return False


@pytest.mark.parametrize(
    ("guesser", "neighbour", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("unknown", "unknown", True),
        ("testclient", "other", False),
    ],
)
def test_an_address_counts_with_its_ipv6_network(throttle, guesser, neighbour, same):
    for number in range(5):
        throttle.failed(f"user{number}", guesser)
    assert held(throttle, "somebody", neighbour) is same


def test_failures_are_forgotten_after_an_hour(throttle, clock):
    for _ in range(5):
        throttle.failed("a", "x")
    clock.advance(3_600)
    throttle.failed("a", "x")
    assert not held(throttle, "a", "x")


def test_memory_is_bounded_and_the_oldest_go_first(throttle, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 100)
    for number in range(1_000):
        for _ in range(5):
            throttle.failed(f"user{number}", f"10.0.{number // 250}.{number % 250}")
    assert len(throttle._accounts._last) == len(throttle._addresses._last) == 100
    assert held(throttle, "user999", "x")
    assert not held(throttle, "user1", "x")


def test_the_delay_does_not_overflow(throttle, clock):
    for _ in range(5_000):
        throttle.failed("a", "x")
    with pytest.raises(RateLimited) as limited:
        throttle.check("a", "x")
    assert limited.value.extra["retry_after"] == 900
