"""Files that were cut off anywhere: a clear error or a safe start, never an order. And a folder that is in use."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from e2e.conftest import DEMO, PASSWORD, REPOSITORY, free_port
from integration.engine.conftest import run_host  # noqa: F401 - a fixture
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.engine.quarantine import Quarantine
from vnpy_core.engine.settings import GatewaySettings, StrategySettings
from vnpy_core.kit.lock import DataFolderLock
from vnpy_core.settings import load_settings

STRATEGY_FILE = {"网格": {"class_name": "QuietStrategy", "vt_symbol": "rb2701.SHFE", "setting": {}}}
DATA_FILE = {"网格": {"pos": 3, "ticks": 7}}
SUBSCRIPTIONS = {"rb2701.SHFE": "PAPER"}
QUARANTINE = {"网格": {"reason": "x", "at": "2026-11-21T09:30:00Z", "stack": "y"}}
VT_SETTING = {"font.family": "微软雅黑", "log.level": 20}


def cuts(content: bytes) -> Iterator[bytes]:
    """What may be left of a file: each of its beginnings, the empty one first, the whole one not."""
    for length in range(len(content)):
        yield content[:length]


def as_json(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


# --- read at each cut ---


def test_service_toml_cut_anywhere_is_refused_by_name_or_means_no_more_than_it_says(tmp_path):
    path = tmp_path / "service.toml"
    whole = DEMO.rstrip().encode()
    path.write_bytes(whole)
    complete = load_settings(path, {})
    refused = 0
    for content in cuts(whole):
        path.write_bytes(content)
        try:
            settings = load_settings(path, {})
        except ConfigurationError as error:
            refused += 1
            assert str(path) in str(error), content[-40:]
            continue
        for name, strategy in settings.strategies.items():
            assert not strategy.auto_start, f"{name} would trade with half of its table"
            assert strategy.vt_symbol == complete.strategies[name].vt_symbol
        for name, gateway in settings.gateways.items():
            assert gateway.class_ == complete.gateways[name].class_
    assert refused > len(whole) / 2
    print(f"{refused} of {len(whole)} cuts are refused")


def test_vt_setting_json_cut_anywhere_refuses_the_start_by_name_before_vnpy_is_loaded(tmp_path):
    script = """
import sys
from pathlib import Path
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.engine.home import prepare_home
root, whole = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
for folder in (root / "config", root / "data" / ".vntrader"):
    folder.mkdir(parents=True, exist_ok=True)
    for length in range(len(whole)):
        (folder / "vt_setting.json").write_bytes(whole[:length])
        try:
            prepare_home(root / "data", root / "strategies", config_folder=root / "config")
        except ConfigurationError as error:
            assert f"{folder.name}/vt_setting.json" in str(error), error
        else:
            raise AssertionError(f"{length} bytes were taken for a whole file")
    (folder / "vt_setting.json").write_bytes(whole)
