"""The composition root: the one place where the world is built and its rooms are introduced to each other."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import socket
import sys
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from pwdlib import PasswordHash

from vnpy_core import __version__
from vnpy_core.adapters.credentials.sqlite import SqliteCredentials
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.adapters.store.sink import TOPICS as SINK_TOPICS
from vnpy_core.adapters.store.sink import StoreSink
from vnpy_core.adapters.store.sql import SqlStore
from vnpy_core.adapters.store.url import is_sqlite, store_url
from vnpy_core.adapters.timeseries.build import build_store
from vnpy_core.adapters.timeseries.recorder import Recorder
from vnpy_core.bus.bus import Bus
from vnpy_core.bus.envelope import message_of
from vnpy_core.bus.message import Message
from vnpy_core.bus.read_view import ReadView
from vnpy_core.bus.topics import STRATEGY_LOG, TRADE_EXECUTED, DataClass
from vnpy_core.domain.errors import ConfigurationError, StorageFull, StoreUnavailable, TimeSeriesUnavailable
from vnpy_core.domain.events import Log
from vnpy_core.engine.settings import GatewaySettings
from vnpy_core.features.auth import endpoints as auth_endpoints
from vnpy_core.features.auth.service import ADMIN, AuthService, jwt_secret
from vnpy_core.features.auth.tokens import Once
from vnpy_core.features.market_data import endpoints as data_endpoints
from vnpy_core.features.market_data.jobs import Jobs
from vnpy_core.features.market_data.jobspec import JobSpec
from vnpy_core.features.market_data.metrics import RecorderCollector
from vnpy_core.features.market_data.service import MarketDataService
from vnpy_core.features.nodes import endpoints as nodes_endpoints
from vnpy_core.features.risk import endpoints as risk_endpoints
from vnpy_core.features.risk.service import RiskService
from vnpy_core.features.strategies import endpoints as strategies_endpoints
from vnpy_core.features.strategies import rollover_endpoints, upload_endpoints
from vnpy_core.features.strategies.logs import StrategyLogs
from vnpy_core.features.strategies.profit import ProfitLedger
from vnpy_core.features.strategies.rollover import Rollovers
from vnpy_core.features.strategies.service import StrategiesService
from vnpy_core.features.strategies.uploads import StrategyFiles
from vnpy_core.features.streaming import endpoints as streaming_endpoints
from vnpy_core.features.streaming.server import UVICORN_SETTINGS
from vnpy_core.features.streaming.service import StreamingService
from vnpy_core.features.system import endpoints as system_endpoints
from vnpy_core.features.system.metrics import Metrics
from vnpy_core.features.system.service import LOG_TOPICS, ComponentState, SystemService
from vnpy_core.features.trading import endpoints as trading_endpoints
from vnpy_core.features.trading.idempotency import sortable_ids
from vnpy_core.features.trading.service import TradingService
from vnpy_core.gateways.paper.contracts import ContractTable
from vnpy_core.gateways.paper.fees import FeeTable
from vnpy_core.kit.clock import SystemClock
from vnpy_core.kit.files import write_secret
from vnpy_core.kit.flow import CreditFlow
from vnpy_core.kit.tasks import in_own_thread, together
from vnpy_core.outside import Outside
from vnpy_core.ports.auth import Principal
from vnpy_core.ports.clock import Clock
from vnpy_core.ports.journal import Journal
from vnpy_core.settings import Settings
from vnpy_core.web import problems, serving
from vnpy_core.web.audit import AuditTrail
from vnpy_core.web.middleware import RequestGate
from vnpy_core.web.serving import Announce

if TYPE_CHECKING:
    from vnpy.trader.engine import MainEngine

    from vnpy_core.engine.last_resort import LastResort

JOURNAL = "journal.sqlite"
ROLLOVERS = "rollovers.json"
CONTRACTS = "contracts.toml"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
DRAIN_S = 3
"""How long the store may take at the end for what it lacks, seconds; the next start brings the rest."""
OPEN_S = 2
"""How long trading waits at the start for the tick and bar store, seconds; one that hangs is opened later."""
CLOSE_S = 2
"""How long the end waits for it, seconds."""
LAST_RESORT_LIMITS = 4
"""A process in which no Python runs is ended after so many times `engine.watchdog_s`."""
RECENT_ROWS = 4
"""Journal rows that are read for each message that a client may resume after."""
READ_ROWS = 5_000

_log = structlog.get_logger(__name__)
_vnpy_log = structlog.get_logger("vnpy")


def build_api(settings: Settings, registry: CollectorRegistry | None = None) -> FastAPI:
    """All routes and the HTTP toolkit, without an engine behind them: enough for the OpenAPI document."""
    api = FastAPI(
        title="VnPy Core Service",
        summary="VnPy without a screen",
        version=__version__,
        # The document and its pages show what there is to attack, and need scripts from elsewhere.
        openapi_url=None,
        telemetry={"tracing": False},
    )
    problems.install(api)
    for endpoints in (
        auth_endpoints,
        trading_endpoints,
        rollover_endpoints,
        upload_endpoints,
        strategies_endpoints,  # after these two, whose paths could also be a strategy's name
        risk_endpoints,
        data_endpoints,
        system_endpoints,
        nodes_endpoints,
        streaming_endpoints,
    ):
        api.include_router(endpoints.router)
    server = settings.server
    api.add_middleware(
        RequestGate,
        allowed_hosts=server.allowed_hosts,
        body_limit=server.body_limit,
        cors_origins=server.cors_origins,
        registry=registry,
    )
    return api


def build_auth(
    settings: Settings,
    clock: Clock,
    store: SqliteCredentials,
    *,
    once: Once | None = None,
    on_ended: Callable[[str, datetime], None] = lambda session_id, until: None,
) -> AuthService:
    """The login service; the first start writes the admin's random password to a file. Blocks; before serving.

    `once` and `on_ended` as for `AuthService`. Raises ConfigurationError.
    """
    folder = settings.paths.data / "secrets"
    auth = AuthService(
        store,
        PasswordHash.recommended(),
        clock,
        secret=jwt_secret(folder / "jwt_secret"),
        access=timedelta(minutes=settings.auth.access_minutes),
        refresh=timedelta(days=settings.auth.refresh_days),
        once=once,
        on_ended=on_ended,
    )
    chosen = settings.auth.admin_password
    if chosen is None and store.user(ADMIN) is None:
        made = secrets.token_urlsafe(18)
        # Before its hash is stored: a crash between leaves a file too many, not a password that nobody knows.
        write_secret(folder / "admin_password", made)
        auth.bootstrap(made)
    else:
        auth.bootstrap(chosen.get_secret_value() if chosen else None)
    return auth


async def stored_seq(settings: Settings) -> int:
    """Where the store's numbers end if there is a store but no journal any more, else 0.

    A new journal goes on above them, or past and present would be told apart by numbers that came twice.
    Raises ConfigurationError.
    """
    url = store_url(settings.store, settings.paths.data)
    if _exists(settings.paths.data / JOURNAL) or (is_sqlite(url) and not _exists(Path(url.database or ""))):
        return 0
    store = SqlStore(url, settings.store, SystemClock())
    try:
        await store.open()
        mark = await store.watermark()
    except StoreUnavailable:
        return 0
    finally:
        await store.close()
    return mark.seq if mark else 0


def _exists(path: Path) -> bool:
    return path.exists()


def open_journal(settings: Settings, *, begin_after: int) -> SqliteJournal:
    """The journal of a data folder, for this run of the process; a new one begins after `begin_after`.

    Raises ConfigurationError, StorageFull, JournalFailed.
    """
    journal = SqliteJournal(
        settings.paths.data / JOURNAL,
        settings=settings.journal,
        boot_id=_boot_id(),
        run_id=secrets.token_hex(8),
        new_epoch=lambda: secrets.token_hex(4),
    )
    if begin_after and not journal.state().last_seq:
        journal.begin_after(begin_after)
    if journal.epoch_reason:
        _log.info("the journal begins a new epoch", epoch=journal.epoch, reason=journal.epoch_reason)
    return journal


def read_recent(journal: Journal, count: int) -> tuple[list[Message], int]:
    """The newest `count` class A messages that were journaled, oldest first, and the seq after which none is missing.

    Blocks: any thread. Raises JournalFailed.
    """
    state = journal.state()
    # An order makes some rows that nobody is shown (its intent, what became of it), and positions.
    after = max(state.first_seq - 1, state.last_seq - RECENT_ROWS * count)
    complete_from, found = after, deque[Message](maxlen=count)
    while rows := journal.read(after, READ_ROWS):
        for message in filter(None, map(message_of, rows)):
            if message.data_class is DataClass.LOSSLESS:
                if len(found) == count:
                    complete_from = found[0].seq
                found.append(message)
        after = rows[-1].seq
    return list(found), complete_from


class Service:
    """One running service: the engine host and what answers for it. Loop thread only, but for `request_stop`."""

    def __init__(
        self,
        settings: Settings,
        *,
        begin_after: int = 0,
        main_engine: MainEngine | None = None,
        exit_process: Callable[[int], None] | None = None,
        last_resort: LastResort | None = None,
    ) -> None:
        """`main_engine`: serve this running engine (plugin) instead of one of our own. `begin_after`: `stored_seq`.

        `exit_process` and `last_resort`: in a process of our own, what ends it when trading hangs for good.
        """
        from vnpy_core.engine.host import EngineHost, HostSettings

        self._settings = settings
        self._clock = SystemClock()
        self._bus = Bus()
        self._view = ReadView()
        flow = CreditFlow()
        # Before the host, which wraps a running engine: what fails here must leave that one untouched.
        with contextlib.ExitStack() as files:
            self._credentials = SqliteCredentials(settings.paths.data / "secrets" / "credentials.sqlite")
            files.callback(self._credentials.close)
            self._journal = open_journal(settings, begin_after=begin_after)
            files.callback(self._journal.close)
            self._store = SqlStore(store_url(settings.store, settings.paths.data), settings.store, self._clock)
            self._history = build_store(settings.timeseries, settings.paths.data, self._clock)
            list_file = settings.paths.data / "recorder.json"
            self._recorder = Recorder(self._history, settings.recorder, self._clock, flow, list_file)
            self._outside = Outside(settings, self._bus, self._view, self._clock, self._journal, boot_id=_boot_id())
            files.pop_all()
        self._sink = StoreSink(self._store, self._journal, self._clock, batch=settings.store.batch)
        self._auth: AuthService | None = None
        loop = asyncio.get_running_loop()
        self.engine = EngineHost(
            HostSettings(
                data=settings.paths.data,
                engine=settings.engine,
                apps=settings.apps,
                gateways={name: _with_contracts(gateway, settings) for name, gateway in settings.gateways.items()},
                strategies=settings.strategies,
                config_folder=settings.paths.config,
            ),
            bus=self._bus,
            view=self._view,
            clock=self._clock,
            flow=flow,
            journal=self._journal,
            new_id=sortable_ids(self._clock),
            drained=lambda: self._sink.drained,
            on_commit=partial(_wake, loop, self._on_commit),
            on_tick=self._recorder.take,
            on_source=lambda name, replays: self._recorder.ignore_gateway(name, ignored=replays),
            history=self._history,
            require_account=self._outside.require_account,
            main_engine=main_engine,
            exit_process=exit_process,
            last_resort=last_resort,
        )
        self._streaming = StreamingService(
            self._bus,
            self._view,
            flow,
            self._clock,
            epoch=self._journal.epoch,
            settings=settings.streaming,
            still_valid=self._still_valid,
        )
        self._market_data = self._build_market_data()
        self._strategy_logs = StrategyLogs()
        self._profit = self._build_profit()
        self._rollovers = Rollovers(
            self.engine,
            self.engine.strategies,
            self._view,
            self._bus,
            self._clock,
            file=settings.paths.data / ROLLOVERS,
            new_id=sortable_ids(self._clock),
        )
        self._registry = CollectorRegistry()
        self.api = build_api(settings, self._registry)
        self._stop_requested = asyncio.Event()
        self._loop = loop

    async def start(self) -> None:
        """Start the engine, then what serves it. Raises ConfigurationError."""
        outside = self._outside
        self._auth = auth = await asyncio.to_thread(
            build_auth,
            self._settings,
            self._clock,
            self._credentials,
            once=outside.cache.once,
            on_ended=outside.keep_ended,
        )
        for session_id, until in auth.ended_sessions().items():
            outside.keep_ended(session_id, until)
        system = SystemService(
            self.engine,
            self._view,
            self._clock,
            sessions=lambda: self._streaming.status().sessions,
            sinks=lambda: [self._sink.state(), *outside.sinks()],
        )
        system.components.add("recorder", self._recorder_health)
        system.components.add("nodes", self._nodes_health)
        self._registry.register(RecorderCollector(self._recorder))
        self._registry.register(outside)
        self._bus.subscribe(LOG_TOPICS, system.keep_log)
        self._bus.subscribe(LOG_TOPICS, _write_vnpy_log)
        self._bus.subscribe([STRATEGY_LOG], self._strategy_logs.keep)
        recent, complete_from = await asyncio.to_thread(
            read_recent, self._journal, self._settings.streaming.resume_events
        )
        self._streaming.seed_recent(recent, complete_from)
        self._streaming.start()
        with contextlib.suppress(StoreUnavailable):  # the sink says so, and tries again
            await self._store.open()
        self._bus.subscribe(SINK_TOPICS, self._sink.keep)
        self._sink.start()
        # The recorder says so, and tries again.
        with contextlib.suppress(TimeSeriesUnavailable, StorageFull, TimeoutError):
            await asyncio.wait_for(in_own_thread(self._history.open), OPEN_S)
        from vnpy_core.engine.database import provide

        provide(self._history)  # VnPy's own database, where `database.name` is core
        self._recorder.start()
        await asyncio.to_thread(self._market_data.open)
        outside.start(
            self.engine,
            account_scope=self.engine.account_scope,
            reconcile=self.engine.reconcile_now,
            sessions=lambda: len(self._streaming.status().sessions),
            place=lambda: self._streaming.seq,
        )
        await self.engine.start()
        await self._start_profit()
        await self._rollovers.open()
        state = self.api.state
        state.nodes = outside.nodes
        state.market_data = self._market_data
        state.trading = TradingService(self.engine, self._view, self._clock, store=self._store)
        self._open_strategies(state.trading)
        state.risk = RiskService(self.engine, self._clock)
        state.system = system
        state.metrics = Metrics(system, self._registry)
        state.streaming = self._streaming
        state.auth = state.authenticator = auth

    async def stop(self) -> None:
        """Bring trading to rest, tell the clients, close. The API answers until trading has come to rest."""
        from vnpy_core.engine.database import provide

        async with contextlib.AsyncExitStack() as rest:  # runs all, also where one of them raises
            rest.callback(lambda: self._journal.close(clean=self.engine.is_durable))
            rest.push_async_callback(self._close_history)
            rest.callback(provide, None)
            rest.push_async_callback(self._store.close)
            rest.push_async_callback(self._close_sinks)
            rest.push_async_callback(self._streaming.close)
            rest.push_async_callback(self._market_data.close)
            rest.push_async_callback(asyncio.to_thread, self._recorder.stop)
            rest.push_async_callback(self.engine.stop)
            rest.push_async_callback(self._profit.stop)
            await self._rollovers.close()

    async def _start_profit(self) -> None:
        """Fills that came meanwhile are in the view; those after them come over the bus."""
        known = sorted(self._view.trades.values(), key=lambda trade: trade.seq)
        self._bus.subscribe([TRADE_EXECUTED], self._profit.keep_trade)
        await self._profit.start(self.engine.strategy_days(), known)

    def _open_strategies(self, trading: TradingService) -> None:
        state, strategies, settings = self.api.state, self.engine.strategies, self._settings
        audit = AuditTrail(self.engine, self._clock)
        state.strategies = StrategiesService(
            strategies,
            trading,
            audit,
            logs=self._strategy_logs,
            profit=self._profit,
            forget_rollovers=self._rollovers.forget,
        )
        state.strategy_files = StrategyFiles(settings.paths.strategies, settings.strategy_upload, strategies, audit)
        state.rollovers = self._rollovers

    async def _close_sinks(self) -> None:
        await together(self._sink.close(DRAIN_S), self._outside.close())

    async def _close_history(self) -> None:
        """One that hangs (its file locked by another tool, a disk that does not answer) is not waited for long."""
        try:
            await asyncio.wait_for(in_own_thread(self._history.close), CLOSE_S)
        except TimeoutError:
            _log.error("the tick and bar store does not close; what it has acknowledged is durable")

    def _on_commit(self) -> None:
        self._sink.wake()
        self._outside.wake()

    def _still_valid(self, principal: Principal) -> bool:
        return self._auth is None or self._auth.still_valid(principal)

    def _nodes_health(self) -> tuple[ComponentState, str]:
        problem = self._outside.problem
        return (ComponentState.DEGRADED, problem) if problem else (ComponentState.OK, "")

    def _recorder_health(self) -> tuple[ComponentState, str]:
        state = self._recorder.state()
        return (ComponentState.DEGRADED, state.error) if state.error else (ComponentState.OK, "")

    def _build_market_data(self) -> MarketDataService:
        settings, data = self._settings, self._settings.data
        jobs = Jobs(settings.paths.data / "jobs", self._clock, self.engine.emit, parallel=data.jobs, queue=data.queue)
        timeseries = settings.timeseries
        return MarketDataService(
            self._history,
            jobs,
            recorder=self._recorder,
            source=self.engine.history,
            audit=AuditTrail(self.engine, self._clock),
            clock=self._clock,
            settings=data,
            command=(sys.executable, "-m", "vnpy_core", "data", "job"),
            child=JobSpec(
                kind="",
                data=str(settings.paths.data),
                timeseries=timeseries.model_dump() | {"token": timeseries.token.get_secret_value()},
                contracts=str(settings.paths.config / CONTRACTS),
            ),
        )

    def _build_profit(self) -> ProfitLedger:
        make = partial(
            ProfitLedger,
            self._view,
            self._store,
            self._clock,
            self._settings.profit,
            record=self.engine.record_strategy_day,
        )
        fees = _fees(self._settings.paths.config / CONTRACTS)
        return make(fee_of=fees.fee, size_of=fees.size) if fees else make()

    async def run(self, listener: socket.socket, *, on_ready: Announce) -> None:
        """Serve on `listener` until `request_stop`; `on_ready` gets the address once requests are answered."""
        server = serving.server(self.api, **UVICORN_SETTINGS)
        with contextlib.closing(self._credentials):
            try:
                await self.start()
                self._outside.address = self._outside.address or serving.address(listener)
                ended = await serving.serve_until(self._stop_requested, server, listener, on_ready)
            finally:
                await self.stop()
                server.should_exit = True
            await ended

    def request_stop(self) -> None:
        """End `run`. Any thread, once or again."""
        self._loop.call_soon_threadsafe(self._stop_requested.set)


def serve(settings: Settings, *, on_ready: Announce = lambda address: None) -> None:
    """Run the service in this process until SIGTERM or SIGINT; prepares VnPy's home, so once a process.

    The caller holds the data folder's lock. Raises ConfigurationError: wrong configuration, port in use, risk control
    that does not load.
    """
    from vnpy_core.engine.home import prepare_home

    with serving.listen(settings.server.host, settings.server.port) as listener:
        prepare_home(
            settings.paths.data,
            settings.paths.strategies,
            config_folder=settings.paths.config,
            language=settings.engine.language,
        )
        serving.run(lambda: _run_until_signal(settings, listener, on_ready))


async def _run_until_signal(settings: Settings, listener: socket.socket, on_ready: Announce) -> None:
    from vnpy_core.engine.last_resort import LastResort

    last_resort = LastResort(settings.paths.data, LAST_RESORT_LIMITS * settings.engine.watchdog_s)
    # Without cleaning up: what would have to clean up hangs.
    after = await stored_seq(settings)
    service = Service(settings, begin_after=after, exit_process=os._exit, last_resort=last_resort)
    serving.on_signals(service.request_stop)

    def ready(address: str) -> None:
        # What is there by now stays. Looking through all of it stops every thread for over 0.1 s, twice a minute.
        gc.freeze()
        on_ready(address)

    await service.run(listener, on_ready=ready)


def _wake(loop: asyncio.AbstractEventLoop, on_commit: Callable[[], None]) -> None:
    """From the journal thread; a loop that is closed has nobody left to wake."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(on_commit)


def _boot_id() -> str:
    return BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""


def _with_contracts(gateway: GatewaySettings, settings: Settings) -> GatewaySettings:
    """The paper gateway finds the configuration's contract table without being told."""
    if gateway.class_ != "vnpy_core.gateways.paper.gateway:PaperGateway" or "contracts" in gateway.setting:
        return gateway
    setting = gateway.setting | {"contracts": str(settings.paths.config / CONTRACTS)}
    return gateway.model_copy(update={"setting": setting})


def _fees(contracts: Path) -> FeeTable | None:
    """What fills cost by the contract table; without one that can be read they cost nothing."""
    if not contracts.exists():
        return None
    try:
        return FeeTable(ContractTable(contracts))
    except ConfigurationError as error:
        _log.error("the strategies' profit is told before fees", detail=str(error))
        return None


def _write_vnpy_log(message: Message) -> None:
    log = message.data
    assert isinstance(log, Log)
    write = getattr(_vnpy_log, log.level.lower())
    whose = {"strategy_name": log.strategy_name} if log.strategy_name else {}
    write(log.msg, source=log.source, **whose)
