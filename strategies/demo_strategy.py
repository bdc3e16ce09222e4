"""Demo: fades one-minute moves away from a short mean. A plain VnPy strategy; it shows the service at work, no edge."""

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


class DemoStrategy(CtaTemplate):
    """Buys below the band, sells above it, and closes at the mean."""

    author = "VnPy Core Service"

    window = 5
    deviation = 1.0
    fixed_size = 1
    price_add = 2

    mean = 0.0
    band = 0.0

    parameters = ["window", "deviation", "fixed_size", "price_add"]  # noqa: RUF012 - VnPy's way
    variables = ["mean", "band"]  # noqa: RUF012

    def on_init(self) -> None:
        self.write_log("initialising")
        self.bg = BarGenerator(self.on_bar)
        self.am = ArrayManager(self.window)
        self.load_bar(1)

    def on_start(self) -> None:
        self.write_log("started")
        self.put_event()

    def on_stop(self) -> None:
        self.write_log("stopped")
        self.put_event()

    def on_tick(self, tick: TickData) -> None:
        self.bg.update_tick(tick)

    def on_bar(self, bar: BarData) -> None:
        self.cancel_all()
        self.am.update_bar(bar)
        if not self.am.inited:
            return
        self.mean = float(self.am.sma(self.window))
        self.band = float(self.am.std(self.window)) * self.deviation
        self.trade_on(bar.close_price)
        self.put_event()

    def trade_on(self, price: float) -> None:
        # A limit a few steps through the market: it fills at once at the book's prices, or not at all.
        reach = self.price_add * (self.get_pricetick() or 0)
        if self.pos == 0 and self.band:
            if price < self.mean - self.band:
                self.buy(price + reach, self.fixed_size)
            elif price > self.mean + self.band:
                self.short(price - reach, self.fixed_size)
        elif self.pos > 0 and price >= self.mean:
            self.sell(price - reach, abs(self.pos))
        elif self.pos < 0 and price <= self.mean:
            self.cover(price + reach, abs(self.pos))

    def on_order(self, order: OrderData) -> None:
        pass

    def on_trade(self, trade: TradeData) -> None:
        self.put_event()

    def on_stop_order(self, stop_order: StopOrder) -> None:
        pass
