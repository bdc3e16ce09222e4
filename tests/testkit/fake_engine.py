"""An engine without VnPy: it answers the `TradingEngine` port at once and feeds a read view as the bridge would."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec

from vnpy_core.bus import topics
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.books import halt_key
from vnpy_core.domain.commands import SubmitOrder, SubmittedOrder
from vnpy_core.domain.enums import (
    Direction,
    GatewayState,
    IntentState,
    LogLevel,
    Offset,
    Product,
    ReconciliationState,
    Status,
)
from vnpy_core.domain.errors import Conflict, CoreError, GatewayNotConnected, NotFound, TradingHalted
from vnpy_core.domain.events import (
    Account,
    Audit,
    Contract,
    Event,
    Gateway,
    Halt,
    IntentOutcome,
    Log,
    Order,
    OrderIntent,
    Position,
    Tick,
    Trade,
)
from vnpy_core.domain.reconciliation import Reconciliation
from vnpy_core.ports.engine import EngineStatus

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
EPOCH = "fake"
HEALTHY = EngineStatus(
    alive=True,
    lag_ms=0.5,
    queue_length=0,
    events_handled=0,
    handler_errors=0,
    slow_events=0,
    ticks_conflated=0,
    bridge_backlog=0,
    apps={},
)
TOPICS: dict[type[Event], str] = {
    Order: topics.ORDER_UPDATED,
    Trade: topics.TRADE_EXECUTED,
    Position: topics.POSITION_UPDATED,
    Account: topics.ACCOUNT_UPDATED,
    Contract: topics.CONTRACT_UPDATED,
    Gateway: topics.GATEWAY_UPDATED,
    Log: topics.LOG,
    Halt: topics.RISK_HALT,
}


class FakeEngine:
    """Loop thread only. Every order is NOTTRADED at once, unless one of the switches below says otherwise."""

    def __init__(self, view: ReadView | None = None, bus: Bus | None = None) -> None:
        self.view = view or ReadView()
        self.bus = bus or Bus()
        self.commands: list[SubmitOrder] = []
        """What reached the engine, in order."""
        self.connects: list[tuple[str, dict[str, Any]]] = []
        self.cancels: list[str] = []
        self.next_errors: list[Exception | None] = []
        """Raised by the next submissions, one each; None lets one pass."""
        self.cancel_errors: dict[str, CoreError] = {}
        self.hold: asyncio.Event | None = None
        """Submissions wait for it after they were recorded."""
        self.reject_reason: str | None = None
        """The venue rejects the order with it."""
        self.split: list[float] = []
        """Volumes of the children that the offset conversion makes."""
        self.engine_status = HEALTHY
        self.audits: list[Audit] = []
        self.journal_error: CoreError | None = None
        """Raised by whatever must be journaled."""
        self.journal_hold: asyncio.Event | None = None
        """What must be journaled waits for it."""
        self.reconciled: list[str | None] = []
        """Asked to be compared again."""
        self._seq = 0
        self._order_count = 0
        self._gateways: dict[str, Gateway] = {}
        self._subscriptions: dict[str, str] = {}
        self._intents: dict[str, tuple[OrderIntent, IntentOutcome | None]] = {}
        self._reports: dict[str, Reconciliation] = {}
        self._halts: dict[str, Halt] = {}

    # What a test prepares

    def publish(self, event: Event, topic: str | None = None, key: str = "") -> None:
        """Feed the view, then the bus."""
        if topic is None:
            topic = topics.tick(event.vt_symbol) if isinstance(event, Tick) else TOPICS[type(event)]
        message = Message(topic, key, EPOCH, self._seq, NOON, event)
        self.view.apply(message)
        self.bus.publish(message)

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def add_gateway(self, gateway_name: str = "PAPER", *, connected: bool = True, **fields: Any) -> Gateway:
        gateway = Gateway(
            gateway_name=gateway_name,
            connected=connected,
            state=GatewayState.CONNECTED if connected else GatewayState.DISCONNECTED,
            exchanges=fields.pop("exchanges", ["SHFE"]),
            default_setting=fields.pop("default_setting", {}),
            capabilities=fields.pop("capabilities", {"order_types": ["LIMIT", "MARKET"]}),
            **fields,
        )
        self._set_gateway(gateway)
        return gateway

    def add_contract(self, vt_symbol: str = "rb2505.SHFE", gateway_name: str = "PAPER", **fields: Any) -> Contract:
        symbol, exchange = vt_symbol.rsplit(".", 1)
        known: dict[str, Any] = {"name": symbol, "product": Product.FUTURES, "size": 10.0, "pricetick": 1.0}
        contract = Contract(
            gateway_name=gateway_name, vt_symbol=vt_symbol, symbol=symbol, exchange=exchange, **(known | fields)
        )
        self.publish(contract)
        return contract

    def add_order(self, command: SubmitOrder, status: Status = Status.NOTTRADED, **fields: Any) -> Order:
        """An order of `command` appears in the view."""
        self._order_count += 1
        orderid = str(self._order_count)
        known: dict[str, Any] = {
            "vt_orderid": f"{command.gateway_name}.{orderid}",
            "orderid": orderid,
            "client_order_id": command.client_order_id,
            "gateway_name": command.gateway_name,
            "vt_symbol": f"{command.symbol}.{command.exchange}",
            "symbol": command.symbol,
            "exchange": command.exchange,
            "direction": command.direction,
            "offset": command.offset,
            "type": command.type,
            "price": command.price,
            "volume": command.volume,
            "traded": 0.0,
            "status": status,
            "reference": command.reference,
            "datetime": NOON,
            "updated_at": NOON,
            "seq": self.next_seq(),
        }
        order = Order(**(known | fields))
        self.publish(order)
        return order

    def update_order(self, vt_orderid: str, **fields: Any) -> Order:
        """An order of the view changes."""
        order = self.view.order(vt_orderid)
        assert order is not None
        changed = msgspec.structs.replace(order, seq=self.next_seq(), **fields)
        self.publish(changed)
        return changed

    def add_trade(self, order: Order, volume: float = 1.0, **fields: Any) -> Trade:
        """A fill of `order` appears in the view."""
        seq = self.next_seq()
        known: dict[str, Any] = {
            "vt_tradeid": f"{order.gateway_name}.T{seq}",
            "tradeid": f"T{seq}",
            "vt_orderid": order.vt_orderid,
            "orderid": order.orderid,
            "gateway_name": order.gateway_name,
            "vt_symbol": order.vt_symbol,
            "symbol": order.symbol,
            "exchange": order.exchange,
            "direction": order.direction,
            "offset": order.offset,
            "price": order.price,
            "volume": volume,
            "strategy_name": order.strategy_name,
            "datetime": NOON,
            "seq": seq,
        }
        trade = Trade(**(known | fields))
        self.publish(trade)
        return trade

    def add_position(
        self, vt_symbol: str = "rb2505.SHFE", direction: Direction = Direction.LONG, gateway_name: str = "PAPER"
    ) -> Position:
        symbol, exchange = vt_symbol.rsplit(".", 1)
        position = Position(
            vt_positionid=f"{gateway_name}.{vt_symbol}.{direction}",
            vt_symbol=vt_symbol,
            symbol=symbol,
            exchange=exchange,
            direction=direction,
            volume=3.0,
            frozen=0.0,
            price=3500.0,
            pnl=0.0,
            yd_volume=1.0,
            gateway_name=gateway_name,
            seq=self.next_seq(),
        )
        self.publish(position)
        return position

    def add_account(self, accountid: str = "1", gateway_name: str = "PAPER") -> Account:
        account = Account(
            vt_accountid=f"{gateway_name}.{accountid}",
            accountid=accountid,
            balance=1_000_000.0,
            frozen=0.0,
            available=1_000_000.0,
            gateway_name=gateway_name,
            seq=self.next_seq(),
        )
        self.publish(account)
        return account

    def add_tick(self, vt_symbol: str = "rb2505.SHFE", gateway_name: str = "PAPER", **fields: Any) -> Tick:
        symbol, exchange = vt_symbol.rsplit(".", 1)
        tick = Tick(
            gateway_name=gateway_name,
            vt_symbol=vt_symbol,
            symbol=symbol,
            exchange=exchange,
            datetime=NOON,
            last_price=3500.0,
            **fields,
        )
        self.publish(tick)
        return tick

    def add_intent(
        self, command: SubmitOrder, state: IntentState | None = None, vt_orderid: str = "", **fields: Any
    ) -> OrderIntent:
        """`command` was about to be sent before a restart, and `state` is what is known of it."""
        intent = OrderIntent(
            client_order_id=command.client_order_id,
            gateway_name=command.gateway_name,
            vt_symbol=f"{command.symbol}.{command.exchange}",
            symbol=command.symbol,
            exchange=command.exchange,
            direction=command.direction,
            offset=fields.pop("offset", command.offset),
            type=command.type,
            price=command.price,
            volume=fields.pop("volume", command.volume),
            reference=command.reference,
            created_at=NOON,
            **fields,
        )
        outcome = None if state is None else self._outcome(intent, state, vt_orderid)
        self._intents[intent.client_order_id] = (intent, outcome)
        return intent

    def add_reconciliation(
        self, gateway_name: str = "PAPER", state: ReconciliationState = ReconciliationState.DIFFERENT, **fields: Any
    ) -> Reconciliation:
        report = self._reports[gateway_name] = Reconciliation(gateway_name=gateway_name, state=state, **fields)
        return report

    def log(self, msg: str, level: LogLevel = LogLevel.INFO, source: str = "PAPER", **fields: Any) -> None:
        """A line of VnPy's log appears on the bus."""
        topic = fields.pop("topic", topics.LOG)
        self.publish(Log(level=level, source=source, msg=msg, datetime=fields.pop("datetime", NOON)), topic)

    # The port

    async def submit_order(self, command: SubmitOrder) -> SubmittedOrder:
        if self._halts:
            raise TradingHalted("trading is halted")
        self.commands.append(command)
        if not self._gateways[command.gateway_name].connected:
            raise GatewayNotConnected(f"{command.gateway_name} is not connected")
        error = self.next_errors.pop(0) if self.next_errors else None
        if self.hold is not None:
            await self.hold.wait()
        if error is not None:
            raise error
        if self.reject_reason is not None:
            return SubmittedOrder(order=self.add_order(command, Status.REJECTED, reason=self.reject_reason))
        if self.split:
            return self._split(command)
        return SubmittedOrder(order=self.add_order(command))

    async def cancel_order(self, vt_orderid: str) -> None:
        if vt_orderid in self.cancel_errors:
            raise self.cancel_errors[vt_orderid]
        order = self.view.order(vt_orderid)
        if order is None:
            raise NotFound(f"no order {vt_orderid!r}")
        if not order.is_active:
            raise Conflict(f"{vt_orderid} is {order.status}")
        self.cancels.append(vt_orderid)
        self.update_order(vt_orderid, status=Status.CANCELLED)

    async def subscribe(self, vt_symbol: str, gateway_name: str) -> None:
        if not self._gateways[gateway_name].connected:
            raise GatewayNotConnected(f"{gateway_name} is not connected")
        self._subscriptions[vt_symbol] = gateway_name

    async def unsubscribe(self, vt_symbol: str) -> None:
        if self._subscriptions.pop(vt_symbol, None) is None:
            raise NotFound(f"{vt_symbol} is not subscribed")

    def subscriptions(self) -> list[tuple[str, str]]:
        return list(self._subscriptions.items())

    async def connect(self, gateway_name: str, setting: dict[str, Any]) -> None:
        gateway = self._gateway(gateway_name)
        if gateway.connected:
            raise Conflict(f"{gateway_name} is connected")
        self.connects.append((gateway_name, setting))
        self._set_gateway(msgspec.structs.replace(gateway, connected=True, state=GatewayState.CONNECTED))

    async def disconnect(self, gateway_name: str) -> None:
        gateway = self._gateway(gateway_name)
        if not gateway.connected:
            raise Conflict(f"{gateway_name} is not connected")
        self._set_gateway(msgspec.structs.replace(gateway, connected=False, state=GatewayState.DISCONNECTED))

    def gateways(self) -> list[Gateway]:
        return list(self._gateways.values())

    def status(self) -> EngineStatus:
        return self.engine_status

    def intent(self, client_order_id: str) -> tuple[OrderIntent, IntentOutcome | None] | None:
        return self._intents.get(client_order_id)

    async def resolve_intent(
        self, client_order_id: str, state: IntentState, *, vt_orderid: str, evidence: str, by: str
    ) -> IntentOutcome:
        if client_order_id not in self._intents:
            raise NotFound(f"no intent {client_order_id!r}")
        intent, outcome = self._intents[client_order_id]
        if outcome is not None and outcome.state is not IntentState.UNKNOWN:
            raise Conflict(f"{client_order_id} is {outcome.state}")
        await self._journal()
        outcome = msgspec.structs.replace(self._outcome(intent, state, vt_orderid), evidence=evidence, by=by)
        self._intents[client_order_id] = (intent, outcome)
        return outcome

    def reconciliations(self) -> list[Reconciliation]:
        return [self._reports[name] for name in sorted(self._reports)]

    async def reconcile(self, gateway_name: str | None) -> None:
        if gateway_name is not None and not self._gateway(gateway_name).connected:
            raise GatewayNotConnected(f"{gateway_name} is not connected")
        self.reconciled.append(gateway_name)

    async def accept_differences(self, gateway_name: str, *, reason: str, by: str) -> Reconciliation:
        if gateway_name not in self._reports:
            raise NotFound(f"no gateway {gateway_name!r}")
        report = self._reports[gateway_name]
        if report.state is not ReconciliationState.DIFFERENT:
            raise Conflict("nothing to accept")
        await self._journal()
        report = self._reports[gateway_name] = msgspec.structs.replace(
            report, state=ReconciliationState.ACCEPTED, accepted_by=by, accepted_reason=reason
        )
        return report

    def halts(self) -> list[Halt]:
        return list(self._halts.values())

    async def halt(self, halt: Halt, *, cancel: bool) -> tuple[Halt, int]:
        if self.journal_error is None:
            halt = msgspec.structs.replace(halt, seq=self.next_seq())
        self._halts[halt_key(halt)] = halt
        self.publish(halt)
        active = list(self.view.active_orders) if cancel else []
        for vt_orderid in active:
            await self.cancel_order(vt_orderid)
        return halt, len(active)

    async def resume(self, halt: Halt) -> Halt:
        if halt_key(halt) not in self._halts:
            raise Conflict("trading is not halted")
        await self._journal()
        halt = msgspec.structs.replace(halt, seq=self.next_seq())
        del self._halts[halt_key(halt)]
        self.publish(halt)
        return halt

    async def record_audit(self, audit: Audit) -> None:
        await self._journal()
        self.audits.append(audit)

    # Inside

    async def _journal(self) -> None:
        if self.journal_hold is not None:
            await self.journal_hold.wait()
        if self.journal_error is not None:
            raise self.journal_error

    def _outcome(self, intent: OrderIntent, state: IntentState, vt_orderid: str) -> IntentOutcome:
        return IntentOutcome(
            client_order_id=intent.client_order_id,
            gateway_name=intent.gateway_name,
            state=state,
            vt_orderid=vt_orderid,
            at=NOON,
        )

    def _gateway(self, gateway_name: str) -> Gateway:
        gateway = self._gateways.get(gateway_name)
        if gateway is None:
            raise NotFound(f"no gateway {gateway_name!r}")
        return gateway

    def _set_gateway(self, gateway: Gateway) -> None:
        self._gateways[gateway.gateway_name] = gateway
        self.publish(gateway)

    def _split(self, command: SubmitOrder) -> SubmittedOrder:
        offsets = [Offset.CLOSETODAY, Offset.CLOSEYESTERDAY]
        children = tuple(
            self.add_order(msgspec.structs.replace(command, volume=volume, offset=offset))
            for volume, offset in zip(self.split, offsets, strict=False)
        )
        return SubmittedOrder(order=children[0], children=children)