assert "vnpy.trader" not in sys.modules
print(len(whole), "cuts refused")
"""
    (tmp_path / "whole").write_bytes(as_json(VT_SETTING))
    command = [sys.executable, "-c", script, tmp_path / "root", tmp_path / "whole"]
    (tmp_path / "root" / "strategies").mkdir(parents=True)
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(as_json(VT_SETTING))} cuts refused\n"


def test_our_own_files_cut_anywhere_are_refused_by_name(tmp_path, vnpy_home):
    from vnpy_core.engine.gateways import Subscriptions

    path = tmp_path / "subscriptions.json"
    for content in cuts(as_json(SUBSCRIPTIONS)):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"subscriptions\.json is broken"):
            Subscriptions(path).load()
    path = tmp_path / "quarantine.json"
    for content in cuts(as_json(QUARANTINE)):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"quarantine\.json is broken"):
            Quarantine(tmp_path).entries()


@pytest.mark.parametrize(
    ("name", "content"), [("cta_strategy_setting.json", STRATEGY_FILE), ("cta_strategy_data.json", DATA_FILE)]
)
def test_vnpys_strategy_files_cut_anywhere_are_never_taken_for_whole_ones(vnpy_home, name, content):
    from vnpy.trader.utility import load_json

    path = vnpy_home / ".vntrader" / name
    try:
        for cut in cuts(as_json(content)):
            path.write_bytes(cut)
            with pytest.raises(ValueError, match=r"."):
                load_json(name)
    finally:
        path.unlink()


# --- what follows in the engine ---


@pytest.mark.parametrize(
    ("name", "content"), [("cta_strategy_setting.json", STRATEGY_FILE), ("cta_strategy_data.json", DATA_FILE)]
)
async def test_with_a_cut_strategy_file_no_strategy_runs_and_the_file_is_left_for_the_operator(
    run_host, vnpy_home, tmp_path, name, content  # noqa: F811
):  # fmt: skip
    whole = as_json(content)
    path = vnpy_home / ".vntrader" / name
    eager = StrategySettings(class_name="BuyingOnStartStrategy", vt_symbol="rb2701.SHFE", auto_start=True)
    plain = GatewaySettings(class_="testkit.gateways:PlainGateway", auto_connect=True)
    for number, cut in enumerate((b"", whole[:3], whole[: len(whole) // 2], whole[:-1])):
        path.write_bytes(cut)
        data = tmp_path / str(number)
        data.mkdir()
        async with run_host(data=data, gateways={"P": plain}, strategies={"eager": eager}) as host:
            gateway = host.main_engine.gateways["P"]
            async with asyncio.timeout(10):
                while not host.gateways()[0].connected:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            gateway.tick()
            await asyncio.sleep(0.05)
            assert "Error" in host.status().apps["CtaStrategy"]
            assert gateway.orders == {}
            assert host.status().alive
        assert path.read_bytes() == cut
    path.unlink()


async def test_with_whole_strategy_files_the_same_strategy_buys(run_host, vnpy_home):  # noqa: F811
    """That the test above can fail."""
    eager = StrategySettings(class_name="BuyingOnStartStrategy", vt_symbol="rb2701.SHFE", auto_start=True)
    plain = GatewaySettings(class_="testkit.gateways:PlainGateway", auto_connect=True)
    async with run_host(gateways={"P": plain}, strategies={"eager": eager}) as host:
        async with asyncio.timeout(10):
            while not host.main_engine.gateways["P"].orders:
                await asyncio.sleep(0.01)


# --- what the operator is told ---


@pytest.fixture
def site(tmp_path) -> SimpleNamespace:
    """A configuration and a data folder, and `serve()`, which ought to refuse: its code, words and seconds."""
    (tmp_path / "vnpy_config").mkdir()
    (tmp_path / "strategies").symlink_to(REPOSITORY / "strategies", target_is_directory=True)
    config = tmp_path / "vnpy_config" / "service.toml"
    config.write_text(DEMO)
    environ = {
        **os.environ,
        "VNPYCORE__SERVER__PORT": str(free_port()),
        "VNPYCORE__AUTH__ADMIN_PASSWORD": PASSWORD,
    }

    def serve() -> tuple[int, str, float]:
        started = time.monotonic()
        command = [sys.executable, "-m", "vnpy_core", "serve", "--config", str(config)]
        done = subprocess.run(
            command, check=False, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stderr, time.monotonic() - started

    return SimpleNamespace(config=config, data=tmp_path / "vnpy_data", serve=serve)


@pytest.mark.parametrize(
    ("file", "whole"),
    [
        ("config", DEMO.encode()[:-2]),
        ("data/.vntrader/vt_setting.json", as_json(VT_SETTING)[:-1]),
        ("data/subscriptions.json", as_json(SUBSCRIPTIONS)[:-1]),
        ("data/quarantine.json", as_json(QUARANTINE)[:-1]),
    ],
)
def test_a_broken_file_refuses_the_start_in_words_that_name_it(site, file, whole):
    path: Path = site.config if file == "config" else site.data / file.removeprefix("data/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole)
    code, said, _ = site.serve()
    assert code == 1, said
    assert str(path) in said
    assert "Traceback" not in said
    assert path.read_bytes() == whole


def test_a_second_instance_on_the_folder_is_told_so_within_a_moment(site):
    with DataFolderLock(site.data):
        code, said, seconds = site.serve()
    assert code == 1
    assert f"in use by another service (process {os.getpid()})" in said
    assert "Traceback" not in said
    print(f"refused in {seconds:.2f} s")
    assert seconds < 10
