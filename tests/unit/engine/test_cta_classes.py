"""Strategy files as they come: good, edited, broken, hanging; and what is said of each."""

import dataclasses
import gc
import importlib
import pickle
import shutil
import sys
import threading
import weakref
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from vnpy_core.domain.errors import NotFound, ValidationFailed
from vnpy_core.domain.setting_check import check_setting

GOOD = """
from vnpy_ctastrategy import CtaTemplate

STEP = 1

def helper():
    return {value}

class {name}(CtaTemplate):
    author = "tests"
    size: int = 1
    parameters = ["size"]
    variables = ["seen"]

    def on_init(self):
        return helper()
"""
LIMIT_S = 1.0
"""For files that hang; all others have time."""


@pytest.fixture
def write(tmp_path):
    """`write("a.py", text)` into the folder of strategies."""
    (tmp_path / "strategies").mkdir()

    def write(name: str, text: str | bytes) -> Path:
        path = tmp_path / "strategies" / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def engine():
    """As much of a CtaEngine as is touched; tests/integration/strategies has the real one."""
    lines: list[str] = []
    return SimpleNamespace(classes={}, write_log=lines.append, lines=lines)


@pytest.fixture
def classes(engine, tmp_path, monkeypatch):
    from vnpy_core.engine.apps import fresh_imports
    from vnpy_core.engine.apps.cta_classes import StrategyClasses

    monkeypatch.setattr(fresh_imports, "GRACE_S", 1.0)
    monkeypatch.setattr(fresh_imports, "ASK_AGAIN_S", 0.1)
    before = sys.modules.copy()
    yield StrategyClasses(engine, limit_s=60, folder=tmp_path / "strategies")
    for name in [name for name in sys.modules if name.startswith("strategies.")]:
        fresh_imports._forget(name)
    sys.modules.update({name: module for name, module in before.items() if name.startswith("strategies.")})


def good(name: str = "Good", value: object = 1) -> str:
    return GOOD.format(name=name, value=value)


def instance(cls):
    return cls(None, "s", "rb2701.SHFE", {})


def impatient(classes, words="did not load"):
    if "did not load" in words or "load_limit_s" in words:
        classes._limit_s = LIMIT_S


def only(errors):
    [error] = errors
    return error


# --- what there is ---


def test_vnpys_own_classes_are_there_and_described(classes, write):
    loaded = classes.load()
    assert loaded.failed == []
    assert {"AtrRsiStrategy", "DoubleMaStrategy", "TurtleSignalStrategy", "TestStrategy"} <= set(loaded.loaded)
    double = classes.info("DoubleMaStrategy")
    assert double.shipped
    assert (double.file, double.module) == ("double_ma_strategy.py", "vnpy_ctastrategy.strategies.double_ma_strategy")
    assert [(p.name, p.type, p.default) for p in double.parameters] == [
        ("fast_window", "int", 10), ("slow_window", "int", 20),
    ]  # fmt: skip
    assert double.variables == ["fast_ma0", "fast_ma1", "slow_ma0", "slow_ma1"]
    assert [cls.class_name for cls in classes.all()] == loaded.loaded == sorted(loaded.loaded)
    assert all(cls.error is None and len(cls.hash) == 64 for cls in classes.all())


def test_a_users_class_is_known_by_its_file(classes, write, engine):
    write("good.py", good())
    loaded = classes.load()
    cls = classes.info("Good")
    assert (cls.author, cls.file, cls.module, cls.shipped) == ("tests", "good.py", "strategies.good", False)
    assert "Good" in loaded.changed
    assert engine.classes["Good"] is classes.type_of("Good")
    assert instance(engine.classes["Good"]).on_init() == 1
    assert classes.hash_of(engine.classes["Good"]) == cls.hash
    assert classes.file_of(engine.classes["Good"]) == "good.py"
    with pytest.raises(NotFound, match="no strategy class Nobody"):
        classes.info("Nobody")


