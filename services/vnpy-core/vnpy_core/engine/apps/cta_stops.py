"""Local stop orders that are triggered: sent once at most, and at a price that every market takes.

CtaEngine takes the day's limit, else the fifth level of the book. Where a venue shows neither (crypto has no limits,
many feeds have one level), it sends the order at price 0: a protective stop is gone then, and nothing bought or sold.
It also sends those that the callback of another one has just cancelled, and again at each tick one whose sending
raised, whatever has reached the venue.
"""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any

from vnpy.trader.constant import Direction
from vnpy.trader.object import ContractData, TickData
from vnpy.trader.utility import round_to
from vnpy_ctastrategy.base import StopOrder, StopOrderStatus

from vnpy_core.domain.errors import OrderDenied, RequestError, TryLater, describe

LEVELS = (5, 4, 3, 2, 1)


def install(engine: Any) -> None:
    """Take the place of CtaEngine's check of stop orders. Any thread."""
    engine.check_stop_order = partial(_check_stop_orders, engine)


def uninstall(engine: Any) -> None:
    """Give the engine its own check back. Any thread."""
    engine.__dict__.pop("check_stop_order", None)


def with_prices(tick: TickData, pricetick: float) -> TickData:
    """`tick`, or a copy of it in which the levels that are not there go on from the last that is, tick by tick.

    Where a side has no level at all they go on from the last price.
    """
    has_ask, has_bid = tick.limit_up or tick.ask_price_5, tick.limit_down or tick.bid_price_5
    if has_ask and has_bid:
        return tick
    tick = copy(tick)  # everybody else sees the same object
    if not has_ask:
        tick.ask_price_5 = _fifth(tick, "ask", pricetick)
    if not has_bid:
        price = _fifth(tick, "bid", -pricetick)
        tick.bid_price_5 = pricetick if price <= 0 < tick.last_price else price
    return tick


def _fifth(tick: TickData, side: str, step: float) -> float:
    levels = ((level, getattr(tick, f"{side}_price_{level}")) for level in LEVELS)
    level, price = next(((level, price) for level, price in levels if price), (0, tick.last_price))
    return float(round_to(price + (5 - level) * step, abs(step))) if step else price


def _check_stop_orders(engine: Any, tick: TickData) -> None:
    """`CtaEngine.check_stop_order`. Event thread; with each tick of a contract that a strategy trades."""
    if not engine.stop_orders:
        return
    waiting = [stop_order for stop_order in list(engine.stop_orders.values()) if stop_order.vt_symbol == tick.vt_symbol]
    reached = [stop_order for stop_order in waiting if _is_reached(stop_order, tick)]
    contract = engine.main_engine.get_contract(tick.vt_symbol) if reached else None
    if contract is None:
        return
    tick = with_prices(tick, contract.pricetick)
    for stop_order in reached:
        # The one before may have had it cancelled, or have ended its strategy.
        if stop_order.stop_orderid in engine.stop_orders:
            _trigger(engine, stop_order, contract, tick)


def _is_reached(stop_order: StopOrder, tick: TickData) -> bool:
    if stop_order.direction is Direction.LONG:
        return bool(tick.last_price >= stop_order.price)
    return stop_order.direction is Direction.SHORT and bool(tick.last_price <= stop_order.price)


def _trigger(engine: Any, stop_order: StopOrder, contract: ContractData, tick: TickData) -> None:
    """Send its order; where nothing was sent it waits for the next tick."""
    strategy = engine.strategies[stop_order.strategy_name]
    is_long = stop_order.direction is Direction.LONG
    price = (tick.limit_up or tick.ask_price_5) if is_long else (tick.limit_down or tick.bid_price_5)
    what = (stop_order.direction, stop_order.offset, price, stop_order.volume, stop_order.lock, stop_order.net)
    try:
        vt_orderids = engine.send_limit_order(strategy, contract, *what)
    except (OrderDenied, TryLater, RequestError) as error:  # one of our own gateways: it sent nothing
        engine.write_log(f"{stop_order.stop_orderid} was not sent: {describe(error)}", strategy)
        return
    except BaseException as error:  # noqa: BLE001 - a guarded door: it may have been sent, and must not be again
        engine.call_strategy_func(strategy, partial(_raise, error))
        engine.cancel_local_stop_order(strategy, stop_order.stop_orderid)
        return
    if vt_orderids:
        engine.stop_orders.pop(stop_order.stop_orderid, None)
        engine.strategy_orderid_map[stop_order.strategy_name].discard(stop_order.stop_orderid)
        stop_order.status, stop_order.vt_orderids = StopOrderStatus.TRIGGERED, vt_orderids
        # Journaled before anything else is sent: a start must not take it for one that waits.
        engine.put_stop_order_event(stop_order)
        engine.call_strategy_func(strategy, strategy.on_stop_order, stop_order)


def _raise(error: BaseException) -> None:
    raise error
