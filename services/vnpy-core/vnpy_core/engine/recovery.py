"""After each connect: what the venue shows is compared with our books, and only then may orders pass.

A start after a clean stop, a start after a crash and a reconnect are the same path. What the venue shows comes as
ordinary events through the stage, which knows what is new; here the rest is found: what is missing on one side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from decimal import Decimal
from itertools import groupby
from typing import Any, NamedTuple

import msgspec
import structlog

from vnpy_core.bus import records
from vnpy_core.bus.message import Message
from vnpy_core.domain.books import ALL_SYMBOLS, Books, content_of, progress, trading_day, uid_in
from vnpy_core.domain.enums import Direction, IntentState, ReconciliationState, Status
from vnpy_core.domain.errors import Conflict, NotFound, describe
from vnpy_core.domain.events import Account, IntentOutcome, Order, OrderIntent, Position, PositionBase, Trade
from vnpy_core.domain.reconciliation import Difference, DifferenceKind, Reconciliation, UnknownIntent
from vnpy_core.engine.sequencer import Shown
from vnpy_core.engine.stage import Stage
from vnpy_core.kit.tasks import in_own_thread
from vnpy_core.ports.clock import Clock

SETTLE_LIMIT_S = 60.0
POSITION_TRIES = 10
POSITION_PAUSE_S = 0.2
QUERY_LIMIT_S = 5.0

_OPEN = (ReconciliationState.RECONCILED, ReconciliationState.ACCEPTED)
_log = structlog.get_logger(__name__)


class Capabilities(msgspec.Struct, frozen=True):
    """What a gateway declares; the defaults stand for what it does not."""

    can_query_orders: bool = False
    """A connect shows every order that is active or of today."""
    can_query_trades: bool = False
    ids_unique_across_restart: bool = False
    exclusive_account: bool = True
    """Its account can be reached by another process too, so only one may trade it."""

    @classmethod
    def of(cls, gateway: Any, configured: Mapping[Any, bool]) -> Capabilities:
        """The gateway's own `capabilities`, and over them those of the configuration."""
        declared = {**dict(getattr(gateway, "capabilities", {})), **configured}
        return cls(**{name: bool(declared[name]) for name in cls.__struct_fields__ if name in declared})


class _Missing(NamedTuple):
    """What was different when a showing ended."""

    differences: list[Difference]
    orders: list[tuple[str, Order]]
    """By uid, those that are active in the books and were not shown."""
    trades: list[Difference]


