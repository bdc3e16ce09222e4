"""A gateway without a venue: it refuses every order, and its docstrings say what VnPy and our host expect of one.

- **Threads.** Any thread may call any method: strategies and REST commands do so from VnPy's event thread, the venue's
  client calls back on its own. Guard what is shared with a lock, and put events inside it, so that their order is the
  venue's. `on_…` only puts into a queue: it never waits.
- **Never block, never raise** in a method that a strategy reaches (`send_order`, `cancel_order`, `subscribe`): an
  exception there ends VnPy's event thread for good. Only `connect` may raise, for a wrong setting.
- **Never change an object after `on_…`**: others keep it. Each event is a new object.
- **Ids** are unique for ever, across restarts too, and have no `.`, at which VnPy splits them.
- **Times** carry a zone. **Enums** go by their names: VnPy's values are translated texts.

Keep what knows the venue apart from what knows VnPy, as `gateways.paper` does: the first is tested without VnPy.
"""

from __future__ import annotations

import itertools
import threading
from datetime import UTC, datetime
from typing import Any, ClassVar

from vnpy.event import EventEngine
from vnpy.trader.constant import Exchange, Status
from vnpy.trader.gateway import BaseGateway
from vnpy.trader.object import CancelRequest, OrderRequest, SubscribeRequest

from vnpy_core.domain.errors import ConfigurationError

NO_VENUE = "the template gateway has no venue"


class TemplateGateway(BaseGateway):  # type: ignore[misc]
    """Two more methods are optional and found by their names: `bind_flow(flow: ports.flow.Flow)` and `open_market()`.

    A gateway whose market can wait, as a replay can, has both. The host calls `bind_flow` before `connect`; the market
    then begins with `open_market()`, after subscriptions and strategies, and pauses while `flow.open` is False
    (`flow.when_open` resumes it). A live venue has neither.
    """

    default_name = "TEMPLATE"
    """Its name in `vt_orderid` and in `[gateways.NAME]`, unless another is given."""
    default_setting: ClassVar[dict[str, str | int | float | bool]] = {"server": ""}
    """What `connect` takes, flat: VnPy's window edits it. Log-ins belong into `connect_<name>.json`, never here."""
    exchanges: ClassVar[list[Exchange]] = [Exchange.LOCAL]
    """Every exchange that its contracts may have."""
    capabilities: ClassVar[dict[str, Any]] = {
        "order_types": [],  # by name: LIMIT, MARKET, STOP, FAK, FOK
        "can_query_orders": False,  # whether connect shows the venue's orders, which reconciliation needs
        "can_query_trades": False,
        "ids_unique_across_restart": True,
        "history": False,  # whether query_history has bars; contracts then say history_data=True
        "exclusive_account": True,  # whether another process can reach the account: then one of them may trade it
    }
    """What the host shows to clients and relies on after a crash. Say less rather than too much."""

    def __init__(self, event_engine: EventEngine, gateway_name: str) -> None:
        """No connection and no thread yet: the host makes gateways that it never connects."""
        super().__init__(event_engine, gateway_name)
        self.connected = False
        """Read by the host, also later on: False means that orders are refused before they get here.

        A gateway without it counts as connected from its first contract or account on.
        """
        self._lock = threading.Lock()
        # The start's time keeps ids apart that are counted anew after a restart.
        self._run = datetime.now(UTC).strftime("%y%m%d%H%M%S%f")
        self._count = itertools.count(1)

    def connect(self, setting: dict[str, Any]) -> None:
        """Begin to connect; may return before it is done.

        Once it is: contracts first (`on_contract`), then account, positions, orders and trades, then `connected`, then
        a log line. Refuse a second call while connected by a log line. Raises ConfigurationError for a wrong setting,
        and names the field: MainEngine passes it on to the host, which answers with it. A lost connection comes back
        by itself, and shows all of this again.
        """
        raise ConfigurationError(f"{self.gateway_name} cannot connect: {NO_VENUE}")

    def close(self) -> None:
        """End the connection and join every thread, within a second; again or without `connect` it does nothing."""
        with self._lock:
            self.connected = False

    def subscribe(self, req: SubscribeRequest) -> None:
        """Send the contract's ticks (`on_tick`) from now on, also after a reconnect; unknown ones give a log line."""
        self.write_log(f"{self.gateway_name} cannot subscribe to {req.vt_symbol}: {NO_VENUE}")

    def send_order(self, req: OrderRequest) -> str:
        """Send an order and return its vt_orderid at once; what becomes of it follows as `on_order` and `on_trade`.

        Say SUBMITTING before anything else where the venue takes time. A refusal is an order too: REJECTED, with the
        reason in `extra`, the one place VnPy has for it. `""` only where there is no order at all. Statuses never go
        back, `traded` never falls, and each fill is one trade with an id of its own.
        """
        with self._lock:
            order = req.create_order_data(f"{self._run}-{next(self._count)}", self.gateway_name)
            order.datetime = datetime.now(UTC)
            order.status = Status.REJECTED
            order.extra = {"reason": NO_VENUE}
            self.on_order(order)
        return str(order.vt_orderid)

    def cancel_order(self, req: CancelRequest) -> None:
        """Ask the venue to cancel; the outcome is an order event. An unknown or finished order gives a log line."""
        self.write_log(f"{self.gateway_name} cannot cancel {req.orderid}: {NO_VENUE}")

    def query_account(self) -> None:
        """Send the account again by `on_account`; `available` is set on the object where it is not balance - frozen."""

    def query_position(self) -> None:
        """Send positions by `on_position`, a closed one too, with volume 0: that is how VnPy learns of it.

        Direction NET for contracts with `net_position`, else LONG and SHORT with `yd_volume`.
        """
