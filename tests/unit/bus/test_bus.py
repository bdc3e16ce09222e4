from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from vnpy_core.bus.bus import Bus
from vnpy_core.bus.message import Message
from vnpy_core.domain.enums import LogLevel
from vnpy_core.domain.events import Log

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def message(topic="order.updated"):
    return Message(topic, "k", "e", 1, NOON, Log(level=LogLevel.INFO, source="s", msg="m", datetime=NOON))


@pytest.fixture
def bus():
    return Bus()


@pytest.mark.parametrize(
    ("pattern", "topic", "received"),
    [
        ("order.updated", "order.updated", True),
        ("order.updated", "order.updated2", False),
        ("order.*", "order.updated", True),
        ("order.*", "orders.updated", False),
        ("*", "log", True),
        ("tick.*", "tick.rb2505.SHFE", True),
        ("tick.rb*", "tick.rb2505.SHFE", True),
        ("tick.rb*", "tick.cu2505.SHFE", False),
        ("tick.rb2505.SHFE", "tick.rb2505.SHFE", True),
    ],
)
def test_a_subscriber_gets_what_its_pattern_names(bus, pattern, topic, received):
    got = []
    bus.subscribe([pattern], got.append)
    sent = message(topic)
    bus.publish(sent)
    assert got == ([sent] if received else [])


def test_nobody_listening_is_fine(bus):
    bus.publish(message())


@pytest.mark.parametrize(
    "patterns",
    [["order.updated", "order.updated"], ["order.updated", "order.*"], ["order.*", "*"], ["*", "*"]],
)
def test_patterns_that_overlap_deliver_once(bus, patterns):
    got = []
    unsubscribe = bus.subscribe(patterns, got.append)
    bus.publish(message())
    assert len(got) == 1
    unsubscribe()
    bus.publish(message())
    assert len(got) == 1


def test_patterns_may_be_read_only_once(bus):
    got = []
    bus.subscribe((pattern for pattern in ["log", "order.*"]), got.append)
    bus.publish(message("order.updated"))
    bus.publish(message("log"))
    assert [one.topic for one in got] == ["order.updated", "log"]


def test_delivery_follows_the_order_of_subscription_whatever_the_patterns(bus):
    got = []
    bus.subscribe(["*"], lambda _: got.append("first"))
    bus.subscribe(["order.updated"], lambda _: got.append("second"))
    bus.subscribe(["order.*"], lambda _: got.append("third"))
    bus.publish(message())
    assert got == ["first", "second", "third"]


def test_a_subscriber_that_raises_is_logged_and_stops_nobody(bus):
    got = []

    def broken(_):
        raise ValueError("broken")

    bus.subscribe(["order.updated"], broken)
    bus.subscribe(["order.updated"], got.append)
    bus.subscribe(["order.*"], got.append)
    with capture_logs() as logs:
        bus.publish(message())
        bus.publish(message())
    assert len(got) == 4
    assert bus.subscriber_errors == 2
    assert [(entry["log_level"], entry["topic"]) for entry in logs] == [("error", "order.updated")] * 2


def test_unsubscribing_ends_delivery_and_may_be_repeated(bus):
    got = []
    unsubscribe = bus.subscribe(["order.updated", "log", "tick.*"], got.append)
    unsubscribe()
    unsubscribe()
    for topic in ("order.updated", "log", "tick.rb2505.SHFE"):
        bus.publish(message(topic))
    assert got == []


def test_unsubscribing_one_of_two_equal_subscriptions_leaves_the_other(bus):
    got = []
    first = bus.subscribe(["log"], got.append)
    bus.subscribe(["log"], got.append)
    first()
    first()
    bus.publish(message("log"))
    assert len(got) == 1


def test_a_subscriber_may_leave_from_within(bus):
    got = []

    def once(one):
        got.append(one)
        unsubscribe()

    unsubscribe = bus.subscribe(["order.*", "order.updated"], once)
    bus.subscribe(["order.*"], got.append)
    bus.publish(message())
    bus.publish(message())
    assert len(got) == 3


def test_who_was_unsubscribed_by_another_gets_no_more(bus):
    got = []
    bus.subscribe(["log"], lambda _: leave())
    leave = bus.subscribe(["log"], got.append)
    bus.publish(message("log"))
    assert got == []


def test_who_comes_during_delivery_starts_with_the_next_message(bus):
    got = []
    joined = []

    def join(_):
        if not joined:
            joined.append(bus.subscribe(["log"], got.append))

    bus.subscribe(["log"], join)
    bus.publish(message("log"))
    assert got == []
    bus.publish(message("log"))
    assert len(got) == 1


def test_nothing_stays_of_those_who_left(bus):
    for number in range(1000):
        bus.subscribe([f"tick.{number}.SHFE", f"tick.{number}*"], print)()
    assert not bus._subscriptions


def test_who_comes_or_leaves_between_two_messages_of_a_topic_is_regarded(bus):
    got = []
    bus.publish(message("log"))
    leave = bus.subscribe(["log"], got.append)
    bus.publish(message("log"))
    leave_too = bus.subscribe(["l*"], got.append)
    bus.publish(message("log"))
    assert len(got) == 3
    leave()
    bus.publish(message("log"))
    assert len(got) == 4
    leave_too()
    bus.publish(message("log"))
    assert len(got) == 4


def test_a_message_that_a_subscriber_publishes_reaches_who_came_during_the_delivery(bus):
    got = []

    def join(one):
        if one.topic == "log":
            bus.subscribe(["*"], got.append)
            bus.publish(message("risk.halt"))

    bus.subscribe(["*"], join)
    bus.publish(message("log"))
    assert [one.topic for one in got] == ["risk.halt"]
    bus.publish(message("risk.halt"))
    assert [one.topic for one in got] == ["risk.halt"] * 2
