"""Users and logins in a small SQLite file of their own, readable by its owner only."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from vnpy_core.domain.errors import ConfigurationError, StorageFull
from vnpy_core.ports.auth import Role
from vnpy_core.ports.credentials import Refresh, User

_VERSION = 1
_SCHEMA = """
create table if not exists users (name text primary key, role text not null, password_hash text not null);
create table if not exists refresh_tokens (
    token_hash text primary key, session_id text not null, user_name text not null,
    expires_at integer not null, used integer not null default 0
);
create index if not exists refresh_tokens_session on refresh_tokens (session_id);
create index if not exists refresh_tokens_user on refresh_tokens (user_name);
create table if not exists ended_sessions (session_id text primary key, until integer not null);
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SqliteCredentials:
    """Implements `ports.credentials.CredentialStore`. Times are kept as unix microseconds."""

    def __init__(self, path: Path) -> None:
        """Open or create the file (0600; a new folder 0700). Raises ConfigurationError when it is not one of ours."""
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _make_private(path)
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        except (OSError, sqlite3.OperationalError) as error:
            raise ConfigurationError(f"{path} cannot be opened: {error}") from error
        try:
            self._prepare(path)
        except (sqlite3.DatabaseError, ConfigurationError) as error:
            self._connection.close()
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(f"{path} is not a file of users and logins: {error}") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def user(self, name: str) -> User | None:
        """See the port."""
        with self._lock, _full_disk_named():
            row = self._connection.execute(
                "select name, role, password_hash from users where name = ?", (name,)
            ).fetchone()
        return User(name=row[0], role=Role(row[1]), password_hash=row[2]) if row else None

    def put_user(self, user: User) -> None:
        """See the port."""
        with self._transaction() as run:
            run.execute("insert or replace into users values (?, ?, ?)", (user.name, user.role, user.password_hash))

    def add_refresh(self, refresh: Refresh) -> None:
        """See the port."""
        with self._transaction() as run:
            _insert(run, refresh)

    def rotate_refresh(self, token_hash: str, next_hash: str, now: datetime, expires_at: datetime) -> Refresh | None:
        """See the port."""
        with self._transaction() as run:
            row = run.execute(
                "select token_hash, session_id, user_name, expires_at, used from refresh_tokens where token_hash = ?",
                (token_hash,),
            ).fetchone()
            if row is None:
                return None
            found = Refresh(
                token_hash=row[0], session_id=row[1], user_name=row[2], expires_at=_time(row[3]), used=bool(row[4])
            )
            if found.used or found.expires_at <= now:
                return found
            run.execute("update refresh_tokens set used = 1 where token_hash = ?", (token_hash,))
            following = Refresh(
                token_hash=next_hash, session_id=found.session_id, user_name=found.user_name, expires_at=expires_at
            )
            _insert(run, following)
            return found

    def end_session(self, session_id: str, until: datetime) -> None:
        """See the port."""
        with self._transaction() as run:
            run.execute("delete from refresh_tokens where session_id = ?", (session_id,))
            run.execute("insert or replace into ended_sessions values (?, ?)", (session_id, _micros(until)))

    def end_sessions_of(self, user_name: str, until: datetime) -> None:
        """See the port."""
        with self._transaction() as run:
            run.execute(
                "insert or replace into ended_sessions "
                "select distinct session_id, ? from refresh_tokens where user_name = ?",
                (_micros(until), user_name),
            )
            run.execute("delete from refresh_tokens where user_name = ?", (user_name,))

    def ended_sessions(self) -> dict[str, datetime]:
        """See the port."""
        with self._lock, _full_disk_named():
            rows = self._connection.execute("select session_id, until from ended_sessions").fetchall()
        return {session_id: _time(until) for session_id, until in rows}

    def prune(self, now: datetime) -> None:
        """See the port."""
        with self._transaction() as run:
            run.execute("delete from refresh_tokens where expires_at <= ?", (_micros(now),))
            run.execute("delete from ended_sessions where until <= ?", (_micros(now),))

    def _prepare(self, path: Path) -> None:
        version = self._connection.execute("pragma user_version").fetchone()[0]
        if version > _VERSION:
            raise ConfigurationError(f"{path} was written by a newer version of the service")
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = full")
        self._connection.executescript(_SCHEMA)
        self._connection.execute(f"pragma user_version = {_VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _full_disk_named(), self._connection:
            self._connection.execute("begin immediate")
            yield self._connection


@contextmanager
def _full_disk_named() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise StorageFull("the disk is full; logins cannot be kept") from error
        raise


def _make_private(path: Path) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # one that was copied here may be wider; SQLite's files beside it follow its mode
    finally:
        os.close(descriptor)


def _insert(run: sqlite3.Connection, refresh: Refresh) -> None:
    values = (refresh.token_hash, refresh.session_id, refresh.user_name, _micros(refresh.expires_at), refresh.used)
    run.execute("insert into refresh_tokens values (?, ?, ?, ?, ?)", values)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _time(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
