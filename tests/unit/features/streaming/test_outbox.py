import pytest

from testkit.streaming import account, log, message, order, tick
from vnpy_core.domain.enums import LogLevel
from vnpy_core.domain.errors import Overloaded
from vnpy_core.domain.events import Account, Log, Tick
from vnpy_core.features.streaming.outbox import Outbox, Snapshot
from vnpy_core.features.streaming.settings import StreamingSettings


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
        lossless_limit=5, conflate_above=3, tick_queue=10, hold_above=5, release_below=2, log_queue=4, reply_limit=3
    )
    return Outbox(settings, credit.hold, credit.release)


def drain(outbox: Outbox) -> list[object]:
    items = []
    while (item := outbox.pop()) is not None:
        items.append(item if isinstance(item, str | Snapshot) else item.data)
    return items


def tick_seqs(items: list[object]) -> list[int]:
    return [item.tick_seq for item in items if isinstance(item, Tick)]


def add(outbox: Outbox, *events: object, every_tick: bool = False) -> None:
    for event in events:
        outbox.add(message(event), every_tick=every_tick)  # type: ignore[arg-type]


def test_ticks_are_all_kept_while_the_reader_is_not_behind(outbox: Outbox) -> None:
    add(outbox, *(tick(tick_seq=n) for n in range(3)))
    assert tick_seqs(drain(outbox)) == [0, 1, 2]


def test_behind_the_newest_tick_of_a_symbol_takes_the_place_of_the_waiting_one(outbox: Outbox) -> None:
    add(outbox, *(tick(tick_seq=n) for n in range(3)), tick("a.X", 1), tick(tick_seq=3), tick("a.X", 2), tick("a.X", 3))
    assert outbox.conflated == 2
    assert [(t.vt_symbol, t.tick_seq) for t in drain(outbox)[3:]] == [("a.X", 3), ("rb2505.SHFE", 3)]  # type: ignore[attr-defined]


def test_a_symbol_that_waits_in_its_place_is_not_passed_by_its_own_newer_tick(outbox: Outbox) -> None:
    add(outbox, *(tick(tick_seq=n) for n in range(4)))
    outbox.pop()
    add(outbox, tick(tick_seq=4))
    assert tick_seqs(drain(outbox)) == [1, 2, 4]


def test_every_tick_is_queued_up_to_the_limit_then_one_gap_a_topic_until_drained(outbox: Outbox) -> None:
    add(outbox, *(tick(tick_seq=n) for n in range(12)), tick("a.X", 1), every_tick=True)
    outbox.pop()
    add(outbox, tick(tick_seq=12), every_tick=True)
    items = drain(outbox)
    assert tick_seqs(items) == list(range(1, 10))
    assert items[9:] == ['{"op":"gap","topic":"tick.rb2505.SHFE"}', '{"op":"gap","topic":"tick.a.X"}']
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
    for text in "abc":
        outbox.add_reply(text)
    with pytest.raises(Overloaded):
        outbox.add_reply("d")
    assert drain(outbox) == ["a", "b", "c"]
    outbox.add_reply("e")


def test_heartbeats_do_not_pile_up(outbox: Outbox) -> None:
    outbox.add_heartbeat("h")
    outbox.add_heartbeat("h")
    assert drain(outbox) == ["h"]


def test_a_newer_state_never_comes_before_an_older_snapshot(outbox: Outbox) -> None:
    add(outbox, account(1))
    snapshot = Snapshot("account.updated", "e1", 2, [("PAPER.1", account(2))])
    outbox.add_snapshot(snapshot)
    add(outbox, account(3))
    assert drain(outbox) == [snapshot, account(3)]


def test_a_second_snapshot_replaces_the_waiting_one_at_the_end(outbox: Outbox) -> None:
    first, second = (Snapshot("account.updated", "e1", n, []) for n in (1, 2))
    outbox.add_snapshot(first)
    outbox.add_reply("subscribed")
    outbox.add_snapshot(second)
    assert drain(outbox) == ["subscribed", second]
