"""The catalog: which series there are, which files hold their rows, and the tail, the rows that are in no file yet.

One SQLite file in WAL mode, synced at each commit, that several processes use at once.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vnpy_core.adapters.timeseries.embedded import packing
from vnpy_core.adapters.timeseries.embedded.disk import is_full, locked, make_folder, meaning
from vnpy_core.adapters.timeseries.embedded.kinds import KINDS, Kind, Rows, by_time, last_of_each_time, within
from vnpy_core.domain.errors import ConfigurationError, CoreError, StorageFull, TimeSeriesUnavailable
from vnpy_core.domain.history import Coverage, Series
from vnpy_core.kit.failpoints import hit

FILE_NAME = "catalog.sqlite"
LOCK_NAME = "files.lock"
"""Who makes, replaces or removes files holds this file's lock."""
APPLICATION_ID = 0x564E4354  # "VNCT"
VERSION = 1
CAP_ROWS = 100_000
"""Rows of a file at most."""
SMALL_ROWS = CAP_ROWS // 2
"""A file with fewer rows is small: two of them fit into one."""

_BATCH_ROWS = 20_000
_WAL_PAGES = 4_000
_WAL_KEPT_BYTES = 32 << 20
_IDLE_READERS = 4
_STEP_PAGES = 1_024
_FULL_CODES = (sqlite3.SQLITE_FULL,)
_IO_CODES = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
_FOREIGN_CODES = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)

_SCHEMA = (
    "create table series (id integer primary key, kind text not null, symbol text not null, exchange text not null,"
    " name text not null default '', unique (kind, symbol, exchange))",
    "create table partitions (series integer not null, part integer not null, rows integer not null,"
    " waiting integer not null, since real, small integer not null, min_ts integer not null, max_ts integer not null,"
    " primary key (series, part)) without rowid",
    "create index partitions_waiting on partitions (waiting) where waiting > 0",
    "create index partitions_small on partitions (small) where small > 1",
    "create table tail (id integer primary key, series integer not null, part integer not null, rows integer not null,"
    " min_ts integer not null, max_ts integer not null, layout integer not null, packed blob not null)",
    "create index tail_place on tail (series, part, max_ts)",
    "create table files (id integer primary key, series integer not null, part integer not null, path text not null,"
    " rows integer not null, min_ts integer not null, max_ts integer not null, bytes integer not null)",
    "create index files_place on files (series, part)",
    "create table doomed (path text primary key, since real not null)",
)
"""`partitions`: `rows` in all, of them `waiting` in the tail since `since` (bars that are written over count there each
time), and how many files are `small`. `tail`: a row is a batch of one partition. `doomed`: files that are to go, or
that are being written and to go unless they come into `files`."""


class Place(NamedTuple):
    """One partition of one series."""

    kind: Kind
    series: int
    part: int


class FileRow(NamedTuple):
    """A file that the catalog lists; `path` is relative to the store's folder."""

    id: int
    part: int
    path: str
    rows: int
    min_ts: int
    max_ts: int
    bytes: int


class Waiting(NamedTuple):
    """The oldest batches of a partition's tail: their rows in the order they were written, and their ids."""

    rows: Rows
    ids: list[int]


