"""Ticks and bars in the data folder: a SQLite tail, rolled into Parquet files that DuckDB reads (decision 0013)."""

from vnpy_core.adapters.timeseries.embedded.store import EmbeddedStore

__all__ = ["EmbeddedStore"]
