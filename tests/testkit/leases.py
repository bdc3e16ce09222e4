"""Cores that share a registry, in one process and on one clock that the test moves."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

from testkit.clock import FakeClock
from vnpy_core.adapters.registry.memory import MemoryRegistry
from vnpy_core.bus import topics
from vnpy_core.bus.message import Message
from vnpy_core.domain.enums import GatewayState
from vnpy_core.domain.errors import RegistryUnavailable, TradingHalted
from vnpy_core.domain.events import Account, Event, Gateway
from vnpy_core.features.nodes.leases import AccountLeases
from vnpy_core.ports.clock import Clock

LEASE_S = 10.0
SETTLE_TURNS = 30
"""Turns of the loop in which everything that is due happens: nothing here waits for the world outside."""


class Timeline:
    """Time that passes only by `pass_time`; those who stand still do not wake."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """As `kit.retry.wait_for_event`."""
        due: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self.clock.monotonic() + seconds, next(self._numbers), due))
        told = asyncio.create_task(event.wait())
        try:
            await asyncio.wait({due, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
            due.cancel()

    async def settle(self) -> None:
        for _ in range(SETTLE_TURNS):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float, step: float = 0.25) -> None:
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            self.clock.advance(min(step, end - self.clock.monotonic()))
            while self._waiting and self._waiting[0][0] <= self.clock.monotonic():
                _, _, due = heapq.heappop(self._waiting)
                if not due.done():
                    due.set_result(None)
            await self.settle()


class SharedRegistry(MemoryRegistry):
    """What a Redis is to several cores; it may be away, or lose all it has."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.is_away = False

    async def hold(self, name: str, owner: str, lease_s: float) -> str:
        if self.is_away:
            raise RegistryUnavailable("Redis: away")
        return await super().hold(name, owner, lease_s)

    async def release(self, name: str, owner: str) -> None:
        if self.is_away:
            raise RegistryUnavailable("Redis: away")
        await super().release(name, owner)

    def flush(self) -> None:
        self._leases.clear()


class Core:
    """One core's leases. Gateway P trades an account that others can reach, PAPER one that they cannot."""

    def __init__(self, registry: SharedRegistry, timeline: Timeline, owner: str) -> None:
        self.timeline = timeline
        self.reconciled: list[str] = []
        self.reconciling = asyncio.Event()
        self.reconciling.set()
        self.error: Exception | None = None
        self._standing = asyncio.Event()
        self._standing.set()
        self.leases = AccountLeases(
            registry, timeline.clock, owner=owner, lease_s=LEASE_S,
            scope=lambda gateway_name: "" if gateway_name == "PAPER" else "venue:Gateway",
            reconcile=self._reconcile, wait=self._wait, jitter=lambda: 0.0,
        )  # fmt: skip
        self.leases.start()

    async def connect(self, gateway_name: str = "P", *accounts: str) -> None:
        self.gateway(gateway_name, GatewayState.CONNECTING)
        for accountid in accounts or ("1",):
            self.account(gateway_name, accountid)
        self.gateway(gateway_name, GatewayState.CONNECTED)
        await self.timeline.settle()

    def account(self, gateway_name: str, accountid: str) -> None:
        account = Account(
            vt_accountid=f"{gateway_name}.{accountid}", accountid=accountid, gateway_name=gateway_name,
            balance=1.0, frozen=0.0, available=1.0,
        )  # fmt: skip
        self._tell(topics.ACCOUNT_UPDATED, gateway_name, account)

    def gateway(self, gateway_name: str, state: GatewayState) -> None:
        gateway = Gateway(
            gateway_name=gateway_name, connected=state is GatewayState.CONNECTED, state=state, exchanges=[],
            default_setting={}, capabilities={},
        )  # fmt: skip
        self._tell(topics.GATEWAY_UPDATED, gateway_name, gateway)

    def refusal(self, gateway_name: str = "P") -> TradingHalted | None:
        try:
            self.leases.require(gateway_name)
        except TradingHalted as error:
            return error
        return None

    @property
    def may_trade(self) -> bool:
        return self.refusal() is None

    def stand_still(self) -> None:
        """As a process that got a SIGSTOP."""
        self._standing.clear()

    def go_on(self) -> None:
        self._standing.set()

    @property
    def stands_still(self) -> bool:
        return not self._standing.is_set()

    async def kill(self) -> None:
        """Without a word to anybody."""
        assert self.leases._task is not None
        self.leases._task.cancel()
        await self.leases._tasks.cancel()
        await self.timeline.settle()

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        await self.timeline.wait(event, seconds)
        await self._standing.wait()

    async def _reconcile(self, gateway_name: str) -> None:
        await self.reconciling.wait()
        self.reconciled.append(gateway_name)
        if self.error:
            raise self.error

    def _tell(self, topic: str, key: str, event: Event) -> None:
        self.leases.take(Message(topic, key, "e", 0, self.timeline.clock.now(), event))
