"""The real servers that speak InfluxDB's line protocol: influxd 1.6.7 behind a proxy, and VictoriaMetrics.

Debian has no influxd later than 1.6.7. Its storage and its InfluxQL are those of 1.8, but it lacks two things that
every later one has, which the proxy makes up for:

- `POST /api/v2/write?bucket=B&org=O&precision=P` becomes `POST /write?db=B&precision=P`,
- `Authorization: Token user:password` becomes `Authorization: Basic …`.

All else, `/query` and `/ping` too, passes through byte for byte. While influxd is stopped the proxy is closed, too: one
cannot tell it from the server.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from testkit.servers import Server, free_port
from vnpy_core.adapters.timeseries.influx import InfluxStore
from vnpy_core.adapters.timeseries.settings import TimeSeriesSettings

USER, PASSWORD = "trader", "s3cret"
TOKEN = f"{USER}:{PASSWORD}"


class Proxy:
    """Listens on `port` and passes each connection on to `target`, with two threads for each."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._closing = False
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self._accepting = self._spawn(self._accept)

    def close(self) -> None:
        """Refuse new connections, end those there are, and wait for the threads."""
        shut(self._listener)
        self._accepting.join()
        self._listener.close()
        self._closing = True
        for one in list(self._open):
            shut(one)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._threads.append(self._spawn(self._serve, client))

    def _serve(self, client: socket.socket) -> None:
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._target)) as server,
        ):
            both = {client, server}
            for one in both:
                self._open.add(one)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self._closing:
                answers = self._spawn(self.pass_on, server, client)
                self._requests(client, server)
                answers.join()
            self._open -= both

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        """Request after request, each with its head rewritten."""
        with contextlib.suppress(OSError), client.makefile("rb") as stream:
            while head := read_head(stream):
                server.sendall(rewritten(head))
                left = content_length(head)
                while left and (data := stream.read(min(left, 65536))):
                    server.sendall(data)
                    left -= len(data)
        shut(server)

    def pass_on(self, server: socket.socket, client: socket.socket) -> None:
        """The answers of one connection, until its end."""
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        shut(client)

    def _spawn(self, function: Callable[..., None], *args: socket.socket) -> threading.Thread:
        thread = threading.Thread(target=function, args=args, name="influx-proxy", daemon=True)
        thread.start()
        return thread


def shut(one: socket.socket) -> None:
    """Wake whoever waits for it."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


def read_head(stream: Any) -> bytes:
    """The request line and headers, with the empty line; nothing at the connection's end."""
    lines = []
    for line in stream:
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def rewritten(head: bytes) -> bytes:
    """What 1.6.7 understands."""
    request, *headers = head.split(b"\r\n")
    method, target, version = request.split(b" ")
    path, _, query = target.decode().partition("?")
    if path == "/api/v2/write":
        asked = dict(urllib.parse.parse_qsl(query))
        path, query = "/write", urllib.parse.urlencode({"db": asked["bucket"], "precision": asked["precision"]})
        target = f"{path}?{query}".encode()
    return b"\r\n".join([b" ".join([method, target, version]), *map(basic, headers)])


def basic(header: bytes) -> bytes:
    name, _, value = header.partition(b": ")
    if name.lower() == b"authorization" and value.startswith(b"Token "):
        return name + b": Basic " + base64.b64encode(value.removeprefix(b"Token "))
    return header


class InfluxDb(Server):
    """influxd with log-in (`TOKEN`); `port` is the proxy's."""

    binary = "influxd"
    package = "influxdb"

    def __init__(self) -> None:
        super().__init__()
        self._http, self._rpc = free_port(), free_port()
        self._proxy: Proxy | None = None

    @classmethod
    def find(cls, name: str) -> str | None:
        return shutil.which(name) or shutil.which(name, path="/usr/sbin")

    def url(self, driver: str = "http", database: str = "") -> str:
        """What `timeseries.url` is set to."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        super().start()
        self._proxy = Proxy(self.port, self._http)

    @property
    def direct_port(self) -> int:
        """Past the proxy."""
        return self._http

    def query(self, statement: str, database: str = "") -> Any:
        """Run InfluxQL past the proxy; the answer's results."""
        login = urllib.parse.urlencode({"u": USER, "p": PASSWORD})
        form = urllib.parse.urlencode({"q": statement, "db": database, "epoch": "ns"})
        request = urllib.request.Request(f"http://127.0.0.1:{self._http}/query?{login}", form.encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["results"]

    def _end(self, how: Any) -> None:
        super()._end(how)
        if self._proxy is not None:
            self._proxy.close()
            self._proxy = None

    def _install(self) -> None:
        for name in ("data", "meta", "wal"):
            (self.folder / name).mkdir()
        (self.folder / "influxdb.conf").write_text(
            f"""
reporting-disabled = true
bind-address = "127.0.0.1:{self._rpc}"
[meta]
  dir = "{self.folder}/meta"
[data]
  dir = "{self.folder}/data"
  wal-dir = "{self.folder}/wal"
[http]
  bind-address = "127.0.0.1:{self._http}"
  auth-enabled = true
  log-enabled = false
[monitor]
  store-enabled = false
"""
        )

    def _command(self) -> list[str]:
        return [self.find(self.binary) or self.binary, "-config", str(self.folder / "influxdb.conf")]

    def _answers(self) -> bool:
        try:
            self.query(f"CREATE USER {USER} WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES")
        except OSError:
            return False
        return True

    def _create(self, database: str) -> None:
        self.query(f"CREATE DATABASE {database}")


class VictoriaMetrics(Server):
    """Takes line protocol at `/api/v2/write`, and gives back what it understood."""

    binary = "victoria-metrics"
    package = "victoria-metrics"

    @classmethod
    def find(cls, name: str) -> str | None:
        return shutil.which(name)

    def url(self, driver: str = "http", database: str = "") -> str:
        return f"http://127.0.0.1:{self.port}"

    def export(self, match: str) -> list[dict[str, Any]]:
        """Its series, each with `metric` (the labels), `values` and `timestamps` (milliseconds)."""
        with contextlib.closing(urllib.request.urlopen(f"{self.url()}/internal/force_flush", timeout=30)):
            pass
        query = urllib.parse.urlencode({"match[]": match})
        with urllib.request.urlopen(f"{self.url()}/api/v1/export?{query}", timeout=30) as answer:
            return [json.loads(line) for line in answer]

    def _install(self) -> None:
        (self.folder / "data").mkdir()

    def _command(self) -> list[str]:
        return [
            self.find(self.binary) or self.binary, f"-storageDataPath={self.folder}/data",
            f"-httpListenAddr=127.0.0.1:{self.port}", "-retentionPeriod=100y", "-search.latencyOffset=0s",
        ]  # fmt: skip

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url()}/health", timeout=5):
                return True
        except OSError:
            return False

    def _create(self, database: str) -> None:
        """It has one database only."""


def settings_of(server: InfluxDb | VictoriaMetrics, bucket: str, **changes: Any) -> TimeSeriesSettings:
    """What makes a store of one of its databases."""
    settings = {"kind": "influxdb", "url": server.url(), "token": SecretStr(TOKEN), "bucket": bucket, **changes}
    return TimeSeriesSettings(**settings)


def influxdb(request: pytest.FixtureRequest, _folder: Path) -> Callable[[], InfluxStore]:
    """Makes stores over one new database of the session's server, for `testkit.timeseries.KINDS`."""
    server: InfluxDb = request.getfixturevalue("influxdb")
    settings = settings_of(server, server.fresh_database())
    return lambda: InfluxStore(settings)
