"""`vnpy-core journal verify | tail | export`: look into the journal, also while a service writes to it."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
import typer

from vnpy_core.adapters.journal.file import FILE_NAME, open_readonly, read_rows
from vnpy_core.adapters.journal.verify import verify as verify_file
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.ports.journal import Row
from vnpy_core.ports.store import Watermark

_BATCH = 1000
_POLL = 0.2
"""Seconds between two looks of `tail --follow`."""
_NEWEST = "select seq, epoch, run_id, ts, kind, key, payload from rows order by seq desc limit ?"
_NEWEST_OF = (
    "select seq, epoch, run_id, ts, kind, key, payload from rows"
    " where kind in (select value from json_each(?)) order by seq desc limit ?"
)

app = typer.Typer(name="journal", help="Look into the journal; a service may be writing to it.", no_args_is_help=True)

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="service.toml; default: $VNPYCORE_CONFIG, ./vnpy_config/service.toml"),
]
Kind = Annotated[list[str] | None, typer.Option("--kind", help="Only rows of this kind; may be given again.")]


@app.command()
def verify(
    config: Config = None,
    watermark: Annotated[
        str | None, typer.Option("--watermark", help="EPOCH:SEQ of a store: its rows must be in the journal too.")
    ] = None,
) -> None:
    """Check every row against the chain of hashes; exit code 1 where something is wrong."""
    with _refusals():
        path = _path(config)
        report = verify_file(path, _watermark(watermark) if watermark else None)
    for problem in report.problems:
        typer.echo(f"{path}: {problem}", err=True)
    if report.problems:
        typer.echo("the journal is damaged: keep a copy of the file, then restore a backup", err=True)
        raise typer.Exit(1)
    rows = f"rows {report.first_seq} to {report.last_seq}" if report.rows else "no rows"
    typer.echo(f"the journal is good: {rows}, {report.commits} commits, epoch {report.epoch}")


@app.command()
def tail(
    config: Config = None,
    count: Annotated[int, typer.Option("-n", min=0, help="How many rows.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as rows come, until Ctrl-C.")] = False,
    kind: Kind = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the newest rows."""
    show = _as_json if as_json else _as_text
    with _refusals(), closing(open_readonly(_path(config))) as connection:
        last = connection.execute("select coalesce(max(seq), 0) from rows").fetchone()[0]
        for row in _newest(connection, count, kind):
            sys.stdout.write(show(row).decode() + "\n")
            last = max(last, row.seq)
        sys.stdout.flush()
        while follow:
            for batch in _batches(connection, last):
                for row in _of_kind(batch, kind):
                    sys.stdout.write(show(row).decode() + "\n")
                last = batch[-1].seq
            sys.stdout.flush()
            time.sleep(_POLL)


@app.command()
def export(
    output: Annotated[str, typer.Argument(metavar="FILE|-", help="A new file, or - for standard output.")],
    config: Config = None,
    first: Annotated[int, typer.Option("--from", metavar="SEQ", help="The first row.")] = 1,
    kind: Kind = None,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
) -> None:
    """Write rows as JSON lines."""
    with _refusals(), closing(open_readonly(_path(config))) as connection, _output(output, force=force) as file:
        for batch in _batches(connection, first - 1):
            for row in _of_kind(batch, kind):
                file.write(_as_json(row) + b"\n")


def _path(config: Path | None) -> Path:
    from vnpy_core.settings import load_settings

    return load_settings(config).paths.data / FILE_NAME


def _watermark(text: str) -> Watermark:
    epoch, _, seq = text.rpartition(":")
    if not epoch or not seq.isdecimal():
        raise ConfigurationError(f"--watermark is EPOCH:SEQ, not {text!r}")
    return Watermark(epoch, int(seq))


def _newest(connection: sqlite3.Connection, count: int, kinds: Sequence[str] | None) -> list[Row]:
    if kinds:
        found = connection.execute(_NEWEST_OF, (msgspec.json.encode(kinds).decode(), count))
    else:
        found = connection.execute(_NEWEST, (count,))
    return [Row(*values) for values in found][::-1]


def _batches(connection: sqlite3.Connection, after: int) -> Iterator[list[Row]]:
    """Short reads, because a long one would keep the service's checkpoints waiting."""
    while rows := read_rows(connection, after, _BATCH):
        yield rows
        after = rows[-1].seq


def _of_kind(rows: Iterable[Row], kinds: Sequence[str] | None) -> Iterator[Row]:
    return (row for row in rows if not kinds or row.kind in kinds)


def _as_json(row: Row) -> bytes:
    return msgspec.json.encode({**msgspec.structs.asdict(row), "payload": _json_of(row.payload)})


def _as_text(row: Row) -> bytes:
    when = datetime.fromtimestamp(row.ts / 1e6, UTC).isoformat(timespec="milliseconds")
    return f"{row.seq}  {when}  {row.kind}  {row.key}  ".encode() + bytes(_json_of(row.payload))


def _json_of(payload: bytes) -> msgspec.Raw:
    """On one line, whatever stands in the row: what is not JSON becomes a string."""
    try:
        return msgspec.Raw(msgspec.json.format(payload, indent=-1))
    except msgspec.MsgspecError:
        return msgspec.Raw(msgspec.json.encode(payload.decode(errors="backslashreplace")))


@contextmanager
def _output(name: str, *, force: bool) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        descriptor = os.open(name, flags, 0o600)
    except FileExistsError:
        raise ConfigurationError(f"{name} exists; --force writes over it") from None
    with os.fdopen(descriptor, "wb") as file:
        yield file


@contextmanager
def _refusals() -> Iterator[None]:
    """What the operator can mend is told in words, without a traceback."""
    try:
        yield
    except (ConfigurationError, sqlite3.Error) as error:
        typer.echo(f"vnpy-core: {error}", err=True)
        raise typer.Exit(1) from None
    except BrokenPipeError:
        # The reader of our output went away, as in `vnpy-core journal export - | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except OSError as error:
        typer.echo(f"vnpy-core: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
