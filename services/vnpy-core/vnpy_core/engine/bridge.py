"""The door out: from VnPy's event thread to the asyncio loop, batched, with one wake-up for many events."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from vnpy.event import Event, EventEngine
from vnpy.trader.event import (
    EVENT_ACCOUNT,
    EVENT_CONTRACT,
    EVENT_LOG,
    EVENT_ORDER,
    EVENT_POSITION,
    EVENT_QUOTE,
    EVENT_TICK,
    EVENT_TRADE,
)

from vnpy_core.bus import topics
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.envelope import key_of
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain import events
from vnpy_core.engine import translate
from vnpy_core.engine.event_engine import EventGuard
from vnpy_core.engine.sequencer import Staged
from vnpy_core.engine.stage import EVENT_ADOPTED_ORDER, EVENT_ADOPTED_TRADE, EVENT_DENIED, EVENT_HALT
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.flow import Flow

BATCH = 256
"""Messages published per turn of the loop, so that requests get theirs between."""
TICK_LIMIT = 20_000
"""Messages waiting for the loop past which a newer tick replaces the waiting one of its symbol."""
BURST = 32
"""Ticks for which the loop is woken once, where they come together."""
HOLD_AT, RELEASE_AT = 2_000, 500
"""Messages waiting at which a fast replay pauses and goes on."""


class EventBridge:
    """Translates what VnPy's handlers see and publishes it on the loop, after the read view took it in.

    `attach` and `emit` run on the event thread, `flush` on the loop. Class A events were translated and numbered by the
    stage; the others carry the last number that was published.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        bus: Bus,
        view: ReadView,
        clock: Clock,
        flow: Flow,
        *,
        epoch: str,
        seq: int,
        on_tick: Callable[[events.Tick], None] | None = None,
    ) -> None:
        """`on_tick` sees every tick, on the event thread, and returns at once."""
        self.epoch = epoch
        self.seq = seq
        self.ticks_conflated = 0
        self._loop = loop
        self._bus = bus
        self._view = view
        self._clock = clock
        self._flow = flow
        self._inbox: deque[Message] = deque()
        self._late_ticks: dict[str, Message] = {}
        self._late_lock = threading.Lock()
        self._scheduled = False
        self._holding = False
        self._tick_seqs: dict[str, int] = {}
        self._on_tick = on_tick
        self._put: Callable[[Event], None] = lambda event: None
        self._guard: EventGuard | None = None
        self._handlers: dict[str, Callable[[Event], None]] = {
            EVENT_TICK: self._tick,
            EVENT_ORDER: lambda event: self._staged(event, topics.ORDER_UPDATED),
            EVENT_TRADE: lambda event: self._staged(event, topics.TRADE_EXECUTED),
            EVENT_QUOTE: lambda event: self._staged(event, topics.QUOTE_UPDATED),
            EVENT_ADOPTED_ORDER: lambda event: self._staged(event, topics.ORDER_UPDATED),
            EVENT_ADOPTED_TRADE: lambda event: self._staged(event, topics.TRADE_EXECUTED),
            EVENT_HALT: lambda event: self._staged(event, topics.RISK_HALT),
            EVENT_DENIED: lambda event: self._staged(event, topics.RISK_EVENT),
            EVENT_POSITION: lambda event: self._position(event.data),
            EVENT_ACCOUNT: lambda event: self._account(event.data),
            EVENT_CONTRACT: lambda event: self._contract(event.data),
            EVENT_LOG: lambda event: self._log(event.data),
        }

    @property
    def backlog(self) -> int:
        """Messages that wait for the loop."""
        return len(self._inbox) + len(self._late_ticks)

    def attach(self, event_engine: EventEngine, guard: EventGuard | None = None) -> Callable[[], None]:
        """Listen to VnPy's base event types; returns the way to stop.

        With the engine's `guard` the loop is woken once for ticks that come together.
        """
        self._put = event_engine.put
        if guard is not None:
            self._guard, guard.idle = guard, self._wake_for_ticks
        for event_type, handler in self._handlers.items():
            event_engine.register(event_type, handler)

        def detach() -> None:
            if guard is not None:
                self._guard, guard.idle = None, lambda: None
            for event_type, handler in self._handlers.items():
                event_engine.unregister(event_type, handler)

        return detach

    def seed(self, main_engine: Any) -> None:
        """Publish all that the OMS holds, for a host whose engine ran before us. Event thread."""
        for contract in main_engine.get_all_contracts():
            self._contract(contract)
        for account in main_engine.get_all_accounts():
            self._account(account)
        for position in main_engine.get_all_positions():
            self._position(position)
        for order in main_engine.get_all_orders():
            main_engine.event_engine.put(Event(EVENT_ADOPTED_ORDER, order))
        for trade in main_engine.get_all_trades():
            main_engine.event_engine.put(Event(EVENT_ADOPTED_TRADE, trade))
        for tick in main_engine.get_all_ticks():
            self._tick(Event(EVENT_TICK, tick))

    def emit(self, topic: str, key: str, data: events.Event) -> None:
        """Queue one message for the loop. Any thread may call, except for topics with a sequence of their own."""
        self._inbox.append(Message(topic, key, self.epoch, self.seq, self._clock.now(), data))
        self._wake()

    async def flush(self) -> None:
        """Return when everything that was queued before the call has been published."""
        while self._inbox or self._late_ticks:
            self._wake()  # perhaps nobody has been woken for the last ticks yet
            await asyncio.sleep(0)  # each turn of the loop publishes a batch

    def _tick(self, event: Event) -> None:
        data: Any = event.data
        vt_symbol = data.vt_symbol
        seq = self._tick_seqs[vt_symbol] = self._tick_seqs.get(vt_symbol, 0) + 1
        topic = topics.tick(vt_symbol)
        tick = translate.tick(data, seq)
        if self._on_tick is not None:
            self._on_tick(tick)
        message = Message(topic, vt_symbol, self.epoch, self.seq, self._clock.now(), tick)
        waiting = len(self._inbox)
        if (waiting > TICK_LIMIT or self._late_ticks) and self._conflated(topic, message, waiting):
            return
        self._inbox.append(message)
        if waiting > HOLD_AT and not self._holding:
            self._holding = True
            self._flow.hold("bridge")
        guard = self._guard
        if guard is None or not guard.waiting or waiting >= BURST:
            self._wake()

    def _conflated(self, topic: str, message: Message, waiting: int) -> bool:
        with self._late_lock:
            # A symbol whose tick already waits here stays here, or its ticks would pass each other.
            if waiting <= TICK_LIMIT and topic not in self._late_ticks:
                return False
            self.ticks_conflated += topic in self._late_ticks
            self._late_ticks[topic] = message
            return True

    def _staged(self, event: Event, topic: str) -> None:
        """A class A event, numbered by the stage; without news there is nothing to publish."""
        staged: Staged | None = getattr(event, "staged", None)
        if staged is None:
            # It was in the queue before the stage was there.
            adopted = {EVENT_ORDER: EVENT_ADOPTED_ORDER, EVENT_TRADE: EVENT_ADOPTED_TRADE}.get(event.type)
            if adopted is not None:
                self._put(Event(adopted, event.data))
            return
        data: Any = staged.data
        if data is not None:
            self.seq = data.seq
            self.emit(topic, key_of(data), data)

    def _position(self, data: Any) -> None:
        position = translate.position(data, seq=self.seq)
        self.emit(topics.POSITION_UPDATED, position.vt_positionid, position)

    def _account(self, data: Any) -> None:
        account = translate.account(data, seq=self.seq)
        self.emit(topics.ACCOUNT_UPDATED, account.vt_accountid, account)

    def _contract(self, data: Any) -> None:
        contract = translate.contract(data)
        self.emit(topics.CONTRACT_UPDATED, f"{contract.gateway_name}.{contract.vt_symbol}", contract)

    def _log(self, data: Any) -> None:
        log = translate.log(data)
        self.emit(topics.LOG, log.source, log)

    def emit_risk(self, event: events.RiskEvent) -> None:
        """A rule's new state. Event thread."""
        self.emit(topics.RISK_EVENT, event.rule, event)

    def _wake_for_ticks(self) -> None:
        if self._inbox:
            self._wake()

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._publish)

    def _publish(self) -> None:
        # Cleared first: whatever is appended from here on schedules its own turn.
        self._scheduled = False
        for _ in range(min(BATCH, len(self._inbox))):
            self._publish_one(self._inbox.popleft())
        if not self._inbox and self._late_ticks:
            with self._late_lock:
                late, self._late_ticks = self._late_ticks, {}
            for message in late.values():
                self._publish_one(message)
        if self._holding and len(self._inbox) < RELEASE_AT:
            self._holding = False
            self._flow.release("bridge")
        if self._inbox or self._late_ticks:
            self._scheduled = True
            self._loop.call_soon(self._publish)

    def _publish_one(self, message: Message) -> None:
        self._view.apply(message)
        self._bus.publish(message)
