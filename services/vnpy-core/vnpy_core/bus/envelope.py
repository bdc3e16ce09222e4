"""The message bus' envelope: `{topic, epoch, seq, ts, source, data}`, with `prev_seq` in the stream."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from vnpy_core.bus import records, topics
from vnpy_core.bus.message import Message
from vnpy_core.domain import events
from vnpy_core.domain.books import halt_key
from vnpy_core.domain.events import Event
from vnpy_core.ports.broker import Entry
from vnpy_core.ports.journal import Row

CACHED: Final[dict[str, str]] = {
    topics.ORDER_UPDATED: "order",
    topics.TRADE_EXECUTED: "trade",
    topics.QUOTE_UPDATED: "quote",
    topics.RISK_HALT: "halt",
    topics.POSITION_UPDATED: "position",
    topics.ACCOUNT_UPDATED: "account",
    topics.CONTRACT_UPDATED: "contract",
    topics.GATEWAY_UPDATED: "gateway",
    topics.STRATEGY_UPDATED: "strategy",
    topics.STOP_ORDER_UPDATED: "stop_order",
    topics.ALGO_UPDATED: "algo",
    topics.JOB_UPDATED: "job",
}
"""Topic -> the cache's kind. Ticks, whose topics are many, are of kind `TICK`."""
TICK: Final = "tick"

_TYPES: dict[str, type[Event]] = {
    topics.ORDER_UPDATED: events.Order,
    topics.TRADE_EXECUTED: events.Trade,
    topics.QUOTE_UPDATED: events.Quote,
    topics.RISK_HALT: events.Halt,
    topics.RISK_EVENT: events.RiskEvent,
    topics.POSITION_UPDATED: events.Position,
    topics.ACCOUNT_UPDATED: events.Account,
    topics.CONTRACT_UPDATED: events.Contract,
    topics.GATEWAY_UPDATED: events.Gateway,
    topics.STRATEGY_UPDATED: events.StrategyUpdate,
    topics.STRATEGY_LOG: events.Log,
    topics.STOP_ORDER_UPDATED: events.StopOrderUpdate,
    topics.ALGO_UPDATED: events.AlgoUpdate,
    topics.JOB_UPDATED: events.Job,
    topics.LOG: events.Log,
}
_decoders: dict[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(type_) for name, type_ in _TYPES.items()}
_tick_decoder = msgspec.json.Decoder(events.Tick)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Envelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What travels. `data` is the event's own JSON, untouched from the journal to the client."""

    topic: str
    epoch: str
    seq: int
    prev_seq: int | None = None
    ts: datetime
    source: str = ""
    data: msgspec.Raw

    def message(self, *, seq: int | None = None) -> Message:
        """As the bus carries it, at `seq` where the reader's own place counts. Raises msgspec.DecodeError, KeyError."""
        payload = bytes(self.data)
        event = decode_event(self.topic, payload)
        place = self.seq if seq is None else seq
        return Message(self.topic, key_of(event), self.epoch, place, self.ts, event, payload=payload)


_envelope_decoder = msgspec.json.Decoder(Envelope)


def decode(envelope: bytes) -> Envelope:
    """Raises msgspec.DecodeError."""
    return _envelope_decoder.decode(envelope)


def decode_event(topic: str, payload: bytes) -> Event:
    """The typed event of a topic. Raises msgspec.DecodeError, KeyError (unknown topic)."""
    decoder = _tick_decoder if topic.startswith(topics.TICK_PREFIX) else _decoders[topic]
    event: Event = decoder.decode(payload)
    return event


def encode_message(message: Message, source: str) -> bytes:
    """The envelope of what is published at most once, and of what is cached. Raises TypeError, ValueError."""
    return b'%b,"source":%b,"data":%b}' % (message.head, msgspec.json.encode(source), message.payload)


def message_of(row: Row) -> Message | None:
    """A journal row as it was published; None for rows that no topic shows. Raises msgspec.DecodeError."""
    if row.kind not in topics.FIXED_TOPICS:
        return None
    event = records.decode(row.kind, row.payload)
    ts = _EPOCH + timedelta(microseconds=row.ts)
    return Message(row.kind, key_of(event), row.epoch, row.seq, ts, event, payload=row.payload)


def entry_of(row: Row, prev_seq: int, source: str) -> Entry | None:
    """A journal row as the stream has it; None for rows that no topic shows. Does not look into the payload."""
    if row.kind not in topics.FIXED_TOPICS:
        return None
    ts = msgspec.json.encode(_EPOCH + timedelta(microseconds=row.ts))
    envelope = b'{"topic":"%b","epoch":"%b","seq":%d,"prev_seq":%d,"ts":%b,"source":%b,"data":%b}' % (
        row.kind.encode(),
        row.epoch.encode(),
        row.seq,
        prev_seq,
        ts,
        msgspec.json.encode(source),
        row.payload,
    )
    return Entry(row.seq, prev_seq, envelope)


def key_of(event: Event) -> str:  # noqa: PLR0911 - a table
    """What names the thing an event is about: the newest of a key replaces an older one where that is allowed."""
    match event:
        case events.Tick():
            return event.vt_symbol
        case events.Order():
            return event.vt_orderid
        case events.Trade():
            return event.vt_tradeid
        case events.Quote():
            return event.vt_quoteid
        case events.Position():
            return event.vt_positionid
        case events.Account():
            return event.vt_accountid
        case events.Contract():
            return f"{event.gateway_name}.{event.vt_symbol}"
        case events.Gateway():
            return event.gateway_name
        case events.StrategyUpdate():
            return event.strategy_name
        case events.StopOrderUpdate():
            return event.stop_orderid
        case events.AlgoUpdate():
            return event.algo_name
        case events.Job():
            return event.id
        case events.Halt():
            return halt_key(event)
        case events.RiskEvent():
            return event.rule
        case events.Log():
            return event.source
        case _:
            return ""
