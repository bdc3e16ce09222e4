"""The market of benchmarks/strategies_bench.py, which also measures: a gateway that runs on command. Needs VnPy only.

It listens at a Unix socket for lines as `{"rate": 5000, "seconds": 10}`, sends so many ticks and answers with a line of
what it saw: the same class, so the same measurement, in a bare VnPy and in the service. A rate of 0 is as fast as the
event thread takes them. A limit order that crosses is filled at once, any other rests.
"""

from __future__ import annotations

import copy
import json
import random
import socket
import threading
import time
from array import array
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from strategies_plan import SYMBOLS
from tick_source import LEVELS, SHANGHAI
from vnpy.trader.constant import Direction, Exchange, Interval, Product, Status
from vnpy.trader.event import EVENT_TICK
from vnpy.trader.gateway import BaseGateway
from vnpy.trader.object import AccountData, BarData, ContractData, PositionData, TickData, TradeData

UNDER_WAY = 1_000
"""Ticks that are put and not handled yet, at most, where the rate is 0."""
BURST = 50
POOL = 5_000
"""Tick objects, sent again and again: making them is the gateways' part."""
HISTORY = 300
"""Bars of a minute for each strategy's on_init: enough to fill its arrays, but for one that counts in quarters."""
ENDS_S = 5.0
"""How long the last ticks of a run may take."""


