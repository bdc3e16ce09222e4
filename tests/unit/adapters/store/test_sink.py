"""The store's sink: every row of the journal reaches the store once, whatever the database does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from testkit.clock import FakeClock
from testkit.journal_rows import ListJournal, contract
from vnpy_core.adapters.store import sink as sink_module
from vnpy_core.adapters.store.sink import FIRST_WAIT_S, LINGER_S, LONGEST_WAIT_S, POLL_S, TOPICS, TRIES, StoreSink
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.message import Message
from vnpy_core.domain.errors import JournalFailed, PoisonRow, StoreUnavailable
from vnpy_core.domain.events import Contract, StrategyUpdate
from vnpy_core.kit.retry import wait_for_event
from vnpy_core.ports.journal import Row
from vnpy_core.ports.store import Watermark


class ListStore:
    """As much of a store as the sink needs; `failures` are raised one by one before a call does anything."""

    def __init__(self, mark: Watermark | None = None) -> None:
        self.mark = mark
        self.seqs: list[int] = []
        self.batches: list[int] = []
        self.parked: list[tuple[int, str]] = []
        self.contracts: list[Contract] = []
        self.strategies: list[StrategyUpdate] = []
        self.failures: list[Exception] = []
        self.poisons: set[int] = set()
        self.away = False
        self.hangs = False
        self.attempts = 0

    async def _reach(self) -> None:
        self.attempts += 1
        await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise StoreUnavailable("the database is away")
        if self.failures:
            raise self.failures.pop(0)

    async def open(self) -> None:
        await self._reach()

    async def watermark(self) -> Watermark | None:
        await self._reach()
        return self.mark

    async def write(self, rows: Sequence[Row]) -> None:
        await self._reach()
        for each in rows:
            if each.seq in self.poisons:
                raise PoisonRow(f"row {each.seq}: bad", seq=each.seq)
        self.seqs += [each.seq for each in rows]
        self.batches.append(len(rows))
        self.mark = Watermark(rows[-1].epoch, rows[-1].seq)

    async def park(self, poison: Row, reason: str) -> None:
        await self._reach()
        self.parked.append((poison.seq, reason))
        self.mark = Watermark(poison.epoch, poison.seq)

    async def save_contracts(self, contracts: Sequence[Contract]) -> None:
        await self._reach()
        self.contracts += contracts

    async def save_strategies(self, strategies: Sequence[StrategyUpdate]) -> None:
        await self._reach()
        self.strategies += strategies


class Waits:
    """Time that passes at once, and is written down."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.seconds: list[float] = []

    async def __call__(self, event: asyncio.Event, seconds: float) -> None:
        if seconds != LINGER_S:
            self.seconds.append(seconds)
        self.clock.advance(seconds)
        await asyncio.sleep(0)


class Bench:
    def __init__(self, journal: ListJournal, store: ListStore, **options: Any) -> None:
        self.journal = journal
        self.store = store
        self.clock = FakeClock()
        self.waits = Waits(self.clock)
        defaults = {"batch": 10, "wait": self.waits, "jitter": lambda: 1.0}
        self.sink = StoreSink(store, journal, self.clock, **{**defaults, **options})  # type: ignore[arg-type]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0)

    async def drained(self) -> None:
        await self.until(lambda: self.sink.state().lag == 0)


@asynccontextmanager
async def running(journal: ListJournal, store: ListStore, **options: Any) -> AsyncIterator[Bench]:
    bench = Bench(journal, store, **options)
    bench.sink.start()
    try:
        yield bench
    finally:
        store.hangs = False
        await bench.sink.close(5)


def journal_of(count: int, epoch: str = "e1") -> ListJournal:
    journal = ListJournal()
    journal.grow(count, epoch)
    return journal


async def test_all_rows_are_written_once_in_order_and_in_batches() -> None:
    store = ListStore()
    async with running(journal_of(25), store) as bench:
        await bench.drained()
        assert store.seqs == list(range(1, 26))
        assert store.batches == [10, 10, 5]
        assert bench.sink.drained == 25
        state = bench.sink.state()
        assert (state.seq, state.lag, state.written, state.dead_letters, state.error) == (25, 0, 25, 0, "")


