"""`vnpy-core data migrate`: the ticks and bars of vnpy_sqlite and vnpy_mysql into the store.

The source is only read, a batch at a time and without a transaction around them, so that a trader may go on writing to
it. Rows are merged, so a second run adds only what is new. Times there have no zone; they are in VnPy's
`database.timezone`.
"""

from __future__ import annotations

import json
import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.domain.history import (
    BAR_DTYPE,
    BAR_NUMBERS,
    TICK_DTYPE,
    TICK_NUMBERS,
    US,
    Interval,
    Merged,
    Series,
    finite,
)
from vnpy_core.domain.moments import time_zone
from vnpy_core.domain.symbols import exchange_name
from vnpy_core.engine.home import use_core_database
from vnpy_core.ports.timeseries import TimeSeriesStore
from vnpy_core.recordings.values import Clock, Note

BATCH = 20_000
"""Rows on their way at once."""
TABLES = {"dbbardata", "dbtickdata"}
MAX_NOTES = 100
"""So many rows that cannot be read are kept with their reasons; all are counted."""

_BEGINNING = "1000-01-01 00:00:00"
"""Before every time; MySQL's first."""
_Batch = list[tuple[Any, ...]]
OnProgress = Callable[[int, str], None]
"""`(rows, series)`: how many more are done, and whose they are."""


@dataclass(frozen=True)
class Group:
    """The bars or ticks (without `interval`) of one contract, as the source names it."""

    count: int
    symbol: str
    exchange: str
    interval: str = ""

    @property
    def series(self) -> Series:
        """Its name in the store."""
        return Series(self.symbol, exchange_name(self.exchange))

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.series.vt_symbol} {self.interval or 'ticks'}"


@dataclass
class Migrated:
    """What was done."""

    merged: Merged = field(default_factory=lambda: Merged(0, 0))
    series: int = 0
    bad_count: int = 0
    bad: list[str] = field(default_factory=list)
    """Rows that were left out, the first hundred."""
    missing: list[str] = field(default_factory=list)
    """Of which series the store has fewer rows than the source; none where all is well."""


class Source(ABC):
    """A database of VnPy's, open for reading."""

    name: str
    """For messages; without a password."""
    mark: str
    """What stands for a parameter in its SQL."""

    @abstractmethod
    def tables(self) -> set[str]:
        """What tables there are, in lower case."""

    @abstractmethod
    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """A query's rows. Raises ConfigurationError."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""

    def groups(self) -> list[Group]:
        """What it has, by name."""
        there, interval = self.tables(), self.quoted("interval")
        found = []
        for table, grouping in (("dbbardata", f"symbol, exchange, {interval}"), ("dbtickdata", "symbol, exchange")):
            if table in there:
                rows = self.rows(f"select count(*), {grouping} from {table} group by {grouping}")  # noqa: S608
                found += [Group(*row) for row in rows]
        return sorted(found, key=lambda group: group.name)

    def read(self, group: Group) -> Iterator[list[tuple[Any, ...]]]:
        """A group's rows by time: `(datetime, numbers…)` of bars, `(datetime, localtime, numbers…, name)` of ticks."""
        table, columns = ("dbbardata", BAR_NUMBERS) if group.interval else ("dbtickdata", _TICK_COLUMNS)
        known: dict[str, Any] = {"symbol": group.symbol, "exchange": group.exchange}
        if group.interval:
            known["interval"] = group.interval
        names, time = ", ".join(map(self.quoted, ("datetime", *columns))), self.quoted("datetime")
        where = " and ".join(f"{self.quoted(name)} = {self.mark}" for name in known)
        statement = f"select {names} from {table} where {where} and {time} > {self.mark} order by {time} limit {BATCH}"  # noqa: S608
        after: Any = _BEGINNING
        # A time comes once in a group: both drivers' tables have an index that says so.
        while batch := self.rows(statement, [*known.values(), after]):
            yield batch
            after = batch[-1][0]

    @abstractmethod
    def quoted(self, name: str) -> str:
        """A column's name in SQL: some are also words of the language."""


_TICK_COLUMNS = ("localtime", *TICK_NUMBERS, "name")


