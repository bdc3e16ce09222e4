"""The VnPy face of the paper venue."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import msgspec
from vnpy.event import Event, EventEngine
from vnpy.trader.constant import Exchange, Interval
from vnpy.trader.gateway import BaseGateway
from vnpy.trader.object import BarData, CancelRequest, ContractData, HistoryRequest, OrderRequest, SubscribeRequest
from vnpy.trader.utility import get_file_path

from vnpy_core.gateways.paper import translate
from vnpy_core.gateways.paper.contracts import ContractTable
from vnpy_core.gateways.paper.ledger import Ledger
from vnpy_core.gateways.paper.market import Market
from vnpy_core.gateways.paper.model import ContractSpec, Snapshot
from vnpy_core.gateways.paper.settings import PaperSettings, parse
from vnpy_core.gateways.paper.translate import SHANGHAI
from vnpy_core.gateways.paper.venue import PaperVenue
from vnpy_core.ports.flow import Flow
from vnpy_core.ports.timeseries import TimeSeriesStore

EVENT_STEP = "ePaperStep."
EVENT_FINISHED = "ePaperFinished"
"""Its data: `gateway_name`, `ticks`, and `reason`, empty where the recording was played to its end."""
_stepped_last: WeakKeyDictionary[EventEngine, BaseGateway] = WeakKeyDictionary()
"""Which gateway made an engine's last step: several take turns. Touched on the event threads only."""


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
        "exclusive_account": False,  # the venue is inside: nobody else can reach its account
    }

    def __init__(self, event_engine: EventEngine, gateway_name: str) -> None:
        super().__init__(event_engine, gateway_name)
        self.connected = False
        self.history: TimeSeriesStore | None = None
        """Where the market `store` has its ticks; a host that has such a store sets it before `connect`."""
        self._flow: Flow | None = None
        # The feed's thread and those who send orders meet here; events are put inside, so their order is the venue's.
        self._lock = threading.RLock()
        # Each connection has its own: set, it ends what still runs or waits in the queue for that connection.
        self._closing = threading.Event()
        self._opened = False
        self._thread: threading.Thread | None = None
        self._market: Market | None = None
        self._subscribed: set[tuple[str, str]] = set()
        self._played = 0

    @property
    def replays(self) -> bool:
        """Whether its ticks are a recording's, which is no news to record. Of the last `connect`."""
        return self._market is not None and not self._market.live

    def bind_flow(self, flow: Flow) -> None:
        """Let a host hold a fast replay back, and open the market itself. Before `connect`."""
        self._flow = flow

    def connect(self, setting: dict[str, Any]) -> None:
        """Open the books and show them. Raises ConfigurationError for a wrong setting; what the tick store raises."""
        if self.connected:
            self.write_log("paper: connected already")
            return
        self._settings = parse(setting)
        table = ContractTable(Path(self._settings.contracts))
        self._played, self._market = 0, None
        market = self._market = Market(self._settings, table, self.history)
        path = self._settings.ledger or get_file_path(f"paper_{self.gateway_name.lower()}.sqlite")
        self._ledger = Ledger(Path(path))
        try:
            self._venue = PaperVenue(
                table.find,
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
        self._show_books(market)
        self.write_log(f"paper: connected to the {self._settings.market} market")
        if self._flow is None:
            self.open_market()

    def open_market(self) -> None:
        """Let the feed begin. Once for each connect; more calls do nothing."""
        with self._lock:
            market = self._market
            if not self.connected or self._opened or market is None:
                return
            self._opened = True
            if self._settings.speed == 0:
                self.event_engine.register(self._step_event, self._step)
                self._put_step(self._closing)
            else:
                run = (market, market.paced(), self._closing)
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
            if self._market is not None:
                self._market.close()
            if self.connected:
                self.connected = False
                self._ledger.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def subscribe(self, req: SubscribeRequest) -> None:
        """Send this contract's ticks from now on."""
        key = (req.symbol, req.exchange.value)
        if self._market is not None and key in self._market.contracts:
            self._subscribed.add(key)
        else:
            self.write_log(f"paper: cannot subscribe to {req.vt_symbol}: there is no such contract")

    def send_order(self, req: OrderRequest) -> str:
        """Returns the vt_orderid; a refused order follows as REJECTED with its reason in `extra`."""
        with self._lock:
            if not self.connected:
                self.write_log("paper: the order was not taken: not connected")
                return ""
            orderid, events = self._venue.place(translate.new_order(req))
            translate.show(self, events)
        return f"{self.gateway_name}.{orderid}"

    def cancel_order(self, req: CancelRequest) -> None:
        """The outcome follows as an order event; there is none for an unknown or finished order."""
        with self._lock:
            if self.connected:
                translate.show(self, self._venue.cancel(req.orderid))

    def query_account(self) -> None:
        """Send the account again."""
        with self._lock:
            if self.connected:
                translate.show(self, [self._venue.account()])

    def query_position(self) -> None:
        """Send the positions again."""
        with self._lock:
            if self.connected:
                translate.show(self, self._venue.positions())

    def query_orders(self) -> bool:
        """Send the orders again that are active or of today; whether all of them were sent."""
        with self._lock:
            if not self.connected or self._market is None:
                return False
            translate.show(self, self._market.orders_of_today(self._venue))
        return True

    def query_trades(self) -> bool:
        """Send today's fills again; whether all of them were sent."""
        with self._lock:
            if not self.connected or self._market is None:
                return False
            translate.show(self, self._market.trades_of_today(self._venue))
        return True

    def query_history(self, req: HistoryRequest) -> list[BarData]:
        """Bars of the generated market before it began; a recording has none."""
        market = self._market.generated if self._market is not None else None
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

    @property
    def _step_event(self) -> str:
        return f"{EVENT_STEP}{self.gateway_name}"

    def _play(self, market: Market, paced: Iterator[tuple[Snapshot, float]], closing: threading.Event) -> None:
        """The feed's own thread."""
        reason = ""
        try:
            for snapshot, wait in paced:
                if closing.wait(wait):
                    return
                self._on_snapshot(market, snapshot, closing)
        except Exception as error:  # noqa: BLE001 - a feed never ends without a word
            reason = str(error) or repr(error)
        self._finish(market, reason, closing)

    def _put_step(self, closing: threading.Event) -> None:
        self.event_engine.put(Event(self._step_event, closing))

    def _step(self, event: Event) -> None:
        """As fast as possible, on the event thread: the next snapshot once all that the last one caused is handled."""
        closing: threading.Event = event.data
        market = self._market
        if closing.is_set() or market is None:
            return
        if self._must_wait():
            self._put_step(closing)
            return
        if self._flow is not None and not self._flow.open:
            self._flow.when_open(partial(self._put_step, closing))
            return
        if not market.ready(partial(self._put_step, closing)):
            return
        _stepped_last[self.event_engine] = self
        try:
            with self._lock:
                snapshot = None if closing.is_set() else next(market.feed, None)
                if snapshot is not None:
                    self._on_snapshot(market, snapshot, closing)
        except Exception as error:  # noqa: BLE001 - a feed never ends without a word
            self._finish(market, str(error) or repr(error), closing)
            return
        if snapshot is None:
            self._finish(market, "", closing)
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

    def _on_snapshot(self, market: Market, snapshot: Snapshot, closing: threading.Event) -> None:
        key = (snapshot.symbol, snapshot.exchange)
        with self._lock:
            if closing.is_set():
                return
            self._played += 1
            if key not in market.contracts:
                spec = market.contracts[key] = market.spec(*key)
                self.on_contract(self._contract(market, spec))
            events = self._venue.on_snapshot(snapshot)
            if events:
                translate.show(self, events)
            if key in self._subscribed:
                name = market.contracts[key].name
                self.on_tick(translate.tick(snapshot, name, self.gateway_name, live=market.live))

    def _finish(self, market: Market, reason: str, closing: threading.Event) -> None:
        """Tell that the feed has ended: by itself, or for `reason`."""
        if closing.is_set():
            return
        replay = market.replay
        if replay is not None and replay.bad_count:
            self.write_log(f"paper: {replay.bad_count} rows were left out: {'; '.join(replay.bad_rows[:5])}")
        how = f"ended: {reason}; after" if reason else "finished:"
        self.write_log(f"paper: {self._settings.market} {how} {self._played} ticks")
        data = {"gateway_name": self.gateway_name, "ticks": self._played, "reason": reason}
        self.on_event(EVENT_FINISHED, data)

    # --- the books ---

    def _show_books(self, market: Market) -> None:
        for spec in market.contracts.values():
            self.on_contract(self._contract(market, spec))
        with self._lock:
            venue = self._venue
            orders, trades = market.orders_of_today(venue), market.trades_of_today(venue)
            translate.show(self, (venue.account(), *venue.positions(), *orders, *trades))

    def _contract(self, market: Market, spec: ContractSpec) -> ContractData:
        stops, history = self._settings.server_stops, market.generated is not None
        return translate.contract(spec, self.gateway_name, server_stops=stops, history=history)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=SHANGHAI)
