"""Who runs, where and how busy: announcing oneself, and the list of all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from vnpy_core.domain.errors import RegistryUnavailable, describe
from vnpy_core.features.nodes.timing import CLOSE_S, RENEWALS, pause
from vnpy_core.kit.retry import Wait, wait_for_event
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.registry import Node, NodeLoad, Registry

STATM = Path("/proc/self/statm")

_log = structlog.get_logger(__name__)


class NodeList(msgspec.Struct, frozen=True, kw_only=True):
    """Who runs; this node is always among them."""

    items: list[Node]
    complete: bool
    """False while the registry does not answer: then only the node that was asked is listed."""
    detail: str
    """Why the list is not complete."""


class LoadMeter:
    """How busy this process is. Loop thread only; each `read` looks at the time since the one before."""

    def __init__(
        self,
        clock: Clock,
        *,
        sessions: Callable[[], int],
        events: Callable[[], int],
        cpu_s: Callable[[], float] = time.process_time,
        memory_mb: Callable[[], float] | None = None,
    ) -> None:
        """`events`: how many were published or taken in since the start; `cpu_s`: processor seconds used."""
        self._clock = clock
        self._sessions = sessions
        self._events = events
        self._cpu_s = cpu_s
        self._memory_mb = memory_mb or resident_mb
        self._before = (clock.monotonic(), cpu_s(), events())

    def read(self) -> NodeLoad:
        """The load since the last reading."""
        at, cpu, events = now = (self._clock.monotonic(), self._cpu_s(), self._events())
        passed = max(at - self._before[0], 1e-3)
        load = NodeLoad(
            cpu=round((cpu - self._before[1]) / passed, 3),
            memory_mb=round(self._memory_mb(), 1),
            sessions=self._sessions(),
            events_per_s=round((events - self._before[2]) / passed, 1),
        )
        self._before = now
        return load


def resident_mb() -> float:
    """The memory that this process has, megabytes; 0 where the system does not say."""
    try:
        pages = int(STATM.read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1_048_576


class Announcer:
    """Keeps this node listed. Loop thread only; one task renews, `close` ends it."""

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        describe_node: Callable[[], Node],
        meter: LoadMeter,
        *,
        lease_s: float,
        wait: Wait = wait_for_event,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`describe_node` says what this node is now; its load and when it was seen are filled in here."""
        self._registry = registry
        self._clock = clock
        self._describe = describe_node
        self._meter = meter
        self._load = NodeLoad()
        self._lease_s = lease_s
        self._wait = wait
        self._jitter = jitter
        self.error = ""
        """Why others do not see this node; empty when they do."""
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def node(self) -> Node:
        """This node as it is now; its load is that of the last announcement."""
        return msgspec.structs.replace(self._describe(), load=self._load, seen_at=self._clock.now())

    def start(self) -> None:
        """Begin to announce."""
        self._task = asyncio.create_task(self._run(), name="announcer")

    async def close(self) -> None:
        """Be listed no longer; a registry that does not answer is not waited for long. Does not raise."""
        self._closing.set()
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        with contextlib.suppress(RegistryUnavailable, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._registry.withdraw(self._describe().id)

    async def _run(self) -> None:
        while not self._closing.is_set():
            self._say(await self._announce())
            await self._wait(self._closing, pause(self._lease_s, self._jitter()))

    async def _announce(self) -> str:
        """Once; what went wrong, or ""."""
        try:
            self._load = self._meter.read()
            async with asyncio.timeout(self._lease_s / RENEWALS):
                await self._registry.open()
                await self._registry.announce(self.node(), self._lease_s)
        except RegistryUnavailable as error:
            return describe(error)
        except TimeoutError:
            return "the registry does not answer in time"
        except Exception as error:  # noqa: BLE001 - a guarded door: nobody's fault must end the announcements
            _log.exception("announcing this node failed unexpectedly")
            return describe(error)
        return ""

    def _say(self, error: str) -> None:
        if error and not self.error:
            _log.warning("the registry is away; others do not see this node", detail=error)
        elif self.error and not error:
            _log.info("the registry is back; others see this node")
        self.error = error


class NodesService:
    """Loop thread only."""

    def __init__(self, registry: Registry, announcer: Announcer) -> None:
        self._registry = registry
        self._announcer = announcer

    async def nodes(self) -> NodeList:
        """All that are listed, this one as it is now; only this one while the registry is away."""
        me = self._announcer.node()
        try:
            listed = await self._registry.nodes()
        except RegistryUnavailable as error:
            return NodeList(items=[me], complete=False, detail=describe(error))
        items = [me, *(node for node in listed if node.id != me.id)]
        return NodeList(items=sorted(items, key=lambda node: (node.role, node.node, node.id)), complete=True, detail="")
