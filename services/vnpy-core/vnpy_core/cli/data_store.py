"""The tick and bar store for one command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vnpy_core.adapters.timeseries.build import build_store
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.errors import TryLater
from vnpy_core.gateways.paper.contracts import ContractTable
from vnpy_core.kit.clock import SystemClock
from vnpy_core.ports.timeseries import TimeSeriesStore


@contextmanager
def opened(settings: TimeSeriesSettings, data: Path) -> Iterator[TimeSeriesStore]:
    """The store of a data folder; a service may be using it. Raises what `TimeSeriesStore.open` does."""
    store = build_store(settings, data, SystemClock())
    try:
        store.open()
        yield store
    finally:
        store.close()


def tidy(store: TimeSeriesStore) -> None:
    """Bring what was written into its final form; what is in the way now, a running service will do later."""
    with suppress(TryLater):
        store.flush()


def exchange_resolver(contracts: Path | None) -> Callable[[str], str | None]:
    """What a contract table says of a symbol; without a table nothing is known. Raises ConfigurationError."""
    if contracts is None or not contracts.exists():
        return lambda symbol: None
    return ContractTable(contracts).exchange_of