async def test_the_lag_is_what_the_store_lacks() -> None:
    store = ListStore()
    store.away = True
    async with running(journal_of(25), store) as bench:
        await bench.until(lambda: bench.sink.state().error != "")
        assert (bench.sink.state().lag, bench.sink.drained) == (25, 0)
        assert bench.sink.state().error == "the database is away"


async def test_a_wake_ends_the_waiting() -> None:
    journal, store = journal_of(1), ListStore()
    async with running(journal, store, wait=wait_for_event) as bench:
        await bench.drained()
        await asyncio.sleep(0.05)
        reads = len(journal.reads)
        await asyncio.sleep(0.05)
        assert len(journal.reads) == reads
        journal.grow(3)
        bench.sink.wake()
        await asyncio.wait_for(bench.drained(), POLL_S / 2)


async def test_without_a_wake_the_journal_is_looked_at_every_second() -> None:
    journal, store = journal_of(1), ListStore()
    async with running(journal, store) as bench:
        await bench.until(lambda: len(bench.waits.seconds) == 3)
        journal.grow(1)
        await bench.drained()
        assert set(bench.waits.seconds) == {POLL_S}


async def test_rows_that_come_one_by_one_are_gathered() -> None:
    journal, store = journal_of(0), ListStore()
    async with running(journal, store, wait=wait_for_event, batch=1000) as bench:
        for _ in range(100):
            journal.grow(1)
            bench.sink.wake()
            await asyncio.sleep(0.002)
        await bench.drained()
        assert store.seqs == list(range(1, 101))
        assert len(store.batches) < 20


class TestAway:
    async def test_tries_come_at_longer_and_longer_intervals(self) -> None:
        store = ListStore()
        store.failures = [StoreUnavailable("away")] * 9
        async with running(journal_of(3), store) as bench:
            await bench.drained()
            doubled = [FIRST_WAIT_S * 2**n for n in range(9)]
            assert bench.waits.seconds[:9] == [min(LONGEST_WAIT_S, wait) for wait in doubled]

    async def test_several_services_do_not_try_in_step(self) -> None:
        store = ListStore()
        store.failures = [StoreUnavailable("away")] * 2
        async with running(journal_of(3), store, jitter=lambda: 0.0) as bench:
            await bench.drained()
            assert bench.waits.seconds[:2] == [FIRST_WAIT_S / 2, FIRST_WAIT_S]

    async def test_going_away_and_coming_back_are_logged_once_each(self) -> None:
        store = ListStore()
        with capture_logs() as logs:
            async with running(journal_of(3), store) as bench:
                await bench.drained()
                store.away = True
                bench.journal.grow(5)
                await bench.until(lambda: store.attempts > 12)
                store.away = False
                await bench.drained()
        assert [entry["log_level"] for entry in logs] == ["error", "info"]
        assert "away" in logs[0]["event"]
        assert "back" in logs[1]["event"]
        assert store.seqs == list(range(1, 9))

    async def test_what_fails_in_the_middle_is_written_again_from_there(self) -> None:
        store = ListStore()
        async with running(journal_of(30), store, batch=3) as bench:
            store.failures = [StoreUnavailable("away") if n % 2 else JournalFailed("?") for n in range(7)]
            await bench.drained()
        assert store.seqs == list(range(1, 31))

    async def test_an_unexpected_error_does_not_end_the_sink(self) -> None:
        store = ListStore()
        store.failures = [RuntimeError("a driver's fault"), ZeroDivisionError()]
        with capture_logs() as logs:
            async with running(journal_of(3), store) as bench:
                await bench.drained()
        assert [entry["log_level"] for entry in logs if "unexpected" in entry["event"]] == ["error", "error"]

    async def test_a_journal_that_cannot_be_read_is_tried_again(self) -> None:
        journal, store = journal_of(3), ListStore()
        journal.failure = JournalFailed("disk")
        async with running(journal, store) as bench:
            await bench.until(lambda: bench.sink.state().error == "disk")
            journal.failure = None
            await bench.drained()


