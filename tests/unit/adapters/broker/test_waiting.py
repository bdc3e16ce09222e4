"""What waits for the message bus is bounded, and the newest of everything survives."""

from __future__ import annotations

from datetime import UTC, datetime

from vnpy_core.adapters.broker.waiting import Waiting
from vnpy_core.bus import topics
from vnpy_core.bus.message import Message
from vnpy_core.domain.enums import LogLevel
from vnpy_core.domain.events import AlgoUpdate, Log, Tick

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def tick(symbol: str, seq: int) -> Message:
    event = Tick("G", f"{symbol}.X", symbol, "X", NOW)
    return Message(topics.tick(event.vt_symbol), event.vt_symbol, "e1", seq, NOW, event)


def state(name: str, seq: int) -> Message:
    event = AlgoUpdate(algo_name=name, vt_symbol="a.X", status="", data={})
    return Message(topics.ALGO_UPDATED, name, "e1", seq, NOW, event)


def log(seq: int, level: LogLevel = LogLevel.INFO) -> Message:
    return Message(topics.LOG, "g", "e1", seq, NOW, Log(level=level, source="g", msg=str(seq), datetime=NOW))


def drain(waiting: Waiting, limit: int = 1_000) -> list[int]:
    taken: list[Message] = []
    while batch := waiting.next(limit):
        assert len(batch) <= limit
        taken += batch
    assert len(waiting) == 0
    return [message.seq for message in taken]


def test_all_goes_in_order_while_there_is_room():
    waiting = Waiting(100)
    for n in range(40):
        waiting.add(tick("a", n))
    assert drain(waiting, 7) == list(range(40))
    assert waiting.conflated == waiting.dropped == 0


def test_past_half_of_the_room_the_newest_of_a_key_stays():
    waiting = Waiting(100)
    for n in range(1_000):
        waiting.add(tick(f"s{n % 10}", n))
    assert drain(waiting) == [*range(45), *range(990, 1_000)]
    assert (waiting.conflated, waiting.dropped) == (1_000 - 55, 0)


def test_what_waits_longest_goes_where_every_key_is_another():
    waiting = Waiting(100)
    for n in range(200):
        waiting.add(tick(f"s{n}", n))
        assert len(waiting) <= 90
    assert drain(waiting) == [*range(45), *range(155, 200)]
    assert waiting.dropped == 110


def test_logs_take_no_room_from_others_and_go_last():
    waiting = Waiting(100)
    for n in range(50):
        waiting.add(log(n))
    waiting.add(tick("a", 99))
    assert drain(waiting) == [99, *range(10)]
    assert waiting.dropped == 40


def test_an_error_takes_the_place_of_the_oldest_line():
    waiting = Waiting(100)
    for n in range(12):
        waiting.add(log(n))
    waiting.add(log(99, LogLevel.ERROR))
    assert drain(waiting) == [*range(1, 10), 99]


def test_of_what_could_not_be_sent_the_states_stay_behind_nothing_newer():
    waiting = Waiting(100)
    for n in range(4):
        waiting.add(state("a", n))
    waiting.add(tick("t", 4))
    batch = waiting.next(10)
    waiting.add(state("b", 5))
    waiting.add(log(6))
    waiting.put_back(batch)
    waiting.add(tick("t", 7))
    assert drain(waiting) == [3, 5, 7, 6]
    assert (waiting.conflated, waiting.dropped) == (3, 1)


def test_a_state_that_is_older_than_what_waits_does_not_come_after_it():
    waiting = Waiting(100)
    waiting.add(state("a", 1))
    batch = waiting.next(10)
    waiting.add(state("a", 2))
    waiting.put_back(batch)
    assert drain(waiting) == [2]


def test_what_is_cleared_counts_as_dropped():
    waiting = Waiting(100)
    for n in range(60):
        waiting.add(tick(f"s{n}", n))
    waiting.add(log(1))
    waiting.clear()
    assert len(waiting) == 0
    assert waiting.dropped == 61
