"""The command line: `vnpy-core serve | edge | demo | init | check | migrate | data | strategies | journal | …`.

Each command imports what it needs, so that `--help` is quick. Exit codes: 0 done, 1 refused or wrong configuration,
2 wrong usage.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vnpy_core import __version__
from vnpy_core.cli.data import app as data_app
from vnpy_core.cli.edge import edge
from vnpy_core.cli.journal import app as journal_app
from vnpy_core.cli.quarantine import app as quarantine_app
from vnpy_core.cli.strategies import app as strategies_app
from vnpy_core.cli.venue import venue
from vnpy_core.cli.watch import watch
from vnpy_core.domain.errors import ConfigurationError, Overloaded, StorageFull
from vnpy_core.kit.archive import ArchiveError, back_up
from vnpy_core.kit.archive import restore as restore_archive
from vnpy_core.kit.files import write_atomic
from vnpy_core.kit.lock import DataFolderLock, FolderInUse

# Before any other module does, so that structlog comes without what only costs time.
from vnpy_core.kit.logging import hide, setup_logging

if TYPE_CHECKING:
    from vnpy_core.settings import Settings

DEMO_FOLDER = Path("vnpy_demo")

app = typer.Typer(
    name="vnpy-core",
    help="VnPy without a screen: a trading service over REST and WebSocket.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="service.toml; default: $VNPYCORE_CONFIG, ./vnpy_config/service.toml"),
]
Force = Annotated[bool, typer.Option("--force", help="Write over what is there.")]


def main() -> None:
    """The `vnpy-core` command."""
    app()


@app.command()
def serve(
    config: Config = None,
    hints: Annotated[bool, typer.Option("--hints", help="Show three curl lines to try.")] = False,
) -> None:
    """Run the service until SIGTERM or Ctrl-C."""
    with _refusals():
        _name_configuration(config)
        _serve(_load(config), hints=hints)


@app.command()
def demo(folder: Annotated[Path, typer.Argument(help="Made where it is not there yet.")] = DEMO_FOLDER) -> None:
    """Run the service on a generated market with a paper account, in a folder of its own."""
    from vnpy_core.cli.scaffold import SERVICE_TOML, initialise

    with _refusals():
        if not (folder / SERVICE_TOML).exists():
            initialise(folder)
        _name_configuration(folder / SERVICE_TOML)
        _serve(_load(folder / SERVICE_TOML), hints=True)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where vnpy_config/ and strategies/ go.")] = Path(),
    force: Force = False,
) -> None:
    """Write a commented configuration and a demo strategy."""
    from vnpy_core.cli.scaffold import SERVICE_TOML, initialise

    with _refusals():
        for path in initialise(folder, force=force):
            typer.echo(f"wrote {path}")
    typer.echo(f"next: vnpy-core serve --config {folder / SERVICE_TOML}")


@app.command()
def check(config: Config = None) -> None:
    """Say what is wrong with the configuration, and where; starts nothing."""
    from vnpy_core.cli.checking import check as find_problems

    with _refusals():
        found = find_problems(_load(config))
    for problem in found:
        typer.echo(problem, err=True)
    if found:
        raise typer.Exit(1)
    typer.echo("the configuration is good")


@app.command()
def openapi(
    output: Annotated[Path | None, typer.Argument(help="A file; default: standard output.")] = None,
    config: Config = None,
) -> None:
    """Write the OpenAPI document; starts no engine."""
    from vnpy_core.app import build_api

    with _refusals():
        text = json.dumps(build_api(_load(config)).openapi(), indent=2, ensure_ascii=False) + "\n"
        if output is None:
            typer.echo(text, nl=False)
        else:
            write_atomic(output, text.encode())


@app.command()
def import_vnpy(
    source: Annotated[Path, typer.Argument(help="An existing trader's folder, as ~/.vntrader; only read.")],
    config: Config = None,
    force: Force = False,
) -> None:
    """Take over an existing VnPy trader's settings, gateways' log-ins and strategies."""
    from vnpy_core.cli.takeover import take_over

    with _refusals():
        taken = take_over(source.expanduser(), _load(config).paths.data, force=force)
    for file in taken:
        typer.echo(f"{file.name}: {file.outcome}", err=file.problem)
    if any(file.name.startswith("connect_") for file in taken):
        typer.echo("each gateway also needs its table in service.toml, as [gateways.CTP] with its class")
    if any(file.problem for file in taken):
        raise typer.Exit(1)


@app.command()
def migrate(
    config: Config = None,
    check: Annotated[bool, typer.Option("--check", help="Only say what would be done.")] = False,
) -> None:
    """Bring the database's schema up to date, before a start would do it."""
    from vnpy_core.cli.migrate import migrate as run

    with _refusals():
        for line in run(_load(config), check=check):
            typer.echo(line)


