"""What the strategies earn: their fills folded into profit, valued at the last ticks, day by day.

The last word of each trading day is a row of the journal, and so of the store, which is asked for days of the past.
Where a start finds no such row of a strategy, its fills in the store are counted from the first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import takewhile

import msgspec
import structlog

from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.enums import Direction
from vnpy_core.domain.errors import StoreUnavailable
from vnpy_core.domain.events import StrategyDay, Trade
from vnpy_core.domain.pnl import Equity, EquityPoint, Pnl, ProfitDay, Resolution
from vnpy_core.domain.profit import Openings, Profit, drawdowns, max_drawdown, max_drawdown_percent, sharpe
from vnpy_core.domain.sessions import trading_day
from vnpy_core.features.strategies.settings import ProfitSettings
from vnpy_core.kit.tasks import BackgroundTasks
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.store import Store, TradeQuery

LOOK_S = 1.0
"""How often open positions are valued, seconds."""
DEADLINE_S = 2.0
"""How long the store may take for one answer of ours, seconds."""
LOOK_BACK_S = 60.0
"""How long it may take for a strategy's past, seconds."""
RETRY_S = 1.0
SIZE_S = 60.0
"""A connected gateway that has not shown a contract by then does not know it."""
KEEP_DAYS = 5
"""Ended days of a strategy that are remembered, because the store may not have them yet."""
CUTS = 10
POINTS = 10_000
"""Fills of one answer."""
_PAGE = 2_000
_AHEAD = timedelta(hours=1)
"""A clock of a venue may be ahead of ours by this much."""

FeeOf = Callable[[Trade, bool], float]

_log = structlog.get_logger(__name__)


class _Fold:
    """Fills of one strategy, in the journal's order, into its profit."""

    def __init__(self, profit: Profit, fee_of: FeeOf) -> None:
        self.profit = profit
        self.openings = Openings()
        self._fee_of = fee_of

    def take(self, trade: Trade, day: str, size: float) -> None:
        fee = self._fee(trade, self.openings.take(trade, day))
        volume = -trade.volume if trade.direction is Direction.SHORT else trade.volume
        self.profit.fill(trade.vt_symbol, volume, trade.price, size=size, fee=fee, seq=trade.seq)

    def _fee(self, trade: Trade, today: float) -> float:
        """`today` of its volume closes what was opened on the same day."""
        if not today or today >= trade.volume:
            return self._fee_of(trade, bool(today))
        parts = [(today, True), (trade.volume - today, False)]
        return sum(self._fee_of(msgspec.structs.replace(trade, volume=part), is_today) for part, is_today in parts)


class _Book:
    """What is known of one strategy."""

    def __init__(self, name: str, known: StrategyDay | None, fee_of: FeeOf) -> None:
        self.name = name
        self.fold = _Fold(Profit(name, known), fee_of)
        self.day = known.day if known else ""
        self.saved = known
        self.ended: dict[str, StrategyDay] = {}
        self.waiting: deque[Trade] = deque()
        """Fills that are not counted yet: the past before them, or their contract's size, is not known."""
        self.waits_since: float | None = None
        """Since when only the contract is lacking."""
        self.cuts: deque[StrategyDay] = deque(maxlen=CUTS)
        """How it was each time that all it held was let go, since this start."""
        self.has_past = True
        self.is_complete = True
        """False where the past could not be had. Nothing goes on record then: the next start tries again."""

    @property
    def profit(self) -> Profit:
        return self.fold.profit

    @property
    def is_settled(self) -> bool:
        """Whether all that came is counted."""
        return self.has_past and not self.waiting


