"""A generated market: a seeded random walk with five levels, for demonstrations and tests. No forecast of anything."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from datetime import date, datetime, timedelta

import msgspec

from vnpy_core.gateways.paper.feeds.sessions import trading_day
from vnpy_core.gateways.paper.model import ContractSpec, Level, Snapshot

LEVELS = 5
LIMIT_SHARE = 0.1
"""Daily limits above and below the previous close."""
PULL = 0.0005
"""Share of the distance to its anchor that the price is drawn back each tick, so that it stays where it began."""
LONGEST_HISTORY = 100_000
_STEPS = {"1m": timedelta(minutes=1), "1h": timedelta(hours=1), "d": timedelta(days=1)}
_PLAUSIBLE = {
    "BTC": 60_000.0,
    "ETH": 3_000.0,
    "IF": 3_900.0,
    "ru": 15_000.0,
    "cu": 75_000.0,
    "au": 600.0,
    "rb": 3_200.0,
}


class HistoryBar(msgspec.Struct, frozen=True):
    """One bar; `time` is its start, aware, in UTC."""

    time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


class GeneratedMarket:
    """Endless; the same contracts, seed and start give the same snapshots. One thread iterates, any asks history."""

    def __init__(self, contracts: list[ContractSpec], *, rate: float = 2.0, seed: int = 1, start: datetime) -> None:
        """`rate` is snapshots a second and contract, `start` (aware) the first one's time."""
        self._start = start
        self._walks = [
            _Walk(spec, seed=seed, start=start + timedelta(seconds=number / rate / len(contracts)), every=1 / rate)
            for number, spec in enumerate(contracts)
        ]

    def __iter__(self) -> Iterator[Snapshot]:
        due = [(walk.time, number) for number, walk in enumerate(self._walks)]
        heapq.heapify(due)
        while due:
            _, number = due[0]
            walk = self._walks[number]
            yield walk.step()
            heapq.heapreplace(due, (walk.time, number))

    def history(self, symbol: str, exchange: str, interval: str, start: datetime, end: datetime) -> list[HistoryBar]:
        """Bars (`1m`, `1h`, `d`) before the market began, oldest first; the last one closes where it began.

        Walked backwards from there, so a longer history begins with other bars but ends with the same ones.
        """
        walk = next((w for w in self._walks if (w.spec.symbol, w.spec.exchange) == (symbol, exchange)), None)
        step = _STEPS[interval]
        if walk is None:
            return []
        chance = random.Random(f"{walk.name} {interval} history")
        close = walk.anchor
        bars: list[HistoryBar] = []
        time = self._start - step
        while time >= start and len(bars) < LONGEST_HISTORY:
            bar = walk.bar_before(chance, time, close, step)
            if time < end:
                bars.append(bar)
            close = bar.open
            time -= step
        return bars[::-1]


class _Walk:
    """One contract's price on its way."""

    def __init__(self, spec: ContractSpec, *, seed: int, start: datetime, every: float) -> None:
        self.spec = spec
        self.name = f"{seed} {spec.symbol}.{spec.exchange}"
        self.time = start
        self._every = timedelta(seconds=every)
        self._chance = random.Random(self.name)
        self._tick = float(spec.pricetick)
        self._lot = float(spec.min_volume)
        self._digits = max(0, -int(spec.pricetick.as_tuple().exponent))
        self._lot_digits = max(0, -int(spec.min_volume.as_tuple().exponent))
        plausible = next((p for head, p in _PLAUSIBLE.items() if spec.symbol.startswith(head)), 4_000.0)
        self._anchor = round(plausible * self._chance.uniform(0.9, 1.1) / self._tick)
        """In price ticks, as all prices here."""
        self._middle = float(self._anchor)
        self._last = self._anchor
        self._day: date | None = None
        self._open_interest = self._size(50_000)

    @property
    def anchor(self) -> float:
        """Where the market begins."""
        return self._price(self._anchor)

    def step(self) -> Snapshot:
        """The next snapshot; moves the walk on."""
        chance, time = self._chance, self.time
        day = trading_day(time, self.spec.exchange)
        if day != self._day:
            self._begin_day(day)
        self._middle += chance.gauss(0, 0.8) + PULL * (self._anchor - self._middle)
        self._middle = min(max(self._middle, self._lowest + LEVELS + 1), self._highest - LEVELS - 1)
        bid = round(self._middle)
        ask = bid + (1 if chance.random() < 0.8 else 2)
        traded = self._size(chance.expovariate(1 / 6)) if chance.random() < 0.7 else 0.0
        if traded:
            self._last = ask if chance.random() < 0.5 else bid
            self._trade(traded)
        self.time = time + self._every
        return Snapshot(
            symbol=self.spec.symbol,
            exchange=self.spec.exchange,
            time=time,
            trading_day=day,
            bids=tuple([self._level(bid - n, n) for n in range(LEVELS)]),
            asks=tuple([self._level(ask + n, n) for n in range(LEVELS)]),
            last_price=self._price(self._last),
            last_volume=traded,
            volume=self._volume,
            turnover=self._turnover,
            open_interest=self._open_interest,
            limit_up=0.0 if self.spec.net_position else self._price(self._highest),
            limit_down=0.0 if self.spec.net_position else self._price(self._lowest),
            open_price=self._price(self._open),
            high_price=self._price(self._high),
            low_price=self._price(self._low),
            pre_close=self._price(self._pre_close),
        )

    def bar_before(self, chance: random.Random, time: datetime, close: float, step: timedelta) -> HistoryBar:
        """The bar that starts at `time` and ends at `close`."""
        minutes = step.total_seconds() / 60
        spread = 6 * minutes**0.5
        end = round(close / self._tick)
        begin = end - round(chance.gauss(0, spread) + 0.01 * (end - self._anchor))
        high = max(begin, end) + round(abs(chance.gauss(0, spread / 2)))
        low = max(1, min(begin, end) - round(abs(chance.gauss(0, spread / 2))))
        volume = self._size(chance.expovariate(1 / (400 * minutes)))
        return HistoryBar(time, self._price(begin), self._price(high), self._price(low), self._price(end), volume)

    def _begin_day(self, day: date) -> None:
        self._day = day
        self._pre_close = self._open = self._high = self._low = self._last
        self._highest = round(self._pre_close * (1 + LIMIT_SHARE))
        self._lowest = max(1, round(self._pre_close * (1 - LIMIT_SHARE)))
        self._volume = self._turnover = 0.0

    def _trade(self, volume: float) -> None:
        self._high, self._low = max(self._high, self._last), min(self._low, self._last)
        self._volume = round(self._volume + volume, self._lot_digits)
        self._turnover += volume * self._price(self._last) * float(self.spec.size)

    def _level(self, price: int, depth: int) -> Level:
        return self._price(price), self._size(self._chance.expovariate(1 / 20) * (1 + depth / 2))

    def _price(self, ticks: int) -> float:
        return round(ticks * self._tick, self._digits)

    def _size(self, lots: float) -> float:
        """At least one lot."""
        return round((int(lots) + 1) * self._lot, self._lot_digits)
