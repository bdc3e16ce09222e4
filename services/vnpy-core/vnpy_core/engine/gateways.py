"""The gateways of one MainEngine: loaded, connected, watched, subscribed, closed."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog
from vnpy.trader.constant import Exchange
from vnpy.trader.engine import MainEngine
from vnpy.trader.object import SubscribeRequest

from vnpy_core.bus import topics
from vnpy_core.bus.read_view import ReadView
from vnpy_core.domain.enums import GatewayState
from vnpy_core.domain.errors import ConfigurationError, Conflict, CoreError, GatewayNotConnected, NotFound, describe
from vnpy_core.domain.events import Gateway
from vnpy_core.engine.bridge import EventBridge
from vnpy_core.engine.commands import CommandDoor
from vnpy_core.engine.recovery import Capabilities, Recovery
from vnpy_core.engine.settings import GatewaySettings
from vnpy_core.kit.files import write_atomic
from vnpy_core.kit.tasks import BackgroundTasks, in_own_thread
from vnpy_core.ports.flow import Flow
from vnpy_core.ports.timeseries import TimeSeriesStore

CONNECT_PATIENCE_S = 30.0
"""How long a connect may go without a word before the gateway's state says so."""
CLOSE_PATIENCE_S = 5.0
_AWAY = (GatewayState.DISCONNECTED, GatewayState.FAILED)

_log = structlog.get_logger(__name__)


def load_target(target: str) -> Any:
    """The object behind `module:Name`. Raises ConfigurationError; foreign code runs at import and may do anything."""
    module_name, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (Exception, SystemExit) as error:  # a guarded door: a package that leaves must not end the start
        raise ConfigurationError(f"{target} could not be loaded: {describe(error)}") from error


class GatewayRecord:
    """What is known of one gateway; `gateway` is VnPy's object, None where its class did not load."""

    def __init__(self, name: str, gateway: Any, *, message: str = "") -> None:
        self.name = name
        self.gateway = gateway
        self.state = GatewayState.DISCONNECTED if gateway is not None else GatewayState.FAILED
        self.message = message
        self.attempt = 0
        """Counts connects and closes: a connect that another or a close has overtaken must not set the state."""
        self.session: object = None
        """Which connection it is, where the gateway says so: another one means that it was lost meanwhile."""
        self.closed = False
        """Closed once: VnPy's gateways are not made to be connected again, so the next connect makes a new one."""

    def reports_connection(self) -> bool:
        """Whether the gateway says itself if it is connected, as ours do."""
        return isinstance(getattr(self.gateway, "connected", None), bool)

    def as_event(self) -> Gateway:
        """The state to publish."""
        gateway = self.gateway
        return Gateway(
            gateway_name=self.name,
            connected=self.state is GatewayState.CONNECTED,
            state=self.state,
            exchanges=[exchange.name for exchange in gateway.exchanges] if gateway is not None else [],
            default_setting=dict(gateway.get_default_setting()) if gateway is not None else {},
            capabilities=dict(getattr(gateway, "capabilities", {})),
            message=self.message,
        )


