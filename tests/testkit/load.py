"""What works on a service that is killed: a market that moves, callers of REST, a WebSocket client; each a thread."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

from testkit.venue import BTC, PLENTY, RB, RawClient, VenueProcess
from vnpy_core.gateways.paper import wire

CALM_S = 30.0


class Reachable(Protocol):
    """Where a service answers, who speaks to it, and where its answers are kept."""

    port: int
    token: str
    answers: Path


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, token: str, body: Any, answers: Path | None = None
) -> tuple[int, Any]:
    """Status and decoded body. Raises OSError, also where the answer broke off."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        raw = response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"{error!r}") from error
    if answers is not None:
        with answers.open("ab") as file:
            file.write(raw + b"\n")
    return response.status, json.loads(raw) if raw else None


def eventually(condition: Callable[[], object], seconds: float = CALM_S, what: str = "it did not happen") -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return value


class Loop:
    """Something done again and again in a thread of its own, that can be paused between two steps."""

    def __init__(self, name: str) -> None:
        self._going = threading.Event()
        self._ended = threading.Event()
        self._stepping = threading.Lock()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin, at rest."""
        self._thread.start()

    def go(self) -> None:
        self._going.set()

    def pause(self) -> None:
        """Returns when it rests; raises what a step has raised."""
        self._going.clear()
        assert self._stepping.acquire(timeout=CALM_S), f"{self._thread.name} does not come to rest"
        self._stepping.release()
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        self._ended.set()
        self._thread.join(CALM_S)

    def step(self) -> None:
        raise NotImplementedError

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                if not self._going.wait(0.5):
                    continue
                with self._stepping:
                    if self._going.is_set():
                        self.step()
        except BaseException as error:  # noqa: BLE001 - raised again where the test waits
            self._failure = error


class Market(Loop):
    """Moves the venue's books, also while the service is dead: orders fill when nobody listens."""

    def __init__(self, venue: VenueProcess, seed: str, *, pause_s: float = 0.02) -> None:
        super().__init__("market")
        self._random = random.Random(f"{seed} market")
        self._venue = venue
        self._client: RawClient | None = None
        self._pause = pause_s
        self.price = 3500

    def step(self) -> None:
        self.price = min(3560, max(3440, self.price + self._random.randint(-4, 4)))
        self._show(RB, self.price, self.price + 1)
        self._show(BTC, self.price * 10, self.price * 10 + 0.1)
        time.sleep(self._pause)

    def close(self) -> None:
        """End its connection to the venue; it rests."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _show(self, vt_symbol: str, bid: float, ask: float) -> None:
        """On a connection of its own, for the test's is the test's thread's."""
        if self._client is None:
            self._client = RawClient(self._venue.socket)
        symbol, _, exchange = vt_symbol.rpartition(".")
        self._client.send(wire.Book(symbol=symbol, exchange=exchange, bid=bid, ask=ask, volume=PLENTY))
        self._client.read()


