import asyncio
import threading
import time

import pytest
from structlog.testing import capture_logs
from vnpy.event import Event
from vnpy_ctastrategy import CtaTemplate

from vnpy_core.engine.event_engine import EventGuard, InterruptibleEventEngine
from vnpy_core.engine.interrupt import CallbackInterrupted
from vnpy_core.engine.watchdog import EXIT_CODE, Watchdog
from vnpy_core.kit.clock import SystemClock


class World:
    """An event engine under a watchdog, and what the watchdog did."""

    def __init__(
        self, clock=None, *, limit_s: float = 0.2, patience_s: float = 0.2, exits: bool = True, **doors
    ) -> None:
        self.engine = InterruptibleEventEngine()
        self.guard = EventGuard(self.engine, drain_s=0.1)
        self.guard.install()
        self.hangs, self.held, self.exits = [], [], []
        self.watchdog = Watchdog(
            self.guard,
            clock or SystemClock(),
            limit_s=limit_s,
            interval_s=0.02,
            patience_s=patience_s,
            callbacks=self.guard.callbacks,
            **{
                "on_hang": self.hangs.append,
                "quarantine": lambda hang, reason: self.held.append((hang.culprit, reason)),
                "exit_process": self.exits.append if exits else None,
                **doors,
            },
        )

    async def __aenter__(self):
        self.engine.start()
        self.watchdog.start()
        return self

    async def __aexit__(self, *_):
        await self.watchdog.stop()
        self.engine._active = False

    def call(self, handler) -> None:
        """Let the event thread call `handler`."""
        self.engine.register("eX", handler)
        self.engine.put(Event("eX"))

    async def until(self, condition, seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)

    async def alive(self) -> None:
        handled = self.guard.events_handled
        await self.until(lambda: self.guard.events_handled > handled + 2)


def loop(event) -> None:
    while True:
        pass


class Strategy(CtaTemplate):
    def on_init(self) -> None:
        pass

    def on_tick(self, tick) -> None:
        Helper().work()


class Helper:
    def work(self) -> None:
        while True:
            pass


def strategy(name: str) -> CtaTemplate:
    class Engine:
        def put_strategy_event(self, strategy): ...

    return Strategy(Engine(), name, "rb2701.SHFE", {})


async def test_a_stuck_event_thread_is_seen_and_so_is_its_return():
    engine = InterruptibleEventEngine()
    guard = EventGuard(engine)
    guard.install()
    engine.start()
    watchdog = Watchdog(guard, SystemClock(), limit_s=0.1, interval_s=0.02)
    watchdog.start()
    await asyncio.sleep(0.08)
    assert watchdog.alive
    release = threading.Event()
    engine.register("eX", lambda event: release.wait(10))
    engine.put(Event("eX"))
    async with asyncio.timeout(5):
        while watchdog.alive:
            await asyncio.sleep(0.01)
    assert watchdog.lag_s >= 0.1
    release.set()
    async with asyncio.timeout(5):
        while not watchdog.alive:
            await asyncio.sleep(0.01)
    await watchdog.stop()
    await asyncio.to_thread(engine.stop)
    assert not watchdog.alive


async def test_an_idle_and_a_busy_event_thread_are_left_alone():
    async with World() as world:
        await asyncio.sleep(0.5)
        for _ in range(40):
            world.call(lambda event: time.sleep(0.01))
            await asyncio.sleep(0.01)
        assert (world.hangs, world.held, world.exits) == ([], [], [])


async def test_a_loop_is_ended_after_trading_was_halted_and_the_next_handler_still_sees_the_event():
    seen = []
    order = []
    async with World(on_hang=lambda hang: order.append("halted")) as world:

        def handler(event):
            try:
                loop(event)
            except CallbackInterrupted:
                order.append("interrupted")
                raise

        world.engine.register("eX", handler)
        world.call(seen.append)
        await world.until(lambda: seen)
        await world.alive()
        assert order == ["halted", "interrupted"]
        assert world.guard.handler_errors == 1
        assert world.exits == []