class Market(BaseGateway):
    """Begins to listen with the connect, ends when it is closed."""

    default_name = "MARKET"
    default_setting: ClassVar[dict[str, Any]] = {"socket": ""}
    exchanges: ClassVar[list[Exchange]] = [Exchange.SHFE]
    capabilities: ClassVar[dict[str, bool]] = {
        "can_query_orders": True,
        "can_query_trades": True,
        "ids_unique_across_restart": True,
    }

    def __init__(self, event_engine: Any, gateway_name: str) -> None:
        super().__init__(event_engine, gateway_name)
        self.connected = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._orders: dict[str, Any] = {}
        self._ids = self._put = self._handled = self._fills = 0
        self._times = array("d")
        self._prices = walk()
        # Each contract's clock stands elsewhere in the minute: their bars end one after another.
        self._lags = [timedelta(seconds=60 / len(SYMBOLS) * number) for number in range(len(SYMBOLS))]
        self._pool = [self._tick(SYMBOLS[number % len(SYMBOLS)]) for number in range(POOL)]

    def connect(self, setting: dict[str, Any]) -> None:
        for symbol in SYMBOLS:
            self.on_contract(
                ContractData(
                    gateway_name=self.gateway_name, symbol=symbol, exchange=Exchange.SHFE, name=symbol,
                    product=Product.FUTURES, size=10, pricetick=1, history_data=True, net_position=True,
                )
            )  # fmt: skip
            self.on_position(
                PositionData(
                    gateway_name=self.gateway_name, symbol=symbol, exchange=Exchange.SHFE, direction=Direction.NET,
                    volume=1, price=3000,
                )
            )  # fmt: skip
        self.on_account(AccountData(gateway_name=self.gateway_name, accountid="1", balance=1e8))
        self.connected = True
        Path(setting["socket"]).unlink(missing_ok=True)
        self._listener.bind(setting["socket"])
        self._listener.listen()
        threading.Thread(target=self._serve, name="market", daemon=True).start()

    def close(self) -> None:
        self.connected = False
        self._listener.close()

    # --- measuring ---

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            with client, client.makefile("rw") as lines:
                for line in lines:
                    lines.write(json.dumps(self._run(**json.loads(line))) + "\n")
                    lines.flush()

    def _run(self, rate: float, seconds: float) -> dict[str, float]:
        # Registered only now, so behind everybody else: a tick that comes here was handled.
        self.event_engine.register(EVENT_TICK, self._on_handled)
        clock = time.pthread_getcpuclockid(self.event_engine._thread.ident)
        del self._times[:]
        put, handled, fills, memory = self._put, self._handled, self._fills, memory_mb()
        event_cpu, process_cpu, begun = time.clock_gettime(clock), time.process_time(), time.monotonic()
        self._send(rate, begun, begun + seconds)
        taken = time.monotonic() - begun
        event_cpu, process_cpu = time.clock_gettime(clock) - event_cpu, time.process_time() - process_cpu
        times = sorted(self._times) or [0.0]
        return {
            **self._strategies(), "seconds": taken, "put": self._put - put, "handled": self._handled - handled,
            "fills": self._fills - fills,
            "event_cpu": event_cpu, "process_cpu": process_cpu, "memory": memory, "memory_after": memory_mb(),
            "p50": times[len(times) // 2] * 1000, "p99": times[len(times) * 99 // 100] * 1000,
            "worst": times[-1] * 1000,
        }  # fmt: skip

    def _strategies(self) -> dict[str, int]:
        """How many strategies trade, and how many local stop orders are compared with each tick."""
        owners = [getattr(handler, "__self__", None) for handler in self.event_engine._handlers[EVENT_TICK]]
        cta = next(owner for owner in owners if type(owner).__name__ == "CtaEngine")
        return {"trading": sum(one.trading for one in cta.strategies.values()), "stops": len(cta.stop_orders)}

    def _on_handled(self, event: Any) -> None:
        self._times.append(time.perf_counter() - event.data.turnover)
        self._handled += 1

    # --- ticks ---

    def _send(self, rate: float, begun: float, end: float) -> None:
        """Until `end`, and until the last was handled."""
        sent = 0
        while (now := time.monotonic()) < end:
            due = int((now - begun) * rate) - sent if rate else min(BURST, UNDER_WAY - (self._put - self._handled))
            moment = datetime.now(SHANGHAI)
            for number in range(self._put, self._put + due):
                self._send_one(number, moment)
            sent += due
            if rate or due < BURST:
                time.sleep(0.001)
        while self._handled < self._put and time.monotonic() < end + ENDS_S:
            time.sleep(0.001)

    def _send_one(self, number: int, moment: datetime) -> None:
        tick, symbol = self._pool[number % POOL], number % len(SYMBOLS)
        tick.datetime, tick.volume, tick.last_price = moment - self._lags[symbol], number, self._price(number)
        tick.turnover = time.perf_counter()
        self._put += 1
        self.on_tick(tick)

    def _price(self, number: int) -> float:
        return self._prices[(number // len(SYMBOLS) + number % len(SYMBOLS) * 997) % len(self._prices)]

    def _tick(self, symbol: str) -> TickData:
        return TickData(
            gateway_name=self.gateway_name, symbol=symbol, exchange=Exchange.SHFE, datetime=datetime.now(SHANGHAI),
            name=symbol, open_interest=1e5, limit_up=3300, limit_down=2700, open_price=3000, high_price=3100,
            low_price=2900, pre_close=3000, **LEVELS,
        )  # fmt: skip

    # --- the rest of a gateway ---

    def query_history(self, req: Any) -> list[BarData]:
        """As many bars of a minute as make the strategies' arrays full, up to now."""
        now = datetime.now(SHANGHAI).replace(second=0, microsecond=0)
        bars = []
        for back in range(HISTORY, 0, -1):
            price = self._prices[back * 60]
            bars.append(
                BarData(
                    gateway_name=self.gateway_name, symbol=req.symbol, exchange=req.exchange, interval=Interval.MINUTE,
                    datetime=now - timedelta(minutes=back), volume=100, open_price=price, close_price=price,
                    high_price=price + 3, low_price=price - 3,
                )
            )  # fmt: skip
        return bars

    def send_order(self, req: Any) -> str:
        self._ids += 1
        order = req.create_order_data(f"{self._ids:06}", self.gateway_name)
        order.datetime, order.status = datetime.now(SHANGHAI), Status.NOTTRADED
        self._orders[order.orderid] = order
        self.on_order(copy.copy(order))
        price = self._price(self._put)
        if req.price >= price if req.direction is Direction.LONG else req.price <= price:
            self._fill(order, price)
        return str(order.vt_orderid)

    def _fill(self, order: Any, price: float) -> None:
        self._fills += 1
        del self._orders[order.orderid]
        order.traded, order.status = order.volume, Status.ALLTRADED
        self.on_order(copy.copy(order))
        self.on_trade(
            TradeData(
                gateway_name=self.gateway_name, symbol=order.symbol, exchange=order.exchange, orderid=order.orderid,
                tradeid=order.orderid, direction=order.direction, offset=order.offset, price=price,
                volume=order.volume, datetime=datetime.now(SHANGHAI),
            )
        )  # fmt: skip

    def cancel_order(self, req: Any) -> None:
        order = self._orders.pop(req.orderid, None)
        if order is not None:
            order.status = Status.CANCELLED
            self.on_order(copy.copy(order))

    def subscribe(self, req: Any) -> None:
        pass

    def query_account(self) -> None:
        pass

    def query_position(self) -> None:
        pass


def walk() -> list[float]:
    """Prices about 3,000, the same in each process."""
    chance, price, prices = random.Random(7), 3000.0, []
    for _ in range(60_000):
        price += chance.choice((-1, 0, 0, 1)) - (price - 3000) / 10_000
        prices.append(float(round(price)))
    return prices


def memory_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024
