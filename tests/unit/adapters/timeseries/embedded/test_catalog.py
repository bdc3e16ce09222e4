"""Catalogs that are another's, of another version, damaged or lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from testkit.timeseries import RU, all_ticks, ticks_at
from vnpy_core.adapters.timeseries.embedded import EmbeddedStore
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.errors import ConfigurationError, TimeSeriesUnavailable
from vnpy_core.kit.clock import SystemClock


def opened(folder: Path) -> EmbeddedStore:
    store = EmbeddedStore(folder, TimeSeriesSettings(timeout_s=0.2), SystemClock())
    try:
        store.open()
    except BaseException:
        store.close()
        raise
    return store


@pytest.fixture
def filled(folder: Path) -> Path:
    """A folder with a tick in a file and one in the tail."""
    with closing(opened(folder)) as store:
        store.merge_ticks(RU, ticks_at([1]))
        store.flush()
        store.merge_ticks(RU, ticks_at([2], first=1))
    return folder / "catalog.sqlite"


@pytest.mark.parametrize("version", [0, 2])
def test_a_catalog_of_another_version_is_refused(filled: Path, version: int) -> None:
    with closing(sqlite3.connect(filled)) as db:
        db.execute(f"pragma user_version = {version}")
    with pytest.raises(ConfigurationError, match=f"version {version}"):
        opened(filled.parent)


def test_a_file_that_is_no_catalog_is_refused_and_not_changed(folder: Path) -> None:
    folder.mkdir()
    for make in (lambda db: db.execute("create table t (x)"), lambda db: db.execute("pragma application_id = 7")):
        path = folder / "catalog.sqlite"
        with closing(sqlite3.connect(path)) as db:
            make(db)
            db.execute("create table u (x)")
            db.commit()
        before = path.read_bytes()
        with pytest.raises(ConfigurationError, match="not a catalog"):
            opened(folder)
        assert path.read_bytes() == before
        path.unlink()
    (folder / "catalog.sqlite").write_bytes(b"something else altogether" * 100)
    with pytest.raises(ConfigurationError, match=r"catalog\.sqlite"):
        opened(folder)


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match="cannot be opened"):
            opened(path)


def test_files_without_their_catalog_are_not_taken_for_an_empty_store(filled: Path) -> None:
    for path in filled.parent.glob("catalog.sqlite*"):
        path.unlink()
    with pytest.raises(ConfigurationError, match="lost"):
        opened(filled.parent)
    assert list(filled.parent.rglob("*.parquet"))


def test_a_catalog_that_is_damaged_later_makes_calls_fail_that_need_it(filled: Path) -> None:
    with closing(opened(filled.parent)) as store, closing(sqlite3.connect(filled)) as db:
        db.execute("drop table tail")
        db.commit()
        with pytest.raises(TimeSeriesUnavailable, match=r"catalog\.sqlite"):
            all_ticks(store)
        with pytest.raises(TimeSeriesUnavailable, match=r"catalog\.sqlite"):
            store.merge_ticks(RU, ticks_at([3]))


def test_a_writer_that_never_lets_go_is_not_waited_for_longer_than_the_timeout(filled: Path) -> None:
    with closing(opened(filled.parent)) as store, closing(sqlite3.connect(filled, isolation_level=None)) as db:
        db.execute("begin immediate")
        with pytest.raises(TimeSeriesUnavailable, match="locked"):
            store.merge_ticks(RU, ticks_at([3]))
        assert len(all_ticks(store)) == 2
        assert store.state().available
        db.execute("rollback")
        assert store.merge_ticks(RU, ticks_at([3], first=2)).added == 1


def test_the_state_never_raises(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "none", TimeSeriesSettings(), SystemClock())
    state = store.state()
    assert (state.kind, state.available) == ("embedded", False)
    assert state.detail
