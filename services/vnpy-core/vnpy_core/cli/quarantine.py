"""`vnpy-core quarantine list | release NAME`: strategies that hung and do not run until somebody lets them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vnpy_core.domain.errors import ConfigurationError, NotFound
from vnpy_core.engine.quarantine import Quarantine

app = typer.Typer(help="Strategies that hung; they do not run until they are released.", no_args_is_help=True)

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="service.toml; default: $VNPYCORE_CONFIG, ./vnpy_config/service.toml"),
]


@app.command("list")
def show(
    config: Config = None,
    stacks: Annotated[bool, typer.Option("--stacks", help="Also where each of them stood.")] = False,
) -> None:
    """Show what is held, since when and why; also while the service runs."""
    try:
        entries = _quarantine(config).entries()
    except ConfigurationError as error:
        raise _refused(str(error)) from None
    for name, entry in entries.items():
        typer.echo(f"{name}: since {entry.at:%Y-%m-%d %H:%M:%S} UTC: {entry.reason}")
        if stacks and entry.stack:
            typer.echo(entry.stack.rstrip("\n"))
    if not entries:
        typer.echo("nothing is in quarantine")


@app.command()
def release(name: Annotated[str, typer.Argument(help="As `quarantine list` shows it.")], config: Config = None) -> None:
    """Let a strategy run again: from its next start on, also while the service runs."""
    try:
        entry = _quarantine(config).release(name)
    except (ConfigurationError, NotFound) as error:
        raise _refused(str(error)) from None
    typer.echo(f"{name} may run again; it was held since {entry.at:%Y-%m-%d %H:%M:%S} UTC: {entry.reason}")


def _quarantine(config: Path | None) -> Quarantine:
    from vnpy_core.settings import load_settings

    return Quarantine(load_settings(config).paths.data)


def _refused(text: str) -> typer.Exit:
    typer.echo(f"vnpy-core: {text}", err=True)
    return typer.Exit(1)
