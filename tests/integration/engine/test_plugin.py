"""The plugin as a guest: what it leaves in its host when it goes early or never came to be."""

import asyncio
import socket

import pytest
import structlog

from vnpy_core.domain.errors import ConfigurationError


@pytest.fixture
def main_engine(vnpy_home):
    from vnpy.event import EventEngine
    from vnpy.trader.engine import MainEngine

    main_engine = MainEngine(EventEngine())
    yield main_engine
    main_engine.close()


@pytest.fixture
def configured(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "service.toml"
    path.write_text(f'[server]\nport = {port}\n[paths]\ndata = "{tmp_path / "data"}"\n')
    monkeypatch.setenv("VNPYCORE_CONFIG", str(path))
    return tmp_path / "data"


def wraps(main_engine) -> set[str]:
    return {"put", "_process", "stop"} & vars(main_engine.event_engine).keys()


def test_a_close_during_the_start_ends_the_service_and_leaves_nothing(main_engine, configured):
    from vnpy_core.plugin import CoreServiceApp

    before = structlog.get_config()
    structlog.reset_defaults()
    try:
        engine = main_engine.add_app(CoreServiceApp)
        engine.close()
        assert not engine._thread.is_alive()
        assert wraps(main_engine) == set()
        assert not structlog.is_configured()
    finally:
        structlog.configure(**before)


def test_a_data_folder_in_use_is_told_and_not_shared(main_engine, configured):
    from vnpy_core.kit.lock import DataFolderLock
    from vnpy_core.plugin import CoreServiceApp

    with DataFolderLock(configured):
        engine = main_engine.add_app(CoreServiceApp)
        assert engine.ready.wait(10)
    assert "in use" in engine.error


def test_a_service_that_cannot_be_made_leaves_the_engine_unwrapped(main_engine, configured):
    from vnpy_core.app import Service
    from vnpy_core.plugin.engine import plugin_settings

    configured.mkdir()
    (configured / "secrets").write_text("not a folder")

    async def make() -> None:
        Service(plugin_settings(configured), main_engine=main_engine)

    with pytest.raises(ConfigurationError, match="cannot be opened"):
        asyncio.run(make())
    assert wraps(main_engine) == set()


def test_a_service_toml_that_comes_later_does_not_lead_away_from_the_data(tmp_path, monkeypatch):
    from vnpy_core.plugin.engine import plugin_settings

    monkeypatch.delenv("VNPYCORE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "vnpy_core"
    folder.mkdir()
    assert plugin_settings(folder).paths.data == folder
    (folder / "journal.sqlite").touch()
    toml = folder / "service.toml"
    toml.write_text("[server]\nport = 8010\n")
    with pytest.raises(ConfigurationError, match=r'data = "\."'):
        plugin_settings(folder)
    toml.write_text('[paths]\ndata = "."\n')
    assert plugin_settings(folder).paths.data == folder


async def test_a_hosts_own_send_email_outlives_the_guest(run_host, main_engine):
    from vnpy_ctastrategy import CtaStrategyApp

    main_engine.add_app(CtaStrategyApp)
    main_engine.send_email = theirs = lambda subject, content, receiver: None
    async with run_host(main_engine=main_engine):
        pass
    assert main_engine.send_email is theirs