class ProfitLedger:
    """Loop thread only."""

    def __init__(
        self,
        view: ReadView,
        store: Store,
        clock: Clock,
        settings: ProfitSettings,
        *,
        record: Callable[[StrategyDay], object],
        fee_of: FeeOf = lambda trade, closes_today: 0.0,
        size_of: Callable[[str], float | None] = lambda vt_symbol: None,
    ) -> None:
        """`record` journals a day, at once and without waiting. `fee_of(trade, closes_today)` in quote currency.

        `size_of(vt_symbol)`: the multiplier of a contract that no gateway has shown yet; None where nobody knows.
        """
        self._view = view
        self._store = store
        self._clock = clock
        self._settings = settings
        self._record = record
        self._fee_of = fee_of
        self._size_of = size_of
        self._books: dict[str, _Book] = {}
        self._saved_at = clock.monotonic()
        self._tasks = BackgroundTasks()

    # --- its life ---

    async def start(self, days: Mapping[str, StrategyDay], trades: Iterable[Trade]) -> None:
        """Go on from the journal's last day of each strategy and its fills since, then look at the market each second.

        `days` by strategy name; `trades` are all that the journal has, by seq.
        """
        for name, day in days.items():
            self._books[name] = _Book(name, day, self._fee_of)
        for trade in trades:
            known = days.get(trade.strategy_name or "")
            if known is None or trade.seq > known.last_seq:
                self._take(trade)
            elif self._day(trade.datetime, trade.exchange) == known.day:
                # Counted already, but what was opened today decides what closing it costs.
                self._books[known.strategy_name].fold.openings.take(trade, known.day)
        self._tasks.spawn(self._keep_looking(), "value the strategies' positions")

    async def stop(self) -> None:
        """End, and put on record what has changed; before the journal closes."""
        await self._tasks.cancel()
        self.look()
        self._save_all()

    def keep_trade(self, message: Message) -> None:
        """Take in a fill; a subscriber of the bus for `TRADE_EXECUTED`."""
        if isinstance(message.data, Trade):
            self._take(message.data)

    def forget(self, name: str) -> None:
        """A strategy was removed: what it holds is nobody's now and counts as closed at the last price.

        One that is added under its name goes on with its totals and its days.
        """
        book = self._books.get(name)
        if book is not None and book.has_past:
            if book.profit.legs:
                book.profit.let_go()
                book.cuts.append(book.profit.as_of(book.day, self._clock.now()))
            self._save(book)

    def look(self) -> None:
        """Value what is open at the last ticks, end the days that are over, put on record what is due.

        A day counts for a strategy that traded, held something, or was ready to trade while its market ticked.
        """
        trading = {s.strategy_name: s.vt_symbol for s in self._view.strategies.values() if s.trading}
        for name in trading:
            self._book(name)
        for book in self._books.values():
            self._count(book)
            self._value(book, trading.get(book.name))
        if self._clock.monotonic() - self._saved_at >= self._settings.snapshot_s:
            self._save_all()

    # --- asking ---

    async def pnl(self, name: str, *, start: str = "", end: str = "") -> Pnl:
        """All of it, with the days from `start` to `end` (ISO dates that count in; empty: no bound).

        A name without fills has earned nothing. Raises nothing where the store is away: see `complete`.
        """
        rows, complete = await self._rows(name)
        last = rows[-1] if rows else Profit(name).as_of("", self._clock.now())
        days = list(_days(rows))
        curve = [day.equity for day in days]
        capital = self._settings.capital.get(name)
        round_trips = last.wins + last.losses
        return Pnl(
            strategy_name=name,
            realised=last.realised,
            unrealised=last.unrealised,
            fees=last.fees,
            net=last.equity,
            pos=Profit(name, last).pos,
            turnover=last.turnover,
            trades=last.trades,
            round_trips=round_trips,
            wins=last.wins,
            losses=last.losses,
            win_rate=last.wins / round_trips if round_trips else None,
            max_drawdown=max_drawdown(curve),
            max_drawdown_percent=max_drawdown_percent(curve, capital) if capital else None,
            sharpe=sharpe([day.net for day in days], self._settings.days_per_year),
            days_per_year=self._settings.days_per_year,
            complete=complete,
            legs=last.legs,
            days=[day for day in days if _is_within(day.day, start, end)],
        )

    async def equity(self, name: str, resolution: Resolution, *, start: str = "", end: str = "") -> Equity:
        """The curve from `start` to `end`, as for `pnl`; by fills, where `start` is empty, that of the last day.

        Drawdowns are below the highest point of the whole curve before, which for days before `start` are their ends.
        """
        rows, complete = await self._rows(name)
        if resolution is Resolution.TRADE:
            return await self._equity_by_trade(name, rows, complete, start or (rows[-1].day if rows else ""), end)
        depths = drawdowns(row.equity for row in rows)
        points = [
            EquityPoint(day=row.day, at=None, equity=row.equity, drawdown=depth)
            for row, depth in zip(rows, depths, strict=True)
            if _is_within(row.day, start, end)
        ]
        return Equity(strategy_name=name, resolution=resolution, complete=complete, points=points)

    async def _equity_by_trade(
        self, name: str, rows: list[StrategyDay], complete: bool, start: str, end: str
    ) -> Equity:
        before = list(takewhile(lambda row: row.day < start, rows))
        known = before[-1] if before else None
        fold, day = _Fold(Profit(name, known), self._fee_of), known.day if known else ""
        peak = max([0.0, *(row.equity for row in before)])
        book = self._books.get(name)
        cuts = deque(cut for cut in book.cuts if cut.day >= start) if book else deque()
        points: list[EquityPoint] = []
        try:
            async for trade in self._trades(name, fold.profit.last_seq):
                day = max(day, self._day(trade.datetime, trade.exchange))
                if end and day > end:
                    break
                while cuts and trade.seq > cuts[0].last_seq:
                    fold = _Fold(Profit(name, cuts.popleft()), self._fee_of)
                size = self._size(fold.profit, trade.vt_symbol, trade.gateway_name)
                fold.take(trade, day, size or 0.0)
                complete = complete and size is not None and len(points) < POINTS
                equity = fold.profit.equity
                peak = max(peak, equity)
                if len(points) == POINTS:
                    break
                if day >= start:
                    points.append(EquityPoint(day=day, at=trade.datetime, equity=equity, drawdown=peak - equity))
        except (StoreUnavailable, TimeoutError):
            complete = False
        return Equity(strategy_name=name, resolution=Resolution.TRADE, complete=complete, points=points)

    async def _rows(self, name: str) -> tuple[list[StrategyDay], bool]:
        """All days as they ended, the last one as it is now; and whether that is all there is."""
        complete = True
        rows: dict[str, StrategyDay] = {}
        try:
            async with asyncio.timeout(DEADLINE_S):
                rows = {row.day: row for row in await self._store.strategy_days(name)}
        except (StoreUnavailable, TimeoutError):
            complete = False
        book = self._books.get(name)
        if book is None and not rows and self._view.complete_from:
            book = self._book(name)  # its fills may be older than its days on record, and than the journal
        if book is not None:
            self._count(book)
            self._value(book, None)
            rows |= book.ended
            if book.day:
                rows[book.day] = book.profit.as_of(book.day, self._clock.now())
            sizes_known = all(leg.size for leg in book.profit.legs.values())
            complete = complete and book.is_settled and book.is_complete and sizes_known
        return [rows[day] for day in sorted(rows)], complete

    async def _trades(self, name: str, after: int) -> AsyncIterator[Trade]:
        """A strategy's fills after a seq: the store's, then those that it has not got yet.

        Raises StoreUnavailable, TimeoutError.
        """
        place = (after, "\U0010ffff")
        while True:
            async with asyncio.timeout(DEADLINE_S):
                page = await self._store.trades(TradeQuery(strategy_name=name), place, _PAGE)
            for trade in page:
                yield trade
            if page:
                place = (page[-1].seq, page[-1].vt_tradeid)
            if len(page) < _PAGE:
                break
        for trade in list(self._view.trades.values()):
            if trade.strategy_name == name and trade.seq > place[0]:
                yield trade

    # --- counting ---

    def _take(self, trade: Trade) -> None:
        if trade.strategy_name:
            book = self._book(trade.strategy_name)
            book.waiting.append(trade)
            self._count(book)

    def _book(self, name: str) -> _Book:
        book = self._books.get(name)
        if book is None:
            book = self._books[name] = _Book(name, None, self._fee_of)
            if self._view.complete_from:  # there was more than the journal has
                book.has_past = False
                self._tasks.spawn(self._look_back(book), f"the profit of {name} so far")
        return book

    async def _look_back(self, book: _Book) -> None:
        """Count the fills that only the store has."""
        past: tuple[StrategyDay | None, list[Trade]] = (None, [])
        try:
            async with asyncio.timeout(LOOK_BACK_S):
                past = await self._stored_past(book.name)
        except TimeoutError:
            book.is_complete = False
            _log.warning("a strategy's profit lacks what only the store knows", strategy_name=book.name)
        known, trades = past
        if known is not None:
            book.fold, book.day, book.saved = _Fold(Profit(book.name, known), self._fee_of), known.day, known
        book.waiting = deque([*trades, *book.waiting])
        book.has_past = True
        self._count(book)

    async def _stored_past(self, name: str) -> tuple[StrategyDay | None, list[Trade]]:
        """The last day on record and the fills since."""
        while True:
            try:
                days = await self._store.strategy_days(name)
                known = days[-1] if days else None
                return known, [trade async for trade in self._trades(name, known.last_seq if known else 0)]
            except (StoreUnavailable, TimeoutError):
                await asyncio.sleep(RETRY_S)

    def _count(self, book: _Book) -> None:
        """Count what waits, up to the first fill whose contract is not known."""
        while book.has_past and book.waiting:
            trade = book.waiting[0]
            size = self._size(book.profit, trade.vt_symbol, trade.gateway_name)
            if size is None and self._may_come(book, trade):
                return
            if size is None:
                _log.error("no gateway knows this contract: its fills earn nothing", vt_symbol=trade.vt_symbol)
            book.waits_since = None
            book.waiting.popleft()
            if trade.seq and trade.seq <= book.profit.last_seq:
                continue  # told twice, or by the store too
            self._turn(book, self._day(trade.datetime, trade.exchange))
            book.fold.take(trade, book.day, size or 0.0)

    def _may_come(self, book: _Book, trade: Trade) -> bool:
        """Whether a gateway may still show the contract."""
        gateway = self._view.gateways.get(trade.gateway_name)
        if gateway is not None and not gateway.connected:
            book.waits_since = None
            return True
        now = self._clock.monotonic()
        book.waits_since = now if book.waits_since is None else book.waits_since
        return now - book.waits_since < SIZE_S

    def _size(self, profit: Profit, vt_symbol: str, gateway_name: str) -> float | None:
        leg = profit.legs.get(vt_symbol)
        if leg is not None and leg.size:
            return leg.size
        offers = self._view.contracts.get(vt_symbol, {})
        contract = offers.get(gateway_name) or next(iter(offers.values()), None)
        return contract.size if contract is not None and contract.size else self._size_of(vt_symbol)

    def _value(self, book: _Book, vt_symbol: str | None) -> None:
        """Value what is open; `vt_symbol` ends the day too where nothing of it is held."""
        if not book.is_settled:
            return
        for symbol in {*book.profit.legs, *([vt_symbol] if vt_symbol else [])}:
            tick = self._view.ticks.get(symbol)
            if tick is not None:
                self._turn(book, self._day(tick.datetime, tick.exchange))
                if tick.last_price:
                    book.profit.mark(symbol, tick.last_price, self._size(book.profit, symbol, tick.gateway_name))

    def _turn(self, book: _Book, day: str) -> None:
        """It is `day` now. Days do not go back: what an older one brings, in a replay, counts to the last."""
        if day <= book.day:
            return
        if book.day:
            self._save(book)
            if book.saved is not None:
                book.ended[book.day] = book.saved
            if len(book.ended) > KEEP_DAYS:
                del book.ended[min(book.ended)]
        book.day = day

    def _day(self, moment: datetime | None, exchange: str) -> str:
        """The trading day of a moment, but not one that has not begun: some ticks have times of nowhere."""
        now = self._clock.now()
        newest = trading_day(now + _AHEAD, exchange)
        try:
            return min(trading_day(moment or now, exchange), newest).isoformat()
        except OverflowError:
            return newest.isoformat()

    # --- keeping ---

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self.look()
            except Exception:  # noqa: BLE001 - a guarded door: an odd value of one market must not end this
                _log.exception("the strategies' positions could not be valued")

    def _save_all(self) -> None:
        self._saved_at = self._clock.monotonic()
        for book in self._books.values():
            self._save(book)

    def _save(self, book: _Book) -> None:
        """Put it on record where it has changed."""
        if not book.day or not book.has_past or not book.is_complete:
            return
        now = book.profit.as_of(book.day, self._clock.now())
        if book.saved is None or msgspec.structs.replace(book.saved, at=now.at) != now:
            book.saved = now
            self._record(now)


def _days(rows: Iterable[StrategyDay]) -> Iterator[ProfitDay]:
    """What each day added to the one before."""
    before: StrategyDay | None = None
    for row in rows:
        yield ProfitDay(
            day=row.day,
            realised=row.realised - (before.realised if before else 0.0),
            unrealised=row.unrealised,
            fees=row.fees - (before.fees if before else 0.0),
            net=row.equity - (before.equity if before else 0.0),
            equity=row.equity,
            trades=row.trades - (before.trades if before else 0),
            turnover=row.turnover - (before.turnover if before else 0.0),
        )
        before = row


def _is_within(day: str, start: str, end: str) -> bool:
    return start <= day and (not end or day <= end)
