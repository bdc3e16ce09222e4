"""The recorder, step by step on a clock of ours, and with its own thread: nothing wanted is lost but what it tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from testkit.clock import FakeClock
from testkit.memory_timeseries import MemoryTimeSeries
from vnpy_core.adapters.timeseries.intake import MOST_ROWS, NOT_READABLE, SILENT_S
from vnpy_core.adapters.timeseries.live_bars import GRACE_S
from vnpy_core.adapters.timeseries.losses import JOIN_S, MOST_GAPS
from vnpy_core.adapters.timeseries.recorder import FULL, LONGEST_WAIT_S, REFUSED, STOPPED, TRIES, Recorder
from vnpy_core.adapters.timeseries.settings import RecorderSettings
from vnpy_core.adapters.timeseries.tick_rows import TickPacker
from vnpy_core.domain.bars import Period, bars_from_ticks
from vnpy_core.domain.errors import (
    ConfigurationError,
    CoreError,
    StorageFull,
    TimeSeriesUnavailable,
    ValidationFailed,
)
from vnpy_core.domain.events import Tick
from vnpy_core.domain.history import (
    LAST_NS,
    TICK_NUMBERS,
    BarArray,
    Interval,
    Series,
    TickArray,
    TickBatch,
    empty_bars,
    empty_ticks,
    tick_values,
    to_ns,
)
from vnpy_core.kit.flow import CreditFlow

RB, AU = Series("rb2701", "SHFE"), Series("au2702", "SHFE")
START = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)


def tick(moment: datetime = START, series: Series = RB, gateway: str = "CTP", **numbers: Any) -> Tick:
    return Tick(
        gateway_name=gateway, vt_symbol=series.vt_symbol, symbol=series.symbol, exchange=series.exchange,
        datetime=moment, **{"last_price": 1.0, **numbers},
    )  # fmt: skip


class Bench:
    """A recorder on a clock that only `advance` moves, and a store that outlives it."""

    def __init__(self, folder: Path, **wanted: Any) -> None:
        self.clock = FakeClock(START)
        self.store = MemoryTimeSeries()
        self.flow = CreditFlow()
        self.path = folder / "recorder.json"
        self.settings = RecorderSettings(**wanted)
        self.recorder = self.new()

    def new(self) -> Recorder:
        """Another life."""
        self.recorder = Recorder(self.store, self.settings, self.clock, self.flow, self.path)
        return self.recorder

    def take(self, *ticks: Tick) -> None:
        for each in ticks:
            self.recorder.take(each)

    def write(self) -> None:
        self.recorder.step(write=True)
        assert "Error" not in self.recorder.state().error, "an error that nobody expects"

    def settle(self) -> None:
        """Long enough for every minute to be over and every bar written."""
        for _ in range(6):
            self.clock.advance(60 + GRACE_S)
            self.write()

    def ticks(self, series: Series = RB) -> TickArray:
        return np.concatenate([empty_ticks(), *self.store.ticks(series, 0, LAST_NS)])

    def bars(self, series: Series = RB) -> BarArray:
        return np.concatenate([empty_bars(), *self.store.bars(series, Interval.MINUTE, 0, LAST_NS)])

    def expected(self, series: Series = RB) -> BarArray:
        return np.concatenate(
            [empty_bars(), *bars_from_ticks([self.ticks(series)], Period.parse("1m"), series.exchange)]
        )


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Bench]:
    return lambda **wanted: Bench(tmp_path, **wanted)


@pytest.fixture
def bench(make: Callable[..., Bench]) -> Bench:
    return make()


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


# --- ticks ---


def test_every_number_of_a_tick_is_stored(bench):
    numbers = {name: float(place) for place, name in enumerate(TICK_NUMBERS, 1)}
    received = after(0.123456)
    bench.take(tick(after(0.5), localtime=received, name="rebar", **numbers))
    bench.write()
    (row,) = bench.ticks()
    assert row["ts"] == to_ns(after(0.5))
    assert row["localtime"] == to_ns(received)
    assert {name: row[name] for name in TICK_NUMBERS} == numbers
    assert bench.store.overview()[0].name == "rebar"


def test_ticks_of_one_time_are_all_stored_in_their_order(bench):
    bench.take(*(tick(last_price=float(price)) for price in (3, 1, 2)))
    bench.write()
    bench.take(tick(last_price=4.0))
    bench.write()
    assert bench.ticks()["last_price"].tolist() == [3.0, 1.0, 2.0, 4.0]


@given(st.lists(st.datetimes(datetime(1971, 1, 1), datetime(2105, 12, 31)), min_size=1, max_size=20), st.data())
def test_the_quick_layout_is_the_simple_one(times, data):
    series = [RB, AU]
    ticks = [
        tick(
            moment.replace(tzinfo=UTC),
            data.draw(st.sampled_from(series)),
            localtime=data.draw(st.none() | st.just(START)),
        )
        for moment in times
    ]
    packer = TickPacker()
    for each in ticks:
        packer.add(each, [RB.symbol, AU.symbol].index(each.symbol))
    batch = packer.batch(series, 100)
    for each in series:
        rows = [row.item() for row in batch.ticks.get(each, empty_ticks())]
        assert rows == [tick_values(one) for one in ticks if one.symbol == each.symbol]


def test_numbers_that_are_none_are_stored_as_absent(bench):
    bench.take(
        tick(open_interest=float("nan"), limit_up=1.7976931348623157e308, limit_down=float("-inf"), pre_close=-3.0)
    )
    bench.write()
    (row,) = bench.ticks()
    assert [row[name] for name in ("open_interest", "limit_up", "limit_down", "pre_close")] == [0.0, 0.0, 0.0, -3.0]


def test_a_tick_that_cannot_be_read_is_told_and_keeps_no_other_back(bench):
    bench.take(tick(), tick(volume=None), tick(after(1)))
    bench.write()
    assert bench.ticks().size == 2
    state = bench.recorder.state()
    assert (state.recorded, state.dropped, state.waiting) == (2, 1, 0)
    assert [(gap.vt_symbol, gap.count, gap.reason) for gap in state.gaps] == [(RB.vt_symbol, 1, NOT_READABLE)]


def test_many_more_ticks_than_a_batch_are_all_stored(make):
    bench = make(ring=3 * MOST_ROWS)
    bench.take(*[tick()] * 900, *(tick(after(number / 1000), AU) for number in range(2 * MOST_ROWS)))
    bench.write()
    assert (bench.ticks(RB).size, bench.ticks(AU).size) == (900, 2 * MOST_ROWS)
    assert bench.recorder.state().recorded == 900 + 2 * MOST_ROWS


# --- what is recorded ---


@pytest.mark.parametrize(
    ("patterns", "recorded"),
    [
        (["*"], {RB, AU}),
        (["rb*.SHFE"], {RB}),
        (["RB*.SHFE"], set()),
        (["au2702.SHFE"], {AU}),
        (["*.GLOBAL"], set()),
        ([], set()),
    ],
)
def test_only_contracts_on_the_list_are_recorded(make, patterns, recorded):
    bench = make(symbols=patterns)
    bench.take(tick(series=RB), tick(series=AU))
    bench.write()
    assert {each.series for each in bench.store.overview()} == recorded


def test_a_changed_list_holds_at_once_and_after_a_restart(bench):
    bench.take(tick())
    bench.recorder.set_patterns(("au*",))
    bench.take(tick(after(1)), tick(after(1), AU))
    bench.write()
    assert (bench.ticks(RB).size, bench.ticks(AU).size) == (1, 1)
    assert bench.new().patterns == ("au*",)


@pytest.mark.parametrize("patterns", [("",), ("rb*", " au*"), ("a b",), ("x" * 101,), ("*",) * 5001])
def test_a_wrong_list_is_refused_and_changes_nothing(bench, patterns):
    with pytest.raises(ValidationFailed) as refused:
        bench.recorder.set_patterns(patterns)
    assert refused.value.errors
    assert bench.recorder.patterns == ("*",)
    assert not bench.path.exists()


@pytest.mark.parametrize("content", [b"", b"{", b'{"symbols": 3}', b'{"symbols": ["*"], "more": 1}', b'["*"]', b"\xff"])
def test_a_broken_list_is_a_configuration_error_that_names_the_file(make, tmp_path, content):
    (tmp_path / "recorder.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match="recorder.json is broken"):
        make()


def test_a_list_that_cannot_be_saved_does_not_hold(bench):
    bench.path.mkdir()
    with pytest.raises(TimeSeriesUnavailable, match="cannot be written"):
        bench.recorder.set_patterns(("rb*",))
    assert bench.recorder.patterns == ("*",)


def test_a_gateway_that_replays_is_not_recorded(bench):
    bench.recorder.ignore_gateway("REPLAY")
    bench.take(tick(gateway="REPLAY"), tick())
    bench.write()
    assert bench.ticks().size == 1
    assert bench.recorder.state().ignored == 1
    bench.recorder.ignore_gateway("REPLAY", ignored=False)
    bench.take(tick(series=AU, gateway="REPLAY"))
    bench.write()
    assert bench.ticks(AU).size == 1


def test_of_two_gateways_the_first_is_recorded_until_it_is_silent(bench):
    bench.take(tick(gateway="A"), tick(gateway="B"), tick(gateway="B", series=AU), tick(gateway="A", series=AU))
    bench.write()
    assert (bench.ticks(RB).size, bench.ticks(AU).size) == (1, 1)
    bench.clock.advance(SILENT_S - 1)
    bench.take(tick(after(1), gateway="B"))
    bench.write()
    assert bench.recorder.state().ignored == 3
    bench.clock.advance(1)
    bench.take(tick(after(2), gateway="B"), tick(after(3), gateway="A"))
    bench.write()
    assert bench.ticks(RB)["ts"].tolist() == [to_ns(START), to_ns(after(2))]
    assert bench.recorder.state().ignored == 4


def test_ticks_of_another_day_are_not_recorded_but_counted(bench):
    bench.take(tick(START - timedelta(days=1)), tick(START + timedelta(days=1)), tick(START - timedelta(hours=23)))
    bench.write()
    state = bench.recorder.state()
    assert (state.recorded, state.stale, state.waiting, state.dropped) == (1, 2, 0, 0)


def test_a_replay_of_old_ticks_does_not_keep_the_live_gateway_from_being_recorded(bench):
    bench.take(tick(START - timedelta(days=900), gateway="OLD"), tick(gateway="LIVE"))
    bench.write()
    assert bench.ticks().size == 1


# --- a store that is away, or refuses ---


def test_while_the_store_is_away_ticks_wait_and_none_is_stored_twice(bench):
    bench.store.failures = [TimeSeriesUnavailable("away"), StorageFull("full")]
    bench.take(tick())
    bench.write()
    assert bench.recorder.state().error == "away"
    assert bench.recorder.state().waiting == 1
    bench.write()
    assert bench.recorder.state().error == "away", "it is not tried again at once"
    bench.clock.advance(LONGEST_WAIT_S)
    bench.take(tick(after(1)))
    bench.write()
    state = bench.recorder.state()
    assert (state.error, state.waiting, state.lag_ms) == ("full", 2, LONGEST_WAIT_S * 1000)
    bench.clock.advance(LONGEST_WAIT_S)
    bench.write()
    assert bench.ticks()["ts"].tolist() == [to_ns(START), to_ns(after(1))]
    state = bench.recorder.state()
    assert (state.error, state.waiting, state.recorded, state.lag_ms) == ("", 0, 2, 0.0)


def test_the_ring_is_bounded_and_what_it_has_no_room_for_is_told(make):
    bench = make(ring=1000)
    bench.store.failures = [TimeSeriesUnavailable("away")]
    bench.take(*(tick(after(number)) for number in range(700)))
    bench.write()
    bench.take(*(tick(after(number)) for number in range(700, 1500)), tick(after(3), AU))
    state = bench.recorder.state()
    assert (state.waiting, state.dropped) == (1000, 501)
    assert [(gap.vt_symbol, gap.start, gap.end, gap.count, gap.reason) for gap in state.gaps] == [
        (RB.vt_symbol, after(1000), after(1499), 500, FULL), (AU.vt_symbol, after(3), after(3), 1, FULL),
    ]  # fmt: skip
    bench.clock.advance(LONGEST_WAIT_S)
    bench.write()
    bench.take(tick(after(1500)))
    bench.write()
    assert bench.ticks()["ts"].tolist() == [to_ns(after(number)) for number in [*range(1000), 1500]]
    state = bench.recorder.state()
    assert (state.recorded, state.waiting) == (1001, 0)
    assert state.symbols[RB.vt_symbol] == msgspec.structs.replace(
        state.symbols[RB.vt_symbol], recorded=1001, dropped=500, last_tick=after(1500)
    )
    assert (state.symbols[AU.vt_symbol].recorded, state.symbols[AU.vt_symbol].dropped) == (0, 1)


def test_losses_with_time_between_are_several_gaps_and_the_list_is_bounded(make):
    bench = make(ring=1000)
    bench.take(*[tick()] * 1000)
    for number in range(MOST_GAPS + 10):
        bench.take(tick(after(number)), tick(after(number + 0.5)))
        bench.clock.advance(JOIN_S + 1)
    gaps = bench.recorder.state().gaps
    assert len(gaps) == MOST_GAPS
    assert (gaps[0].start, gaps[0].end, gaps[0].count) == (after(10), after(10.5), 2)


class PickyStore(MemoryTimeSeries):
    """Fails at one series in ways that the port does not know."""

    def __init__(self, refused: Series, error: Exception) -> None:
        super().__init__()
        self.refused = refused
        self.error = error

    def append_ticks(self, batch: TickBatch) -> None:
        if self.refused in batch.ticks:
            raise self.error
        super().append_ticks(batch)


@pytest.mark.parametrize("error", [ValidationFailed("more than 1000 ticks in one microsecond"), ZeroDivisionError()])
def test_what_the_store_refuses_is_given_up_told_and_keeps_no_other_back(tmp_path, error):
    bench = Bench(tmp_path)
    bench.store = PickyStore(RB, error)
    bench.new()
    bench.take(tick(), tick(after(1)), tick(series=AU))
    with capture_logs():
        for _ in range(2 * TRIES + 1):
            bench.recorder.step(write=True)
            bench.clock.advance(LONGEST_WAIT_S)
    assert bench.ticks(AU).size == 1
    state = bench.recorder.state()
    assert (state.recorded, state.dropped, state.waiting, state.error) == (1, 2, 0, "")
    assert [(gap.vt_symbol, gap.start, gap.end, gap.reason) for gap in state.gaps] == [
        (RB.vt_symbol, START, after(1), REFUSED)
    ]


def test_a_store_that_could_not_be_opened_is_opened_later(bench, monkeypatch):
    answers: list[Exception | None] = [TimeSeriesUnavailable("away"), None]

    def open_() -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(bench.store, "open", open_)
    bench.take(tick())
    bench.write()
    assert bench.ticks().size == 0
    bench.clock.advance(LONGEST_WAIT_S)
    bench.write()
    bench.write()
    assert bench.ticks().size == 1
    assert not answers


def test_bars_that_cannot_be_written_keep_no_tick_back(bench, monkeypatch):
    def refuse(*_: object) -> None:
        raise TimeSeriesUnavailable("no bars now")

    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "merge_bars", refuse)
        bench.take(tick(), tick(after(60)))
        bench.write()
        bench.take(tick(after(61)))
        bench.write()
        assert bench.ticks().size == 3
        assert bench.recorder.state().error == "no bars now"
    bench.clock.advance(LONGEST_WAIT_S)
    bench.write()
    assert bench.bars().tobytes() == bench.expected()[:1].tobytes()
    assert bench.recorder.state().error == ""


def test_a_store_that_cannot_say_what_it_has_gets_its_bars_and_is_not_asked_for_ever(bench, monkeypatch):
    asked = []

    def refuse() -> None:
        asked.append(bench.clock.monotonic())
        raise TimeSeriesUnavailable("that takes too long")

    monkeypatch.setattr(bench.store, "overview", refuse)
    for number in range(10):
        bench.take(tick(after(60 * number)))
        bench.clock.advance(60)
        bench.write()
    assert len(bench.bars()) >= 8
    assert len(asked) == TRIES
    assert bench.recorder.state().error == ""


# --- a replay that waits ---


def test_a_fast_replay_is_held_at_half_a_ring_and_goes_on_when_it_is_written(make):
    bench = make(ring=1000)
    bench.take(*[tick()] * 500)
    assert bench.flow.open
    bench.take(tick())
    assert not bench.flow.open
    bench.store.failures = [TimeSeriesUnavailable("away")]
    bench.write()
    assert not bench.flow.open
    bench.clock.advance(LONGEST_WAIT_S)
    bench.write()
    assert bench.flow.open


def test_the_end_lets_a_replay_go(make):
    bench = make(ring=1000)
    bench.store.failures = [TimeSeriesUnavailable("away")] * 9
    bench.take(*[tick()] * 501)
    with capture_logs() as logs:
        bench.recorder.stop()
    assert bench.flow.open
    assert [(log["event"], log["count"]) for log in logs] == [("ticks were not written", 501)]
    bench.take(tick())
    assert bench.flow.open
    assert bench.recorder.state().gaps[-1].reason == STOPPED


# --- bars ---


def test_a_bar_is_written_when_a_tick_of_the_next_minute_came(bench):
    bench.take(*(tick(after(second), last_price=100.0 + second, volume=float(second)) for second in (0, 20, 59)))
    bench.write()
    assert bench.bars().size == 0
    bench.take(tick(after(60)))
    bench.write()
    (bar,) = bench.bars()
    assert (bar["ts"], bar["open_price"], bar["high_price"], bar["close_price"], bar["volume"]) == (
        to_ns(START), 100.0, 159.0, 159.0, 59.0,
    )  # fmt: skip
    assert bench.recorder.state().bars == 1


def test_a_bar_is_written_when_the_clock_has_passed_its_end_and_no_tick_came_for_as_long(bench):
    bench.take(tick())
    bench.write()
    bench.clock.advance(60 + GRACE_S - 0.001)
    bench.write()
    assert bench.bars().size == 0
    bench.clock.advance(0.001)
    bench.write()
    assert bench.bars().size == 1


def test_ticks_that_lag_behind_the_clock_still_share_their_bar(bench):
    bench.clock.advance(600)
    for second in range(0, 59, 4):
        bench.take(tick(after(second), last_price=float(second + 1)))
        bench.write()
        bench.clock.advance(GRACE_S - 1)
    assert bench.bars().size == 0
    bench.take(tick(after(60)))
    bench.write()
    assert bench.bars()["high_price"].tolist() == [57.0]


def test_a_restart_within_a_minute_leaves_no_partial_bar(bench):
    bench.take(*(tick(after(second), last_price=float(second), volume=float(second)) for second in (1, 5, 9)))
    bench.write()
    bench.recorder.step(write=True, ending=True)
    assert bench.bars().size == 0
    bench.new()
    bench.take(*(tick(after(second), last_price=float(second), volume=float(second)) for second in (30, 50, 61)))
    bench.write()
    (bar,) = bench.bars()
    assert (bar["open_price"], bar["close_price"], bar["volume"]) == (1.0, 50.0, 49.0)


def test_the_minute_that_a_kill_cut_off_is_built_at_the_next_start_without_another_tick(bench):
    bench.take(tick(), tick(after(61)), tick(after(62), AU))
    bench.write()
    bench.new()
    bench.clock.advance(3600)
    bench.write()
    assert bench.bars(RB)["ts"].tolist() == [to_ns(START), to_ns(after(60))]
    assert bench.bars(AU)["ts"].tolist() == [to_ns(after(60))]


def test_bars_that_a_kill_kept_from_being_written_are_built_at_the_next_start(bench, monkeypatch):
    bench.take(tick())
    bench.write()
    bench.take(tick(after(60)))
    bench.write()
    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "merge_bars", lambda *_: pytest.fail("killed before"))
        bench.take(*(tick(after(second)) for second in (125, 190, 255)))
        with pytest.raises(pytest.fail.Exception):
            bench.write()
    bench.new()
    bench.settle()
    assert bench.bars().tobytes() == bench.expected().tobytes()
    assert bench.bars().size == 5


def test_a_minute_that_is_over_at_the_end_is_written_at_once(bench):
    bench.take(tick())
    bench.write()
    bench.clock.advance(60)
    bench.recorder.step(write=True, ending=True)
    assert bench.bars().size == 1


def test_late_ticks_change_the_bars_that_they_belong_to(bench):
    bench.take(tick(after(10), volume=1.0), tick(after(70), volume=5.0), tick(after(130), volume=9.0))
    bench.write()
    assert bench.bars()["volume"].tolist() == [0.0, 4.0]
    bench.take(tick(after(50), volume=3.0, last_price=7.0))
    bench.write()
    bench.settle()
    assert bench.bars()["volume"].tolist() == [2.0, 2.0, 4.0]
    assert bench.bars().tobytes() == bench.expected().tobytes()


def test_ticks_that_were_imported_long_ago_are_left_without_bars(bench):
    old = empty_ticks(3)
    old["ts"] = [to_ns(START - timedelta(days=days)) for days in (30, 20, 10)]
    old["last_price"] = 1.0
    bench.store.merge_ticks(RB, old)
    bench.settle()
    assert bench.bars().size == 0


def test_a_late_tick_that_a_kill_follows_is_in_its_bar_after_the_next_start(bench):
    bench.take(tick(after(10), volume=1.0), tick(after(70), volume=5.0))
    bench.write()
    bench.settle()
    bench.take(tick(after(50), volume=3.0))
    bench.write()
    bench.new()
    bench.settle()
    assert bench.bars()["volume"].tolist() == [2.0, 2.0]


def test_the_tick_before_is_found_behind_many_without_a_price(bench):
    bench.take(tick(volume=10.0), *(tick(after(1 + n / 100), last_price=0.0) for n in range(300)))
    bench.write()
    bench.new()
    bench.take(tick(after(70), volume=15.0, last_volume=99.0))
    bench.write()
    bench.settle()
    assert bench.bars()["volume"].tolist() == [0.0, 5.0]


events = st.one_of(
    st.tuples(
        st.sampled_from(["tick", "two ticks"]), st.sampled_from(["rb2701", "au2702"]), st.integers(-150, 30),
        st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from([0.0, 0.1, 5.3, 7.0]),
    ),
    st.tuples(st.just("advance"), st.integers(1, 100)),
    st.tuples(st.sampled_from(["write", "write", "kill", "stop", "away"])),
)  # fmt: skip


@given(st.lists(events, min_size=5, max_size=60))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_stored_bars_are_those_of_the_stored_ticks_whatever_happens(tmp_path, happenings):
    """Late ticks, kills, stops and an absent store, in any order."""
    bench = Bench(tmp_path)
    recorded = 0
    for what, *details in happenings:
        match what:
            case "tick" | "two ticks":
                symbol, offset, price, volume = details
                moment = bench.clock.now() + timedelta(seconds=offset)
                numbers = {"last_price": price, "high_price": price, "volume": volume, "last_volume": 1.0}
                one = tick(moment, Series(symbol, "SHFE"), **numbers)
                bench.take(*[one] * (1 + (what == "two ticks")))
            case "advance":
                bench.clock.advance(details[0])
            case "write":
                bench.write()
            case "away":
                bench.store.failures = [TimeSeriesUnavailable("away")]
                bench.write()
            case _:
                if what == "stop":
                    bench.recorder.step(write=True, ending=True)
                recorded += bench.recorder.state().recorded
                bench.new()
    bench.store.failures = []
    bench.settle()
    recorded += bench.recorder.state().recorded
    for series in (RB, AU):
        assert bench.bars(series).tobytes() == bench.expected(series).tobytes()
    assert bench.ticks(RB).size + bench.ticks(AU).size == recorded


# --- its own thread ---


@contextmanager
def running(store: MemoryTimeSeries, folder: Path, **wanted: Any) -> Iterator[Recorder]:
    from vnpy_core.kit.clock import SystemClock

    recorder = Recorder(
        store, RecorderSettings(**{"flush_ms": 20, **wanted}), SystemClock(), CreditFlow(), folder / "r.json"
    )
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.stop()


def test_the_thread_writes_by_itself(tmp_path):
    store = MemoryTimeSeries()
    with running(store, tmp_path) as recorder:
        recorder.take(tick(datetime.now(UTC)))
        until(lambda: recorder.state().recorded == 1)
    assert store.overview()[0].count == 1


def test_the_end_writes_what_waits(tmp_path):
    store = MemoryTimeSeries()
    with running(store, tmp_path, flush_ms=60_000) as recorder:
        until(lambda: recorder._durable_at > 0)
        for _ in range(5000):
            recorder.take(tick(datetime.now(UTC)))
    assert store.overview()[0].count == 5000
    assert recorder.state().waiting == 0


def test_an_outage_of_some_tries_is_survived(tmp_path):
    store = MemoryTimeSeries()
    store.failures = [TimeSeriesUnavailable("away"), StorageFull("full")]
    with running(store, tmp_path) as recorder:
        recorder.take(tick(datetime.now(UTC)))
        until(lambda: recorder.state().recorded == 1)
        until(lambda: recorder.state().error == "")  # which is said a moment later


def test_a_replay_that_fails_when_it_is_let_go_does_not_end_the_recording(tmp_path):
    def fail() -> None:
        raise RuntimeError("the replay's own")

    store = MemoryTimeSeries()
    with running(store, tmp_path, ring=1_000, flush_ms=200) as recorder, capture_logs() as logs:
        for _ in range(600):
            recorder.take(tick(datetime.now(UTC)))
        assert not recorder._flow.open
        recorder._flow.when_open(fail)
        until(lambda: recorder.state().recorded == 600)
        until(lambda: bool(logs))
        recorder.take(tick(datetime.now(UTC)))
        until(lambda: recorder.state().recorded == 601)
    assert [log["event"] for log in logs] == ["the recorder met an unexpected error"]


class HangingStore(MemoryTimeSeries):
    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.reached = threading.Event()

    def append_ticks(self, batch: TickBatch) -> None:
        self.reached.set()
        self.go_on.wait()
        super().append_ticks(batch)


def test_a_store_that_hangs_does_not_hold_up_the_end_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("vnpy_core.adapters.timeseries.recorder.STOP_S", 0.2)
    store = HangingStore()
    with running(store, tmp_path) as recorder, capture_logs() as logs:
        recorder.take(tick(datetime.now(UTC)))
        assert store.reached.wait(20)
        recorder.stop()
        store.go_on.set()
    assert [(log["event"], log["count"]) for log in logs] == [("ticks were not written", 1)]


def test_everybody_may_ask_and_change_the_list_while_ticks_come(tmp_path):
    store = MemoryTimeSeries()
    contracts = [Series(f"c{number}", "SHFE") for number in range(200)]
    failed: list[BaseException] = []
    over = threading.Event()

    def ask(recorder: Recorder) -> None:
        try:
            while not over.is_set():
                recorder.state()
                recorder.set_patterns(("*",))
                time.sleep(0.001)
        except CoreError as error:
            failed.append(error)

    with running(store, tmp_path, ring=2000) as recorder:
        askers = [threading.Thread(target=ask, args=(recorder,)) for _ in range(3)]
        for each in askers:
            each.start()
        sent = 0
        for number in range(20_000):
            recorder.take(tick(datetime.now(UTC), contracts[number % len(contracts)]))
            sent += 1
            if number % 500 == 0:
                time.sleep(0.002)
        until(lambda: recorder.state().waiting == 0)
        over.set()
        for each in askers:
            each.join()
        state = recorder.state()
    assert not failed
    assert state.recorded + state.dropped == sent
    assert sum(each.recorded for each in state.symbols.values()) == sum(
        each.count for each in store.overview() if not each.interval
    )
    assert sum(gap.count for gap in state.gaps) == state.dropped
