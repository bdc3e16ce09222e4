"""A strategy's profit by its fills: average cost, round trips, fees, drawdown and Sharpe ratio."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from math import sqrt
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.journal_rows import trade
from vnpy_core.domain.enums import Direction, Offset
from vnpy_core.domain.events import StrategyDay
from vnpy_core.domain.profit import (
    Openings,
    Profit,
    added,
    drawdowns,
    max_drawdown,
    max_drawdown_percent,
    sharpe,
)

RB, RU = "rb2505.SHFE", "ru2505.SHFE"
SIZES = {RB: 10.0, RU: 5.0}
AT = datetime(2026, 11, 20, 7, 0, tzinfo=UTC)


class Fill(NamedTuple):
    volume: float
    price: float
    vt_symbol: str = RB
    fee: float = 0.0


def folded(*fills: Fill, known: StrategyDay | None = None) -> Profit:
    profit = Profit("trend", known)
    first = profit.last_seq + 1
    for seq, fill in enumerate(fills, first):
        profit.fill(fill.vt_symbol, fill.volume, fill.price, size=SIZES[fill.vt_symbol], fee=fill.fee, seq=seq)
    return profit


def written_and_read(profit: Profit) -> StrategyDay:
    return msgspec.json.decode(msgspec.json.encode(profit.as_of("2026-11-20", AT)), type=StrategyDay)


VOLUMES = st.integers(-30, 30).filter(bool).map(lambda tenths: tenths / 10)
FILLS = st.lists(
    st.builds(
        Fill,
        volume=VOLUMES,
        price=st.integers(-50, 90_000).map(lambda cents: cents / 20),
        vt_symbol=st.sampled_from([RB, RU]),
        fee=st.integers(0, 500).map(lambda cents: cents / 100),
    ),
    max_size=40,
)
MARKS = st.fixed_dictionaries({RB: st.floats(1, 5000), RU: st.floats(1, 5000)})


class TestAgainstExactCash:
    """Whatever is filled: what was paid and got, and what the holding is worth, is the profit."""

    @settings(deadline=None)
    @given(FILLS, MARKS)
    def test_profit_is_the_cash_that_flowed_and_what_the_holding_is_worth(
        self, fills: list[Fill], marks: dict[str, float]
    ) -> None:
        profit = folded(*fills)
        for vt_symbol, price in marks.items():
            profit.mark(vt_symbol, price)
        value = {fill: Fraction(str(fill.volume)) * Fraction(SIZES[fill.vt_symbol]) for fill in fills}
        cash = sum((-value[fill] * Fraction(str(fill.price)) - Fraction(str(fill.fee)) for fill in fills), Fraction(0))
        worth = sum((value[fill] * Fraction(marks[fill.vt_symbol]) for fill in fills), Fraction(0))
        turnover = float(sum((abs(value[fill] * Fraction(str(fill.price))) for fill in fills), Fraction(0)))
        assert profit.equity == pytest.approx(float(cash + worth), rel=1e-9, abs=1e-9 * (1 + turnover))
        assert profit.turnover == pytest.approx(turnover)
        assert profit.trades == len(fills)

    @settings(deadline=None)
    @given(FILLS)
    def test_the_position_is_the_exact_sum_of_the_fills(self, fills: list[Fill]) -> None:
        profit = folded(*fills)
        for vt_symbol in SIZES:
            total = sum(Fraction(str(fill.volume)) for fill in fills if fill.vt_symbol == vt_symbol)
            leg = profit.legs.get(vt_symbol)
            assert (leg.pos if leg else 0.0) == float(total)
            assert (leg is None) == (total == 0)
        assert profit.pos == float(sum(Fraction(str(fill.volume)) for fill in fills))

    @settings(deadline=None)
    @given(FILLS)
    def test_flat_means_that_nothing_is_unrealised_and_every_trip_has_ended(self, fills: list[Fill]) -> None:
        profit = folded(*fills)
        closing = [Fill(-leg.pos, 1234.5, name) for name, leg in profit.legs.items()]
        for seq, fill in enumerate(closing, 100):
            profit.fill(fill.vt_symbol, fill.volume, fill.price, size=SIZES[fill.vt_symbol], fee=0.0, seq=seq)
        assert (profit.legs, profit.unrealised, profit.pos) == ({}, 0.0, 0.0)
        assert profit.wins + profit.losses == sum(map(trips, by_symbol([*fills, *closing])))

    @settings(deadline=None)
    @given(FILLS, FILLS)
    def test_going_on_from_a_day_on_record_gives_the_very_same_numbers(
        self, before: list[Fill], after: list[Fill]
    ) -> None:
        gone_on = folded(*after, known=written_and_read(folded(*before)))
        assert gone_on.as_of("2026-11-20", AT) == folded(*before, *after).as_of("2026-11-20", AT)


def by_symbol(fills: list[Fill]) -> list[list[Fill]]:
    return [[fill for fill in fills if fill.vt_symbol == vt_symbol] for vt_symbol in SIZES]


def trips(fills: list[Fill]) -> int:
    """How often a contract's position came to 0 or changed its side."""
    pos, count = Fraction(0), 0
    for fill in fills:
        before, pos = pos, pos + Fraction(str(fill.volume))
        count += before != 0 and before * pos <= 0
    return count


