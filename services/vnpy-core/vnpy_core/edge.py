"""The composition root of an edge node: no engine, no journal, no VnPy; everything comes from Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from datetime import timedelta

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from vnpy_core import __version__
from vnpy_core.adapters.broker.build import build_broker
from vnpy_core.adapters.cache.build import build_cache
from vnpy_core.adapters.registry.build import build_registry
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.errors import ConfigurationError, FieldError, RegistryUnavailable
from vnpy_core.features.auth import endpoints as auth_endpoints
from vnpy_core.features.auth.tokens import AccessTokens, read_secret
from vnpy_core.features.edge import endpoints as edge_endpoints
from vnpy_core.features.edge.ended import EndedSessions
from vnpy_core.features.edge.gate import UntilLoaded
from vnpy_core.features.edge.health import EdgeHealth
from vnpy_core.features.edge.metrics import EdgeMetrics
from vnpy_core.features.edge.service import EdgeFeed
from vnpy_core.features.nodes import endpoints as nodes_endpoints
from vnpy_core.features.nodes.identity import edge_id
from vnpy_core.features.nodes.service import Announcer, LoadMeter, NodesService
from vnpy_core.features.streaming import endpoints as streaming_endpoints
from vnpy_core.features.streaming.server import UVICORN_SETTINGS
from vnpy_core.features.streaming.service import StreamingService
from vnpy_core.features.trading import reading as trading_endpoints
from vnpy_core.features.trading.reader import TradingReader
from vnpy_core.kit.clock import SystemClock
from vnpy_core.kit.flow import CreditFlow
from vnpy_core.kit.tasks import BackgroundTasks
from vnpy_core.ports.registry import Node, NodeRole
from vnpy_core.settings import Settings
from vnpy_core.web import problems, serving
from vnpy_core.web.middleware import RequestGate
from vnpy_core.web.serving import Announce

_log = structlog.get_logger(__name__)


def build_api(
    settings: Settings, registry: CollectorRegistry | None = None, *, loaded: Callable[[], bool] = lambda: True
) -> FastAPI:
    """All routes of an edge; little but its health is answered while `loaded` says no."""
    api = FastAPI(
        title="VnPy Core Service, edge",
        summary="What a core publishes, for many",
        version=__version__,
        openapi_url=None,
        telemetry={"tracing": False},
    )
    problems.install(api)
    for router in (
        auth_endpoints.reading,
        trading_endpoints.router,
        nodes_endpoints.router,
        edge_endpoints.router,
        streaming_endpoints.router,
        edge_endpoints.elsewhere,
    ):
        api.include_router(router)
    api.add_middleware(UntilLoaded, loaded=loaded)
    server = settings.server
    api.add_middleware(
        RequestGate,
        allowed_hosts=server.allowed_hosts,
        body_limit=server.body_limit,
        cors_origins=server.cors_origins,
        registry=registry,
    )
    return api


def check(settings: Settings) -> str:
    """The secret of the tokens, where these settings are an edge's. Blocks. Raises ConfigurationError (names all)."""
    wrong = [
        FieldError(f"{name}.kind", f'must be "redis" for an edge: {what}')
        for name, kind, what in (
            ("broker", settings.broker.kind, "a core's events reach another process there only"),
            ("cache", settings.cache.kind, "a core's state reaches another process there only"),
        )
        if kind != "redis"
    ]
    secret = ""
    try:
        configured = settings.edge.jwt_secret.get_secret_value() if settings.edge.jwt_secret else ""
        secret = read_secret(settings.paths.data / "secrets" / "jwt_secret", configured)
    except ConfigurationError as error:
        wrong.append(FieldError("edge.jwt_secret", error.detail))
    if wrong:
        lines = [f"  {error.field}: {error.message}" for error in wrong]
        raise ConfigurationError("\n".join(["an edge cannot start:", *lines]), errors=wrong)
    return secret


