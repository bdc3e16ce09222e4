"""The service's settings: each room's own, composed; from service.toml, each value overridable by the environment.

`VNPYCORE__SERVER__PORT=8010` overrides `[server] port`. Names of gateways, strategies and apps match whatever their
case: `VNPYCORE__GATEWAYS__PAPER__AUTO_CONNECT=false`.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from vnpy_core.adapters.broker.settings import BrokerSettings
from vnpy_core.adapters.cache.settings import CacheSettings
from vnpy_core.adapters.journal.settings import JournalSettings
from vnpy_core.adapters.registry.settings import RegistrySettings
from vnpy_core.adapters.store.settings import StoreSettings
from vnpy_core.adapters.timeseries.settings import RecorderSettings, TimeSeriesSettings
from vnpy_core.domain.errors import ConfigurationError, FieldError
from vnpy_core.engine.settings import AppSettings, EngineSettings, GatewaySettings, StrategySettings, default_apps
from vnpy_core.features.auth.settings import AuthSettings
from vnpy_core.features.edge.settings import EdgeSettings
from vnpy_core.features.market_data.settings import DataSettings
from vnpy_core.features.nodes.settings import NodeSettings
from vnpy_core.features.strategies.settings import ProfitSettings
from vnpy_core.features.strategies.upload_settings import StrategyUploadSettings
from vnpy_core.features.streaming.settings import StreamingSettings
from vnpy_core.kit.logging import is_secret_key
from vnpy_core.kit.redis import RedisSettings
from vnpy_core.kit.toml_lines import key_lines

PREFIX = "VNPYCORE__"
CONFIG_VARIABLE = "VNPYCORE_CONFIG"
DEFAULT_CONFIG = Path("vnpy_config/service.toml")

_COMMON_PASSWORD = re.compile(r"pass.?word|admin|vnpy|veighna|qwer|letmein|secret|changeme|123456", re.IGNORECASE)
_ENVIRONMENT_ONLY = (("auth", "admin_password"), ("edge", "jwt_secret"))
_NAMED = ("apps", "gateways", "strategies")
_Tree = dict[str, Any]
_Keys = tuple[str, ...]


def _absolute(path: Path, info: ValidationInfo) -> Path:
    folder: Path = (info.context or {}).get("folder") or Path.cwd() / DEFAULT_CONFIG.parent
    return (folder / path.expanduser()).resolve()


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
"""Relative ones count from the folder of the configuration file."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ServerSettings(_Frozen):
    """Where the service listens and whom it answers: `[server]`."""

    host: str = "127.0.0.1"
    port: int = Field(default=8006, ge=0, le=65_535)
    """0 lets the system choose one."""
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    """What a request's Host header may say: other web sites' names that point here are refused (DNS rebinding)."""
    cors_origins: tuple[str, ...] = ()
    """Origins of browsers' pages (`https://desk.example`) that may call the API; none by default."""
    body_limit: int = Field(default=1_048_576, ge=1_024)
    """Largest request body, bytes; imports have their own."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class PathSettings(_Frozen):
    """Folders: `[paths]`."""

    data: AbsolutePath = Path("../vnpy_data")
    """Everything the service writes, VnPy's own folder included."""
    strategies: AbsolutePath = Path("../strategies")
    """The user's CTA strategies."""
    config: AbsolutePath = Path()
    """Where vt_setting.json and contracts.toml are."""


