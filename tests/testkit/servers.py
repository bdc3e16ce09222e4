"""Real database servers as child processes: on free ports of 127.0.0.1, in own folders, ended by their own id."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

READY_S = 60
STOP_S = 30

_ROOT = os.geteuid() == 0
_databases = itertools.count(1)


class Server(ABC):
    """One server. After `stop` or `kill` it may be started again, on the same port and data."""

    binary: str
    """What must be installed."""
    package: str
    """The Debian package it is in."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"vnpy-core-{self.binary}-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot be started; None where it can."""
        return None if cls.find(cls.binary) else f"{cls.binary} is not installed (Debian package {cls.package})"

    @classmethod
    @abstractmethod
    def find(cls, name: str) -> str | None:
        """The path of one of its programs."""

    @abstractmethod
    def url(self, driver: str, database: str) -> str:
        """What SQLAlchemy connects by."""

    @abstractmethod
    def _install(self) -> None:
        """Make the data folder."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it takes connections."""

    @abstractmethod
    def _create(self, database: str) -> None: ...

    def fresh_database(self) -> str:
        """The name of a new, empty database."""
        name = f"t{next(_databases)}"
        self._create(name)
        return name

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers."""
        if not (self.folder / "data").exists():
            self._install()
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, **self._as_user())
        deadline = time.monotonic() + READY_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.binary} does not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it as an administrator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """It keeps its connections and answers nothing any more."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True
        # Its threads on another processor go on for a moment, and may answer what is asked in it.
        while not all(_is_stopped(task) for task in Path(f"/proc/{self.pid}/task").iterdir()):
            time.sleep(0.001)

    def resume(self) -> None:
        if self._paused:
            os.kill(self.pid, signal.SIGCONT)
            self._paused = False

    def remove(self) -> None:
        """Kill it and remove what it left."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        self.resume()
        process.send_signal(how)
        process.wait(STOP_S)
        self._process = None

    def _as_user(self) -> dict[str, str]:
        return {}

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False, **self._as_user()
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stdout[-1000:]}{done.stderr[-1000:]}")


class MariaDb(Server):
    """Log in as `trader` with the password `s3cret`."""

    binary = "mariadbd"
    package = "mariadb-server"

    @classmethod
    def find(cls, name: str) -> str | None:
        return shutil.which(name) or shutil.which(name, path="/usr/sbin")

    def url(self, driver: str, database: str) -> str:
        return f"mysql+{driver}://trader:s3cret@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str, database: str | None = None) -> list[tuple[object, ...]]:
        """Run statements as root; the last one's rows."""
        with (
            contextlib.closing(
                pymysql.connect(unix_socket=str(self._socket), user="root", database=database, autocommit=True)
            ) as connection,
            connection.cursor() as cursor,
        ):
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    @property
    def _socket(self) -> Path:
        return self.folder / "s.sock"

    def _install(self) -> None:
        user = ["--user=root"] if _ROOT else []
        self._run(
            self.find("mariadb-install-db") or "mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data",
            "--auth-root-authentication-method=normal", "--skip-test-db", *user,
        )  # fmt: skip

    def _command(self) -> list[str]:
        user = ["--user=root"] if _ROOT else []
        return [
            self.find(self.binary) or self.binary, "--no-defaults", f"--datadir={self.folder}/data",
            f"--socket={self._socket}", f"--pid-file={self.folder}/pid", "--bind-address=127.0.0.1",
            f"--port={self.port}", "--skip-log-bin", "--innodb-flush-log-at-trx-commit=1",
            "--innodb-buffer-pool-size=64M", "--character-set-server=utf8mb4", "--skip-name-resolve", *user,
        ]  # fmt: skip

    def _answers(self) -> bool:
        if not self._listens():  # pymysql leaves its socket open where nobody does
            return False
        try:
            self.execute("create user if not exists trader@'127.0.0.1' identified by 's3cret'")
        except pymysql.Error:
            return False
        return True

    def _create(self, database: str) -> None:
        self.execute(f"create database {database}", f"grant all on {database}.* to trader@'127.0.0.1'")


class Postgres(Server):
    """Log in as `trader` with the password `s3cret`. It refuses to run as root and runs as nobody then."""

    binary = "postgres"
    package = "postgresql"

    @classmethod
    def find(cls, name: str) -> str | None:
        newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
        return str(newest[0]) if newest else shutil.which(name)

    def url(self, driver: str, database: str) -> str:
        return f"postgresql+{driver}://trader:s3cret@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str, database: str = "postgres") -> None:
        """Run statements as the superuser, each by itself."""
        commands = [part for statement in statements for part in ("-c", statement)]
        self._run(
            self.find("psql") or "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", str(self.port),
            "-U", "postgres", "-d", database, *commands,
        )  # fmt: skip

    def _install(self) -> None:
        if _ROOT:
            shutil.chown(self.folder, "nobody")
        self._run(
            self.find("initdb") or "initdb", "-D", self.folder / "data", "-U", "postgres", "-E", "UTF8",
            "--locale=C.UTF-8", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync",
        )  # fmt: skip

    def _command(self) -> list[str]:
        return [
            self.find(self.binary) or self.binary, "-D", str(self.folder / "data"), "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}", "-c", "fsync=off",
        ]  # fmt: skip

    def _answers(self) -> bool:
        login = "create role trader login password 's3cret'"
        guarded = f"do $$ begin {login}; exception when duplicate_object then null; end $$"
        try:
            self.execute(guarded)
        except RuntimeError:
            return False
        return True

    def _create(self, database: str) -> None:
        self.execute(f"create database {database} owner trader")

    def pause(self) -> None:
        """Its processes too, one for each connection."""
        self._signal_children(signal.SIGSTOP)
        super().pause()

    def resume(self) -> None:
        if self._paused:
            super().resume()
            self._signal_children(signal.SIGCONT)

    def stop(self) -> None:
        """Fast: clients are thrown out, which SIGTERM alone would wait for."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Immediate: no checkpoint. SIGKILL would leave its processes and its shared memory behind."""
        self._end(signal.SIGQUIT)

    def _signal_children(self, how: signal.Signals) -> None:
        for task in Path(f"/proc/{self.pid}/task").glob("*/children"):
            for child in task.read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(child), how)

    def _as_user(self) -> dict[str, str]:
        return {"user": "nobody", "cwd": str(self.folder)} if _ROOT else {}


def _is_stopped(task: Path) -> bool:
    try:
        state = (task / "stat").read_text().rpartition(") ")[2][:1]
    except FileNotFoundError:  # it ended meanwhile
        return True
    return state in "TZX"


@contextlib.contextmanager
def running(kind: type[Server]) -> Iterator[Server]:
    """A started server; skips the test where it is not installed."""
    if reason := kind.missing():
        pytest.skip(reason)
    server = kind()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
