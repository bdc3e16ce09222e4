"""Counts what it is told."""

from vnpy_ctastrategy import CtaTemplate


class CountingStrategy(CtaTemplate):
    author = "tests"
    step = 1
    fills = 0
    parameters = ["step"]
    variables = ["fills", "seen"]

    def __init__(self, cta_engine, strategy_name, vt_symbol, setting):
        super().__init__(cta_engine, strategy_name, vt_symbol, setting)
        self.seen = []

    def on_init(self):
        pass

    def on_trade(self, trade):
        self.fills += 1
        self.seen.append(self.fills)
