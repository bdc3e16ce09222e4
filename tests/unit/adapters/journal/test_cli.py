"""`vnpy-core journal verify | tail | export`."""

import json
import sqlite3
import stat
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from vnpy_core.cli.journal import app
from vnpy_core.ports.journal import Row


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "service.toml"
    file.write_text('[paths]\ndata = "data"\n')
    return file


@pytest.fixture
def cli(config):
    def run(command, *arguments):
        return CliRunner().invoke(app, [command, "--config", str(config), *map(str, arguments)])

    return run


@pytest.fixture
def journal(opened, rows):
    """Five orders and a trade, in a journal that a service has open."""
    journal = opened()
    journal.append(rows(1, 5))
    journal.append(rows(6, 1, kind="trade.executed"))
    return journal


def seqs(text):
    return [json.loads(line)["seq"] for line in text.splitlines()]


@pytest.mark.parametrize("command", [["verify"], ["tail"], ["export", "-"]])
def test_without_a_journal_they_say_so_and_make_none(cli, tmp_path, command):
    outcome = cli(*command)
    assert outcome.exit_code == 1
    assert "there is no journal" in outcome.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", [["verify"], ["tail"], ["export", "-"]])
def test_a_file_that_is_none_is_told_in_words(cli, path, command):
    path.parent.mkdir()
    path.write_bytes(b"garbage" * 1000)
    outcome = cli(*command)
    assert outcome.exit_code == 1
    assert "cannot be read as a journal" in outcome.stderr


def test_verify_says_that_it_is_good(cli, journal):
    outcome = cli("verify", "--watermark", "epoch-1:6")
    assert outcome.exit_code == 0
    assert outcome.stdout == "the journal is good: rows 1 to 6, 2 commits, epoch epoch-1\n"


def test_verify_says_what_is_wrong(cli, journal, path):
    assert "ends at 6" in cli("verify", "--watermark", "epoch-1:7").stderr
    assert "EPOCH:SEQ" in cli("verify", "--watermark", "7").stderr
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("update rows set payload = cast('{}' as blob) where seq = 2")
    connection.close()
    outcome = cli("verify")
    assert outcome.exit_code == 1
    assert "rows 1 to 5 are not as they were committed" in outcome.stderr
    assert "restore a backup" in outcome.stderr
    assert outcome.stdout == ""


def test_tail_shows_the_newest_rows_last(cli, journal):
    lines = cli("tail", "-n", 2).stdout.splitlines()
    assert lines[0].startswith("5  1970-01-01T00:00:05.000+00:00  order.updated  key-5  {")
    assert lines[1].startswith("6  ")
    assert seqs(cli("tail", "--json").stdout) == [1, 2, 3, 4, 5, 6]
    assert seqs(cli("tail", "--json", "-n", 2, "--kind", "order.updated").stdout) == [4, 5]
    assert seqs(cli("tail", "--json", "--kind", "order.updated", "--kind", "trade.executed").stdout) == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    assert cli("tail", "-n", 0).stdout == ""


def test_tail_follows_what_comes_next(config, journal, rows):
    command = [sys.executable, "-c", "from vnpy_core.cli.journal import app; app()", "tail", "--config", str(config)]
    arguments = ["-n", "1", "--follow", "--json", "--kind", "trade.executed"]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert json.loads(process.stdout.readline())["seq"] == 6
            journal.append(rows(7, 2))
            journal.append(rows(9, 1, kind="trade.executed"))
            assert json.loads(process.stdout.readline())["seq"] == 9
            journal.append(rows(10, 1, kind="trade.executed"))
            assert json.loads(process.stdout.readline())["seq"] == 10
        finally:
            process.terminate()


def test_export_writes_rows_with_their_payload_as_json(cli, journal, rows, tmp_path):
    target = tmp_path / "rows.jsonl"
    assert cli("export", target).exit_code == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    given = [*rows(1, 5), *rows(6, 1, kind="trade.executed")]
    assert lines == [
        {name: getattr(row, name) for name in ("seq", "epoch", "run_id", "ts", "kind", "key")}
        | {"payload": json.loads(row.payload)}
        for row in given
    ]
    assert target.read_bytes() == cli("export", "-").stdout_bytes


def test_export_takes_a_part(cli, journal):
    assert seqs(cli("export", "-", "--from", 3).stdout) == [3, 4, 5, 6]
    assert seqs(cli("export", "-", "--from", 3, "--kind", "order.updated").stdout) == [3, 4, 5]
    assert seqs(cli("export", "-", "--from", 99).stdout) == []


def test_export_overwrites_only_when_forced(cli, journal, tmp_path):
    target = tmp_path / "rows.jsonl"
    target.write_text("mine" * 1000)
    refused = cli("export", target)
    assert (refused.exit_code, target.read_text()) == (1, "mine" * 1000)
    assert "--force" in refused.stderr
    assert cli("export", target, "--force").exit_code == 0
    assert seqs(target.read_text()) == [1, 2, 3, 4, 5, 6]
    assert "No such file" in cli("export", tmp_path / "nowhere" / "file").stderr


def test_a_payload_that_is_not_json_stays_on_one_line(cli, opened):
    opened().append([Row(1, "e", "r", 1, "k", "k", b'broken\n{"\xff'), Row(2, "e", "r", 1, "k", "k", b'{\n"a": 1}')])
    lines = cli("export", "-").stdout.splitlines()
    assert [json.loads(line)["payload"] for line in lines] == ['broken\n{"\\xff', {"a": 1}]


def test_a_journal_that_no_service_has_open_can_be_read_too(cli, journal):
    journal.close()
    assert cli("verify").exit_code == 0
    assert seqs(cli("tail", "--json").stdout) == [1, 2, 3, 4, 5, 6]
