"""The command line, but for serving: its words, its exit codes, and what it leaves alone."""

import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vnpy_core import __version__
from vnpy_core.__main__ import app
from vnpy_core.cli.scaffold import FILES, initialise, template
from vnpy_core.kit.lock import DataFolderLock
from vnpy_core.settings import load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VNPYCORE_CONFIG", raising=False)

    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def trader(tmp_path):
    """An existing trader's folder."""
    folder = tmp_path / "home" / ".vntrader"
    folder.mkdir(parents=True)
    (folder / "vt_setting.json").write_text('{"database.password": "CANARY"}')
    (folder / "connect_ctp.json").write_text('{"用户名": "me", "密码": "CANARY"}')
    (folder / "cta_strategy_setting.json").write_text('{"one": {"class_name": "DoubleMaStrategy"}}')
    (folder / "cta_strategy_data.json").write_text("{}")
    (folder / "risk_manager_setting.json").write_text("{}")
    (folder / "database.db").write_text("not taken")
    return folder


def test_version_names_what_it_runs_on(cli):
    outcome = cli("version")
    assert outcome.exit_code == 0
    assert outcome.stdout.startswith(f"vnpy-core {__version__}\n")
    assert "vnpy 4" in outcome.stdout


def test_wrong_usage_is_2(cli):
    assert cli("no-such-command").exit_code == 2
    assert cli("restore").exit_code == 2


# --- init ---


def test_init_writes_a_configuration_that_loads(cli, tmp_path):
    assert cli("init").exit_code == 0
    assert all((tmp_path / path).exists() for path in FILES)
    settings = load_settings(None, {})
    assert settings.paths.data == tmp_path / "vnpy_data"
    assert settings.gateways["PAPER"].auto_connect


def test_init_overwrites_only_when_forced(cli, tmp_path):
    config = tmp_path / "there" / "vnpy_config" / "service.toml"
    assert cli("init", "there").exit_code == 0
    config.write_text("mine")
    refused = cli("init", "there")
    assert (refused.exit_code, config.read_text()) == (1, "mine")
    assert "--force" in refused.stderr
    assert cli("init", "there", "--force").exit_code == 0
    assert config.read_text() == template("service.toml")


@pytest.mark.parametrize(("path", "name"), FILES.items())
def test_the_repository_has_what_init_writes(path, name):
    assert (ROOT / path).read_text() == template(name), f"{path} and the template {name} must be the same text"


def test_what_the_template_has_commented_out_is_the_default(tmp_path):
    initialise(tmp_path)
    config = tmp_path / "vnpy_config" / "service.toml"
    plain = load_settings(config, {})
    head, gateways = template("service.toml").split("# A gateway's table", 1)
    config.write_text(re.sub(r"(?m)^# (?=\[|[a-z_]+ = )", "", head) + f"# {gateways}")
    spelled = load_settings(config, {})
    assert spelled.log.file is not None  # an example: the default is none
    assert spelled.model_copy(update={"log": plain.log}) == plain
    assert spelled.log.model_copy(update={"file": None}) == plain.log


# --- check ---


@pytest.fixture
def configured(cli, tmp_path):
    """A good configuration, and a check in a process of its own, because it imports vnpy."""
    initialise(tmp_path)

    def check():
        command = [sys.executable, "-m", "vnpy_core", "check"]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("VNPYCORE")}
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

    return check


def test_check_is_content_with_what_init_wrote_and_leaves_nothing_behind(configured, tmp_path):
    outcome = configured()
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert "good" in outcome.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["strategies", "vnpy_config"]


def test_check_tells_everything_that_is_wrong_and_where(configured, tmp_path):
    config = tmp_path / "vnpy_config" / "service.toml"
    config.write_text(
        '[apps.Nope]\nclass = "no_such_package:App"\n'
        '[gateways.TYPO]\nclass = "vnpy_ctastrategy:CtaStrateyApp"\n'
        '[gateways.PAPER]\nclass = "vnpy_core.gateways.paper.gateway:PaperGateway"\nsetting = { sped = 2.0 }\n'
        '[strategies.demo]\nclass_name = "DemoStrategi"\nvt_symbol = "demo"\n'
    )
    (tmp_path / "vnpy_config" / "vt_setting.json").write_text('{"a": ')
    (tmp_path / "vnpy_config" / "contracts.toml").write_text("= broken")
    (tmp_path / "strategies" / "broken.py").write_text("class X:\n  def f(:\n")
    outcome = configured()
    assert outcome.returncode == 1
    for expected in (
        "vt_setting.json: broken JSON at line 1, column 7",
        "contracts.toml",
        "broken.py, line 2",
        "strategies.demo.class_name: no file has a class DemoStrategi; did you mean DemoStrategy?",
        "strategies.demo.vt_symbol: 'demo' is not like rb2505.SHFE",
        "apps.Nope.class: there is no module no_such_package",
        "gateways.TYPO.class: vnpy_ctastrategy has no class CtaStrateyApp; did you mean CtaStrategyApp?",
        "gateways.PAPER.setting.sped: unknown to the gateway; did you mean speed?",
    ):
        assert expected in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_check_tells_of_wrong_settings_without_a_traceback(cli, tmp_path):
    config = tmp_path / "service.toml"
    config.write_text("[server]\nport = -1\n")
    outcome = cli("check", "--config", config)
    assert outcome.exit_code == 1
    assert "line 2: server.port" in outcome.stderr
    assert "Traceback" not in outcome.output


