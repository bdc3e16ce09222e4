"""A core, its Redis, edges, and clients that check what they are told while connections, processes and Redis fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
import redis

from testkit.checking_client import CheckingClient, Report
from testkit.cutting_proxy import CuttingProxy
from testkit.kills import PASSWORD, KillRun
from testkit.load import eventually
from testkit.redis import RedisServer
from testkit.servers import free_port
from vnpy_core.client import Client

READY_S = 30.0
CALM_S = 60.0
QUICKER = 20
"""A client's back-off passes so many times faster than in life."""
TOPICS = ("order.updated", "trade.executed", "risk.*", "position.updated", "account.updated", "tick.*")
SHARED = """
[node]
name = "{name}"
lease_s = 1.0

[redis]
url = "{url}"
timeout_s = 1.0

[broker]
kind = "redis"

[cache]
kind = "redis"

[registry]
kind = "redis"
"""

T = TypeVar("T")


class EdgeProcess:
    """`vnpy-core edge` beside a core; may be killed and started again on its port."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = config.parent.parent / f"edge-{self.port}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns at once."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("VNPYCORE")}
        command = [sys.executable, "-m", "vnpy_core", "edge", "--config", str(self.config), "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environ, cwd=self.config.parent)

    def wait_ready(self) -> None:
        eventually(self._is_ready, READY_S, f"the edge is not ready:\n{self._tail()}")

    def kill(self, how: signal.Signals = signal.SIGKILL) -> int:
        """End it; its exit code, or minus the signal."""
        if self.process is None:
            return 0
        self.process.send_signal(how)
        status, self.process = self.process.wait(15), None
        return status

    def _is_ready(self) -> bool:
        assert self.process is not None, "not started"
        assert self.process.poll() is None, f"the edge ended:\n{self._tail()}"
        try:
            return httpx2.get(f"{self.url}/health/ready", timeout=2, trust_env=False).status_code == 200
        except httpx2.HTTPError:
            return False

    def _tail(self) -> str:
        return self.log.read_text()[-3000:] if self.log.exists() else ""


class StreamRun:
    """`with StreamRun(folder, seed="7") as run:` starts Redis, a core with load, edges and checkers."""

    def __init__(self, folder: Path, *, seed: str, checkers: int = 8, edges: int = 2, pause_s: float = 0.03) -> None:
        if reason := RedisServer.missing():
            pytest.skip(reason)
        self.seed = seed
        self.random = random.Random(f"{seed} streams")
        self.redis = RedisServer()
        self.redis.start()
        more = SHARED.format(name="tested", url=self.redis.url())
        self.core = KillRun(folder, seed=seed, pause_s=pause_s, more=more, retain_days=7.0)
        config = self.core.service.folder / "vnpy_config" / "service.toml"
        self.edges = [EdgeProcess(config) for _ in range(edges)]
        self.disconnects = self.core_kills = self.edge_kills = self.redis_faults = 0
        self._count = checkers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="checkers", daemon=True)
        self.checkers: list[CheckingClient] = []
        self.proxies: list[CuttingProxy] = []
        self._stack = contextlib.AsyncExitStack()

    def __enter__(self) -> StreamRun:
        self.core.__enter__()
        self.core.start()
        for edge in self.edges:
            edge.start()
        for edge in self.edges:
            edge.wait_ready()
        self._thread.start()
        self.ask(self._start_checkers())
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.ask(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
        self._loop.close()
        for edge in self.edges:
            edge.kill()
        self.core.__exit__()
        self.redis.remove()

    def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it on the checkers' loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(2 * CALM_S)

    # --- what goes wrong ---

    def disconnect(self) -> None:
        """Cut one connection of a checker, whichever."""
        proxies = list(self.proxies)
        self.random.shuffle(proxies)

        def cut() -> bool:
            return any(proxy.cut_one(self.random) for proxy in proxies)

        self.disconnects += self.ask(self._call(cut))

    def kill_core(self) -> None:
        """kill -9, or SIGTERM in a third of all cases, and start again."""
        service = self.core.service
        if self.random.random() < 1 / 3:
            assert service.terminate() == 0, service.log.read_text()[-3000:]
        else:
            service.kill()
        self.core.start()
        self.core_kills += 1

    def kill_edge(self) -> None:
        """One of them; it comes back on its port."""
        edge = self.random.choice(self.edges)
        edge.kill(self.random.choice((signal.SIGKILL, signal.SIGTERM)))
        edge.start()
        edge.wait_ready()
        self.edge_kills += 1

    def hurt_redis(self) -> None:
        """Lose all it has, be killed, or hang."""
        match self.random.choice(("flush", "kill", "hang")):
            case "flush":
                subprocess.run(["redis-cli", "-p", str(self.redis.port), "flushall"], check=True, capture_output=True)
            case "kill":
                self.redis.kill()
                time.sleep(self.random.uniform(0.1, 1.0))
                self.redis.start()
            case "hang":
                self.redis.pause()
                time.sleep(self.random.uniform(0.5, 3.0))
                self.redis.resume()
        self.redis_faults += 1

    # --- what must hold ---

    def check(self) -> list[Report]:
        """Bring everything to rest; each checker's state is the core's, and none was told anything twice or not."""
        self.core.rest()
        reports = self.ask(self._settle())
        # Where Redis lost what it had, an edge that starts before it is filled again knows less than a client has seen.
        may_lack = self.redis_faults > 0
        for report in reports:
            wrong = [report.untold_gaps, report.repeats, report.disorder, report.gaps and not may_lack]
            assert not any([*wrong, report.differences]), f"seed {self.seed}: {report}"
        return reports

    def redis_stream(self) -> list[tuple[int, str]]:
        """Seq and topic of all that the core's stream in Redis holds, oldest first."""
        with redis.Redis.from_url(self.redis.url()) as client:
            name = next(client.scan_iter("vnpy_core:tested:events:*"))
            entries = client.xrange(name)
        return [(int(number.partition(b"-")[0]), json.loads(fields[b"event"])["topic"]) for number, fields in entries]

    def counts(self) -> dict[str, int]:
        """Over all checkers."""
        names = ("applied", "connects", "resumed", "gaps", "untold_gaps", "repeats", "disorder", "duplicates_dropped")
        reports = [checker.report() for checker in self.checkers]
        return {name: sum(getattr(report, name) for report in reports) for name in names}

    # --- on the checkers' loop ---

    async def _start_checkers(self) -> None:
        service = self.core.service
        self.proxies = [
            await self._stack.enter_async_context(CuttingProxy(port, seed=f"{self.seed} {port}", harms=()))
            for port in (service.port, *(edge.port for edge in self.edges))
        ]
        for proxy in self.proxies:
            proxy.calm()  # it cuts when it is told to
        for number in range(self._count):
            client = Client(f"http://127.0.0.1:{service.port}", username="admin", password=PASSWORD, sleep=_sleep_less)
            await self._stack.enter_async_context(client)
            urls = [proxy.url for proxy in self.proxies]
            self.random.shuffle(urls)
            encoding = "msgpack" if number % 3 == 2 else "json"
            checker = CheckingClient(client, topics=TOPICS, urls=urls, encoding=encoding)
            self.checkers.append(await self._stack.enter_async_context(checker))

    async def _settle(self) -> list[Report]:
        return await asyncio.gather(*(checker.settled(CALM_S) for checker in self.checkers))

    async def _end(self) -> None:
        await self._stack.aclose()

    async def _call(self, function: Callable[[], T]) -> T:
        return function()


async def _sleep_less(seconds: float) -> None:
    await asyncio.sleep(seconds / QUICKER)


@contextlib.contextmanager
def stream_run(folder: Path, seed: str, **options: Any) -> Iterator[StreamRun]:
    """Prints the seed, which repeats the run."""
    print(f"seed {seed}")
    with StreamRun(folder, seed=seed, **options) as run:
        yield run
