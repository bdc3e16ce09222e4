"""The one place where topic names are built and their class of data is known."""

from enum import StrEnum

ORDER_UPDATED = "order.updated"
TRADE_EXECUTED = "trade.executed"
POSITION_UPDATED = "position.updated"
ACCOUNT_UPDATED = "account.updated"
CONTRACT_UPDATED = "contract.updated"
QUOTE_UPDATED = "quote.updated"
GATEWAY_UPDATED = "gateway.updated"
STRATEGY_UPDATED = "strategy.updated"
STRATEGY_LOG = "strategy.log"
STOP_ORDER_UPDATED = "stop_order.updated"
ALGO_UPDATED = "algo.updated"
RISK_EVENT = "risk.event"
RISK_HALT = "risk.halt"
LOG = "log"
JOB_UPDATED = "job.updated"
TICK_PREFIX = "tick."


class DataClass(StrEnum):
    """What happens to a message when a reader is slow."""

    LOSSLESS = "A"
    """Never dropped and in order: the reader is closed instead."""
    LATEST = "B"
    """The newest per key replaces the waiting one."""
    STREAM = "C"
    """Ticks: the newest per symbol replaces the waiting one, unless the reader asked for every one."""
    LOG = "D"
    """Bounded; DEBUG and INFO go first."""


FIXED_TOPICS: dict[str, DataClass] = {
    ORDER_UPDATED: DataClass.LOSSLESS,
    TRADE_EXECUTED: DataClass.LOSSLESS,
    QUOTE_UPDATED: DataClass.LOSSLESS,
    RISK_HALT: DataClass.LOSSLESS,
    RISK_EVENT: DataClass.LOSSLESS,
    POSITION_UPDATED: DataClass.LATEST,
    ACCOUNT_UPDATED: DataClass.LATEST,
    CONTRACT_UPDATED: DataClass.LATEST,
    GATEWAY_UPDATED: DataClass.LATEST,
    STRATEGY_UPDATED: DataClass.LATEST,
    STOP_ORDER_UPDATED: DataClass.LATEST,
    ALGO_UPDATED: DataClass.LATEST,
    JOB_UPDATED: DataClass.LATEST,
    STRATEGY_LOG: DataClass.LOG,
    LOG: DataClass.LOG,
}


def tick(vt_symbol: str) -> str:
    """The topic of one contract's ticks."""
    return TICK_PREFIX + vt_symbol


def data_class(topic: str) -> DataClass:
    """The class of a topic's data. Raises KeyError for a topic that nobody ever publishes."""
    if topic.startswith(TICK_PREFIX):
        return DataClass.STREAM
    return FIXED_TOPICS[topic]


def exists(pattern: str) -> bool:
    """Whether a subscription to `pattern` (an exact topic, or a prefix with a trailing `*`) can ever match."""
    if pattern.endswith("*"):
        prefix = pattern[:-1]
        return prefix.startswith(TICK_PREFIX) or any(name.startswith(prefix) for name in [*FIXED_TOPICS, TICK_PREFIX])
    return pattern in FIXED_TOPICS or (pattern.startswith(TICK_PREFIX) and len(pattern) > len(TICK_PREFIX))


def matches(pattern: str, topic: str) -> bool:
    """Whether `topic` falls under `pattern`."""
    return topic.startswith(pattern[:-1]) if pattern.endswith("*") else topic == pattern
