"""VnPy's objects as domain events: pure functions, enum names, UTC.

VnPy passes objects by reference and changes them later, so these run inside the handler, on the event thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from enum import Enum
from operator import attrgetter, itemgetter
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from vnpy.trader import object as vnpy
from vnpy.trader.constant import Direction, Exchange, Offset, OrderType, Status

from vnpy_core.domain import enums, events
from vnpy_core.domain.setting_check import LARGEST

SHANGHAI = ZoneInfo("Asia/Shanghai")


def utc(moment: datetime | None, naive: tzinfo = SHANGHAI) -> datetime | None:
    """`moment` in UTC; a time without a zone is taken as `naive`'s, VnPy's home."""
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=naive)).astimezone(UTC)


_FROM_NAME = events.Tick.__struct_fields__[6:-1]
"""A tick's name and numbers, which are taken as they are: all but what stands in the call below."""
_values_of = attrgetter(*_FROM_NAME)
_values_in = itemgetter(*_FROM_NAME)


def tick(tick: vnpy.TickData, tick_seq: int) -> events.Tick:
    """`tick_seq` counts the symbol's ticks in this process from 1.

    By position and out of the object's own dict, where it is VnPy's and not a gateway's with properties: a market's
    ticks are most of what the event thread does, and this takes a third of the time.
    """
    values = _values_in(vars(tick)) if type(tick) is vnpy.TickData else _values_of(tick)
    moment = utc(tick.datetime)
    assert moment is not None
    return events.Tick(
        tick.gateway_name,
        tick.vt_symbol,
        tick.symbol,
        tick.exchange._name_,  # `name` costs ten times as much
        moment,
        tick_seq,
        *(*values, None if tick.localtime is None else utc(tick.localtime)),
    )


def order(
    order: vnpy.OrderData,
    *,
    seq: int,
    updated_at: datetime,
    client_order_id: str | None = None,
    strategy_name: str | None = None,
) -> events.Order:
    """The reason of a rejection is read from `order.extra["reason"]`, the only place VnPy has for it."""
    return events.Order(
        vt_orderid=order.vt_orderid,
        orderid=order.orderid,
        client_order_id=client_order_id,
        gateway_name=order.gateway_name,
        vt_symbol=order.vt_symbol,
        symbol=order.symbol,
        exchange=order.exchange.name,
        direction=_direction(order.direction),
        offset=enums.Offset[order.offset.name],
        type=enums.OrderType[order.type.name],
        price=order.price,
        volume=order.volume,
        traded=order.traded,
        status=enums.Status[order.status.name],
        reason=str((order.extra or {}).get("reason", "")),
        reference=order.reference,
        strategy_name=strategy_name,
        datetime=utc(order.datetime),
        updated_at=updated_at,
        seq=seq,
    )


def to_vnpy_order(order: events.Order) -> vnpy.OrderData:
    """The way back, for an order that VnPy's OMS does not hold."""
    return vnpy.OrderData(
        gateway_name=order.gateway_name,
        symbol=order.symbol,
        exchange=Exchange[order.exchange],
        orderid=order.orderid,
        type=OrderType[order.type.name],
        direction=Direction[order.direction.name] if order.direction else None,
        offset=Offset[order.offset.name],
        price=order.price,
        volume=order.volume,
        traded=order.traded,
        status=Status[order.status.name],
        datetime=order.datetime.astimezone(SHANGHAI) if order.datetime else None,
        reference=order.reference,
    )


def trade(trade: vnpy.TradeData, *, seq: int, strategy_name: str | None = None) -> events.Trade:
    """One fill."""
    return events.Trade(
        vt_tradeid=trade.vt_tradeid,
        tradeid=trade.tradeid,
        vt_orderid=trade.vt_orderid,
        orderid=trade.orderid,
        gateway_name=trade.gateway_name,
        vt_symbol=trade.vt_symbol,
        symbol=trade.symbol,
        exchange=trade.exchange.name,
        direction=_direction(trade.direction),
        offset=enums.Offset[trade.offset.name],
        price=trade.price,
        volume=trade.volume,
        strategy_name=strategy_name,
        datetime=utc(trade.datetime),
        seq=seq,
    )


def position(position: vnpy.PositionData, *, seq: int) -> events.Position:
    """The id ends in the direction's name: VnPy's own ends in a translated text."""
    direction = enums.Direction[position.direction.name]
    return events.Position(
        vt_positionid=f"{position.gateway_name}.{position.vt_symbol}.{direction}",
        vt_symbol=position.vt_symbol,
        symbol=position.symbol,
        exchange=position.exchange.name,
        direction=direction,
        volume=position.volume,
        frozen=position.frozen,
        price=position.price,
        pnl=position.pnl,
        yd_volume=position.yd_volume,
        gateway_name=position.gateway_name,
        seq=seq,
    )


def account(account: vnpy.AccountData, *, seq: int) -> events.Account:
    """Funds at one gateway."""
    return events.Account(
        vt_accountid=account.vt_accountid,
        accountid=account.accountid,
        balance=account.balance,
        frozen=account.frozen,
        available=account.available,
        gateway_name=account.gateway_name,
        seq=seq,
    )


