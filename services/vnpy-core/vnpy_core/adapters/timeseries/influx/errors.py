"""What goes wrong between us and InfluxDB, in our errors and the operator's words."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError, LocationValueError, NewConnectionError
from urllib3.exceptions import TimeoutError as HttpTimeout

from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.errors import ConfigurationError, CoreError, StorageFull, TimeSeriesUnavailable

TRANSPORT_ERRORS = (ApiException, HTTPError, OSError)
"""What the client raises."""

_LONGEST = 500
_FULL = ("no space left", "disk full", "quota exceeded")
_MISSING = ("database not found", "bucket not found", "could not find bucket", "no dbrp", "retention policy not")
_REFUSED = ("not authorized", "unauthorized", "authorization failed", "insufficient permission", "forbidden")
_UNABLE = ("not implemented", "not supported", "unsupported", "unimplemented")


def shown(url: str) -> str:
    """The URL as logs may show it, without a log-in."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def named(error: Exception, settings: TimeSeriesSettings) -> CoreError:
    """Our error for one of TRANSPORT_ERRORS."""
    where = shown(settings.url)
    if isinstance(error, ApiException) and error.status:
        return refusal(error.status, _words(error), settings)
    if isinstance(error, LocationValueError):
        return ConfigurationError(f"timeseries.url: {where!r} is no URL like http://host:8086")
    if isinstance(error, (HttpTimeout, TimeoutError)) and not isinstance(error, NewConnectionError):
        return TimeSeriesUnavailable(f"InfluxDB at {where} does not answer in time")
    return TimeSeriesUnavailable(f"InfluxDB at {where} is away: {_short(error)}")


def refusal(status: int, words: str, settings: TimeSeriesSettings) -> CoreError:
    """Our error for what the server said with an HTTP status; 200 where the answer itself has an error."""
    where, bucket, low = shown(settings.url), settings.bucket, words.lower()
    said = f"InfluxDB at {where} says: {words[:_LONGEST]} ({status})"
    if status == 507 or any(word in low for word in _FULL):
        return StorageFull(said)
    if status in (401, 403) or any(word in low for word in _REFUSED):
        return ConfigurationError(f"timeseries.token must be one that may read and write bucket {bucket!r}. {said}")
    if any(word in low for word in _MISSING):
        advice = "Create it, and for 2.x its DBRP mapping (docs/influxdb.md)"
        return ConfigurationError(f"timeseries.bucket: there is no {bucket!r}. {advice}. {said}")
    if status == 404:
        advice = "Is it InfluxDB 1.8 or later, and are timeseries.bucket and timeseries.org right?"
        return ConfigurationError(f"timeseries.url: {advice} {said}")
    if "partial write" in low:
        return ConfigurationError(f"InfluxDB took only a part of what was written to bucket {bucket!r}. {said}")
    if any(word in low for word in _UNABLE):
        return ConfigurationError(f"This InfluxDB cannot do that. {said}")
    if status in (200, 408, 429) or status >= 500:
        return TimeSeriesUnavailable(said)
    return ConfigurationError(said)


def _words(error: ApiException) -> str:
    """What the server says: `message` in 2.x, `error` in 1.x and 3."""
    body = error.body or b""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        text = str(answer.get("message") or answer.get("error") or text)
    return " ".join(text.split()) or str(error.reason)


def _short(error: BaseException) -> str:
    """The words of what is behind it all."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return f"{type(error).__name__}: {error}"[:_LONGEST]
