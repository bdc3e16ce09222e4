# -*- coding: utf-8 -*-
# ruff: noqa: I001, UP004, UP006, UP009, UP035 - written as such files are
"""
自适应均线通道突破，ATR 移动止损
"""

from typing import List, Dict, Any

from vnpy.trader.constant import Interval
from vnpy_ctastrategy import (
    CtaTemplate,
    StopOrder,
    TickData,
    BarData,
    TradeData,
    OrderData,
    BarGenerator,
    ArrayManager,
)
from vnpy_ctastrategy.base import StopOrderStatus

from strategies.channel_tools import TrendFilter, ama_channel


class TradeRecorder(object):
    """记录每笔成交，统计持仓均价"""

    def __init__(self):
        self.trades: List[TradeData] = []
        self.avg_price = 0.0
        self.pos = 0.0

    def update(self, trade: TradeData, pos: float):
        if pos and abs(pos) > abs(self.pos):
            cost = self.avg_price * abs(self.pos) + trade.price * trade.volume
            self.avg_price = cost / abs(pos)
        elif not pos:
            self.avg_price = 0.0
        self.pos = pos
        self.trades.append(trade)


class AmaChannelStrategy(CtaTemplate):
    """自适应均线通道"""

    author = "某论坛网友"

    # 策略参数
    window: int = 3
    period: int = 10
    dev: float = 0.6
    atr_length: int = 14
    atr_multiplier: float = 2.5
    fixed_size: int = 1
    price_tick: float = 0.0  # 0 表示从合约信息读取

    # 策略变量
    mid: float = 0.0
    up: float = 0.0
    down: float = 0.0
    atr_value: float = 0.0
    trend: int = 0
    long_stop: float = 0.0
    short_stop: float = 0.0
    stop_triggered: int = 0

    parameters = ["window", "period", "dev", "atr_length", "atr_multiplier", "fixed_size", "price_tick"]
    variables = ["mid", "up", "down", "atr_value", "trend", "long_stop", "short_stop", "stop_triggered"]

    def __init__(self, cta_engine: Any, strategy_name: str, vt_symbol: str, setting: dict):
        super().__init__(cta_engine, strategy_name, vt_symbol, setting)

        self.bg = BarGenerator(self.on_bar, self.window, self.on_window_bar)
        self.am = ArrayManager(50)
        self.filter = TrendFilter(15, 3, 8, 20)
        self.recorder = TradeRecorder()
        self.last_tick: TickData = None
        self.order_status: Dict[str, str] = {}

    def on_init(self):
        self.write_log("策略初始化")
        self.load_bar(10, Interval.MINUTE, self.on_bar)

    def on_start(self):
        # 直接访问引擎读取合约
        contract = self.cta_engine.main_engine.get_contract(self.vt_symbol)
        if not self.price_tick:
            self.price_tick = contract.pricetick
        self.write_log(f"策略启动，最小变动价位{self.price_tick}，合约乘数{self.get_size()}")
        self.put_event()

    def on_stop(self):
        self.write_log("策略停止")
        self.put_event()

    def on_tick(self, tick: TickData):
        self.last_tick = tick
        self.bg.update_tick(tick)

    def on_bar(self, bar: BarData):
        self.bg.update_bar(bar)
        self.filter.update_bar(bar)
        self.trend = self.filter.trend

    def on_window_bar(self, bar: BarData):
        self.cancel_all()

        self.am.update_bar(bar)
        if not self.am.inited:
            return

        self.mid, self.up, self.down = ama_channel(self.am.close, self.period, self.dev)
        self.atr_value = self.am.atr(self.atr_length)

        if self.pos == 0:
            self.long_stop = self.short_stop = 0.0
            if bar.close_price > self.up and self.trend >= 0:
                self.buy(bar.close_price + self.price_tick * 2, self.fixed_size)
            elif bar.close_price < self.down and self.trend <= 0:
                self.short(bar.close_price - self.price_tick * 2, self.fixed_size)

        elif self.pos > 0:
            self.long_stop = max(self.long_stop, bar.high_price - self.atr_value * self.atr_multiplier)
            self.sell(self.long_stop, abs(self.pos), stop=True)

        else:
            stop = bar.low_price + self.atr_value * self.atr_multiplier
            self.short_stop = min(self.short_stop, stop) if self.short_stop else stop
            self.cover(self.short_stop, abs(self.pos), stop=True)

        self.put_event()

    def on_order(self, order: OrderData):
        self.order_status[order.vt_orderid] = order.status.value

    def on_trade(self, trade: TradeData):
        self.recorder.update(trade, self.pos)
        self.write_log(f"成交{trade.direction.value}{trade.offset.value}，均价{self.recorder.avg_price:.1f}")
        self.put_event()

    def on_stop_order(self, stop_order: StopOrder):
        if stop_order.status == StopOrderStatus.TRIGGERED:
            self.stop_triggered += 1