class LogSettings(_Frozen):
    """The log: `[log]`."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["auto", "console", "json"] = "auto"
    """`auto`: for people on a terminal, JSON lines elsewhere."""
    file: AbsolutePath | None = None
    """Also write JSON lines to this file."""
    rotate_mb: int = Field(default=50, ge=1)
    """Start a new file at this size, megabytes."""
    keep_files: int = Field(default=5, ge=1)
    """Older files that are kept."""


class Settings(_Frozen):
    """All of it, checked and immutable; paths are absolute."""

    server: ServerSettings = Field(default_factory=ServerSettings)
    paths: PathSettings = Field(default_factory=PathSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    streaming: StreamingSettings = Field(default_factory=StreamingSettings)
    node: NodeSettings = Field(default_factory=NodeSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    broker: BrokerSettings = Field(default_factory=BrokerSettings)
    cache: CacheSettings = Field(default_factory=CacheSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    edge: EdgeSettings = Field(default_factory=EdgeSettings)
    journal: JournalSettings = Field(default_factory=JournalSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    timeseries: TimeSeriesSettings = Field(default_factory=TimeSeriesSettings)
    recorder: RecorderSettings = Field(default_factory=RecorderSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    apps: dict[str, AppSettings] = Field(default_factory=default_apps)
    gateways: dict[str, GatewaySettings] = Field(default_factory=dict)
    strategies: dict[str, StrategySettings] = Field(default_factory=dict)
    profit: ProfitSettings = Field(default_factory=ProfitSettings)
    strategy_upload: StrategyUploadSettings = Field(default_factory=StrategyUploadSettings)

    @model_validator(mode="after")
    def _strong_secret_for_strangers(self) -> Settings:
        chosen = self.auth.admin_password
        if self.server.is_local or chosen is None or not is_weak(chosen.get_secret_value()):
            return self
        raise ValueError(
            f"server.host {self.server.host} can be reached from other machines and auth.admin_password is weak: "
            "use 12 characters or more that nobody guesses, or leave it out and a random one is made"
        )


def is_weak(password: str) -> bool:
    """Whether a password is too easy to guess for a port that others can reach."""
    return (
        len(password) < 12 or len(set(password)) < 6 or bool(_COMMON_PASSWORD.search(password) and len(password) < 20)
    )


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read `path` (default: $VNPYCORE_CONFIG, ./vnpy_config/service.toml, else built-in defaults) and the environment.

    Raises ConfigurationError that names every problem at once: file and line or variable, key, what is wrong.
    """
    environ = os.environ if environ is None else environ
    path = path or _configured(environ)
    text = _read(path) if path else ""
    tree = _parse(path, text)
    for table, key in _ENVIRONMENT_ONLY:
        if isinstance(tree.get(table), dict) and key in tree[table]:
            variable = f"{PREFIX}{table}__{key}".upper()
            raise ConfigurationError(f"{path}: {table}.{key}: a file is no place for it; set {variable} instead")
    # The apps that ship with the service are there to be changed, without repeating their class.
    defaults = {name: app.model_dump(by_alias=True) for name, app in default_apps().items()}
    if isinstance(tree.get("apps", {}), dict):
        tree["apps"] = _merged(defaults, tree.get("apps", {}))
    variables = _apply_environment(tree, environ)
    folder = path.parent.absolute() if path else Path.cwd() / DEFAULT_CONFIG.parent
    _resolve_setting_paths(tree, folder)
    tree.setdefault("paths", {})  # pydantic gives the context, which has the folder, to what it validates only
    try:
        return Settings.model_validate(tree, context={"folder": folder})
    except ValidationError as error:
        problems = list(_problems(error, tree, key_lines(text), variables))
    where = path or "the configuration"
    raise ConfigurationError(
        "\n".join([f"{where} is not usable:", *(f"  {place}{field}: {text}" for place, field, text in problems)]),
        errors=[FieldError(field, text) for _, field, text in problems],
    )


