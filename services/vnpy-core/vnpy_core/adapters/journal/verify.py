"""Whether a journal is as it was written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from vnpy_core.adapters.journal.file import UNREADABLE, Meta, Walk, open_readonly, read_meta
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.ports.store import Watermark


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `verify` saw; the journal is good when there are no `problems`."""

    epoch: str
    first_seq: int
    last_seq: int
    rows: int
    commits: int
    problems: list[str]


def verify(path: Path, watermark: Watermark | None = None) -> Report:
    """Walk the whole chain of hashes, also while a service writes to the file; memory stays constant.

    Finds any changed column, removed, inserted or reordered rows, a removed end, and broken pages; with a store's
    `watermark`, also that the journal lacks what the store has. It cannot find what a forger made who computed all
    hashes anew; a whole older copy of the file, or its newest commits gone with its write-ahead log (that is what
    `watermark` is for); rows that were lost before they were committed; whether `cut` removed the right ones.
    Raises ConfigurationError: no journal.
    """
    with closing(open_readonly(path)) as connection:
        # One snapshot: the head and the rows must belong together.
        connection.execute("begin")
        try:
            meta = read_meta(connection, path)
        except (*UNREADABLE, ConfigurationError) as error:
            return Report(epoch="", first_seq=0, last_seq=0, rows=0, commits=0, problems=[_words(error)])
        walk = Walk(connection, meta.anchor, meta.head)
        problems = []
        try:
            problems += _outside(connection, meta)
            walk.run()
            problems += walk.problems
            problems += _broken_pages(connection)
            if watermark:
                problems += _behind(connection, meta, watermark)
        except UNREADABLE as error:
            problems += [*walk.problems, _words(error)]
    return Report(
        epoch=meta.epoch,
        first_seq=meta.anchor.seq + 1,
        last_seq=meta.head.seq,
        rows=walk.rows,
        commits=walk.commits,
        problems=list(dict.fromkeys(problems)),
    )


def _outside(connection: sqlite3.Connection, meta: Meta) -> list[str]:
    found = []
    first = connection.execute("select min(seq) from rows").fetchone()[0]
    if first is not None and first <= meta.anchor.seq:
        found.append(f"row {first} is there though rows up to {meta.anchor.seq} were cut")
    if not meta.anchor.seq <= meta.replay_from <= meta.head.seq:
        found.append(f"replay would begin after row {meta.replay_from}, outside the rows kept")
    return found


def _broken_pages(connection: sqlite3.Connection) -> list[str]:
    found = [row[0] for row in connection.execute("pragma quick_check(5)")]
    return [] if found == ["ok"] else [f"pages are broken: {text}" for text in found]


def _behind(connection: sqlite3.Connection, meta: Meta, watermark: Watermark) -> list[str]:
    if watermark.seq <= meta.anchor.seq:
        return []
    found = connection.execute("select epoch from rows where seq = ?", (watermark.seq,)).fetchone()
    if found is None:
        return [f"the store has rows up to {watermark.seq}, the journal ends at {meta.head.seq}"]
    if found[0] != watermark.epoch:
        return [f"the store took in row {watermark.seq} of epoch {watermark.epoch}, here it is of {found[0]}"]
    return []


def _words(error: Exception) -> str:
    return error.detail if isinstance(error, ConfigurationError) else f"the file cannot be read: {error}"