class TestByHand:
    def test_a_long_round_trip(self) -> None:
        profit = folded(Fill(2, 3500, fee=3.5), Fill(-2, 3510, fee=3.6))
        assert (profit.realised, profit.fees, profit.unrealised) == (200.0, 7.1, 0.0)
        assert (profit.wins, profit.losses, profit.trades) == (1, 0, 2)

    def test_a_short_one_that_lost_by_its_fees_only(self) -> None:
        profit = folded(Fill(-1, 3500, fee=6), Fill(1, 3499, fee=6))
        assert (profit.realised, profit.wins, profit.losses) == (10.0, 0, 1)

    def test_a_trip_that_came_out_even_is_no_win(self) -> None:
        assert (folded(Fill(1, 3500), Fill(-1, 3500)).wins, folded(Fill(1, 3500), Fill(-1, 3500)).losses) == (0, 1)

    def test_the_cost_of_what_is_open_is_the_average(self) -> None:
        leg = folded(Fill(1, 3500), Fill(3, 3504), Fill(-2, 3600)).legs[RB]
        assert (leg.pos, leg.price) == (2.0, 3503.0)

    def test_a_fill_that_turns_the_position_ends_one_trip_and_begins_another(self) -> None:
        profit = folded(Fill(2, 3500), Fill(-3, 3510, fee=9))
        leg = profit.legs[RB]
        assert (profit.realised, profit.wins, leg.pos, leg.price) == (200.0, 1, -1.0, 3510.0)
        assert leg.trip == -3.0  # its part of the fee

    def test_lots_of_a_tenth_come_out_flat(self) -> None:
        assert folded(Fill(0.1, 10), Fill(0.2, 10), Fill(-0.3, 11)).legs == {}

    def test_contracts_are_reckoned_apart_and_by_their_sizes(self) -> None:
        profit = folded(Fill(1, 100), Fill(-1, 100, RU), Fill(-1, 101), Fill(1, 99, RU))
        assert (profit.realised, profit.wins) == (10.0 + 5.0, 2)

    def test_what_is_open_is_worth_its_fill_until_there_is_another_price(self) -> None:
        profit = folded(Fill(1, 3500))
        assert profit.unrealised == 0.0
        profit.mark(RB, 3490)
        profit.mark(RU, 1)  # not held
        profit.mark(RB, float("nan"))
        assert profit.unrealised == -100.0

    def test_a_contract_whose_size_nobody_knows_earns_nothing_until_it_is_known(self) -> None:
        profit = Profit("trend")
        profit.fill(RB, 1, 3500, size=0.0, fee=0.0, seq=1)
        profit.mark(RB, 3510)
        assert (profit.unrealised, profit.pos, profit.turnover) == (0.0, 1.0, 0.0)
        profit.mark(RB, 3510, 10.0)
        assert profit.unrealised == 100.0

    def test_what_is_let_go_is_realised_at_its_last_price(self) -> None:
        profit = folded(Fill(1, 3500), Fill(-2, 100, RU))
        profit.mark(RB, 3510)
        profit.mark(RU, 101)
        equity = profit.equity
        profit.let_go()
        assert (profit.equity, profit.realised, profit.pos, profit.legs) == (equity, 90.0, 0.0, {})
        assert (profit.wins, profit.losses) == (1, 1)

    def test_a_fill_of_nothing_is_none(self) -> None:
        profit = folded(Fill(0, 3500, fee=1))
        assert (profit.trades, profit.fees, profit.legs, profit.last_seq) == (0, 0.0, {}, 1)


