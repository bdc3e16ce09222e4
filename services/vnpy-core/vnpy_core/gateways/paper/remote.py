"""The VnPy face of a paper venue in another process: a broker's client, as CTP's is.

It names orders itself and says SUBMITTING before the request goes out; the venue's answer comes later, or never. What
was not answered is never sent again. A lost connection comes back by itself and shows the venue's books anew.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from vnpy.event import EventEngine
from vnpy.trader.constant import Exchange, Status
from vnpy.trader.gateway import BaseGateway
from vnpy.trader.object import CancelRequest, OrderRequest, SubscribeRequest

from vnpy_core.domain.errors import ConfigurationError, Overloaded, describe
from vnpy_core.gateways.paper import translate, wire
from vnpy_core.gateways.paper.client import Connection
from vnpy_core.gateways.paper.gateway import PaperGateway
from vnpy_core.gateways.paper.model import ContractSpec
from vnpy_core.gateways.paper.translate import SHANGHAI

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0
"""Between two attempts to connect: the first wait, and what doubling it ends at."""


class RemoteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`connect`'s setting; flat, as VnPy's window edits it."""

    socket: str = ""
    """Path of the venue's socket."""
    timeout_s: float = 5.0
    """How long `connect` and the queries wait for the venue."""
    reconnect: bool = True
    """Whether a connection that fails or is lost is tried again."""