class TestPoison:
    async def test_it_is_tried_five_times_then_parked_and_the_rest_goes_on(self) -> None:
        store = ListStore()
        store.poisons = {7, 18}
        with capture_logs() as logs:
            async with running(journal_of(25), store) as bench:
                await bench.drained()
        assert store.parked == [(7, "row 7: bad"), (18, "row 18: bad")]
        assert store.seqs == [seq for seq in range(1, 26) if seq not in (7, 18)]
        assert bench.sink.state().dead_letters == 2
        assert [entry["log_level"] for entry in logs] == ["critical", "critical"]
        assert bench.waits.seconds.count(FIRST_WAIT_S) == 2 * (TRIES - 1)

    async def test_one_that_heals_is_written(self) -> None:
        store = ListStore()
        store.poisons = {3}
        async with running(journal_of(5), store) as bench:
            await bench.until(lambda: len(bench.waits.seconds) == TRIES - 2)
            store.poisons = set()
            await bench.drained()
        assert (store.seqs, store.parked) == ([1, 2, 3, 4, 5], [])

    async def test_rows_before_it_do_not_wait(self) -> None:
        store = ListStore()
        store.poisons = {3}
        async with running(journal_of(5), store) as bench:
            await bench.until(lambda: bool(bench.waits.seconds))
            assert (store.seqs, bench.sink.drained) == ([1, 2], 2)

    async def test_parking_waits_for_a_database_that_is_away(self) -> None:
        store = ListStore()
        store.poisons = {1}
        async with running(journal_of(2), store) as bench:
            await bench.until(lambda: len(bench.waits.seconds) == TRIES - 1)
            store.failures = [PoisonRow("row 1: bad", seq=1), StoreUnavailable("away")]
            await bench.drained()
        assert store.parked == [(1, "row 1: bad")]
        assert store.seqs == [2]


class TestStart:
    async def test_it_goes_on_behind_the_watermark(self) -> None:
        store = ListStore(Watermark("e1", 20))
        async with running(journal_of(25), store) as bench:
            await bench.drained()
        assert store.seqs == [21, 22, 23, 24, 25]

    async def test_a_store_of_another_epoch_gets_the_journal_from_its_first_row(self) -> None:
        store = ListStore(Watermark("elsewhere", 20))
        with capture_logs() as logs:
            async with running(journal_of(25), store) as bench:
                await bench.drained()
        assert store.seqs == list(range(1, 26))
        assert [entry["epoch"] for entry in logs] == ["elsewhere"]

    async def test_an_epoch_that_ended_within_this_journal_is_this_journals(self) -> None:
        journal = journal_of(10)
        journal.grow(5, "e2")
        store = ListStore(Watermark("e1", 8))
        async with running(journal, store) as bench:
            await bench.drained()
        assert store.seqs == list(range(9, 16))

    async def test_rows_that_another_epoch_has_written_anew_are_taken_in(self) -> None:
        # Rows 9 and 10 of e1 were lost in a power cut after the store had them; e2 has others in their place.
        journal = journal_of(8)
        journal.grow(5, "e2")
        store = ListStore(Watermark("e1", 10))
        async with running(journal, store) as bench:
            await bench.drained()
        assert store.seqs == list(range(1, 14))

    async def test_a_watermark_whose_row_was_cut_is_known_by_its_epoch(self) -> None:
        journal = journal_of(25)
        del journal.rows[:20]
        store = ListStore(Watermark("e1", 20))
        with capture_logs() as logs:
            async with running(journal, store) as bench:
                await bench.drained()
        assert store.seqs == [21, 22, 23, 24, 25]
        assert logs == []

    async def test_rows_that_are_nowhere_any_more_are_told(self) -> None:
        journal = journal_of(25)
        del journal.rows[:20]
        store = ListStore(Watermark("e1", 10))
        with capture_logs() as logs:
            async with running(journal, store) as bench:
                await bench.drained()
        assert store.seqs == [21, 22, 23, 24, 25]
        assert [(entry["log_level"], entry["after"], entry["before"]) for entry in logs] == [("error", 10, 21)]

    async def test_nothing_counts_as_drained_before_the_store_was_asked(self) -> None:
        store = ListStore(Watermark("e1", 20))
        store.away = True
        async with running(journal_of(25), store) as bench:
            await bench.until(lambda: store.attempts > 3)
            assert bench.sink.drained == 0


def strategy(name: str, pos: int) -> StrategyUpdate:
    return StrategyUpdate(
        strategy_name=name, class_name="T", vt_symbol="rb.SHFE", author="", parameters={}, variables={"pos": pos}
    )


