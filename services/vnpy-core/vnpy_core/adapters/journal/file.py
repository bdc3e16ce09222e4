"""The journal's file format: what stands in it, how its commits are chained, and how to open it for reading."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.ports.journal import Row

FILE_NAME = "journal.sqlite"
APPLICATION_ID = 0x564E434A  # "VNCJ"
VERSION = 1
GENESIS = bytes(32)
"""What the first commit's hash is chained to."""

SCHEMA = (
    "create table rows (seq integer primary key, epoch text not null, run_id text not null, ts integer not null,"
    " kind text not null, key text not null, payload blob not null, hash blob)",
    "create table meta (id integer primary key check (id = 1), head_seq integer not null, head_hash blob not null,"
    " anchor_seq integer not null, anchor_hash blob not null, replay_from integer not null, epoch text not null,"
    " boot_id text not null, durability text not null, clean integer not null)",
)
"""`rows.hash` stands on the last row of each commit. `meta` is one row: the head is the last commit, the anchor the
last one that was cut away."""

_READ = "select seq, epoch, run_id, ts, kind, key, payload from rows where seq > ? order by seq limit ?"
_WALK = "select seq, epoch, run_id, ts, kind, key, payload, hash from rows where seq > ? order by seq"
_META_TYPES = (int, bytes, int, bytes, int, str, str, str, int)
_pack = msgspec.msgpack.Encoder().encode


class Link(NamedTuple):
    """The end of a commit: its last seq and its hash."""

    seq: int
    hash: bytes


class Meta(NamedTuple):
    """What the file says of itself; `clean`, `boot_id`, `durability` are those of the last run that opened it."""

    head: Link
    anchor: Link
    replay_from: int
    epoch: str
    boot_id: str
    durability: str
    clean: bool


def chain(previous: bytes, rows: Iterable[tuple[Any, ...]]) -> bytes:
    """The hash of a commit: SHA-256 over the previous commit's and each row's seven columns in MessagePack.

    MessagePack carries types and lengths, so no two different commits are the same bytes.
    """
    hasher = sha256(previous)
    for row in rows:
        hasher.update(_pack(row))
    return hasher.digest()


UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What sqlite3 raises of a damaged file: the second where its own message quotes the damage, or a text is no text."""


def open_readonly(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, beside a service that may; for one thread at a time, to be closed.

    Raises ConfigurationError: no such file, not a journal, one of a newer version, damaged beyond reading.
    """
    if not path.is_file():
        raise ConfigurationError(f"there is no journal {path}")
    connection = None
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, timeout=5, check_same_thread=False, isolation_level=None)
        identify(connection, path)
    except UNREADABLE as error:
        if connection is not None:
            connection.close()
        raise ConfigurationError(f"{path} cannot be read as a journal: {error}") from error
    except ConfigurationError:
        if connection is not None:
            connection.close()
        raise
    return connection


def identify(connection: sqlite3.Connection, path: Path) -> None:
    """Raises ConfigurationError unless the file is a journal of this version; UNREADABLE when it cannot be read."""
    if connection.execute("pragma application_id").fetchone()[0] != APPLICATION_ID:
        raise ConfigurationError(f"{path} is not a journal")
    version = connection.execute("pragma user_version").fetchone()[0]
    if version != VERSION:
        raise ConfigurationError(
            f"{path} is a journal of version {version}, this service reads {VERSION}; use the service that wrote it"
        )


def read_meta(connection: sqlite3.Connection, path: Path) -> Meta:
    """What the file says of itself. Raises ConfigurationError where that is lost, and UNREADABLE."""
    found = connection.execute(
        "select head_seq, head_hash, anchor_seq, anchor_hash, replay_from, epoch, boot_id, durability, clean from meta"
    ).fetchone()
    if found is None or tuple(map(type, found)) != _META_TYPES:
        raise ConfigurationError(f"{path} is damaged: what it says of itself is lost")
    head_seq, head_hash, anchor_seq, anchor_hash, replay_from, epoch, boot_id, durability, clean = found
    head, anchor = Link(head_seq, head_hash), Link(anchor_seq, anchor_hash)
    return Meta(head, anchor, replay_from, epoch, boot_id, durability, bool(clean))


def read_rows(connection: sqlite3.Connection, after: int, limit: int) -> list[Row]:
    """Committed rows with `seq` > `after`, in order, `limit` at most. Raises UNREADABLE."""
    return [Row(*values) for values in connection.execute(_READ, (after, limit))]


class Walk:
    """A walk along the chain from one commit's end to the head, one row in memory at a time.

    Counts `rows` and `commits`; `problems` are what does not fit, in words, `LIMIT` at most.
    """

    LIMIT = 20

    def __init__(self, connection: sqlite3.Connection, start: Link, head: Link) -> None:
        self.rows = 0
        self.commits = 0
        self.problems: list[str] = []
        self._connection = connection
        self._start = start
        self._head = head

    def run(self) -> None:
        """Walk. Raises UNREADABLE where the file cannot be read on."""
        end = self._start
        for commit_end in self._commits():
            end = commit_end
            self.commits += 1
            if len(self.problems) >= self.LIMIT:
                return
        if end.seq != self._head.seq:
            self._note(f"the rows end at {end.seq}, but the last one committed was {self._head.seq}")
        elif end != self._head:
            self._note(f"the commit that ends at row {end.seq} is not the last one that was made")

    def _commits(self) -> Iterator[Link]:
        previous, first, last = self._start.hash, self._start.seq + 1, self._start.seq
        hasher = sha256(previous)
        for *values, stored in self._connection.execute(_WALK, (self._start.seq,)):
            seq = values[0]
            if seq != last + 1:
                self._note(f"rows {last + 1} to {seq - 1} are missing")
            hasher.update(_pack(values))
            self.rows, last = self.rows + 1, seq
            if stored is None:
                continue
            if stored != hasher.digest():
                self._note(f"rows {first} to {seq} are not as they were committed")
            first, hasher = seq + 1, sha256(stored if isinstance(stored, bytes) else GENESIS)
            yield Link(seq, stored)
        if last >= first:
            self._note(f"rows {first} to {last} have no hash")

    def _note(self, problem: str) -> None:
        self.problems.append(problem)
