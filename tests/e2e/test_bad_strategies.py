"""Strategy files and names that no one should write, against the real process: each is told or contained.

After every one of them the service answers, the innocent strategy gets its ticks, and the process ends as it should.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from e2e.conftest import REPOSITORY, RunningService
from e2e.test_faults_callbacks import Questions, event_thread, quarantined, said, until

pytestmark = pytest.mark.alone

CONFIG = f"""
[log]
format = "json"

[engine]
watchdog_s = 1.0
load_limit_s = 4.0
init_limit_s = 4.0

[gateways.PAPER]
class = "vnpy_core.gateways.paper.gateway:PaperGateway"
auto_connect = true

[gateways.PAPER.setting]
contracts = "{REPOSITORY / "vnpy_config" / "contracts.toml"}"
rate = 20.0

[strategies.innocent]
class_name = "Innocent"
vt_symbol = "rb2701.SHFE"
auto_start = true
"""
HEAD = "from vnpy_ctastrategy import CtaTemplate\n"
INNOCENT = """
class Innocent(CtaTemplate):
    ticks = 0
    size: int = 1
    parameters = ["size"]
    variables = ["ticks"]

    def on_init(self):
        pass

    def on_tick(self, tick):
        self.ticks += 1
"""
FILES = {
    "innocent.py": HEAD + INNOCENT,
    "lacking.py": HEAD + INNOCENT.replace("Innocent", "Lacking").replace("[\"size\"]", "[\"size\", \"window\"]"),
    "syntax.py": HEAD + "class Syntax(CtaTemplate:\n    pass\n",
    "exiting.py": "import sys\nsys.exit(3)\n",
    "looping.py": "while True:\n    pass\n",
    "endless.py": HEAD + """
import time

class LoopingInInit(CtaTemplate):
    def on_init(self):
        while True:
            pass

class SleepingInInit(CtaTemplate):
    def on_init(self):
        time.sleep(3600)

class ExitingInInit(CtaTemplate):
    def on_init(self):
        raise SystemExit(3)

class LoopingInTick(CtaTemplate):
    def on_init(self):
        pass

    def on_tick(self, tick):
        while True:
            pass
""",
    "making.py": HEAD + """
class Making(CtaTemplate):
    def __init__(self, *args):
        super().__init__(*args)
        self.make()

    def on_init(self):
        pass

class RaisingInMaking(Making):
    def make(self):
        raise ValueError("not today")

class ExitingInMaking(Making):
    def make(self):
        raise SystemExit(3)

class LoopingInMaking(Making):
    def make(self):
        while True:
            pass
""",
    "awkward.py": HEAD + """
import numpy as np
from datetime import datetime

class Awkward(CtaTemplate):
    ticks = 0
    seen: set = set()
    counted = np.int64(0)
    mean = np.float64(0)
    last = None
    array = None
    variables = ["ticks", "seen", "counted", "mean", "last", "array"]

    def on_init(self):
        self.seen = set()

    def on_tick(self, tick):
        self.ticks += 1
        self.seen.add(self.ticks % 3)
        self.counted = np.int64(self.ticks)
        self.mean = np.float64("nan") if self.ticks % 2 else np.float64(0.5)
        self.last = tick.datetime
        self.array = np.arange(3)
        self.put_event()
        self.sync_data()

class Unwritable(CtaTemplate):
    half = "\\ud800"
    huge = 2 ** 70
    size = {"a": [2 ** 70, "\\ud800"]}
    parameters = ["size"]
    variables = ["half", "huge"]

    def on_init(self):
        self.write_log("ready \\ud800")
        self.sync_data()
""",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "strategies").mkdir()
    for name, text in FILES.items():
        (folder / "strategies" / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def service(folder) -> Iterator[RunningService]:
    """One process for all: what one of these does must not show in the next one's test."""
    with running(RunningService(folder, CONFIG)) as service:
        yield service


@contextmanager
def running(service: RunningService) -> Iterator[RunningService]:
    try:
        service.start()
        yield service
        assert service.stop() == 0
    finally:
        if service.process is not None and service.process.poll() is None:
            service.process.kill()
            service.process.wait()


@pytest.fixture(autouse=True)
def _stays_up(service) -> Iterator[None]:
    until(lambda: get(service, "innocent")["state"] == "RUNNING", 30, "the innocent one runs")
    yield
    assert service.process is not None
    assert service.process.poll() is None
    before = ticks(service)
    until(lambda: ticks(service) > before, 10, "the innocent one gets its ticks")
    assert get(service, "innocent")["state"] == "RUNNING"
    assert event_thread(service)["alive"]
    assert event_thread(service)["handler_errors"] == 0
    with httpx2.Client() as client:
        assert client.get(f"{service.url}/health/ready").status_code == 200