class Sqlite(Source):
    """vnpy_sqlite's file."""

    mark = "?"

    def __init__(self, path: Path) -> None:
        """Raises ConfigurationError for a file that is not there or no database."""
        self.name = str(path)
        if not path.is_file():
            raise ConfigurationError(f"there is no database {path}")
        try:
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)
            self._connection.execute("select count(*) from sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise ConfigurationError(f"{path} cannot be read: {error}") from error

    def tables(self) -> set[str]:
        """See `Source`."""
        return {
            row[0].lower() for row in self._connection.execute("select name from sqlite_master where type = 'table'")
        }

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See `Source`."""
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise ConfigurationError(f"{self.name} cannot be read: {error}") from error

    def close(self) -> None:
        """See `Source`."""
        self._connection.close()

    def quoted(self, name: str) -> str:
        """See `Source`."""
        return f'"{name}"'


class Mysql(Source):
    """vnpy_mysql's database, on MySQL or MariaDB."""

    mark = "%s"

    def __init__(self, *, host: str, port: int, user: str, password: str, database: str) -> None:
        """Raises ConfigurationError where it cannot be reached."""
        import pymysql  # type: ignore[import-untyped]

        self.name = f"mysql://{user}@{host}:{port}/{database}"
        self._error = pymysql.Error
        try:
            self._connection = pymysql.connect(
                host=host, port=port, user=user, password=password, database=database, charset="utf8mb4",
                connect_timeout=10, read_timeout=600, autocommit=True,
            )  # fmt: skip
            with self._connection.cursor() as cursor:
                cursor.execute("set session transaction read only")
        except pymysql.Error as error:
            raise ConfigurationError(f"{self.name} cannot be reached: {error.args[-1]}") from error

    def tables(self) -> set[str]:
        """See `Source`."""
        return {row[0].lower() for row in self.rows("show tables")}

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See `Source`."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement, values)
                return list(cursor.fetchall())
        except self._error as error:
            raise ConfigurationError(f"{self.name} cannot be read: {error.args[-1]}") from error

    def close(self) -> None:
        """See `Source`."""
        self._connection.close()

    def quoted(self, name: str) -> str:
        """See `Source`."""
        return f"`{name}`"


@dataclass(frozen=True)
class VnpySettings:
    """VnPy's settings of a folder, as far as they speak of its database."""

    values: dict[str, Any]
    folder: Path
    """Where relative paths count from: `.vntrader`."""
    named_in: Path | None
    """The file that names `database.name`; None where it is VnPy's default."""

    @property
    def name(self) -> str:
        """`database.name`."""
        return str(self.values.get("database.name", "sqlite"))


def vnpy_settings(data: Path, config: Path | None = None) -> VnpySettings:
    """What VnPy runs by in a data folder, `vt_setting.json` of `config` above it. Raises ConfigurationError."""
    values: dict[str, Any] = {}
    named_in = None
    for path in (data / ".vntrader" / "vt_setting.json", *([config / "vt_setting.json"] if config else [])):
        found = _json(path)
        named_in = path if "database.name" in found else named_in
        values |= found
    return VnpySettings(values, data / ".vntrader", named_in)


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path} must hold an object of settings")
    return found


def open_configured(settings: VnpySettings) -> Source:
    """The database that VnPy's settings name, or if they name ours, the one that VnPy had before: its SQLite file.

    Raises ConfigurationError.
    """
    values = settings.values
    match settings.name:
        case "sqlite":
            return Sqlite(settings.folder / (values.get("database.database") or "database.db"))
        case "core":
            return Sqlite(settings.folder / "database.db")
        case "mysql":
            return Mysql(
                host=values.get("database.host") or "127.0.0.1",
                port=int(values.get("database.port") or 3306),
                user=values.get("database.user", ""),
                password=values.get("database.password", ""),
                database=values.get("database.database", ""),
            )
        case other:
            raise ConfigurationError(f"database.name is {other!r}; sqlite and mysql can be migrated")


def zone_of(timezone: str, source: str, settings: VnpySettings) -> ZoneInfo:
    """The source's DB_TZ: `timezone` if given, else as the settings beside it say, else ours, else the machine's.

    Raises ConfigurationError, ValidationFailed.
    """
    beside = _json(Path(source).expanduser().parent / "vt_setting.json") if source and "://" not in source else {}
    name = timezone or beside.get("database.timezone") or settings.values.get("database.timezone")
    if not name:
        from tzlocal import get_localzone_name

        name = get_localzone_name()
    return time_zone(name)


def switch(settings: VnpySettings, source: str) -> str:
    """After all has arrived from the configured database (no `source`): make VnPy use the store, if that is not chosen.

    Returns what the operator should know, maybe nothing.
    """
    if settings.name == "core":
        return ""
    if settings.named_in is not None:
        return f'VnPy here goes on with {settings.name}: set database.name to "core" in {settings.named_in}'
    if source:
        return ""
    use_core_database(settings.folder)
    return f"VnPy here uses the store from its next start on; {settings.folder / 'vt_setting.json'} says so now"


