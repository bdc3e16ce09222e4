"""VnPy's two files: never half written, and what somebody else wrote is told from what we did."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from testkit.clock import FakeClock
from testkit.load import eventually
from vnpy_core.engine.apps.cta_files import DATA, SEALS, SETTING, CtaFiles
from vnpy_core.kit.clock import SystemClock


def setting(**parameters):
    return {"class_name": "DoubleMaStrategy", "vt_symbol": "rb2701.SHFE", "setting": parameters}


def contents(**data):
    return {SETTING: {name: setting() for name in data}, DATA: data}


@pytest.fixture
def files(tmp_path) -> CtaFiles:
    return CtaFiles(tmp_path, FakeClock())


def found_again(folder: Path, file: str = DATA):
    """As the next start finds it."""
    return CtaFiles(folder, FakeClock()).read(file)


def change(folder: Path, file: str, **entries) -> None:
    """As a person or a desktop VnPy does; None takes one out."""
    content = json.loads((folder / file).read_text()) | entries
    left = {name: entry for name, entry in content.items() if entry is not None}
    (folder / file).write_text(json.dumps(left))


def test_what_was_written_is_found_again_as_ours(files, tmp_path):
    files.write(contents(a={"pos": 1}, 双均线={"pos": 2.5, "seen": {2, 1}, "low": float("inf")}))
    found = found_again(tmp_path)
    assert found.entries == {"a": {"pos": 1}, "双均线": {"pos": 2.5, "seen": [1, 2], "low": float("inf")}}
    assert (found.foreign, found.gone, found.broken) == (frozenset(), frozenset(), "")
    assert found_again(tmp_path, SETTING).entries == {"a": setting(), "双均线": setting()}


def test_vnpy_reads_what_was_written(files, tmp_path, monkeypatch):
    from vnpy.trader import utility

    monkeypatch.setattr(utility, "TEMP_DIR", tmp_path)
    files.write(contents(a={"pos": 1}))
    assert utility.load_json(DATA) == {"a": {"pos": 1}}
    assert (tmp_path / DATA).read_text() == json.dumps({"a": {"pos": 1}}, indent=4)
    files.write(contents())
    assert utility.load_json(SETTING) == {}


def test_an_entry_that_somebody_changed_is_foreign_and_the_others_are_not(files, tmp_path):
    files.write(contents(a={"pos": 1}, b={"pos": 2}))
    change(tmp_path, DATA, b={"pos": 3}, c={"pos": 4})
    found = found_again(tmp_path)
    assert found.foreign == {"b", "c"}
    assert not found.gone


def test_the_same_in_another_layout_is_still_ours(files, tmp_path):
    files.write(contents(a={"pos": 1, "ticks": 2}))
    (tmp_path / DATA).write_text('\ufeff{"a":{"ticks":2,"pos":1}}', encoding="utf-8")
    assert not found_again(tmp_path).foreign


def test_an_entry_that_somebody_took_out_is_gone(files, tmp_path):
    files.write(contents(a={}, b={}))
    change(tmp_path, SETTING, a=None)
    assert found_again(tmp_path, SETTING).gone == {"a"}
    assert not found_again(tmp_path, DATA).gone


def test_a_file_that_is_missing_says_nothing(files, tmp_path):
    files.write(contents(a={}))
    (tmp_path / SETTING).unlink()
    found = found_again(tmp_path, SETTING)
    assert (found.entries, found.gone, found.broken) == ({}, frozenset(), "")


def test_without_seals_everything_is_foreign_and_nothing_is_gone(files, tmp_path):
    files.write(contents(a={}, b={}))
    change(tmp_path, DATA, a=None)
    for seals in (None, b"", b"[]", b'{"cta_strategy_data.json": [7]}', b"\xff"):
        (tmp_path / SEALS).unlink() if seals is None else (tmp_path / SEALS).write_bytes(seals)
        found = found_again(tmp_path)
        assert (found.foreign, found.gone) == ({"b"}, frozenset())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe", b'{"a": {"pos": 1}'])
def test_a_broken_file_is_said_to_be_and_put_aside_on_demand(files, tmp_path, content):
    (tmp_path / DATA).write_bytes(content)
    assert files.read(DATA).broken
    assert files.read(DATA).entries == {}
    aside = files.put_aside(DATA)
    assert aside.name.endswith(".broken")
    files.write(contents(a={"pos": 1}))
    assert aside.read_bytes() == content
    assert found_again(tmp_path).entries == {"a": {"pos": 1}}


def test_entries_that_cta_engine_could_not_read_are_named(files, tmp_path):
    odd = {
        "a": setting(),
        "no_class": {"vt_symbol": "x.SHFE", "setting": {}},
        "text": "x",
        "list": setting() | {"setting": []},
    }
    (tmp_path / SETTING).write_text(json.dumps(odd))
    found = files.read(SETTING)
    assert list(found.entries) == ["a"]
    assert "list, no_class, text" in found.broken
    assert not found.gone


def test_what_has_not_changed_is_not_written_again(files, tmp_path):
    files.write(contents(a={"pos": 1}))
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    files.write(contents(a={"pos": 1}))
    assert {path.name: path.stat().st_ino for path in tmp_path.iterdir()} == before
    files.write(contents(a={"pos": 2}))
    after = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {DATA, SEALS}


@pytest.mark.parametrize("kill", ["before the seals", "before the file", "after all"])
def test_a_kill_at_any_instant_of_a_write_leaves_a_file_that_is_ours(tmp_path, kill):
    """Written by a process that is killed there."""
    CtaFiles(tmp_path, FakeClock()).write(contents(a={"pos": 1}, old={"pos": 0}))
    pid = os.fork()
    if pid == 0:
        try:
            write_and_die(tmp_path, kill)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    found = found_again(tmp_path)
    assert not found.foreign
    assert not found.gone
    assert found.entries in ({"a": {"pos": 1}, "old": {"pos": 0}}, {"a": {"pos": 2}, "new": {"pos": 0}})


def write_and_die(folder: Path, when: str) -> None:
    from vnpy_core.engine.apps import cta_files

    files = CtaFiles(folder, FakeClock())
    for file in (SETTING, DATA):
        files.read(file)

    def dying(path, content, *, write=cta_files.write_atomic, **how):
        if (when, path.name) in (("before the seals", SEALS), ("before the file", DATA)):
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, content, **how)

    cta_files.write_atomic = dying
    files.write(contents(a={"pos": 2}, new={"pos": 0}))
    os.kill(os.getpid(), signal.SIGKILL)


def test_no_file_is_written_whose_seals_could_not_be(tmp_path, monkeypatch):
    from vnpy_core.engine.apps import cta_files

    files, write, full = CtaFiles(tmp_path, FakeClock()), cta_files.write_atomic, [True]

    def failing(path, content, **how):
        if full and path.name == SEALS:
            raise OSError("no space")
        write(path, content, **how)

    monkeypatch.setattr(cta_files, "write_atomic", failing)
    for _ in range(2):
        with pytest.raises(OSError, match="no space"):
            files.write(contents(a={"pos": 1}))
        assert not (tmp_path / DATA).exists()
    full.clear()
    files.write(contents(a={"pos": 1}))
    assert not found_again(tmp_path).foreign


# --- the writer ---


def test_many_changes_are_few_writes_and_the_last_one_is_written(tmp_path):
    files = CtaFiles(tmp_path, SystemClock())
    state, asked = {"pos": 0}, []

    def now():
        asked.append(state["pos"])
        return contents(a=dict(state))

    files.start(now)
    for pos in range(1, 2001):
        state["pos"] = pos
        files.touch()
    eventually(lambda: found_again(tmp_path).entries.get("a") == {"pos": 2000}, 10)
    files.close()
    assert len(asked) < 100, asked


def test_closing_writes_what_is_left_and_nothing_afterwards(tmp_path):
    files = CtaFiles(tmp_path, SystemClock())
    state = {"pos": 1}
    files.start(lambda: contents(a=dict(state)))
    files.touch()
    state["pos"] = 2
    files.close()
    assert found_again(tmp_path).entries == {"a": {"pos": 2}}
    (tmp_path / DATA).unlink()
    state["pos"] = 3
    files.touch()
    eventually(lambda: not [t for t in threading.enumerate() if t.name == "cta-files"], 10)
    assert not (tmp_path / DATA).exists()


def test_a_disk_that_takes_nothing_is_told_once_and_asked_again(tmp_path, monkeypatch):
    from vnpy_core.engine.apps import cta_files

    monkeypatch.setattr(cta_files, "RETRY_S", 0.01)
    (tmp_path / DATA).mkdir()  # nothing can be renamed to it
    files = CtaFiles(tmp_path, SystemClock())
    asked = []

    def now():
        asked.append(1)
        return contents(a={"pos": 1})

    with capture_logs() as lines:
        files.start(now)
        files.touch()
        eventually(lambda: len(asked) > 5, 10)
        (tmp_path / DATA).rmdir()
        eventually(lambda: found_again(tmp_path).entries == {"a": {"pos": 1}}, 10)
        files.close()
    assert len([line for line in lines if line["log_level"] == "error"]) == 1
