"""The journal: one append-only SQLite file in WAL mode, every commit chained to the one before by its hash."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from msgspec.structs import astuple

from vnpy_core.adapters.journal import file
from vnpy_core.adapters.journal.file import Link, Meta, Walk
from vnpy_core.adapters.journal.settings import JournalSettings
from vnpy_core.adapters.journal.spare import FULL, Mark, Reserve, is_full, sync_folder
from vnpy_core.domain.errors import ConfigurationError, JournalFailed, StorageFull
from vnpy_core.kit.failpoints import hit
from vnpy_core.ports.journal import JournalState, Row

RESTORED = "RESTORED"
"""`restore` leaves a file of this name in the data folder: the next start begins a new epoch."""

_MB = 1 << 20
_DAY_US = 86_400_000_000
_CUT_ROWS = 20_000
"""About the most that goes in one cut, so that orders wait no longer than 100 ms behind it."""
_CUT_AT = 0.9
"""The part of `max_mb` from which drained rows go early, so that the cap is met only when the store is behind."""
_QUICK_CHECK_BYTES = 32 * _MB
_CHECKED_COMMITS = 64
_SMALLEST_PAGE = 512
_WAL_KEPT_BYTES = 64 * _MB
_INSERT = "insert into rows (seq, epoch, run_id, ts, kind, key, payload, hash) values (?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_INNER = "insert into rows (seq, epoch, run_id, ts, kind, key, payload) values (?, ?, ?, ?, ?, ?, ?)"


class SqliteJournal:
    """Implements `ports.journal.Journal`. `new_epoch` and `mark_undurable` belong to the journal's thread too.

    `power` syncs every commit. `process` leaves commits in the operating system's cache, where kill -9 cannot reach
    them, and syncs at checkpoints, so that a power cut takes the newest commits but never tears the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        settings: JournalSettings,
        boot_id: str,
        run_id: str,
        new_epoch: Callable[[], str],
        checkpoint_pages: int = 1000,
    ) -> None:
        """Open or create the file (0600; a new folder 0700) and look at the newest commits, in bounded time.

        `boot_id` is the machine's, `new_epoch` makes a name. Raises ConfigurationError (foreign, newer or damaged
        file), StorageFull, JournalFailed.
        """
        self.epoch_reason = ""
        """Why this start began a new epoch; empty where the last one goes on."""
        self._path = path
        self._settings = settings
        self._run_id = run_id
        self._make_epoch = new_epoch
        self._in_doubt = False
        """Whether an append failed, so that only the file can tell whether its rows are there."""
        self._undrained = ""
        self._epoch = ""
        self._head = self._anchor = Link(0, file.GENESIS)
        self._replay_from = 0
        self._size = 0
        self._is_closed = False
        self._readers = _Readers(path)
        self._reserve = Reserve(path.with_suffix(".reserve"), settings.reserve_mb * _MB)
        with ExitStack() as files, self._errors_named():
            try:
                _refuse_emptied(path)
                _make_private(path)
                self._mark = files.enter_context(closing(Mark(path.with_suffix(".mark"))))
                self._writer = files.enter_context(closing(_connect(path)))
                self._reserve.restore()
                self._with_reserve(partial(self._prepare, checkpoint_pages))  # SQLite's shared memory is a file too
                meta = self._read_meta()
                self._check(meta)
            except (OSError, sqlite3.DatabaseError, UnicodeDecodeError) as error:
                if _says_nothing_of_the_file(error):
                    raise
                raise ConfigurationError(f"{path} cannot be opened as a journal: {error}") from error
            self._begin(meta, boot_id)
            self._files = files.pop_all()

    @property
    def epoch(self) -> str:
        """See the port."""
        return self._epoch

    @property
    def run_id(self) -> str:
        """See the port."""
        return self._run_id

    def append(self, rows: Sequence[Row]) -> None:
        """See the port. ValueError where `rows` do not follow. After an error the same rows may be given again,
        also where the failed commit did reach the file: those that stand there are not written twice.
        """
        with self._errors_named():
            if self._in_doubt:
                rows = self._not_yet_written(rows)
            self._check_sequence(rows)
            if not rows:
                return
            values = [astuple(row) for row in rows]
            head = Link(rows[-1].seq, file.chain(self._head.hash, values))
            self._in_doubt = True
            self._with_reserve(partial(self._insert, values, head), done=lambda: self._read_meta().head == head)
            self._head, self._in_doubt = head, False
        hit("journal.after_commit")

    def read(self, after: int, limit: int) -> list[Row]:
        """See the port. Raises JournalFailed."""
        with self._errors_named(), self._readers.one() as connection:
            return file.read_rows(connection, after, limit)

    def replay_from(self) -> int:
        """See the port."""
        return self._replay_from

    def cuttable(self, drained: int, now_us: int) -> int:
        """See the port. About 20,000 rows at most, so that no commit waits long: cut and ask again for more."""
        with self._errors_named():
            meta = self._read_meta()  # a cut that failed may have been done all the same
            self._anchor, self._replay_from = meta.anchor, meta.replay_from
            after = meta.anchor.seq
            through = min(drained, self._head.seq, self._commit_end_from(after + _CUT_ROWS))
            if self._size < _CUT_AT * self._settings.max_mb * _MB:
                oldest = now_us - int(self._settings.retain_days * _DAY_US)
                through = min(through, self._young_from(after, through, oldest) - 1)
            return self._commit_end_within(after, through)

    def cut(self, through: int, carried_from: int) -> None:
        """See the port. ValueError unless `through` ends a commit (or is 0) and `carried_from` lies from there on."""
        with self._errors_named():
            anchor = self._commit_at(through) if through else self._anchor
            if not through <= carried_from <= self._head.seq:
                raise ValueError(f"rows carried after {carried_from} do not replace those up to {through}")
            with self._transaction() as run:
                run("delete from rows where seq <= ?", (through,))
                run("update meta set anchor_seq = ?, anchor_hash = ?, replay_from = ?", (*anchor, carried_from))
                hit("journal.before_cut")
            self._anchor, self._replay_from = anchor, carried_from
            hit("journal.after_cut")
            self._measure()

    def begin_after(self, seq: int) -> None:
        """Let the first row of an empty journal be `seq` + 1: a store has rows of a journal that is no more."""
        if self._head.seq:
            raise ValueError("the journal has rows")
        with self._errors_named():
            self._change("update meta set head_seq = ?, anchor_seq = ?, replay_from = ?", seq, seq, seq)
            self._head = self._anchor = Link(seq, file.GENESIS)
            self._replay_from = seq

    def maintain(self, drained: int) -> None:
        """See the port. Raises JournalFailed."""
        with self._errors_named():
            self._reserve.restore()
            self._measure()
            lag = self._head.seq - drained
            is_over = self._size >= self._settings.max_mb * _MB
            self._undrained = self._cap_reached(lag) if is_over and lag > 0 else ""

    def state(self) -> JournalState:
        """See the port. The size is that of the last `maintain` or `cut`."""
        has_reserve = self._reserve.in_place
        return JournalState(
            epoch=self._epoch,
            first_seq=self._anchor.seq + 1,
            last_seq=self._head.seq,
            size_bytes=self._size,
            reserve=has_reserve,
            refusal=self._undrained if has_reserve else self._no_reserve(),
        )

    def new_epoch(self) -> None:
        """See the port. Durable when this returns. Raises StorageFull, JournalFailed; then the epoch stays."""
        epoch = self._make_epoch()
        with self._errors_named():
            change = partial(self._change, "update meta set epoch = ?", epoch)
            self._with_reserve(change, done=lambda: self._read_meta().epoch == epoch)
        self._epoch = epoch

    def mark_undurable(self, undurable: bool) -> None:
        """See the port. Raises JournalFailed."""
        with self._errors_named():
            if self._mark.is_set is not undurable:
                self._mark.set(undurable)

    def close(self, *, clean: bool = True) -> None:
        """See the port. Raises JournalFailed, StorageFull where the file could not be marked clean; it is closed then
        too, and the next start takes it for an unclean end.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._readers.close()
        with self._files, self._errors_named():
            if clean and not self._in_doubt:
                self._change("update meta set clean = 1")

    # --- opening ---

    def _prepare(self, checkpoint_pages: int) -> None:
        run = self._writer.execute
        is_new = not any(
            run(query).fetchone()[0]
            for query in ("pragma application_id", "pragma user_version", "select count(*) from sqlite_master")
        )
        if not is_new:
            file.identify(self._writer, self._path)
        if run("pragma journal_mode = wal").fetchone()[0] != "wal":
            raise ConfigurationError(f"{self._path} is on a file system that SQLite's WAL mode does not work on")
        run("pragma synchronous = full")
        run(f"pragma wal_autocheckpoint = {checkpoint_pages}")
        run(f"pragma journal_size_limit = {_WAL_KEPT_BYTES}")
        run("pragma secure_delete = off")  # else a cut would write every page that it frees
        if is_new:
            self._create()
            self.epoch_reason = "the journal is new"
            sync_folder(self._path.parent)

    def _create(self) -> None:
        with self._transaction() as run:
            run(f"pragma application_id = {file.APPLICATION_ID}")
            run(f"pragma user_version = {file.VERSION}")
            for statement in file.SCHEMA:
                run(statement)
            anchor = (0, file.GENESIS)
            durability = self._settings.durability
            run(
                "insert into meta values (1, ?, ?, ?, ?, 0, ?, '', ?, 1)",
                (*anchor, *anchor, self._make_epoch(), durability),
            )

    def _check(self, meta: Meta) -> None:
        """A look at a damaged file's usual places. All of a large file would take long: `journal verify` does that."""
        run = self._writer.execute
        if self._used_bytes() <= _QUICK_CHECK_BYTES:
            if (found := run("pragma quick_check(1)").fetchone()[0]) != "ok":
                raise ConfigurationError(f"{self._path} is damaged: {found}")
        first = run("select min(seq) from rows").fetchone()[0]
        if first is not None and first != meta.anchor.seq + 1:
            raise ConfigurationError(f"{self._path} is damaged: it begins at row {first}, not {meta.anchor.seq + 1}")
        newest = run(
            "select seq, hash from rows where hash is not null order by seq desc limit 1 offset ?", (_CHECKED_COMMITS,)
        ).fetchone()
        walk = Walk(self._writer, Link(*newest) if newest else meta.anchor, meta.head)
        walk.run()
        if walk.problems:
            raise ConfigurationError(
                f"{self._path} is damaged: {walk.problems[0]}; `vnpy-core journal verify` tells more"
            )

    def _begin(self, meta: Meta, boot_id: str) -> None:
        """Durable in both modes: a run that was not seen to begin would pass for a clean end."""
        self._head, self._anchor, self._replay_from, self._epoch = meta.head, meta.anchor, meta.replay_from, meta.epoch
        restored = self._path.with_name(RESTORED)
        reason = self.epoch_reason or _why_new_epoch(meta, boot_id, restored.exists(), self._mark.is_set)
        if reason and not self.epoch_reason:
            self._epoch = self._make_epoch()
        self.epoch_reason = reason
        statement = "update meta set epoch = ?, boot_id = ?, durability = ?, clean = 0"
        self._with_reserve(partial(self._change, statement, self._epoch, boot_id, self._settings.durability))
        if restored.exists():
            restored.unlink()
            sync_folder(self._path.parent)
        if self._mark.is_set:
            self._mark.set(False)
        if self._settings.durability == "process":
            self._writer.execute("pragma synchronous = normal")
        self._measure()

    # --- writing ---

    def _check_sequence(self, rows: Sequence[Row]) -> None:
        for seq, row in enumerate(rows, self._head.seq + 1):
            if row.seq != seq:
                raise ValueError(f"row {row.seq} came where {seq} was due")

    def _insert(self, values: list[tuple[object, ...]], head: Link) -> None:
        with self._transaction() as run:
            if len(values) > 1:
                self._writer.executemany(_INSERT_INNER, values[:-1])
            run(_INSERT, (*values[-1], head.hash))
            run("update meta set head_seq = ?, head_hash = ?", head)
            hit("journal.before_commit")

    def _not_yet_written(self, rows: Sequence[Row]) -> Sequence[Row]:
        """After a failed commit the file alone tells whether it was done."""
        self._head = self._read_meta().head
        known = [row for row in rows if row.seq <= self._head.seq]
        if known and known != file.read_rows(self._writer, known[0].seq - 1, len(known)):
            raise ValueError(f"rows from {known[0].seq} on stand in the journal with other content")
        self._in_doubt = False
        return rows[len(known) :]

    def _change(self, statement: str, *values: object) -> None:
        with self._transaction() as run:
            run(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        run = self._writer.execute
        self._roll_back()
        run("begin immediate")
        try:
            yield run
            run("commit")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.rollback()

    def _with_reserve(self, commit: Callable[[], None], done: Callable[[], bool] | None = None) -> None:
        """`commit`, and once more with the reserve given up where the disk is full, unless it was `done` after all."""
        try:
            commit()
        except sqlite3.Error as error:
            if done and done():
                return
            if not (self._means_full(error) and self._reserve.give_up()):
                raise
            commit()

    def _means_full(self, error: sqlite3.Error) -> bool:
        code = _primary_code(error)
        return code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and is_full(self._path.parent))

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if self._means_full(error):
                self._reserve.in_place = False
                raise StorageFull(f"the disk of {self._path} is full") from error
            raise JournalFailed(f"{self._path}: {error}") from error
        except OSError as error:
            if error.errno in FULL:
                raise StorageFull(f"the disk of {self._path} is full") from error
            raise JournalFailed(f"{self._path}: {error}") from error

    # --- looking ---

    def _read_meta(self) -> Meta:
        self._roll_back()  # what a failed transaction left must not pass for committed
        return file.read_meta(self._writer, self._path)

    def _used_bytes(self) -> int:
        pages, free, page_size = (
            self._writer.execute(f"pragma {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * page_size)

    def _measure(self) -> None:
        self._size = self._used_bytes()

    def _cap_reached(self, lag: int) -> str:
        return (
            f"the journal is at its limit of {self._settings.max_mb} MB and the store lacks its last {lag} rows; "
            "orders pass when the store has caught up"
        )

    def _no_reserve(self) -> str:
        wanted = f"its reserve of {self._settings.reserve_mb} MB" if self._settings.reserve_mb else "it"
        return f"the disk has been full; orders pass when the journal finds room for {wanted} again"

    def _commit_end_from(self, seq: int) -> int:
        query = "select seq from rows where seq >= ? and hash is not null order by seq limit 1"
        found = self._writer.execute(query, (seq,)).fetchone()
        return found[0] if found else self._head.seq

    def _commit_end_within(self, after: int, through: int) -> int:
        query = "select seq from rows where seq > ? and seq <= ? and hash is not null order by seq desc limit 1"
        found = self._writer.execute(query, (after, through)).fetchone()
        return found[0] if found else 0

    def _young_from(self, after: int, through: int, oldest: int) -> int:
        """The first row in the range that must be kept for its age."""
        query = "select seq from rows where seq > ? and seq <= ? and ts >= ? order by seq limit 1"
        found = self._writer.execute(query, (after, through, oldest)).fetchone()
        return found[0] if found else through + 1

    def _commit_at(self, seq: int) -> Link:
        found = self._writer.execute("select seq, hash from rows where seq = ?", (seq,)).fetchone()
        if found is None or found[1] is None:
            raise ValueError(f"row {seq} does not end a commit")
        return Link(*found)


class _Readers:
    """Connections for reading, each lent to one thread at a time; up to `KEPT` idle ones are kept."""

    KEPT = 4

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._is_closed = False

    @contextmanager
    def one(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._is_closed:
                raise JournalFailed(f"{self._path} is closed")
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._connect()
        try:
            yield connection
        except BaseException:
            connection.close()  # a read left unfinished would keep the log of changes growing
            raise
        self._take_back(connection)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            while self._idle:
                self._idle.pop().close()

    def _connect(self) -> sqlite3.Connection:
        try:
            return file.open_readonly(self._path)
        except ConfigurationError as error:
            raise JournalFailed(error.detail) from error

    def _take_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._is_closed and len(self._idle) < self.KEPT:
                self._idle.append(connection)
                return
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=1, check_same_thread=False, isolation_level=None)


def _says_nothing_of_the_file(error: OSError | sqlite3.Error | UnicodeDecodeError) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    return isinstance(error, sqlite3.Error) and _primary_code(error) in (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_NOMEM,
    )


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # errors of Python's own module have none


def _why_new_epoch(meta: Meta, boot_id: str, is_restored: bool, is_undurable: bool) -> str:
    if is_restored:
        return "the data folder was restored from a backup"
    if is_undurable:
        return "events were acted upon that were never written"
    if meta.durability == "process" and not meta.clean and meta.boot_id != boot_id:
        return "the machine went down under durability = process, so the newest rows may be lost"
    return ""


def _refuse_emptied(path: Path) -> None:
    """SQLite would take such a file for a new one, and throw its log of changes away."""
    size = path.stat().st_size if path.exists() else 0
    log = path.with_name(f"{path.name}-wal")
    has_log = log.exists() and log.stat().st_size > 0
    if 0 < size < _SMALLEST_PAGE or (not size and has_log):
        raise ConfigurationError(f"{path} is damaged: of its content {size} bytes are left")


def _make_private(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # one that was copied here may be wider; SQLite's files beside it follow its mode
    finally:
        os.close(descriptor)
