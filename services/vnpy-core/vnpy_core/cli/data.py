"""`vnpy-core data …`: ticks and bars in and out of the store, also while a service runs on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vnpy_core.domain.errors import ConfigurationError, CoreError, NotFound, ValidationFailed

if TYPE_CHECKING:
    from vnpy_core.features.market_data.importing import ImportResult
    from vnpy_core.ports.timeseries import TimeSeriesStore
    from vnpy_core.settings import Settings

SHOWN_ROWS = 20
"""Bad rows that are printed; the rest is counted."""

app = typer.Typer(name="data", help="Ticks and bars; also while a service runs.", no_args_is_help=True)

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="service.toml; default: $VNPYCORE_CONFIG, ./vnpy_config/service.toml"),
]
VtSymbol = Annotated[str, typer.Argument(metavar="VT_SYMBOL", help="As rb2701.SHFE.")]
Kind = Annotated[str, typer.Option("--kind", "-k", help="tick or bar.")]
Interval = Annotated[str, typer.Option("--interval", "-i", help="Of bars: 1m, 1h, d or w.")]
Start = Annotated[str, typer.Option("--start", help="2026-11-20, or 2026-11-20T21:00 (Shanghai, or with an offset).")]
End = Annotated[str, typer.Option("--end", help="A date is included whole, a time is not included.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
OnProgress = Callable[[float, str], None]


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="CSV or Parquet; also .gz and .zip.")],
    config: Config = None,
    kind: Kind = "tick",
    format: Annotated[str, typer.Option("--format", help="auto, vnpy, ctp, tqsdk, short or columns.")] = "auto",
    mapping: Annotated[
        list[str] | None, typer.Option("--map", metavar="FIELD=COLUMN", help="Where a field is; may be given again.")
    ] = None,
    vt_symbol: Annotated[
        str, typer.Option("--symbol", "-s", help="Whose data it is, where the file does not say.")
    ] = "",
    interval: Interval = "1m",
    timezone: Annotated[str, typer.Option(help="Of times without an offset.")] = "Asia/Shanghai",
    datetime_format: Annotated[str, typer.Option(help="As %Y%m%d %H:%M:%S, of other times than ISO's.")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Nothing of a file that has a bad row.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write the bad rows here, PLACE<tab>REASON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Merge files into the store. Bad rows are left out and shown."""
    with _refusals():
        from vnpy_core.cli.data_store import exchange_resolver, tidy
        from vnpy_core.features.market_data.importing import ImportSpec, run_import

        settings = _load(config)
        resolve = exchange_resolver(settings.paths.config / "contracts.toml")
        outcomes: list[dict[str, Any]] = []
        with _store(settings) as store, _progress("importing", len(files)) as bar, _report(report) as note:
            for number, path in enumerate(files):
                spec = ImportSpec(
                    path=str(path), kind=_kind(kind), format=format, mapping=_mapping(mapping), vt_symbol=vt_symbol,
                    interval=interval, timezone=timezone, datetime_format=datetime_format, strict=strict,
                    name=path.name,
                )  # fmt: skip
                try:
                    result = run_import(spec, store, resolve, _part(bar, number))
                except ValidationFailed as error:
                    outcomes.append({"file": str(path), "error": error.detail})
                    _tell_refused(path, error, note)
                else:
                    outcomes.append({"file": str(path), **_plain(result)})
                    _tell_imported(path, result, note, quiet=as_json)
            tidy(store)
        if as_json:
            _print_json(outcomes)
    if any("error" in outcome for outcome in outcomes):
        raise typer.Exit(1)


