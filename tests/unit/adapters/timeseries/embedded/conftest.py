"""A store whose time stands still, and whose own thread has nothing to do unless a test wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testkit.clock import FakeClock
from vnpy_core.adapters.timeseries.embedded import EmbeddedStore
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings

MakeStore = Callable[..., EmbeddedStore]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "timeseries"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make(folder: Path, clock: FakeClock) -> Iterator[MakeStore]:
    """Makes stores over the folder, opened, which are closed afterwards; with settings of their own."""
    made: list[EmbeddedStore] = []

    def make(**settings: float) -> EmbeddedStore:
        made.append(EmbeddedStore(folder, TimeSeriesSettings(**settings), clock))
        made[-1].open()
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make: MakeStore) -> EmbeddedStore:
    return make()