class Edge:
    """One running edge. Loop thread only, but for `request_stop`."""

    def __init__(self, settings: Settings, *, address: str = "") -> None:
        """`address`: where others reach it, if that is not where it listens. Raises ConfigurationError."""
        secret = check(settings)
        node = settings.node.name
        self._settings = settings
        self._address = address
        self._clock = SystemClock()
        self._view = ReadView()
        bus = Bus()
        try:
            self._broker = build_broker(settings.broker, settings.redis, node)
            self._cache = build_cache(settings.cache, settings.redis, node, self._clock)
            self._registry = build_registry(settings.registry, settings.redis, self._clock)
        except ValueError as error:
            raise ConfigurationError(f"redis.url: {error}") from error
        self._ended = EndedSessions(self._cache, self._clock, every_s=settings.edge.ended_s)
        tokens = AccessTokens(
            secret,
            self._clock,
            access=timedelta(minutes=settings.auth.access_minutes),
            is_ended=self._ended.is_ended,
            once=self._cache.once,
            strict=True,
        )
        self._streaming = StreamingService(
            bus,
            self._view,
            CreditFlow(),
            self._clock,
            epoch="",
            settings=settings.streaming,
            ready=lambda: self.feed.loaded,
            still_valid=tokens.still_valid,
        )
        self.feed = EdgeFeed(
            self._broker,
            self._cache,
            bus=bus,
            view=self._view,
            hub=self._streaming,
            clock=self._clock,
            settings=settings.edge,
            recent=settings.streaming.resume_events,
        )
        meter = LoadMeter(
            self._clock,
            sessions=lambda: len(self._streaming.status().sessions),
            events=lambda: self.feed.taken_in,
        )
        self._id = edge_id(node, socket.gethostname())
        self._announcer = Announcer(self._registry, self._clock, self._node, meter, lease_s=settings.node.lease_s)
        self._health = EdgeHealth(
            self.feed,
            self._clock,
            node=node,
            sessions=lambda: self._streaming.status().sessions,
            others={"registry": lambda: self._announcer.error, "logins": lambda: self._ended.error},
        )
        metrics = CollectorRegistry()
        self.api = build_api(settings, metrics, loaded=lambda: self.feed.loaded)
        state = self.api.state
        state.edge = self._health
        state.metrics = EdgeMetrics(self._health, metrics)
        state.trading = TradingReader(self._view, gateways=self._view.gateways.values)
        state.nodes = NodesService(self._registry, self._announcer)
        state.streaming = self._streaming
        state.authenticator = tokens
        self._tasks = BackgroundTasks()
        self._loop = asyncio.get_running_loop()
        self._stop_requested = asyncio.Event()

    async def start(self) -> None:
        """Begin to follow the core; does not wait for it."""
        self._streaming.start()
        self.feed.start()
        self._ended.start()
        self._announcer.start()
        self._tasks.spawn(self._watch_core(), "core watcher")
        self._tasks.spawn(self._say_when_late(), "start watcher")

    async def stop(self) -> None:
        """Say goodbye to the clients and close. Everything is closed, whatever of it fails."""
        async with contextlib.AsyncExitStack() as rest:
            for part in (self._registry, self._cache, self._broker):
                rest.push_async_callback(part.close)
            rest.push_async_callback(self._ended.close)
            rest.push_async_callback(self.feed.close)
            rest.push_async_callback(self._streaming.close)
            rest.push_async_callback(self._announcer.close)
            await self._tasks.cancel()

    async def run(self, listener: socket.socket, *, on_ready: Announce) -> None:
        """Serve on `listener` until `request_stop`; `on_ready` gets the address once requests are answered."""
        self._address = self._address or serving.address(listener)
        server = serving.server(self.api, **UVICORN_SETTINGS)
        try:
            await self.start()
            served = await serving.serve_until(self._stop_requested, server, listener, on_ready)
        finally:
            await self.stop()
            server.should_exit = True
        await served

    def request_stop(self) -> None:
        """End `run`. Any thread, once or again."""
        self._loop.call_soon_threadsafe(self._stop_requested.set)

    def _node(self) -> Node:
        return Node(
            id=self._id,
            node=self._health.node,
            role=NodeRole.EDGE,
            address=self._address,
            version=__version__,
            pid=os.getpid(),
            epoch=self.feed.epoch,
            seq=self.feed.seq,
            started_at=self._health.started_at,
            seen_at=self._clock.now(),
        )

    async def _watch_core(self) -> None:
        """A core that has nothing to say for long still announces itself. A dead one stays listed for a while."""
        seen_at = None
        while True:
            try:
                for node in await self._registry.nodes():
                    if self._is_core(node):
                        if node.seen_at != seen_at:
                            seen_at = node.seen_at
                            self.feed.core_seen()
                        self._health.core_address = node.address
            except RegistryUnavailable:
                pass  # the announcer says so
            except Exception:  # noqa: BLE001 - a guarded door: what strangers write there must not end the watching
                _log.exception("the registry cannot be read")
            await asyncio.sleep(self._settings.node.lease_s / 3)

    def _is_core(self, node: Node) -> bool:
        """Whether it is the core that is followed: another one may have taken its name, and publishes nothing."""
        epoch = self.feed.status().epoch
        return node.role is NodeRole.CORE and node.node == self._health.node and epoch in ("", node.epoch)

    async def _say_when_late(self) -> None:
        try:
            async with asyncio.timeout(self._settings.edge.start_s):
                await self.feed.wait_loaded()
        except TimeoutError:
            status = self.feed.status()
            _log.warning("nothing to serve yet", core=self._health.node, state=status.state, detail=status.detail)


def serve(settings: Settings, *, address: str = "", on_ready: Announce = lambda address: None) -> None:
    """Run an edge in this process until SIGTERM or SIGINT. Raises ConfigurationError."""
    check(settings)
    with serving.listen(settings.server.host, settings.server.port, setting="--port") as listener:
        serving.run(lambda: _run_until_signal(settings, listener, address, on_ready))


async def _run_until_signal(settings: Settings, listener: socket.socket, address: str, on_ready: Announce) -> None:
    edge = Edge(settings, address=address)
    serving.on_signals(edge.request_stop)
    await edge.run(listener, on_ready=on_ready)
