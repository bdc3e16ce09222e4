from vnpy_ctastrategy import CtaTemplate


class StopKeeperStrategy(CtaTemplate):
    """Sends one order and one local stop order at its first tick."""

    author = "tests"
    traded = 0
    sent = False
    variables = ["traded"]

    def on_init(self):
        self.write_log("ready")

    def on_tick(self, tick):
        if not self.sent:
            self.sent = True
            self.buy(3000, 2)
            self.buy(3100, 1, stop=True)

    def on_trade(self, trade):
        self.traded += 1
