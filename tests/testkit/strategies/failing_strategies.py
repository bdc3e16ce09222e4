"""A strategy that raises where it is told to, and trades a little before."""

from pathlib import Path

from vnpy.event import EVENT_TIMER
from vnpy.trader.object import BarData
from vnpy_ctastrategy import CtaTemplate


class FailingStrategy(CtaTemplate):
    """Rests an order and a local stop order at its first tick; raises in the callback `where`, "" for none."""

    where = ""
    ticks = 0
    bars = 0
    parameters = ["where"]
    variables = ["ticks", "bars"]

    def on_init(self) -> None:
        self.cta_engine.event_engine.register(EVENT_TIMER, self.on_timer)
        self.write_log("on_init says hello")
        self.maybe_fail("on_init")

    def on_start(self) -> None:
        self.maybe_fail("on_start")

    def on_stop(self) -> None:
        self.maybe_fail("on_stop")

    def on_tick(self, tick) -> None:
        self.ticks += 1
        if self.ticks == 1:
            self.buy(tick.bid_price_1 - 20, 2)
            self.buy(tick.last_price + 100, 1, stop=True)
        self.maybe_fail("on_tick")
        self.on_bar(BarData(tick.gateway_name, tick.symbol, tick.exchange, tick.datetime))

    def on_bar(self, bar) -> None:
        self.bars += 1
        self.maybe_fail("on_bar")

    def on_order(self, order) -> None:
        self.maybe_fail("on_order")

    def on_trade(self, trade) -> None:
        self.maybe_fail("on_trade")

    def on_stop_order(self, stop_order) -> None:
        self.maybe_fail("on_stop_order")

    def on_timer(self, event) -> None:
        if self.trading:
            self.maybe_fail("on_timer")

    def maybe_fail(self, callback: str) -> None:
        if self.where == callback:
            raise RuntimeError(f"no {callback} today")


class PickyStrategy(CtaTemplate):
    """Does not take a negative `window`."""

    window = 10
    parameters = ["window"]

    def update_setting(self, setting) -> None:
        super().update_setting(setting)
        if self.window < 0:
            raise ValueError("no such window")

    def on_init(self) -> None:
        pass


class ShowingStrategy(CtaTemplate):
    """Shows itself at each tick."""

    ticks = 0
    variables = ["ticks"]

    def on_init(self) -> None:
        pass

    def on_tick(self, tick) -> None:
        self.ticks += 1
        self.put_event()


class UnfinishedStrategy(CtaTemplate):
    """Lacks a variable as long as there is a file `unfinished` in VnPy's folder."""

    variables = ["total"]

    def __init__(self, cta_engine, strategy_name, vt_symbol, setting) -> None:
        super().__init__(cta_engine, strategy_name, vt_symbol, setting)
        if not Path("unfinished").exists():
            self.total = 0

    def on_init(self) -> None:
        pass
