"""
逐笔均价回归：最新价偏离短期 VWAP 过多时反向挂单，按盘口不平衡度过滤，超时撤单
"""

from collections import deque
from datetime import datetime, timedelta

import numpy as np
from vnpy.trader.constant import Direction, Offset, Status
from vnpy.trader.utility import round_to
from vnpy_ctastrategy import (
    ArrayManager,
    BarData,
    BarGenerator,
    CtaTemplate,
    OrderData,
    StopOrder,
    TickData,
    TradeData,
)

MAX_TICKS = 600


class TickWindow:
    """最近若干笔行情的成交均价"""

    def __init__(self, size: int = MAX_TICKS):
        self.prices = deque(maxlen=size)
        self.volumes = deque(maxlen=size)

    def update(self, tick: TickData):
        if tick.last_volume:
            self.prices.append(tick.last_price)
            self.volumes.append(tick.last_volume)

    @property
    def vwap(self):
        if len(self.prices) < 50:
            return 0.0
        return float(np.average(self.prices, weights=self.volumes))


class VwapReversalStrategy(CtaTemplate):
    author = "quant_learner"

    ticks: int = MAX_TICKS
    entry_ticks: int = 6
    stop_ticks: int = 12
    order_timeout: int = 20
    max_imbalance: float = 0.9
    fixed_size: int = 1

    vwap = 0.0
    imbalance = 0.0
    hour_range = 0.0
    entry_price = 0.0
    cancelled = 0

    parameters = ["ticks", "entry_ticks", "stop_ticks", "order_timeout", "max_imbalance", "fixed_size"]
    variables = ["vwap", "imbalance", "hour_range", "entry_price", "cancelled"]

    def on_init(self):
        self.write_log("策略初始化")
        self.tick_window = TickWindow(self.ticks)
        self.bg = BarGenerator(self.on_bar, 30, self.on_30min_bar)
        self.am = ArrayManager(10)
        self.order_times: dict[str, datetime] = {}
        self.load_bar(10)

    def on_start(self):
        self.pricetick = self.get_pricetick()
        self.write_log("策略启动")

    def on_stop(self):
        self.write_log("策略停止")

    def on_tick(self, tick: TickData):
        self.bg.update_tick(tick)
        self.tick_window.update(tick)
        self.vwap = self.tick_window.vwap
        depth = tick.bid_volume_1 + tick.ask_volume_1
        if not self.trading or not self.vwap or not depth:
            return
        self.imbalance = (tick.bid_volume_1 - tick.ask_volume_1) / depth

        self.cancel_timeout(tick.datetime)
        if self.order_times:
            return

        gap = self.entry_ticks * self.pricetick
        if not self.pos:
            if tick.last_price < self.vwap - gap and self.imbalance > -self.max_imbalance:
                self.record(tick, self.buy(tick.bid_price_1, self.fixed_size))
            elif tick.last_price > self.vwap + gap and self.imbalance < self.max_imbalance:
                self.record(tick, self.short(tick.ask_price_1, self.fixed_size))
        else:
            self.close_position(tick)

    def close_position(self, tick: TickData):
        stop = self.stop_ticks * self.pricetick
        target = round_to(self.vwap, self.pricetick)
        if self.pos > 0:
            if tick.last_price >= target or tick.last_price <= self.entry_price - stop:
                # 超价平仓
                self.record(tick, self.sell(tick.bid_price_1 - 2 * self.pricetick, abs(self.pos)))
        elif tick.last_price <= target or tick.last_price >= self.entry_price + stop:
            self.record(tick, self.cover(tick.ask_price_1 + 2 * self.pricetick, abs(self.pos)))

    def record(self, tick: TickData, vt_orderids: list):
        for vt_orderid in vt_orderids:
            self.order_times[vt_orderid] = tick.datetime

    def cancel_timeout(self, now: datetime):
        for vt_orderid, sent in list(self.order_times.items()):
            if now - sent > timedelta(seconds=self.order_timeout):
                self.cancel_order(vt_orderid)

    def on_bar(self, bar: BarData):
        self.bg.update_bar(bar)

    def on_30min_bar(self, bar: BarData):
        self.am.update_bar(bar)
        if self.am.inited:
            high, low = self.am.donchian(2)
            self.hour_range = high - low
        self.put_event()

    def on_order(self, order: OrderData):
        if not order.is_active():
            self.order_times.pop(order.vt_orderid, None)
        if order.status == Status.CANCELLED:
            self.cancelled += 1

    def on_trade(self, trade: TradeData):
        if trade.offset == Offset.OPEN:
            self.entry_price = trade.price
            side = "多" if trade.direction == Direction.LONG else "空"
            self.write_log(f"开{side}{trade.volume}手@{trade.price}")
        self.put_event()

    def on_stop_order(self, stop_order: StopOrder):
        pass
