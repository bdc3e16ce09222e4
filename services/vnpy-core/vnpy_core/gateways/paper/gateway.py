"""The VnPy face of the paper venue."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

import msgspec
from vnpy.event import Event, EventEngine
from vnpy.trader.constant import Direction, Exchange, Interval, Offset, OrderType, Product, Status
from vnpy.trader.gateway import BaseGateway
from vnpy.trader.object import (
    AccountData,
    BarData,
    CancelRequest,
    ContractData,
    HistoryRequest,
    OrderData,
    OrderRequest,
    PositionData,
    SubscribeRequest,
    TickData,
    TradeData,
)
from vnpy.trader.utility import get_file_path

from vnpy_core.domain import enums
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.gateways.paper.contracts import ContractTable
from vnpy_core.gateways.paper.feeds.generated import GeneratedMarket
from vnpy_core.gateways.paper.feeds.replay import Replay
from vnpy_core.gateways.paper.feeds.sessions import trading_day
from vnpy_core.gateways.paper.ledger import Ledger
from vnpy_core.gateways.paper.model import (
    ContractSpec,
    NewOrder,
    Snapshot,
    VenueAccount,
    VenueEvent,
    VenueOrder,
    VenuePosition,
    VenueTrade,
)
from vnpy_core.gateways.paper.venue import PaperVenue
from vnpy_core.ports.flow import Flow

EVENT_STEP = "ePaperStep."
EVENT_FINISHED = "ePaperFinished"
"""Its data: `gateway_name`, `ticks`, and `reason`, empty where the recording was played to its end."""
PEEK = 2_000
"""Snapshots of a recording that are looked at for its contracts before it is played."""
SHANGHAI = ZoneInfo("Asia/Shanghai")
_LARGEST = {"rate": 10_000, "speed": 1e9, "max_gap": 86_400, "balance": 1e15, "latency_ms": 60_000}
_BID_NAMES, _ASK_NAMES = (
    [(f"{side}_price_{number}", f"{side}_volume_{number}") for number in range(1, 6)] for side in ("bid", "ask")
)
_stepped_last: WeakKeyDictionary[EventEngine, BaseGateway] = WeakKeyDictionary()
"""Which gateway made an engine's last step: several take turns. Touched on the event threads only."""


class PaperSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`connect`'s setting; flat, as VnPy's window edits it."""

    market: str = "generated"
    """`generated` or `replay`."""
    symbols: str = "rb2701.SHFE;ru2701.SHFE;IF2612.CFFEX;BTCUSDT_SWAP_BINANCE.GLOBAL"
    """`;`-separated vt_symbols of the generated market; for a replay: those that its first ticks do not show."""
    rate: float = 2.0
    """Generated ticks a second and symbol."""
    seed: int = 1
    files: str = ""
    """`;`-separated paths or globs of recordings."""
    speed: float = 1.0
    """Times real time; 0 is as fast as every consumer keeps up, with identical runs."""
    max_gap: float = 5.0
    """Longest silence of a recording that is waited for, seconds of wall time."""
    exchange: str = ""
    """For recordings that do not name it; else the contract table decides."""
    timezone: str = "Asia/Shanghai"
    """Of recordings without offsets."""
    balance: float = 1_000_000.0
    """Initial funds of a new ledger."""
    accountid: str = "paper"
    latency_ms: float = 0.0
    """Feed time between sending and arriving at the book."""
    contracts: str = ""
    """Path of contracts.toml."""
    ledger: str = ""
    """Path of the venue's books; empty: in VnPy's folder, by the gateway's name."""
    server_stops: bool = False
    """Whether CtaEngine leaves stop orders to the venue instead of keeping them itself."""


