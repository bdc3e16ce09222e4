"""The market that a venue trades on: its contracts, and its feed at its pace. It knows nothing of VnPy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import chain, islice

from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.domain.sessions import trading_day
from vnpy_core.gateways.paper.contracts import ContractTable
from vnpy_core.gateways.paper.feeds.generated import GeneratedMarket
from vnpy_core.gateways.paper.feeds.replay import Replay
from vnpy_core.gateways.paper.feeds.stored import ReadAhead, StoredTicks
from vnpy_core.gateways.paper.model import ContractSpec, Snapshot, VenueOrder, VenueTrade
from vnpy_core.gateways.paper.settings import PaperSettings, has_own_symbols, words
from vnpy_core.gateways.paper.venue import PaperVenue
from vnpy_core.ports.timeseries import TimeSeriesStore

PEEK = 2_000
"""Snapshots of a recording that are looked at for its contracts before it is played."""


class Market:
    """One feed, played once. One thread at a time."""

    def __init__(self, settings: PaperSettings, table: ContractTable, history: TimeSeriesStore | None = None) -> None:
        """Make the feed and find out its contracts. Raises ConfigurationError; blocks, as `history` does.

        `history` is where the market `store` has its ticks.
        """
        self._settings = settings
        self._table = table
        self.generated: GeneratedMarket | None = None
        self.replay: Replay | None = None
        self.feed: Iterator[Snapshot] = iter(())
        """What is still to come; `close` takes it away."""
        self._ahead: ReadAhead | None = None
        match settings.market:
            case "replay":
                specs = self._open_replay()
            case "store":
                specs = self._open_stored(history)
            case _:
                specs = self._open_live()
        self.contracts: dict[tuple[str, str], ContractSpec] = {(spec.symbol, spec.exchange): spec for spec in specs}

    @property
    def live(self) -> bool:
        """Whether its times are the clock's."""
        return self._settings.market not in ("replay", "store")

    def ready(self, resume: Callable[[], None]) -> bool:
        """Whether `feed` has its next snapshot at once; if not, `resume` is called, from any thread, once it has."""
        return self._ahead is None or self._ahead.ready(resume)

    def close(self) -> None:
        """Nothing more comes."""
        self.feed = iter(())
        if self._ahead is not None:
            self._ahead.close()

    def spec(self, symbol: str, exchange: str) -> ContractSpec:
        """Raises ConfigurationError for a contract that the table lacks."""
        spec = self._table.find(symbol, exchange)
        if spec is None:
            raise ConfigurationError(f"contract {symbol}.{exchange} has no product in {self._settings.contracts}")
        return spec

    def paced(self) -> Iterator[tuple[Snapshot, float]]:
        """Each snapshot with the seconds to wait before it."""
        settings, feed = self._settings, self.feed
        if self.generated is not None and settings.speed == 1:
            # Its times are the clock's; what would have come long before the market opened is passed over.
            opened = datetime.now(UTC) - timedelta(seconds=1)
            for snapshot in feed:
                if snapshot.time >= opened:
                    yield snapshot, max(0.0, (snapshot.time - datetime.now(UTC)).total_seconds())
            return
        longest = settings.max_gap if self.generated is None else math.inf
        previous: datetime | None = None
        due = time.monotonic()
        for snapshot in feed:
            if previous is not None:
                due += min(max((snapshot.time - previous).total_seconds() / settings.speed, 0.0), longest)
            previous = snapshot.time
            yield snapshot, max(0.0, due - time.monotonic())

    def orders_of_today(self, venue: PaperVenue) -> list[VenueOrder]:
        """As brokers do, only what is active or of today: VnPy's DailyLimitRule counts whatever it is shown."""
        return [order for order in venue.orders() if order.status.is_active or self._is_of_today(order, venue)]

    def trades_of_today(self, venue: PaperVenue) -> list[VenueTrade]:
        """Today's fills, oldest first."""
        return [trade for trade in venue.trades() if self._is_of_today(trade, venue)]

    def _is_of_today(self, record: VenueOrder | VenueTrade, venue: PaperVenue) -> bool:
        """Today is the clock's on a live market; on a recording it is the last day that was played."""
        if self.live:
            today: date | None = trading_day(datetime.now(UTC), record.exchange)
        else:
            today = venue.trading_day(record.symbol, record.exchange)
        return trading_day(record.time, record.exchange) == today

    def _open_live(self) -> list[ContractSpec]:
        settings = self._settings
        specs = [self._named(vt_symbol) for vt_symbol in words(settings.symbols)]
        if settings.market == "generated":
            self.generated = GeneratedMarket(specs, rate=settings.rate, seed=settings.seed, start=datetime.now(UTC))
            self.feed = iter(self.generated)
        return specs

    def _open_replay(self) -> list[ContractSpec]:
        settings = self._settings
        self.replay = Replay(
            words(settings.files),
            exchange=settings.exchange,
            timezone=settings.timezone,
            resolve_exchange=self._table.exchange_of,
        )
        feed = iter(self.replay)
        head = list(islice(feed, PEEK))
        self.feed = chain(head, feed)
        shown = {(snapshot.symbol, snapshot.exchange): None for snapshot in head}
        named = words(settings.symbols) if has_own_symbols(settings) else []
        return [*(self.spec(*key) for key in shown), *(self._named(vt_symbol) for vt_symbol in named)]

    def _open_stored(self, history: TimeSeriesStore | None) -> list[ContractSpec]:
        settings = self._settings
        if history is None:
            raise ConfigurationError("the paper gateway's market is store, but there is no tick store here")
        symbols = words(settings.symbols) if has_own_symbols(settings) else []
        stored = StoredTicks(history, symbols, start=settings.start, end=settings.end, timezone=settings.timezone)
        self._ahead = ReadAhead(stored)
        self.feed = iter(self._ahead)
        return [self.spec(series.symbol, series.exchange) for series in stored.series]

    def _named(self, vt_symbol: str) -> ContractSpec:
        symbol, dot, exchange = vt_symbol.rpartition(".")
        if not dot:
            raise ConfigurationError(f"the paper gateway's symbols are like rb2701.SHFE, not {vt_symbol!r}")
        return self.spec(symbol, exchange)
