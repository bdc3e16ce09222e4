"""What a core shows outside its process: the message bus, the cache, and its place among the nodes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from vnpy_core import __version__
from vnpy_core.adapters.broker.build import build_broker
from vnpy_core.adapters.broker.sink import PATTERNS as SIGNALS
from vnpy_core.adapters.broker.sink import BrokerSink
from vnpy_core.adapters.cache.build import build_cache
from vnpy_core.adapters.cache.sink import PATTERNS as CACHED
from vnpy_core.adapters.cache.sink import CacheSink
from vnpy_core.adapters.registry.build import build_registry
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.features.nodes.identity import core_id
from vnpy_core.features.nodes.leases import TOPICS as LEASE_TOPICS
from vnpy_core.features.nodes.leases import AccountLeases
from vnpy_core.features.nodes.service import Announcer, LoadMeter, NodesService
from vnpy_core.kit.tasks import together
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.engine import TradingEngine
from vnpy_core.ports.journal import Journal
from vnpy_core.ports.registry import Node, NodeRole
from vnpy_core.ports.store import SinkState
from vnpy_core.settings import Settings

ENDED_SESSION = "ended_session"
"""The cache's kind of logins that were ended; edges refuse their tokens."""
CLOSE_S = 2
"""How long the end waits for each of them, seconds."""


class Outside(Collector):
    """Loop thread only, but for `require_account` and `wake`. With kinds `memory` nothing leaves the process.

    None of it is needed for trading: each part goes on trying by itself while its server is away.
    """

    def __init__(
        self, settings: Settings, bus: Bus, view: ReadView, clock: Clock, journal: Journal, *, boot_id: str
    ) -> None:
        """The data folder is there and locked. Raises ConfigurationError for a wrong `redis.url`."""
        name, redis = settings.node.name, settings.redis
        self._settings = settings
        self._bus = bus
        self._clock = clock
        self._journal = journal
        self._started_at = clock.now()
        self.id = core_id(name, socket.gethostname(), settings.paths.data, boot_id)
        try:
            self.broker = build_broker(settings.broker, redis, name, owner=self.id)
            self.cache = build_cache(settings.cache, redis, name, clock)
            self.registry = build_registry(settings.registry, redis, clock)
        except ValueError as error:
            raise ConfigurationError(f"redis.url: {error}") from error
        self._broker_sink = BrokerSink(self.broker, journal, clock, settings.broker, node=name)
        self._cache_sink = CacheSink(
            self.cache,
            view,
            clock,
            settings.cache,
            epoch=lambda: journal.epoch,
            node=name,
            conflict=lambda: self._broker_sink.conflict,
        )
        self._ended: dict[str, datetime] = {}
        """Logins that were ended, and until when their tokens would be valid."""
        self._leases: AccountLeases | None = None
        self.nodes: NodesService | None = None
        self._announcer: Announcer | None = None
        self.address = settings.node.address
        """Where others reach this process; `app.py` says where it listens if the settings do not."""

    def start(
        self,
        engine: TradingEngine,
        *,
        account_scope: Callable[[str], str],
        reconcile: Callable[[str], Awaitable[None]],
        sessions: Callable[[], int],
        place: Callable[[], int],
    ) -> None:
        """Begin to publish and to be listed; before the engine starts, so that nothing is missed.

        `sessions`: how many clients there are; `place`: the seq of the last class A event that was published.
        """
        settings = self._settings
        if settings.broker.kind == "redis":
            self._bus.subscribe(SIGNALS, self._broker_sink.take)
            self._broker_sink.start()
        if settings.cache.kind == "redis":
            self._bus.subscribe(CACHED, self._cache_sink.take)
            self._cache_sink.start()
        meter = LoadMeter(self._clock, sessions=sessions, events=lambda: engine.status().events_handled)
        self._announcer = announcer = Announcer(
            self.registry, self._clock, lambda: self._node(engine, place()), meter, lease_s=settings.node.lease_s
        )
        self.nodes = NodesService(self.registry, announcer)
        announcer.start()
        if settings.registry.kind == "redis":
            self._leases = AccountLeases(
                self.registry,
                self._clock,
                owner=self.id,
                lease_s=settings.node.lease_s,
                scope=account_scope,
                reconcile=reconcile,
            )
            self._bus.subscribe(LEASE_TOPICS, self._leases.take)
            self._leases.start()

    def wake(self) -> None:
        """The journal has new rows. On the loop."""
        self._broker_sink.wake()

    def require_account(self, gateway_name: str) -> None:
        """Raises TradingHalted where another core trades this gateway's account, or may. Any thread."""
        if self._leases is not None:
            self._leases.require(gateway_name)

    def keep_ended(self, session_id: str, until: datetime) -> None:
        """A login was ended: no edge takes its tokens any more. Those go of which no token would be valid by now."""
        if self._settings.cache.kind != "redis":
            return
        now = self._clock.now()
        for past in [ended for ended, end in self._ended.items() if end <= now]:
            del self._ended[past]
            self._cache_sink.keep(ENDED_SESSION, past, None)
        self._ended[session_id] = until
        self._cache_sink.keep(ENDED_SESSION, session_id, until.isoformat().encode())

    def sinks(self) -> list[SinkState]:
        """How far those that follow the journal are."""
        states = []
        if self._settings.broker.kind == "redis":
            states.append(self._broker_sink.state())
        if self._settings.cache.kind == "redis":
            states.append(self._cache_sink.state())
        return states

    @property
    def problem(self) -> str:
        """What an operator should know of the other nodes; empty when all is well."""
        lost = self._leases.problem if self._leases is not None else ""
        return "; ".join(filter(None, (lost, self._announcer.error if self._announcer is not None else "")))

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """What became of ticks and all else that passes without being kept; for Prometheus."""
        if self._settings.broker.kind != "redis":
            return
        sink = self._broker_sink
        for name, value, text in (
            ("sent", sink.signals_sent, "Ticks and other passing messages that were published"),
            ("conflated", sink.signals_conflated, "Those that a newer one replaced before they were published"),
            ("dropped", sink.signals_dropped, "Those that never were published"),
        ):
            yield CounterMetricFamily(f"vnpy_core_broker_signals_{name}", text, value=value)
        yield GaugeMetricFamily("vnpy_core_broker_signals_waiting", "Those that wait", value=sink.signals_waiting)

    async def close(self) -> None:
        """Publish what is left, give back what is held, be listed no longer: after trading came to rest."""
        closing = [self._broker_sink.close(CLOSE_S), self._cache_sink.close(CLOSE_S)]
        closing += [part.close() for part in (self._leases, self._announcer) if part is not None]
        try:
            await together(*closing)
        finally:
            await together(*(_within_limit(part.close()) for part in (self.broker, self.cache, self.registry)))

    def _node(self, engine: TradingEngine, seq: int) -> Node:
        return Node(
            id=self.id,
            node=self._settings.node.name,
            role=NodeRole.CORE,
            address=self.address,
            version=__version__,
            pid=os.getpid(),
            epoch=self._journal.epoch,
            seq=seq,
            gateways={gateway.gateway_name: gateway.connected for gateway in engine.gateways()},
            started_at=self._started_at,
            seen_at=self._clock.now(),
        )


async def _within_limit(closing: Awaitable[None]) -> None:
    """A server that hangs holds up no end, however long it may take to answer; what is held there lapses by itself."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await closing