@app.command()
def export(
    vt_symbol: VtSymbol,
    output: Annotated[str, typer.Argument(metavar="FILE|-", help="A new file, or - for standard output (CSV).")],
    config: Config = None,
    kind: Kind = "tick",
    interval: Interval = "1m",
    start: Start = "",
    end: End = "",
    format: Annotated[str, typer.Option("--format", help="csv or parquet; default: by FILE's ending.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
) -> None:
    """Write a range as CSV or Parquet, with VnPy's columns."""
    with _refusals():
        from vnpy_core.features.market_data.exporting import ExportSpec, run_export

        chosen = format or ("parquet" if output.endswith(".parquet") else "csv")
        if chosen == "parquet" and output == "-":
            raise ConfigurationError("Parquet needs a file to go to, not -")
        first, last = _range(vt_symbol, start, end)
        spec = ExportSpec(
            kind=_kind(kind), vt_symbol=vt_symbol, interval=interval, start_ns=first, end_ns=last, format=_one_of(
                "--format", chosen, ("csv", "parquet")
            ),
        )  # fmt: skip
        with _store(_load(config)) as store, _progress("exporting") as bar:
            if output == "-":
                rows = run_export(spec, store, sys.stdout.buffer, bar)
                sys.stdout.buffer.flush()
            else:
                rows = _to_file(Path(output), lambda path: run_export(spec, store, path, bar), force=force)
        if not rows:
            raise NotFound(f"the store has no such {kind}s of {vt_symbol}")
    typer.echo(f"{rows:,} rows", err=True)


@app.command()
def overview(
    config: Config = None,
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="vt_symbols, as rb*.SHFE.")] = "*",
    as_json: AsJson = False,
) -> None:
    """Show what the store has."""
    from fnmatch import fnmatchcase

    with _refusals():
        with _store(_load(config)) as store:
            kept = [each for each in store.overview() if fnmatchcase(each.series.vt_symbol, pattern)]
        rows = [
            {
                "vt_symbol": each.series.vt_symbol,
                "interval": each.interval or "tick",
                "count": each.count,
                "start": _local(each.start_ns),
                "end": _local(each.end_ns),
                "name": each.name,
            }
            for each in kept
        ]
        if as_json:
            _print_json(rows)
        elif rows:
            _print_table(rows)
        else:
            typer.echo("there is nothing yet", err=True)


@app.command()
def download(
    vt_symbol: VtSymbol,
    start: Start,
    end: End,
    config: Config = None,
    kind: Kind = "bar",
    interval: Interval = "1m",
    gateway: Annotated[str | None, typer.Option(help="Default: whoever offers it, else VnPy's datafeed.")] = None,
    url: Annotated[str | None, typer.Option(help="Of the service; default: as configured.")] = None,
    token: Annotated[str, typer.Option(envvar="VNPYCORE_TOKEN", help="An access token.", show_default=False)] = "",
    as_json: AsJson = False,
) -> None:
    """Let the running service fetch history from a gateway or VnPy's datafeed into the store."""
    with _refusals():
        from vnpy_core.cli.service_client import ServiceClient

        server = _load(config).server
        client = ServiceClient(url or f"http://127.0.0.1:{server.port}", token)
        first, last = (_local(ns) for ns in _range(vt_symbol, start, end))
        body = {
            "vt_symbol": vt_symbol, "kind": _kind(kind), "interval": interval, "start": first, "end": last,
            "gateway_name": gateway,
        }  # fmt: skip
        with _progress("downloading") as bar:
            job = client.follow(client.call("POST", "/data/download", body), bar)
        if as_json:
            _print_json(job)
        if job["state"] != "DONE":
            raise CoreError(f"the download is {job['state']}: {job['message']}")
    if not as_json:
        result = job["result"]
        typer.echo(f"{vt_symbol}: {result['rows']:,} rows, {result['added']:,} of them new")