def contract(contract: vnpy.ContractData) -> events.Contract:
    """What can be traded."""
    return events.Contract(
        gateway_name=contract.gateway_name,
        vt_symbol=contract.vt_symbol,
        symbol=contract.symbol,
        exchange=contract.exchange.name,
        name=contract.name,
        product=enums.Product[contract.product.name],
        size=contract.size,
        pricetick=contract.pricetick,
        min_volume=contract.min_volume,
        max_volume=contract.max_volume,
        stop_supported=contract.stop_supported,
        net_position=contract.net_position,
        history_data=contract.history_data,
        option_strike=contract.option_strike,
        option_underlying=contract.option_underlying,
        option_type=contract.option_type.name if contract.option_type else None,
        option_listed=utc(contract.option_listed),
        option_expiry=utc(contract.option_expiry),
        option_portfolio=contract.option_portfolio,
        option_index=contract.option_index,
    )


def quote(quote: vnpy.QuoteData, *, seq: int) -> events.Quote:
    """A two-sided quote."""
    return events.Quote(
        vt_quoteid=quote.vt_quoteid,
        quoteid=quote.quoteid,
        gateway_name=quote.gateway_name,
        vt_symbol=quote.vt_symbol,
        symbol=quote.symbol,
        exchange=quote.exchange.name,
        bid_price=quote.bid_price,
        bid_volume=quote.bid_volume,
        ask_price=quote.ask_price,
        ask_volume=quote.ask_volume,
        bid_offset=enums.Offset[quote.bid_offset.name],
        ask_offset=enums.Offset[quote.ask_offset.name],
        status=enums.Status[quote.status.name],
        reference=quote.reference,
        datetime=utc(quote.datetime),
        seq=seq,
    )


_LEVELS = {
    10: enums.LogLevel.DEBUG,
    20: enums.LogLevel.INFO,
    30: enums.LogLevel.WARNING,
    40: enums.LogLevel.ERROR,
    50: enums.LogLevel.CRITICAL,
}


def log(log: vnpy.LogData) -> events.Log:
    """One line; `LogData.time` is the machine's local time."""
    return events.Log(
        level=_LEVELS.get(log.level, enums.LogLevel.INFO),
        source=log.gateway_name,
        msg=plain(log.msg),
        datetime=log.time.astimezone(UTC),
    )


def strategy_log(data: vnpy.LogData) -> events.Log:
    """A line of CtaEngine's. `LogData.extra["strategy_name"]` says whose it is; so does its text, from here on not."""
    name = (data.extra or {}).get("strategy_name")
    line = log(data)
    if name is None:
        return line
    return msgspec.structs.replace(line, strategy_name=name, msg=line.msg.removeprefix(f"[{name}]").lstrip())


def stop_order(stop_order: Any) -> events.StopOrderUpdate:
    """CtaEngine's local stop order."""
    return events.StopOrderUpdate(
        stop_orderid=stop_order.stop_orderid,
        vt_symbol=stop_order.vt_symbol,
        direction=enums.Direction[stop_order.direction.name],
        offset=enums.Offset[stop_order.offset.name],
        price=stop_order.price,
        volume=stop_order.volume,
        strategy_name=stop_order.strategy_name,
        status=stop_order.status.name,
        vt_orderids=list(stop_order.vt_orderids),
        datetime=utc(stop_order.datetime),
        lock=bool(getattr(stop_order, "lock", False)),
        net=bool(getattr(stop_order, "net", False)),
    )


def algo(data: Mapping[str, Any]) -> events.AlgoUpdate:
    """`AlgoTemplate.get_data()`."""
    return events.AlgoUpdate(
        algo_name=str(data["algo_name"]),
        vt_symbol=str(data["vt_symbol"]),
        status=str(plain(data["status"])),
        data=plain(dict(data)),
    )


_PLAIN = frozenset({type(None), bool, float})


def plain(value: Any) -> Any:
    """`value` made of what JSON can hold: enums by name, times in UTC, numpy scalars as numbers, the rest as text."""
    kind = type(value)  # first what most of a strategy's variables are: they are shown at each of its fills
    if kind in _PLAIN or (kind is int and -LARGEST <= value <= LARGEST) or (kind is str and value.isascii()):
        return value
    if callable(getattr(value, "item", None)) and getattr(value, "ndim", None) == 0:
        number = value.item()
        return repr(value) if type(number) is type(value) else plain(number)
    return _plain_scalar(value) if isinstance(value, Enum | str | int | float) else _plain_thing(value)


def _plain_scalar(value: Enum | str | float) -> Any:
    match value:
        case Enum():
            return value.name
        case str():
            return str.encode(value, errors="replace").decode()  # without half surrogates
        case int():
            return int(value) if abs(value) <= LARGEST else str(int(value))
        case _:
            return float(value)


def _plain_thing(value: Any) -> Any:
    match value:
        case datetime():
            return utc(value)
        case Mapping():
            return {str(plain(k)): plain(v) for k, v in value.items()}
        case list() | tuple():
            return [plain(v) for v in value]
        case set() | frozenset():
            return sorted((plain(v) for v in value), key=repr)
        case _:
            return plain(repr(value))


def _direction(direction: Any) -> enums.Direction | None:
    return enums.Direction[direction.name] if direction else None
