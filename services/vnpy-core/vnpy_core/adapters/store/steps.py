"""What migrations are made of: each step looks first, so that it can be run again after it was cut short."""

from __future__ import annotations

from typing import Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Connection, Inspector, MetaData, Table, inspect

from vnpy_core.domain.errors import ConfigurationError


def create_missing(connection: Connection, metadata: MetaData) -> None:
    """Create those tables and indexes that are not there yet.

    Raises ConfigurationError where a table of this name lacks one of the columns: it is somebody else's.
    """
    collation = _binary_collation(connection)
    found = inspect(connection)
    present = set(found.get_table_names())
    for table in metadata.sorted_tables:
        if table.name in present:
            _check_ours(found, table)
            _create_missing_indexes(connection, found, table)
        else:
            if collation:
                table.dialect_options["mysql"]["collate"] = collation
            table.create(connection)


def add_missing(connection: Connection, table: str, *columns: Column[Any]) -> None:
    """Add those columns to a table that it has not yet; each may be empty, or has a `server_default` for its rows."""
    present = {column["name"] for column in inspect(connection).get_columns(table)}
    operations = Operations(MigrationContext.configure(connection))
    for column in columns:
        if column.name not in present:
            operations.add_column(table, column)


def _check_ours(found: Inspector, table: Table) -> None:
    """It may have more columns: a later migration adds some."""
    lacking = {column.name for column in table.columns} - {column["name"] for column in found.get_columns(table.name)}
    if lacking:
        names = ", ".join(sorted(lacking))
        raise ConfigurationError(
            f"store.url: the database has a table {table.name!r} that is not ours: it lacks {names}"
        )


def _create_missing_indexes(connection: Connection, found: Inspector, table: Table) -> None:
    present = {index["name"] for index in found.get_indexes(table.name)}
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        if index.name not in present:
            index.create(connection)


def _binary_collation(connection: Connection) -> str | None:
    """One that tells cases and trailing spaces apart; it has another name in each kind of MySQL."""
    dialect = connection.dialect
    if dialect.name != "mysql":
        return None
    if getattr(dialect, "is_mariadb", False):
        return "utf8mb4_nopad_bin"
    return "utf8mb4_0900_bin" if (dialect.server_version_info or ()) >= (8, 0, 17) else "utf8mb4_bin"
