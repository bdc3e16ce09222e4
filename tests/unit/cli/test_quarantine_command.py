from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from vnpy_core.cli.quarantine import app
from vnpy_core.engine.quarantine import Entry, Quarantine


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VNPYCORE__PATHS__DATA", str(tmp_path / "data"))
    monkeypatch.delenv("VNPYCORE_CONFIG", raising=False)
    return lambda *arguments: CliRunner().invoke(app, arguments)


@pytest.fixture
def quarantine(tmp_path):
    quarantine = Quarantine(tmp_path / "data")
    at = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
    quarantine.add("grid", Entry(reason="did not return", at=at, stack="  File one\n  File two\n"))
    return quarantine


def test_the_list_says_since_when_and_why_and_shows_stacks_where_asked(cli, quarantine):
    assert cli("list").stdout == "grid: since 2026-11-21 09:30:00 UTC: did not return\n"
    assert "  File one\n  File two\n" in cli("list", "--stacks").stdout


def test_a_released_strategy_is_no_longer_held(cli, quarantine):
    outcome = cli("release", "grid")
    assert (outcome.exit_code, outcome.stdout.startswith("grid may run again")) == (0, True)
    assert quarantine.entries() == {}
    assert cli("list").stdout == "nothing is in quarantine\n"


def test_what_is_not_held_and_a_broken_file_are_refused_in_words(cli, quarantine, tmp_path):
    outcome = cli("release", "other")
    assert outcome.exit_code == 1
    assert "there is: grid" in outcome.stderr
    (tmp_path / "data" / "quarantine.json").write_text("{")
    for arguments in (("list",), ("release", "grid")):
        outcome = cli(*arguments)
        assert outcome.exit_code == 1
        assert "quarantine.json is broken" in outcome.stderr
        assert "Traceback" not in outcome.stderr