@app.command()
def migrate(
    config: Config = None,
    source: Annotated[
        str,
        typer.Option("--from", metavar="PATH.db|URL", help="Default: what vt_setting.json names.", show_default=False),
    ] = "",
    timezone: Annotated[
        str,
        typer.Option(help="Of the source's times; default: vt_setting.json's database.timezone.", show_default=False),
    ] = "",
) -> None:
    """Copy vnpy_sqlite's or vnpy_mysql's ticks and bars into the store; may be repeated, the source is only read.

    URL: mysql://user:password@host:port/database; without a password it is $MYSQL_PWD.
    """
    with _refusals():
        from vnpy_core.cli import history_import
        from vnpy_core.cli.data_store import tidy

        settings = _load(config)
        vnpy = history_import.vnpy_settings(settings.paths.data, settings.paths.config)
        origin = history_import.open_named(source) if source else history_import.open_configured(vnpy)
        with history_import.checked(origin) as database, _store(settings) as store:
            zone = history_import.zone_of(timezone, source, vnpy)
            groups = database.groups()
            rows = sum(group.count for group in groups)
            typer.echo(f"{database.name}: {rows:,} rows of {len(groups)} series; times are in {zone.key}")
            with _progress("migrating") as bar:
                done = history_import.migrate(database, groups, store, zone, _counting(bar, rows))
                tidy(store)
        for line in done.bad[:SHOWN_ROWS]:
            typer.echo(f"left out: {line}", err=True)
        if done.bad_count > SHOWN_ROWS:
            typer.echo(f"… and {done.bad_count - SHOWN_ROWS:,} more", err=True)
        for line in done.missing:
            typer.echo(f"not all of it arrived: {line}", err=True)
        if done.missing:
            raise typer.Exit(1)
        added, known = done.merged.added, done.merged.known
        typer.echo(f"all is there: {added:,} rows are new, {known:,} were known")
        if line := history_import.switch(vnpy, source):
            typer.echo(line)


@app.command()
def delete(
    vt_symbol: VtSymbol,
    config: Config = None,
    kind: Kind = "tick",
    interval: Interval = "1m",
    start: Start = "",
    end: End = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a range from the store, or all of a contract's ticks or bars."""
    with _refusals():
        from vnpy_core.domain import history

        first, last = _range(vt_symbol, start, end)
        bars = _one_of("--interval", interval, tuple(history.Interval)) if _kind(kind) == "bar" else ""
        what = f"{vt_symbol} {bars or 'ticks'}, {start or 'the first'} to {end or 'the last'}"
        if not yes:
            typer.confirm(f"delete {what}?", abort=True)
        with _store(_load(config)) as store:
            series = _series(vt_symbol)
            if bars:
                count = store.delete_bars(series, history.Interval(bars), first, last)
            else:
                count = store.delete_ticks(series, first, last)
    typer.echo(f"{count:,} rows deleted")


@app.command()
def build_bars(
    vt_symbol: VtSymbol, config: Config = None, interval: Interval = "1m", start: Start = "", end: End = ""
) -> None:
    """Build bars of stored ticks and keep them, for VnPy's load_bar; those that are there are written over."""
    with _refusals():
        from vnpy_core.cli.data_store import tidy
        from vnpy_core.domain import history
        from vnpy_core.features.market_data.building import build_bars as build

        first, last = _range(vt_symbol, start, end)
        bars = history.Interval(_one_of("--interval", interval, tuple(history.Interval)))
        with _store(_load(config)) as store:
            done = build(store, _series(vt_symbol), bars, first, last)
            if not done.added + done.known:
                raise NotFound(f"there are no ticks of {vt_symbol} in that range")
            tidy(store)
    typer.echo(f"{done.added:,} bars new, {done.known:,} written over")


@app.command(hidden=True)
def job() -> None:
    """Do one job of the service, which speaks over standard input and output."""
    from vnpy_core.cli.data_job import serve

    raise typer.Exit(serve())


# --- the store and its ranges ---


def _load(config: Path | None) -> Settings:
    from vnpy_core.settings import load_settings

    return load_settings(config)


@contextmanager
def _store(settings: Settings) -> Iterator[TimeSeriesStore]:
    from vnpy_core.cli.data_store import opened

    with opened(settings.timeseries, settings.paths.data) as store:
        yield store


def _series(vt_symbol: str) -> Any:
    from vnpy_core.domain.history import Series
    from vnpy_core.domain.symbols import exchange_name

    symbol, _, exchange = vt_symbol.rpartition(".")
    if not symbol or not exchange:
        raise ConfigurationError(f"{vt_symbol!r} is not like rb2701.SHFE")
    return Series(symbol, exchange_name(exchange))


def _range(vt_symbol: str, start: str, end: str) -> tuple[int, int]:
    from vnpy_core.domain.moments import range_ns

    return range_ns(start, end, _series(vt_symbol).exchange)


def _local(ns: int) -> str:
    from vnpy_core.domain.history import to_datetime
    from vnpy_core.domain.sessions import SHANGHAI

    return to_datetime(ns).astimezone(SHANGHAI).isoformat()


def _kind(text: str) -> Any:
    return _one_of("--kind", text, ("tick", "bar"))


def _one_of(option: str, text: str, choices: tuple[str, ...]) -> Any:
    if text not in choices:
        raise ConfigurationError(f"{option} is {' or '.join(choices)}, not {text!r}")
    return text


def _mapping(pairs: list[str] | None) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs or ()]
    if wrong := [name for name, equals, column in split if not name or not equals or not column]:
        raise ConfigurationError(f"--map is FIELD=COLUMN, as last_price=close, not {wrong[0]!r}")
    return {name: column for name, _, column in split}