def _configured(environ: Mapping[str, str]) -> Path | None:
    if environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE])
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(f"there is no configuration file {path}; `vnpy-core init` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def _parse(path: Path | None, text: str) -> _Tree:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error


def _merged(base: _Tree, over: _Tree) -> _Tree:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def _resolve_setting_paths(tree: _Tree, folder: Path) -> None:
    """Make texts of gateways' settings that begin with ./ or ../ (also in `;`-separated lists) absolute."""
    gateways = tree.get("gateways")
    for gateway in gateways.values() if isinstance(gateways, dict) else ():
        setting: Any = gateway.get("setting") if isinstance(gateway, dict) else None
        for name, value in setting.items() if isinstance(setting, dict) else ():
            if isinstance(value, str) and re.search(r"(?:^|;)\s*\.\.?/", value):
                setting[name] = ";".join(_anchored(part.strip(), folder) for part in value.split(";"))


def _anchored(text: str, folder: Path) -> str:
    return os.path.normpath(folder / text) if text.startswith(("./", "../")) else text


def _apply_environment(tree: _Tree, environ: Mapping[str, str]) -> dict[_Keys, str]:
    """Lay the environment's values over `tree`; returns which variable each path came from."""
    variables: dict[_Keys, str] = {}
    for name in sorted(environ):
        if not name.upper().startswith(PREFIX):
            continue
        keys, kind = _find(name[len(PREFIX) :].split("__"), tree)
        node = tree
        for key in keys[:-1]:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        node[keys[-1]] = _value(environ[name], kind, node.get(keys[-1]))
        variables[keys] = name
    return variables


def _find(words: list[str], tree: _Tree) -> tuple[_Keys, Any]:
    """The settings' own spelling of a variable's words, and the type of what they name (None: free-form)."""
    keys: list[str] = []
    kind: Any = Settings
    node: Any = tree
    for word in words:
        known = [*(node if isinstance(node, dict) else ()), *_names(kind)]
        spelled = next((key for key in known if _folded(key) == _folded(word)), None)
        if spelled is None:
            spelled = word if keys in [[name] for name in _NAMED] else word.lower()
        keys.append(spelled)
        kind = _kind_of(kind, spelled)
        node = node.get(spelled) if isinstance(node, dict) else None
    return tuple(keys), kind


def _folded(key: str) -> str:
    return re.sub(r"\W", "_", key).casefold()


def _names(kind: Any) -> list[str]:
    """The keys that a table of this type may have, where that is known."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [field.alias or name for name, field in kind.model_fields.items()]
    return []


def _kind_of(kind: Any, key: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return next((f.annotation for name, f in kind.model_fields.items() if key in (name, f.alias)), None)
    return get_args(kind)[1] if get_origin(kind) is dict else None


def _value(text: str, kind: Any, present: Any) -> Any:
    """A variable's text as the settings' type wants it; numbers and booleans of known types are left to pydantic."""
    if get_origin(kind) is tuple and not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    free_form = kind is None or kind is Any or bool({int, bool} & set(get_args(kind)))
    if isinstance(present, str) or not (free_form or get_origin(kind) in (tuple, dict)):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _problems(
    error: ValidationError, tree: _Tree, lines: dict[_Keys, int], variables: dict[_Keys, str]
) -> Iterator[tuple[str, str, str]]:
    """`(place, dotted key, what is wrong)`, one for each key, in the order of the file."""
    found: dict[_Keys, list[str]] = {}
    for item in error.errors(include_url=False):
        keys = _within(tuple(map(str, item["loc"])), tree, missing=item["type"] == "missing")
        found.setdefault(keys, []).append(_explain(dict(item), keys, tree))
    for keys in sorted(found, key=lambda keys: (_line(keys, lines), keys)):
        yield _place(keys, lines, variables), ".".join(keys) or "settings", " or ".join(dict.fromkeys(found[keys]))


def _place(keys: _Keys, lines: dict[_Keys, int], variables: dict[_Keys, str]) -> str:
    """The variable that set it, else the line, else a variable that made the table around it."""
    for path, name in variables.items():
        if keys and keys[: len(path)] == path:
            return f"{name}: "
    if line := _line(keys, lines):
        return f"line {line}: "
    table = keys[:-1]
    return next((f"{name}: " for path, name in variables.items() if table and path[: len(table)] == table), "")


def _within(location: _Keys, tree: _Tree, *, missing: bool) -> _Keys:
    """`location` without pydantic's own additions (branches of a union), which are no keys of the file."""
    node: Any = tree
    for depth, key in enumerate(location):
        if not isinstance(node, dict) or key not in node:
            return location[: depth + 1] if missing or (isinstance(node, list) and key.isdigit()) else location[:depth]
        node = node[key]
    return location


def _line(keys: _Keys, lines: dict[_Keys, int]) -> int:
    """The line of the key, or of the nearest table around it; 0 where the file has neither."""
    shortest = 2 if len(keys) > 1 and keys[0] in _NAMED else 1
    return next((lines[keys[:end]] for end in range(len(keys), shortest - 1, -1) if keys[:end] in lines), 0)


def _explain(item: dict[str, Any], keys: _Keys, tree: _Tree) -> str:
    kind: Any = Settings
    for key in keys[:-1]:
        kind = _kind_of(kind, key)
    match item["type"]:
        case "extra_forbidden":
            return "unknown key" + _did_you_mean(keys[-1], _names(kind))
        case "missing":
            owner = keys[-2] if len(keys) > 1 else ""
            siblings = [name for name in tree.get(keys[0], {}) if name != owner]
            return "is missing" + (_did_you_mean(owner, siblings) if keys[0] in _NAMED else "")
        case "string_pattern_mismatch" if keys[-1] == "class":
            return f'should be "module:Class", not {item["input"]!r:.60}'
        case "value_error":
            return str(item["msg"]).removeprefix("Value error, ")
        case _:
            text = str(item["msg"]).removeprefix("Input ")
            shown = not isinstance(item["input"], dict | list) and keys and not is_secret_key(keys[-1])
            return text + (f", not {item['input']!r:.60}" if shown else "")


def _did_you_mean(word: str, names: list[str]) -> str:
    by_folded = {_folded(name): name for name in names}
    near = difflib.get_close_matches(_folded(word), by_folded, 1, 0.6)
    return f'; did you mean "{by_folded[near[0]]}"?' if near else ""
