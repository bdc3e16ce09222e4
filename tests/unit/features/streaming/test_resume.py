"""Clients that come back, and what a session may rely on when its topics change."""

from __future__ import annotations

from typing import Any

import pytest

from testkit.streaming import FakeConnection, Hub, account, live, log, message, order, settle, tick, trade
from vnpy_core.domain.enums import Status
from vnpy_core.features.streaming.session import TURN, Session


@pytest.fixture
async def hub() -> Any:
    hub = Hub()
    yield hub
    await hub.service.close()


async def resuming(
    hub: Hub, seq: int, *patterns: str, epoch: str = "e1", **options: Any
) -> tuple[Session, FakeConnection]:
    session, connection = await hub.client(**options)
    hub.ask(session, op="subscribe", id=1, topics=list(patterns), resume={"epoch": epoch, "seq": seq})
    await settle()
    return session, connection


def told(connection: FakeConnection) -> list[tuple[Any, ...]]:
    """Class A frames as (prev_seq, seq), others by name."""
    return [
        (f["prev_seq"], f["seq"])
        if "prev_seq" in f
        else (f["op"], f.get("topic") or f.get("resumed"))
        if "op" in f
        else ("snapshot" if "snapshot" in f else "live", f["topic"], f["seq"])
        for f in connection.frames[1:]
    ]


async def test_what_was_missed_is_replayed_before_the_snapshots_of_the_other_topics(hub: Hub) -> None:
    hub.publish(order(1), account(1), order(2), trade(1), order(3))
    _, connection = await resuming(hub, 1, "order.updated", "account.updated")
    hub.publish(order(4))
    await settle()
    assert told(connection) == [
        ("subscribed", True),
        (1, 2),
        (2, 4),
        ("snapshot", "account.updated", 4),
        (4, 5),
    ]
    assert connection.frames[1]["snapshots"] == {"account.updated": 1}


async def test_nothing_missed_is_resumed_too(hub: Hub) -> None:
    hub.publish(order(1), order(2))
    _, connection = await resuming(hub, 2, "order.*")
    hub.publish(order(3))
    await settle()
    assert told(connection) == [("subscribed", True), (2, 3)]


@pytest.mark.parametrize(("seq", "epoch"), [(10, "e0"), (5, "e1"), (-1, "e1"), (10**15, "e1"), (2**80, "e1")])
async def test_out_of_reach_is_a_gap_for_each_pattern_with_lossless_topics_and_snapshots(seq: int, epoch: str) -> None:
    hub = Hub(resume_events=8)
    hub.publish(*(order(number) for number in range(20)), tick())
    _, connection = await resuming(hub, seq, "order.updated", "trade.*", "tick.*", "log", epoch=epoch)
    assert connection.frames[1]["resumed"] is False
    assert connection.frames[1]["seq"] == 20
    assert connection.frames[2:4] == [
        {"op": "gap", "id": 1, "topic": "order.updated"},
        {"op": "gap", "id": 1, "topic": "trade.*"},
    ]
    assert len(connection.frames[4:]) == 21
    assert all(f["snapshot"] for f in connection.frames[4:])
    hub.publish(order(21))
    await settle()
    assert told(connection)[-1] == (20, 21)
    await hub.service.close()


async def test_a_client_that_is_ahead_gets_what_it_lacks_once_the_node_comes_to_it(hub: Hub) -> None:
    hub.publish(order(1))
    _, connection = await resuming(hub, 3, "order.updated", "tick.*")
    hub.publish(order(2), tick(), order(3), order(4), order(5))
    await settle()
    assert told(connection) == [("subscribed", True), ("live", "tick.rb2505.SHFE", 2), (3, 4), (4, 5)]


