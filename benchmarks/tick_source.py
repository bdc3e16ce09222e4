"""A gateway that sends so many ticks a second, evenly over its contracts, for benchmarks/data.py.

It sends less while too many of its ticks are under way, so that what it sends is what the engine takes, and writes its
counts into a file once a second.
"""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from vnpy.trader.constant import Exchange, Product
from vnpy.trader.event import EVENT_TICK
from vnpy.trader.gateway import BaseGateway
from vnpy.trader.object import AccountData, ContractData, TickData

SHANGHAI = ZoneInfo("Asia/Shanghai")
UNDER_WAY = 2_000
"""Ticks that are put and not handled yet, at most."""
POOL_S = 1.0
"""Each tick object is sent again after so long: making 20,000 a second would be most of the work."""
LEVELS = {
    f"{side}_{what}_{n}": float(n) for side in ("bid", "ask") for what in ("price", "volume") for n in range(1, 6)
}


class TickSource(BaseGateway):
    """Begins with the connect, ends when it is closed."""

    default_name = "TICKS"
    default_setting: ClassVar[dict[str, Any]] = {"rate": 20_000, "symbols": 50, "stats": ""}
    exchanges: ClassVar[list[Exchange]] = [Exchange.SHFE]
    capabilities: ClassVar[dict[str, bool]] = {
        "can_query_orders": False,
        "can_query_trades": False,
        "ids_unique_across_restart": True,
    }

    def __init__(self, event_engine: Any, gateway_name: str) -> None:
        super().__init__(event_engine, gateway_name)
        self.connected = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._put = self._handled = 0

    def connect(self, setting: dict[str, Any]) -> None:
        symbols = [f"tick{number:02}" for number in range(int(setting["symbols"]))]
        for symbol in symbols:
            self.on_contract(
                ContractData(
                    gateway_name=self.gateway_name, symbol=symbol, exchange=Exchange.SHFE, name=symbol,
                    product=Product.FUTURES, size=10, pricetick=1,
                )
            )  # fmt: skip
        self.on_account(AccountData(gateway_name=self.gateway_name, accountid="1", balance=1))
        self.connected = True
        self.event_engine.register(EVENT_TICK, self._on_handled)
        arguments = (float(setting["rate"]), symbols, Path(setting["stats"]))
        self._thread = threading.Thread(target=self._send, args=arguments, name="tick source", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.connected = False
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _on_handled(self, event: Any) -> None:
        self._handled += event.data.gateway_name == self.gateway_name

    def _send(self, rate: float, symbols: list[str], stats: Path) -> None:
        pool = [self._tick(symbols[number % len(symbols)]) for number in range(int(rate * POOL_S))]
        begun = told = time.monotonic()
        due_before = 0
        while not self._ended.wait(0.001):
            now = time.monotonic()
            due = int((now - begun) * rate)
            # What could not be sent in time is left out: a market does not send it later either.
            count = min(due - due_before, UNDER_WAY - (self._put - self._handled))
            due_before = due
            moment = datetime.now(SHANGHAI)
            for number in range(self._put, self._put + max(0, count)):
                tick = pool[number % len(pool)]
                tick.datetime, tick.volume, tick.last_price = moment, number, 3000.0 + number % 17
                self.on_tick(tick)
                self._put += 1
            if now - told >= 1:
                told = now
                stats.write_text(json.dumps({"put": self._put, "handled": self._handled, "at": now}))

    def _tick(self, symbol: str) -> TickData:
        return TickData(
            gateway_name=self.gateway_name, symbol=symbol, exchange=Exchange.SHFE, datetime=datetime.now(SHANGHAI),
            name=symbol, turnover=1e6, open_interest=1e5, limit_up=3300, limit_down=2700, open_price=3000,
            high_price=3100, low_price=2900, pre_close=3000, **LEVELS,
        )  # fmt: skip

    def subscribe(self, req: Any) -> None:
        pass

    def send_order(self, req: Any) -> str:
        return ""

    def cancel_order(self, req: Any) -> None:
        pass

    def query_account(self) -> None:
        pass

    def query_position(self) -> None:
        pass