TYPES = """
from __future__ import annotations
from enum import Enum
from typing import List, Optional
import numpy as np
from vnpy_ctastrategy import CtaTemplate
from vnpy.trader.constant import Interval

class Base(CtaTemplate):
    inherited: float = 2
    def on_init(self): pass

class Typed(Base):
    whole: int = 1
    real: float = 1
    flag: bool = False
    text: str = ""
    many: List[int] = [1]
    newer: list[int] = []
    table: dict = {}
    maybe: Optional[int] = 3
    wrongly: int = 0.5
    bare_whole = 3
    bare_real = 0.5
    bare_flag = True
    bare_text = "a"
    bare_list = (1, 2)
    bare_none = None
    numpy_whole = np.int64(4)
    numpy_real = np.float64(0.25)
    endless: float = float("nan")
    enum = Interval.MINUTE
    declared_enum: Interval = Interval.MINUTE
    a_set = {1}
    huge = 2 ** 70
    half = "\\ud800"
    parameters = ["inherited", "whole", "real", "flag", "text", "many", "newer", "table", "maybe", "wrongly",
                  "bare_whole", "bare_real", "bare_flag", "bare_text", "bare_list", "bare_none", "numpy_whole",
                  "numpy_real", "endless", "enum", "declared_enum", "a_set", "huge", "half"]
"""


def test_types_come_from_annotations_and_defaults_and_whatever_they_are_can_be_sent(classes, write):
    write("typed.py", TYPES)
    classes.load()
    cls = classes.info("Typed")
    assert {p.name: p.type for p in cls.parameters} == {
        "inherited": "float", "whole": "int", "real": "float", "flag": "bool", "text": "str", "many": "list",
        "newer": "list", "table": "dict", "maybe": "any", "wrongly": "float", "bare_whole": "number",
        "bare_real": "float", "bare_flag": "bool", "bare_text": "str", "bare_list": "list", "bare_none": "any",
        "numpy_whole": "number", "numpy_real": "float", "endless": "float", "enum": "object",
        "declared_enum": "object", "a_set": "object", "huge": "object", "half": "object",
    }  # fmt: skip
    defaults = {p.name: p.default for p in cls.parameters}
    assert (defaults["bare_list"], defaults["enum"], defaults["numpy_whole"]) == ([1, 2], "MINUTE", 4)
    assert {type(value) for value in defaults.values()} <= {int, float, bool, str, list, dict, type(None)}
    msgspec.json.encode(classes.all())
    # And a strategy made of all defaults has an enum where the class has one.
    made = classes.type_of("Typed")(None, "s", "rb2701.SHFE", check_setting(cls, {"whole": 7}, partial=False))
    assert (made.whole, made.enum.name, made.a_set) == (7, "MINUTE", {1})


def test_a_class_that_a_file_imports_from_elsewhere_is_there_and_one_of_another_file_is_that_ones(
    classes, write, tmp_path, monkeypatch
):
    (tmp_path / "packaged_strategies.py").write_text(good("Packaged"))
    monkeypatch.syspath_prepend(tmp_path)
    write("a_shim.py", "from packaged_strategies import Packaged\nfrom strategies.base import Good\nAlias = Good\n")
    write("base.py", good())
    loaded = classes.load()
    assert loaded.failed == []
    assert {name: classes.info(name).file for name in ("Packaged", "Good")} == {
        "Packaged": "a_shim.py",
        "Good": "base.py",
    }
    assert classes.is_current(classes.type_of("Packaged"))


def test_files_that_are_no_modules_are_passed_over(classes, write, tmp_path):
    for name in (".hidden.py", "._good.py", "notes.txt", "good.py~", "__init__.py"):
        write(name, "raise SystemExit")
    (tmp_path / "strategies" / "folder.py").mkdir()
    (tmp_path / "strategies" / ".#lock.py").symlink_to("nowhere")
    assert classes.load().failed == []


def test_a_folder_that_is_not_there_has_no_classes(classes):
    assert classes.load().failed == []


def test_a_compiled_file_is_loaded_and_stays(classes, tmp_path, write):
    heapq = importlib.import_module("_heapq")
    if not getattr(heapq, "__file__", None):
        pytest.skip("this Python has its extensions built in")
    shutil.copy(heapq.__file__, tmp_path / "strategies" / f"_heapq{EXTENSION_SUFFIXES[0]}")
    write("_heapq.py", "raise ValueError('the compiled one comes first')")
    assert classes.load().failed == []
    module = sys.modules["strategies._heapq"]
    assert classes.load().failed == []
    assert sys.modules["strategies._heapq"] is module


