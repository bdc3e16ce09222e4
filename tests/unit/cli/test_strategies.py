"""`vnpy-core strategies …` at the real routes on a real server: its words, its exit codes."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from testkit.fake_strategies import DOUBLE_MA
from testkit.strategies_api import StrategiesApi
from vnpy_core.__main__ import app
from vnpy_core.cli import strategies as commands
from vnpy_core.cli.tables import table, width
from vnpy_core.domain.enums import LogLevel, StrategyState
from vnpy_core.domain.errors import Overloaded
from vnpy_core.domain.strategies import LoadError
from vnpy_core.features.strategies import schemas

TRACE = 'Traceback (most recent call last):\n  File "x.py"\nZeroDivisionError: division by zero'


@pytest.fixture
def api() -> StrategiesApi:
    return StrategiesApi()


@pytest.fixture
def engine(api: StrategiesApi):
    return api.engine


@pytest.fixture
def cli(api, monkeypatch):
    monkeypatch.setenv("VNPYCORE_TOKEN", "trader")
    with api.serving() as url:

        def run(*arguments: str, code: int = 0, **more):
            outcome = CliRunner().invoke(app, ["strategies", *arguments, "--url", url], **more)
            assert outcome.exit_code == code, (outcome.output, outcome.exception)
            return outcome

        yield run


def test_the_list_has_a_line_for_each(cli, engine):
    engine.put("趋势", StrategyState.RUNNING, pos=2.0, auto_start=True)
    engine.put("demo", StrategyState.FAILED, error=TRACE)
    assert cli("list").stdout.splitlines() == [
        "STRATEGY  CLASS     CONTRACT     STATE    POS  AUTO  ERROR",
        "demo      DoubleMa  rb2505.SHFE  FAILED     0  no    ZeroDivisionError: division by zero",
        "趋势      DoubleMa  rb2505.SHFE  RUNNING    2  yes",
    ]
    assert cli("list", "--state", "running").stdout.count("\n") == 2
    found = json.loads(cli("list", "--json").stdout)
    assert [each["strategy_name"] for each in found] == ["demo", "趋势"]


def test_one_strategy_is_shown_with_all_that_it_has(cli, engine):
    engine.put("demo", StrategyState.INITED)
    assert cli("show", "demo").stdout.splitlines() == [
        "demo (DoubleMa, rb2505.SHFE) is INITED", "",
        "PARAMETER", "fast       10", "slow       20", "ratio      0.5", "label      a",
        "VARIABLE", "fast_ma   0", "slow_ma   0",
    ]  # fmt: skip
    engine.put("demo", StrategyState.RUNNING, pos=7.0, attributed_pos=2.0, class_is_old=True, class_file="ma.py")
    assert cli("show", "demo").stdout.splitlines()[:4] == [
        "demo (DoubleMa, rb2505.SHFE) is RUNNING",
        "it runs older code than ma.py has now",
        "its pos is 7, the sum of its fills 2",
        "",
    ]


def test_who_removes_a_strategy_with_a_position_is_told(cli, engine):
    engine.put("demo", StrategyState.STOPPED, pos=-3.0)
    assert "its pos of -3 stays in the account" in cli("remove", "demo", input="n\n", code=1).stderr
    assert [each.strategy_name for each in engine.strategies()] == ["demo"]


def test_classes_and_the_files_that_failed(cli, engine):
    engine.failed = [LoadError(file="draft.py", error="line one\nSyntaxError: no")]
    assert cli("classes").stdout.splitlines() == [
        "CLASS     FILE          PARAMETERS                            ERROR",
        "DoubleMa  double_ma.py  fast=10, slow=20, ratio=0.5, label=a",
        "draft.py: line one",
        "    SyntaxError: no",
    ]
    assert json.loads(cli("classes", "--json").stdout)["items"][0]["class_name"] == "DoubleMa"


def test_a_reload_ends_with_1_where_a_file_failed(cli, engine):
    engine.on_reload = {"New": DOUBLE_MA}
    assert cli("reload").stdout == "1 classes\nchanged: New\nremoved: DoubleMa\n"
    engine.failed = [LoadError(file="draft.py", error="SyntaxError: no")]
    assert cli("reload", code=1).stderr == "vnpy-core: draft.py: SyntaxError: no\n"
    engine.failed = [
        LoadError(file="draft.py", error="did not load in 10 s and was ended in\n  line 1\n    while True: pass")
    ]
    assert "did not load in 10 s" in cli("reload", code=1).stderr
    assert json.loads(cli("reload", "--json", code=1).stdout)["loaded"] == ["New"]


def test_a_strategy_from_its_making_to_its_end(cli, engine):
    made = cli("add", "DoubleMa", "demo", "rb2505.SHFE", "--set", "fast=5", "-s", "label=b c", "--auto-start")
    assert made.stdout == "demo (DoubleMa, rb2505.SHFE) is CREATED\n"
    assert engine.strategy("demo").parameters == {"fast": 5, "slow": 20, "ratio": 0.5, "label": "b c"}
    assert engine.strategy("demo").auto_start
    assert cli("init", "demo").stdout.endswith("is INITED\n")
    assert cli("start", "demo").stdout.endswith("is RUNNING\n")
    assert cli("remove", "demo", "--yes", code=1).stderr == "vnpy-core: strategy demo is RUNNING\n"
    assert json.loads(cli("stop", "demo", "--json").stdout)["state"] == "STOPPED"
    assert cli("remove", "demo", input="n\n", code=1).exit_code == 1
    assert cli("remove", "demo", input="y\n").stdout.endswith("demo is removed\n")
    assert engine.strategies() == []


def test_parameters_are_merged_or_replaced(cli, engine):
    engine.put("demo")
    assert "fast       7" in cli("edit", "demo", "--set", "fast=7", "--auto-start").stdout
    assert engine.strategy("demo").auto_start
    cli("edit", "demo", "--set", "slow=70", "--replace", "--no-auto-start")
    assert engine.strategy("demo").parameters == {"fast": 10, "slow": 70, "ratio": 0.5, "label": "a"}
    assert not engine.strategy("demo").auto_start
    assert "nothing to set" in cli("edit", "demo", code=1).stderr
    assert "is not NAME=VALUE" in cli("edit", "demo", "--set", "fast", code=1).stderr


def test_what_the_service_refuses_is_told_in_its_words(cli, engine):
    refused = cli("add", "DoubleMa", "demo", "rb2505.SHFE", "--set", "fast=quick", code=1)
    assert refused.stderr == "vnpy-core: the setting does not fit DoubleMa (setting.fast: must be a whole number)\n"
    assert cli("show", "nobody", code=1).stderr == "vnpy-core: there is no strategy 'nobody'\n"
    engine.put("demo")
    engine.failures["init", "demo"] = "ZeroDivisionError: division by zero"
    assert cli("init", "demo", code=1).stderr == "vnpy-core: strategy demo: ZeroDivisionError: division by zero\n"
    assert "this needs the role trader" in cli("start", "demo", "--token", "viewer", code=1).stderr


def test_what_is_not_there_is_said(monkeypatch):
    monkeypatch.setenv("VNPYCORE_TOKEN", "")
    outcome = CliRunner().invoke(app, ["strategies", "list"])
    assert (outcome.exit_code, "this needs a token" in outcome.stderr) == (1, True)
    outcome = CliRunner().invoke(app, ["strategies", "list", "--token", "t", "--url", "http://127.0.0.1:1"])
    assert (outcome.exit_code, "no service answers" in outcome.stderr) == (1, True)


def test_an_on_init_that_takes_longer_is_not_taken_for_done(cli, engine):
    engine.put("demo")
    engine.holds_init = True
    outcome = cli("init", "demo", "--wait", "0", code=1)
    assert outcome.stdout.endswith("is INITIALISING\n")
    assert "has not come to an end" in outcome.stderr
    engine.put("other", StrategyState.INITED)
    outcome = cli("init", "all", "--wait", "0", code=1)
    assert outcome.stdout.splitlines() == [
        "STRATEGY  STATE         PROBLEM",
        "demo      INITIALISING  its on_init has not come to an end",
        "other     INITED",
    ]


def test_all_of_them(cli, engine, monkeypatch):
    monkeypatch.setattr(commands, "POLL_S", 0.01)
    engine.put("a")
    engine.put("b")
    assert cli("init", "all").stdout.splitlines()[1:] == ["a         INITED", "b         INITED"]
    engine.failures["start", "a"] = "ZeroDivisionError"
    assert cli("start", "all", code=1).stdout.splitlines() == [
        "STRATEGY  STATE    PROBLEM",
        "a         FAILED   strategy a: ZeroDivisionError",
        "b         RUNNING",
    ]
    engine.errors["stop", "a"] = Overloaded("busy")
    found = json.loads(cli("stop", "all", "--json", code=1).stdout)
    assert [(each["state"], (each["problem"] or {}).get("detail")) for each in found] == [
        ("FAILED", "busy"), ("STOPPED", None),
    ]  # fmt: skip


def test_the_log_without_what_a_terminal_would_obey(cli, api):
    api.engine.put("demo")
    api.write("demo", "one")
    api.write("demo", "two\x1b[2J\n2026-11-21 12:00:00 INFO     three", LogLevel.ERROR)
    lines = cli("logs", "demo").stdout.splitlines()
    assert [line[20:] for line in lines[:2]] == ["INFO     one", "ERROR    two�[2J"]
    assert lines[2:] == ["    2026-11-21 12:00:00 INFO     three"]  # nobody takes it for a line of its own
    assert cli("logs", "demo", "-n", "1", "--level", "error").stdout.splitlines() == lines[1:]
    assert [each["number"] for each in json.loads(cli("logs", "demo", "--json").stdout)] == [1, 2]


def test_profit_in_numbers(cli, api):
    api.engine.put("demo")
    api.ledger.answer = schemas.PNL_EXAMPLE | {"complete": False}
    outcome = cli("pnl", "demo")
    lines = outcome.stdout.splitlines()
    assert lines[:2] == ["demo", "net           4415.80"]
    assert lines[-2:] == [
        "DAY             NET   FEES  TRADES   EQUITY",
        "2026-11-20  4415.80  84.20      24  4415.80",
    ]
    assert "not all days" in outcome.stderr
    assert json.loads(cli("pnl", "demo", "--json").stdout) == schemas.PNL_EXAMPLE | {"complete": False}


@pytest.mark.parametrize(("text", "places"), [("demo", 4), ("趋势", 4), ("ｆ", 2), ("e\u0301", 1), ("", 0), ("·", 1)])
def test_characters_take_the_places_that_a_terminal_gives_them(text, places):
    assert width(text) == places


def test_columns_line_up():
    assert table(("A", "B"), [("趋势", 1.5), ("x", None), ("y", True)], right=(1,)) == [
        "A       B", "趋势  1.5", "x", "y     yes",
    ]  # fmt: skip
