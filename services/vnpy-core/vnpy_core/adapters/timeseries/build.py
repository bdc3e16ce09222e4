"""The tick and bar store that the settings ask for."""

from __future__ import annotations

from pathlib import Path

from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.timeseries import TimeSeriesStore

FOLDER = "timeseries"
"""Of the embedded store, in the data folder."""


def build_store(settings: TimeSeriesSettings, data: Path, clock: Clock) -> TimeSeriesStore:
    """Make the store of the data folder, not yet opened; only what it needs is imported."""
    if settings.kind == "influxdb":
        from vnpy_core.adapters.timeseries.influx import InfluxStore  # noqa: PLC0415

        return InfluxStore(settings)
    from vnpy_core.adapters.timeseries.embedded import EmbeddedStore  # noqa: PLC0415

    return EmbeddedStore(data / FOLDER, settings, clock)