def test_check_tells_of_folders_that_cannot_be_used(cli, tmp_path):
    config = tmp_path / "service.toml"
    (tmp_path / "file").write_text("")
    config.write_text('[paths]\ndata = "file/below"\nstrategies = "nowhere"\n')
    outcome = cli("check", "--config", config)
    assert outcome.exit_code == 1
    assert f"paths.data: {tmp_path / 'file'} is a file" in outcome.stderr
    assert f"there is no folder {tmp_path / 'nowhere'}" in outcome.stderr


# --- import-vnpy ---


def test_an_existing_trader_is_taken_over_privately_and_silently(cli, tmp_path, trader):
    before = {path.name: path.read_bytes() for path in trader.iterdir()}
    outcome = cli("import-vnpy", trader)
    assert outcome.exit_code == 0
    target = tmp_path / "vnpy_data" / ".vntrader"
    assert sorted(path.name for path in target.iterdir()) == sorted(before.keys() - {"database.db"})
    assert (target / "connect_ctp.json").read_bytes() == before["connect_ctp.json"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.iterdir()} == {0o600}
    assert {path.name: path.read_bytes() for path in trader.iterdir()} == before
    assert "CANARY" not in outcome.output


def test_the_folder_above_will_do(cli, trader):
    assert cli("import-vnpy", trader.parent).exit_code == 0


def test_a_broken_file_is_reported_and_the_others_are_taken(cli, tmp_path, trader):
    (trader / "connect_ctp.json").write_text('{"密码": "CANARY"')
    outcome = cli("import-vnpy", trader)
    assert outcome.exit_code == 1
    assert "connect_ctp.json: skipped, broken JSON at line 1" in outcome.stderr
    assert "vt_setting.json: taken over" in outcome.stdout
    assert "CANARY" not in outcome.output
    assert not (tmp_path / "vnpy_data" / ".vntrader" / "connect_ctp.json").exists()


def test_other_content_is_overwritten_only_when_forced(cli, tmp_path, trader):
    assert cli("import-vnpy", trader).exit_code == 0
    assert cli("import-vnpy", trader).exit_code == 0  # the same again is no conflict
    (trader / "vt_setting.json").write_text('{"new": 1}')
    refused = cli("import-vnpy", trader)
    assert refused.exit_code == 1
    assert "vt_setting.json" in refused.stderr
    assert cli("import-vnpy", trader, "--force").exit_code == 0
    assert json.loads((tmp_path / "vnpy_data" / ".vntrader" / "vt_setting.json").read_text()) == {"new": 1}


@pytest.mark.parametrize("make", [False, True])
def test_a_folder_without_a_trader_is_refused(cli, tmp_path, make):
    if make:
        (tmp_path / "empty").mkdir()
    assert cli("import-vnpy", tmp_path / "empty").exit_code == 1


def test_nothing_is_taken_over_under_a_running_service(cli, tmp_path, trader):
    with DataFolderLock(tmp_path / "vnpy_data"):
        outcome = cli("import-vnpy", trader)
    assert outcome.exit_code == 1
    assert "in use" in outcome.stderr


# --- backup and restore ---


def test_what_was_backed_up_is_restored(cli, tmp_path, trader):
    cli("import-vnpy", trader)
    data = tmp_path / "vnpy_data"
    with closing(sqlite3.connect(data / "ledger.sqlite")) as ledger:
        ledger.executescript("CREATE TABLE t(x); INSERT INTO t VALUES (7);")
    assert cli("backup", "b.tar.gz").exit_code == 0
    assert stat.S_IMODE((tmp_path / "b.tar.gz").stat().st_mode) == 0o600
    refused = cli("restore", "b.tar.gz")
    assert refused.exit_code == 1
    assert "not empty" in refused.stderr
    assert cli("restore", "b.tar.gz", "--force").exit_code == 0
    with closing(sqlite3.connect(data / "ledger.sqlite")) as ledger:
        assert ledger.execute("SELECT x FROM t").fetchone() == (7,)


def test_restore_refuses_under_a_running_service(cli, tmp_path, trader):
    cli("import-vnpy", trader)
    cli("backup", "b.tar.gz")
    with DataFolderLock(tmp_path / "vnpy_data"):
        outcome = cli("restore", "b.tar.gz", "--force")
    assert outcome.exit_code == 1
    assert "in use" in outcome.stderr


def test_restore_of_what_is_no_backup_is_told_without_a_traceback(cli, tmp_path):
    (tmp_path / "b.tar.gz").write_bytes(b"nonsense")
    outcome = cli("restore", "b.tar.gz")
    assert outcome.exit_code == 1
    assert "cannot be read" in outcome.stderr
    assert isinstance(outcome.exception, SystemExit)


# --- openapi ---


def test_openapi_is_written_without_an_engine(cli, tmp_path):
    command = [sys.executable, "-c", "import sys; from vnpy_core.__main__ import main; main()", "openapi"]
    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    assert "/api/v1/trading/orders" in document["paths"]
    assert list(tmp_path.iterdir()) == []
