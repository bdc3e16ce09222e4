"""The service's state, held at home: fed by a stream, and made whole over REST where the stream could not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from vnpy_core.client.messages import Gap, Snapshot, StreamMessage, Subscribed, Unsubscribed, Update, matches
from vnpy_core.domain.books import halt_key
from vnpy_core.domain.events import (
    Account,
    AlgoUpdate,
    Contract,
    Event,
    Gateway,
    Halt,
    Job,
    Order,
    Position,
    Quote,
    StopOrderUpdate,
    StrategyUpdate,
    Tick,
    Trade,
)

if TYPE_CHECKING:
    from vnpy_core.client.client import Client

E = TypeVar("E", bound=Event)

KEEP: Final = 50_000
ORDERS: Final = "order.updated"
TRADES: Final = "trade.executed"


class MirrorCounters(msgspec.Struct):
    """What became of the messages since the mirror was made."""

    applied: int = 0
    """Live events that were new."""
    duplicates: int = 0
    """Lossless events that the stream gave twice, which were not applied again: must stay 0."""
    stale: int = 0
    """Events older than what is held, from REST or from a node that lags behind the last one; not applied."""
    gaps: int = 0
    heals: int = 0


class Mirror:
    """Orders (all active ones, recent finished ones), trades, positions and the rest. One task.

    It holds the orders that were active when the subscription began and all that happened since. With `after_seq` also
    what happened after that place before (0: all that the service has): the first `heal` reads it. Where the service
    begins another epoch the mirror begins anew. Finished orders and trades are kept up to `keep` each.
    """

    def __init__(self, *, after_seq: int | None = None, keep: int = KEEP) -> None:
        self.counters = MirrorCounters()
        self.epoch = ""
        self.active_orders: dict[str, Order] = {}
        """By vt_orderid, as `finished_orders`."""
        self.finished_orders: OrderedDict[str, Order] = OrderedDict()
        self.trades: OrderedDict[int, Trade] = OrderedDict()
        """By seq: some venues give a vt_tradeid again."""
        self.positions: dict[str, Position] = {}
        self.accounts: dict[str, Account] = {}
        self.contracts: dict[tuple[str, str], Contract] = {}
        """By vt_symbol and gateway_name."""
        self.ticks: dict[str, Tick] = {}
        self.quotes: dict[str, Quote] = {}
        """The active ones."""
        self.halts: dict[str, Halt] = {}
        """Those in force, by `domain.books.halt_key`."""
        self.gateways: dict[str, Gateway] = {}
        self.strategies: dict[str, StrategyUpdate] = {}
        self.stop_orders: dict[str, StopOrderUpdate] = {}
        self.algos: dict[str, AlgoUpdate] = {}
        self.jobs: dict[str, Job] = {}
        self._after_seq = after_seq
        self._keep = keep
        self._begun: set[str] = set()
        """Of ORDERS and TRADES, those that were ever listened to in this epoch."""
        self._last = 0
        """The newest lossless event applied."""
        self._seen = 0
        """All lossless events of our topics up to here were applied, but for those in `_missing`."""
        self._missing: dict[str, int] = {}
        """Topic -> the place after which it has to be read again."""

    @property
    def needs_heal(self) -> bool:
        """Whether orders or trades are missing that only REST can tell."""
        return bool(self._missing)

    @property
    def orders(self) -> dict[str, Order]:
        """All orders held, by vt_orderid."""
        return {**self.finished_orders, **self.active_orders}

    def apply(self, message: StreamMessage) -> None:
        """Take in one message of the stream, in its order."""
        match message:
            case Update():
                self._update(message)
            case Snapshot():
                self._snapshot(message)
            case Subscribed():
                self._subscribed(message)
            case Unsubscribed():
                self._lack(message.topics)
            case Gap():
                self.counters.gaps += 1
                self._lack((message.topic,))
            case _:
                pass

    async def heal(self, client: Client) -> None:
        """Read what is missing; afterwards the orders and trades equal the service's.

        `client` speaks to the core, or to the edge that the stream comes from: another one may lag behind it. Where
        this raises, the rest is still missing and `heal` may be called again. Raises CoreError.
        """
        while self._missing:
            topic, after_seq = self._missing.popitem()
            try:
                if topic == ORDERS:
                    async for order in client.trading.orders(after_seq=after_seq):
                        self._take_order(order)
                else:
                    await self._heal_trades(client, after_seq)
            except BaseException:
                self._miss(topic, after_seq)
                raise
            self.counters.heals += 1

    async def _heal_trades(self, client: Client, after_seq: int) -> None:
        read = {trade.seq: trade async for trade in client.trading.trades(after_seq=after_seq)}
        self.trades = OrderedDict(sorted((self.trades | read).items())[-self._keep :])

    def _update(self, update: Update) -> None:
        event = update.data
        if update.prev_seq is not None:
            if update.seq <= self._last:
                self.counters.duplicates += 1
                return
            self._last = update.seq
            if isinstance(event, Order | Trade) and not event.seq:
                event = msgspec.structs.replace(event, seq=update.seq)
        self._seen = max(self._seen, update.seq)
        self.counters.applied += 1
        self._take(event)

    def _subscribed(self, message: Subscribed) -> None:
        if message.resumed:
            return
        if self.epoch and message.epoch != self.epoch:
            self._begin_anew()
        self.epoch = message.epoch
        for topic in _covered(message.topics):
            if topic in self._begun:
                self._miss(topic, self._seen)
            elif self._after_seq is not None:
                self._miss(topic, self._after_seq)
            self._begun.add(topic)
        # What a node that lags behind the last one tells again is no duplicate: it was not asked to go on.
        self._last = min(self._last, message.seq)
        self._seen = max(self._seen, message.seq)

    def _begin_anew(self) -> None:
        for table in (self.active_orders, self.finished_orders, self.trades, self.positions, self.accounts,
                      self.quotes, self.halts):  # fmt: skip
            table.clear()
        self._begun.clear()
        self._missing.clear()
        self._last = self._seen = 0

    def _lack(self, patterns: Iterable[str]) -> None:
        for topic in _covered(patterns):
            if topic in self._begun:
                self._miss(topic, self._seen)

    def _miss(self, topic: str, after_seq: int) -> None:
        self._missing[topic] = min(after_seq, self._missing.get(topic, after_seq))

    def _snapshot(self, snapshot: Snapshot) -> None:
        items, seq = snapshot.items, snapshot.seq
        match snapshot.topic:
            case "order.updated":
                # What is not among the active ones any more has ended: `heal` reads how.
                _replace(self.active_orders, items, Order, lambda order: order.vt_orderid, seq)
            case "position.updated":
                _replace(self.positions, items, Position, lambda position: position.vt_positionid, seq)
            case "account.updated":
                _replace(self.accounts, items, Account, lambda account: account.vt_accountid, seq)
            case "quote.updated":
                _replace(self.quotes, items, Quote, lambda quote: quote.vt_quoteid, seq)
            case "risk.halt":
                _replace(self.halts, items, Halt, halt_key, seq)
            case "contract.updated":
                self.contracts.clear()
            case "gateway.updated":
                self.gateways.clear()
            case "strategy.updated":
                self.strategies.clear()
            case "stop_order.updated":
                self.stop_orders.clear()
            case "algo.updated":
                self.algos.clear()
            case "job.updated":
                self.jobs.clear()
            case _:
                pass
        for item in items:
            self._take(item)

    def _take(self, event: Event) -> None:  # noqa: PLR0912 - a table
        match event:
            case Tick():
                self.ticks[event.vt_symbol] = event
            case Order():
                self._take_order(event)
            case Trade():
                self._take_trade(event)
            case Position():
                self._newest(self.positions, event.vt_positionid, event)
            case Account():
                self._newest(self.accounts, event.vt_accountid, event)
            case Contract():
                self.contracts[event.vt_symbol, event.gateway_name] = event
            case Quote():
                if event.status.is_active:
                    self.quotes[event.vt_quoteid] = event
                else:
                    self.quotes.pop(event.vt_quoteid, None)
            case Halt():
                if event.active:
                    self.halts[halt_key(event)] = event
                else:
                    self.halts.pop(halt_key(event), None)
            case Gateway():
                self.gateways[event.gateway_name] = event
            case StrategyUpdate():
                self.strategies[event.strategy_name] = event
            case StopOrderUpdate():
                self.stop_orders[event.stop_orderid] = event
            case AlgoUpdate():
                self.algos[event.algo_name] = event
            case Job():
                self.jobs[event.id] = event
            case _:
                pass

    def _take_order(self, order: Order) -> None:
        name = order.vt_orderid
        held = self.active_orders.get(name) or self.finished_orders.get(name)
        if held is not None and order.seq < held.seq:
            self.counters.stale += 1
            return
        self.finished_orders.pop(name, None)
        if order.is_active:
            self.active_orders[name] = order
            return
        self.active_orders.pop(name, None)
        self.finished_orders[name] = order
        if len(self.finished_orders) > self._keep:
            self.finished_orders.popitem(last=False)

    def _take_trade(self, trade: Trade) -> None:
        self.trades[trade.seq] = trade
        if len(self.trades) > self._keep:
            self.trades.popitem(last=False)

    def _newest(self, table: dict[str, E], name: str, event: E) -> None:
        held = table.get(name)
        if held is not None and 0 < _seq(event) < _seq(held):
            self.counters.stale += 1
        else:
            table[name] = event


def _covered(patterns: Iterable[str]) -> list[str]:
    """Which of the topics that REST can heal fall under them."""
    return [topic for topic in (ORDERS, TRADES) if any(matches(pattern, topic) for pattern in patterns)]


def _replace(table: dict[str, E], items: Iterable[Event], kind: type[E], name: Callable[[E], str], seq: int) -> None:
    """Forget what the snapshot of `seq` has no more; what is newer than it stays."""
    present = {name(item) for item in items if isinstance(item, kind)}
    for each in [key for key, held in table.items() if key not in present and _seq(held) <= seq]:
        del table[each]


def _seq(event: Event) -> int:
    seq: int = getattr(event, "seq", 0)
    return seq
