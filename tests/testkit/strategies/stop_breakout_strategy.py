"""开盘区间突破：进出场全部用本地停止单，一边触发就撤另一边。"""

from vnpy_ctastrategy import BarData, BarGenerator, CtaTemplate, StopOrder, TickData, TradeData
from vnpy_ctastrategy.base import StopOrderStatus


class StopBreakoutStrategy(CtaTemplate):
    """Every `window` minutes stop orders on both sides of the bar; a filled one is protected by another stop."""

    author = "tests"

    window = 10
    loss_ticks = 8
    fixed_size = 1

    placed = 0
    triggered = 0
    cancelled = 0

    parameters = ["window", "loss_ticks", "fixed_size"]
    variables = ["placed", "triggered", "cancelled"]

    def on_init(self) -> None:
        self.bg = BarGenerator(self.on_bar, self.window, self.on_window_bar)
        self.entries: list[str] = []
        self.protection: list[str] = []

    def on_tick(self, tick: TickData) -> None:
        self.bg.update_tick(tick)

    def on_bar(self, bar: BarData) -> None:
        self.bg.update_bar(bar)

    def on_window_bar(self, bar: BarData) -> None:
        self.cancel(self.entries)
        if self.pos == 0:
            self.entries += self.buy(bar.high_price, self.fixed_size, stop=True)
            self.entries += self.short(bar.low_price, self.fixed_size, stop=True)
        elif self.pos > 0:
            self.protect(bar.low_price)
        else:
            self.protect(bar.high_price)

    def protect(self, price: float) -> None:
        self.cancel(self.protection)
        if self.pos > 0:
            self.protection += self.sell(price, abs(self.pos), stop=True)
        elif self.pos < 0:
            self.protection += self.cover(price, abs(self.pos), stop=True)

    def cancel(self, stop_orderids: list[str]) -> None:
        for stop_orderid in list(stop_orderids):
            self.cancel_order(stop_orderid)
        stop_orderids.clear()

    def on_trade(self, trade: TradeData) -> None:
        self.cancel(self.entries)
        loss = self.loss_ticks * self.get_pricetick()
        self.protect(trade.price - loss if self.pos > 0 else trade.price + loss)
        self.put_event()

    def on_stop_order(self, stop_order: StopOrder) -> None:
        self.placed += stop_order.status == StopOrderStatus.WAITING
        self.triggered += stop_order.status == StopOrderStatus.TRIGGERED
        self.cancelled += stop_order.status == StopOrderStatus.CANCELLED