async def test_topics_that_a_node_which_is_behind_cannot_begin_are_refused_until_it_has_caught_up(hub: Hub) -> None:
    session, connection = await resuming(hub, 2, "order.updated")
    hub.ask(session, op="subscribe", id=2, topics=["trade.executed"])
    hub.ask(session, op="subscribe", id=3, topics=["quote.updated"], resume={"epoch": "e1", "seq": 2})
    hub.publish(trade(1), trade(2))
    hub.ask(session, op="subscribe", id=4, topics=["trade.executed"])
    hub.publish(trade(3))
    await settle()
    refused, quotes, trades, live_trade = connection.frames[2:]
    assert (refused["op"], refused["id"], refused["code"]) == ("error", 2, "OVERLOADED")
    assert (quotes["id"], quotes["resumed"]) == (3, True)
    assert (trades["id"], trades["seq"]) == (4, 2)
    assert (live_trade["seq"], live_trade["prev_seq"]) == (3, 2)
    assert list(session.patterns) == ["order.updated", "quote.updated", "trade.executed"]


async def test_a_resume_behind_what_the_session_was_sent_already_is_a_gap_where_something_was_missed(hub: Hub) -> None:
    hub.publish(trade(1), order(1))
    session, connection = await hub.client("order.updated")
    hub.publish(order(2))
    hub.ask(session, op="subscribe", id=1, topics=["trade.executed"], resume={"epoch": "e1", "seq": 0})
    hub.ask(session, op="subscribe", id=2, topics=["trade.executed"], resume={"epoch": "e1", "seq": 1})
    hub.publish(trade(2))
    await settle()
    assert told(connection)[2:] == [
        (2, 3),
        ("subscribed", False),
        ("gap", "trade.executed"),
        ("subscribed", True),
        (3, 4),
    ]


async def test_more_topics_resume_in_order_behind_what_waits(hub: Hub) -> None:
    session, connection = await hub.client("order.updated")
    hub.publish(order(1), trade(1), trade(2))
    hub.ask(session, op="subscribe", topics=["trade.executed"], resume={"epoch": "e1", "seq": 1})
    hub.publish(order(2), trade(3))
    await settle()
    assert told(connection)[1:] == [(0, 1), ("subscribed", True), (1, 2), (2, 3), (3, 4), (4, 5)]


async def test_a_node_that_was_not_told_what_was_published_before_resumes_nobody_from_there() -> None:
    hub = Hub(seeded=False)
    _, connection = await resuming(hub, 0, "order.updated")
    assert connection.frames[1]["resumed"] is False
    hub.publish(order(1), order(2))
    _, connection = await resuming(hub, 1, "order.updated")
    assert told(connection) == [("subscribed", True), (1, 2)]
    await hub.service.close()


async def test_seeded_messages_are_replayed_across_a_restart(hub: Hub) -> None:
    hub.service.seed_recent([message(order(7), 7), message(order(9), 9)], complete_from=5)
    _, connection = await resuming(hub, 5, "order.updated")
    assert told(connection) == [("subscribed", True), (5, 7), (7, 9)]
    _, connection = await resuming(hub, 4, "order.updated")
    assert connection.frames[1]["resumed"] is False


async def test_a_replay_is_not_counted_as_waiting_and_is_rendered_turn_by_turn() -> None:
    hub = Hub(lossless_limit=100)
    hub.publish(*(order(number) for number in range(5_000)))
    session, connection = await hub.client()
    connection.reading.clear()
    hub.ask(session, op="ping")
    await settle()
    hub.ask(session, op="subscribe", topics=["order.updated"], resume={"epoch": "e1", "seq": 0})
    hub.publish(*(order(number) for number in range(50)))
    await settle()
    [status] = hub.service.status().sessions
    assert (status.behind, status.queued) == (5_050, 5_052)
    connection.reading.set()
    while len(connection.frames) < 2 + TURN:
        await settle()
    for _ in range(100):
        await settle()
    assert [f["seq"] for f in live(connection.frames)] == list(range(1, 5_051))
    await hub.service.close()


