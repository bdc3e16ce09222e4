from itertools import count

import pytest

from testkit.streaming import TIME, account, log, message, order, tick, trade
from vnpy_core.bus.message import Message
from vnpy_core.domain.enums import LogLevel
from vnpy_core.domain.errors import Overloaded
from vnpy_core.domain.events import Account, Log, Tick
from vnpy_core.features.streaming.outbox import Outbox, Replay, Snapshot
from vnpy_core.features.streaming.recent import Recent
from vnpy_core.features.streaming.settings import StreamingSettings
from vnpy_core.features.streaming.wire import JSON, content

SEQS = count(1)


class Credit:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def hold(self) -> None:
        self.calls.append("hold")

    def release(self) -> None:
        self.calls.append("release")


@pytest.fixture
def credit() -> Credit:
    return Credit()


@pytest.fixture
def outbox(credit: Credit) -> Outbox:
    settings = StreamingSettings(
        lossless_limit=5,
        conflate_above=3,
        tick_queue=10,
        hold_above=5,
        release_below=2,
        log_queue=4,
        reply_limit=3,
        snapshot_limit=10,
    )
    return Outbox(settings, JSON, credit.hold, credit.release)


def drain(outbox: Outbox) -> list[object]:
    items = []
    while (item := outbox.pop()) is not None:
        items.append(item.data if isinstance(item, Message) else item)
    return items


def tick_seqs(items: list[object]) -> list[int]:
    return [item.tick_seq for item in items if isinstance(item, Tick)]


def add(outbox: Outbox, *events: object, every_tick: bool = False) -> None:
    for event in events:
        outbox.add(message(event, next(SEQS)), every_tick=every_tick)  # type: ignore[arg-type]


def test_ticks_are_all_kept_while_the_reader_is_not_behind(outbox: Outbox) -> None:
    add(outbox, *(tick(tick_seq=n) for n in range(3)))
    assert tick_seqs(drain(outbox)) == [0, 1, 2]


def test_behind_the_newest_tick_of_a_symbol_takes_the_place_of_the_waiting_one(outbox: Outbox) -> None:
    add(outbox, tick("a.X", 1), tick(tick_seq=1), tick(tick_seq=2), tick("a.X", 2), tick(tick_seq=3), tick("a.X", 3))
    assert outbox.conflated == 4
    assert [(t.vt_symbol, t.tick_seq) for t in drain(outbox)] == [("a.X", 3), ("rb2505.SHFE", 3)]  # type: ignore[attr-defined]


def test_what_takes_the_turn_of_an_older_message_is_told_at_its_place(outbox: Outbox) -> None:
    for event, seq in [(tick(), 0), (account(1), 0), (order(1), 1), (tick(), 1), (tick(), 1), (order(2), 2)]:
        outbox.add(message(event, seq), every_tick=False)
    for event in (tick(tick_seq=9), tick(tick_seq=10), account(2)):
        outbox.add(message(event, 2), every_tick=False)
    told = [(item.topic, item.seq) for item in iter(outbox.pop, None) if isinstance(item, Message)]
    assert told == [("account.updated", 0), ("order.updated", 1), ("tick.rb2505.SHFE", 1), ("order.updated", 2)]


def test_a_symbol_that_waits_in_its_place_is_not_passed_by_its_own_newer_tick(outbox: Outbox) -> None:
    add(outbox, tick("a.X", 0), *(tick(tick_seq=n) for n in range(4)))
    outbox.pop()
    add(outbox, tick(tick_seq=4), tick("a.X", 1))
    assert tick_seqs(drain(outbox)) == [4, 1]


def test_every_tick_is_queued_up_to_the_limit_then_one_gap_a_topic_until_drained(outbox: Outbox) -> None:
    add(outbox, *(tick(tick_seq=n) for n in range(12)), tick("a.X", 1), every_tick=True)
    outbox.pop()
    add(outbox, tick(tick_seq=12), every_tick=True)
    items = drain(outbox)
    assert tick_seqs(items) == list(range(1, 10))
    gaps = [content(item) for item in items[9:] if isinstance(item, bytes)]
    assert gaps == ['{"op":"gap","topic":"tick.rb2505.SHFE"}', '{"op":"gap","topic":"tick.a.X"}']
    assert outbox.dropped == 4
    add(outbox, tick(tick_seq=13), every_tick=True)
    assert tick_seqs(drain(outbox)) == [13]


def test_credit_is_held_past_one_mark_and_given_back_under_another(outbox: Outbox, credit: Credit) -> None:
    add(outbox, *(tick(tick_seq=n) for n in range(5)), every_tick=True)
    assert credit.calls == []
    add(outbox, tick(tick_seq=5), tick(tick_seq=6), every_tick=True)
    assert credit.calls == ["hold"]
    for _ in range(5):
        outbox.pop()
    assert credit.calls == ["hold"]
    outbox.pop()
    assert credit.calls == ["hold", "release"]


def test_clearing_gives_the_credit_back(outbox: Outbox, credit: Credit) -> None:
    add(outbox, *(tick(tick_seq=n) for n in range(7)), every_tick=True)
    outbox.clear()
    assert credit.calls == ["hold", "release"]
    assert len(outbox) == 0


