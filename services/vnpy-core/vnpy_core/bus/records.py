"""The journal's kinds of rows: what each is decoded to, and which of them are published under a topic.

A published event's kind is its topic. A row that was carried forward (re-appended, so that older rows could go) has
`CARRIED` before its kind: state to start from, nothing that happened.
"""

from __future__ import annotations

import msgspec

from vnpy_core.bus import topics
from vnpy_core.domain import events
from vnpy_core.domain.events import Event

ORDER_INTENT = "intent.order"
QUOTE_INTENT = "intent.quote"
INTENT_OUTCOME = "intent.outcome"
ORDER_LATE = "order.late"
"""An order event that goes back in its order's life: kept as evidence, not dispatched."""
ORDER_SETTLED = "order.settled"
"""The end of an order whose venue's id means another order by now: for the books and the store. Nobody is told under
that id, which would speak of the wrong order."""
POSITION_BASE = "position.base"
STRATEGY_SETTING = "strategy.setting"
STRATEGY_DATA = "strategy.data"
STRATEGY_DAY = "strategy.day"
AUDIT = "audit"
QUARANTINE = "quarantine"
CARRIED = "carried."

TYPES: dict[str, type[Event]] = {
    ORDER_INTENT: events.OrderIntent,
    QUOTE_INTENT: events.QuoteIntent,
    INTENT_OUTCOME: events.IntentOutcome,
    ORDER_LATE: events.Order,
    ORDER_SETTLED: events.Order,
    POSITION_BASE: events.PositionBase,
    STRATEGY_SETTING: events.StrategySetting,
    STRATEGY_DATA: events.StrategyData,
    STRATEGY_DAY: events.StrategyDay,
    AUDIT: events.Audit,
    QUARANTINE: events.Quarantine,
    topics.ORDER_UPDATED: events.Order,
    topics.TRADE_EXECUTED: events.Trade,
    topics.QUOTE_UPDATED: events.Quote,
    topics.POSITION_UPDATED: events.Position,
    topics.ACCOUNT_UPDATED: events.Account,
    topics.STOP_ORDER_UPDATED: events.StopOrderUpdate,
    topics.RISK_EVENT: events.RiskEvent,
    topics.RISK_HALT: events.Halt,
}

_decoders = {kind: msgspec.json.Decoder(type_) for kind, type_ in TYPES.items()}
_encoder = msgspec.json.Encoder()


def encode(event: Event) -> bytes:
    """An event as a row's payload. Any thread."""
    return _encoder.encode(event)


def plain_kind(kind: str) -> str:
    """`kind` without the mark of a carried row."""
    return kind.removeprefix(CARRIED)


def decode(kind: str, payload: bytes) -> Event:
    """A row's payload as its event. Any thread. Raises KeyError (unknown kind), msgspec.DecodeError."""
    event: Event = _decoders[plain_kind(kind)].decode(payload)
    return event
