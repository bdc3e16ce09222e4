"""HTTP to one InfluxDB: line protocol to `/api/v2/write`, InfluxQL to `/query`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import msgspec
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision

from vnpy_core.adapters.timeseries.influx.errors import TRANSPORT_ERRORS, named, refusal
from vnpy_core.adapters.timeseries.influx.queries import PROBE
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings
from vnpy_core.domain.errors import ConfigurationError, TimeSeriesUnavailable, describe

CHUNK = 10_000
"""Rows that the server sends at a time: memory is bounded here and there."""
PROBE_S = 0.8
"""How long `trouble` waits."""

_PIECE = 1 << 18
"""Bytes read at a time."""

Row = TypeVar("Row")


class Table(msgspec.Struct, Generic[Row]):
    """Rows of an answer. InfluxDB 1 and 2 have in `tags` what they were grouped by, 3 has it as columns."""

    columns: list[str]
    values: list[Row] = []
    tags: dict[str, str] = {}

    def records(self) -> Iterator[dict[str, Any]]:
        """The rows of a small answer by column, with the tags."""
        return ({**self.tags, **dict(zip(self.columns, row, strict=True))} for row in self.values)  # type: ignore[call-overload]


class _Result(msgspec.Struct, Generic[Row]):
    series: list[Table[Row]] = []
    error: str = ""


class _Answer(msgspec.Struct, Generic[Row]):
    results: list[_Result[Row]] = []
    error: str = ""


class Connection:
    """Any thread may call, several at once. Nothing is tried twice: whoever asked may ask again.

    All raise ConfigurationError, TimeSeriesUnavailable and StorageFull.
    """

    def __init__(self, settings: TimeSeriesSettings) -> None:
        self._settings = settings
        self._client: Any = None
        self._lock = threading.Lock()
        self._probe: Future[str] = Future()
        self._probe.set_result("")

    def open(self) -> None:
        """Check the settings; connects nowhere yet. Again is harmless."""
        check(self._settings)
        with self._lock:
            if self._client is None:
                self._client = InfluxDBClient(
                    self._settings.url,
                    token=self._settings.token.get_secret_value(),
                    org=self._settings.org,
                    timeout=self._settings.timeout_s * 1000,
                )

    def close(self) -> None:
        """Let go of all connections; again is harmless."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def write(self, body: bytes) -> None:
        """Returns when the server has made the lines durable. After an error it may have some of them."""
        writer = self._opened().write_api(write_options=SYNCHRONOUS)
        with self._translated():
            writer.write(self._settings.bucket, self._settings.org, body, WritePrecision.NS)

    def ask(self, statement: str, row: Any = list[Any], *, method: str = "GET") -> Iterator[Table[Any]]:
        """The statement's answer, table by table of at most CHUNK rows, each of the type `row`.

        All of it is as the server has it now, also where it is read slowly.
        """
        decoder = msgspec.json.Decoder(_Answer[row])
        with self._translated(), self._answer(statement, method, self._settings.timeout_s) as answer:
            for line in _lines(answer):
                yield from self._tables(decoder.decode(line))

    def trouble(self) -> str:
        """Why the server cannot be asked, empty if it can. Never raises; answers within a second.

        An earlier question that has no answer yet is waited for again instead of asking once more.
        """
        with self._lock:
            if self._probe.done():
                self._probe = Future()
                threading.Thread(
                    target=self._guarded_probe, args=[self._probe], name="influx-probe", daemon=True
                ).start()
            probe = self._probe
        try:
            return probe.result(PROBE_S)
        except NotYet:
            return f"no answer within {PROBE_S:g} s"

    def _guarded_probe(self, outcome: Future[str]) -> None:
        try:
            with self._translated(), self._answer(PROBE, "GET", PROBE_S) as answer:
                for line in _lines(answer):
                    self._tables(msgspec.json.decode(line, type=_Answer[list[Any]]))
        except Exception as error:  # noqa: BLE001 - a guarded door: whoever asks for the state wants no error
            outcome.set_result(describe(error))
        else:
            outcome.set_result("")

    @contextlib.contextmanager
    def _answer(self, statement: str, method: str, timeout_s: float) -> Iterator[Any]:
        """The open response; a connection that is not read to its end is given up."""
        asked = {"db": self._settings.bucket, "q": statement, "epoch": "ns", "chunked": "true", "chunk_size": CHUNK}
        response = self._opened().api_client.call_api(
            "/query",
            method,
            query_params=list(asked.items()),
            header_params={"Accept": "application/json"},
            _preload_content=False,
            _return_http_data_only=True,
            _request_timeout=timeout_s * 1000,
        )
        try:
            if not response.chunked and "Content-Length" not in response.headers:
                # Nothing tells where it ends: a connection that broke within the headers looks like an empty answer.
                raise TimeSeriesUnavailable("InfluxDB's answer broke off")
            yield response
        finally:
            response.close()

    def _tables(self, answer: _Answer[Any]) -> list[Table[Any]]:
        for error in (answer.error, *(result.error for result in answer.results)):
            if error:
                raise refusal(200, error, self._settings)
        return [table for result in answer.results for table in result.series]

    def _opened(self) -> Any:
        client = self._client
        if client is None:
            raise TimeSeriesUnavailable("the store is not open")
        return client

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except TRANSPORT_ERRORS as error:
            raise named(error, self._settings) from error
        except msgspec.MsgspecError as error:
            raise ConfigurationError(f"timeseries.url: what answers there is no InfluxDB ({error})") from error


def check(settings: TimeSeriesSettings) -> None:
    """Raises ConfigurationError for what cannot be right."""
    url = urlsplit(settings.url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ConfigurationError("timeseries.url is no URL like http://host:8086")
    if url.username or url.password:
        raise ConfigurationError("timeseries.url has a log-in in it, which belongs into timeseries.token")
    if not settings.bucket:
        raise ConfigurationError("timeseries.bucket is empty")


def _lines(response: Any) -> Iterator[bytes]:
    """The answer's parts, one a line."""
    begun: list[bytes] = []
    for piece in response.stream(_PIECE):
        *lines, rest = piece.split(b"\n")
        for line in lines:
            if whole := b"".join([*begun, line]).strip():
                yield whole
            begun = []
        begun.append(rest)
    if whole := b"".join(begun).strip():
        yield whole
