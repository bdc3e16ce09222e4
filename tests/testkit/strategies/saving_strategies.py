"""Strategies that fail around the saving of their `pos`, each in one way."""

from vnpy_ctastrategy import CtaTemplate


class BuyingOnceStrategy(CtaTemplate):
    sent = False

    def on_init(self) -> None:
        pass

    def on_tick(self, tick) -> None:
        if not self.sent:
            self.sent = True
            self.buy(tick.bid_price_1 - 20, 1)


class RaisingOnStopStrategy(BuyingOnceStrategy):
    def on_stop(self) -> None:
        raise RuntimeError("no stop today")


class RaisingAfterSavingStrategy(BuyingOnceStrategy):
    def on_trade(self, trade) -> None:
        self.sync_data()
        raise RuntimeError("no trade today")