class Recovery:
    """Loop thread only, but for `reason`."""

    def __init__(
        self,
        stage: Stage,
        clock: Clock,
        *,
        settle: Callable[[], Awaitable[None]],
        end_order: Callable[[Order, str], None],
        clear_position: Callable[[Position], None],
        silence_s: float = 5.0,
    ) -> None:
        """A gateway that does not say when it has shown all counts as done after `silence_s` without news.

        `settle` returns when all that was forwarded is handled and published; `end_order(order, reason)` tells
        VnPy's handlers that an order ended of which its venue knows nothing any more, `clear_position(position)` that
        a holding is no more.
        """
        self._stage = stage
        self._clock = clock
        self._settle = settle
        self._end_order = end_order
        self._clear_position = clear_position
        self._silence_s = silence_s
        self._reports: dict[str, Reconciliation] = {}
        self._positions: dict[str, dict[str, Position]] = {}
        self._has_account: set[str] = set()

    # --- asking ---

    def reason(self, gateway_name: str) -> str:
        """Why a gateway may not be traded through yet; empty where it may. Any thread."""
        report = self._reports.get(gateway_name)
        if report is None or report.state in _OPEN:
            return ""
        count = sum(not difference.resolved for difference in report.differences)
        waits = f"{count} differences wait for a decision" if count else "its venue was not compared with our books yet"
        return f"gateway {gateway_name} is not reconciled ({report.state}): {waits}"

    def all(self) -> list[Reconciliation]:
        """The last report of each gateway, by name."""
        return [self._reports[name] for name in sorted(self._reports)]

    def report(self, gateway_name: str) -> Reconciliation:
        """Raises NotFound."""
        if gateway_name not in self._reports:
            raise NotFound(f"there is no gateway {gateway_name}")
        return self._reports[gateway_name]

    # --- the path after a connect ---

    def expect(self, gateway_name: str) -> None:
        """Nothing passes this gateway before it is reconciled: it is new, or its connection was lost."""
        self._reports[gateway_name] = Reconciliation(
            gateway_name=gateway_name, state=ReconciliationState.PENDING, unknown_intents=self._unknown(gateway_name)
        )

    def begin(self, gateway_name: str) -> Shown:
        """What the gateway sends from now on is what its venue shows. Before its connect."""
        self._positions[gateway_name] = {}
        self._has_account.discard(gateway_name)
        shown = self._stage.begin_showing(gateway_name)
        self._reports[gateway_name] = Reconciliation(
            gateway_name=gateway_name,
            state=ReconciliationState.RUNNING,
            started_at=self._clock.now(),
            unknown_intents=self._unknown(gateway_name),
        )
        return shown

    def take(self, message: Message) -> None:
        """A bus subscriber for positions and accounts."""
        event = message.data
        if isinstance(event, Position):
            self._positions.setdefault(event.gateway_name, {})[event.vt_positionid] = event
        elif isinstance(event, Account):
            self._has_account.add(event.gateway_name)

    def showing(self, gateway_name: str) -> Shown | None:
        """What is being collected of what its venue shows; another one as soon as anybody began anew."""
        return self._stage.showing(gateway_name)

    async def finish(
        self,
        gateway_name: str,
        gateway: Any,
        capabilities: Capabilities,
        *,
        shown_all: bool,
        asked_orders: bool = True,
    ) -> bool:
        """Wait until the venue has shown all, compare, report; True where orders may pass now.

        `shown_all`: the gateway has said so itself, else silence says it. `asked_orders`: the gateway was made to show
        its orders, so that one which is missing says something. Overtaken by another connect it gives up.
        """
        shown = self._stage.showing(gateway_name)
        if shown is None:
            return not self.reason(gateway_name)
        try:
            found = await self._find(gateway_name, gateway, capabilities, shown, shown_all, asked_orders)
        except BaseException:
            if self._stage.showing(gateway_name) is shown:
                self.abandon(gateway_name)
            raise
        if found is None:
            return False
        unknown = self._unknown(gateway_name)
        self._conclude(gateway_name, shown, [*found, *map(_unknown_difference, unknown)], unknown)
        return not self.reason(gateway_name)

    def abandon(self, gateway_name: str) -> None:
        """The connect failed or was overtaken: what waited goes on, and the gateway stays closed for orders."""
        self._stage.end_showing(gateway_name, lambda unknown, ownerless, intents: [])
        if (shown := self._stage.showing(gateway_name)) is not None:
            self._stage.close_showing(gateway_name, shown, lambda books: None)
        self.expect(gateway_name)

    async def accept(self, gateway_name: str, *, reason: str, by: str) -> Reconciliation:
        """Let orders pass although venue and books differ. Raises NotFound, Conflict, StorageFull, JournalFailed."""
        report = self.report(gateway_name)
        if report.state is not ReconciliationState.DIFFERENT:
            raise Conflict(f"gateway {gateway_name} is {report.state}: there is nothing to accept")
        for difference in report.differences:
            if not difference.resolved:
                await self._accept_one(gateway_name, difference, reason, by)
        accepted = msgspec.structs.replace(
            report, state=ReconciliationState.ACCEPTED, accepted_by=by, accepted_reason=reason
        )
        self._reports[gateway_name] = accepted
        return accepted

    async def resolve(
        self, client_order_id: str, state: IntentState, *, vt_orderid: str, evidence: str, by: str
    ) -> IntentOutcome:
        """An admin says what became of an intent. Raises NotFound, Conflict, StorageFull, JournalFailed."""
        intent = self._stage.inspect(lambda books: _open_intent(books, client_order_id, self._stage.sequencer.orphans))
        if state is IntentState.BOUND:
            self._stage.inspect(lambda books: _require_free_order(books, vt_orderid, intent))
        outcome = IntentOutcome(
            client_order_id=client_order_id,
            gateway_name=intent.gateway_name,
            state=state,
            vt_orderid=vt_orderid if state is IntentState.BOUND else "",
            evidence=evidence,
            by=by,
            at=self._clock.now(),
        )
        await asyncio.wrap_future(self._stage.settle_intent(outcome))
        self._forget_unknown(intent, outcome)
        return outcome

    # --- inside ---

    async def _find(
        self,
        gateway_name: str,
        gateway: Any,
        capabilities: Capabilities,
        shown: Shown,
        shown_all: bool,
        asked_orders: bool,
    ) -> list[Difference] | None:
        """All differences but the intents that stay unknown; None where this showing was overtaken or cut short."""
        connection = _connection(gateway)
        if not shown_all:
            await self._wait_for_silence(gateway_name, shown)
        await asyncio.wrap_future(self._stage.barrier())
        if self._stage.showing(gateway_name) is not shown or connection is None:
            self._give_up(gateway_name, shown)
            return None
        outcomes = self._stage.end_showing(
            gateway_name,
            lambda unknown, ownerless, intents: self._match(unknown, ownerless, intents, capabilities),
        )
        await asyncio.wrap_future(self._stage.barrier())
        await self._settle()
        await self._clear_positions(gateway_name)
        positions = await self._compare_positions(gateway_name, gateway, shown)
        # A connection that was lost meanwhile may have shown a part only: nothing may count as gone by that.
        missing = None
        if _connection(gateway) == connection:
            missing = self._stage.close_showing(gateway_name, shown, lambda books: self._missing(books, shown))
        if missing is None:
            self._give_up(gateway_name, shown)
            return None
        found = [*_from_outcomes(outcomes), *missing.differences]
        if asked_orders:
            found += await self._settle_gone(missing.orders, can_query=capabilities.can_query_orders)
        if capabilities.can_query_trades:
            found += missing.trades
        return [*found, *positions]

    def _missing(self, books: Books, shown: Shown) -> _Missing:
        """What the venue did not show, taken in the same instant in which the showing ends: what comes afterwards was
        not missing.
        """
        return _Missing(
            list(_from_shown(books, shown)),
            [(uid, order) for uid, order in books.active_orders(shown.gateway_name) if uid not in shown.orders],
            _gone_trades(books, shown, trading_day(self._clock.now())),
        )

    def _give_up(self, gateway_name: str, shown: Shown) -> None:
        """Leave what was shown so far to the next connect."""
        if self._stage.showing(gateway_name) is shown:
            self.abandon(gateway_name)

    async def _wait_for_silence(self, gateway_name: str, shown: Shown) -> None:
        limit = self._clock.monotonic() + SETTLE_LIMIT_S
        while self._clock.monotonic() < limit and self._stage.showing(gateway_name) is shown:
            if self._clock.monotonic() - shown.last_news > self._silence_s:
                return
            await asyncio.sleep(self._silence_s / 10)

    def _match(
        self, unknown: list[Order], ownerless: list[Order], intents: list[OrderIntent], capabilities: Capabilities
    ) -> list[IntentOutcome]:
        """Which orders that nothing names are which open intents, by content; only where there is no doubt."""
        outcomes: list[IntentOutcome] = []
        left = list(unknown)
        for content, group in groupby(sorted(intents, key=_content_key), key=content_of):
            alike = sorted(group, key=lambda intent: intent.created_at)
            found = [order for order in unknown if content_of(order) == content]
            bound = self._match_alike(alike, found, can_query=capabilities.can_query_orders)
            named = {outcome.vt_orderid for outcome in bound}
            left = [order for order in left if order.vt_orderid not in named]
            outcomes += bound
        if capabilities.can_query_orders:
            settled = {outcome.client_order_id for outcome in outcomes}
            rest = [intent for intent in intents if intent.client_order_id not in settled]
            outcomes += self._not_sent(rest, [*left, *ownerless])
        return outcomes

    def _match_alike(self, intents: list[OrderIntent], orders: list[Order], *, can_query: bool) -> list[IntentOutcome]:
        """Intents of one content are the orders of that content, where it makes no difference which is which."""
        is_doubtful = len(orders) > len(intents) or (len(orders) < len(intents) and not can_query)
        if is_doubtful or (len(intents) > 1 and len({intent.strategy_name for intent in intents}) > 1):
            return []
        evidence = f"the venue shows {len(orders)} order(s) of this content that nothing names"
        return [
            self._outcome(intent, IntentState.BOUND, order.vt_orderid, evidence)
            for intent, order in zip(intents, orders, strict=False)
        ]

    def _not_sent(self, intents: list[OrderIntent], orders: list[Order]) -> Iterable[IntentOutcome]:
        """An intent never reached a venue that lists all orders and none there may be its: not its side of its contract
        either, because a venue may have changed the price or volume. Of another day's orders the list says nothing.
        """
        today = trading_day(self._clock.now())
        for intent in intents:
            side = (intent.vt_symbol, intent.direction)
            is_of_today = trading_day(intent.created_at) == today
            if is_of_today and all((order.vt_symbol, order.direction) != side for order in orders):
                evidence = "not among the orders that the venue lists"
                yield self._outcome(intent, IntentState.NOT_SENT, "", evidence)

    def _outcome(self, intent: OrderIntent, state: IntentState, vt_orderid: str, evidence: str) -> IntentOutcome:
        return IntentOutcome(
            client_order_id=intent.client_order_id,
            gateway_name=intent.gateway_name,
            state=state,
            vt_orderid=vt_orderid,
            evidence=evidence,
            at=self._clock.now(),
        )

    async def _settle_gone(self, gone: list[tuple[str, Order]], *, can_query: bool) -> list[Difference]:
        if can_query and gone:
            for uid, order in gone:
                self._end(uid, order, "not among the orders that the venue lists")
            await asyncio.wrap_future(self._stage.barrier())
            await self._settle()
        return [_gone_difference(order, resolved=can_query) for _, order in gone]

    def _end(self, uid: str, order: Order, reason: str) -> None:
        """VnPy's handlers hear of it, but for an order whose id means another one by now."""
        if self._stage.inspect(lambda books: books.uid(order.vt_orderid)) == uid:
            self._end_order(order, reason)
            return
        ended = msgspec.structs.replace(order, status=Status.CANCELLED, reason=reason, updated_at=self._clock.now())
        self._stage.record(records.ORDER_SETTLED, uid, ended)

    async def _clear_positions(self, gateway_name: str) -> None:
        """A venue does not show what it no longer holds: say it for it, or the books hold it for ever."""
        if gateway_name not in self._has_account and not self._positions.get(gateway_name):
            return
        held = self._stage.inspect(lambda books: _held(books, gateway_name))
        gone = [position for position in held if position.vt_positionid not in self._positions[gateway_name]]
        for position in gone:
            self._clear_position(position)
        if gone:
            await self._settle()

    async def _compare_positions(self, gateway_name: str, gateway: Any, shown: Shown) -> list[Difference]:
        """The venue's positions against base plus fills; asked again while a fill may be on its way."""
        if gateway_name not in self._has_account and not self._positions.get(gateway_name):
            return []
        for attempt in range(POSITION_TRIES):
            venue = self._venue_nets(gateway_name)
            expected = self._stage.inspect(lambda books: _nets(books, gateway_name, venue))  # noqa: B023 - runs at once
            differing = {s: net for s, net in expected.items() if net is not None and venue.get(s, Decimal(0)) != net}
            if not differing or self._stage.showing(gateway_name) is not shown:
                break
            if attempt < POSITION_TRIES - 1:
                await _ask_positions(gateway, gateway_name)
                await asyncio.sleep(POSITION_PAUSE_S)
                await self._settle()
        bases = [self._base(gateway_name, s, volume) for s, volume in venue.items() if expected[s] is None]
        if self._stage.inspect(lambda books: (gateway_name, ALL_SYMBOLS) not in books.bases):
            self._record_base(gateway_name, ALL_SYMBOLS, Decimal(0), "the first look at this gateway")
        return [*bases, *(_position_difference(s, venue.get(s, Decimal(0)), net) for s, net in differing.items())]

    def _venue_nets(self, gateway_name: str) -> dict[str, Decimal]:
        nets: dict[str, Decimal] = {}
        for position in self._positions.get(gateway_name, {}).values():
            volume = Decimal(repr(float(position.volume)))
            sign = -1 if position.direction is Direction.SHORT else 1
            nets[position.vt_symbol] = nets.get(position.vt_symbol, Decimal(0)) + sign * volume
        return nets

    def _base(self, gateway_name: str, vt_symbol: str, volume: Decimal) -> Difference:
        self._record_base(gateway_name, vt_symbol, volume, "the first look at this position")
        return Difference(
            kind=DifferenceKind.POSITION_BASE,
            key=vt_symbol,
            venue=str(volume),
            books="",
            resolved=True,
            resolution="our books begin with the venue's position",
            evidence="no fill or base of this contract is known",
        )

    def _record_base(self, gateway_name: str, vt_symbol: str, volume: Decimal, reason: str, by: str = "") -> Any:
        base = PositionBase(
            gateway_name=gateway_name,
            vt_symbol=vt_symbol,
            volume=float(volume),
            reason=reason,
            by=by,
            at=self._clock.now(),
        )
        return self._stage.record(records.POSITION_BASE, f"{gateway_name}.{vt_symbol}", base)

    async def _accept_one(self, gateway_name: str, difference: Difference, reason: str, by: str) -> None:
        if difference.kind is DifferenceKind.POSITION:
            volume = self._venue_nets(gateway_name).get(difference.key, Decimal(0))
            await asyncio.wrap_future(self._record_base(gateway_name, difference.key, volume, reason, by))
        elif difference.kind is DifferenceKind.ORDER_GONE:
            active = self._stage.inspect(lambda books: list(books.active_orders(gateway_name)))
            for uid, order in active:
                if order.vt_orderid == difference.key and _words(order) == difference.books:
                    self._end(uid, order, f"accepted as gone by {by}: {reason}")
            await asyncio.wrap_future(self._stage.barrier())

    def _unknown(self, gateway_name: str) -> list[UnknownIntent]:
        orphans = self._stage.inspect(lambda books: self._stage.sequencer.open_orphans(gateway_name))
        return [
            UnknownIntent(intent=intent, evidence="journaled before a send of which no answer is known")
            for intent in orphans
        ]

    def _conclude(
        self, gateway_name: str, shown: Shown, differences: list[Difference], unknown: list[UnknownIntent]
    ) -> None:
        open_ones = [difference for difference in differences if not difference.resolved]
        state = ReconciliationState.DIFFERENT if open_ones else ReconciliationState.RECONCILED
        self._reports[gateway_name] = Reconciliation(
            gateway_name=gateway_name,
            state=state,
            started_at=shown.started_at,
            finished_at=self._clock.now(),
            orders_seen=len(shown.orders),
            trades_seen=len(shown.trades),
            differences=differences,
            unknown_intents=unknown,
        )
        write = _log.error if open_ones else _log.info
        write(
            "a gateway was reconciled" if not open_ones else "a gateway differs from our books; no order passes",
            gateway_name=gateway_name,
            differences=[f"{d.kind} {d.key}" for d in (open_ones or differences)[:20]],
        )

    def _forget_unknown(self, intent: OrderIntent, outcome: IntentOutcome) -> None:
        report = self._reports.get(intent.gateway_name)
        if report is None:
            return
        differences = [_resolved_by(d, outcome) if d.key == outcome.client_order_id else d for d in report.differences]
        left = [u for u in report.unknown_intents if u.intent.client_order_id != outcome.client_order_id]
        state = report.state
        if state is ReconciliationState.DIFFERENT and all(d.resolved for d in differences):
            state = ReconciliationState.RECONCILED
        self._reports[intent.gateway_name] = msgspec.structs.replace(
            report, state=state, differences=differences, unknown_intents=left
        )


