"""How a strategy's callbacks are called, and what becomes of what they raise."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from vnpy.event import Event
from vnpy_ctastrategy.base import EVENT_CTA_LOG

from vnpy_core.engine.apps.cta_calls import EVENT_FAILED, LONGEST, CtaCalls
from vnpy_core.engine.event_engine import EventGuard, InterruptibleEventEngine
from vnpy_core.engine.interrupt import CallbackInterrupted


class Bench:
    """A real event engine, whose thread is this one, and an engine with strategies that have orders."""

    def __init__(self) -> None:
        self.events = InterruptibleEventEngine()
        self.events._thread = threading.current_thread()
        self.put: list[Event] = []
        self.events.put = self.put.append
        self.guard = EventGuard(self.events)
        self.cancelled: list[str] = []
        self.failed: list[str] = []
        self.engine: Any = SimpleNamespace(
            strategies={}, strategy_orderid_map={}, cancel_order=lambda strategy, vt_orderid: self.cancel(vt_orderid)
        )
        self.calls = CtaCalls(
            self.engine,
            self.events,
            self.guard,
            may_call=lambda strategy, function: strategy.may_call,
            on_failed=self.failed.append,
        )

    def cancel(self, vt_orderid: str) -> None:
        self.cancelled.append(vt_orderid)
        if vt_orderid == "broken":
            raise RuntimeError("no gateway")

    def strategy(self, name: str = "s", *, inited: bool = True, may_call: bool = True) -> Any:
        strategy = SimpleNamespace(strategy_name=name, inited=inited, trading=inited, may_call=may_call)
        self.engine.strategies[name] = strategy
        return strategy


@pytest.fixture
def bench() -> Bench:
    return Bench()


def elsewhere(function) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(5)


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_callback_gets_its_argument_or_none_on_any_thread(bench, where):
    got: list[object] = []

    def work() -> None:
        bench.calls.call(bench.strategy(), got.append, "tick")
        bench.calls.call(bench.strategy(), lambda: got.append("no argument"))

    work() if where == "here" else elsewhere(work)
    assert got == ["tick", "no argument"]
    assert bench.calls.failures == {}


def test_one_that_is_not_initialised_is_called_only_where_it_may_be(bench):
    got: list[str] = []
    bench.calls.call(bench.strategy(inited=False, may_call=False), got.append, "old order")
    bench.calls.call(bench.strategy(inited=False), got.append, "on_init")
    assert got == ["on_init"]


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(3), CallbackInterrupted(), KeyboardInterrupt()])
def test_whatever_a_callback_raises_ends_its_strategy_and_nothing_else(bench, error):
    strategy, other = bench.strategy(), bench.strategy("other")

    def raises(tick: object) -> None:
        raise error

    bench.engine.strategy_orderid_map["s"] = {"broken", "P.1", "STOP.1"}
    bench.calls.call(strategy, raises, "tick")
    assert (strategy.inited, strategy.trading) == (False, False)
    assert (other.inited, other.trading) == (True, True)
    assert type(error).__name__ in bench.calls.failures["s"]
    assert set(bench.cancelled) == {"broken", "P.1", "STOP.1"}  # one that cannot be cancelled keeps none of them in
    assert bench.failed == ["s"]
    [line] = [event.data for event in bench.put if event.type == EVENT_CTA_LOG]
    assert line.extra == {"strategy_name": "s"}


def test_what_it_raised_first_is_what_is_told(bench):
    strategy = bench.strategy()
    for number in range(2):
        bench.calls.fail(strategy, ValueError(f"number {number}"))
    assert bench.calls.failures["s"].endswith("number 0")
    assert bench.failed == ["s"]


def test_the_reason_is_bounded_and_shows_the_strategys_code_and_not_ours(bench):
    def raises(tick: object) -> None:
        raise ValueError("x" * 10 * LONGEST)

    bench.calls.call(bench.strategy(), raises, "tick")
    assert len(bench.calls.failures["s"]) == LONGEST

    def raises_shortly(tick: object) -> None:
        raise ValueError("short")

    bench.calls.call(bench.strategy("t"), raises_shortly, "tick")
    assert "test_cta_calls.py" in bench.calls.failures["t"]
    assert 'cta_calls.py", line' not in bench.calls.failures["t"].replace("test_cta_calls.py", "")


def test_on_another_thread_the_orders_are_left_to_the_event_thread(bench):
    strategy = bench.strategy()
    bench.engine.strategy_orderid_map["s"] = {"P.1"}
    elsewhere(lambda: bench.calls.fail(strategy, ValueError("no")))
    assert bench.cancelled == []
    assert [event.data for event in bench.put if event.type == EVENT_FAILED] == [strategy]


def test_an_endless_callback_is_ended_alone(bench):
    """The watchdog aims at the innermost call: the next strategy still gets the tick."""
    looping, begun, got = bench.strategy(), threading.Event(), []

    def loop(tick: object) -> None:
        begun.set()
        while True:
            pass

    def handler(tick: object) -> None:  # as CtaEngine's own
        bench.calls.call(looping, loop, tick)
        bench.calls.call(bench.strategy("next"), got.append, tick)

    def interrupt() -> None:
        assert begun.wait(5)
        callbacks = bench.guard.callbacks
        assert callbacks.interrupt(bench.events._thread.ident, callbacks.steps)

    watchdog = threading.Thread(target=interrupt)
    watchdog.start()
    bench.guard.callbacks.run(handler, "tick")
    watchdog.join(5)
    assert "did not return in time" in bench.calls.failures["s"]
    assert got == ["tick"]