def open_named(source: str) -> Source:
    """`PATH.db` or `mysql://user:password@host:port/database`; without a password it is $MYSQL_PWD.

    Raises ConfigurationError.
    """
    if "://" not in source:
        return Sqlite(Path(source).expanduser())
    parts = urlsplit(source)
    database = parts.path.strip("/")
    if parts.scheme.partition("+")[0] not in ("mysql", "mariadb") or not database:
        raise ConfigurationError("--from is a vnpy_sqlite file or mysql://user:password@host:port/database")
    password = os.environ.get("MYSQL_PWD", "") if parts.password is None else unquote(parts.password)
    return Mysql(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=password,
        database=database,
    )


@contextmanager
def checked(source: Source) -> Iterator[Source]:
    """Close it in the end. Raises ConfigurationError for a database that is not VnPy's."""
    try:
        if not TABLES & source.tables():
            raise ConfigurationError(f"{source.name} has none of VnPy's tables ({', '.join(sorted(TABLES))})")
        yield source
    finally:
        source.close()


def migrate(
    source: Source, groups: Sequence[Group], store: TimeSeriesStore, zone: ZoneInfo, on_progress: OnProgress
) -> Migrated:
    """Merge `groups` of `source` into `store`, and count afterwards. Raises what both raise."""
    done = Migrated()
    for group in groups:
        _migrate_group(source, group, store, zone, on_progress, done)
    return done


def _migrate_group(
    source: Source, group: Group, store: TimeSeriesStore, zone: ZoneInfo, on_progress: OnProgress, done: Migrated
) -> None:
    try:
        interval = Interval(group.interval) if group.interval else None
    except ValueError:
        _note(done, group, f"bars of {group.interval} are not kept", group.count)
        on_progress(group.count, group.name)
        return
    first, last, good = 2**63 - 1, 0, 0
    clock = Clock(zone)
    for batch in source.read(group):
        if interval is None:
            rows, name = _ticks(batch, partial(_note_row, done, group, batch), clock)
        else:
            rows, name = _bars(batch, partial(_note_row, done, group, batch), clock), ""
        if len(rows):
            first, last, good = min(first, int(rows["ts"][0])), max(last, int(rows["ts"][-1])), good + len(rows)
            if interval is None:
                done.merged += store.merge_ticks(group.series, rows, name)
            else:
                done.merged += store.merge_bars(group.series, interval, rows)
        on_progress(len(batch), group.name)
    done.series += 1
    if good and (kept := _count(store, group.series, interval, first, last + US)) < good:
        done.missing.append(f"{group.name}: {kept} of {good}")


def _count(store: TimeSeriesStore, series: Series, interval: Interval | None, start_ns: int, end_ns: int) -> int:
    if interval is not None:
        return sum(map(len, store.bars(series, interval, start_ns, end_ns)))
    return sum(map(len, store.ticks(series, start_ns, end_ns, columns=("last_price",))))


def _bars(batch: _Batch, note: Note, clock: Clock) -> npt.NDArray[np.void]:
    good, ns = _timed(batch, note, clock)
    return _rows(BAR_DTYPE, ns, [row[1:] for row in good], BAR_NUMBERS)


def _ticks(batch: _Batch, note: Note, clock: Clock) -> tuple[npt.NDArray[np.void], str]:
    good, ns = _timed(batch, note, clock)
    rows = _rows(TICK_DTYPE, ns, [row[2:-1] for row in good], TICK_NUMBERS)
    rows["localtime"] = clock.received([str(row[1] or "") for row in good], lambda row, reason: None)
    return rows, next((row[-1] for row in reversed(good) if row[-1]), "")


def _rows(
    dtype: np.dtype[np.void], ns: npt.NDArray[np.int64], numbers: _Batch, names: Sequence[str]
) -> npt.NDArray[np.void]:
    rows = np.zeros(len(ns), dtype)
    rows["ts"] = ns
    for name, column in zip(names, zip(*numbers, strict=True), strict=False):
        rows[name] = np.array(column, np.float64)  # a None becomes NaN, and that 0
    return finite(rows)


def _timed(batch: _Batch, note: Note, clock: Clock) -> tuple[_Batch, npt.NDArray[np.int64]]:
    """The rows whose time can be read, and these times."""
    ns = clock.moments([str(row[0]) for row in batch], note)
    if (ns >= 0).all():
        return batch, ns
    return [row for row, moment in zip(batch, ns.tolist(), strict=True) if moment >= 0], ns[ns >= 0]


def _note_row(done: Migrated, group: Group, batch: _Batch, row: int, reason: str) -> None:
    _note(done, group, f"{batch[row][0]}: {reason}")


def _note(done: Migrated, group: Group, reason: str, count: int = 1) -> None:
    done.bad_count += count
    if len(done.bad) < MAX_NOTES:
        done.bad.append(f"{group.name}: {reason}")
