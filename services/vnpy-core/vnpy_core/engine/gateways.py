"""The gateways of one MainEngine: their states, their settings and what they are subscribed to."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import msgspec

from vnpy_core.domain.enums import GatewayState
from vnpy_core.domain.errors import ConfigurationError, NotFound, describe
from vnpy_core.domain.events import Gateway
from vnpy_core.kit.files import write_atomic


def load_target(target: str) -> Any:
    """The object behind `module:Name`. Raises ConfigurationError; foreign code runs at import and may do anything."""
    module_name, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), name)
    except Exception as error:
        raise ConfigurationError(f"{target} could not be loaded: {describe(error)}") from error


class GatewayRecord:
    """What is known of one gateway. Loop thread; `gateway` is VnPy's object, None where its class did not load."""

    def __init__(self, name: str, gateway: Any, *, target: str = "", message: str = "") -> None:
        self.name = name
        self.gateway = gateway
        self.target = target
        self.state = GatewayState.DISCONNECTED if gateway is not None else GatewayState.FAILED
        self.message = message
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


class GatewayRegistry:
    """All gateways by name. Loop thread."""

    def __init__(self) -> None:
        self._records: dict[str, GatewayRecord] = {}

    def add(self, record: GatewayRecord) -> None:
        """Take in a gateway."""
        self._records[record.name] = record

    def get(self, name: str) -> GatewayRecord:
        """Raises NotFound."""
        record = self._records.get(name)
        if record is None:
            known = ", ".join(self._records) or "none"
            raise NotFound(f"there is no gateway {name}; there are: {known}")
        return record

    def find(self, name: str) -> GatewayRecord | None:
        """The record, if there is one."""
        return self._records.get(name)

    def all(self) -> list[GatewayRecord]:
        """In the order of configuration."""
        return list(self._records.values())


def connect_setting(gateway: Any, name: str, folders: list[Path], overrides: dict[str, Any]) -> dict[str, Any]:
    """The gateway's defaults, under `connect_<name>.json` (later folders win), under `overrides`.

    The file is VnPy's own, so a trader's existing configuration stays valid. Raises ConfigurationError when broken.
    """
    setting = dict(gateway.get_default_setting())
    for folder in folders:
        path = folder / f"connect_{name.lower()}.json"
        if path.exists():
            try:
                setting |= json.loads(path.read_text(encoding="utf-8"))
            except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
                raise ConfigurationError(f"{path} is not a JSON object: {error}") from error
    return setting | overrides


class Subscriptions:
    """`(vt_symbol, gateway_name)` pairs that outlive a restart, in a small JSON file. Loop thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pairs: dict[str, str] = {}

    def load(self) -> None:
        """Read the file. Raises ConfigurationError when it is broken."""
        if self._path.exists():
            try:
                self._pairs = msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
            except msgspec.DecodeError as error:
                raise ConfigurationError(f"{self._path} is broken: {error}; remove it to start anew") from error

    def add(self, vt_symbol: str, gateway_name: str) -> None:
        """Remember."""
        if self._pairs.get(vt_symbol) != gateway_name:
            self._pairs[vt_symbol] = gateway_name
            self._save()

    def remove(self, vt_symbol: str) -> None:
        """Forget. Raises NotFound."""
        if vt_symbol not in self._pairs:
            raise NotFound(f"{vt_symbol} is not subscribed")
        del self._pairs[vt_symbol]
        self._save()

    def all(self) -> list[tuple[str, str]]:
        """In order of subscription."""
        return list(self._pairs.items())

    def of(self, gateway_name: str) -> list[str]:
        """The symbols of one gateway."""
        return [vt_symbol for vt_symbol, name in self._pairs.items() if name == gateway_name]

    def _save(self) -> None:
        write_atomic(self._path, msgspec.json.encode(self._pairs))