async def test_a_client_too_slow_for_its_replay_is_closed_and_nothing_follows_the_missing() -> None:
    hub = Hub(resume_events=100, lossless_limit=10_000)
    hub.publish(*(order(number) for number in range(100)))
    session, connection = await hub.client()
    connection.reading.clear()
    hub.ask(session, op="ping")
    await settle()
    hub.ask(session, op="subscribe", topics=["order.updated"], resume={"epoch": "e1", "seq": 0})
    hub.publish(*(order(number) for number in range(1_000)))
    connection.reading.set()
    await settle()
    assert connection.code == 1013
    assert live(connection.frames) == []
    await hub.service.close()


async def test_subscribing_again_and_again_without_reading_piles_nothing_up() -> None:
    hub = Hub(ops_burst=100_000, snapshot_limit=500)
    hub.publish(*(order(number) for number in range(100)))
    session, connection = await hub.client()
    connection.reading.clear()
    hub.ask(session, op="ping")
    await settle()
    for _ in range(10_000):
        if session.ended:
            break
        hub.ask(session, op="subscribe", topics=["order.updated"], resume={"epoch": "e1", "seq": 0})
        hub.ask(session, op="unsubscribe", topics=["order.updated"])
    assert session.ended
    connection.reading.set()
    await settle()
    assert connection.code == 1013
    await hub.service.close()


@pytest.mark.parametrize("patterns", [("*",), ("order.*", "*", "order.updated", "o*")])
async def test_overlapping_patterns_deliver_once(hub: Hub, patterns: tuple[str, ...]) -> None:
    session, connection = await hub.client(*patterns)
    hub.publish(order(1), log("x"), tick())
    hub.ask(session, op="unsubscribe", topics=[patterns[-1]])
    hub.publish(order(2))
    await settle()
    frames = live(connection.frames)
    assert [f["topic"] for f in frames[:3]] == ["order.updated", "log", "tick.rb2505.SHFE"]
    assert [f["seq"] for f in frames[3:]] == ([2] if len(patterns) > 1 else [])


async def test_leaving_all_lossless_topics_and_coming_again_leaves_no_gap_unsaid(hub: Hub) -> None:
    session, connection = await hub.client("order.updated")
    hub.publish(order(1))
    hub.ask(session, op="unsubscribe", topics=["order.updated"])
    hub.publish(order(2, Status.NOTTRADED))
    hub.ask(session, op="subscribe", topics=["order.updated"], resume={"epoch": "e1", "seq": 1})
    await settle()
    assert told(connection)[1:] == [(0, 1), ("unsubscribed", None), ("subscribed", True), (1, 2)]


async def test_another_epoch_ends_all_sessions_and_starts_from_nothing(hub: Hub) -> None:
    hub.publish(order(1))
    session, connection = await hub.client("order.updated")
    hub.service.set_epoch("e1")
    assert not session.ended
    hub.service.set_epoch("e2")
    hub.service.seed_recent([], 7)
    await settle()
    assert connection.code == 1012
    _, connection = await resuming(hub, 7, "trade.executed", epoch="e2")
    assert connection.frames[0]["epoch"] == "e2"
    assert told(connection) == [("subscribed", True)]


async def test_an_event_told_again_is_not_sent_again(hub: Hub) -> None:
    _, connection = await hub.client("order.updated")
    hub.publish(order(1))
    hub.bus.publish(message(order(1), 1))
    await settle()
    assert [f["seq"] for f in live(connection.frames)] == [1]


async def test_what_other_threads_publish_never_names_a_seq_that_is_still_to_come(hub: Hub) -> None:
    _, connection = await hub.client("log", "order.updated")
    hub.publish(order(1))
    hub.bus.publish(message(log("early"), 2))
    hub.bus.publish(message(log("late"), 0))
    await settle()
    assert [f["seq"] for f in live(connection.frames)] == [1, 1, 1]


async def test_a_subscription_is_answered_while_nothing_is_published(hub: Hub) -> None:
    """The event thread may hang: the state comes from the view."""
    hub.publish(order(1), tick(), account(1))
    _, connection = await hub.client("*")
    assert sum("snapshot" in frame for frame in connection.frames) == 3