# --- files that changed ---


def test_an_edited_file_is_new_code_for_new_strategies_and_the_running_one_keeps_all_of_its_own(classes, write):
    write("good.py", good(value=1))
    classes.load()
    old = classes.type_of("Good")
    running, hash_ = instance(old), classes.info("Good").hash
    write("good.py", good(value=2))  # the same size, within the same second
    again = classes.load()
    assert again.changed == ["Good"]
    assert (running.on_init(), instance(classes.type_of("Good")).on_init()) == (1, 2)
    assert (classes.is_current(old), classes.is_current(classes.type_of("Good"))) == (False, True)
    assert (classes.hash_of(old), classes.hash_of(classes.type_of("Good"))) == (hash_, classes.info("Good").hash)
    assert hash_ != classes.info("Good").hash
    assert classes.info("DoubleMaStrategy").error is None


def test_a_file_that_was_not_edited_is_the_same_code(classes, write):
    write("good.py", good())
    classes.load()
    old = classes.type_of("Good")
    again = classes.load()
    assert (again.changed, again.removed) == ([], [])
    assert classes.is_current(old)


@pytest.mark.parametrize(
    "statement",
    ["from strategies.tools import answer", "from .tools import answer",
     "from strategies import tools; answer = tools.answer",
     "import strategies.tools; answer = strategies.tools.answer"],
)  # fmt: skip
def test_an_edited_file_that_a_class_imports_is_new_code_of_the_class(classes, write, statement):
    for module in ("a", "z"):  # before it and after it
        write(f"{module}.py", f"{statement}\n{good(module, 'answer()')}")
    write("tools.py", "def answer(): return 1")
    classes.load()
    old = {name: classes.type_of(name) for name in ("a", "z")}
    write("tools.py", "def answer(): return 2")
    again = classes.load()
    assert again.failed == []
    assert again.changed == ["a", "z"]
    for name, type_ in old.items():
        assert (instance(type_).on_init(), instance(classes.type_of(name)).on_init()) == (1, 2)
        assert not classes.is_current(type_)


def test_files_share_one_module_of_what_they_import_so_that_a_base_class_is_one(classes, write):
    for module in ("a", "z"):
        write(f"{module}.py", f"from strategies.middle import Base\nclass Of{module}(Base): pass\n")
    write("middle.py", good("Base"))
    for _ in range(2):
        classes.load()
        assert issubclass(classes.type_of("Ofa"), classes.type_of("Base"))
        assert issubclass(classes.type_of("Ofz"), classes.type_of("Base"))


def test_a_removed_file_takes_its_classes_along_and_what_runs_still_knows_its_own(classes, write, engine):
    path = write("good.py", good())
    classes.load()
    old, hash_ = classes.type_of("Good"), classes.info("Good").hash
    path.unlink()
    assert classes.load().removed == ["Good"]
    assert "Good" not in engine.classes
    assert "strategies.good" not in sys.modules
    assert (classes.hash_of(old), classes.file_of(old), classes.is_current(old)) == (hash_, "good.py", False)
    assert instance(old).on_init() == 1


def test_code_that_no_strategy_runs_any_more_is_let_go(classes, write):
    write("tools.py", "x = 1")
    write("good.py", "from strategies.tools import x\n" + good())
    classes.load()
    gone = [weakref.ref(classes.type_of("Good")), weakref.ref(sys.modules["strategies.tools"])]
    running = instance(classes.type_of("Good"))
    classes.load()
    gc.collect()
    assert gone[0]() is type(running)
    del running
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_an_object_of_a_current_class_can_be_pickled(classes, write):
    write("good.py", good())
    classes.load()
    classes.load()
    assert pickle.loads(pickle.dumps(classes.type_of("Good"))) is classes.type_of("Good")


