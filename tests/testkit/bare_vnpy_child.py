"""VnPy by itself: `python bare_vnpy_child.py plan.json`, in the folder that is to be its home.

MainEngine, EventEngine, database and CtaEngine are VnPy's own, as an installed VnPy has them: nothing of the service
wraps or replaces anything. The one thing of ours is the paper gateway, added as any gateway is. Prints one JSON line.
"""

from __future__ import annotations

import csv
import json
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

from vnpy.event import Event, EventEngine
from vnpy.trader.constant import Exchange, Interval
from vnpy.trader.database import DB_TZ, get_database
from vnpy.trader.engine import MainEngine
from vnpy.trader.event import EVENT_CONTRACT, EVENT_ORDER, EVENT_TRADE
from vnpy.trader.object import BarData
from vnpy_ctastrategy import CtaStrategyApp
from vnpy_ctastrategy.base import EVENT_CTA_LOG

from vnpy_core.gateways.paper.gateway import EVENT_FINISHED, PaperGateway
from vnpy_core.kit.flow import CreditFlow

DEADLINE_S = 240
VT_SYMBOL = "ru1901.SHFE"
NUMBERS = ("open_price", "high_price", "low_price", "close_price", "volume", "turnover", "open_interest")


def main(plan: dict[str, Any]) -> None:
    save_history(Path(plan["history"]))
    engine = MainEngine(EventEngine())
    try:
        cta, notes = play(engine, plan)
    finally:
        engine.close()  # it stops the strategies, which saves them as they are at the end
    result = {
        "trades": notes.trades,
        "orders": len(notes.orders),
        "ticks": notes.ticks,
        "running": notes.running,
        "log": notes.log,
        "saved": cta.strategy_data,
    }
    print(json.dumps(result), flush=True)


def save_history(path: Path) -> None:
    """Into VnPy's own database, where `load_bar` looks."""
    database = get_database()
    assert type(database).__module__.startswith("vnpy_sqlite"), f"VnPy chose {database}"
    with path.open(newline="") as file:
        database.save_bar_data([bar(row) for row in csv.DictReader(file)])


def bar(row: dict[str, str]) -> BarData:
    return BarData(
        gateway_name="DB",
        symbol=row["symbol"],
        exchange=Exchange(row["exchange"]),
        datetime=datetime.fromisoformat(row["datetime"]).astimezone(DB_TZ),
        interval=Interval(row["interval"]),
        **{name: float(row[name]) for name in NUMBERS},
    )


def play(engine: MainEngine, plan: dict[str, Any]) -> tuple[Any, Notes]:
    """Start the strategies while the market is closed, open it, and wait for its end."""
    gateway = engine.add_gateway(PaperGateway, "PAPER")
    gateway.bind_flow(CreditFlow())  # nobody ever holds it: the market opens when told to, and then runs on
    cta = engine.add_app(CtaStrategyApp)
    notes = Notes(cta)
    for kind, handler in notes.handlers.items():
        engine.event_engine.register(kind, handler)
    cta.init_engine()
    engine.connect(plan["gateway"], "PAPER")
    assert notes.connected.wait(DEADLINE_S)
    for name, strategy in plan["strategies"].items():
        cta.add_strategy(strategy["class_name"], name, VT_SYMBOL, strategy["setting"])
    for name in plan["strategies"]:
        cta.init_strategy(name).result(DEADLINE_S)
        cta.start_strategy(name)
    gateway.open_market()
    assert notes.finished.wait(DEADLINE_S), f"not played to the end; the event thread: {engine.event_engine._thread}"
    return cta, notes


class Notes:
    """What happened. Its handlers come after CtaEngine's, so that each order's strategy is known by then."""

    def __init__(self, cta: Any) -> None:
        self._cta = cta
        self.trades: list[dict[str, Any]] = []
        self.orders: set[str] = set()
        self.ticks = 0
        self.running: list[str] = []
        self.log: list[str] = []
        self.connected = threading.Event()
        self.finished = threading.Event()
        self.handlers = {
            EVENT_CONTRACT: lambda event: self.connected.set(),
            EVENT_ORDER: lambda event: self.orders.add(event.data.vt_orderid),
            EVENT_TRADE: self._on_trade,
            EVENT_CTA_LOG: lambda event: self.log.append(event.data.msg),
            EVENT_FINISHED: self._on_finished,
        }

    def _on_trade(self, event: Event) -> None:
        trade = event.data
        self.trades.append(
            {
                "strategy_name": self._cta.orderid_strategy_map[trade.vt_orderid].strategy_name,
                "direction": trade.direction.name,
                "offset": trade.offset.name,
                "price": trade.price,
                "volume": trade.volume,
                "datetime": trade.datetime.isoformat(),
                "orderid": trade.orderid,
                "tradeid": trade.tradeid,
            }
        )

    def _on_finished(self, event: Event) -> None:
        self.ticks = event.data["ticks"]
        strategies = self._cta.strategies.items()
        self.running = [name for name, strategy in strategies if strategy.inited and strategy.trading]
        self.finished.set()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
