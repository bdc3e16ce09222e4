"""Strategies that misbehave, each in one way."""

from vnpy_ctastrategy import CtaTemplate


class RaisingOnInitStrategy(CtaTemplate):
    def on_init(self) -> None:
        raise RuntimeError("no init today")


class RaisingOnStartStrategy(CtaTemplate):
    def on_init(self) -> None:
        pass

    def on_start(self) -> None:
        raise RuntimeError("no start today")


class RaisingOnTickStrategy(CtaTemplate):
    """Rests an order, then raises on the next tick."""

    ticks = 0
    variables = ["ticks"]

    def on_init(self) -> None:
        pass

    def on_tick(self, tick) -> None:
        self.ticks += 1
        if self.ticks == 1:
            self.buy(tick.bid_price_1 - 20, 1)
        else:
            raise RuntimeError("no tick today")


class ExitingStrategy(CtaTemplate):
    def on_init(self) -> None:
        pass

    def on_tick(self, tick) -> None:
        raise SystemExit(3)


class UndeclaredParameterStrategy(CtaTemplate):
    parameters = ["missing"]

    def on_init(self) -> None:
        pass


class UnsavableVariableStrategy(CtaTemplate):
    """Has a variable that JSON cannot hold."""

    seen = frozenset()
    variables = ["seen"]

    def on_init(self) -> None:
        self.seen = {3, 1, 2}


class QuietStrategy(CtaTemplate):
    """Counts ticks and trades nothing."""

    ticks = 0
    variables = ["ticks"]

    def on_init(self) -> None:
        pass

    def on_tick(self, tick) -> None:
        self.ticks += 1


class RaisingAfterBuyingStrategy(CtaTemplate):
    """Sends an order and raises in the same callback."""

    def on_init(self) -> None:
        pass

    def on_tick(self, tick) -> None:
        self.buy(tick.bid_price_1 - 20, 1)
        raise RuntimeError("no tick today")
