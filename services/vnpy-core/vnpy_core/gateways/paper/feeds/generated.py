"""A made-up market for demonstrations and tests: a seeded random walk with five levels, the same for the same seed.

It trades around the clock. Prices move in whole price ticks and return slowly to where they belong, so that they stay
plausible for months.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import count
from typing import Literal

import msgspec

from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.domain.sessions import SHANGHAI, trading_day
from vnpy_core.gateways.paper.model import ContractSpec, Level, Snapshot

Interval = Literal["1m", "1h", "d"]

MAX_BARS = 100_000
"""The most bars that one question for history gets, the newest ones."""

_PARTS = {60: 1, 3600: 4, 86400: 8}
"""In so many parts a bar of so many seconds is looked at for its high and low."""

_SECONDS = {"1m": 60, "1h": 3600, "d": 86400}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHANGHAI_AHEAD = 8 * 3600
_MASK = 2**64 - 1
_DAILY_RANGE = 0.01
_WAVES = tuple((s, _DAILY_RANGE * (s / 86400) ** 0.5) for s in (60, 480, 3600, 8 * 3600, 3 * 86400, 30 * 86400))
"""Seconds between two turning points of a wave of past prices, and its height relative to the price."""

_USUAL_PRICES = {
    "BTC": 60_000, "ETH": 3_000, "SOL": 150, "BNB": 600,
    "RB": 3_500, "HC": 3_600, "CU": 70_000, "AL": 19_000, "ZN": 23_000, "AU": 560, "AG": 7_000, "RU": 14_000,
    "FU": 3_200, "BU": 3_600, "SC": 560, "I": 800, "M": 3_200, "P": 7_800, "C": 2_400, "RM": 2_500, "SR": 6_200,
    "CF": 15_000, "TA": 5_600, "MA": 2_500, "FG": 1_600, "SA": 1_800,
    "IF": 3_800, "IH": 2_600, "IC": 5_800, "IM": 6_000, "T": 104, "TF": 103,
}  # fmt: skip


class HistoryBar(msgspec.Struct, frozen=True, gc=False):
    """One bar of the past: `time` is its start in UTC, `volume` in the contract's own units."""

    time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


