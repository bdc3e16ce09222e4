from __future__ import annotations

from vnpy_core.client.backoff import Backoff


def highest(low: float, high: float) -> float:
    assert low == 0.0
    return high


def test_the_ceiling_doubles_from_one_second_to_sixty():
    backoff = Backoff(highest)
    assert [backoff.next() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_wait_is_anything_below_the_ceiling():
    shares = iter([0.25, 0.5, 0.0])
    backoff = Backoff(lambda low, high: low + next(shares) * (high - low))
    assert [backoff.next() for _ in range(3)] == [0.25, 1.0, 0.0]


def test_it_begins_again_after_a_connection_that_lived():
    backoff = Backoff(highest)
    for _ in range(5):
        backoff.next()
    backoff.reset()
    assert backoff.next() == 1


def test_a_server_that_asks_to_come_again_is_asked_soon_but_not_without_end():
    backoff = Backoff(highest)
    assert [round(backoff.next(quick=True), 3) for _ in range(3)] == [0.1, 0.2, 0.4]
    for _ in range(100_000):
        last = backoff.next(quick=True)
    assert last == 60
