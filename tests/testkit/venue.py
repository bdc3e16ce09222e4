"""The paper venue as its own process on a unix socket, in a folder of its own, and a raw client for it."""

from __future__ import annotations

import copy
import shutil
import signal
import socket as sockets
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from vnpy_core.gateways.paper import wire
from vnpy_core.gateways.paper.model import VenueEvent, VenueOrder, VenueTrade

CONTRACTS = """
[rb]
exchange = "SHFE"
size = 10
pricetick = 1
margin_rate = 0.1
fee_per_lot = 2
max_volume = 500

[BTCUSDT]
exchange = "GLOBAL"
product = "SWAP"
size = 1
pricetick = 0.1
min_volume = 0.001
net_position = true
"""
RB, BTC = "rb2701.SHFE", "BTCUSDT.GLOBAL"
START_S = 20.0
PLENTY = 1_000_000.0


class VenueProcess:
    """`with VenueProcess() as venue:`; the ledger outlives `stop` and `start` until the block ends.

    `market="manual"` (the default) moves only by `book`. `folder` keeps the files elsewhere, as they are then.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        market: str = "manual",
        symbols: str = f"{RB};{BTC}",
        contracts: str = CONTRACTS,
        balance: float = 1e12,
        seed: int = 1,
        faults: bool = True,
        **options: object,
    ) -> None:
        """`options` are the command's own, as `rate=20`."""
        self._made = folder is None
        # Not pytest's folder: a socket's path has 107 bytes at most.
        self.folder = folder or Path(tempfile.mkdtemp(prefix="venue-"))
        self.socket, self.ledger = self.folder / "venue.sock", self.folder / "ledger.sqlite"
        self.log = self.folder / "venue.log"
        self.contracts = self.folder / "contracts.toml"
        self.contracts.write_text(contracts)
        options |= {"market": market, "symbols": symbols, "balance": balance, "seed": seed}
        self.command = [sys.executable, "-m", "vnpy_core", "venue", *self._paths(), *(["--faults"] if faults else [])]
        for name, value in options.items():
            self.command += [f"--{name.replace('_', '-')}", str(value)]
        self.process: subprocess.Popen[bytes] | None = None
        self._control: RawClient | None = None

    def __enter__(self) -> VenueProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._made:
            shutil.rmtree(self.folder)

    @property
    def setting(self) -> dict[str, object]:
        """Of `RemotePaperGateway.connect`."""
        return {"socket": str(self.socket), "timeout_s": 5.0}

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start the process, or start it again on the same ledger; returns once it listens."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self._listens():
            assert self.process.poll() is None, f"the venue ended:\n{self.log.read_text()[-4000:]}"
            assert time.monotonic() < deadline, f"the venue does not listen:\n{self.log.read_text()[-4000:]}"
            time.sleep(0.01)

    def stop(self) -> None:
        """End the process by SIGTERM; it must end well. Once or again."""
        if self._control is not None:
            self._control.close()
            self._control = None
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                status = process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            assert status == 0, f"the venue ended with {status}:\n{self.log.read_text()[-4000:]}"

    # --- switches ---

    def control(self, **switches: object) -> wire.Counters:
        """Set the faults anew, as `control(lose_answers=3, double_p=0.2)`; `control()` ends all of them."""
        return self._ask(wire.Switches(**switches))  # type: ignore[arg-type]

    def stall(self, seconds: float) -> wire.Counters:
        """Let it hear and say nothing for a while; 0 ends it."""
        return self._ask(wire.Stall(seconds=seconds))

    def disconnect(self) -> wire.Counters:
        """Drop every client's connection now."""
        return self._ask(wire.Disconnect())

    def flap(self, times: int, every_ms: float) -> wire.Counters:
        """Drop every client's connection so many times, the first time now."""
        return self._ask(wire.Disconnect(times=times, every_ms=every_ms))

    def book(self, vt_symbol: str = RB, bid: float = 3500, ask: float = 3501, volume: float = PLENTY) -> wire.Counters:
        """The market becomes one level on each side; `volume=0` for an empty book, in which everything rests."""
        symbol, _, exchange = vt_symbol.rpartition(".")
        return self._ask(wire.Book(symbol=symbol, exchange=exchange, bid=bid, ask=ask, volume=volume))

    def counters(self) -> wire.Counters:
        """What happened since the process began."""
        return self._ask(wire.Ask())

    # --- the truth ---

    def query(self, sql: str) -> list[tuple]:
        """Read the ledger file."""
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()

    def orders(self) -> dict[str, tuple[str, float]]:
        """orderid -> (status, traded), oldest first."""
        rows = self.query("select orderid, status, traded from orders order by number")
        found = {orderid: (status, float(traded)) for orderid, status, traded in rows}
        assert len(found) == len(rows)
        return found

    def trades(self) -> list[tuple[str, str, float]]:
        """(tradeid, orderid, volume), oldest first."""
        rows = self.query("select tradeid, orderid, volume from trades order by tradeid")
        return [(tradeid, orderid, float(volume)) for tradeid, orderid, volume in rows]

    def assert_sound(self) -> None:
        """The books agree with themselves: ids once, trades with orders, and holdings with trades."""
        assert self.query("pragma integrity_check") == [("ok",)]
        filled: dict[str, float] = {}
        for _, orderid, volume in self.trades():
            filled[orderid] = filled.get(orderid, 0) + volume
        assert filled == {orderid: traded for orderid, (_, traded) in self.orders().items() if traded}
        numbers = [number for (number,) in self.query("select number from orders order by number")]
        assert numbers == list(range(1, len(numbers) + 1))
        signed = "case when (direction = 'LONG') = (offset in ('OPEN', 'NONE')) then volume else -volume end"
        traded = self.query(f"select coalesce(sum({signed}), 0) from trades where symbol like 'rb%'")
        held = self.query("select coalesce(sum(today + yesterday), 0) from holdings where symbol like 'rb%'")
        if not self.query("select 1 from trades where direction = 'SHORT' limit 1"):
            assert traded == held

    def rss_mb(self) -> float:
        """The process's memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def _ask(self, control: wire.Control) -> wire.Counters:
        if self._control is None:
            self._control = RawClient(self.socket)
        self._control.send(control)
        answer = self._control.read()
        assert isinstance(answer, wire.Counters)
        return answer

    def _paths(self) -> list[str]:
        paths = {"socket": self.socket, "ledger": self.ledger, "contracts": self.contracts}
        return [part for name, path in paths.items() for part in (f"--{name}", str(path))]

    def _listens(self) -> bool:
        try:
            RawClient(self.socket).close()
        except OSError:
            return False
        return True


class RawClient:
    """A client without VnPy that reads when it is told to."""

    def __init__(self, path: Path, *, timeout: float = 10) -> None:
        self.socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(str(path))
        except BaseException:
            self.socket.close()
            raise
        self.welcome: wire.Welcome | None = None
        self._count = 0

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, message: wire.Request) -> None:
        self.socket.sendall(wire.frame(message))

    def read(self) -> wire.Answer:
        """The next message; EOFError where the venue closed the connection."""
        return wire.answer(self._exactly(wire.length(self._exactly(wire.HEADER.size), wire.ANSWER_LIMIT)))

    def until(self, wanted: Callable[[wire.Answer], bool], seconds: float = 10) -> list[wire.Answer]:
        """Messages up to the one that is wanted, it included."""
        found: list[wire.Answer] = []
        deadline = time.monotonic() + seconds
        while not found or not wanted(found[-1]):
            assert time.monotonic() < deadline, f"it did not come; {found[-3:]}"
            found.append(self.read())
        return found

    def log_in(self) -> list[VenueEvent]:
        """Log in; returns the snapshot."""
        self.send(wire.Login())
        welcome = self.read()
        assert isinstance(welcome, wire.Welcome)
        self.welcome = welcome
        return self._shown(0)

    def query(self, topic: wire.Topic, **more: object) -> list[VenueEvent]:
        """Ask, and pass over what else comes."""
        self._count += 1
        self.send(wire.Query(number=self._count, topic=topic, **more))  # type: ignore[arg-type]
        return self._shown(self._count)

    def place(self, order, number: int | None = None) -> str:
        """Send an order (`testkit.paper.order`); returns its id."""
        assert self.welcome is not None
        if number is None:
            self._count = number = self._count + 1
        orderid = f"{self.welcome.session}-{number}"
        self.send(wire.Place(orderid=orderid, order=order))
        return orderid

    def _shown(self, number: int) -> list[VenueEvent]:
        def is_last(answer: wire.Answer) -> bool:
            return isinstance(answer, wire.Shown) and answer.number == number and answer.last

        shown = [a for a in self.until(is_last) if isinstance(a, wire.Shown) and a.number == number]
        return [event for part in shown for event in part.events]

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError("the venue closed the connection")
            data += part
        return data


class Tape:
    """An event engine that only notes what is put, at once and in order."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[tuple[str, object]] = []

    def put(self, event) -> None:
        with self._changed:
            self._events.append((event.type, copy.copy(event.data)))
            self._changed.notify_all()

    def all(self, kind: str) -> list:
        """What was put as `kind`, as "eOrder."."""
        return [data for type_, data in list(self._events) if type_ == kind]

    @property
    def orders(self) -> list:
        return self.all("eOrder.")

    @property
    def trades(self) -> list:
        return self.all("eTrade.")

    @property
    def logs(self) -> list[str]:
        return [log.msg for log in self.all("eLog")]

    def last(self, vt_orderid: str):
        """An order as it was shown last; None where it never was."""
        return next((order for order in reversed(self.orders) if order.vt_orderid == vt_orderid), None)

    def until(self, condition: Callable[[], object], seconds: float = 15) -> None:
        """Wait for a condition, looked at after each event and now and then; it must not wait itself."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not condition():
                assert time.monotonic() < deadline, f"it did not happen; {self.logs[-3:]}"
                self._changed.wait(0.05)

    def clear(self) -> None:
        with self._changed:
            self._events.clear()


def request(direction="LONG", volume=1.0, price=3501.0, *, type="LIMIT", offset="OPEN", vt_symbol=RB, reference=""):
    """VnPy's order request."""
    from vnpy.trader.constant import Direction, Exchange, Offset, OrderType
    from vnpy.trader.object import OrderRequest

    symbol, _, exchange = vt_symbol.rpartition(".")
    return OrderRequest(
        symbol=symbol, exchange=Exchange(exchange), direction=Direction[direction], type=OrderType[type],
        volume=volume, price=price, offset=Offset[offset], reference=reference,
    )  # fmt: skip


def events_of(answers: list[wire.Answer]) -> Iterator[VenueEvent]:
    """What happened, in order."""
    for answer in answers:
        if isinstance(answer, wire.Happened):
            yield from answer.events


def has_order(orderid: str, *statuses: str) -> Callable[[wire.Answer], bool]:
    """Whether an answer tells of this order in one of these states."""
    return lambda answer: any(
        isinstance(event, VenueOrder) and event.orderid == orderid and event.status in statuses
        for event in events_of([answer])
    )


def has_trade(orderid: str) -> Callable[[wire.Answer], bool]:
    """Whether an answer tells of a fill of this order."""
    return lambda answer: any(isinstance(e, VenueTrade) and e.orderid == orderid for e in events_of([answer]))
