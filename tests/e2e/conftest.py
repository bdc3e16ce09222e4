"""The real process: `python -m vnpy_core serve` in a folder of its own, spoken to over its port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PASSWORD = "correct-horse-battery-staple-9"  # the tests' own; the service runs on 127.0.0.1 for their time only


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RunningService:
    """One service process. `client` speaks as admin."""

    def __init__(self, folder: Path, config: str, environ: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (folder / "vnpy_config").mkdir(exist_ok=True)
        self.config = folder / "vnpy_config" / "service.toml"
        self.config.write_text(config)
        self.log = folder / "service.log"
        self.environ = {
            **os.environ,
            "VNPYCORE__SERVER__PORT": str(self.port),
            "VNPYCORE__AUTH__ADMIN_PASSWORD": PASSWORD,
            **(environ or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.client: httpx2.Client | None = None
        self.ready_s = 0.0

    def start(self) -> None:
        started = time.monotonic()
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "vnpy_core", "serve", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.environ, cwd=self.folder)
        while True:
            assert self.process.poll() is None, f"the service ended:\n{self.log.read_text()[-4000:]}"
            assert time.monotonic() < started + 30, f"the service is not ready:\n{self.log.read_text()[-4000:]}"
            try:
                if httpx2.get(f"{self.url}/health/ready", timeout=1).status_code == 200:
                    break
            except httpx2.HTTPError:
                time.sleep(0.02)
        self.ready_s = time.monotonic() - started
        self.client = httpx2.Client(base_url=f"{self.url}/api/v1", timeout=10)
        self.token = self.login("admin", PASSWORD)
        self.client.headers["Authorization"] = f"Bearer {self.token}"

    def login(self, name: str, password: str) -> str:
        answer = self.client.post("/auth/token", data={"username": name, "password": password})
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def get_all(self, path: str, **query: object) -> list[dict[str, object]]:
        """Every page of a list."""
        items, cursor = [], None
        while True:
            page = self.client.get(path, params={"limit": 1000, **query, **({"cursor": cursor} if cursor else {})})
            assert page.status_code == 200, page.text
            items += page.json()["items"]
            if (cursor := page.json()["next_cursor"]) is None:
                return items

    def log_lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def stop(self, deadline: float = 15) -> int:
        assert self.process is not None
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(deadline)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        return self.process.returncode


def _makers(folder: Path) -> Iterator[Callable[..., RunningService]]:
    services: list[RunningService] = []

    def make(config: str, folder: Path = folder, environ: dict[str, str] | None = None) -> RunningService:
        folder.mkdir(exist_ok=True)
        if not (folder / "strategies").exists():
            (folder / "strategies").symlink_to(REPOSITORY / "strategies", target_is_directory=True)
        service = RunningService(folder, config, environ)
        services.append(service)
        service.start()
        return service

    yield make
    for service in services:
        if service.process is not None and service.process.poll() is None:
            service.process.kill()
            service.process.wait()
        if service.client is not None:
            service.client.close()


@pytest.fixture
def make_service(tmp_path) -> Iterator[Callable[..., RunningService]]:
    """`make_service(config)` starts a process in a folder of this test's own."""
    yield from _makers(tmp_path)


DEMO = """
[log]
format = "json"

[gateways.PAPER]
class = "vnpy_core.gateways.paper.gateway:PaperGateway"
auto_connect = true

[gateways.PAPER.setting]
contracts = "{contracts}"
rate = 20.0

[gateways.IDLE]
class = "vnpy_core.gateways.paper.gateway:PaperGateway"

[strategies.demo]
class_name = "DemoStrategy"
vt_symbol = "rb2701.SHFE"
auto_start = true
""".format(contracts=REPOSITORY / "vnpy_config" / "contracts.toml")


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[RunningService]:
    """One process on the generated market, shared by a module's tests."""
    makers = _makers(tmp_path_factory.mktemp("service"))
    service = next(makers)(DEMO)
    deadline = time.monotonic() + 10
    while len(service.client.get("/trading/ticks").json()["items"]) < 1:
        assert time.monotonic() < deadline, "no ticks arrive"
        time.sleep(0.05)
    yield service
    assert service.stop() == 0
    next(makers, None)