def test_lossless_messages_are_kept_in_order_until_the_limit(outbox: Outbox) -> None:
    orders = [order(n) for n in range(5)]
    add(outbox, *orders)
    with pytest.raises(Overloaded):
        add(outbox, order(5))
    assert drain(outbox) == orders
    add(outbox, order(6))


def test_the_newest_state_of_a_key_replaces_the_waiting_one(outbox: Outbox) -> None:
    add(outbox, account(1), account(1, "2"), account(2), account(3))
    assert [(a.accountid, a.balance) for a in drain(outbox) if isinstance(a, Account)] == [("1", 3), ("2", 1)]


def test_minor_logs_go_first_then_the_oldest(outbox: Outbox) -> None:
    error = LogLevel.ERROR
    add(outbox, log("i1"), log("e1", error), log("d1", LogLevel.DEBUG), log("e2", error), log("e3", error))
    add(outbox, log("e4", error))
    add(outbox, log("i2"))
    add(outbox, log("e5", error))
    assert [item.msg for item in drain(outbox) if isinstance(item, Log)] == ["e2", "e3", "e4", "e5"]
    assert outbox.dropped == 4
    add(outbox, *(log(str(n)) for n in range(4)))
    assert len(drain(outbox)) == 4


def test_answers_are_bounded(outbox: Outbox) -> None:
    for frame in (b"a", b"b", b"c"):
        outbox.add_item(frame)
    with pytest.raises(Overloaded):
        outbox.add_item(b"d")
    assert drain(outbox) == [b"a", b"b", b"c"]
    outbox.add_item(b"x" * 2_000_000)
    with pytest.raises(Overloaded):
        outbox.add_item(b"e")


def test_a_heartbeat_waits_only_where_nothing_else_does(outbox: Outbox) -> None:
    outbox.add_heartbeat(b"h")
    outbox.add_heartbeat(b"h")
    assert drain(outbox) == [b"h"]
    add(outbox, order(1))
    outbox.add_heartbeat(b"h")
    assert drain(outbox) == [order(1)]


def test_a_newer_state_never_comes_before_an_older_snapshot(outbox: Outbox) -> None:
    add(outbox, log("x"), log("y"), log("z"), account(1))
    snapshot = Snapshot("account.updated", "e1", 10_000, [account(2)])
    outbox.add_item(snapshot)
    outbox.add(message(account(3), 10_001), every_tick=False)
    assert drain(outbox)[3:] == [snapshot, account(3)]


def test_snapshots_are_bounded_by_the_states_that_wait_but_one_alone_may_be_large(outbox: Outbox) -> None:
    large, small = (Snapshot("contract.updated", "e1", 10_000, [account(1)] * size) for size in (1_000, 2))
    add(outbox, *(order(number) for number in range(4)))
    outbox.add_item(large)
    with pytest.raises(Overloaded):
        outbox.add_item(small)
    assert drain(outbox)[4:] == [large]
    outbox.add_item(small)
    outbox.add_item(small)
    assert drain(outbox) == [small, small]


def test_the_oldest_waiting_message_is_told_whatever_stands_before_it(outbox: Outbox) -> None:
    assert outbox.oldest is None
    outbox.add_item(b"a")
    assert outbox.oldest is None
    add(outbox, tick(), order(1))
    assert outbox.oldest == TIME
    outbox.clear()
    add(outbox, order(1))
    assert outbox.oldest == TIME


def ring(*seqs: int, limit: int = 100, complete_from: int = 0) -> Recent:
    recent = Recent(limit)
    recent.seed([message(order(seq) if seq % 2 else trade(seq), seq) for seq in seqs], complete_from)
    return recent


def replayed(replay: Replay, size: int = 3) -> list[int]:
    return [message.seq for page in replay.pages(size) for message in page]


def test_a_replay_gives_the_missed_messages_of_its_topics_page_by_page() -> None:
    recent = ring(*range(1, 21))
    replay = Replay(recent, 4, 15, {"order.updated"})
    assert replay.waiting == 6
    assert replayed(replay) == [5, 7, 9, 11, 13, 15]
    assert replay.waiting == 0


def test_a_replay_whose_messages_are_gone_says_so() -> None:
    recent = ring(*range(1, 9), limit=8)
    replay = Replay(recent, 2, 8, {"order.updated", "trade.executed"})
    pages = replay.pages(2)
    assert [message.seq for message in next(pages)] == [3, 4]
    for seq in range(9, 20):
        recent.append(message(order(seq), seq))
    with pytest.raises(Overloaded):
        next(pages)


def test_the_ring_keeps_the_newest_and_knows_from_where_on_they_are_all_there() -> None:
    recent = ring(*range(1, 201), limit=100, complete_from=0)
    assert (len(recent), recent.complete_from) == (100, 100)
    for seq in range(201, 1_000):
        recent.append(message(order(seq), seq))
        assert len(recent) <= 110
        assert [found.seq for found in recent.after(recent.complete_from, seq)][:1] == [recent.complete_from + 1]


def test_an_unseeded_ring_vouches_for_what_it_saw_only() -> None:
    recent = Recent(10)
    assert recent.complete_from > 10**15
    recent.append(message(order(1), 50))
    assert recent.complete_from == 49
    recent.forget()
    assert (len(recent), recent.after(0, 100)) == (0, [])
    assert recent.complete_from > 10**15
