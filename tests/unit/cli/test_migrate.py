"""`vnpy-core migrate`: says what is to be done, does it once."""

from __future__ import annotations

from pathlib import Path

import pytest

from vnpy_core.cli.migrate import migrate
from vnpy_core.domain.errors import ConfigurationError, StoreUnavailable
from vnpy_core.settings import Settings, load_settings


def settings(folder: Path, **environment: str) -> Settings:
    return load_settings(None, {"VNPYCORE__PATHS__DATA": str(folder / "data"), **environment})


def test_a_check_tells_and_makes_nothing(tmp_path: Path) -> None:
    lines = migrate(settings(tmp_path), check=True)
    assert lines[0].endswith("store.sqlite: to be done:")
    assert [line.split()[0] for line in lines[1:]] == ["0001", "0002"]
    assert not (tmp_path / "data").exists()


def test_migrations_are_done_once(tmp_path: Path) -> None:
    assert migrate(settings(tmp_path))[0].endswith(": done:")
    for check in (True, False):
        (line,) = migrate(settings(tmp_path), check=check)
        assert line.endswith("the schema is up to date")


def test_the_password_is_not_shown(tmp_path: Path) -> None:
    there = settings(tmp_path, VNPYCORE__STORE__URL="mysql+asyncmy://trader:hunter2@127.0.0.1:1/db")
    with pytest.raises(StoreUnavailable) as caught:
        migrate(there, check=True)
    assert "hunter2" not in caught.value.detail
    with pytest.raises(ConfigurationError):
        migrate(settings(tmp_path, VNPYCORE__STORE__URL="mysql://trader:hunter2@127.0.0.1:1/db"))
