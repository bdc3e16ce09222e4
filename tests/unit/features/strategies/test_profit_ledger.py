"""The strategies' profit as fills and ticks come: day by day, over restarts, and with a store that is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from testkit.clock import FakeClock
from testkit.fake_store import FakeStore
from testkit.journal_rows import contract, trade
from vnpy_core.bus import topics
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.enums import Direction, GatewayState, Offset
from vnpy_core.domain.events import Event, Gateway, ProfitLeg, StrategyDay, StrategyUpdate, Tick, Trade
from vnpy_core.domain.pnl import Resolution
from vnpy_core.domain.profit import sharpe
from vnpy_core.features.strategies import profit as module
from vnpy_core.features.strategies.profit import ProfitLedger
from vnpy_core.features.strategies.settings import ProfitSettings

RB = "rb2505.SHFE"
FRIDAY, MONDAY, TUESDAY = "2026-11-20", "2026-11-23", "2026-11-24"
MORNING = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
"""Friday 10:00 in Shanghai."""
NIGHT = MORNING + timedelta(hours=11, minutes=30)
"""21:30: Monday's trading day."""
BUY = {"direction": Direction.LONG, "offset": Offset.OPEN}
SELL = {"direction": Direction.SHORT, "offset": Offset.CLOSE}


class Bench:
    """A ledger whose market, journal, store and time are in a test's hands."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock(MORNING)
        self.view = ReadView()
        self.store = FakeStore()
        self.settings = ProfitSettings(**settings)
        self.recorded: list[StrategyDay] = []
        self.seq = 0
        self.sizes: dict[str, float] = {}
        self.fees: dict[bool, float] = {False: 0.0, True: 0.0}
        """A lot's fee, by whether it closes today's."""
        self.ledger = self.new_ledger()

    def new_ledger(self) -> ProfitLedger:
        return ProfitLedger(
            self.view,
            self.store,  # type: ignore[arg-type]
            self.clock,
            self.settings,
            record=self.recorded.append,
            fee_of=lambda fill, closes_today: fill.volume * self.fees[closes_today],
            size_of=self.sizes.get,
        )

    async def start(self) -> None:
        self.see(contract(vt_symbol=RB, size=10.0))
        await self.ledger.start({}, [])

    async def restart(self) -> None:
        """As after a kill: what was journaled is known, no tick and no contract is."""
        await self.ledger._tasks.cancel()
        trades = list(self.view.trades.values())
        days = {day.strategy_name: day for day in self.recorded}
        complete_from = self.view.complete_from
        self.view.clear()
        self.view.seed(trades=trades, complete_from=complete_from)
        self.ledger = self.new_ledger()
        await self.ledger.start(days, trades)

    def see(self, *events: Event) -> None:
        self.view.seed(others=events)

    def tick(self, price: float, vt_symbol: str = RB, at: datetime | None = None) -> None:
        symbol, _, exchange = vt_symbol.rpartition(".")
        self.see(
            Tick(
                gateway_name="PAPER",
                vt_symbol=vt_symbol,
                symbol=symbol,
                exchange=exchange,
                datetime=at or self.clock.now(),
                last_price=price,
            )
        )

    def trading(self, name: str = "trend", *, trading: bool = True) -> None:
        empty: dict[str, Any] = {"parameters": {}, "variables": {}}
        self.see(
            StrategyUpdate(
                strategy_name=name, class_name="Trend", vt_symbol=RB, author="", inited=True, trading=trading, **empty
            )
        )

    def fill(self, side: dict[str, Any], volume: float, price: float, name: str = "trend", **changes: Any) -> Trade:
        self.seq += 1
        values = {"datetime": self.clock.now(), **side, **changes}
        fill = trade(self.seq, str(self.seq), volume=volume, price=price, strategy_name=name, **values)
        self.publish(fill)
        return fill

    def publish(self, fill: Trade) -> None:
        message = Message(topics.TRADE_EXECUTED, fill.vt_tradeid, "e1", fill.seq, self.clock.now(), fill)
        self.view.apply(message)
        self.ledger.keep_trade(message)

    def go_to(self, moment: datetime) -> None:
        self.clock.advance((moment - self.clock.now()).total_seconds())


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def bench(**settings: Any) -> Bench:
        benches.append(Bench(**settings))
        return benches[-1]

    yield bench
    for each in benches:
        await each.ledger._tasks.cancel()


@pytest.fixture
async def bench(make: Callable[..., Bench]) -> Bench:
    made = make()
    await made.start()
    return made


class TestPnl:
    async def test_a_strategy_that_never_traded_has_earned_nothing(self, bench: Bench) -> None:
        pnl = await bench.ledger.pnl("trend")
        assert (pnl.net, pnl.trades, pnl.pos, pnl.days, pnl.win_rate, pnl.sharpe) == (0.0, 0, 0.0, [], None, None)
        assert pnl.complete

    async def test_what_is_open_is_valued_at_the_last_tick(self, bench: Bench) -> None:
        bench.fees[False] = 3.0
        bench.fill(BUY, 2, 3500)
        bench.tick(3510)
        pnl = await bench.ledger.pnl("trend")
        assert (pnl.realised, pnl.unrealised, pnl.fees, pnl.net) == (0.0, 200.0, 6.0, 194.0)
        assert (pnl.pos, pnl.turnover, pnl.trades, pnl.round_trips) == (2.0, 70_000.0, 1, 0)
        assert [(leg.vt_symbol, leg.price, leg.mark) for leg in pnl.legs] == [(RB, 3500.0, 3510.0)]
        assert [(day.day, day.net, day.unrealised) for day in pnl.days] == [(FRIDAY, 194.0, 200.0)]

    async def test_fills_of_others_and_of_nobody_are_not_its_own(self, bench: Bench) -> None:
        bench.fill(BUY, 1, 3500, "other")
        bench.publish(trade(99, "99", strategy_name=None))
        assert (await bench.ledger.pnl("trend")).trades == 0
        assert (await bench.ledger.pnl("other")).trades == 1

    async def test_a_fill_that_is_told_twice_counts_once(self, bench: Bench) -> None:
        bench.publish(bench.fill(BUY, 1, 3500))
        assert (await bench.ledger.pnl("trend")).pos == 1.0

    async def test_round_trips_are_won_or_lost(self, bench: Bench) -> None:
        for price in (3510, 3490, 3520):
            bench.fill(BUY, 1, 3500)
            bench.fill(SELL, 1, price)
        pnl = await bench.ledger.pnl("trend")
        assert (pnl.round_trips, pnl.wins, pnl.losses, pnl.win_rate) == (3, 2, 1, 2 / 3)

    async def test_closing_what_was_opened_today_has_fees_of_its_own(self, bench: Bench) -> None:
        bench.fees |= {False: 1.0, True: 7.0}
        bench.see(contract(vt_symbol="i2505.DCE", size=100.0))
        iron = {"vt_symbol": "i2505.DCE", "symbol": "i2505", "exchange": "DCE"}
        bench.fill(BUY, 2, 700, **iron)
        bench.fill(SELL, 3, 700, **iron)  # two of today's
        assert (await bench.ledger.pnl("trend")).fees == 2 * 1 + 2 * 7 + 1 * 1

    async def test_a_venues_price_of_nothing_is_none(self, bench: Bench) -> None:
        bench.fill(BUY, 1, 3500)
        bench.tick(0.0)
        assert (await bench.ledger.pnl("trend")).unrealised == 0.0


class TestDays:
    async def test_the_night_belongs_to_the_next_trading_day(self, bench: Bench) -> None:
        bench.fill(BUY, 1, 3500)
        bench.tick(3510)
        bench.ledger.look()
        bench.go_to(NIGHT)
        bench.tick(3505)
        bench.ledger.look()
        bench.fill(SELL, 1, 3507)
        days = (await bench.ledger.pnl("trend")).days
        assert [(day.day, day.net, day.realised, day.equity, day.trades) for day in days] == [
            (FRIDAY, 100.0, 0.0, 100.0, 1),
            (MONDAY, -30.0, 70.0, 70.0, 1),
        ]
        assert [(day.day, day.equity) for day in bench.recorded] == [(FRIDAY, 100.0), (MONDAY, 50.0)]

    async def test_a_day_on_which_it_was_ready_and_the_market_ticked_counts(self, bench: Bench) -> None:
        bench.trading()
        bench.trading("asleep", trading=False)
        for moment in (MORNING, NIGHT):
            bench.go_to(moment)
            bench.tick(3500)
            bench.ledger.look()
        assert [day.day for day in (await bench.ledger.pnl("trend")).days] == [FRIDAY, MONDAY]
        assert (await bench.ledger.pnl("asleep")).days == []

    async def test_days_do_not_go_back(self, bench: Bench) -> None:
        bench.fill(BUY, 1, 3500)
        bench.fill(SELL, 1, 3510, datetime=MORNING - timedelta(days=7))  # of a replay
        days = (await bench.ledger.pnl("trend")).days
        assert [(day.day, day.trades) for day in days] == [(FRIDAY, 2)]

    @pytest.mark.parametrize("at", [MORNING + timedelta(days=3650), datetime.max.replace(tzinfo=UTC)])
    async def test_a_tick_of_a_day_that_has_not_begun_ends_none(self, bench: Bench, at: datetime) -> None:
        bench.fill(BUY, 1, 3500)
        bench.tick(3510, at=at)
        bench.ledger.look()
        assert [day.day for day in (await bench.ledger.pnl("trend")).days] == [FRIDAY]

    async def test_days_of_the_past_are_the_stores_and_the_statistics_are_of_all(
        self, make: Callable[..., Bench]
    ) -> None:
        bench = make(capital={"trend": 1000.0}, days_per_year=365)
        known = past_day("2026-11-19", realised=300.0, trades=4)
        bench.store.take_days(past_day("2026-11-17", realised=500.0, trades=2), past_day("2026-11-18", realised=200.0))
        bench.store.take_days(known)
        bench.see(contract(vt_symbol=RB, size=10.0))
        await bench.ledger.start({"trend": known}, [])
        bench.seq = 20
        bench.fill(BUY, 1, 3500)
        bench.tick(3510)
        pnl = await bench.ledger.pnl("trend", start="2026-11-18", end="2026-11-19")
        assert [(day.day, day.net, day.equity) for day in pnl.days] == [
            ("2026-11-18", -300.0, 200.0),
            ("2026-11-19", 100.0, 300.0),
        ]
        assert (pnl.net, pnl.trades, pnl.max_drawdown, pnl.max_drawdown_percent) == (400.0, 5, 300.0, 20.0)
        nets = [500.0, -300.0, 100.0, 100.0]
        assert pnl.sharpe == sharpe(nets, 365)
        assert (pnl.days_per_year, pnl.complete) == (365, True)

    async def test_what_the_store_has_not_got_yet_of_a_day_that_ended_is_remembered(self, bench: Bench) -> None:
        bench.fill(BUY, 1, 3500)
        bench.store.take_days(past_day(FRIDAY, realised=-999.0))  # of a minute before
        bench.go_to(NIGHT)
        bench.fill(SELL, 1, 3510)
        days = (await bench.ledger.pnl("trend")).days
        assert [(day.day, day.equity) for day in days] == [(FRIDAY, 0.0), (MONDAY, 100.0)]

    async def test_a_store_that_is_away_leaves_the_past_out_and_says_so(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench.fill(BUY, 1, 3500)
        bench.store.away = True
        pnl = await bench.ledger.pnl("trend")
        assert (pnl.pos, pnl.complete) == (1.0, False)
        monkeypatch.setattr(module, "DEADLINE_S", 0.01)
        bench.store.away, bench.store.hangs = False, True
        assert (await bench.ledger.pnl("trend")).complete is False


def past_day(day: str, *, realised: float, trades: int = 3, **changes: Any) -> StrategyDay:
    values: dict[str, Any] = {"unrealised": 0.0, "fees": 0.0, "turnover": 0.0, "wins": 0, "losses": 0, "legs": []}
    values |= {"last_seq": 10, "at": MORNING, "realised": realised, "trades": trades}
    return StrategyDay(strategy_name="trend", day=day, **{**values, **changes})


class TestOnRecord:
    async def test_what_has_changed_goes_on_record_once_in_a_while(self, bench: Bench) -> None:
        bench.fill(BUY, 1, 3500)
        bench.fill(BUY, 1, 3500, "other")
        bench.ledger.look()
        assert bench.recorded == []
        bench.clock.advance(600)
        bench.ledger.look()
        assert [(day.strategy_name, day.trades) for day in bench.recorded] == [("trend", 1), ("other", 1)]
        bench.clock.advance(600)
        bench.fill(BUY, 1, 3500, "other")
        bench.ledger.look()
        assert [(day.strategy_name, day.trades) for day in bench.recorded[2:]] == [("other", 2)]

    async def test_the_end_puts_on_record_what_has_changed(self, bench: Bench) -> None:
        bench.fill(BUY, 1, 3500)
        bench.tick(3510)
        await bench.ledger.stop()
        assert [(day.day, day.trades, day.unrealised, day.last_seq) for day in bench.recorded] == [
            (FRIDAY, 1, 100.0, 1)
        ]
        await bench.ledger.stop()
        assert len(bench.recorded) == 1

    @pytest.mark.parametrize("recorded_after", [0, 1, 3, 5])
    async def test_a_kill_at_any_place_loses_no_fill_and_counts_none_twice(
        self, bench: Bench, recorded_after: int
    ) -> None:
        bench.fees |= {False: 0.1, True: 0.7}
        bench.sizes[RB] = 10.0
        today = {"direction": Direction.SHORT, "offset": Offset.CLOSETODAY}
        fills = [(BUY, 0.1, 3500.3), (BUY, 0.2, 3501.1), (today, 0.3, 3502.2), (BUY, 1, 3499.9), (today, 0.5, 3505)]
        for number, (side, volume, price) in enumerate(fills):
            if number == recorded_after:
                bench.clock.advance(600)
                bench.ledger.look()
            bench.fill(side, volume, price)
        before = await bench.ledger.pnl("trend")
        await bench.restart()
        assert await bench.ledger.pnl("trend") == before
        assert (before.trades, before.pos) == (5, 0.5)

    async def test_what_was_opened_today_is_of_today_after_a_restart_too(self, bench: Bench) -> None:
        bench.fees |= {False: 1.0, True: 7.0}
        iron = {"vt_symbol": "i2505.DCE", "symbol": "i2505", "exchange": "DCE"}
        bench.sizes["i2505.DCE"] = 100.0
        bench.fill(BUY, 2, 700, **iron)
        await bench.ledger.stop()
        await bench.restart()
        bench.fill(SELL, 2, 700, **iron)
        assert (await bench.ledger.pnl("trend")).fees == 2 * 1 + 2 * 7

    async def test_it_looks_by_itself_whatever_goes_wrong_with_one_look(
        self, make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "LOOK_S", 0.001)
        bench = make()
        await bench.start()
        bench.fill(BUY, 1, 3500)
        real = bench.ledger.look
        failures: list[int] = []

        def failing_once() -> None:
            if not failures:
                failures.append(1)
                raise ZeroDivisionError
            real()

        monkeypatch.setattr(bench.ledger, "look", failing_once)
        bench.tick(3511)
        bench.clock.advance(600)
        await until(lambda: [day.unrealised for day in bench.recorded] == [110.0])
        assert failures

    async def test_what_a_removed_strategy_held_counts_as_closed(self, bench: Bench) -> None:
        bench.fill(BUY, 1, 3500)
        bench.tick(3510)
        bench.ledger.look()
        bench.ledger.forget("trend")
        bench.ledger.forget("nobody")
        bench.tick(3600)
        pnl = await bench.ledger.pnl("trend")
        assert (pnl.net, pnl.realised, pnl.pos, pnl.wins) == (100.0, 100.0, 0.0, 1)
        assert [day.legs for day in bench.recorded] == [[]]
        bench.fill(BUY, 1, 3600)  # added again under its name
        assert (await bench.ledger.pnl("trend")).net == 100.0

    async def test_the_curve_by_fills_knows_what_was_let_go(self, bench: Bench) -> None:
        bench.fill(BUY, 1, 3500)
        bench.tick(3510)
        bench.ledger.look()
        bench.ledger.forget("trend")
        bench.fill(BUY, 1, 3600)  # added again under its name
        bench.fill(SELL, 1, 3610)
        curve = await bench.ledger.equity("trend", Resolution.TRADE)
        assert [point.equity for point in curve.points] == [0.0, 100.0, 200.0]
        assert (await bench.ledger.pnl("trend")).net == 200.0


class TestSizes:
    async def test_fills_wait_for_a_contract_that_is_not_there_yet(self, bench: Bench) -> None:
        other = {"vt_symbol": "ru2505.SHFE", "symbol": "ru2505"}
        bench.see(gateway(connected=False))
        bench.fill(BUY, 1, 15_000, **other)
        bench.clock.advance(3600)
        bench.ledger.look()
        pnl = await bench.ledger.pnl("trend")
        assert (pnl.trades, pnl.complete, bench.recorded) == (0, False, [])
        bench.see(contract(vt_symbol="ru2505.SHFE", size=5.0))
        pnl = await bench.ledger.pnl("trend")
        assert (pnl.trades, pnl.turnover, pnl.complete) == (1, 75_000.0, True)

    async def test_one_that_no_gateway_knows_earns_nothing_and_is_said_to(self, bench: Bench) -> None:
        bench.see(gateway(connected=True))
        bench.fill(BUY, 1, 15_000, vt_symbol="xx2505.SHFE", symbol="xx2505")
        bench.fill(BUY, 1, 3500)
        for connected in (True, False, True):
            bench.see(gateway(connected=connected))
            bench.clock.advance(module.SIZE_S / 2)
            assert (await bench.ledger.pnl("trend")).trades == 0
        bench.clock.advance(module.SIZE_S)
        pnl = await bench.ledger.pnl("trend")
        assert (pnl.trades, pnl.pos, pnl.turnover, pnl.complete) == (2, 2.0, 35_000.0, False)
        bench.see(contract(vt_symbol="xx2505.SHFE", size=5.0))
        bench.tick(15_010, "xx2505.SHFE")
        pnl = await bench.ledger.pnl("trend")
        assert (pnl.unrealised, pnl.complete) == (50.0, True)


def gateway(*, connected: bool) -> Gateway:
    state = GatewayState.CONNECTED if connected else GatewayState.DISCONNECTED
    return Gateway(
        gateway_name="PAPER", connected=connected, state=state, exchanges=[], default_setting={}, capabilities={}
    )


class TestWhatOnlyTheStoreKnows:
    """The journal lets rows go that the store has; a strategy may be older than the rows of its days."""

    async def test_fills_that_the_journal_has_no_more_are_counted_from_the_store(self, bench: Bench) -> None:
        bench.view.seed(complete_from=50)
        bench.sizes[RB] = 10.0
        bench.store.take(trade(7, "7", strategy_name="trend", price=3500.0, volume=2.0))
        bench.store.take(trade(8, "8", strategy_name="other", price=3500.0))
        bench.seq = 60
        bench.fill(SELL, 2, 3510)
        await until_complete(bench)
        pnl = await bench.ledger.pnl("trend")
        assert (pnl.trades, pnl.pos, pnl.realised, pnl.wins) == (2, 0.0, 200.0, 1)

    async def test_a_strategy_that_is_only_asked_about_is_counted_from_the_store_too(self, bench: Bench) -> None:
        bench.view.seed(complete_from=50)
        bench.store.take(trade(7, "7", strategy_name="trend", price=3500.0, volume=2.0))
        assert (await bench.ledger.pnl("trend")).complete is False
        await until_complete(bench)
        assert (await bench.ledger.pnl("trend")).pos == 2.0

    async def test_a_lost_journal_goes_on_from_the_last_day_of_the_store(self, bench: Bench) -> None:
        bench.view.seed(complete_from=50)
        held = ProfitLeg(vt_symbol=RB, pos=2.0, price=3500.0, mark=3500.0, size=10.0, trip=-1.0)
        bench.store.take_days(past_day("2026-11-19", realised=100.0, last_seq=40, legs=[held]))
        bench.store.take(trade(39, "39", strategy_name="trend"))
        bench.store.take(trade(41, "41", strategy_name="trend", price=3505.0, **SELL))
        bench.seq = 37
        bench.fill(BUY, 9, 3510)  # of before that day's end, told again
        bench.seq = 60
        bench.publish(bench.fill(SELL, 1, 3510))
        await until_complete(bench)
        pnl = await bench.ledger.pnl("trend")
        assert (pnl.trades, pnl.pos, pnl.realised) == (5, 0.0, 100.0 + 50.0 + 100.0)
        assert [day.day for day in pnl.days] == ["2026-11-19", FRIDAY]

    async def test_a_store_that_stays_away_is_not_waited_for_forever_and_nothing_half_goes_on_record(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "LOOK_BACK_S", 0.05)
        monkeypatch.setattr(module, "RETRY_S", 0.001)
        bench.view.seed(complete_from=50)
        bench.store.away = True
        bench.seq = 60
        bench.fill(BUY, 1, 3500)
        assert (await bench.ledger.pnl("trend")).trades == 0
        await until(lambda: bench.ledger._books["trend"].has_past)
        bench.store.away = False
        pnl = await bench.ledger.pnl("trend")
        assert (pnl.trades, pnl.complete) == (1, False)
        await bench.ledger.stop()
        assert bench.recorded == []

    async def test_a_store_that_comes_back_is_asked_again(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "RETRY_S", 0.001)
        bench.view.seed(complete_from=50)
        bench.store.away = True
        bench.seq = 60
        bench.fill(BUY, 1, 3500)
        await until(lambda: bench.store.calls.count("strategy_days") > 2)
        bench.store.away = False
        await until_complete(bench)


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


async def until_complete(bench: Bench) -> None:
    await until(lambda: bench.ledger._books["trend"].is_settled)
    assert (await bench.ledger.pnl("trend")).complete


class TestEquity:
    async def test_by_days_it_is_the_ends_of_days(self, bench: Bench) -> None:
        bench.store.take_days(past_day("2026-11-18", realised=500.0), past_day("2026-11-19", realised=200.0))
        bench.fill(BUY, 1, 3500)
        curve = await bench.ledger.equity("trend", Resolution.DAY, start="2026-11-19")
        assert [(point.day, point.at, point.equity, point.drawdown) for point in curve.points] == [
            ("2026-11-19", None, 200.0, 300.0),
            (FRIDAY, None, 0.0, 500.0),
        ]
        assert curve.complete

    async def test_by_fills_it_goes_on_from_the_day_before(self, bench: Bench) -> None:
        bench.fees[False] = 1.0
        first = bench.fill(BUY, 1, 3500)
        bench.fill(SELL, 1, 3510)
        bench.go_to(NIGHT)
        for side, price in ((BUY, 3510), (SELL, 3500), (BUY, 3490)):
            bench.fill(side, 1, price)
        bench.store.take(first)  # the store lacks the newest
        whole = await bench.ledger.equity("trend", Resolution.TRADE, start=FRIDAY)
        assert [point.equity for point in whole.points] == [-1.0, 98.0, 97.0, -4.0, -5.0]
        assert [point.drawdown for point in whole.points] == [1.0, 0.0, 1.0, 102.0, 103.0]
        last = await bench.ledger.equity("trend", Resolution.TRADE)
        assert last.points == whole.points[2:]
        assert [point.day for point in last.points] == [MONDAY] * 3
        friday = await bench.ledger.equity("trend", Resolution.TRADE, start=FRIDAY, end=FRIDAY)
        assert friday.points == whole.points[:2]
        assert friday.points[0].at == first.datetime
        assert whole.complete
        assert last.points[-1].equity == (await bench.ledger.pnl("trend")).net

    async def test_more_fills_than_fit_are_cut_off_and_said_to(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "POINTS", 3)
        monkeypatch.setattr(module, "_PAGE", 2)
        for _ in range(3):
            bench.store.take(bench.fill(BUY, 1, 3500))
        assert (await bench.ledger.equity("trend", Resolution.TRADE)).complete
        bench.store.take(bench.fill(BUY, 1, 3500))
        curve = await bench.ledger.equity("trend", Resolution.TRADE)
        assert (len(curve.points), curve.complete) == (3, False)

    async def test_without_the_store_it_says_so(self, bench: Bench) -> None:
        bench.fill(BUY, 1, 3500)
        bench.store.away = True
        assert (await bench.ledger.equity("trend", Resolution.TRADE)).complete is False
        assert (await bench.ledger.equity("trend", Resolution.DAY)).complete is False

    async def test_of_a_strategy_that_never_traded_it_is_empty(self, bench: Bench) -> None:
        for resolution in Resolution:
            curve = await bench.ledger.equity("trend", resolution)
            assert (curve.points, curve.complete) == ([], True)
