"""Users and logins in a small SQLite file of their own, readable by its owner only."""

from __future__ import annotations

import os
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path

from vnpy_core.ports.auth import Role
from vnpy_core.ports.credentials import Refresh, User

_SCHEMA = """
create table if not exists users (name text primary key, role text not null, password_hash text not null);
create table if not exists refresh_tokens (
    token_hash text primary key, session_id text not null, user_name text not null,
    expires_at integer not null, used integer not null default 0
);
create index if not exists refresh_tokens_session on refresh_tokens (session_id);
create table if not exists ended_sessions (session_id text primary key, until integer not null);
"""


class SqliteCredentials:
    """Implements `ports.credentials.CredentialStore`. Times are kept as unix microseconds."""

    def __init__(self, path: Path) -> None:
        """Open or create the file, mode 0600. Raises sqlite3.DatabaseError when it is not one of ours."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def user(self, name: str) -> User | None:
        """See the port."""
        row = self._one("select name, role, password_hash from users where name = ?", name)
        return User(name=row[0], role=Role(row[1]), password_hash=row[2]) if row else None

    def put_user(self, user: User) -> None:
        """See the port."""
        self._do("insert or replace into users values (?, ?, ?)", user.name, user.role.value, user.password_hash)

    def add_refresh(self, refresh: Refresh) -> None:
        """See the port."""
        values = (refresh.token_hash, refresh.session_id, refresh.user_name, _micros(refresh.expires_at), refresh.used)
        self._do("insert into refresh_tokens values (?, ?, ?, ?, ?)", *values)

    def use_refresh(self, token_hash: str) -> Refresh | None:
        """See the port."""
        with self._lock, self._connection:
            self._connection.execute("begin immediate")
            row = self._connection.execute(
                "select session_id, user_name, expires_at, used from refresh_tokens where token_hash = ?", (token_hash,)
            ).fetchone()
            self._connection.execute("update refresh_tokens set used = 1 where token_hash = ?", (token_hash,))
        if row is None:
            return None
        return Refresh(
            token_hash=token_hash, session_id=row[0], user_name=row[1], expires_at=_time(row[2]), used=bool(row[3])
        )

    def end_session(self, session_id: str, until: datetime) -> None:
        """See the port."""
        with self._lock, self._connection:
            self._connection.execute("begin immediate")
            self._connection.execute("delete from refresh_tokens where session_id = ?", (session_id,))
            self._connection.execute(
                "insert or replace into ended_sessions values (?, ?)", (session_id, _micros(until))
            )

    def session_ended(self, session_id: str) -> bool:
        """See the port."""
        return self._one("select 1 from ended_sessions where session_id = ?", session_id) is not None

    def prune(self, now: datetime) -> None:
        """See the port."""
        self._do("delete from refresh_tokens where expires_at < ?", _micros(now))
        self._do("delete from ended_sessions where until < ?", _micros(now))

    def _one(self, query: str, *values: object) -> tuple[str, ...] | None:
        with self._lock:
            row: tuple[str, ...] | None = self._connection.execute(query, values).fetchone()
            return row

    def _do(self, statement: str, *values: object) -> None:
        with self._lock:
            self._connection.execute(statement, values)


def _micros(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _time(micros: int | str) -> datetime:
    return datetime.fromtimestamp(int(micros) / 1_000_000, UTC)
