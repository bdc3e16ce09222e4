"""Strategy files under a real CtaEngine, while its strategies trade."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from testkit.load import eventually

COUNTING = """
from vnpy_ctastrategy import CtaTemplate
from strategies.counting_tools import weight

STEP = {step}

def step():
    return STEP

class Counting(CtaTemplate):
    size: int = 1
    count: int = 0
    parameters = ["size"]
    variables = ["count"]

    def on_init(self):
        pass

    def on_tick(self, tick):
        self.count += step() * weight()
"""
TOOLS = "def weight(): return {weight}"


@pytest.fixture
def cta(vnpy_home) -> Iterator[Any]:
    """VnPy's own engine, as it comes, with the event thread running."""
    from vnpy.event import EventEngine
    from vnpy.trader.engine import MainEngine
    from vnpy_ctastrategy import CtaStrategyApp

    for path in (vnpy_home / ".vntrader").glob("*.json"):
        path.unlink()
    main_engine = MainEngine(EventEngine())
    yield main_engine.add_app(CtaStrategyApp)
    main_engine.close()


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "strategies").mkdir()
    return tmp_path / "strategies"


@pytest.fixture
def classes(cta, folder) -> Iterator[Any]:
    from vnpy_core.engine.apps.cta_classes import StrategyClasses

    classes = StrategyClasses(cta, limit_s=60, folder=folder)
    classes.install()
    yield classes
    classes.uninstall()


@pytest.fixture
def tick(cta) -> Callable[[], None]:
    """One tick over the event engine."""
    from vnpy.event import Event
    from vnpy.trader.constant import Exchange
    from vnpy.trader.event import EVENT_TICK
    from vnpy.trader.object import TickData

    def tick() -> None:
        data = TickData(
            "TEST", "rb2701", Exchange.SHFE, datetime.now(UTC), last_price=3500, limit_up=4000, limit_down=3000
        )
        cta.event_engine.put(Event(EVENT_TICK, data))

    return tick


def run(cta, name: str) -> Any:
    """A strategy that trades. Its contract is known to nobody, so nothing is subscribed."""
    cta.add_strategy("Counting", name, "rb2701.SHFE", {})
    cta.init_strategy(name).result(30)
    cta.start_strategy(name)
    assert cta.strategies[name].trading
    return cta.strategies[name]


def test_a_strategy_that_trades_goes_on_with_its_code_when_its_file_and_what_it_imports_are_edited(
    cta, classes, folder, tick
):
    (folder / "counting.py").write_text(COUNTING.format(step=1))
    (folder / "counting_tools.py").write_text(TOOLS.format(weight=1))
    cta.init_engine()
    old = run(cta, "old")
    tick()
    eventually(lambda: old.count == 1)
    (folder / "counting.py").write_text(COUNTING.format(step=2))
    (folder / "counting_tools.py").write_text(TOOLS.format(weight=5))
    assert classes.load().changed == ["Counting"]
    new = run(cta, "new")
    tick()
    eventually(lambda: new.count == 10)
    assert old.count == 2
    assert (classes.is_current(type(old)), classes.is_current(type(new))) == (False, True)
    assert classes.hash_of(type(old)) != classes.hash_of(type(new)) == classes.info("Counting").hash


def test_strategies_get_their_ticks_while_a_file_does_not_load(cta, classes, folder, tick):
    (folder / "counting.py").write_text(COUNTING.format(step=1))
    (folder / "counting_tools.py").write_text(TOOLS.format(weight=1))
    cta.init_engine()
    running = run(cta, "s")
    (folder / "looping.py").write_text("while True:\n    pass\n")
    classes._limit_s = 2.0
    loading = threading.Thread(target=classes.load)
    loading.start()
    handled = 0
    while loading.is_alive():
        handled += 1
        tick()
        eventually(lambda expected=handled: running.count == expected)
    loading.join()
    assert handled > 20
    assert [error.file for error in classes.errors()] == ["looping.py"]
    assert classes.is_current(type(running))


def test_vnpys_file_brings_back_what_has_a_class_and_the_log_tells_of_the_broken_file(cta, classes, folder, vnpy_home):
    setting = {name: {"class_name": cls, "vt_symbol": "rb2701.SHFE", "setting": {"size": 3}}
               for name, cls in (("s", "Counting"), ("lost", "Broken"))}  # fmt: skip
    (vnpy_home / ".vntrader" / "cta_strategy_setting.json").write_text(json.dumps(setting))
    (folder / "counting.py").write_text(COUNTING.format(step=1))
    (folder / "counting_tools.py").write_text(TOOLS.format(weight=1))
    (folder / "broken.py").write_text("class Broken(:\n")
    lines: list[str] = []
    cta.write_log = lambda line, strategy=None: lines.append(line)
    cta.init_engine()
    assert cta.strategies.keys() == {"s"}
    assert cta.strategies["s"].size == 3
    assert [line for line in lines if line.startswith("broken.py could not be loaded: ") and "SyntaxError" in line]
    assert "Counting" in cta.get_all_strategy_class_names()
    assert cta.get_strategy_class_parameters("Counting") == {"size": 1}
