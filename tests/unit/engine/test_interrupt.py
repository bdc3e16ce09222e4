import gc
import random
import sys
import threading
import time

import pytest

from vnpy_core.engine.interrupt import CallbackInterrupted, Callbacks


class Victim:
    """A thread that runs callbacks given to it, and keeps what each ended with."""

    def __init__(self) -> None:
        self.callbacks = Callbacks()
        self.ends: list[object] = []
        self.escaped: list[BaseException] = []

    def start(self, *functions) -> None:
        self.thread = threading.Thread(target=self._work, args=(functions,), daemon=True)
        self.thread.start()

    def _work(self, functions) -> None:
        try:
            for function in functions:
                try:
                    self.ends.append(self.callbacks.run(function, None))
                except BaseException as error:  # noqa: BLE001 - what is tested
                    self.ends.append(error)
        except BaseException as error:  # noqa: BLE001 - what is tested
            self.escaped.append(error)

    def wait_for(self, function) -> int:
        """The step at which `function` runs."""
        deadline = time.monotonic() + 5
        while True:
            step = self.callbacks.steps
            if self.callbacks.current is function and self.callbacks.steps == step:
                return step
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def interrupt(self, step: int) -> bool:
        return self.callbacks.interrupt(self.thread.ident, step)

    def join(self) -> None:
        self.thread.join(10)
        assert not self.thread.is_alive()
        assert self.escaped == []


def loop(_) -> None:
    while True:
        pass


def test_a_callback_gets_its_argument_and_gives_back_its_result():
    callbacks = Callbacks()
    assert callbacks.run(lambda x: x + 1, 1) == 2
    assert callbacks.current is None
    with pytest.raises(ZeroDivisionError):
        callbacks.run(lambda x: x / 0, 1)
    assert (callbacks.current, callbacks.steps) == (None, 4)


def test_an_endless_loop_is_ended_within_a_moment_and_what_comes_next_is_not():
    victim = Victim()
    victim.start(loop, lambda _: sum(range(1000)))
    step = victim.wait_for(loop)
    started = time.monotonic()
    assert victim.interrupt(step)
    victim.join()
    assert time.monotonic() - started < 5
    assert isinstance(victim.ends[0], CallbackInterrupted)
    assert "did not return in time" in str(victim.ends[0])
    assert victim.ends[1] == sum(range(1000))


def test_a_step_that_is_over_is_not_interrupted():
    victim = Victim()
    go = threading.Event()
    victim.start(lambda _: 1, lambda _: go.wait(5))
    deadline = time.monotonic() + 5
    while victim.callbacks.steps < 3:
        assert time.monotonic() < deadline
    assert not victim.interrupt(1)
    assert not victim.interrupt(2)
    go.set()
    victim.join()
    assert victim.ends == [1, True]


def test_the_inner_call_is_ended_and_the_outer_one_goes_on():
    victim = Victim()

    def outer(_):
        with pytest.raises(CallbackInterrupted):
            victim.callbacks.run(loop, None)
        assert victim.callbacks.current is outer
        return victim.callbacks.run(lambda _: "the next strategy", None)

    victim.start(outer)
    assert victim.interrupt(victim.wait_for(loop))
    victim.join()
    assert victim.ends == ["the next strategy"]


def test_one_that_keeps_base_exceptions_can_be_asked_again():
    victim = Victim()
    kept = []

    def stubborn(_):
        while len(kept) < 3:
            try:
                while True:
                    pass
            except CallbackInterrupted as error:
                kept.append(error)
        return "gave in"

    victim.start(stubborn)
    step = victim.wait_for(stubborn)
    deadline = time.monotonic() + 10
    while victim.thread.is_alive() and time.monotonic() < deadline:
        victim.interrupt(step)
        time.sleep(0.01)
    victim.join()
    assert victim.ends == ["gave in"]


def test_ten_thousand_aims_at_short_callbacks_never_hit_what_runs_between_them():
    """The race itself, with the interpreter switching threads as often as it can."""
    victim = Victim()
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    ended, interrupted = threading.Event(), []

    def guilty(n):
        for _ in range(n):
            pass

    def work():
        try:
            while not ended.is_set():
                try:
                    victim.callbacks.run(guilty, rng.randrange(300))
                except CallbackInterrupted as error:
                    interrupted.append(error)
                for n in range(3):
                    str(n)
        except BaseException as error:  # noqa: BLE001 - what is tested
            victim.escaped.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    gc.disable()  # an exception that meets a callback of the collector is lost there, and pytest tells of it
    try:
        victim.thread = threading.Thread(target=work, daemon=True)
        victim.thread.start()
        aims, deadline = 0, time.monotonic() + 20
        while aims < 10_000 and time.monotonic() < deadline and victim.thread.is_alive():
            step = victim.callbacks.steps
            if victim.callbacks.current is not None:
                aims += victim.interrupt(step)
        ended.set()
        victim.join()
    finally:
        sys.setswitchinterval(before)
        gc.enable()
    assert aims == 10_000
    assert interrupted