class PaperGateway(BaseGateway):  # type: ignore[misc]
    """Trades on a recorded or generated market. Any thread may call.

    A host that calls `bind_flow` before `connect` decides with `open_market` when the first tick comes; in a plain VnPy
    process the market opens with `connect`.
    """

    default_name = "PAPER"
    default_setting: ClassVar[dict[str, str | int | float | bool]] = msgspec.structs.asdict(PaperSettings())
    exchanges: ClassVar[list[Exchange]] = [
        Exchange.SHFE, Exchange.INE, Exchange.DCE, Exchange.CZCE, Exchange.CFFEX, Exchange.GFEX, Exchange.GLOBAL,
    ]  # fmt: skip
    capabilities: ClassVar[dict[str, Any]] = {
        "order_types": ["LIMIT", "MARKET", "STOP", "FAK", "FOK"],
        "can_query_orders": True,
        "can_query_trades": True,
        "ids_unique_across_restart": True,
    }

    def __init__(self, event_engine: EventEngine, gateway_name: str) -> None:
        super().__init__(event_engine, gateway_name)
        self.connected = False
        self._flow: Flow | None = None
        # The feed's thread and those who send orders meet here; events are put inside, so their order is the venue's.
        self._lock = threading.RLock()
        # Each connection has its own: set, it ends what still runs or waits in the queue for that connection.
        self._closing = threading.Event()
        self._opened = False
        self._thread: threading.Thread | None = None
        self._contracts: dict[tuple[str, str], ContractSpec] = {}
        self._subscribed: set[tuple[str, str]] = set()
        self._played = 0

    def bind_flow(self, flow: Flow) -> None:
        """Let a host hold a fast replay back, and open the market itself. Before `connect`."""
        self._flow = flow

    def connect(self, setting: dict[str, Any]) -> None:
        """Open the books and show them. Raises ConfigurationError for a wrong setting."""
        if self.connected:
            self.write_log("paper: connected already")
            return
        self._settings = _parse(setting)
        self._table = ContractTable(Path(self._settings.contracts))
        self._open_feed()
        path = self._settings.ledger or get_file_path(f"paper_{self.gateway_name.lower()}.sqlite")
        self._ledger = Ledger(Path(path))
        try:
            self._venue = PaperVenue(
                self._table.find,
                self._ledger,
                accountid=self._settings.accountid,
                initial_balance=Decimal(repr(self._settings.balance)),
                now=lambda: datetime.now(UTC),
                latency=timedelta(milliseconds=self._settings.latency_ms),
            )
        except BaseException:
            self._ledger.close()
            raise
        self._closing, self._opened = threading.Event(), False
        self.connected = True
        self._show_books()
        self.write_log(f"paper: connected to the {self._settings.market} market")
        if self._flow is None:
            self.open_market()

    def open_market(self) -> None:
        """Let the feed begin. Once for each connect; more calls do nothing."""
        with self._lock:
            if not self.connected or self._opened:
                return
            self._opened = True
            if self._settings.speed == 0:
                self.event_engine.register(self._step_event, self._step)
                self._put_step(self._closing)
            else:
                run = (self._feed, self._closing)
                self._thread = threading.Thread(
                    target=self._play, args=run, name=f"paper {self.gateway_name}", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """End the feed and close the books; `connect` opens them again."""
        with self._lock:
            self._closing.set()
            thread, self._thread = self._thread, None
            self.event_engine.unregister(self._step_event, self._step)
            self._feed = iter(())
            if self.connected:
                self.connected = False
                self._ledger.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def subscribe(self, req: SubscribeRequest) -> None:
        """Send this contract's ticks from now on."""
        key = (req.symbol, req.exchange.value)
        if key in self._contracts:
            self._subscribed.add(key)
        else:
            self.write_log(f"paper: cannot subscribe to {req.vt_symbol}: there is no such contract")

    def send_order(self, req: OrderRequest) -> str:
        """Returns the vt_orderid; a refused order follows as REJECTED with its reason in `extra`."""
        with self._lock:
            if not self.connected:
                self.write_log("paper: the order was not taken: not connected")
                return ""
            orderid, events = self._venue.place(
                NewOrder(
                    symbol=req.symbol,
                    exchange=req.exchange.value,
                    direction=enums.Direction[req.direction.name],
                    offset=enums.Offset[req.offset.name],
                    type=enums.OrderType[req.type.name],
                    volume=float(req.volume),
                    price=float(req.price),
                    reference=req.reference,
                )
            )
            self._emit(events)
        return f"{self.gateway_name}.{orderid}"

    def cancel_order(self, req: CancelRequest) -> None:
        """The outcome follows as an order event; there is none for an unknown or finished order."""
        with self._lock:
            if self.connected:
                self._emit(self._venue.cancel(req.orderid))

    def query_account(self) -> None:
        """Send the account again."""
        with self._lock:
            if self.connected:
                self._emit([self._venue.account()])

    def query_position(self) -> None:
        """Send the positions again."""
        with self._lock:
            if self.connected:
                self._emit(self._venue.positions())

    def query_history(self, req: HistoryRequest) -> list[BarData]:
        """Bars of the generated market before it began; a recording has none."""
        market = self._generated
        if market is None or req.interval not in (Interval.MINUTE, Interval.HOUR, Interval.DAILY):
            return []
        end = req.end or datetime.now(UTC)
        bars = market.history(req.symbol, req.exchange.value, req.interval.value, _aware(req.start), _aware(end))
        return [
            BarData(
                gateway_name=self.gateway_name,
                symbol=req.symbol,
                exchange=req.exchange,
                datetime=bar.time.astimezone(SHANGHAI),
                interval=req.interval,
                volume=bar.volume,
                open_price=bar.open,
                high_price=bar.high,
                low_price=bar.low,
                close_price=bar.close,
            )
            for bar in bars
        ]

    # --- the feed ---

    _feed: Iterator[Snapshot] = iter(())
    _generated: GeneratedMarket | None = None
    _replay: Replay | None = None

    @property
    def _step_event(self) -> str:
        return f"{EVENT_STEP}{self.gateway_name}"

    def _open_feed(self) -> None:
        """Make the feed and find out its contracts. Raises ConfigurationError."""
        self._played, self._generated, self._replay = 0, None, None
        settings = self._settings
        if settings.market == "generated":
            specs = [self._named(vt_symbol) for vt_symbol in _words(settings.symbols)]
            self._generated = GeneratedMarket(specs, rate=settings.rate, seed=settings.seed, start=datetime.now(UTC))
            self._feed = iter(self._generated)
        else:
            self._replay = Replay(
                _words(settings.files),
                exchange=settings.exchange,
                timezone=settings.timezone,
                resolve_exchange=self._table.exchange_of,
            )
            feed = iter(self._replay)
            head = list(islice(feed, PEEK))
            self._feed = chain(head, feed)
            shown = {(snapshot.symbol, snapshot.exchange): None for snapshot in head}
            named = {} if settings.symbols == PaperSettings().symbols else _words(settings.symbols)
            specs = [self._spec(*key) for key in shown]
            specs += [self._named(vt_symbol) for vt_symbol in named]
        self._contracts = {(spec.symbol, spec.exchange): spec for spec in specs}

    def _named(self, vt_symbol: str) -> ContractSpec:
        symbol, dot, exchange = vt_symbol.rpartition(".")
        if not dot:
            raise ConfigurationError(f"the paper gateway's symbols are like rb2701.SHFE, not {vt_symbol!r}")
        return self._spec(symbol, exchange)

    def _spec(self, symbol: str, exchange: str) -> ContractSpec:
        spec = self._table.find(symbol, exchange)
        if spec is None:
            raise ConfigurationError(f"contract {symbol}.{exchange} has no product in {self._settings.contracts}")
        return spec

    def _play(self, feed: Iterator[Snapshot], closing: threading.Event) -> None:
        """The feed's own thread."""
        reason = ""
        try:
            for snapshot, wait in self._paced(feed):
                if closing.wait(wait):
                    return
                self._on_snapshot(snapshot, closing)
        except Exception as error:  # noqa: BLE001 - a feed never ends without a word
            reason = str(error) or repr(error)
        self._finish(reason, closing)

    def _paced(self, feed: Iterator[Snapshot]) -> Iterator[tuple[Snapshot, float]]:
        """Each snapshot with the seconds to wait before it."""
        settings = self._settings
        if self._generated is not None and settings.speed == 1:
            # Its times are the clock's; what would have come long before the market opened is passed over.
            opened = datetime.now(UTC) - timedelta(seconds=1)
            for snapshot in feed:
                if snapshot.time >= opened:
                    yield snapshot, max(0.0, (snapshot.time - datetime.now(UTC)).total_seconds())
            return
        longest = settings.max_gap if self._generated is None else math.inf
        previous: datetime | None = None
        due = time.monotonic()
        for snapshot in feed:
            if previous is not None:
                due += min(max((snapshot.time - previous).total_seconds() / settings.speed, 0.0), longest)
            previous = snapshot.time
            yield snapshot, max(0.0, due - time.monotonic())

    def _put_step(self, closing: threading.Event) -> None:
        self.event_engine.put(Event(self._step_event, closing))

    def _step(self, event: Event) -> None:
        """As fast as possible, on the event thread: the next snapshot once all that the last one caused is handled."""
        closing: threading.Event = event.data
        if closing.is_set():
            return
        if self._must_wait():
            self._put_step(closing)
            return
        if self._flow is not None and not self._flow.open:
            self._flow.when_open(partial(self._put_step, closing))
            return
        _stepped_last[self.event_engine] = self
        try:
            with self._lock:
                snapshot = None if closing.is_set() else next(self._feed, None)
                if snapshot is not None:
                    self._on_snapshot(snapshot, closing)
        except Exception as error:  # noqa: BLE001 - a feed never ends without a word
            self._finish(str(error) or repr(error), closing)
            return
        if snapshot is None:
            self._finish("", closing)
        else:
            self._put_step(closing)

    def _must_wait(self) -> bool:
        """Whether anything but steps is queued, or the step of a gateway whose turn it is."""
        queue = self.event_engine._queue
        if not queue.qsize():
            return False
        with queue.mutex:
            waiting = [event.type for event in queue.queue]
        if not all(kind.startswith(EVENT_STEP) for kind in waiting):
            return True
        return bool(waiting) and _stepped_last.get(self.event_engine) is self

    def _on_snapshot(self, snapshot: Snapshot, closing: threading.Event) -> None:
        key = (snapshot.symbol, snapshot.exchange)
        with self._lock:
            if closing.is_set():
                return
            self._played += 1
            if key not in self._contracts:
                self._contracts[key] = self._spec(*key)
                self.on_contract(self._contract(self._contracts[key]))
            events = self._venue.on_snapshot(snapshot)
            if events:
                self._emit(events)
            if key in self._subscribed:
                self.on_tick(self._tick(snapshot, self._contracts[key]))

    def _finish(self, reason: str, closing: threading.Event) -> None:
        """Tell that the feed has ended: by itself, or for `reason`."""
        if closing.is_set():
            return
        bad = self._replay.bad_count if self._replay else 0
        if bad and self._replay:
            self.write_log(f"paper: {bad} rows were left out: {'; '.join(self._replay.bad_rows[:5])}")
        how = f"ended: {reason}; after" if reason else "finished:"
        self.write_log(f"paper: {self._settings.market} {how} {self._played} ticks")
        data = {"gateway_name": self.gateway_name, "ticks": self._played, "reason": reason}
        self.on_event(EVENT_FINISHED, data)

    # --- to VnPy's objects ---

    def _show_books(self) -> None:
        """As brokers do, only what is active or of today: VnPy's DailyLimitRule counts whatever it is shown."""
        for spec in self._contracts.values():
            self.on_contract(self._contract(spec))
        with self._lock:
            venue = self._venue
            orders = [order for order in venue.orders() if order.status.is_active or self._is_of_today(order)]
            trades = [trade for trade in venue.trades() if self._is_of_today(trade)]
            self._emit((venue.account(), *venue.positions(), *orders, *trades))

    def _is_of_today(self, record: VenueOrder | VenueTrade) -> bool:
        """Today is the clock's on the generated market; on a recording it is the last day that was played."""
        if self._generated is not None:
            today: date | None = trading_day(datetime.now(UTC), record.exchange)
        else:
            today = self._venue.trading_day(record.symbol, record.exchange)
        return trading_day(record.time, record.exchange) == today

    def _emit(self, events: Iterable[VenueEvent]) -> None:
        for event in events:
            match event:
                case VenueOrder():
                    self.on_order(self._order(event))
                case VenueTrade():
                    self.on_trade(self._trade(event))
                case VenuePosition():
                    self.on_position(self._position(event))
                case VenueAccount():
                    self.on_account(self._account(event))

    def _contract(self, spec: ContractSpec) -> ContractData:
        return ContractData(
            gateway_name=self.gateway_name,
            symbol=spec.symbol,
            exchange=Exchange(spec.exchange),
            name=spec.name,
            product=Product[spec.product],
            size=_number(spec.size),
            pricetick=_number(spec.pricetick),
            min_volume=_number(spec.min_volume),
            max_volume=None if spec.max_volume is None else _number(spec.max_volume),
            stop_supported=self._settings.server_stops,
            net_position=spec.net_position,
            history_data=self._generated is not None,
        )

    def _tick(self, snapshot: Snapshot, spec: ContractSpec) -> TickData:
        levels: dict[str, float] = {}
        for names, shown in ((_BID_NAMES, snapshot.bids), (_ASK_NAMES, snapshot.asks)):
            for (price_name, volume_name), (price, volume) in zip(names, shown, strict=False):
                levels[price_name], levels[volume_name] = price, volume
        return TickData(
            gateway_name=self.gateway_name,
            symbol=snapshot.symbol,
            exchange=Exchange(snapshot.exchange),
            datetime=snapshot.time.astimezone(SHANGHAI),
            name=spec.name,
            volume=snapshot.volume,
            turnover=snapshot.turnover,
            open_interest=snapshot.open_interest,
            last_price=snapshot.last_price,
            last_volume=snapshot.last_volume,
            limit_up=snapshot.limit_up,
            limit_down=snapshot.limit_down,
            open_price=snapshot.open_price,
            high_price=snapshot.high_price,
            low_price=snapshot.low_price,
            pre_close=snapshot.pre_close,
            # A recording's ticks carry no time of ours: two replays must not differ.
            localtime=datetime.now(SHANGHAI) if self._generated is not None else None,
            **levels,
        )

    def _order(self, order: VenueOrder) -> OrderData:
        data = OrderData(
            gateway_name=self.gateway_name,
            symbol=order.symbol,
            exchange=Exchange(order.exchange),
            orderid=order.orderid,
            type=OrderType[order.type],
            direction=Direction[order.direction],
            offset=Offset[order.offset],
            price=float(order.price),
            volume=float(order.volume),
            traded=float(order.traded),
            status=Status[order.status],
            datetime=order.time.astimezone(SHANGHAI),
            reference=order.reference,
        )
        if order.reason:
            data.extra = {"reason": order.reason}
        return data

    def _trade(self, trade: VenueTrade) -> TradeData:
        return TradeData(
            gateway_name=self.gateway_name,
            symbol=trade.symbol,
            exchange=Exchange(trade.exchange),
            orderid=trade.orderid,
            tradeid=trade.tradeid,
            direction=Direction[trade.direction],
            offset=Offset[trade.offset],
            price=float(trade.price),
            volume=float(trade.volume),
            datetime=trade.time.astimezone(SHANGHAI),
        )

    def _position(self, position: VenuePosition) -> PositionData:
        return PositionData(
            gateway_name=self.gateway_name,
            symbol=position.symbol,
            exchange=Exchange(position.exchange),
            direction=Direction[position.direction],
            volume=float(position.volume),
            frozen=float(position.frozen),
            price=float(position.price),
            pnl=float(position.pnl),
            yd_volume=float(position.yd_volume),
        )

    def _account(self, account: VenueAccount) -> AccountData:
        data = AccountData(
            gateway_name=self.gateway_name,
            accountid=account.accountid,
            balance=float(account.balance),
            frozen=float(account.frozen),
        )
        data.available = float(account.available)
        return data


def _parse(setting: dict[str, Any]) -> PaperSettings:
    """Raises ConfigurationError that names the wrong field."""
    try:
        settings = msgspec.convert(setting, PaperSettings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"the paper gateway's setting is wrong: {error}") from error
    wrong = [name for name, largest in _LARGEST.items() if not 0 <= getattr(settings, name) <= largest]
    if settings.rate == 0:
        wrong.append("rate")
    if wrong:
        raise ConfigurationError(f"the paper gateway's setting is wrong: {', '.join(wrong)} is out of range")
    if settings.market not in ("generated", "replay"):
        raise ConfigurationError(f"the paper gateway's market is generated or replay, not {settings.market!r}")
    if settings.market == "replay" and not _words(settings.files):
        raise ConfigurationError("the paper gateway's market is replay: set files to the recordings")
    if not settings.contracts:
        raise ConfigurationError("the paper gateway needs contracts, the path of contracts.toml")
    return settings


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(";") if word.strip()]


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=SHANGHAI)


def _number(value: Decimal) -> float | int:
    return int(value) if value == value.to_integral_value() else float(value)