def _content_key(intent: OrderIntent) -> tuple[str, ...]:
    return tuple(map(repr, content_of(intent)))


def _connection(gateway: Any) -> object:
    """Which connection a gateway has, None where it says it has none; one that says nothing always has the same."""
    if getattr(gateway, "connected", True) is False:
        return None
    return getattr(gateway, "session", "the only one")


async def _ask_positions(gateway: Any, gateway_name: str) -> None:
    try:
        await asyncio.wait_for(in_own_thread(gateway.query_position), QUERY_LIMIT_S)
    except Exception as error:  # noqa: BLE001 - a guarded door: a gateway may raise anything
        _log.error("a gateway could not be asked for its positions", gateway_name=gateway_name, detail=describe(error))


def _open_intent(books: Books, client_order_id: str, orphans: Collection[str]) -> OrderIntent:
    record = books.intents.get(client_order_id)
    if record is None or not isinstance(record.intent, OrderIntent):
        raise NotFound(f"there is no intent {client_order_id}")
    if not record.is_open:
        assert record.outcome is not None
        raise Conflict(f"the outcome of intent {client_order_id} is known: {record.outcome.state}")
    if client_order_id not in orphans:
        raise Conflict(f"intent {client_order_id} is being sent")
    return record.intent


def _require_free_order(books: Books, vt_orderid: str, intent: OrderIntent) -> None:
    order = books.order(books.uid(vt_orderid) or "")
    if order is None or order.gateway_name != intent.gateway_name:
        raise NotFound(f"gateway {intent.gateway_name} has no order {vt_orderid}")
    if order.client_order_id:
        raise Conflict(f"order {vt_orderid} is intent {order.client_order_id} already")