def _to_file(path: Path, write: Callable[[Path], int], *, force: bool) -> int:
    """Beside it first: an export that fails leaves what was there, and no half of a file."""
    if path.exists() and not force:
        raise ConfigurationError(f"{path} exists; --force writes over it")
    part = path.with_name(f".{path.name}.part")
    try:
        rows = write(part)
        if rows:
            os.replace(part, path)
        return rows
    finally:
        part.unlink(missing_ok=True)


# --- what is shown ---


@contextmanager
def _progress(what: str, parts: int = 1) -> Iterator[OnProgress]:
    """A bar on a terminal's standard error; elsewhere nothing. Its call takes `(fraction, message)`."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[message]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=parts, message="")
        yield lambda fraction, message: progress.update(task, completed=fraction, message=message)


def _part(bar: OnProgress, number: int) -> OnProgress:
    """Of several files one after the other."""
    return lambda fraction, message: bar(number + fraction, message)


def _counting(bar: OnProgress, total: int) -> Callable[[int, str], None]:
    done = 0

    def count(rows: int, message: str) -> None:
        nonlocal done
        done += rows
        bar(done / max(total, 1), message)

    return count


def _tell_imported(path: Path, result: ImportResult, note: Callable[[str, str], None], *, quiet: bool) -> None:
    for number, row in enumerate(result.bad):
        note(row.place, row.reason)
        if number < SHOWN_ROWS:
            typer.echo(f"{row.place}: {row.reason}", err=True)
    if result.bad_count > SHOWN_ROWS:
        typer.echo(f"{path.name}: … and {result.bad_count - SHOWN_ROWS:,} more bad rows", err=True)
    if not quiet:
        bad = f", {result.bad_count:,} bad" if result.bad_count else ""
        typer.echo(f"{path}: {result.rows:,} rows, {result.added:,} new, {result.known:,} known{bad}")


def _tell_refused(path: Path, error: ValidationFailed, note: Callable[[str, str], None]) -> None:
    typer.echo(f"{path}: {error.detail}", err=True)
    for number, row in enumerate(error.errors):
        note(row.field, row.message)
        if number < SHOWN_ROWS:
            typer.echo(f"{row.field}: {row.message}", err=True)


@contextmanager
def _report(path: Path | None) -> Iterator[Callable[[str, str], None]]:
    if path is None:
        yield lambda place, reason: None
        return
    with path.open("w", encoding="utf-8") as file:
        yield lambda place, reason: print(place, reason, sep="\t", file=file)


def _plain(result: ImportResult) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(result)
    return plain


def _print_json(value: Any) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*(name for name in rows[0]), box=None)
    table.columns[2].justify = "right"
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    console = Console()
    # Where nobody looks, lines are not cut.
    Console(width=None if console.is_terminal else 200).print(table)


@contextmanager
def _refusals() -> Iterator[None]:
    """What the operator can mend is told in words, without a traceback."""
    try:
        yield
    except CoreError as error:
        typer.echo(f"vnpy-core: {error.detail}", err=True)
        for wrong in error.errors[:SHOWN_ROWS]:
            typer.echo(f"  {wrong.field}: {wrong.message}", err=True)
        raise typer.Exit(1) from None
    except BrokenPipeError:
        # The reader of our output went away, as in `vnpy-core data export rb2701.SHFE - | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except OSError as error:
        typer.echo(f"vnpy-core: {error}", err=True)
        raise typer.Exit(1) from None