class Catalog:
    """Any thread may call. Errors: TimeSeriesUnavailable, StorageFull."""

    def __init__(self, folder: Path, timeout_s: float) -> None:
        self._folder = folder
        self._path = folder / FILE_NAME
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []
        self._readers_lock = threading.Lock()

    # --- open and close ---

    def open(self) -> None:
        """Open or make the file. Raises ConfigurationError: another file, of another version, or lost."""
        with self._lock:
            if self._writer is not None:
                return
            try:
                self._writer = self._prepared()
            except (OSError, sqlite3.Error) as error:
                raise self._wrong(error) from error

    def close(self) -> None:
        """Once or again. Reads that are under way end as they would."""
        with self._lock:
            writer, self._writer = self._writer, None
            with self._readers_lock:
                while self._readers:
                    self._readers.pop().close()
            if writer is not None:
                writer.close()

    @property
    def is_open(self) -> bool:
        """Whether `open` was called, and `close` not yet."""
        return self._writer is not None

    def _prepared(self) -> sqlite3.Connection:
        make_folder(self._folder)
        connection = self._connect()
        try:
            with locked(self._folder / LOCK_NAME, self._timeout_s):
                if connection.execute("select count(*) from sqlite_schema").fetchone()[0] == 0:
                    self._create(connection)
            self._identify(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            connection.execute("pragma synchronous = full")
            connection.execute("pragma secure_delete = off")  # some builds overwrite with zeros all that is deleted
            connection.execute(f"pragma wal_autocheckpoint = {_WAL_PAGES}")
            connection.execute(f"pragma journal_size_limit = {_WAL_KEPT_BYTES}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self, connection: sqlite3.Connection) -> None:
        """Make the tables."""
        if next(self._folder.rglob("*.parquet"), None):
            raise ConfigurationError(
                f"{self._folder} has Parquet files, but their catalog {FILE_NAME} is lost: put it back from a backup,"
                " or move the files away and import them again"
            )
        connection.execute("pragma auto_vacuum = incremental")
        connection.execute("pragma journal_mode = wal")
        connection.execute("begin immediate")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute(f"pragma application_id = {APPLICATION_ID}")
        connection.execute(f"pragma user_version = {VERSION}")
        connection.execute("commit")

    def _identify(self, connection: sqlite3.Connection) -> None:
        if connection.execute("pragma application_id").fetchone()[0] != APPLICATION_ID:
            raise ConfigurationError(f"{self._path} is not a catalog of ticks and bars")
        version = connection.execute("pragma user_version").fetchone()[0]
        if version != VERSION:
            raise ConfigurationError(
                f"{self._path} is a catalog of version {version}, this service reads {VERSION};"
                " use the service that wrote it"
            )

    def _wrong(self, error: OSError | sqlite3.Error) -> CoreError:
        """What an error means that came while opening."""
        meant = self._meaning(error)
        if isinstance(meant, StorageFull) or getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            return meant
        return ConfigurationError(f"{self._path} cannot be opened as a catalog of ticks and bars: {error}")

    def _meaning(self, error: OSError | sqlite3.Error) -> CoreError:
        what = f"{self._path} cannot be read or written"
        if isinstance(error, OSError):
            return meaning(error, what)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _FULL_CODES or (code in _IO_CODES and is_full(self._folder, error)):
            return StorageFull(f"the disk is full: {what}")
        return TimeSeriesUnavailable(f"{what}: {error}")

    # --- transactions ---

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for one read transaction, which sees one state of the catalog."""
        connection = self._reader()
        try:
            connection.execute("begin")
            yield connection
            connection.execute("commit")
        except sqlite3.Error as error:
            connection.close()
            raise self._meaning(error) from error
        except BaseException:
            connection.close()
            raise
        with self._readers_lock:
            if self.is_open and len(self._readers) < _IDLE_READERS:
                self._readers.append(connection)
                return
        connection.close()

    def _reader(self) -> sqlite3.Connection:
        with self._readers_lock:
            if not self.is_open:
                raise TimeSeriesUnavailable("the tick and bar store is closed")
            if self._readers:
                return self._readers.pop()
        try:
            return self._connect()
        except sqlite3.Error as error:
            raise self._meaning(error) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection that writes, in a transaction that is durable at the end, or not at all after any error."""
        with self._lock:
            if self._writer is None:
                raise TimeSeriesUnavailable("the tick and bar store is closed")
            db = self._writer
            try:
                db.execute("begin immediate")
                try:
                    yield db
                    hit("timeseries.before_commit")
                    db.execute("commit")
                except BaseException:
                    if db.in_transaction:
                        db.execute("rollback")
                    raise
            except sqlite3.Error as error:
                raise self._meaning(error) from error
        hit("timeseries.after_commit")

    def shrink(self, keep_pages: int = 0) -> None:
        """Give space that the tail no longer needs back to the file system, all but `keep_pages`, and the WAL's.

        In small steps, so that others can write in between and a nearly full disk has room for each.
        """
        while self._shrink_step(keep_pages):
            pass

    def _shrink_step(self, keep_pages: int) -> bool:
        """Whether there is more to do, and could be done now."""
        with self._lock:
            if (db := self._writer) is None:
                return False
            try:
                free = db.execute("pragma freelist_count").fetchone()[0] - keep_pages
                if (free <= 0 and keep_pages) or not self._cut_wal(db):
                    return False
                if free > 0:  # not by execute, which frees a single page
                    db.executescript(f"pragma incremental_vacuum({min(free, _STEP_PAGES)})")
                    self._cut_wal(db)
            except sqlite3.Error as error:
                raise self._meaning(error) from error
        return bool(free > _STEP_PAGES)

    def _cut_wal(self, db: sqlite3.Connection) -> bool:
        """Bring the WAL into the file if nobody reads; to wait for a backup or another tool would hold up ticks."""
        db.execute("pragma busy_timeout = 0")
        try:
            (is_busy, *_) = db.execute("pragma wal_checkpoint(truncate)").fetchone()
        finally:
            db.execute(f"pragma busy_timeout = {int(self._timeout_s * 1000)}")
        return not is_busy

    def bytes_on_disk(self) -> int:
        """How large the file is, with its WAL."""
        size = 0
        for name in (FILE_NAME, f"{FILE_NAME}-wal"):
            with suppress(OSError):  # the WAL comes and goes
                size += os.stat(self._folder / name).st_size
        return size

    # --- asking, within a transaction ---

    @staticmethod
    def series_id(db: sqlite3.Connection, kind: Kind, series: Series) -> int | None:
        """A series' number, if there is one."""
        found = db.execute(
            "select id from series where kind = ? and symbol = ? and exchange = ?",
            (kind.name, series.symbol, series.exchange),
        ).fetchone()
        return found[0] if found else None

    @staticmethod
    def files(db: sqlite3.Connection, kind: Kind, series: int, start_ns: int, end_ns: int) -> list[FileRow]:
        """The files with rows of a range, by their first time."""
        parts = kind.part(start_ns), kind.part(end_ns - 1)
        found = db.execute(
            "select id, part, path, rows, min_ts, max_ts, bytes from files where series = ? and part between ? and ?"
            " and max_ts >= ? and min_ts < ? order by min_ts",
            (series, *parts, start_ns, end_ns),
        )
        return [FileRow(*row) for row in found]

    @staticmethod
    def files_of(db: sqlite3.Connection, place: Place) -> list[FileRow]:
        """A partition's files, by their first time."""
        found = db.execute(
            "select id, part, path, rows, min_ts, max_ts, bytes from files where series = ? and part = ?"
            " order by min_ts",
            (place.series, place.part),
        )
        return [FileRow(*row) for row in found]

    @staticmethod
    def tail(db: sqlite3.Connection, kind: Kind, series: int, start_ns: int, end_ns: int) -> Rows:
        """The range's rows that are in no file, by time; of bars the newest of each time."""
        parts = kind.part(start_ns), kind.part(end_ns - 1)
        batches = db.execute(
            "select rows, layout, packed from tail where series = ? and part between ? and ?"
            " and max_ts >= ? and min_ts < ? order by id",
            (series, *parts, start_ns, end_ns),
        ).fetchall()
        rows = by_time(packing.unpack(batches, kind.dtype))
        return within(last_of_each_time(rows) if kind.replaces else rows, start_ns, end_ns)

    @staticmethod
    def is_free(db: sqlite3.Connection, kind: Kind, series: int, start_ns: int, end_ns: int) -> bool:
        """Whether the series certainly has no row in the range."""
        parts = kind.part(start_ns), kind.part(end_ns - 1)
        return not db.execute(
            "select exists (select 1 from partitions where series = ? and part between ? and ?"
            " and max_ts >= ? and min_ts < ?)",
            (series, *parts, start_ns, end_ns),
        ).fetchone()[0]

    @staticmethod
    def has_waiting(db: sqlite3.Connection, place: Place, start_ns: int, end_ns: int) -> bool:
        """Whether a batch of a partition's tail reaches into a range."""
        return bool(
            db.execute(
                "select exists (select 1 from tail where series = ? and part = ? and max_ts >= ? and min_ts < ?)",
                (place.series, place.part, start_ns, end_ns),
            ).fetchone()[0]
        )

    @staticmethod
    def waiting(db: sqlite3.Connection, place: Place, most: int) -> Waiting:
        """The oldest batches that wait in a partition, together about `most` rows."""
        ids, batches, rows = [], [], 0
        with closing(
            db.execute(
                "select id, rows, layout, packed from tail where series = ? and part = ? order by id",
                (place.series, place.part),
            )
        ) as found:
            for id_, *batch in found:
                ids.append(id_)
                batches.append((batch[0], batch[1], batch[2]))
                rows += batch[0]
                if rows >= most:
                    break
        return Waiting(packing.unpack(batches, place.kind.dtype), ids)

    @staticmethod
    def due(db: sqlite3.Connection, rows: int, before: float) -> list[Place]:
        """The partitions in which so many rows wait, or some since before then; the longest waiting first."""
        found = db.execute(
            "select s.kind, p.series, p.part from partitions p join series s on s.id = p.series"
            " where p.waiting > 0 and (p.waiting >= ? or p.since < ?) order by p.since",
            (rows, before),
        )
        return [Place(KINDS[kind], series, part) for kind, series, part in found]

    @staticmethod
    def small(db: sqlite3.Connection) -> list[tuple[Place, int]]:
        """The partitions that have several small files, and how many."""
        found = db.execute(
            "select s.kind, p.series, p.part, p.small from partitions p join series s on s.id = p.series"
            " where p.small > 1"
        )
        return [(Place(KINDS[kind], series, part), small) for kind, series, part, small in found]

    @staticmethod
    def doomed(db: sqlite3.Connection, before: float) -> list[str]:
        """The paths of files that are to go since before then."""
        return [path for (path,) in db.execute("select path from doomed where since <= ?", (before,))]

    @staticmethod
    def series(db: sqlite3.Connection, series: int) -> Series:
        """Which series has a number."""
        return Series(*db.execute("select symbol, exchange from series where id = ?", (series,)).fetchone())

    @staticmethod
    def overview(db: sqlite3.Connection) -> list[Coverage]:
        """What there is."""
        found = db.execute(
            "select s.symbol, s.exchange, s.kind, sum(p.rows), min(p.min_ts), max(p.max_ts), s.name"
            " from series s join partitions p on p.series = s.id group by s.id order by s.symbol, s.exchange, s.id"
        )
        return [
            Coverage(
                series=Series(symbol, exchange), interval=KINDS[kind].interval, count=count, start_ns=start,
                end_ns=end, name=name,
            )
            for symbol, exchange, kind, count, start, end, name in found
        ]  # fmt: skip

    @staticmethod
    def sizes(db: sqlite3.Connection) -> tuple[int, int]:
        """Bytes in files, and rows in the tail."""
        (size,) = db.execute("select coalesce(sum(bytes), 0) from files").fetchone()
        (rows,) = db.execute("select coalesce(sum(waiting), 0) from partitions where waiting > 0").fetchone()
        return size, rows

    # --- changing, within a transaction ---

    def series_for(self, db: sqlite3.Connection, kind: Kind, series: Series, name: str = "") -> int:
        """A series' number, made where there is none; `name` is kept where it is not empty."""
        values = kind.name, series.symbol, series.exchange, name
        found = db.execute(
            "select id, name from series where kind = ? and symbol = ? and exchange = ?", values[:3]
        ).fetchone()
        if found is None:
            found = db.execute("insert into series (kind, symbol, exchange, name) values (?, ?, ?, ?)", values)
            return int(found.lastrowid or 0)
        if name and name != found[1]:
            db.execute("update series set name = ? where id = ?", (name, found[0]))
        return int(found[0])

    @staticmethod
    def add(db: sqlite3.Connection, kind: Kind, series: int, rows: Rows, new: Rows, now: float) -> int:
        """Put sorted rows into the tail; `new` are those of them that write over none. How many wait there, at most
        in one partition."""
        most = 0
        while len(rows):
            first = int(rows["ts"][0])
            part = kind.part(first)
            end = kind.begin(part + 1)
            here, rows = (rows, rows[:0]) if end is None else np.split(rows, np.searchsorted(rows["ts"], [end]))
            last = int(here["ts"][-1])
            (waiting,) = db.execute(
                "insert into partitions values (?, ?, ?, ?, ?, 0, ?, ?) on conflict (series, part) do update set"
                " rows = rows + excluded.rows, waiting = waiting + excluded.waiting,"
                " since = coalesce(since, excluded.since), min_ts = min(min_ts, excluded.min_ts),"
                " max_ts = max(max_ts, excluded.max_ts) returning waiting",
                (series, part, len(within(new, first, last + 1)), len(here), now, first, last),
            ).fetchone()
            most = max(most, waiting)
            for at in range(0, len(here), _BATCH_ROWS):
                batch = here[at : at + _BATCH_ROWS]
                db.execute(
                    "insert into tail (series, part, rows, min_ts, max_ts, layout, packed)"
                    " values (?, ?, ?, ?, ?, ?, ?)",
                    (series, part, len(batch), int(batch["ts"][0]), int(batch["ts"][-1]), *packing.pack(batch)[1:]),
                )
        return most

    @staticmethod
    def doom(db: sqlite3.Connection, paths: Iterable[str], now: float) -> None:
        """These files are to go, unless they are spared."""
        db.executemany("insert or replace into doomed values (?, ?)", ((path, now) for path in paths))

    @staticmethod
    def spare(db: sqlite3.Connection, paths: Iterable[str]) -> None:
        """These files are not to go, or are gone."""
        db.executemany("delete from doomed where path = ?", ((path,) for path in paths))

    def list_files(self, db: sqlite3.Connection, place: Place, files: Sequence[FileRow]) -> None:
        """These files hold rows of a partition from now on."""
        self.spare(db, (file.path for file in files))
        for file in files:
            db.execute(
                "insert into files (series, part, path, rows, min_ts, max_ts, bytes) values (?, ?, ?, ?, ?, ?, ?)",
                (place.series, place.part, *file[2:]),
            )

    def drop_files(self, db: sqlite3.Connection, files: Sequence[FileRow], now: float) -> None:
        """These files hold nothing any more; those who are reading them may read on for a while."""
        db.executemany("delete from files where id = ?", ((file.id,) for file in files))
        self.doom(db, (file.path for file in files), now)

    @staticmethod
    def drop_waiting(db: sqlite3.Connection, place: Place, waiting: Waiting, now: float) -> None:
        """These batches wait no longer."""
        db.executemany("delete from tail where id = ?", ((id_,) for id_ in waiting.ids))
        db.execute(
            "update partitions set waiting = waiting - ?1, since = iif(waiting > ?1, ?2, null)"
            " where series = ?3 and part = ?4",
            (len(waiting.rows), now, place.series, place.part),
        )

    @staticmethod
    def count_small(db: sqlite3.Connection, place: Place) -> None:
        """Bring the number of a partition's small files up to date."""
        db.execute(
            "update partitions set small ="
            " (select count(*) from files f where f.series = ?1 and f.part = ?2 and f.rows < ?3)"
            " where series = ?1 and part = ?2",
            (place.series, place.part, SMALL_ROWS),
        )

    def drop_partitions(self, db: sqlite3.Connection, series: int, first: int, last: int, now: float) -> int:
        """Partitions from one to another are no more; how many rows they had."""
        span = (series, first, last)
        (rows,) = db.execute(
            "select coalesce(sum(rows), 0) from partitions where series = ? and part between ? and ?", span
        ).fetchone()
        files = db.execute(
            "select id, part, path, rows, min_ts, max_ts, bytes from files where series = ? and part between ? and ?",
            span,
        ).fetchall()
        self.drop_files(db, [FileRow(*file) for file in files], now)
        db.execute("delete from tail where series = ? and part between ? and ?", span)
        db.execute("delete from partitions where series = ? and part between ? and ?", span)
        return int(rows)

    @staticmethod
    def took_away(db: sqlite3.Connection, place: Place, rows: int) -> None:
        """A partition has so many rows fewer: bring its bounds up to date, or forget it where it has none."""
        db.execute(
            "update partitions set rows = rows - ? where series = ? and part = ?", (rows, place.series, place.part)
        )
        db.execute("delete from partitions where series = ? and part = ? and rows <= 0", (place.series, place.part))
        db.execute(
            "update partitions set (min_ts, max_ts) = (select min(min_ts), max(max_ts) from ("
            " select min_ts, max_ts from files where series = ?1 and part = ?2 union all"
            " select min_ts, max_ts from tail where series = ?1 and part = ?2)) where series = ?1 and part = ?2",
            (place.series, place.part),
        )
