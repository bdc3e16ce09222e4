"""`vnpy-core edge`: serve what a core publishes, in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vnpy_core.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from vnpy_core.settings import LogSettings, Settings

LAST_PORT = 65_535


def edge(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="service.toml, as the core's; default: as for `serve`."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=LAST_PORT, help="Default: the next after server.port; 0: any.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Default: server.host.")] = None,
    core: Annotated[str | None, typer.Option(help="Which core to follow; default: node.name.")] = None,
    address: Annotated[
        str, typer.Option(help="Where others reach it, as http://edge1.example; default: where it listens.")
    ] = "",
) -> None:
    """Serve /ws and the reading half of the trading API from Redis; as many of these as you want."""
    try:
        _serve(config, port=port, host=host, core=core, address=address)
    except ConfigurationError as error:
        typer.echo(f"vnpy-core: {error}", err=True)
        raise typer.Exit(1) from None


def _serve(config: Path | None, *, port: int | None, host: str | None, core: str | None, address: str) -> None:
    from vnpy_core.kit.logging import setup_logging
    from vnpy_core.settings import load_settings

    settings = as_edge(load_settings(config), port=port, host=host, core=core)
    log = settings.log
    try:
        setup_logging(log.level, log.format, file=log.file, rotate_mb=log.rotate_mb, keep_files=log.keep_files)
    except OSError as error:
        raise ConfigurationError(f"log.file: {error}") from error
    from vnpy_core.edge import serve

    def announce(where: str) -> None:
        typer.echo(f"an edge of core {settings.node.name} answers at {where}")

    serve(settings, address=address, on_ready=announce)


def as_edge(
    settings: Settings, *, port: int | None = None, host: str | None = None, core: str | None = None
) -> Settings:
    """A core's settings as an edge beside it has them: another port, another log file. Raises ConfigurationError."""
    from pydantic import ValidationError

    from vnpy_core.settings import Settings

    if port is None:
        port = min(settings.server.port + 1, LAST_PORT) if settings.server.port else 0
    server = settings.server.model_copy(update={"port": port} | ({"host": host} if host else {}))
    changes = {
        "server": server.model_dump(),
        "log": _own_file(settings.log, port).model_dump(),
        "node": {**settings.node.model_dump(), **({"name": core} if core else {})},
    }
    kept = {name: getattr(settings, name) for name in Settings.model_fields if name not in changes}
    try:
        return Settings.model_validate(kept | changes)
    except ValidationError as error:
        raise ConfigurationError("; ".join(str(item["msg"]) for item in error.errors())) from error


def _own_file(log: LogSettings, port: int) -> LogSettings:
    """Two processes that rotate one file lose lines."""
    if log.file is None:
        return log
    return log.model_copy(update={"file": log.file.with_name(f"{log.file.stem}-edge-{port}{log.file.suffix}")})
