import sqlite3
import tracemalloc
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vnpy_core.adapters.journal.file import open_readonly, read_rows
from vnpy_core.adapters.journal.verify import verify
from vnpy_core.domain.errors import ConfigurationError
from vnpy_core.ports.store import Watermark


def change(path, *statements):
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(*statement) if isinstance(statement, tuple) else connection.execute(statement)
    connection.close()


def stored(path):
    with closing(open_readonly(path)) as connection:
        return read_rows(connection, 0, 1000)


@pytest.fixture
def journal(opened, rows):
    """Rows 1 to 4 cut; commits end at 7, 8, 12."""
    journal = opened()
    for first, count in ((1, 4), (5, 3), (8, 1), (9, 4)):
        journal.append(rows(first, count))
    journal.cut(4, 6)
    yield journal
    journal.close()


def test_a_good_journal_is_good_also_while_it_is_written_to(journal, path, rows):
    report = verify(path, Watermark("epoch-1", 12))
    assert report.problems == []
    assert (report.first_seq, report.last_seq, report.rows, report.commits) == (5, 12, 8, 3)
    assert report.epoch == "epoch-1"
    journal.append(rows(13, 2))
    assert verify(path).last_seq == 14


@pytest.mark.parametrize("seq", range(5, 13))
@pytest.mark.parametrize(
    "assignment",
    [
        "epoch = 'other'",
        "run_id = 'other'",
        "ts = ts + 1",
        "kind = kind || ' '",
        "key = 'key-5x'",
        "payload = replace(cast(payload as text), 'x', 'y')",
        "payload = cast(payload as text)",
        "payload = x''",
        "hash = x'00'",
        "hash = case when hash is null then zeroblob(32) end",
        "key = kind, kind = key",
        "seq = 99",
    ],
)
def test_any_changed_column_is_found(journal, path, seq, assignment):
    change(path, f"update rows set {assignment} where seq = {seq}")
    assert verify(path).problems


@pytest.mark.parametrize(
    "statement",
    [
        "delete from rows where seq = 5",
        "delete from rows where seq = 6",
        "delete from rows where seq = 12",
        "delete from rows where seq > 8",
        "delete from rows where seq between 8 and 8",
        "delete from rows",
        "insert into rows select 13, epoch, run_id, ts, kind, key, payload, null from rows where seq = 12",
        "insert into rows select 13, epoch, run_id, ts, kind, key, payload, hash from rows where seq = 12",
        "insert into rows select 4, epoch, run_id, ts, kind, key, payload, null from rows where seq = 12",
        "update meta set head_seq = 8",
        "update meta set head_seq = 13",
        "update meta set head_hash = zeroblob(32)",
        "update meta set anchor_seq = 3",
        "update meta set anchor_hash = zeroblob(32)",
        "update meta set replay_from = 3",
        "update meta set replay_from = 13",
        "update meta set head_seq = 'x'",
        "delete from meta",
        "drop table rows",
        "update rows set key = cast(x'ff' as text) where seq = 9",
        "update rows set hash = 'text' where seq = 8",
    ],
)
def test_removed_added_and_cut_off_rows_are_found(journal, path, statement):
    change(path, statement)
    assert verify(path).problems


@pytest.mark.parametrize(("one", "other"), [(5, 6), (5, 12), (6, 9), (7, 8), (11, 10)])
def test_reordered_rows_are_found(journal, path, one, other):
    change(path, *(f"update rows set seq = {a} where seq = {b}" for a, b in ((99, one), (one, other), (other, 99))))
    assert verify(path).problems


def test_a_commit_taken_out_and_the_rest_renumbered_is_found(journal, path):
    change(
        path,
        "delete from rows where seq = 8",
        "update rows set seq = seq - 1 where seq > 8",
        "update meta set head_seq = 11",
    )
    assert verify(path).problems == ["rows 8 to 11 are not as they were committed"]


def test_it_says_where(journal, path):
    change(path, "update rows set key = '' where seq = 6", "delete from rows where seq = 10")
    assert verify(path).problems == [
        "rows 5 to 7 are not as they were committed",
        "rows 10 to 10 are missing",
        "rows 9 to 12 are not as they were committed",
    ]


def test_the_list_of_problems_is_bounded(opened, rows, path):
    journal = opened()
    for first in range(1, 200):
        journal.append(rows(first, 1))
    change(path, "update rows set key = ''")
    assert 20 <= len(verify(path).problems) <= 25


def test_what_the_store_has_must_be_there(journal, path):
    assert verify(path, Watermark("whatever", 4)).problems == []  # cut: not to be compared any more
    assert verify(path, Watermark("epoch-1", 8)).problems == []
    assert "ends at 12" in verify(path, Watermark("epoch-1", 13)).problems[0]
    assert "of epoch other" in verify(path, Watermark("other", 8)).problems[0]


def test_an_older_copy_of_the_file_is_found_only_by_the_watermark(journal, path, rows, tmp_path):
    copy = sqlite3.connect(tmp_path / "copy.sqlite")
    with sqlite3.connect(path) as source:
        source.backup(copy)
    source.close()
    copy.close()
    journal.append(rows(13, 1))
    assert verify(tmp_path / "copy.sqlite").problems == []
    assert verify(tmp_path / "copy.sqlite", Watermark("epoch-1", 13)).problems


def test_a_name_in_the_schema_that_is_no_text_any_more_is_told_in_words(opened, rows, path):
    journal = opened()
    journal.append(rows(1, 3))
    journal.close()
    whole = path.read_bytes()
    assert whole.count(b"tablemetameta") == 1
    path.write_bytes(whole.replace(b"tablemetameta", b"table\xedetameta"))
    assert verify(path).problems


def test_a_flipped_byte_anywhere_in_the_file_is_found_or_changes_no_row(opened, rows, path):
    """What may differ unseen is free space in pages, and SQLite's own counters."""
    journal = opened()
    for first in range(1, 60, 3):
        journal.append(rows(first, 3, size=200))
    journal.close()
    whole, found = path.read_bytes(), []

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, len(whole) - 1), st.integers(1, 255))
    def check(at, bits):
        for file in path.parent.glob("journal.sqlite-*"):
            file.unlink()
        path.write_bytes(whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :])
        try:
            found.append(verify(path).problems)
        except ConfigurationError as error:
            found.append([error.detail])
        if not found[-1]:
            assert stored(path) == rows(1, 60, size=200)

    check()
    assert sum(map(bool, found)) > 10


def test_a_large_journal_takes_no_more_memory(opened, rows, path):
    journal = opened()
    for first in range(1, 20_000, 1000):
        journal.append(rows(first, 1000, size=1000))
    assert path.stat().st_size > 15 << 20
    tracemalloc.start()
    assert verify(path).rows == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_what_is_no_journal_is_refused_in_words(tmp_path):
    with pytest.raises(ConfigurationError, match="there is no journal"):
        verify(tmp_path / "journal.sqlite")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "journal.sqlite").write_bytes(b"something else" * 100)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        verify(tmp_path / "journal.sqlite")