class TestClosingToday:
    """Closing what was opened on the same day has fees of its own."""

    DAY = "2026-11-20"

    def taken(self, *fills: tuple[Direction, Offset, float], exchange: str = "DCE") -> list[float]:
        openings = Openings()
        return [
            openings.take(trade(1, exchange=exchange, direction=side, offset=offset, volume=volume), self.DAY)
            for side, offset, volume in fills
        ]

    def test_close_takes_what_was_opened_today_first(self) -> None:
        opened, close = (Direction.LONG, Offset.OPEN, 2.0), (Direction.SHORT, Offset.CLOSE, 3.0)
        assert self.taken(opened, close, close) == [0.0, 2.0, 0.0]

    def test_the_other_side_is_another_holding(self) -> None:
        assert self.taken((Direction.SHORT, Offset.OPEN, 2.0), (Direction.SHORT, Offset.CLOSE, 2.0)) == [0.0, 0.0]

    @pytest.mark.parametrize("exchange", ["SHFE", "INE"])
    def test_where_today_is_apart_only_closetoday_closes_it(self, exchange: str) -> None:
        opened, close = (Direction.LONG, Offset.OPEN, 2.0), (Direction.SHORT, Offset.CLOSE, 1.0)
        today = (Direction.SHORT, Offset.CLOSETODAY, 1.0)
        assert self.taken(opened, close, today, exchange=exchange) == [0.0, 0.0, 1.0]

    def test_closeyesterday_and_venues_without_offsets_close_nothing_of_today(self) -> None:
        opened = (Direction.LONG, Offset.OPEN, 2.0)
        others = [(Direction.SHORT, offset, 1.0) for offset in (Offset.CLOSEYESTERDAY, Offset.NONE)]
        assert self.taken(opened, *others) == [0.0, 0.0, 0.0]

    def test_on_the_next_day_it_is_of_yesterday(self) -> None:
        openings = Openings()
        openings.take(trade(1, exchange="DCE"), "2026-11-20")
        close = trade(2, exchange="DCE", direction=Direction.SHORT, offset=Offset.CLOSE)
        assert openings.take(close, "2026-11-23") == 0.0


class TestStatistics:
    def test_a_drawdown_is_below_the_highest_point_before(self) -> None:
        assert list(drawdowns([10, 4, 12, 7])) == [0, 6, 0, 5]
        assert (max_drawdown([10, 4, 12, 7]), max_drawdown([-3, -1]), max_drawdown([])) == (6, 3, 0.0)

    def test_in_percent_it_counts_from_the_capital_and_what_was_earned(self) -> None:
        assert max_drawdown_percent([100, 50], 900) == pytest.approx(5.0)
        assert max_drawdown_percent([], 900) == 0.0

    def test_the_sharpe_ratio_is_mean_over_deviation_for_a_year(self) -> None:
        assert sharpe([1.0, 3.0], 240) == pytest.approx(2 / sqrt(2) * sqrt(240))
        assert sharpe([1.0, 3.0], 365) == pytest.approx(2 / sqrt(2) * sqrt(365))

    def test_without_variation_there_is_none(self) -> None:
        assert [sharpe(nets, 240) for nets in ([], [1.0], [0.0, 0.0], [0.1, 0.1, 0.1])] == [None] * 4

    @given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
    def test_a_drawdown_is_never_negative_nor_more_than_the_whole_range(self, curve: list[float]) -> None:
        assert 0 <= max_drawdown(curve) <= max([0.0, *curve]) - min([0.0, *curve])


def test_volumes_are_added_as_people_write_them() -> None:
    assert added(0.1, 0.2) == 0.3
