"""What the parts of benchmarks/stream.py share: children that answer lines, a service, the table."""

from __future__ import annotations

import http.client
import json
import os
import platform
import resource
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import redis

BENCHMARKS = Path(__file__).resolve().parent
REPOSITORY = BENCHMARKS.parent
CONTRACTS = REPOSITORY / "vnpy_config" / "contracts.toml"
PASSWORD = "for-the-benchmark-only-7"
ANSWER_S = 60.0
"""How long a child may take for an answer."""


class Refused(Exception):
    """The service answered with an error."""


# --- the table ---


class Row(NamedTuple):
    """`asked` is what the issue wants; `met` whether this run shows it, None where nothing is asked."""

    what: str
    measured: str
    beside: str = ""
    asked: str = ""
    met: bool | None = None


def table(rows: list[Row]) -> str:
    """All rows as one Markdown table with straight columns."""
    head = Row("what", "measured", "beside it, in the same run", "asked")
    texts = [(*row[:4], {True: "yes", False: "NO", None: ""}[row.met]) for row in (head, *rows)]
    texts[0] = (*texts[0][:4], "met")
    widths = [max(len(text[column]) for text in texts) for column in range(5)]
    lines = ["| " + " | ".join(map(str.ljust, text, widths)) + " |" for text in texts]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def say(text: str) -> None:
    """How far it is; the table comes at the end."""
    print(f"  {text}", file=sys.stderr, flush=True)


def machine() -> str:
    """What the figures are to be read with."""
    model = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ""
    )
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} x {model or platform.machine()}, load {load}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


class Load:
    """How much of the machine others took: what a figure from a busy machine is worth."""

    def __init__(self) -> None:
        self._before = self._times()

    def told(self) -> str:
        """Since it was made; the children that have ended are ours."""
        own, busy, idle, stolen = (now - then for now, then in zip(self._times(), self._before, strict=True))
        whole = (busy + idle + stolen) / 100
        return (
            f"processors: {own / whole:.0f} % this benchmark, {max(0.0, busy - own) / whole:.0f} % others, "
            f"{stolen / whole:.0f} % taken by the machine's host, {idle / whole:.0f} % idle"
        )

    def _times(self) -> tuple[float, float, float, float]:
        user, nice, system, idle, wait, irq, soft, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
        tick = os.sysconf("SC_CLK_TCK")
        used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        own = sum(one.ru_utime + one.ru_stime for one in used)
        return own, (user + nice + system + irq + soft) / tick, (idle + wait) / tick, stolen / tick


def median(values: list[float]) -> float:
    return statistics.median(values)


def spread(values: list[float], form: str = ".2f") -> str:
    """The median, and between what the rounds were."""
    return f"{median(values):{form}} ({min(values):{form}}..{max(values):{form}})"


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[int(len(values) * part)]


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def python_path() -> str:
    """For children that load a gateway from here."""
    return os.pathsep.join(filter(None, [str(BENCHMARKS), os.environ.get("PYTHONPATH")]))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- children ---