def _held(books: Books, gateway_name: str) -> list[Position]:
    positions = (kept.event for kept in books.positions.values())
    return [p for p in positions if isinstance(p, Position) and p.gateway_name == gateway_name and p.volume]


def _nets(books: Books, gateway_name: str, venue: Iterable[str]) -> dict[str, Decimal | None]:
    """By contract, what the fills give; None where there is nothing to count from."""
    return {symbol: books.net(gateway_name, symbol) for symbol in sorted({*books.symbols(gateway_name), *venue})}


def _from_outcomes(outcomes: list[IntentOutcome]) -> Iterable[Difference]:
    for outcome in outcomes:
        bound = outcome.state is IntentState.BOUND
        yield Difference(
            kind=DifferenceKind.INTENT_BOUND if bound else DifferenceKind.INTENT_NOT_SENT,
            key=outcome.client_order_id,
            venue=outcome.vt_orderid,
            books="no outcome",
            resolved=True,
            resolution=str(outcome.state),
            evidence=outcome.evidence,
        )


def _from_shown(books: Books, shown: Shown) -> Iterable[Difference]:
    for order in shown.foreign.values():
        yield _difference(DifferenceKind.FOREIGN_ORDER, order.vt_orderid, _words(order), "", "taken into our books")
    for uid, known in shown.known.items():
        order = shown.orders[uid]
        if progress(order) > progress(known):
            yield _difference(DifferenceKind.ORDER_MOVED, order.vt_orderid, _words(order), _words(known), "taken over")
        elif progress(order) < progress(known):
            yield _difference(DifferenceKind.ORDER_BEHIND, order.vt_orderid, _words(order), _words(known), "")
    for key, trade in shown.missed.items():
        if key in books.trades:
            what = f"{trade.volume:g} @ {trade.price:g}"
            yield _difference(DifferenceKind.MISSED_TRADE, trade.vt_tradeid, what, "", "taken into our books")