def get(service: RunningService, name: str, what: str = "") -> dict[str, Any]:
    answer = service.client.get(f"/strategies/{name}{what}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def ticks(service: RunningService) -> int:
    return get(service, "innocent", "/variables")["ticks"]


def add(service: RunningService, class_name: str, name: str = "", **more: Any) -> httpx2.Response:
    body = {"class_name": class_name, "strategy_name": name or class_name, "vt_symbol": "rb2701.SHFE", "setting": {}}
    return service.client.post("/strategies", json=body | more)


def init(service: RunningService, name: str, wait_s: float = 30) -> httpx2.Response:
    return service.client.post(f"/strategies/{name}/init", params={"wait_s": wait_s}, timeout=60)


def errors_of(answer: httpx2.Response) -> dict[str, str]:
    return {error["field"]: error["message"] for error in answer.json().get("errors", [])}


def reload(service: RunningService) -> dict[str, Any]:
    answer = service.client.post("/strategies/classes/reload", timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- files ---


def test_files_that_cannot_be_loaded_are_told_with_what_is_wrong_and_keep_no_other_out(service):
    answer = service.client.get("/strategies/classes", params={"limit": 1000}).json()
    failed = {error["file"]: error["error"] for error in answer["failed"]}
    assert failed.keys() == {"syntax.py", "exiting.py", "looping.py"}
    assert "SyntaxError" in failed["syntax.py"]
    assert "line 2" in failed["syntax.py"]
    assert "SystemExit: 3" in failed["exiting.py"]
    assert "did not load in 4 s" in failed["looping.py"]
    assert "line 1, in <module>" in failed["looping.py"] or "line 2, in <module>" in failed["looping.py"]
    assert str(service.folder) not in json.dumps(answer)
    names = {cls["class_name"] for cls in answer["items"]}
    assert {"Innocent", "LoopingInInit", "Awkward", "DoubleMaStrategy"} <= names
    told = said(service, "a strategy file could not be loaded")
    assert {line["file"] for line in told} == failed.keys()


def test_a_class_that_lacks_an_attribute_says_which_and_no_strategy_is_made_of_it(service):
    error = "parameter window is declared but the class has no attribute window"
    assert service.client.get("/strategies/classes/Lacking").json()["error"] == error
    answer = add(service, "Lacking")
    assert answer.status_code == 422, answer.text
    assert error in answer.json()["detail"]
    assert service.client.get("/strategies/Lacking").status_code == 404


def test_an_edit_that_breaks_the_file_of_a_running_strategy_changes_nothing_for_it(service):
    (service.folder / "strategies" / "looping.py").unlink()  # each load would wait for it
    path = service.folder / "strategies" / "innocent.py"
    whole = path.read_text()
    for text in (whole[: len(whole) // 2] + "(", "while True: pass", "import sys; sys.exit()"):
        path.write_text(text)
        answer = reload(service)
        assert "innocent.py" in [error["file"] for error in answer["failed"]]
        assert "Innocent" in answer["loaded"]
        assert "this is the code of before" in get(service, "classes/Innocent")["error"]
        assert not get(service, "innocent")["class_is_old"]
    path.write_text(whole.replace("+= 1", "+= 1_000_000"))
    answer = reload(service)
    assert (answer["changed"], answer["kept"]) == (["Innocent"], ["innocent"])
    assert get(service, "innocent")["class_is_old"]
    assert ticks(service) < 1_000_000
    path.write_text(whole)
    assert reload(service)["kept"] == []
    assert get(service, "classes/Innocent")["error"] is None
    assert not get(service, "innocent")["class_is_old"]


# --- being made ---


@pytest.mark.parametrize(("name", "words"), [("RaisingInMaking", "not today"), ("ExitingInMaking", "SystemExit")])
def test_a_class_that_raises_when_a_strategy_is_made_is_refused_with_what_it_raised(service, name, words):
    answer = add(service, name)
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["detail"]
    assert service.client.get(f"/strategies/{name}").status_code == 404
    assert add(service, name).status_code == 422, "nothing is left of the first try"


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ({"size": "1"}, "setting.size"), ({"size": True}, "setting.size"), ({"size": 1.5}, "setting.size"),
        ({"size": None}, "setting.size"), ({"size": [1]}, "setting.size"), ({"size": 2**63}, "setting.size"),
        ({"nowhere": 1}, "setting.nowhere"), ({"on_tick": 1}, "setting.on_tick"),
        ({"__class__": 1}, "setting.__class__"), ({"trading": True}, "setting.trading"),
    ],
)  # fmt: skip
def test_a_setting_that_does_not_fit_is_refused_with_its_field_also_for_a_running_strategy(service, setting, field):
    answer = add(service, "Innocent", "unfit", setting=setting)
    assert answer.status_code == 422, answer.text
    assert errors_of(answer).keys() == {field}
    for ask in (service.client.put, service.client.patch):
        answer = ask("/strategies/innocent/parameters", json=setting)
        assert answer.status_code == 422, answer.text
    assert get(service, "innocent", "/parameters") == {"size": 1}


def test_numbers_that_are_none_are_refused(service):
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        content = f'{{"size": {number}}}'
        headers = {"Content-Type": "application/json"}
        answer = service.client.patch("/strategies/innocent/parameters", content=content, headers=headers)
        assert answer.status_code == 422, answer.text


# --- names ---

BAD_NAMES = [
    "", ".", "..", "../x", "..\\x", "a/../../b", "/etc/passwd", "a/b", "a b", "a\nb", "a\x00b", "x" * 65, "-a", "a..b",
    "classes", "init-all", "stop-orders", "rollover", "files", "😀", "a%2e%2e", "CON:",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_none_is_refused_and_nothing_is_written_anywhere(service, name):
    def files() -> set[Path]:
        return {path for path in service.folder.parent.rglob("*") if "vnpy_data" not in path.parts}

    before = files()
    answer = add(service, "Innocent", "x", strategy_name=name)
    assert answer.status_code == 422, answer.text
    assert files() == before
    names = [strategy["strategy_name"] for strategy in service.get_all("/strategies")]
    assert name not in names


@pytest.mark.parametrize("name", ["../../etc/passwd", "os.system", "a;b", "", "Innocent.__class__", "x" * 65, "类"])
def test_a_class_name_is_looked_up_and_never_a_path(service, name):
    answer = add(service, name, "y")
    assert answer.status_code in {404, 422}, answer.text
    assert service.client.get(f"/strategies/classes/{quote(name, safe='')}").status_code in {404, 422, 200} - (
        {200} if name else set()
    )


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "%00", "a/../b", "nobody", "x" * 5000, "\ufffd", "💥"])
@pytest.mark.parametrize("what", ["", "/variables", "/parameters", "/logs", "/orders", "/trades", "/pnl"])
def test_a_strategy_that_is_not_there_is_not_found_whatever_it_is_called(service, name, what):
    answer = service.client.get(f"/strategies/{quote(name, safe='')}{what}")
    assert answer.status_code in {404, 422}, answer.text


@pytest.mark.parametrize("name", ["均线_1", "a", "A-b.c_1", "x" * 64])
def test_good_names_are_taken(service, name):
    answer = add(service, "Innocent", name)
    assert answer.status_code == 201, answer.text
    assert service.client.get(f"/strategies/{quote(name)}").json()["strategy_name"] == name
    assert service.client.delete(f"/strategies/{quote(name)}").status_code == 204


# --- running ---


def test_an_on_init_that_does_not_return_fails_and_the_one_behind_it_is_served(service):
    for name in ("LoopingInInit", "SleepingInInit"):
        assert add(service, name).status_code == 201
        assert add(service, "Innocent", f"behind-{name}").status_code == 201
        assert init(service, name, 0).status_code == 202
        with Questions(service) as questions:
            answer = init(service, f"behind-{name}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == "INITED"
        assert questions.slowest_s < 1, f"REST took {questions.slowest_s:.2f} s"
        strategy = get(service, name)
        assert (strategy["state"], strategy["inited"], strategy["trading"]) == ("FAILED", False, False)
        assert name in quarantined(service)
        assert "quarantine" in strategy["error"]
        refused = init(service, name)
        assert refused.status_code == 409, refused.text
        assert f"quarantine release {name}" in refused.json()["detail"]
        assert service.client.post(f"/strategies/{name}/start").status_code == 409
    # The first may be released, and hangs again.
    assert service.client.delete("/strategies/LoopingInInit").status_code == 204


def test_an_on_init_that_exits_fails_with_that_word(service):
    assert add(service, "ExitingInInit").status_code == 201
    answer = init(service, "ExitingInInit")
    assert answer.status_code == 409, answer.text
    assert "SystemExit: 3" in answer.json()["detail"]
    assert answer.json()["state"] == "FAILED"
    assert "SystemExit: 3" in get(service, "ExitingInInit")["error"]
    lines = get(service, "ExitingInInit", "/logs")["items"]
    assert [line for line in lines if "SystemExit: 3" in line["msg"] and line["level"] == "ERROR"]


def test_variables_that_json_cannot_hold_are_shown_and_saved_and_go_on_after_a_restart(service):
    assert add(service, "Awkward", auto_start=True).status_code == 201
    assert init(service, "Awkward").status_code == 200
    assert service.client.post("/strategies/Awkward/start").status_code == 200
    until(lambda: get(service, "Awkward", "/variables")["ticks"] > 5, 20, "it has its ticks")
    variables = get(service, "Awkward", "/variables")
    assert set(variables["seen"]) <= {0, 1, 2}
    assert isinstance(variables["counted"], int)
    assert variables["mean"] in {None, 0.5}
    assert service.client.get("/strategies", params={"state": "RUNNING"}).status_code == 200
    assert service.client.post("/strategies/Awkward/stop").status_code == 200
    assert get(service, "Awkward")["state"] == "STOPPED"
    # It goes on counting, as stopped ones of VnPy do, but saves no more.
    until(lambda: saved(service).get("Awkward", {}).get("ticks", 0) > 5, 5, "it is saved")
    assert saved(service)["Awkward"]["counted"] == saved(service)["Awkward"]["ticks"]
    before = {strategy["strategy_name"]: strategy["state"] for strategy in service.get_all("/strategies")}
    assert service.stop() == 0
    counted = saved(service)["Awkward"]["counted"]
    service.start()
    after = {strategy["strategy_name"]: strategy["state"] for strategy in service.get_all("/strategies")}
    assert after.keys() == before.keys()
    assert all(after[name] == "FAILED" for name in after if name in quarantined(service))
    until(lambda: get(service, "Awkward")["state"] == "RUNNING", 20, "it was added to start by itself")
    until(lambda: saved(service)["Awkward"]["counted"] > counted, 10, "it goes on from there, and its set is a set")
    assert get(service, "Awkward")["state"] == "RUNNING"


def test_text_and_numbers_that_no_answer_can_hold_are_shown_as_something_else(service):
    assert get(service, "classes/Unwritable")["parameters"][0]["type"] == "object"
    try:
        assert add(service, "Unwritable").status_code == 201
        assert init(service, "Unwritable").status_code == 200
        shown = get(service, "Unwritable")["variables"]
        assert {"half", "huge"} <= shown.keys()
        assert [line for line in get(service, "Unwritable", "/logs")["items"] if "ready" in line["msg"]]
        assert "Unwritable" in [strategy["strategy_name"] for strategy in service.get_all("/strategies")]
    finally:
        assert service.client.delete("/strategies/Unwritable").status_code == 204
    assert said(service, "cannot be stored") == said(service, "could not be translated") == []


def saved(service: RunningService) -> dict[str, Any]:
    """VnPy's own file, which must be whole at any time."""
    return json.loads((service.folder / "vnpy_data" / ".vntrader" / "cta_strategy_data.json").read_text())


# The next ones halt trading: they come last.


def test_a_strategy_that_does_not_come_to_be_holds_the_event_thread_for_no_longer_than_the_watchdog_allows(service):
    with Questions(service) as questions:
        answer = add(service, "LoopingInMaking", "unmade")
    assert answer.status_code in {422, 503, 504}, answer.text
    assert questions.slowest_s < 1, f"REST took {questions.slowest_s:.2f} s"
    until(lambda: event_thread(service)["lag_ms"] < 500, 20, "the event thread is back")
    assert service.client.get("/strategies/unmade").status_code == 404


def test_an_on_tick_that_does_not_return_is_ended_and_the_others_have_their_ticks(service):
    assert add(service, "LoopingInTick").status_code == 201
    assert init(service, "LoopingInTick").status_code == 200
    with Questions(service) as questions:
        service.client.post("/strategies/LoopingInTick/start")
        until(lambda: get(service, "LoopingInTick")["state"] == "FAILED", 20, "it is ended")
        until(lambda: "LoopingInTick" in quarantined(service), 10, "it is in quarantine")
        before = ticks(service)
        until(lambda: ticks(service) > before + 5, 10, "the innocent one goes on")
    assert questions.slowest_s < 1, f"REST took {questions.slowest_s:.2f} s"
    assert init(service, "LoopingInTick").status_code == 409


# --- the whole start ---


def test_a_configured_strategy_that_cannot_be_made_is_told_and_the_others_start(tmp_path):
    (tmp_path / "strategies").mkdir()
    for name, text in FILES.items():
        (tmp_path / "strategies" / name).write_text(text)
    classes = ["Lacking", "Nowhere", "ExitingInMaking", "LoopingInInit"]
    table = '\n[strategies.{}]\nclass_name = "{}"\nvt_symbol = "rb2701.SHFE"\nauto_start = true\n'
    with running(RunningService(tmp_path, CONFIG + "".join(table.format(name, name) for name in classes))) as service:
        until(lambda: get(service, "innocent")["state"] == "RUNNING", 30, "the innocent one runs")
        until(lambda: "LoopingInInit" in quarantined(service), 30, "the looping one is ended")
        told = {line["strategy_name"]: line["detail"] for line in said(service, "a strategy could not be added")}
        assert "no attribute window" in told["Lacking"]
        assert "no strategy class Nowhere" in told["Nowhere"]
        assert "SystemExit" in told["ExitingInMaking"]