app.add_typer(data_app)
app.add_typer(journal_app)
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(strategies_app)
app.command()(edge)
app.command()(venue)
app.command()(watch)


@app.command()
def backup(archive: Annotated[Path, typer.Argument()], config: Config = None, force: Force = False) -> None:
    """Write the data folder to a tar.gz; also while the service runs."""
    with _refusals():
        count = back_up(_load(config).paths.data, archive, version=__version__, force=force)
    typer.echo(f"{count} files are in {archive}; it holds log-ins and keys, so keep it where you keep those")


@app.command()
def restore(archive: Annotated[Path, typer.Argument()], config: Config = None, force: Force = False) -> None:
    """Put a backup's files into the data folder; not while a service runs on it."""
    with _refusals():
        data = _load(config).paths.data
        aside = restore_archive(archive, data, force=force)
    typer.echo(f"restored to {data}" + (f"; what was there is in {aside}" if aside else ""))


@app.command()
def version() -> None:
    """Show the versions of the service and of what it runs on."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    typer.echo(f"vnpy-core {__version__}")
    typer.echo(f"python {sys.version.split()[0]}")
    for package in ("vnpy", "vnpy_ctastrategy", "vnpy_riskmanager", "fastapi", "uvicorn"):
        try:
            typer.echo(f"{package} {installed(package)}")
        except PackageNotFoundError:
            typer.echo(f"{package} is not installed")


def _load(config: Path | None) -> Settings:
    from vnpy_core.settings import load_settings

    return load_settings(config)


def _serve(settings: Settings, *, hints: bool) -> None:
    # Before anything slow is imported: a second service on the folder is told so at once.
    with DataFolderLock(settings.paths.data):
        _serve_locked(settings, hints=hints)


def _name_configuration(config: Path | None) -> None:
    """For the processes that strategies and apps start in the data folder: they shall find the same store."""
    from vnpy_core.settings import CONFIG_VARIABLE, DEFAULT_CONFIG

    path = config or Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG)
    if path.exists():
        os.environ[CONFIG_VARIABLE] = str(path.absolute())


def _serve_locked(settings: Settings, *, hints: bool) -> None:
    from vnpy_core.app import serve as run
    from vnpy_core.cli.hints import announcer

    log = settings.log
    try:
        setup_logging(log.level, log.format, file=log.file, rotate_mb=log.rotate_mb, keep_files=log.keep_files)
    except OSError as error:
        raise ConfigurationError(f"log.file: {error}") from error
    if settings.auth.admin_password is not None:
        hide(settings.auth.admin_password.get_secret_value())
    run(settings, on_ready=announcer(settings, hints=hints))


@contextmanager
def _refusals() -> Iterator[None]:
    """What the operator can mend is told in words, without a traceback."""
    try:
        yield
    except (ConfigurationError, StorageFull, Overloaded, ArchiveError, FolderInUse) as error:
        typer.echo(f"vnpy-core: {error}", err=True)
        raise typer.Exit(1) from None
    except BrokenPipeError:
        # The reader of our output went away, as in `vnpy-core openapi | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None


if __name__ == "__main__":
    main()