def _gone_difference(order: Order, *, resolved: bool) -> Difference:
    return msgspec.structs.replace(
        _difference(
            DifferenceKind.ORDER_GONE, order.vt_orderid, "", _words(order), "counts as cancelled" if resolved else ""
        ),
        evidence="the gateway lists every order" if resolved else "the gateway does not say that it lists every order",
    )


def _gone_trades(books: Books, shown: Shown, today: str) -> list[Difference]:
    """Today's fills of orders that the venue shows, without the fills."""
    found = []
    for key, kept in books.trades.items():
        trade = kept.event
        if isinstance(trade, Trade) and key not in shown.trades and trading_day(trade.datetime) == today:
            if uid_in(key, trade) in shown.orders:
                what = f"{trade.volume:g} @ {trade.price:g}"
                found.append(_difference(DifferenceKind.TRADE_GONE, trade.vt_tradeid, "", what, ""))
    return found


def _unknown_difference(unknown: UnknownIntent) -> Difference:
    intent = unknown.intent
    what = f"{intent.direction} {intent.volume:g} {intent.vt_symbol} @ {intent.price:g}"
    return msgspec.structs.replace(
        _difference(DifferenceKind.INTENT_UNKNOWN, intent.client_order_id, "", what, ""), evidence=unknown.evidence
    )


def _position_difference(vt_symbol: str, venue: Decimal, books: Decimal) -> Difference:
    return _difference(DifferenceKind.POSITION, vt_symbol, str(venue), str(books), "")


def _resolved_by(difference: Difference, outcome: IntentOutcome) -> Difference:
    return msgspec.structs.replace(
        difference,
        resolved=True,
        venue=outcome.vt_orderid,
        resolution=f"{outcome.state} by {outcome.by}",
        evidence=outcome.evidence,
    )


def _difference(kind: DifferenceKind, key: str, venue: str, books: str, resolution: str) -> Difference:
    return Difference(
        kind=kind,
        key=key,
        venue=venue,
        books=books,
        resolved=bool(resolution),
        resolution=resolution,
        evidence="shown by the venue after the connect",
    )


def _words(order: Order) -> str:
    return (
        f"{order.status} {order.traded:g}/{order.volume:g}" if order.status is not Status.SUBMITTING else "SUBMITTING"
    )
