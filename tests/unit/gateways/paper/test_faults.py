from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnpy_core.domain.enums import Direction, Offset
from vnpy_core.gateways.paper.faults import Distortion, Faults, check
from vnpy_core.gateways.paper.model import VenueAccount, VenueTrade
from vnpy_core.gateways.paper.wire import Switches

ACCOUNT = VenueAccount(accountid="paper", balance=Decimal(1), frozen=Decimal(0), available=Decimal(1))
TRADE = VenueTrade(
    tradeid="1", orderid="1-1", symbol="rb2701", exchange="SHFE", direction=Direction.LONG, offset=Offset.OPEN,
    price=Decimal(1), volume=Decimal(1), fee=Decimal(0), time=datetime(2026, 11, 20, tzinfo=UTC),
)  # fmt: skip


def trades(count: int) -> list[VenueTrade]:
    return [msgspec.structs.replace(TRADE, tradeid=str(n), orderid=f"1-{n}") for n in range(count)]


class Wire:
    """One client: what it was sent, and what is to be done later."""

    def __init__(self, faults: Faults) -> None:
        self.sent: list = []
        self.batches: list[list] = []
        self.later: list[tuple[float, object]] = []
        self.distortion = Distortion(faults, self._send, lambda seconds, action: self.later.append((seconds, action)))

    def _send(self, events) -> None:
        self.sent += events
        self.batches.append(events)

    def let_time_pass(self) -> None:
        while self.later:
            _, action = self.later.pop(0)
            action()


def with_switches(seed=1, **switches) -> tuple[Faults, Wire]:
    faults = Faults(seed)
    faults.set(Switches(**switches))
    return faults, Wire(faults)


def test_without_switches_events_pass_together_and_untouched():
    _, wire = with_switches()
    events = [*trades(3), ACCOUNT]
    wire.distortion.tell(events)
    assert wire.batches == [events]


def test_counted_losses_end_after_so_many():
    faults, _ = with_switches(lose_answers=2, lose_requests=3)
    assert [faults.loses_answer() for _ in range(4)] == [True, True, False, False]
    assert [faults.loses_request() for _ in range(5)] == [True, True, True, False, False]
    assert (faults.counters().answers_lost, faults.counters().requests_lost) == (2, 3)


def test_nothing_is_told_of_silenced_orders_until_they_are_asked_for():
    _, wire = with_switches()
    wire.distortion.silenced.add("1-1")
    wire.distortion.tell([*trades(3), ACCOUNT])
    assert [getattr(event, "orderid", "account") for event in wire.sent] == ["1-0", "1-2", "account"]
    wire.distortion.tell(trades(2)[1:])
    assert len(wire.batches) == 1
    wire.distortion.silenced.clear()
    wire.distortion.tell(trades(2)[1:])
    assert wire.sent[-1].orderid == "1-1"


def test_late_events_wait_no_longer_than_they_may_and_accounts_do_not_wait():
    faults, wire = with_switches(late_p=1.0, late_ms=50)
    wire.distortion.tell([*trades(5), ACCOUNT])
    assert wire.sent == [ACCOUNT]
    assert all(0 <= seconds <= 0.05 for seconds, _ in wire.later)
    wire.let_time_pass()
    assert Counter(wire.sent) == Counter([*trades(5), ACCOUNT])
    assert faults.counters().late == 5


def test_a_window_that_does_not_fill_is_sent_after_a_moment():
    _, wire = with_switches(reorder=100)
    wire.distortion.tell(trades(5))
    assert wire.sent == []
    wire.let_time_pass()
    assert Counter(wire.sent) == Counter(trades(5))


def test_switches_that_end_while_events_are_held_lose_none():
    faults, wire = with_switches(reorder=100)
    wire.distortion.tell(trades(5))
    faults.set(Switches())
    wire.distortion.tell([ACCOUNT])
    wire.let_time_pass()
    assert Counter(wire.sent) == Counter([*trades(5), ACCOUNT])


@given(
    st.integers(0, 2**32), st.integers(0, 40), st.floats(0, 1), st.floats(0, 1), st.integers(0, 12),
)  # fmt: skip
def test_whatever_the_switches_every_event_comes_at_least_once_and_at_most_twice(seed, count, double, late, window):
    faults, wire = with_switches(seed, double_p=double, late_p=late, late_ms=10, reorder=window)
    wire.distortion.tell(trades(count))
    wire.let_time_pass()
    times = Counter(event.tradeid for event in wire.sent)
    assert set(times) == {str(n) for n in range(count)}
    assert set(times.values()) <= {1, 2}
    assert sum(times.values()) == count + faults.counters().doubled


def test_one_seed_one_history():
    def history(seed: int) -> list[str]:
        _, wire = with_switches(seed, double_p=0.5, reorder=4)
        wire.distortion.tell(trades(40))
        wire.let_time_pass()
        return [event.tradeid for event in wire.sent]

    assert history(1) == history(1) != history(2)


@pytest.mark.parametrize(
    ("switches", "named"),
    [
        (Switches(double_p=1.1), "double_p"),
        (Switches(late_p=float("nan")), "late_p"),
        (Switches(late_ms=-1), "late_ms"),
        (Switches(late_ms=float("inf")), "late_ms"),
        (Switches(lose_answers=-1), "lose_answers"),
        (Switches(reorder=10**9), "reorder"),
    ],
)
def test_switches_that_make_no_sense_are_named(switches, named):
    assert named in check(switches)


def test_switches_that_make_sense_are_fine():
    assert check(Switches()) == check(Switches(lose_answers=500, double_p=1, late_p=0.5, late_ms=10, reorder=3)) == ""
