"""The venue as a process of its own, on a unix socket. It knows nothing of VnPy.

One asyncio thread runs the venue, its feed and all clients: a snapshot and the stream after it are cut by nothing. What
goes out is in the ledger. A client that does not read is disconnected, so that memory stays bounded.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import socket as sockets
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import structlog

from vnpy_core.domain.errors import ConfigurationError, StorageFull
from vnpy_core.domain.sessions import trading_day
from vnpy_core.gateways.paper import wire
from vnpy_core.gateways.paper.contracts import ContractTable
from vnpy_core.gateways.paper.faults import Distortion, Faults, check
from vnpy_core.gateways.paper.ledger import Ledger
from vnpy_core.gateways.paper.market import Market
from vnpy_core.gateways.paper.model import Level, Snapshot, VenueEvent, VenueOrder, VenueTrade
from vnpy_core.gateways.paper.settings import PaperSettings
from vnpy_core.gateways.paper.venue import PaperVenue

MARKETS = ("generated", "replay", "manual")
UNREAD_LIMIT = 8 * 1024 * 1024
"""Bytes of events that may wait for one client, beyond the answer it asked for last."""
FAST_PATIENCE_S = 5.0
"""So long a replay as fast as possible waits for a client that is behind."""
_SOCKET_PATH_LIMIT = 100
"""The kernel takes 107 bytes."""

_log = structlog.get_logger(__name__)
_Record = TypeVar("_Record", VenueOrder, VenueTrade)


class Client:
    """One connection."""

    def __init__(self, writer: asyncio.StreamWriter, faults: Faults) -> None:
        self._writer = writer
        self._transport = writer.transport
        self._faults = faults
        self._owed = 0
        self._timers: list[asyncio.TimerHandle] = []
        self.distortion = Distortion(faults, self._send_events, self._later)
        self.session = 0
        """0 until it has logged in."""
        self.subscribed: set[tuple[str, str]] = set()

    def send(self, message: wire.Answer) -> None:
        """Put a frame on its way."""
        self.send_frame(wire.frame(message))

    def send_frame(self, frame: bytes, *, asked: bool = False) -> None:
        """`asked` frames are part of an answer, which the client must read before it is heard again."""
        if self._transport.is_closing():
            return
        if asked:
            self._owed += len(frame)
        elif self._transport.get_write_buffer_size() > UNREAD_LIMIT + self._owed:
            self._faults.count("overflowed")
            _log.warning("a client does not read and is disconnected", session=self.session)
            self.drop()
            return
        self._writer.write(frame)

    @property
    def is_behind(self) -> bool:
        """Whether more waits for it than the kernel takes."""
        return self._transport.get_write_buffer_size() > 0

    async def drained(self) -> None:
        """Wait until the client has read what it asked for. Raises ConnectionError."""
        await self._writer.drain()
        self._owed = 0

    def drop(self) -> None:
        """End the connection at once; what is unread is lost."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._transport.abort()

    def _send_events(self, events: list[VenueEvent]) -> None:
        for start in range(0, len(events), wire.LIST_PART):
            self.send(wire.Happened(events=events[start : start + wire.LIST_PART]))

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._timers = [timer for timer in self._timers if timer.when() > loop.time()]
        self._timers.append(loop.call_later(seconds, action))


