"""The store's URL: what is refused, in words that never show a password, and what the errors of databases mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from testkit.clock import FakeClock
from vnpy_core.adapters.store.errors import explain, named
from vnpy_core.adapters.store.settings import StoreSettings
from vnpy_core.adapters.store.sql import SqlStore
from vnpy_core.adapters.store.url import store_url
from vnpy_core.domain.errors import ConfigurationError, StoreUnavailable


def settings(url: str) -> StoreSettings:
    return StoreSettings(url=SecretStr(url))


def test_without_a_url_it_is_a_file_in_the_data_folder(tmp_path: Path) -> None:
    url = store_url(settings(""), tmp_path)
    assert (url.drivername, url.database) == ("sqlite+aiosqlite", str(tmp_path / "store.sqlite"))


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("no url at all", "no URL"),
        ("mysql://u:hunter2@h/db", "mysql+asyncmy"),
        ("mysql+pymysql://u:hunter2@h/db", "pymysql"),
        ("oracle://u:hunter2@h/db", "oracle"),
        ("sqlite:///store.sqlite", "sqlite+aiosqlite"),
        ("sqlite+aiosqlite://", "file"),
        ("sqlite+aiosqlite:///:memory:", "file"),
        ("mysql+asyncmy://u:hunter2@h", "database"),
        ("postgresql+asyncpg://u:hunter2@h/", "database"),
    ],
)
def test_a_url_that_cannot_work_is_refused_in_words(tmp_path: Path, url: str, word: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        store_url(settings(url), tmp_path)
    assert word in caught.value.detail
    assert "hunter2" not in caught.value.detail


async def test_what_is_no_database_is_the_operators_to_mend(tmp_path: Path) -> None:
    file = tmp_path / "store.sqlite"
    file.write_text("a letter to my grandmother, long enough to be no header of any kind" * 20)
    store = SqlStore(store_url(settings(""), tmp_path), settings(""), FakeClock())
    with pytest.raises(ConfigurationError, match=r"store\.sqlite"):
        await store.open()
    await store.close()


async def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    store = SqlStore(store_url(settings(""), tmp_path), settings(""), FakeClock())
    await store.open()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("store.sqlite*")} == {0o600}
    await store.close()


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = SqlStore(store_url(settings(""), tmp_path / "file" / "deep"), settings(""), FakeClock())
    with pytest.raises(ConfigurationError, match="deep"):
        await store.open()
    await store.close()


async def test_a_folder_in_the_files_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").mkdir()
    store = SqlStore(store_url(settings(""), tmp_path), settings(""), FakeClock())
    with pytest.raises(ConfigurationError, match=r"store\.sqlite"):
        await store.open()
    await store.close()


async def test_before_it_is_open_it_is_unavailable(tmp_path: Path) -> None:
    store = SqlStore(store_url(settings(""), tmp_path), settings(""), FakeClock())
    with pytest.raises(StoreUnavailable, match="not connected"):
        await store.watermark()
    await store.close()


def test_an_unreachable_server_is_away_and_no_wrong_configuration() -> None:
    url = make_url("mysql+asyncmy://u:hunter2@h/db")
    error = named(ConnectionRefusedError(111, "Connection refused"), url)
    assert isinstance(error, StoreUnavailable)
    assert "hunter2" not in error.detail


def test_no_answer_in_time_is_called_so() -> None:
    assert explain(TimeoutError()) == "no answer in time"