class Subscriptions:
    """`vt_symbol -> gateway_name`, outliving a restart in a small JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._gateways: dict[str, str] = {}

    def load(self) -> None:
        """Read the file. Raises ConfigurationError when it is broken."""
        if self._path.exists():
            try:
                self._gateways = msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
            except msgspec.DecodeError as error:
                raise ConfigurationError(f"{self._path} is broken: {error}; remove it to start anew") from error

    def add(self, vt_symbol: str, gateway_name: str) -> None:
        """Remember."""
        if self._gateways.get(vt_symbol) != gateway_name:
            self._gateways[vt_symbol] = gateway_name
            self._save()

    def remove(self, vt_symbol: str) -> None:
        """Forget. Raises NotFound."""
        if vt_symbol not in self._gateways:
            raise NotFound(f"{vt_symbol} is not subscribed")
        del self._gateways[vt_symbol]
        self._save()

    def all(self) -> list[tuple[str, str]]:
        """In order of subscription."""
        return list(self._gateways.items())

    def of(self, gateway_name: str) -> list[str]:
        """The symbols of one gateway."""
        return [vt_symbol for vt_symbol, name in self._gateways.items() if name == gateway_name]

    def _save(self) -> None:
        write_atomic(self._path, msgspec.json.encode(self._gateways))


class Gateways:
    """Loop thread only; the gateways' own calls run on the event thread, their blocking ones in workers.

    VnPy says nowhere whether a gateway is connected. One of ours says so itself; of any other the first contract or
    account is taken as the sign.
    """

    def __init__(
        self,
        main_engine: MainEngine,
        *,
        commands: CommandDoor,
        bridge: EventBridge,
        view: ReadView,
        flow: Flow,
        tasks: BackgroundTasks,
        settings: dict[str, GatewaySettings],
        setting_folders: list[Path],
        subscriptions: Subscriptions,
        recovery: Recovery,
        on_connected: Callable[[], Awaitable[None]],
        history: TimeSeriesStore | None = None,
        on_source: Callable[[str, bool], None] = lambda name, replays: None,
    ) -> None:
        """`setting_folders` may hold `connect_<name>.json`, later ones winning; `on_connected` starts strategies.

        Gateways that have a `history` attribute get the tick store there, to replay from. `on_source` hears of each
        connected gateway whether its ticks are a recording's (its `replays`), before they begin.
        """
        self._main_engine = main_engine
        self._commands = commands
        self._bridge = bridge
        self._view = view
        self._flow = flow
        self._tasks = tasks
        self._settings = settings
        self._setting_folders = setting_folders
        self.subscriptions = subscriptions
        self._recovery = recovery
        self._on_connected = on_connected
        self._history = history
        self._on_source = on_source
        self._records: dict[str, GatewayRecord] = {}

    def load(self) -> None:
        """Make the configured gateways; one that fails is kept as FAILED with the reason."""
        for name, settings in self._settings.items():
            if not settings.enabled:
                continue
            try:
                record = GatewayRecord(name, self._main_engine.add_gateway(load_target(settings.class_), name))
                self._recovery.expect(name)
                self._bind_flow(record)
            except Exception as error:  # noqa: BLE001 - a guarded door: a broken gateway must not end the start
                record = GatewayRecord(name, None, message=describe(error))
                _log.exception("a gateway could not be loaded; the service starts without it", gateway_name=name)
            self._records[name] = record
            self._publish(record)

    def adopt(self) -> None:
        """Take over the gateways of a running MainEngine; those with contracts count as connected. Repeatable."""
        for name, gateway in list(self._main_engine.gateways.items()):
            if name in self._records:
                self.is_connected(name)  # notices what the host did with it
                continue
            record = self._records[name] = GatewayRecord(name, gateway)
            self._bind_history(record)
            self._recovery.expect(name)
            offers = any(name in offered for offered in self._view.contracts.values())
            self._set_state(record, GatewayState.CONNECTED if offers else GatewayState.DISCONNECTED)
            if record.state is GatewayState.CONNECTED:
                # What it showed before we came was taken in as our books' beginning.
                self._tasks.spawn(self.reconcile(name), f"reconcile {name}")
            else:
                self._recovery.begin(name)  # the host may connect it at any moment

    async def auto_connect(self) -> None:
        """Connect those that are configured to; failures are logged and shown."""
        for name, settings in self._settings.items():
            if settings.enabled and settings.auto_connect:
                try:
                    await self.connect(name, {})
                except CoreError as error:
                    _log.error("a gateway could not be connected", gateway_name=name, detail=error.detail)

    def all(self) -> list[Gateway]:
        """Every gateway's state, in the order of configuration."""
        for name in self._records:
            self.is_connected(name)  # notices a connection that was lost since
        return [record.as_event() for record in self._records.values()]

    def is_connected(self, name: str) -> bool:
        """Whether orders may go there now."""
        record = self._records.get(name)
        if record is None:
            return False
        if record.reports_connection():
            self._follow(record)
        return record.state is GatewayState.CONNECTED

    def _follow(self, record: GatewayRecord) -> None:
        """Take over what a gateway says of itself, but for a connect or close of ours that is under way."""
        session = getattr(record.gateway, "session", None)
        if record.state is GatewayState.CONNECTED and not record.gateway.connected:
            self._set_state(record, GatewayState.DISCONNECTED, "the connection was lost")
            # From now on, because a reconnect shows at once what happened meanwhile.
            self._recovery.begin(record.name)
        elif record.state is GatewayState.CONNECTED and session != record.session:
            # Lost and back between two looks.
            self._recovery.begin(record.name)
            self._tasks.spawn(self._resume(record), f"go on after the reconnect of {record.name}")
        elif record.state in _AWAY and not record.closed and record.gateway.connected:
            # By itself, or by the host we are attached to.
            self._set_state(record, GatewayState.CONNECTED)
            self._tasks.spawn(self._resume(record), f"go on after the reconnect of {record.name}")
        record.session = session

    async def _resume(self, record: GatewayRecord) -> None:
        """After a reconnect that was not ours: have all shown once more, then go on as after any connect."""
        showing = self._recovery.showing(record.name) or self._recovery.begin(record.name)
        has_shown = await self._query_all(record)
        if self._recovery.showing(record.name) is not showing:
            return  # who began another one meanwhile brings it to its end
        if has_shown:
            await self._go_on(record)
        else:
            self._recovery.abandon(record.name)  # lost again; the next reconnect tries again

    def require_connected(self, name: str) -> None:
        """Raises NotFound, GatewayNotConnected."""
        record = self._get(name)
        if not self.is_connected(name):
            raise GatewayNotConnected(f"gateway {name} is {record.state.lower()}; connect it first")

    async def connect(self, name: str, setting: dict[str, Any]) -> None:
        """Start connecting. Raises NotFound, Conflict (connected, not loaded, or its settings file is broken)."""
        record = self._get(name)
        if self.is_connected(name) or record.state is GatewayState.CONNECTING:
            raise Conflict(f"gateway {name} is {record.state.lower()} already")
        if record.gateway is None:
            raise Conflict(f"gateway {name} did not load: {record.message}")
        merged = self._connect_setting(record, setting)
        self._set_state(record, GatewayState.CONNECTING)
        self._recovery.begin(name)
        record.attempt += 1
        self._tasks.spawn(self._connect(record, merged, record.attempt), f"connect {name}")

    async def disconnect(self, name: str) -> None:
        """Close the connection. Raises NotFound, Conflict (not connected)."""
        record = self._get(name)
        if record.state not in (GatewayState.CONNECTED, GatewayState.CONNECTING):
            raise Conflict(f"gateway {name} is not connected")
        await self._close(record)

    async def close(self) -> None:
        """Close every gateway, once each, 5 s at most each."""
        for record in self._records.values():
            if record.gateway is not None and not record.closed:
                await self._close(record)

    async def subscribe(self, vt_symbol: str, gateway_name: str) -> None:
        """Subscribe and remember. Raises NotFound, GatewayNotConnected."""
        self.require_connected(gateway_name)
        if gateway_name not in self._view.contracts.get(vt_symbol, {}):
            raise NotFound(f"gateway {gateway_name} has no contract {vt_symbol}")
        await self._commands.run(partial(self._subscribe, vt_symbol, gateway_name))
        self.subscriptions.add(vt_symbol, gateway_name)

    async def reconcile(self, name: str) -> None:
        """Let the gateway show all it can once more, and compare, unless another connect or comparison overtakes it.

        Raises NotFound, GatewayNotConnected.
        """
        self.require_connected(name)
        record = self._get(name)
        showing = self._recovery.begin(name)
        has_shown = await self._query_all(record)
        if self._recovery.showing(name) is not showing:
            return  # what we saw is not what the other one began to collect
        if not has_shown:
            self._recovery.abandon(name)
            raise GatewayNotConnected(f"gateway {name} could not show its orders; its connection may be lost")
        await self._recovery.finish(
            name,
            record.gateway,
            self._capabilities(name),
            shown_all=record.reports_connection(),
            asked_orders=hasattr(record.gateway, "query_orders"),
        )
        await self._on_connected()

    async def _query_all(self, record: GatewayRecord) -> bool:
        """Let the gateway show what it can; False where it says that it could not, or raises."""
        try:
            for query in ("query_account", "query_position", "query_orders", "query_trades"):
                if hasattr(record.gateway, query) and await in_own_thread(getattr(record.gateway, query)) is False:
                    return False
        except Exception as error:  # noqa: BLE001 - a guarded door: a gateway may raise anything
            _log.error("a gateway could not show what it has", gateway_name=record.name, detail=describe(error))
            return False
        return True

    def ids_unique(self, name: str) -> bool:
        """Whether a gateway's order ids never come again after a restart. Any thread."""
        return name in self._records and self._capabilities(name).ids_unique_across_restart

    def account_scope(self, name: str) -> str:
        """Within what the names of a gateway's accounts are unique: its class, as `module:Class`. Any thread.

        Empty where nobody else trades its account (`exclusive_account` says no), and for what is no gateway of ours.
        """
        record = self._records.get(name)
        if record is None or record.gateway is None or not self._capabilities(name).exclusive_account:
            return ""
        kind = type(record.gateway)
        return f"{kind.__module__}:{kind.__qualname__}"

    def _capabilities(self, name: str) -> Capabilities:
        configured = self._settings.get(name)
        return Capabilities.of(self._get(name).gateway, configured.capabilities if configured else {})

    def on_sign_of_life(self, name: str) -> None:
        """A contract or an account of this gateway arrived."""
        record = self._records.get(name)
        if record is None or record.closed or record.reports_connection():
            return
        if record.state is not GatewayState.CONNECTED:
            self._set_state(record, GatewayState.CONNECTED)
            self._tasks.spawn(self._go_on(record), f"go on after connecting {name}")

    def _connect_setting(self, record: GatewayRecord, overrides: dict[str, Any]) -> dict[str, Any]:
        setting = dict(record.gateway.get_default_setting())
        for folder in self._setting_folders:
            path = folder / f"connect_{record.name.lower()}.json"
            if path.exists():
                try:
                    setting |= json.loads(path.read_text(encoding="utf-8"))
                except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
                    raise Conflict(f"{path} is not a JSON object: {error}") from error
        configured = self._settings.get(record.name)
        return setting | (configured.setting if configured else {}) | overrides

    async def _connect(self, record: GatewayRecord, setting: dict[str, Any], attempt: int) -> None:
        if record.attempt != attempt:
            return
        try:
            if record.closed:
                await self._renew(record)
            await in_own_thread(partial(self._main_engine.connect, setting, record.name))
        except Exception as error:  # noqa: BLE001 - a guarded door: a gateway may raise anything
            _log.error("a gateway could not be connected", gateway_name=record.name, detail=describe(error))
            if record.attempt != attempt:
                return
            self._recovery.abandon(record.name)
            self._set_state(record, GatewayState.FAILED, describe(error))
            return
        # Behind all events that the gateway has put so far.
        await self._commands.run(lambda: None, deadline_s=CONNECT_PATIENCE_S)
        await self._bridge.flush()
        if record.attempt != attempt:
            return
        if record.reports_connection():
            self._set_state(record, GatewayState.CONNECTED if record.gateway.connected else GatewayState.FAILED)
            record.session = getattr(record.gateway, "session", None)
            if record.gateway.connected:
                await self._go_on(record)
            else:
                self._recovery.abandon(record.name)
            return
        await asyncio.sleep(CONNECT_PATIENCE_S)
        if record.state is GatewayState.CONNECTING and record.attempt == attempt:
            silence = f"no contract or account arrived within {CONNECT_PATIENCE_S:g} s; see its log lines"
            self._set_state(record, GatewayState.CONNECTING, silence)

    async def _go_on(self, record: GatewayRecord) -> None:
        try:
            await self._follow_up(record)
        except Exception as error:  # noqa: BLE001 - a guarded door: whatever fails here, the operator must see it
            self._recovery.abandon(record.name)
            self._set_state(
                record, record.state, f"no order passes: what follows the connect failed: {describe(error)}"
            )
            _log.exception("what follows a connect failed; no order passes the gateway", gateway_name=record.name)

    async def _follow_up(self, record: GatewayRecord) -> None:
        """What follows a connection: reconciliation, subscriptions, strategies, and the market if it waits for us."""
        await self._recovery.finish(
            record.name, record.gateway, self._capabilities(record.name), shown_all=record.reports_connection()
        )
        for vt_symbol in self.subscriptions.of(record.name):
            if record.name in self._view.contracts.get(vt_symbol, {}):
                await self._subscribe_again(vt_symbol, record.name)
        await self._on_connected()
        if hasattr(record.gateway, "open_market"):
            await asyncio.to_thread(record.gateway.open_market)

    async def _subscribe_again(self, vt_symbol: str, gateway_name: str) -> None:
        try:
            await self._commands.run(partial(self._subscribe, vt_symbol, gateway_name))
        except Exception as error:  # noqa: BLE001 - a guarded door: strategies and the market must follow all the same
            _log.error("a subscription could not be renewed", vt_symbol=vt_symbol, detail=describe(error))

    async def _renew(self, record: GatewayRecord) -> None:
        """A fresh gateway in place of the closed one."""
        add = partial(self._main_engine.add_gateway, type(record.gateway), record.name)
        record.gateway = await self._commands.run(add, deadline_s=10)
        record.closed = False
        self._bind_flow(record)

    async def _close(self, record: GatewayRecord) -> None:
        record.closed = True
        record.attempt += 1
        self._recovery.abandon(record.name)
        self._set_state(record, GatewayState.DISCONNECTED)
        try:
            await asyncio.wait_for(in_own_thread(record.gateway.close), CLOSE_PATIENCE_S)
        except Exception as error:  # noqa: BLE001 - a guarded door: a gateway may raise anything
            record.message = f"close failed: {describe(error)}"
            _log.error("a gateway did not close well", gateway_name=record.name, detail=record.message)

    def _bind_flow(self, record: GatewayRecord) -> None:
        if hasattr(record.gateway, "bind_flow"):
            record.gateway.bind_flow(self._flow)
        self._bind_history(record)

    def _bind_history(self, record: GatewayRecord) -> None:
        if hasattr(record.gateway, "history"):
            record.gateway.history = self._history

    def _subscribe(self, vt_symbol: str, gateway_name: str) -> None:
        symbol, _, exchange = vt_symbol.rpartition(".")
        self._main_engine.subscribe(SubscribeRequest(symbol=symbol, exchange=Exchange(exchange)), gateway_name)

    def _get(self, name: str) -> GatewayRecord:
        record = self._records.get(name)
        if record is None:
            raise NotFound(f"there is no gateway {name}; there are: {', '.join(self._records) or 'none'}")
        return record

    def _set_state(self, record: GatewayRecord, state: GatewayState, message: str = "") -> None:
        record.state, record.message = state, message
        if state is GatewayState.CONNECTED:
            self._on_source(record.name, bool(getattr(record.gateway, "replays", False)))
        self._publish(record)

    def _publish(self, record: GatewayRecord) -> None:
        self._bridge.emit(topics.GATEWAY_UPDATED, record.name, record.as_event())
