"""Bringing a database's schema up to date, forward only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from vnpy_core.domain.errors import ConfigurationError, StoreUnavailable

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x766E7079_636F7265
"""PostgreSQL's advisory locks have numbers: "vnpycore"."""
_LOCK_WAIT_S = 60


class Step(NamedTuple):
    """A migration: its revision, and what it does."""

    revision: str
    what: str


def pending(connection: Connection) -> list[Step]:
    """The migrations this database still needs, in order. Raises ConfigurationError for a schema that is newer."""
    known = all_steps()
    heads = MigrationContext.configure(connection).get_current_heads()
    revisions = [step.revision for step in known]
    if not heads:
        return known
    if len(heads) > 1 or heads[0] not in revisions:
        raise ConfigurationError(
            f"the database has schema {', '.join(sorted(heads))}, which this version does not know "
            f"(it knows {revisions[-1]}): a newer version has written it"
        )
    return known[revisions.index(heads[0]) + 1 :]


def upgrade(connection: Connection) -> list[Step]:
    """Bring the schema up to date; returns what was done. One process at a time; a cut-short one is taken up again.

    Raises ConfigurationError (newer schema, tables of somebody else), StoreUnavailable (another one is at it).
    """
    with _alone(connection):
        steps = pending(connection)
        if steps:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        return steps


def all_steps() -> list[Step]:
    """Every migration, the first one first."""
    revisions = reversed(list(ScriptDirectory.from_config(_config()).walk_revisions()))
    return [Step(revision.revision, revision.doc) for revision in revisions]


def _config() -> Config:
    config = Config()
    # A percent sign in a path would be read as an interpolation.
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Keep other processes out. On SQLite the transaction, begun for writing, does."""
    match connection.dialect.name:
        case "mysql":
            with _mysql_lock(connection):
                yield
        case "postgresql":
            connection.execute(text("select pg_advisory_xact_lock(:number)"), {"number": _LOCK})
            yield
        case _:
            yield


@contextmanager
def _mysql_lock(connection: Connection) -> Iterator[None]:
    """A lock of the server, by the database's name; its DDL commits, so no transaction can be one."""
    name = {"name": f"vnpy_core.{connection.engine.url.database}"[:64]}
    taken = connection.execute(text("select get_lock(:name, :wait)"), {**name, "wait": _LOCK_WAIT_S}).scalar()
    if taken != 1:
        raise StoreUnavailable("another process is migrating the database")
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.execute(text("select release_lock(:name)"), name)
