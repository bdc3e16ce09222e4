"""A CtaEngine without VnPy: it answers the `StrategyEngine` port at once from memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from vnpy_core.domain.enums import Direction, Offset, StrategyState
from vnpy_core.domain.errors import Conflict, NotFound
from vnpy_core.domain.events import StopOrderUpdate, StrategyUpdate
from vnpy_core.domain.strategies import LoadError, Parameter, Reloaded, StrategyClass

DOUBLE_MA = StrategyClass(
    class_name="DoubleMa",
    author="tester",
    doc="Two averages.",
    parameters=[
        Parameter(name="fast", type="int", default=10),
        Parameter(name="slow", type="int", default=20),
        Parameter(name="ratio", type="float", default=0.5),
        Parameter(name="label", type="str", default="a"),
    ],
    variables=["fast_ma", "slow_ma"],
    module="strategies.double_ma",
    file="double_ma.py",
    hash="h1",
    shipped=False,
)


class FakeStrategies:
    """Loop thread only. Whatever is asked works at once, unless one of the switches below says otherwise."""

    def __init__(self) -> None:
        self.known_classes: dict[str, StrategyClass] = {DOUBLE_MA.class_name: DOUBLE_MA}
        self.failed: list[LoadError] = []
        self.on_reload: dict[str, StrategyClass] = {}
        """The classes that the next reload finds."""
        self.missing = ""
        """Why the app is not loaded, where it is not."""
        self.errors: dict[tuple[str, str], Exception] = {}
        """`(method, strategy)` -> what it raises."""
        self.failures: dict[tuple[str, str], str] = {}
        """`(method, strategy)` -> what its callback raises: the strategy is FAILED then."""
        self.init_hold: asyncio.Event | None = None
        """on_init returns when it is set."""
        self.holds_init = False
        """on_init does not return."""
        self.edit_hold: asyncio.Event | None = None
        self.asked: list[tuple[Any, ...]] = []
        """What was changed: the method, the name, and by whom where that is told."""
        self._strategies: dict[str, StrategyUpdate] = {}
        self._stops: list[StopOrderUpdate] = []
        self._initialising: dict[str, asyncio.Task[None]] = {}

    # What a test prepares

    def put(self, name: str = "demo", state: StrategyState = StrategyState.CREATED, **fields: Any) -> StrategyUpdate:
        """A strategy that is there."""
        known: dict[str, Any] = {
            "class_name": "DoubleMa",
            "vt_symbol": "rb2505.SHFE",
            "author": "tester",
            "parameters": {each.name: each.default for each in DOUBLE_MA.parameters},
            "variables": {"fast_ma": 0.0, "slow_ma": 0.0},
            "class_file": DOUBLE_MA.file,
            "class_hash": DOUBLE_MA.hash,
        }
        return self._keep(StrategyUpdate(strategy_name=name, **(known | fields)), state, fields.get("error"))

    def put_stop(self, number: int, strategy_name: str = "demo") -> StopOrderUpdate:
        """A local stop order that waits."""
        stop = StopOrderUpdate(
            stop_orderid=f"STOP.{number}",
            vt_symbol="rb2505.SHFE",
            direction=Direction.LONG,
            offset=Offset.OPEN,
            price=3500.0,
            volume=1.0,
            strategy_name=strategy_name,
            status="WAITING",
            vt_orderids=[],
        )
        self._stops.append(stop)
        return stop

    # The port

    def classes(self) -> list[StrategyClass]:
        self._loaded()
        return [self.known_classes[name] for name in sorted(self.known_classes)]

    def load_errors(self) -> list[LoadError]:
        self._loaded()
        return self.failed

    async def reload(self) -> Reloaded:
        self._loaded()
        before, self.known_classes = self.known_classes, self.on_reload or self.known_classes
        changed = [
            name for name, each in self.known_classes.items() if name not in before or before[name].hash != each.hash
        ]
        for strategy in self.strategies():
            if strategy.class_name in changed:
                self._strategies[strategy.strategy_name] = msgspec.structs.replace(strategy, class_is_old=True)
        return Reloaded(
            loaded=sorted(self.known_classes),
            changed=sorted(changed),
            removed=sorted(set(before) - set(self.known_classes)),
            failed=self.failed,
            kept=[strategy.strategy_name for strategy in self.strategies() if strategy.class_is_old],
        )

    def strategies(self) -> list[StrategyUpdate]:
        self._loaded()
        return [self._strategies[name] for name in sorted(self._strategies)]

    def strategy(self, name: str) -> StrategyUpdate:
        self._loaded()
        if name not in self._strategies:
            raise NotFound(f"there is no strategy {name!r}")
        return self._strategies[name]

    def stop_orders(self) -> list[StopOrderUpdate]:
        self._loaded()
        return self._stops

    async def add(
        self,
        class_name: str,
        strategy_name: str,
        vt_symbol: str,
        setting: Mapping[str, Any],
        *,
        auto_start: bool,
        by: str,
    ) -> StrategyUpdate:
        self._begin("add", strategy_name, by)
        if strategy_name in self._strategies:
            raise Conflict(f"there is a strategy {strategy_name!r} already")
        return self.put(
            strategy_name, class_name=class_name, vt_symbol=vt_symbol, parameters=dict(setting), auto_start=auto_start
        )

    async def init(self, name: str, *, wait_s: float = 0.0) -> StrategyUpdate:
        strategy = self.strategy(name)
        self._begin("init", name)
        if strategy.inited:
            raise Conflict(f"strategy {name} is {strategy.state}")
        if strategy.state is not StrategyState.INITIALISING:
            self._keep(strategy, StrategyState.INITIALISING)
            if not self.holds_init:
                self._initialising[name] = asyncio.create_task(self._initialise(name))
        if name in self._initialising:
            await asyncio.wait({self._initialising[name]}, timeout=wait_s if self.init_hold else 1.0)
        return self._unfailed(name)

    async def start(self, name: str) -> StrategyUpdate:
        strategy = self.strategy(name)
        self._begin("start", name)
        if strategy.state not in (StrategyState.INITED, StrategyState.STOPPED):
            raise Conflict(f"strategy {name} is {strategy.state}")
        self._end("start", strategy, StrategyState.RUNNING)
        return self._unfailed(name)

    async def stop(self, name: str) -> StrategyUpdate:
        strategy = self.strategy(name)
        self._begin("stop", name)
        if strategy.state is StrategyState.RUNNING:
            self._end("stop", strategy, StrategyState.STOPPED)
        return self._unfailed(name) if ("stop", name) in self.failures else self.strategy(name)

    async def edit(self, name: str, setting: Mapping[str, Any], *, by: str) -> StrategyUpdate:
        strategy = self.strategy(name)
        self._begin("edit", name, by)
        if strategy.state is StrategyState.INITIALISING:
            raise Conflict(f"strategy {name} is INITIALISING")
        if self.edit_hold is not None:
            await self.edit_hold.wait()
        return self._keep(msgspec.structs.replace(self.strategy(name), parameters=dict(setting)), strategy.state)

    async def set_auto_start(self, name: str, auto_start: bool, *, by: str) -> StrategyUpdate:
        strategy = self.strategy(name)
        self._begin("set_auto_start", name, by)
        return self._keep(msgspec.structs.replace(strategy, auto_start=auto_start), strategy.state)

    async def remove(self, name: str, *, by: str) -> None:
        strategy = self.strategy(name)
        self._begin("remove", name, by)
        if strategy.state in (StrategyState.RUNNING, StrategyState.INITIALISING):
            raise Conflict(f"strategy {name} is {strategy.state}")
        del self._strategies[name]

    async def move(self, name: str, vt_symbol: str, *, by: str) -> StrategyUpdate:
        strategy = self.strategy(name)
        self._begin("move", name, by)
        if strategy.state in (StrategyState.RUNNING, StrategyState.INITIALISING):
            raise Conflict(f"strategy {name} is {strategy.state}")
        return self._keep(msgspec.structs.replace(strategy, vt_symbol=vt_symbol), StrategyState.CREATED)

    # Inside

    def _loaded(self) -> None:
        if self.missing:
            raise Conflict(f"CtaStrategy is not loaded: {self.missing}")

    def _begin(self, method: str, name: str, *by: str) -> None:
        self._loaded()
        self.asked.append((method, name, *by))
        if error := self.errors.get((method, name)):
            raise error

    async def _initialise(self, name: str) -> None:
        if self.init_hold is not None:
            await self.init_hold.wait()
        self._end("init", self._strategies[name], StrategyState.INITED)

    def _end(self, method: str, strategy: StrategyUpdate, state: StrategyState) -> None:
        failure = self.failures.get((method, strategy.strategy_name))
        self._keep(strategy, StrategyState.FAILED if failure else state, error=failure)

    def _unfailed(self, name: str) -> StrategyUpdate:
        strategy = self.strategy(name)
        if strategy.state is StrategyState.FAILED:
            raise Conflict(f"strategy {name}: {strategy.error}")
        return strategy

    def _keep(self, strategy: StrategyUpdate, state: StrategyState, error: str | None = None) -> StrategyUpdate:
        inited = state in (StrategyState.INITED, StrategyState.RUNNING, StrategyState.STOPPED)
        kept = msgspec.structs.replace(
            strategy, state=state, inited=inited, trading=state is StrategyState.RUNNING, error=error
        )
        self._strategies[strategy.strategy_name] = kept
        return kept
