import pytest

from vnpy_core.bus import topics
from vnpy_core.bus.topics import DataClass


@pytest.mark.parametrize("name", [name for key, name in vars(topics).items() if key.isupper() and key != "TICK_PREFIX"])
def test_every_named_topic_has_a_class(name):
    if isinstance(name, str):
        assert topics.data_class(name) in DataClass


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("order.updated", "A"),
        ("trade.executed", "A"),
        ("risk.halt", "A"),
        ("position.updated", "B"),
        ("tick.rb2505.SHFE", "C"),
        ("log", "D"),
        ("strategy.log", "D"),
    ],
)
def test_a_topic_has_the_class_of_its_data(topic, kind):
    assert topics.data_class(topic).value == kind


@pytest.mark.parametrize("topic", ["", "order", "orders.updated", "tick", "*", "order.*", "Order.updated"])
def test_a_topic_that_is_never_published_has_no_class(topic):
    with pytest.raises(KeyError):
        topics.data_class(topic)


def test_ticks_are_named_by_their_contract():
    assert topics.tick("BTC/USDT.BINANCE") == "tick.BTC/USDT.BINANCE"


@pytest.mark.parametrize(
    "pattern",
    ["*", "o*", "order.*", "order.updated", "order.updated*", "tick.*", "ti*", "tick.rb*", "tick.rb2505.SHFE", "log"],
)
def test_patterns_that_can_match_exist(pattern):
    assert topics.exists(pattern)


@pytest.mark.parametrize(
    "pattern", ["", "tick.", "tick", "**", "order", "nothing", "nothing.*", "order.updated.*", "Log"]
)
def test_patterns_that_never_match_do_not_exist(pattern):
    assert not topics.exists(pattern)


@pytest.mark.parametrize("pattern", ["*", "order.*", "ti*", "tick.*", "log", "log*", "tick.rb2505.SHFE", "x", "x*"])
def test_what_exists_is_what_matches_some_topic(pattern):
    published = [*topics.FIXED_TOPICS, topics.tick("rb2505.SHFE")]
    assert topics.exists(pattern) == any(topics.matches(pattern, topic) for topic in published)