class VenueServer:
    """Serves one venue and its market. The asyncio thread only."""

    def __init__(
        self, settings: PaperSettings, venue: PaperVenue, ledger: Ledger, market: Market, *, faults: Faults | None
    ) -> None:
        """Without `faults` controls are refused."""
        self._settings = settings
        self._venue = venue
        self._ledger = ledger
        self._market = market
        self._faults = faults or Faults(0)
        self._takes_controls = faults is not None
        self._connections: set[asyncio.Task[None]] = set()
        self._clients: set[Client] = set()
        """Those that have logged in."""
        self._sessions = self._orders = 0
        self._awake = asyncio.Event()
        self._awake.set()
        self._waking: asyncio.TimerHandle | None = None
        self._wanted = asyncio.Event()
        self._writable = True

    async def run(self, listener: sockets.socket, stop: asyncio.Event, announce: Callable[[], None]) -> None:
        """Serve on a bound socket until `stop`. The ledger is the caller's to close."""
        server = await asyncio.start_unix_server(self._on_connection, sock=listener, limit=wire.REQUEST_LIMIT)
        announce()
        feed = asyncio.create_task(self._play(), name="paper feed")
        try:
            await stop.wait()
        finally:
            server.close()
            tasks = [feed, *self._connections]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # --- clients ---

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="paper client")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(writer, self._faults)
        try:
            while await self._hear(client, await _read(reader)):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            _log.debug("a client went away", session=client.session)
        except (wire.BadFrame, ConfigurationError) as error:
            _log.warning("a client is disconnected", session=client.session, reason=str(error))
        finally:
            self._clients.discard(client)
            client.drop()

    async def _hear(self, client: Client, request: wire.Request) -> bool:
        """Do what a client asks for; False when it goes. Raises BadFrame, ConnectionError."""
        if isinstance(request, wire.Control):
            self._control(client, request)
            return True
        await self._awake.wait()
        if (client.session == 0) is not isinstance(request, wire.Login):
            raise wire.BadFrame("the first request, and no other, is a log-in")
        match request:
            case wire.Bye():
                return False
            case wire.Login():
                self._log_in(client, request)
                await client.drained()
            case wire.Query():
                self._query(client, request)
                await client.drained()
            case wire.Subscribe():
                self._subscribe(client, (request.symbol, request.exchange))
            case _ if self._faults.loses_request():
                pass
            case wire.Place():
                self._place(client, request)
            case wire.Cancel():
                self._cancel(client, request.orderid)
        return True

    def _log_in(self, client: Client, login: wire.Login) -> None:
        """Welcome, snapshot and from then on the stream: nothing may happen in between."""
        if login.protocol != wire.PROTOCOL:
            raise wire.BadFrame(f"this venue speaks protocol {wire.PROTOCOL}, not {login.protocol}")
        try:
            client.session = self._ledger.next_session()
        except StorageFull as error:
            raise wire.BadFrame(error.detail) from error
        self._sessions += 1
        welcome = wire.Welcome(
            session=client.session,
            contracts=list(self._market.contracts.values()),
            live=self._market.live,
            server_stops=self._settings.server_stops,
        )
        client.send_frame(wire.frame(welcome), asked=True)
        venue, market = self._venue, self._market
        books: list[VenueEvent] = [venue.account(), *venue.positions()]
        books += [*market.orders_of_today(venue), *market.trades_of_today(venue)]
        _answer(client, 0, books)
        self._clients.add(client)

    def _query(self, client: Client, query: wire.Query) -> None:
        venue, market = self._venue, self._market
        found: Sequence[VenueEvent]
        match query.topic:
            case "orders":
                found = _since(venue.orders(), market.orders_of_today(venue), query.since)
                client.distortion.silenced.clear()
            case "trades":
                found = _since(venue.trades(), market.trades_of_today(venue), query.since)
            case "positions":
                found = venue.positions()
            case "account":
                found = [venue.account()]
        _answer(client, query.number, found)

    def _place(self, client: Client, request: wire.Place) -> None:
        order, orderid = request.order, request.orderid
        if not re.fullmatch(wire.ORDERID, orderid, re.ASCII):
            raise wire.BadFrame(f"an order's id is <session>-<number>, not {orderid!r}")
        if known := self._venue.order(orderid):
            client.distortion.tell([known])
            return
        self._orders += 1
        self._move_clock()
        try:
            _, events = self._venue.place(order, orderid)
        except StorageFull as error:
            events = [self._venue.refusal(order, orderid, error.detail)]
        if self._faults.loses_answer():
            client.distortion.silenced.add(orderid)
            self._tell(events, but=client)
        else:
            self._tell(events)

    def _cancel(self, client: Client, orderid: str) -> None:
        known = self._venue.order(orderid)
        if known is None or not known.status.is_active:
            client.send(wire.Notice(text=f"there is no active order {orderid} to cancel"))
            return
        self._move_clock()
        try:
            self._tell(self._venue.cancel(orderid))
        except StorageFull as error:
            client.send(wire.Notice(text=f"order {orderid} was not cancelled: {error.detail}"))

    def _subscribe(self, client: Client, key: tuple[str, str]) -> None:
        if key not in self._market.contracts:
            client.send(wire.Notice(text=f"cannot subscribe to {'.'.join(key)}: there is no such contract"))
            return
        client.subscribed.add(key)
        self._wanted.set()

    def _tell(self, events: list[VenueEvent], *, but: Client | None = None) -> None:
        for client in list(self._clients):
            if events and client is not but:
                client.distortion.tell(events)

    # --- the feed ---

    async def _play(self) -> None:
        """A recording begins with the first subscription; a live market does not wait for anybody."""
        if not self._market.live:
            await self._wanted.wait()
        reason = ""
        try:
            for snapshot, wait in self._paced():
                await asyncio.sleep(wait)
                await self._awake.wait()
                await self._room()
                self._on_snapshot(snapshot)
        except Exception as error:  # noqa: BLE001 - a guarded door: a feed never ends without a word
            reason = str(error) or repr(error)
        if self._settings.market != "manual":
            _log.info("the feed has ended", market=self._settings.market, reason=reason)

    def _paced(self) -> Iterable[tuple[Snapshot, float]]:
        if self._settings.speed == 0:
            return ((snapshot, 0.0) for snapshot in self._market.feed)
        return self._market.paced()

    async def _room(self) -> None:
        """As fast as possible means as fast as the clients read, within reason."""
        for client in [client for client in self._clients if self._settings.speed == 0 and client.is_behind]:
            with suppress(TimeoutError, ConnectionError):
                await asyncio.wait_for(client.drained(), FAST_PATIENCE_S)

    def _on_snapshot(self, snapshot: Snapshot) -> None:
        key = (snapshot.symbol, snapshot.exchange)
        if key not in self._market.contracts:
            self._list(key)
        try:
            events = self._venue.on_snapshot(snapshot)
            self._writable = True
        except StorageFull as error:
            if self._writable:
                _log.error("the ledger cannot be written; the market goes on without matching", reason=error.detail)
            self._writable = False
            return
        self._tell(events)
        if listeners := [client for client in self._clients if key in client.subscribed]:
            frame = wire.frame(wire.Tick(snapshot=snapshot))
            for client in listeners:
                client.send_frame(frame)

    def _list(self, key: tuple[str, str]) -> None:
        """A contract that a recording did not show at its beginning. Raises ConfigurationError for an unknown one."""
        spec = self._market.contracts[key] = self._market.spec(*key)
        for client in list(self._clients):
            client.send(wire.Listed(contract=spec))

    def _move_clock(self) -> None:
        if self._settings.market == "manual":
            self._venue.advance(datetime.now(UTC))

    # --- switches ---

    def _control(self, client: Client, control: wire.Control) -> None:
        if not self._takes_controls:
            raise wire.BadFrame("this venue takes no controls: it was started without --faults")
        match control:
            case wire.Switches():
                if wrong := check(control):
                    raise wire.BadFrame(wrong)
                self._faults.set(control)
            case wire.Stall():
                self._stall(control.seconds)
            case wire.Disconnect():
                self._disconnect(control.times, control.every_ms / 1000)
            case wire.Book():
                self._on_snapshot(_flat(control, datetime.now(UTC)))
        client.send(self._faults.counters(sessions=self._sessions, clients=len(self._clients), orders=self._orders))

    def _stall(self, seconds: float) -> None:
        if self._waking is not None:
            self._waking.cancel()
        self._awake.clear()
        self._waking = asyncio.get_running_loop().call_later(seconds, self._awake.set)

    def _disconnect(self, times: int, every: float) -> None:
        for client in list(self._clients):
            self._faults.count("dropped")
            self._clients.discard(client)
            client.drop()
        if times > 1:
            asyncio.get_running_loop().call_later(every, self._disconnect, times - 1, every)


