"""A price for the order of a local stop order that is triggered, on every market.

CtaEngine takes the day's limit, else the fifth level of the book. Where a venue shows neither (crypto has no limits,
many feeds have one level), it sends the order at price 0: a protective stop is gone then, and nothing bought or sold.
"""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any

from vnpy.trader.object import TickData
from vnpy.trader.utility import round_to

LEVELS = (5, 4, 3, 2, 1)


def install(engine: Any) -> None:
    """Give CtaEngine's check of stop orders ticks that have a fifth level. Any thread."""
    engine.check_stop_order = partial(_check_stop_order, engine)


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


def _check_stop_order(engine: Any, tick: TickData) -> None:
    """Event thread; with each tick of a contract that a strategy trades."""
    if not engine.stop_orders:
        return
    if not (tick.limit_up and tick.limit_down):
        contract = engine.main_engine.get_contract(tick.vt_symbol)
        if contract is not None:
            tick = with_prices(tick, contract.pricetick)
    type(engine).check_stop_order(engine, tick)
