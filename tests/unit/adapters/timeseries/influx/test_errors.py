"""What the servers' refusals mean. The words are those of InfluxDB 1.8, 2.7 and 3 Core."""

from __future__ import annotations

import pytest

from vnpy_core.adapters.timeseries.influx.errors import refusal, shown
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.errors import ConfigurationError, StorageFull, TimeSeriesUnavailable

SETTINGS = TimeSeriesSettings(kind="influxdb", url="http://influx.example:8086", bucket="vnpy")


@pytest.mark.parametrize(
    ("status", "words", "kind", "says"),
    [
        (401, "unauthorized access", ConfigurationError, "timeseries.token"),
        (403, '"trader" user is not authorized to write to database "vnpy"', ConfigurationError, "timeseries.token"),
        (404, 'database not found: "vnpy"', ConfigurationError, "there is no 'vnpy'"),
        (404, 'bucket "vnpy" not found', ConfigurationError, "timeseries.bucket"),
        (200, "database not found: vnpy", ConfigurationError, "DBRP mapping"),
        (200, "no dbrp mapping found", ConfigurationError, "DBRP mapping"),
        (404, "404 page not found", ConfigurationError, "1.8 or later"),
        (400, "partial write: field type conflict: input field ... dropped=1", ConfigurationError, "only a part"),
        (422, "failure writing points to database: partial write: points beyond", ConfigurationError, "only a part"),
        (400, "unable to parse 'x': missing fields", ConfigurationError, "unable to parse"),
        (413, "Request Entity Too Large", ConfigurationError, "Too Large"),
        (507, "", StorageFull, "507"),
        (500, "engine: error writing WAL entry: write 1.wal: no space left on device", StorageFull, "no space"),
        (500, "timeout", TimeSeriesUnavailable, "timeout"),
        (503, "engine: cache-max-memory-size exceeded", TimeSeriesUnavailable, "cache"),
        (429, "too many requests", TimeSeriesUnavailable, "too many"),
        (200, "query-timeout limit exceeded", TimeSeriesUnavailable, "limit"),
        (500, "This feature is not implemented: DELETE", ConfigurationError, "cannot do that"),
    ],
)
def test_a_refusal_is_named_by_what_the_operator_can_do(status, words, kind, says):
    error = refusal(status, words, SETTINGS)
    assert type(error) is kind
    assert says in error.detail


def test_a_url_is_shown_without_its_login():
    assert shown("http://trader:s3cret@host:8086/path") == "http://host:8086/path"