def serve(
    settings: PaperSettings, socket: Path, *, fault_seed: int | None = None, announce: Callable[[], None]
) -> None:
    """Run a venue until SIGTERM or SIGINT; `announce` is called once clients may connect.

    `fault_seed` allows controls. Raises ConfigurationError: a wrong setting, or a socket or ledger that is in use.
    """
    if not settings.ledger:
        raise ConfigurationError("the venue needs ledger, the path of its books")
    table = ContractTable(Path(settings.contracts))
    path = Path(settings.ledger)
    with _held(path), _held(socket), _listening(socket) as listener:
        market = Market(settings, table)
        ledger = Ledger(path)
        try:
            venue = PaperVenue(
                table.find,
                ledger,
                accountid=settings.accountid,
                initial_balance=Decimal(repr(settings.balance)),
                now=lambda: datetime.now(UTC),
                latency=timedelta(milliseconds=settings.latency_ms),
            )
            faults = None if fault_seed is None else Faults(fault_seed)
            asyncio.run(_run(VenueServer(settings, venue, ledger, market, faults=faults), listener, announce))
        finally:
            ledger.close()


async def _run(server: VenueServer, listener: sockets.socket, announce: Callable[[], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.run(listener, stop, announce)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Nobody else has this path as long as this holds, or as this process lives. Raises ConfigurationError."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{lock} cannot be opened: {error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(f"{path} is in use by another venue") from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _listening(path: Path) -> Iterator[sockets.socket]:
    """A bound socket that only this user can open. Raises ConfigurationError where something else has the path."""
    if len(os.fsencode(path)) > _SOCKET_PATH_LIMIT:
        raise ConfigurationError(f"the socket's path is longer than {_SOCKET_PATH_LIMIT} bytes: {path}")
    _clear(path)
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as listener:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        except OSError as error:
            raise ConfigurationError(f"the socket {path} cannot be made: {error}") from error
        finally:
            os.umask(before)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Remove the socket of a dead venue; a living one, and anything that is no socket, stays."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigurationError(f"{path} is there already and no socket; move it away or name another path")
    except FileNotFoundError:
        return
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise ConfigurationError(f"somebody is listening on {path} already")


async def _read(reader: asyncio.StreamReader) -> wire.Request:
    """The next request. Raises BadFrame, ConnectionError, IncompleteReadError where the client is gone."""
    size = wire.length(await reader.readexactly(wire.HEADER.size), wire.REQUEST_LIMIT)
    return wire.request(await reader.readexactly(size))


def _answer(client: Client, number: int, events: Sequence[VenueEvent]) -> None:
    for start in range(0, max(len(events), 1), wire.LIST_PART):
        end = start + wire.LIST_PART
        part = wire.Shown(number=number, events=list(events[start:end]), last=end >= len(events))
        client.send_frame(wire.frame(part), asked=True)


def _since(everything: list[_Record], today: list[_Record], since: datetime | None) -> list[_Record]:
    """What is of today, and what is since then; oldest first."""
    if since is None:
        return today
    if since.tzinfo is None:
        raise wire.BadFrame("`since` must be an aware time")
    shown = {id(record) for record in today}
    return [record for record in everything if record.time >= since or id(record) in shown]


def _flat(book: wire.Book, now: datetime) -> Snapshot:
    """One level on each side."""

    def side(price: float) -> tuple[Level, ...]:
        return ((price, book.volume),) if price > 0 and book.volume > 0 else ()

    return Snapshot(
        symbol=book.symbol,
        exchange=book.exchange,
        time=now,
        trading_day=trading_day(now, book.exchange),
        bids=side(book.bid),
        asks=side(book.ask),
        last_price=book.bid or book.ask,
    )