class Child:
    """A process that answers each line with a line of JSON, and ends with its input."""

    def __init__(self, command: list[str], *, cpus: set[int] | None = None, **how: Any) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `stop` closes it
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, **how
        )
        if cpus:
            os.sched_setaffinity(self._process.pid, cpus)
        try:
            self.answer()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, line: str) -> dict[str, Any]:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self, within_s: float = ANSWER_S) -> dict[str, Any]:
        """Its next line. Raises TimeoutError, EOFError."""
        if not select.select([self._process.stdout], [], [], within_s)[0]:
            raise TimeoutError(f"{self._process.args[1]} did not answer within {within_s:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise EOFError(f"{self._process.args[1]} ended: {self.last_words()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def last_words(self) -> str:
        """The last lines of what it wrote to its standard error."""
        self._log.seek(0)
        return "\n".join(self._log.read().strip().splitlines()[-4:])

    def stop(self) -> None:
        with self._process.stdout, self._process.stdin, self._log:
            pass
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def reader(port: int, clients: int, *, cpus: set[int] | None = None, **wanted: Any) -> Child:
    """`stream_reader.py`, when all of its clients have subscribed."""
    wanted = {"port": port, "clients": clients, "path": "/ws", **wanted}
    return Child([sys.executable, str(BENCHMARKS / "stream_reader.py"), json.dumps(wanted)], cpus=cpus)


# --- services ---

CONFIG = """
[server]
port = {port}
[paths]
data = "{folder}/data"
strategies = "{folder}/strategies"
config = "{config}"
[journal]
reserve_mb = 0
[recorder]
symbols = []
[streaming]
max_sessions = 4000
sessions_per_principal = 4000
"""
TICKS = """
[gateways.TICKS]
class = "stream_ticks:StampedTicks"
auto_connect = true
[gateways.TICKS.setting]
rate = {rate}
stats = "{folder}/stats.json"
"""
REDIS = """
[node]
name = "bench"
[redis]
url = "{url}"
[broker]
kind = "redis"
[cache]
kind = "redis"
[registry]
kind = "redis"
"""


class Service:
    """A core or an edge as a process, with one HTTP connection to it."""

    def __init__(self, folder: Path, config: str, *, command: str = "serve", cpus: set[int] | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        (folder / "strategies").mkdir(exist_ok=True)
        file = folder / f"{command}-{self.port}.toml"
        file.write_text(CONFIG.format(port=self.port, folder=folder, config=CONTRACTS.parent) + config)
        environment = {**os.environ, "VNPYCORE__AUTH__ADMIN_PASSWORD": PASSWORD, "PYTHONPATH": python_path()}
        self._log = file.with_suffix(".log")
        run = [sys.executable, "-m", "vnpy_core", command, "-c", str(file)]
        if command == "edge":
            run += ["--port", str(self.port)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(run, env=environment, stdout=log, stderr=log)
        if cpus:
            os.sched_setaffinity(self.process.pid, cpus)
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self._headers = {"Content-Type": "application/json"}
        self.token = ""

    def wait_ready(self, within_s: float = 60) -> None:
        deadline = time.monotonic() + within_s
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"not ready: {self._log.read_text()[-1500:]}")
            time.sleep(0.05)

    def log_in(self, token: str = "") -> None:
        """With a token of another process, or by one's own password."""
        if not token:
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            self._connection.request("POST", "/api/v1/auth/token", f"username=admin&password={PASSWORD}", form)
            token = json.loads(self._connection.getresponse().read())["access_token"]
        self.token = token
        self._headers["Authorization"] = f"Bearer {token}"

    def _is_ready(self) -> bool:
        try:
            self._connection.request("GET", "/health/ready")
            answer = self._connection.getresponse()
            answer.read()
            return answer.status == 200
        except OSError:
            self._connection.close()
            return False

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Raises Refused."""
        try:
            self._connection.request(method, f"/api/v1{path}", json.dumps(body) if body else None, self._headers)
            answer = self._connection.getresponse()
        except (http.client.HTTPException, OSError):  # it closes idle connections
            self._connection.close()
            self._connection.request(method, f"/api/v1{path}", json.dumps(body) if body else None, self._headers)
            answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise Refused(f"{method} {path}: {answer.status} {content[:300]!r}")
        return json.loads(content) if content else None

    def rest(self) -> None:
        """Before a pause: the server closes idle connections."""
        self._connection.close()

    def stop(self) -> None:
        self._connection.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def service(folder: Path, config: str, **how: Any) -> Iterator[Service]:
    """A ready core, with an administrator logged in."""
    running = Service(folder, config, **how)
    try:
        running.wait_ready()
        running.log_in()
        yield running
    finally:
        running.stop()


@contextmanager
def redis_server(folder: Path, *, cpus: set[int] | None = None) -> Iterator[str]:
    """A Redis of our own that keeps nothing on disk; its URL."""
    port = free_port()
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", "",
             "--appendonly", "no", "--daemonize", "no"], stdout=log, stderr=log,
        )  # fmt: skip
    if cpus:
        os.sched_setaffinity(process.pid, cpus)
    try:
        with redis.Redis(port=port) as client:
            deadline = time.monotonic() + 10
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < deadline, "redis-server does not start"
                    time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


def ticks_sent(folder: Path) -> tuple[int, float]:
    """Ticks that the gateway has put, and when that was (monotonic); it says so once a second."""
    while True:
        try:
            stats = json.loads((folder / "stats.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.05)
        else:
            return stats["put"], stats["at"]
