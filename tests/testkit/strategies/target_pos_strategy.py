"""双均线目标仓位：继承 TargetPosTemplate，由模板负责撤单、先平后开。"""

from vnpy_ctastrategy import ArrayManager, BarData, BarGenerator, OrderData, TargetPosTemplate, TickData, TradeData


class MomentumTargetStrategy(TargetPosTemplate):
    """Holds 2, 1, 0, -1 or -2 lots as two momenta say."""

    author = "tests"

    tick_add = 5
    short_window = 5
    long_window = 20

    short_roc = 0.0
    long_roc = 0.0

    parameters = ["tick_add", "short_window", "long_window"]
    variables = ["short_roc", "long_roc"]

    def on_init(self) -> None:
        self.bg = BarGenerator(self.on_bar, 5, self.on_5min_bar)
        self.am = ArrayManager(40)
        self.load_bar(10)

    def on_tick(self, tick: TickData) -> None:
        super().on_tick(tick)
        self.bg.update_tick(tick)
        # 未成交的委托由模板撤掉重发
        if self.trading and self.target_pos != self.pos:
            self.trade()

    def on_bar(self, bar: BarData) -> None:
        super().on_bar(bar)
        self.bg.update_bar(bar)

    def on_5min_bar(self, bar: BarData) -> None:
        self.am.update_bar(bar)
        if not self.am.inited:
            return
        self.short_roc = self.am.roc(self.short_window)
        self.long_roc = self.am.roc(self.long_window)
        target = sum(1 if roc > 0 else -1 for roc in (self.short_roc, self.long_roc))
        self.set_target_pos(target)

    def on_order(self, order: OrderData) -> None:
        super().on_order(order)

    def on_trade(self, trade: TradeData) -> None:
        self.put_event()