async def test_the_strategy_on_the_stack_is_named_and_held_and_another_handler_is_only_named():
    async with World() as world:
        guilty = strategy("双均线")
        world.call(lambda event: guilty.on_tick(None))
        await world.until(lambda: world.held)
        assert world.held == [("双均线", "a callback did not return within 0.2 s")]
        assert world.hangs[0].strategy_name == "双均线"
        assert "in work" in world.hangs[0].stack
        await world.alive()
        world.engine.unregister("eX", world.engine._handlers["eX"][0])
        world.call(loop)
        await world.until(lambda: len(world.hangs) == 2)
        await world.alive()
        assert (world.hangs[1].strategy_name, world.hangs[1].culprit) == (None, f"{__name__}.loop")
        assert len(world.held) == 1


async def test_what_cannot_be_interrupted_is_held_and_ends_the_process():
    release = threading.Event()

    def stubborn(event):
        while not release.is_set():
            try:
                while not release.is_set():
                    pass
            except CallbackInterrupted:
                continue

    async with World() as world:
        world.call(stubborn)
        await world.until(lambda: world.exits)
        await asyncio.sleep(0.1)
        assert world.exits == [EXIT_CODE]
        [(culprit, reason)] = world.held
        assert "stubborn" in culprit
        assert "could not be interrupted" in reason
        release.set()


async def test_a_dead_event_thread_ends_the_process():
    async with World() as world:
        world.engine._active = False
        await world.until(lambda: world.exits)
        assert "between callbacks" in world.hangs[0].callback


async def test_in_a_host_that_is_not_ours_nothing_is_ended():
    release = threading.Event()
    async with World(exits=False) as world:
        world.call(lambda event: release.wait(10))
        await world.until(lambda: world.held)
        await asyncio.sleep(0.1)
        release.set()
        await world.alive()


@pytest.mark.parametrize("door", ["on_hang", "quarantine"])
async def test_a_door_that_raises_keeps_neither_the_interrupt_nor_the_end(door):
    def broken(*_):
        raise OSError("the disk is gone")

    release = threading.Event()
    async with World(**{door: broken}) as world:
        guilty = strategy("g")
        world.call(lambda event: guilty.on_tick(None))
        await world.until(lambda: world.guard.handler_errors)
        await world.alive()
        world.call(lambda event: release.wait(20))
        await world.until(lambda: world.exits)
        release.set()


async def test_a_quarantine_that_hangs_does_not_keep_a_hung_process_alive(monkeypatch):
    monkeypatch.setattr("vnpy_core.engine.watchdog.WRITE_PATIENCE_S", 0.1)
    release = threading.Event()
    async with World(quarantine=lambda hang, reason: release.wait(20)) as world:
        world.call(lambda event: release.wait(20))
        await world.until(lambda: world.exits)
        release.set()


async def test_time_that_nobody_saw_pass_is_nobodys_fault():
    """A machine that was suspended while a callback ran: the callback is not to blame."""

    class Jumping(SystemClock):
        ahead = 0.0

        def monotonic(self):
            return super().monotonic() + self.ahead

    clock = Jumping()
    release = threading.Event()
    async with World(clock, limit_s=5.0) as world:
        world.call(lambda event: release.wait(10))
        await asyncio.sleep(0.1)
        clock.ahead = 3600.0
        await asyncio.sleep(0.3)
        assert world.hangs == []
        release.set()
        await world.alive()
        assert world.exits == []


async def test_the_last_resort_is_put_off_while_the_loop_runs_and_closed_at_the_end():
    class Resort:
        put_off_times, closed = 0, False

        def put_off(self):
            self.put_off_times += 1

        def close(self):
            self.closed = True

    resort = Resort()
    async with World(last_resort=resort) as world:
        await world.until(lambda: resort.put_off_times > 3)
        assert not resort.closed
    assert resort.closed


async def test_a_hang_is_told_once_with_its_stack():
    with capture_logs() as lines:
        async with World() as world:
            world.call(loop)
            await world.until(lambda: world.guard.handler_errors)
            await world.alive()
    told = [line for line in lines if "a callback does not return" in line["event"]]
    assert [line["log_level"] for line in told] == ["critical"]
    assert "in loop" in told[0]["stack"]
