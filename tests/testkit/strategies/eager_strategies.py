"""Strategies that trade as early as they can."""

from vnpy_ctastrategy import CtaTemplate


class BuyingOnStartStrategy(CtaTemplate):
    def on_init(self) -> None:
        pass

    def on_start(self) -> None:
        self.trading = True  # CtaEngine sets it after on_start, and `buy` sends nothing before
        self.buy(3000, 1)
