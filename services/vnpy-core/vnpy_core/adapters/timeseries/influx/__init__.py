"""The tick and bar store on an InfluxDB server: 1.8 or later, 2.x, 3. How the data is laid out: docs/influxdb.md."""

from vnpy_core.adapters.timeseries.influx.store import InfluxStore

__all__ = ["InfluxStore"]
