"""The paper venue's words as VnPy's objects, for whichever gateway brings them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from vnpy.trader.constant import Direction, Exchange, Offset, OrderType, Product, Status
from vnpy.trader.gateway import BaseGateway
from vnpy.trader.object import (
    AccountData,
    ContractData,
    OrderData,
    OrderRequest,
    PositionData,
    TickData,
    TradeData,
)

from vnpy_core.domain import enums
from vnpy_core.gateways.paper.model import (
    ContractSpec,
    NewOrder,
    Snapshot,
    VenueAccount,
    VenueEvent,
    VenueOrder,
    VenuePosition,
    VenueTrade,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")
_BID_NAMES, _ASK_NAMES = (
    [(f"{side}_price_{number}", f"{side}_volume_{number}") for number in range(1, 6)] for side in ("bid", "ask")
)


def new_order(req: OrderRequest) -> NewOrder:
    """VnPy's request in the venue's words."""
    return NewOrder(
        symbol=req.symbol,
        exchange=req.exchange.value,
        direction=enums.Direction[req.direction.name],
        offset=enums.Offset[req.offset.name],
        type=enums.OrderType[req.type.name],
        volume=float(req.volume),
        price=float(req.price),
        reference=req.reference,
    )


def show(gateway: BaseGateway, events: Iterable[VenueEvent]) -> None:
    """Put the venue's events into VnPy, in their order. Any thread."""
    name = gateway.gateway_name
    for event in events:
        match event:
            case VenueOrder():
                gateway.on_order(order(event, name))
            case VenueTrade():
                gateway.on_trade(trade(event, name))
            case VenuePosition():
                gateway.on_position(position(event, name))
            case VenueAccount():
                gateway.on_account(account(event, name))


def contract(spec: ContractSpec, gateway_name: str, *, server_stops: bool, history: bool) -> ContractData:
    """`server_stops` and `history` say what the gateway can do with it."""
    return ContractData(
        gateway_name=gateway_name,
        symbol=spec.symbol,
        exchange=Exchange(spec.exchange),
        name=spec.name,
        product=Product[spec.product],
        size=_number(spec.size),
        pricetick=_number(spec.pricetick),
        min_volume=_number(spec.min_volume),
        max_volume=None if spec.max_volume is None else _number(spec.max_volume),
        stop_supported=server_stops,
        net_position=spec.net_position,
        history_data=history,
    )


def tick(snapshot: Snapshot, name: str, gateway_name: str, *, live: bool) -> TickData:
    """`name` is the contract's. A recording's ticks carry no time of ours: two replays must not differ."""
    levels: dict[str, float] = {}
    for names, shown in ((_BID_NAMES, snapshot.bids), (_ASK_NAMES, snapshot.asks)):
        for (price_name, volume_name), (price, volume) in zip(names, shown, strict=False):
            levels[price_name], levels[volume_name] = price, volume
    return TickData(
        gateway_name=gateway_name,
        symbol=snapshot.symbol,
        exchange=Exchange(snapshot.exchange),
        datetime=snapshot.time.astimezone(SHANGHAI),
        name=name,
        volume=snapshot.volume,
        turnover=snapshot.turnover,
        open_interest=snapshot.open_interest,
        last_price=snapshot.last_price,
        last_volume=snapshot.last_volume,
        limit_up=snapshot.limit_up,
        limit_down=snapshot.limit_down,
        open_price=snapshot.open_price,
        high_price=snapshot.high_price,
        low_price=snapshot.low_price,
        pre_close=snapshot.pre_close,
        localtime=datetime.now(SHANGHAI) if live else None,
        **levels,
    )


def order(order: VenueOrder, gateway_name: str) -> OrderData:
    """A refusal's reason is in `extra`, the one place VnPy has for it."""
    data = OrderData(
        gateway_name=gateway_name,
        symbol=order.symbol,
        exchange=Exchange(order.exchange),
        orderid=order.orderid,
        type=OrderType[order.type],
        direction=Direction[order.direction],
        offset=Offset[order.offset],
        price=float(order.price),
        volume=float(order.volume),
        traded=float(order.traded),
        status=Status[order.status],
        datetime=order.time.astimezone(SHANGHAI),
        reference=order.reference,
    )
    if order.reason:
        data.extra = {"reason": order.reason}
    return data


def trade(trade: VenueTrade, gateway_name: str) -> TradeData:
    """One fill."""
    return TradeData(
        gateway_name=gateway_name,
        symbol=trade.symbol,
        exchange=Exchange(trade.exchange),
        orderid=trade.orderid,
        tradeid=trade.tradeid,
        direction=Direction[trade.direction],
        offset=Offset[trade.offset],
        price=float(trade.price),
        volume=float(trade.volume),
        datetime=trade.time.astimezone(SHANGHAI),
    )


def position(position: VenuePosition, gateway_name: str) -> PositionData:
    """A holding."""
    return PositionData(
        gateway_name=gateway_name,
        symbol=position.symbol,
        exchange=Exchange(position.exchange),
        direction=Direction[position.direction],
        volume=float(position.volume),
        frozen=float(position.frozen),
        price=float(position.price),
        pnl=float(position.pnl),
        yd_volume=float(position.yd_volume),
    )


def account(account: VenueAccount, gateway_name: str) -> AccountData:
    """Funds; `available` is the venue's."""
    data = AccountData(
        gateway_name=gateway_name,
        accountid=account.accountid,
        balance=float(account.balance),
        frozen=float(account.frozen),
    )
    data.available = float(account.available)
    return data


def _number(value: Decimal) -> float | int:
    return int(value) if value == value.to_integral_value() else float(value)
