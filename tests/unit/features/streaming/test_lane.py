"""Clients that keep up are written to past the outbox: what that must not change."""

from __future__ import annotations

from typing import Any

import pytest

from testkit.streaming import Hub, account, live, log, order, settle, strategy, tick
from vnpy_core.features.streaming.session import TURN

EVERYTHING = ("tick.*", "order.updated", "account.updated", "strategy.updated", "log")


@pytest.fixture
async def hub() -> Any:
    hub = Hub()
    yield hub
    await hub.service.close()


def told(frame: dict[str, Any]) -> str:
    return str(frame.get("op") or frame["topic"])


async def test_answers_keep_their_place_among_the_messages_of_a_turn(hub: Hub) -> None:
    session, connection = await hub.client(*EVERYTHING)
    begun = len(connection.frames)
    hub.publish(tick(tick_seq=1), order(1))
    hub.ask(session, op="ping")
    hub.publish(tick(tick_seq=2), order(2), account(5))
    hub.ask(session, op="subscribe", topics=["account.updated"])
    hub.publish(account(6))
    await settle()
    assert [told(frame) for frame in connection.frames[begun:]] == [
        "tick.rb2505.SHFE", "order.updated", "pong", "tick.rb2505.SHFE", "order.updated", "account.updated",
        "subscribed", "account.updated", "account.updated",
    ]  # fmt: skip
    orders = [frame for frame in live(connection.frames) if frame["topic"] == "order.updated"]
    assert [(frame["prev_seq"], frame["seq"]) for frame in orders] == [(0, 1), (1, 2)]


async def test_what_json_has_no_words_for_is_a_gap_in_its_place_and_the_rest_goes_on(hub: Hub) -> None:
    _, connection = await hub.client(*EVERYTHING)
    begun = len(connection.frames)
    hub.publish(tick(tick_seq=1), strategy(odd=object()), tick(tick_seq=2), log("after"))
    await settle()
    came = [told(frame) for frame in connection.frames[begun:]]
    assert came == ["tick.rb2505.SHFE", "gap", "tick.rb2505.SHFE", "log"]


async def test_many_messages_of_one_turn_come_in_order(hub: Hub) -> None:
    _, connection = await hub.client("tick.*")
    hub.publish(*(tick(tick_seq=number) for number in range(3 * TURN)))
    await settle()
    assert [frame["data"]["tick_seq"] for frame in live(connection.frames)] == list(range(3 * TURN))


async def test_a_client_that_stops_reading_gets_nothing_more_until_it_reads_and_then_all_in_order(hub: Hub) -> None:
    _, connection = await hub.client("order.updated")
    hub.publish(order(1))
    await settle()
    connection.reading.clear()
    hub.publish(order(2), order(3))
    await settle()
    assert [frame["seq"] for frame in live(connection.frames)] == [1]
    connection.reading.set()
    await settle()
    hub.publish(order(4))
    await settle()
    assert [(frame["prev_seq"], frame["seq"]) for frame in live(connection.frames)] == [(0, 1), (1, 2), (2, 3), (3, 4)]


async def test_what_was_published_in_the_turn_of_the_end_is_still_sent(hub: Hub) -> None:
    _, connection = await hub.client("order.updated")
    hub.publish(order(1))
    await hub.service.close()
    assert [frame["seq"] for frame in live(connection.frames)] == [1]
    assert connection.code == 1001


async def test_a_client_that_is_gone_ends_its_session_and_harms_no_other(hub: Hub) -> None:
    _, gone = await hub.client("tick.*")
    _, other = await hub.client("tick.*")
    gone.gone = True
    hub.publish(tick(tick_seq=1))
    await settle()
    hub.publish(tick(tick_seq=2))
    await settle()
    assert [frame["data"]["tick_seq"] for frame in live(other.frames)] == [1, 2]
    assert len(hub.service.status().sessions) == 1