class Load(Loop):
    """Orders with client ids, cancels, and the same key again whenever the answer was none."""

    def __init__(self, service: Reachable, seed: str, number: int, market: Market, *, pause_s: float = 0.01) -> None:
        super().__init__(f"load {number}")
        self._service = service
        self._random = random.Random(f"{seed} load {number}")
        self._name = f"k{number}"
        self._market = market
        self._pause = pause_s
        self._connection: http.client.HTTPConnection | None = None
        self._count = 0
        self.bodies: dict[str, dict[str, Any]] = {}
        self.open: dict[str, None] = {}
        """Keys of which no final answer is known; asked again in this order."""
        self.answers: dict[str, set[str]] = defaultdict(set)
        """key -> every vt_orderid that was ever given for it."""
        self.acknowledged: dict[str, set[str]] = defaultdict(set)
        """key -> every status in which it was acknowledged by a 201."""
        self.denied: dict[str, str] = {}
        self.milliseconds: list[float] = []
        self.statuses: dict[int, int] = defaultdict(int)

    def step(self) -> None:
        try:
            self._act()
        except OSError:
            self.close()
            time.sleep(0.02)
        if self._pause:
            time.sleep(self._pause)

    def settle(self) -> None:
        """Ask for each open key until its answer is final. In the test's thread, while the loop rests."""
        deadline = time.monotonic() + CALM_S
        while self.open:
            assert time.monotonic() < deadline, f"keys without a final answer: {list(self.open)[:5]}"
            try:
                for key in list(self.open):
                    self._place(key)
            except OSError:  # the server closed an idle connection
                self.close()
            time.sleep(0.02)

    def _act(self) -> None:
        chance = self._random.random()
        if self.open and chance < 0.4:
            self._place(next(iter(self.open)))
        elif self.answers and chance < 0.55:
            self._cancel(self._random.choice(list(self.answers)[-40:]))
        elif self.answers and chance < 0.65:
            self._place(self._random.choice(list(self.answers)[-100:]))
        else:
            self._place(self._new())

    def _new(self) -> str:
        self._count += 1
        key = f"{self._name}-{self._count}"
        side = self._random.choice(("LONG", "SHORT"))
        self.bodies[key] = {
            "vt_symbol": RB,
            "direction": side,
            "offset": "OPEN",
            "type": "LIMIT",
            "volume": self._random.randint(1, 40),
            "price": self._market.price + self._random.randint(-25, 25),
            "client_order_id": key,
            "reference": key,
        }
        self.open[key] = None
        return key

    def _place(self, key: str) -> None:
        started = time.perf_counter()
        status, answer = self._ask("POST", "/api/v1/trading/orders", self.bodies[key])
        self.milliseconds.append((time.perf_counter() - started) * 1000)
        self.statuses[status] += 1
        if status == 201:
            self.answers[key].add(answer["vt_orderid"])
            self.acknowledged[key].add(answer["status"])
            self.open.pop(key, None)
        elif status == 202:
            if answer.get("vt_orderid"):
                self.answers[key].add(answer["vt_orderid"])
            self._look(key)
        elif status in (409, 503, 507, 429) and answer["code"] != "IDEMPOTENCY_MISMATCH":
            self.open[key] = None  # nothing was sent: the same key may pass later
            time.sleep(0.02)
        else:
            assert status < 500, (key, status, answer)
            self.denied[key] = f"{status} {answer}"
            self.open.pop(key, None)

    def _look(self, key: str) -> None:
        """The outcome is unknown: look for the order instead of asking for another."""
        status, answer = self._ask("GET", f"/api/v1/trading/orders/by-client-id/{key}")
        if status == 200:
            self.answers[key].add(answer["vt_orderid"])
            self.open.pop(key, None)
        else:
            self.open[key] = None

    def _cancel(self, key: str) -> None:
        status, answer = self._ask("DELETE", f"/api/v1/trading/orders/{next(iter(self.answers[key]))}")
        assert status in (202, 404, 409, 503), (key, status, answer)

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        if not self._service.token:
            raise ConnectionError("nobody has logged in yet")
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._service.port, timeout=15)
        return ask(self._connection, method, path, self._service.token, body, self._service.answers)

    def close(self) -> None:
        """End its connection to the service; it rests."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Listener(Loop):
    """A WebSocket client that applies snapshots and messages, and comes back after each kill."""

    TOPICS = ("order.updated", "trade.executed", "position.updated", "account.updated", "stop_order.updated")
    KEYS = {
        "order.updated": ("orders", "vt_orderid"),
        "trade.executed": ("trades", "vt_tradeid"),
        "position.updated": ("positions", "vt_positionid"),
        "account.updated": ("accounts", "vt_accountid"),
        "stop_order.updated": ("stop_orders", "stop_orderid"),
    }

    def __init__(self, service: Reachable) -> None:
        super().__init__("listener")
        self._service = service
        self.state: dict[str, dict[str, dict[str, Any]]] = self._empty()
        self.problems: list[str] = []

    def step(self) -> None:
        if not self._service.token:
            time.sleep(0.05)
            return
        headers = {"Authorization": f"Bearer {self._service.token}"}
        with suppress(OSError, ConnectionClosed, WebSocketException, EOFError):
            url = f"ws://127.0.0.1:{self._service.port}/ws"
            with connect(url, additional_headers=headers, open_timeout=5, proxy=None, max_size=None) as client:
                self.state = self._empty()
                client.send(json.dumps({"op": "subscribe", "topics": list(self.TOPICS)}))
                self._listen(client)
        time.sleep(0.05)

    def _listen(self, client: Any) -> None:
        last = 0
        while not self._ended.is_set():
            try:
                frame = json.loads(client.recv(0.5))
            except TimeoutError:
                continue
            if "topic" not in frame or "data" not in frame:
                continue
            if not frame.get("snapshot") and frame["topic"] in ("order.updated", "trade.executed"):
                if frame["seq"] <= last:
                    self.problems.append(f"I6 seq went from {last} to {frame['seq']} ({frame['topic']})")
                last = frame["seq"]
            what, name = self.KEYS[frame["topic"]]
            known = self.state[what].get(frame["data"][name])
            if known is None or known.get("seq", 0) <= frame["data"].get("seq", 0):
                self.state[what][frame["data"][name]] = frame["data"]

    def _empty(self) -> dict[str, dict[str, dict[str, Any]]]:
        return {what: {} for what, _ in self.KEYS.values()}
