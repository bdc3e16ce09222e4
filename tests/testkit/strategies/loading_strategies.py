"""Strategies that begin with what the database has."""

from vnpy_ctastrategy import CtaTemplate


class LoadingStrategy(CtaTemplate):
    """Keeps the closing prices of the bars and the prices of the ticks that it was given before it started."""

    closes: list[float]
    prices: list[float]
    variables = ["seen"]
    seen = 0

    def on_init(self) -> None:
        self.closes, self.prices = [], []
        self.load_bar(2, use_database=True)
        self.load_tick(1)
        self.seen = len(self.closes)

    def on_bar(self, bar) -> None:
        self.closes.append(bar.close_price)

    def on_tick(self, tick) -> None:
        self.prices.append(tick.last_price)