def test_two_that_load_at_once_wait_for_each_other(classes, write, engine):
    write("good.py", good())
    threads = [threading.Thread(target=classes.load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert sys.modules["strategies.good"].Good is engine.classes["Good"]
    assert not [finder for finder in sys.meta_path if type(finder).__name__ == "FreshImports"]


# --- files that are broken ---

BROKEN = {
    "syntax": ("def broken(:\n", "SyntaxError"),
    "indentation": ("if True:\nx = 1\n", "IndentationError"),
    "raising": ("\nraise ValueError('no import today')\n", 'line 2, in <module>'),
    "exiting": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "interrupting": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "nowhere": ("import no_such_module_4711", "No module named 'no_such_module_4711'"),
    "bytes": (b"x = '\xff\xfe'\n", "(unicode error)"),
    "zero": (b"x = 1\0", "null bytes"),
    "deep": ("(" * 300 + ")" * 300, "too many nested parentheses"),
    "looping": ("while True: pass", f"did not load in {LIMIT_S:g} s"),
    "sleeping": ("import time\nwhile True:\n    time.sleep(0.01)", "(engine.load_limit_s) and was ended in\n"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_told_and_all_others_are_loaded(classes, write, text, words, tmp_path):
    impatient(classes, words)
    write("bad.py", text)
    write("a.py", good("A"))
    write("z.py", good("Z"))
    loaded = classes.load()
    error = only(loaded.failed)
    assert error == only(classes.errors())
    assert error.file == "bad.py"
    assert words in error.error
    assert str(tmp_path) not in error.error
    assert "cta_classes" not in error.error
    assert "fresh_imports" not in error.error
    assert {"A", "Z", "DoubleMaStrategy"} <= set(loaded.loaded)
    assert "strategies.bad" not in sys.modules


@pytest.mark.parametrize(("text", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_an_edit_that_breaks_a_file_leaves_the_code_of_before_until_it_is_mended(classes, write, text, words):
    write("good.py", good(value=1))
    classes.load()
    impatient(classes, words)
    before = classes.type_of("Good")
    write("good.py", text)
    loaded = classes.load()
    assert words in only(loaded.failed).error
    assert (loaded.changed, loaded.removed) == ([], [])
    assert classes.type_of("Good") is before
    assert sys.modules["strategies.good"].Good is before
    assert "this is the code of before" in classes.info("Good").error
    assert words in classes.info("Good").error
    classes.load()
    assert classes.info("Good").error.count("the code of before") == 1
    write("good.py", good(value=2))
    loaded = classes.load()
    assert (loaded.failed, loaded.changed) == ([], ["Good"])
    assert classes.info("Good").error is None
    assert instance(classes.type_of("Good")).on_init() == 2


def test_who_imports_a_broken_file_is_told_so_and_keeps_its_code_too(classes, write):
    for module in ("a", "z"):
        write(f"{module}.py", f"from strategies.middle import Base\nclass Of{module}(Base): pass\n")
    write("middle.py", good("Base"))
    classes.load()
    before = {name: classes.type_of(name) for name in ("Ofa", "Ofz", "Base")}
    write("middle.py", "import sys; sys.exit()")
    failed = classes.load().failed
    assert [error.file for error in failed] == ["a.py", "middle.py", "z.py"]
    assert "strategies.middle could not be loaded" in failed[2].error, "it is not executed for each that imports it"
    assert {name: classes.type_of(name) for name in before} == before
    assert all(map(classes.is_current, before.values()))


STUBBORN = """
import threading
import weakref
begun.append(threading.current_thread())
while not ended.is_set():
    try:
        while not ended.is_set():
            pass
    except:
        pass
"""


def test_a_file_that_cannot_be_ended_is_left_behind_and_not_begun_again_before_it_is_edited(classes, write):
    begun, ended = [], threading.Event()
    sys.modules["testkit_stubborn"] = SimpleNamespace(begun=begun, ended=ended)
    try:
        write("bad.py", f"from testkit_stubborn import begun, ended\n{STUBBORN}")
        write("good.py", good())
        impatient(classes)
        error = only(classes.load().failed)
        assert "does not end" in error.error
        assert instance(classes.type_of("Good")).on_init() == 1
        error = only(classes.load().failed)
        assert "restart the service, or edit the file" in error.error
        assert len(begun) == 1
        write("bad.py", good("Mended"))
        assert classes.load().failed == []
        assert instance(classes.type_of("Mended")).on_init() == 1
    finally:
        ended.set()
        for thread in begun:
            thread.join(10)
        del sys.modules["testkit_stubborn"]
    assert sys.modules["strategies.bad"].Mended is classes.type_of("Mended"), "the old one must not come back"


def test_a_file_that_is_left_behind_within_another_one_is_told_as_well(classes, write):
    begun, ended = [], threading.Event()
    sys.modules["testkit_stubborn"] = SimpleNamespace(begun=begun, ended=ended)
    try:
        write("a.py", f"from strategies.middle import Base\n{good('A')}")
        write("middle.py", f"from testkit_stubborn import begun, ended\n{STUBBORN}{good('Base')}")
        write("z.py", good("Z"))
        impatient(classes)
        failed = {error.file: error.error for error in classes.load().failed}
        assert failed.keys() == {"a.py", "middle.py"}
        assert "does not return" in failed["middle.py"]
        assert "Z" in [cls.class_name for cls in classes.all()]
    finally:
        ended.set()
        for thread in begun:
            thread.join(10)
        del sys.modules["testkit_stubborn"]


# --- classes that are no good ---

UNFIT = """
from vnpy_ctastrategy import CtaTemplate

class Good(CtaTemplate):
    def on_init(self): pass

class Missing(Good):
    there = 1
    parameters = ["there", "gone", "lost"]

class Abstract(CtaTemplate):
    pass

class NoList(Good):
    parameters = "size"

class LateVariable(Good):
    variables = ["made_in_init"]
    def __init__(self, *args):
        self.made_in_init = 0
        super().__init__(*args)
"""


def test_a_class_that_no_strategy_can_be_made_of_says_why_and_the_others_of_its_file_are_good(classes, write):
    write("unfit.py", UNFIT)
    assert classes.load().failed == []
    assert classes.info("Missing").error == (
        "parameter gone is declared but the class has no attribute gone; "
        "parameter lost is declared but the class has no attribute lost"
    )
    assert [p.name for p in classes.info("Missing").parameters] == ["there"]
    assert "on_init" in classes.info("Abstract").error
    assert "no list of names" in classes.info("NoList").error
    for name in ("Missing", "Abstract", "NoList"):
        with pytest.raises(ValidationFailed, match=f"no strategy can be made of {name}: "):
            classes.type_of(name)
    assert classes.info("LateVariable").error is None
    assert instance(classes.type_of("LateVariable")).get_variables()["made_in_init"] == 0


def test_of_two_files_with_one_class_the_first_counts_and_the_other_is_told(classes, write):
    write("a.py", good("Twice", 1))
    write("z.py", good("Twice", 2) + good("Other"))
    write("own.py", good("DoubleMaStrategy", 3))
    error = only(classes.load().failed)
    assert (error.file, error.error) == ("z.py", "the class Twice is in a.py too, and taken from there")
    assert instance(classes.type_of("Twice")).on_init() == 1
    assert classes.info("Other").file == "z.py"
    assert (classes.info("DoubleMaStrategy").file, classes.info("DoubleMaStrategy").shipped) == ("own.py", False)


def test_a_class_whose_attributes_run_code_for_ever_is_a_file_that_does_not_load(classes, write):
    write("bad.py", good("Bad").replace("CtaTemplate)", "CtaTemplate, metaclass=Meta)").replace(
        "class Bad", "class Meta(type(CtaTemplate)):\n    @property\n    def size(cls):\n        while True: pass\n"
        "class Bad").replace("    size: int = 1\n", ""))  # fmt: skip
    impatient(classes)
    assert "did not load" in only(classes.load().failed).error


# --- CtaEngine's own way ---


def test_the_engine_loads_through_it_and_its_log_has_what_failed(classes, write, engine):
    write("bad.py", "raise ValueError('no import today')")
    write("good.py", good())
    classes.install()
    engine.load_strategy_class()
    assert "no import today" in only(engine.lines)
    assert "Good" in engine.classes
    classes.uninstall()
    assert not hasattr(engine, "load_strategy_class")


def test_classes_that_the_engine_loaded_before_are_known(classes, write, engine):
    write("good.py", good())
    classes.load()
    attached = type(classes)(engine, folder=Path("nowhere"))
    attached.install()
    good_class = attached.info("Good")
    assert dataclasses.asdict(attached._by_name["Good"].origin) == dataclasses.asdict(classes._by_name["Good"].origin)
    assert good_class == classes.info("Good")
    assert attached.info("DoubleMaStrategy").shipped
    assert attached.is_current(engine.classes["Good"])
    assert attached.hash_of(int) == ""