class _Pending:
    """A query that somebody waits for."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.complete = False

    def end(self, *, complete: bool) -> None:
        self.complete = complete
        self.done.set()


class RemotePaperGateway(BaseGateway):  # type: ignore[misc]
    """Trades on a venue process. Any thread may call; only `connect` and the order and trade queries wait."""

    default_name = "PAPER"
    default_setting: ClassVar[dict[str, str | int | float | bool]] = msgspec.structs.asdict(RemoteSettings())
    exchanges: ClassVar[list[Exchange]] = PaperGateway.exchanges
    capabilities: ClassVar[dict[str, Any]] = {**PaperGateway.capabilities, "history": False, "exclusive_account": True}

    def __init__(self, event_engine: EventEngine, gateway_name: str) -> None:
        super().__init__(event_engine, gateway_name)
        self._settings = RemoteSettings()
        # Orders are named, shown and sent inside, so that no answer is shown before its order.
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._up = False
        self._session = 0
        self._numbers = itertools.count(1)
        self._queries = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._welcome = wire.Welcome(session=0, contracts=[], live=True, server_stops=False)
        self._names: dict[tuple[str, str], str] = {}
        self._subscribed: set[tuple[str, str]] = set()
        self._closing = threading.Event()
        self._closing.set()
        self._settled = threading.Event()
        """The first attempt to connect is over, well or not."""
        self._thread: threading.Thread | None = None

    @property
    def connected(self) -> bool:
        """Whether the venue's books have been shown and orders may go out."""
        return self._up

    @property
    def replays(self) -> bool:
        """Whether its ticks are a recording's, which is no news to record. As the venue said when we logged in last."""
        return not self._welcome.live

    @property
    def session(self) -> int:
        """Which log-in this is; the venue counts them up, so another number tells of a connection lost meanwhile."""
        return self._session

    def connect(self, setting: dict[str, Any]) -> None:
        """Connect and show the venue's books; waits for them, `timeout_s` at most, and goes on trying if need be.

        Raises ConfigurationError for a wrong setting.
        """
        if self._up:
            self.write_log("paper: connected already")
            return
        settings = _parse(setting)
        self.close()
        with self._lock:
            self._settings = settings
            closing = self._closing = threading.Event()
            settled = self._settled = threading.Event()
            name = f"paper {self.gateway_name}"
            self._thread = threading.Thread(target=self._run, args=(closing,), name=name, daemon=True)
            self._thread.start()
        if not settled.wait(settings.timeout_s):
            self.write_log(f"paper: the venue at {settings.socket} has not shown its books in {settings.timeout_s:g} s")

    def close(self) -> None:
        """End the connection; orders stay at the venue. `connect` may be called again."""
        with self._lock:
            self._closing.set()
            thread, self._thread = self._thread, None
            if self._connection is not None:
                self._connection.end()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def subscribe(self, req: SubscribeRequest) -> None:
        """Send this contract's ticks from now on, also after a reconnect."""
        key = (req.symbol, req.exchange.value)
        if key not in self._names:
            self.write_log(f"paper: cannot subscribe to {req.vt_symbol}: there is no such contract")
            return
        self._subscribed.add(key)
        if self._up:
            self._subscribe(*key)

    def send_order(self, req: OrderRequest) -> str:
        """Show the order as SUBMITTING, send it and return its vt_orderid; "" where nothing was sent."""
        with self._lock:
            connection = self._connection
            if not self._up or connection is None:
                self.write_log("paper: the order was not sent: not connected")
                return ""
            orderid = f"{self._session}-{next(self._numbers)}"
            order = translate.new_order(req).writable()
            frame = wire.frame(wire.Place(orderid=orderid, order=order))
            if len(frame) > wire.REQUEST_LIMIT or not connection.takes(frame):
                self.write_log("paper: the order was not sent: it is too large, or the venue does not read")
                return ""
            data = req.create_order_data(orderid, self.gateway_name)
            data.status, data.datetime = Status.SUBMITTING, datetime.now(SHANGHAI)
            self.on_order(data)
            try:
                connection.send(frame)
            except ConnectionError as error:
                # The venue may have gone before or after it read: nobody knows, so the order stands as it is.
                self.write_log(f"paper: order {orderid} may not have been sent: {error}")
        return str(data.vt_orderid)

    def cancel_order(self, req: CancelRequest) -> None:
        """The outcome follows as an order event; an unknown or finished order gives a log line."""
        self._send(wire.Cancel(orderid=req.orderid), f"the cancel of {req.orderid} was not sent")

    def query_account(self) -> None:
        """Ask for the account again."""
        self._send(wire.Query(number=next(self._queries), topic="account"), "the account was not asked for")

    def query_position(self) -> None:
        """Ask for the positions again."""
        self._send(wire.Query(number=next(self._queries), topic="positions"), "the positions were not asked for")

    def query_orders(self, since: datetime | None = None) -> bool:
        """Show the orders again that are active, of today or (aware) `since` then; waits, `timeout_s` at most.

        Returns whether all of them were shown. Not for the event thread.
        """
        return self._ask("orders", since)

    def query_trades(self, since: datetime | None = None) -> bool:
        """As `query_orders`, for fills."""
        return self._ask("trades", since)

    # --- asking ---

    def _send(self, request: wire.Request, else_: str) -> bool:
        try:
            with self._lock:
                if self._connection is None or not self._up:
                    raise ConnectionError("not connected")
                self._connection.send(wire.frame(request))
        except (ConnectionError, Overloaded, wire.BadFrame) as error:
            self.write_log(f"paper: {else_}: {error}")
            return False
        return True

    def _ask(self, topic: wire.Topic, since: datetime | None) -> bool:
        number, pending = next(self._queries), _Pending()
        self._pending[number] = pending
        try:
            query = wire.Query(number=number, topic=topic, since=since)
            if not self._send(query, f"the {topic} were not asked for"):
                return False
            pending.done.wait(self._settings.timeout_s)
            return pending.complete
        finally:
            self._pending.pop(number, None)

    # --- the reader's thread ---

    def _run(self, closing: threading.Event) -> None:
        waits = waits_between_attempts()
        told = False
        while not closing.is_set():
            reason = self._stay(closing)
            if self._up:
                waits, told = waits_between_attempts(), False
            self._lose()
            if not told and not closing.is_set():
                self.write_log(f"paper: no connection to the venue: {reason}")
                told = True
            self._settled.set()
            if not self._settings.reconnect or closing.wait(next(waits)):
                return

    def _stay(self, closing: threading.Event) -> str:
        """Connect, and listen until the connection ends; returns why it did."""
        settings = self._settings
        try:
            connection = Connection(Path(settings.socket), min(settings.timeout_s, 1.0))
        except OSError as error:
            return f"{settings.socket}: {describe(error)}"
        try:
            with self._lock:
                if closing.is_set():
                    return "closed"
                self._connection = connection
            connection.send(wire.frame(wire.Login()))
            for answer in connection.receive():
                self._hear(answer)
        except Exception as error:  # noqa: BLE001 - a guarded door: this thread never ends without a word
            return describe(error)
        finally:
            with self._lock:
                self._connection = None
            connection.close()
        return "closed"

    def _lose(self) -> None:
        with self._lock:
            self._up = False
        for pending in list(self._pending.values()):
            pending.end(complete=False)

    def _hear(self, answer: wire.Answer) -> None:
        match answer:
            case wire.Happened():
                translate.show(self, answer.events)
            case wire.Tick():
                snapshot = answer.snapshot
                name = self._names.get((snapshot.symbol, snapshot.exchange), "")
                self.on_tick(translate.tick(snapshot, name, self.gateway_name, live=self._welcome.live))
            case wire.Shown():
                self._show(answer)
            case wire.Welcome():
                self._welcome = answer
                for spec in answer.contracts:
                    self._list(spec)
            case wire.Listed():
                self._list(answer.contract)
            case wire.Notice():
                self.write_log(f"paper: {answer.text}")
            case wire.Counters():
                raise wire.BadFrame("the venue answered a control that was not sent")

    def _show(self, answer: wire.Shown) -> None:
        translate.show(self, answer.events)
        if answer.last and answer.number == 0:
            self._begin()
        elif answer.last and (pending := self._pending.get(answer.number)):
            pending.end(complete=True)

    def _begin(self) -> None:
        """The books have been shown: orders may go out."""
        with self._lock:
            self._session = self._welcome.session
            self._up = True
        self.write_log(f"paper: connected to the venue, session {self._session}")
        for symbol, exchange in list(self._subscribed):
            self._subscribe(symbol, exchange)
        self._settled.set()

    def _subscribe(self, symbol: str, exchange: str) -> None:
        self._send(wire.Subscribe(symbol=symbol, exchange=exchange), f"{symbol} was not subscribed to")

    def _list(self, spec: ContractSpec) -> None:
        self._names[spec.symbol, spec.exchange] = spec.name
        stops = self._welcome.server_stops
        self.on_contract(translate.contract(spec, self.gateway_name, server_stops=stops, history=False))


def waits_between_attempts() -> Iterator[float]:
    """Seconds, doubling up to the longest."""
    wait = FIRST_WAIT_S
    while True:
        yield wait
        wait = min(2 * wait, LONGEST_WAIT_S)


def _parse(setting: dict[str, Any]) -> RemoteSettings:
    """Raises ConfigurationError that names the wrong field."""
    try:
        settings = msgspec.convert(setting, RemoteSettings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"the remote paper gateway's setting is wrong: {error}") from error
    if not settings.socket:
        raise ConfigurationError("the remote paper gateway needs socket, the path of the venue's socket")
    if not 0 < settings.timeout_s <= 3600:
        raise ConfigurationError(f"the remote paper gateway's timeout_s must be in 0 to 3600, not {settings.timeout_s}")
    return settings
