"""Strategies that do not return, each in one way.

Each rests an order on its first tick and hangs, once, on the tick after a file `hang` appeared in VnPy's folder.
"""

import time
from pathlib import Path

from vnpy_ctastrategy import CtaTemplate


class HangingStrategy(CtaTemplate):
    ticks = 0
    price = 0.0
    hung = False
    variables = ["ticks"]

    def on_init(self) -> None:
        pass

    def on_tick(self, tick) -> None:
        self.ticks += 1
        if self.ticks == 1:
            self.price = tick.bid_price_1 - 20
            self.buy(self.price, 1)
        elif not self.hung and Path("hang").exists():
            self.hung = True
            self.hang()

    def hang(self) -> None:
        raise NotImplementedError


class LoopingStrategy(HangingStrategy):
    """For ever, in Python."""

    def hang(self) -> None:
        while True:
            pass


class LoopingInErrorsStrategy(HangingStrategy):
    """For ever, and keeps every Exception."""

    def hang(self) -> None:
        while True:
            try:
                self.ticks += 1
            except Exception:  # noqa: BLE001 - what is tested
                continue


class BuyingForEverStrategy(HangingStrategy):
    """Sends for ever."""

    def hang(self) -> None:
        while True:
            self.buy(self.price, 1)
            time.sleep(0.01)


class SleepingStrategy(HangingStrategy):
    """In C, where no exception reaches it, without keeping the interpreter."""

    def hang(self) -> None:
        time.sleep(600)


class StubbornStrategy(HangingStrategy):
    """Keeps even what is meant to end it."""

    def hang(self) -> None:
        while True:
            try:
                while True:
                    pass
            except BaseException:  # noqa: BLE001 - what is tested
                pass


class KeepingTheInterpreterStrategy(HangingStrategy):
    """In C and never lets another thread of the process run."""

    def hang(self) -> None:
        sum(range(10**13))


class SlowStrategy(HangingStrategy):
    """Returns by itself, later than the watchdog's second and sooner than it ends the process."""

    def hang(self) -> None:
        time.sleep(1.7)


class LoopingOnStartStrategy(CtaTemplate):
    def on_init(self) -> None:
        pass

    def on_start(self) -> None:
        while True:
            pass


class LoopingOnInitStrategy(CtaTemplate):
    """Hangs in CtaEngine's own worker, not on the event thread."""

    def on_init(self) -> None:
        while True:
            time.sleep(0.01)


class StubbornOnInitStrategy(CtaTemplate):
    """As the one above, and keeps what is meant to end it."""

    def on_init(self) -> None:
        while True:
            try:
                while True:
                    time.sleep(0.01)
            except BaseException:  # noqa: BLE001 - what is tested
                pass
