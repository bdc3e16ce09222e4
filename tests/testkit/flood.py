"""A gateway that shows so many order events a second, as a busy venue's other clients would."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from vnpy.event import Event
from vnpy.trader.constant import Direction, Exchange, Offset, OrderType, Product, Status
from vnpy.trader.event import EVENT_ORDER
from vnpy.trader.gateway import BaseGateway
from vnpy.trader.object import AccountData, ContractData, OrderData

LIFE = (Status.SUBMITTING, Status.NOTTRADED, Status.CANCELLED)
"""Each order goes through these, an event each."""
UNDER_WAY = 150
"""Events that are put but not handled yet, at most: a venue whose client is slow sends more slowly too."""
SYMBOL = "flood.SHFE"


class FloodGateway(BaseGateway):
    """Begins when it is subscribed to, ends when it is closed, and writes how many orders it has shown into a file."""

    default_name = "FLOOD"
    default_setting = {"rate": 3000, "count_file": ""}
    exchanges = [Exchange.SHFE]
    capabilities = {"can_query_orders": False, "can_query_trades": False, "ids_unique_across_restart": True}

    def __init__(self, event_engine, gateway_name):
        super().__init__(event_engine, gateway_name)
        self.connected = False
        self._rate = 0.0
        self._count_file = Path()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._put = self._handled = 0

    def connect(self, setting):
        self._rate, self._count_file = float(setting["rate"]), Path(setting["count_file"])
        self.on_contract(
            ContractData(
                gateway_name=self.gateway_name, symbol="flood", exchange=Exchange.SHFE, name="flood",
                product=Product.FUTURES, size=10, pricetick=1,
            )
        )  # fmt: skip
        self.on_account(AccountData(gateway_name=self.gateway_name, accountid="1", balance=1))
        self.connected = True

    def subscribe(self, req):
        if self._thread is None:
            self.event_engine.register(EVENT_ORDER, self._on_handled)
            self._thread = threading.Thread(target=self._flood, name="flood", daemon=True)
            self._thread.start()

    def close(self):
        self.connected = False
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _flood(self):
        count, started, session = 0, time.monotonic(), int(time.time())
        while not self._ended.is_set():
            due = (time.monotonic() - started) * self._rate / len(LIFE)
            if count >= due or self._put - self._handled > UNDER_WAY:
                time.sleep(0.002)
                continue
            count += 1
            self._show(f"{session}-{count}", count)
        self._count_file.write_text(str(count))

    def _on_handled(self, event):
        self._handled += event.data.gateway_name == self.gateway_name

    def _show(self, orderid, number):
        now = datetime.now(ZoneInfo("Asia/Shanghai"))
        for status in LIFE:
            self._put += 1
            order = OrderData(
                gateway_name=self.gateway_name, symbol="flood", exchange=Exchange.SHFE, orderid=orderid,
                type=OrderType.LIMIT, direction=Direction.LONG, offset=Offset.OPEN, price=1000 + number % 100,
                volume=1, traded=0, status=status, datetime=now,
            )  # fmt: skip
            self.event_engine.put(Event(EVENT_ORDER, order))

    def send_order(self, req):
        return ""

    def cancel_order(self, req):
        pass

    def query_account(self):
        pass

    def query_position(self):
        pass
