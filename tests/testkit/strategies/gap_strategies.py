"""Strategies that use what VnPy 4.5 does not give them by itself, or gives by halves."""

from vnpy_ctastrategy import CtaTemplate, TargetPosTemplate
from vnpy_ctastrategy.base import StopOrderStatus


class WantedPosStrategy(TargetPosTemplate):
    """Holds what it is told to, by the template's own means."""

    tick_add = 5
    wanted = 0.0
    parameters = ["wanted"]

    def on_init(self) -> None:
        pass

    def on_tick(self, tick) -> None:
        super().on_tick(tick)
        if self.trading and self.wanted != self.pos:
            self.set_target_pos(self.wanted)


class StopEntryStrategy(CtaTemplate):
    """Buys by a stop order that the next tick triggers, and is protected by one that is far away."""

    volume = 1.0
    placed = 0
    triggered = 0
    parameters = ["volume"]
    variables = ["placed", "triggered"]

    def on_init(self) -> None:
        pass

    def on_tick(self, tick) -> None:
        if self.trading and not self.placed:
            self.buy(tick.last_price - 50 * self.get_pricetick(), self.volume, stop=True)

    def on_trade(self, trade) -> None:
        if self.placed == 1:
            self.sell(trade.price - 500 * self.get_pricetick(), self.volume, stop=True)

    def on_stop_order(self, stop_order) -> None:
        self.placed += stop_order.status is StopOrderStatus.WAITING
        self.triggered += stop_order.status is StopOrderStatus.TRIGGERED


class MailingStrategy(CtaTemplate):
    """Mails with each tick."""

    ticks = 0
    variables = ["ticks"]

    def on_init(self) -> None:
        pass

    def on_tick(self, tick) -> None:
        self.send_email(f"tick {self.ticks}")
        self.ticks += 1


class BarLoadingStrategy(CtaTemplate):
    """Begins with the 1-minute and hourly bars of two days."""

    minutes = 0
    hours = 0
    last_close = 0.0
    variables = ["minutes", "hours", "last_close"]

    def on_init(self) -> None:
        from vnpy.trader.constant import Interval

        self.load_bar(2)
        self.load_bar(2, Interval.HOUR, self.on_hour_bar)

    def on_bar(self, bar) -> None:
        self.minutes += 1
        self.last_close = bar.close_price

    def on_hour_bar(self, bar) -> None:
        self.hours += 1