class GeneratedMarket:
    """An endless stream of snapshots; iterating again begins anew with the same ones."""

    def __init__(self, contracts: list[ContractSpec], *, rate: float = 2.0, seed: int = 1, start: datetime) -> None:
        """`rate` is in snapshots per second and contract, `start` the first one's time (aware).

        Raises ConfigurationError without contracts or with a rate that is not above 0, ValueError for a naive start.
        """
        if not contracts:
            raise ConfigurationError("a generated market needs at least one contract")
        if not 0 < rate <= 1_000_000:
            raise ConfigurationError(f"a generated market's rate must be above 0, not {rate}")
        if start.tzinfo is None:
            raise ValueError("the start of a generated market must be an aware time")
        self._contracts = list(contracts)
        self._seed = seed
        self._start = start.astimezone(UTC)
        self._step = 1_000_000 / (rate * len(contracts))

    def __iter__(self) -> Iterator[Snapshot]:
        walks = [_Walk(spec, _Past(spec, self._seed), self._seed, self._start) for spec in self._contracts]
        size, start, step = len(walks), self._start, self._step
        for number in count():
            yield walks[number % size].snapshot(start + timedelta(microseconds=int(number * step)))

    def history(
        self, symbol: str, exchange: str, interval: Interval, start: datetime, end: datetime
    ) -> list[HistoryBar]:
        """Bars that begin in [start, end] (aware) and before the market's start; the last closes at its first price.

        Days are those of UTC on GLOBAL and of Shanghai elsewhere. An unknown contract has none. Raises ValueError
        for an unknown interval.
        """
        if interval not in _SECONDS:
            raise ValueError(f"there are no bars of {interval!r}")
        spec = next((s for s in self._contracts if (s.symbol, s.exchange) == (symbol, exchange)), None)
        if spec is None:
            return []
        seconds = _SECONDS[interval]
        shift = 0 if exchange == "GLOBAL" or interval != "d" else _SHANGHAI_AHEAD
        now = _unix(self._start)
        first = -(-(_unix(start) + shift) // seconds)
        last = min(_unix(end) + shift, now + shift - 1e-6) // seconds
        first = max(first, last - MAX_BARS + 1)
        past = _Past(spec, self._seed)
        begins = (n * seconds - shift for n in range(int(first), int(last) + 1))
        return [past.bar(begin, min(begin + seconds, now), seconds) for begin in begins]


def _unix(time: datetime) -> float:
    return time.timestamp()


def _scale(unit: Decimal) -> Callable[[int], float]:
    """Whole numbers of ticks (or lots) as floats, exact: 600001 ticks of 0.1 are 60000.1."""
    up, down = unit.as_integer_ratio()
    return lru_cache(4096)(lambda units: units * up / down)


def _usual_ticks(spec: ContractSpec) -> int:
    letters = re.match(r"[A-Za-z]+", spec.symbol)
    code = letters.group().upper() if letters else ""
    for name in (code, code[:3]):
        if name in _USUAL_PRICES:
            return max(int(_USUAL_PRICES[name] / spec.pricetick), 100)
    return 3000


class _Past:
    """Prices as a fixed function of time, so that any window of history fits any other."""

    def __init__(self, spec: ContractSpec, seed: int) -> None:
        self.usual = _usual_ticks(spec)
        self._price, self._lots = _scale(spec.pricetick), _scale(spec.min_volume)
        self._key = random.Random(f"{seed}:{spec.vt_symbol}:past").getrandbits(64)
        self._noise = lru_cache(8192)(self._fresh_noise)
        self.ticks_at = lru_cache(8)(self._ticks_at)

    def _fresh_noise(self, wave: int, cell: int) -> float:
        """A fixed number in -1..1 for a turning point (splitmix64)."""
        mixed = (self._key + cell * 0x9E3779B97F4A7C15 + wave * 0xD1B54A32D192ED03) & _MASK
        mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK
        return ((mixed ^ mixed >> 31) >> 11) / 2**52 - 1

    def _ticks_at(self, time: float) -> int:
        relative = 1.0
        for period, height in _WAVES:
            cell = int(time // period)
            before = self._noise(period, cell)
            relative += height * (before + (self._noise(period, cell + 1) - before) * (time / period - cell))
        return round(self.usual * relative)

    def bar(self, begin: float, end: float, seconds: int) -> HistoryBar:
        """The bar of [begin, end). Its high and low are those of a few points, stretched a little."""
        parts = _PARTS[seconds]
        points = [self.ticks_at(begin + (end - begin) * part / parts) for part in range(parts + 1)]
        stretch = round(self.usual * _DAILY_RANGE * (seconds / 86400) ** 0.5 / 4)
        wick = [self._fresh_noise(kind, int(begin)) for kind in range(3)]
        lots = 1 + int(seconds * (2 + 1.5 * wick[2]))
        return HistoryBar(
            time=_EPOCH + timedelta(seconds=begin),
            open=self._price(points[0]),
            high=self._price(max(points) + round(stretch * (1 + wick[0]))),
            low=self._price(min(points) - round(stretch * (1 + wick[1]))),
            close=self._price(points[-1]),
            volume=self._lots(lots),
        )


class _Walk:
    """One contract's random walk."""

    def __init__(self, spec: ContractSpec, past: _Past, seed: int, start: datetime) -> None:
        self._symbol, self._exchange = spec.symbol, spec.exchange
        self._price, self._lots = _scale(spec.pricetick), _scale(spec.min_volume)
        self._value = float(spec.size * spec.min_volume)
        self._random = random.Random(f"{seed}:{spec.vt_symbol}:walk")
        self._usual = past.usual
        self._stride = max(1, past.usual // 20_000)
        self._pull = 0.3 / (2 * (past.usual * 0.02) ** 2) * self._stride**2
        self._has_limits = spec.exchange != "GLOBAL"
        self._ticks = past.ticks_at(_unix(start))
        self._last = self._ticks
        self._begun = False
        self._first_close = past.ticks_at(_unix(start) - 86400)
        self._interest = 50_000 + self._random.randrange(50_000)
        self._hour: tuple[int, int] = (-1, -1)
        self._day = date.min

    def snapshot(self, time: datetime) -> Snapshot:
        """The next one."""
        hour = (time.toordinal(), time.hour)
        if hour != self._hour:
            self._hour = hour
            self._see_day(trading_day(time.astimezone(SHANGHAI), self._exchange))
        chance = self._random.random()
        bits = self._random.getrandbits(64)
        self._move(chance, bits)
        bid = self._ticks - (bits >> 60 & 1)
        ask = max(self._ticks, bid) + 1
        bid, ask = max(bid, self._floor), min(ask, self._ceiling)
        traded = self._trade(bid, ask, bits)
        price = self._price
        return Snapshot(
            symbol=self._symbol,
            exchange=self._exchange,
            time=time,
            trading_day=self._day,
            bids=self._side(bid, -1, bits),
            asks=self._side(ask, 1, bits >> 25),
            last_price=price(self._last),
            last_volume=self._lots(traded),
            volume=self._lots(self._volume),
            turnover=self._turnover * self._value,
            open_interest=self._lots(self._interest),
            limit_up=price(self._ceiling) if self._has_limits else 0.0,
            limit_down=price(self._floor) if self._has_limits else 0.0,
            open_price=price(self._open),
            high_price=price(self._high),
            low_price=price(self._low),
            pre_close=price(self._pre_close),
        )

    def _see_day(self, day: date) -> None:
        if day == self._day:
            return
        self._pre_close = self._last if self._begun else self._first_close
        self._day = day
        self._volume, self._turnover = 0, 0.0
        self._open = self._high = self._low = self._last
        tenth = self._pre_close // 10
        self._ceiling = self._pre_close + tenth if self._has_limits else self._usual * 10
        self._floor = self._pre_close - tenth if self._has_limits else max(self._usual // 10, 10)

    def _move(self, chance: float, bits: int) -> None:
        """Three times of ten the price moves, rather towards its usual level than away from it."""
        if not self._begun:
            self._begun = True
            return
        if chance >= 0.3:
            return
        pull = (self._usual - self._ticks) * self._pull / self._stride
        stride = 1 + (bits >> 50) % self._stride
        self._ticks += stride if chance < 0.15 + pull / 2 else -stride
        self._ticks = min(max(self._ticks, self._floor), self._ceiling - 1)

    def _trade(self, bid: int, ask: int, bits: int) -> int:
        """Every other time somebody takes from the bid or the ask; returns the lots."""
        if self._volume and bits >> 61 & 1:
            return 0
        lots = 1 + (bits >> 55 & 15)
        if self._volume:
            self._last = ask if bits >> 62 & 1 else bid
        self._volume += lots
        self._turnover += lots * self._price(self._last)
        self._interest = max(self._interest + (bits >> 57 & 7) - 3 - (self._interest > 75_000), 1000)
        self._high, self._low = max(self._high, self._last), min(self._low, self._last)
        return lots

    def _side(self, best: int, way: int, bits: int) -> tuple[Level, ...]:
        price, lots = self._price, self._lots
        shown = max(0, min(5, (best - self._floor if way < 0 else self._ceiling - best) + 1))
        return tuple([(price(best + way * n), lots(3 + 8 * n + (bits >> 5 * n & 31))) for n in range(shown)])
