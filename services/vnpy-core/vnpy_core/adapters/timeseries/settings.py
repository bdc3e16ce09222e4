"""`[timeseries]` and `[recorder]` of service.toml."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TimeSeriesSettings(_Frozen):
    """Where ticks and bars are kept."""

    kind: Literal["embedded", "influxdb"] = "embedded"
    """`embedded`: Parquet files and a SQLite tail in the data folder's `timeseries`."""
    roll_rows: int = Field(default=50_000, ge=1)
    """Embedded: a series' day is rolled into a file when so many rows wait."""
    roll_s: float = Field(default=3600.0, gt=0)
    """Embedded: and at the latest after so many seconds."""
    url: str = "http://127.0.0.1:8086"
    """InfluxDB 1.8+, 2.x or 3."""
    token: SecretStr = SecretStr("")
    """`user:password` for 1.8. Belongs into VNPYCORE__TIMESERIES__TOKEN, not into a file."""
    org: str = ""
    bucket: str = "vnpy"
    """The database for 1.8."""
    timeout_s: float = Field(default=10.0, gt=0, le=300)


class RecorderSettings(_Frozen):
    """What is recorded of the live market."""

    symbols: tuple[str, ...] = ("*",)
    """vt_symbols or patterns (`rb*.SHFE`, `*.GLOBAL`); none records nothing. PUT /data/recorder overrides it."""
    ring: int = Field(default=100_000, ge=1_000)
    """Ticks that may wait for the store; those that come while it is full are dropped, counted and listed as gaps."""
    flush_ms: int = Field(default=500, ge=20, le=60_000)
    """How long a tick may wait before it is durable."""