class TestKept:
    def publish(self, bench: Bench, *events: Contract | StrategyUpdate) -> None:
        bus = Bus()
        bus.subscribe(TOPICS, bench.sink.keep)
        for event in events:
            topic = TOPICS[0] if isinstance(event, Contract) else TOPICS[1]
            bus.publish(Message(topic, "k", "e1", 0, bench.clock.now(), event))

    async def test_the_latest_of_each_is_saved(self) -> None:
        store = ListStore()
        async with running(journal_of(1), store) as bench:
            self.publish(
                bench, contract(1), contract(2), contract(1, pricetick=0.5), strategy("a", 1), strategy("a", 2)
            )
            await bench.until(lambda: bool(store.contracts and store.strategies))
            assert {(each.vt_symbol, each.pricetick) for each in store.contracts} == {
                ("rb1.SHFE", 0.5),
                ("rb2.SHFE", 0.1),
            }
            assert [each.variables["pos"] for each in store.strategies] == [2]

    async def test_many_are_saved_in_batches(self) -> None:
        store = ListStore()
        async with running(journal_of(1), store) as bench:
            self.publish(bench, *(contract(number) for number in range(35)))
            await bench.until(lambda: len(store.contracts) == 35)
            assert {each.symbol for each in store.contracts} == {f"rb{number}" for number in range(35)}

    async def test_what_could_not_be_saved_is_saved_later_unless_there_is_a_newer_one(self) -> None:
        store = ListStore()
        store.away = True
        async with running(journal_of(1), store) as bench:
            self.publish(bench, contract(1), strategy("a", 1), strategy("b", 1))
            await bench.until(lambda: store.attempts > 3)
            self.publish(bench, strategy("a", 2))
            store.away = False
            await bench.until(lambda: bool(store.contracts and len(store.strategies) == 2))
            assert {(each.strategy_name, each.variables["pos"]) for each in store.strategies} == {("a", 2), ("b", 1)}

    async def test_a_chatty_strategy_is_saved_once_a_second(self) -> None:
        journal, store = journal_of(1), ListStore()
        async with running(journal, store, wait=wait_for_event) as bench:
            await bench.drained()
            for pos in range(50):
                self.publish(bench, strategy("a", pos))
                journal.grow(1)
                bench.sink.wake()
                await bench.drained()
            assert len(store.strategies) <= 1
            bench.clock.advance(1)
            bench.sink.wake()
            await bench.until(lambda: bool(store.strategies) and store.strategies[-1].variables["pos"] == 49)

    async def test_what_waits_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sink_module, "KEEP", 5)
        store = ListStore()
        store.away = True
        async with running(journal_of(1), store) as bench:
            self.publish(bench, *(contract(number) for number in range(9)))
            store.away = False
            await bench.until(lambda: bool(store.contracts))
            assert [each.symbol for each in store.contracts] == ["rb4", "rb5", "rb6", "rb7", "rb8"]


class TestClose:
    async def test_it_drains_first(self) -> None:
        journal, store = journal_of(95), ListStore()
        bench = Bench(journal, store)
        bench.sink.start()
        bench.sink.keep(Message(TOPICS[1], "a", "e1", 0, bench.clock.now(), strategy("a", 1)))
        await bench.sink.close(5)
        assert store.seqs == list(range(1, 96))
        assert len(store.strategies) == 1

    async def test_a_database_that_is_away_is_not_waited_for(self) -> None:
        store = ListStore()
        store.away = True
        with capture_logs() as logs:
            async with running(journal_of(5), store, wait=wait_for_event) as bench:
                await bench.until(lambda: bench.sink.state().error != "")
                async with asyncio.timeout(2):
                    await bench.sink.close(60)
        assert logs[-1]["rows"] == 5

    async def test_a_database_that_hangs_is_left_after_the_timeout(self) -> None:
        store = ListStore()
        store.hangs = True
        async with running(journal_of(5), store) as bench:
            async with asyncio.timeout(2):
                await bench.sink.close(0.05)

    async def test_one_that_never_started_can_be_closed(self) -> None:
        await Bench(journal_of(0), ListStore()).sink.close(1)
