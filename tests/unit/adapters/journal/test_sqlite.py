import os
import sqlite3
import stat
import threading

import pytest

from vnpy_core.adapters.journal.sqlite import RESTORED
from vnpy_core.adapters.journal.verify import verify
from vnpy_core.domain.errors import ConfigurationError, JournalFailed, StorageFull
from vnpy_core.ports.journal import Row

DAY = 86_400_000_000


class Flaky:
    """The writer's connection with a fault at one statement: it raises before or after the statement was done."""

    def __init__(self, connection):
        self._connection = connection
        self.fault = None

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, statement, *values):
        if not self.fault or not statement.startswith(self.fault[0]):
            return self._connection.execute(statement, *values)
        _, is_done_first, code, times = self.fault
        self.fault = (*self.fault[:3], times - 1) if times > 1 else None
        if is_done_first:
            self._connection.execute(statement, *values)
        error = sqlite3.OperationalError("injected")
        error.sqlite_errorcode = code
        raise error


@pytest.fixture
def flaky(opened):
    journal = opened()
    journal._writer = Flaky(journal._writer)
    return journal


def content(path):
    with sqlite3.connect(path) as connection:
        found = connection.execute("select seq, epoch, run_id, ts, kind, key, payload from rows order by seq")
        rows = [Row(*values) for values in found]
    connection.close()
    return rows


# --- appending and reading ---


def test_rows_come_back_as_they_were_given_after_another_start_too(opened, rows):
    journal = opened()
    journal.append(rows(1, 3))
    journal.append(rows(4, 1))
    assert journal.read(0, 10) == rows(1, 4)
    assert journal.read(1, 2) == rows(2, 2)
    assert journal.read(4, 10) == []
    journal.close()
    again = opened()
    assert again.read(0, 10) == rows(1, 4)
    assert (again.state().first_seq, again.state().last_seq) == (1, 4)
    again.append(rows(5, 1))
    assert again.read(4, 10) == rows(5, 1)


def test_a_new_journal_is_empty_and_in_a_new_epoch(opened):
    journal = opened()
    state = journal.state()
    assert (state.epoch, state.first_seq, state.last_seq) == ("epoch-1", 1, 0)
    assert (state.reserve, state.refusal) == (True, "")
    assert (journal.epoch, journal.run_id, journal.replay_from()) == ("epoch-1", "run", 0)
    journal.append([])
    assert journal.state().last_seq == 0


def test_the_files_are_for_their_owner_only(opened, path, rows):
    before = os.umask(0)
    try:
        opened().append(rows(1, 1))
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes) >= {"journal.sqlite", "journal.sqlite-wal", "journal.reserve", "journal.mark"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("seqs", [[3], [1, 2], [2, 4], [2, 2], [3, 2]])
def test_rows_that_do_not_follow_are_refused_and_nothing_is_written(opened, rows, seqs):
    journal = opened()
    journal.append(rows(1, 1))
    with pytest.raises(ValueError, match="was due"):
        journal.append([rows(seq, 1)[0] for seq in seqs])
    journal.append(rows(2, 1))
    assert journal.read(0, 10) == rows(1, 2)


def test_a_row_that_sqlite_cannot_take_leaves_the_journal_usable(opened, rows, path):
    journal = opened()
    too_big = Row(2, "e", "r", 2**70, "k", "k", b"{}")
    with pytest.raises(OverflowError):
        journal.append([*rows(1, 1), too_big])
    with pytest.raises(UnicodeEncodeError):
        journal.append([Row(1, "e", "r", 1, "k", "\ud800", b"{}")])
    journal.append(rows(1, 2))
    assert journal.read(0, 10) == rows(1, 2)
    assert verify(path).problems == []


def test_many_threads_read_while_one_writes(opened, rows):
    journal, seen, done = opened(), [], threading.Event()

    def read():
        while not done.is_set():
            found = journal.read(0, 10_000)
            if found != rows(1, len(found)) or journal.state().last_seq < len(found) - 7:
                seen.append(found)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for first in range(1, 400, 7):
        journal.append(rows(first, 7))
    done.set()
    for thread in threads:
        thread.join()
    assert seen == []
    assert len(journal._readers._idle) <= 4


def test_a_closed_journal_says_so(opened, rows):
    journal = opened()
    journal.append(rows(1, 1))
    journal.close()
    with pytest.raises(JournalFailed):
        journal.read(0, 1)
    with pytest.raises(JournalFailed):
        journal.append(rows(2, 1))
    journal.close()


# --- faults ---


@pytest.mark.parametrize("statement", ["begin", "insert", "update", "commit"])
@pytest.mark.parametrize("is_done_first", [False, True])
def test_rows_of_a_failed_commit_can_be_given_again_and_stand_there_once(flaky, rows, path, statement, is_done_first):
    flaky.append(rows(1, 2))
    flaky._writer.fault = (statement, is_done_first, sqlite3.SQLITE_IOERR_FSYNC, 1)
    try:
        flaky.append(rows(3, 3))
    except JournalFailed:
        assert flaky.state().last_seq == 2
        flaky.append(rows(3, 4))  # with one more that came meanwhile
    else:
        assert (statement, is_done_first) == ("commit", True), "only a commit that was done may pass"
        flaky.append(rows(6, 1))
    assert flaky.read(0, 10) == rows(1, 6)
    assert verify(path).problems == []


def test_a_failed_commit_that_cannot_be_rolled_back_at_once_is_not_taken_for_done(flaky, rows, path):
    flaky._writer.fault = ("commit", False, sqlite3.SQLITE_IOERR, 1)
    real = flaky._writer._connection.rollback

    def fails():
        flaky._writer.rollback = real
        raise sqlite3.OperationalError("injected")

    flaky._writer.rollback = fails
    with pytest.raises(JournalFailed):
        flaky.append(rows(1, 2))
    assert (flaky.read(0, 10), flaky.state().last_seq) == ([], 0)
    flaky.append(rows(1, 3))
    assert content(path) == rows(1, 3)


def test_a_commit_that_was_done_but_could_not_be_looked_up_is_found_by_the_next_append(flaky, rows, path):
    writer = flaky._writer
    writer.fault = ("commit", True, sqlite3.SQLITE_IOERR, 1)
    real = flaky._read_meta

    def unreadable():
        flaky._read_meta = real
        raise sqlite3.OperationalError("injected")

    flaky._read_meta = unreadable
    with pytest.raises(JournalFailed):
        flaky.append(rows(1, 2))
    assert flaky.state().last_seq == 0
    with pytest.raises(ValueError, match="other content"):
        flaky.append([rows(1, 1)[0], *rows(2, 1, kind="other")])
    flaky.append(rows(1, 4))
    assert content(path) == rows(1, 4)
    assert verify(path).problems == []


def test_after_a_commit_that_passed_rows_given_again_are_an_error(flaky, rows):
    flaky._writer.fault = ("commit", False, sqlite3.SQLITE_IOERR, 1)
    with pytest.raises(JournalFailed):
        flaky.append(rows(1, 2))
    flaky.append(rows(1, 2))
    with pytest.raises(ValueError, match="was due"):
        flaky.append(rows(1, 2))


def test_a_full_disk_costs_the_reserve_and_then_no_row(flaky, rows, path):
    reserve = path.with_suffix(".reserve")
    assert reserve.stat().st_blocks * 512 >= 1 << 20
    flaky._writer.fault = ("commit", False, sqlite3.SQLITE_FULL, 1)
    flaky.append(rows(1, 2))
    assert flaky.read(0, 10) == rows(1, 2)
    assert not reserve.exists()
    assert not flaky.state().reserve
    assert "the disk has been full" in flaky.state().refusal
    flaky.maintain(2)
    assert reserve.stat().st_blocks * 512 >= 1 << 20
    assert (flaky.state().reserve, flaky.state().refusal) == (True, "")


def test_a_disk_that_stays_full_raises_and_the_rows_pass_later(flaky, rows, path):
    flaky._writer.fault = ("insert", False, sqlite3.SQLITE_FULL, 2)
    with pytest.raises(StorageFull):
        flaky.append(rows(1, 2))
    flaky._writer.fault = ("insert", False, sqlite3.SQLITE_FULL, 1)
    with pytest.raises(StorageFull):  # the reserve is gone, so there is no second try
        flaky.append(rows(1, 2))
    assert flaky.read(0, 10) == []
    flaky.append(rows(1, 2))
    assert flaky.read(0, 10) == rows(1, 2)
    assert "the disk has been full" in flaky.state().refusal
    flaky.maintain(0)
    assert flaky.state().refusal == ""


def test_sqlite_full_from_sqlite_itself_is_named_and_passes(opened, rows):
    journal = opened()
    pages = journal._writer.execute("pragma page_count").fetchone()[0]
    journal._writer.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(StorageFull):
        journal.append(rows(1, 200))
    journal._writer.execute("pragma max_page_count = 100000")
    journal.append(rows(1, 200))
    assert journal.read(0, 1000) == rows(1, 200)


def test_without_a_reserve_a_full_disk_is_remembered_until_there_is_room(opened, rows, path):
    journal = opened(reserve_mb=0)
    journal._writer = Flaky(journal._writer)
    assert journal.state().refusal == ""
    journal._writer.fault = ("insert", False, sqlite3.SQLITE_FULL, 1)
    with pytest.raises(StorageFull):
        journal.append(rows(1, 1))
    assert "the disk has been full" in journal.state().refusal
    journal.maintain(0)
    assert journal.state().refusal == ""
    assert not path.with_suffix(".reserve").exists()


def test_a_file_that_another_process_keeps_locked_is_a_failure_that_passes(opened, rows, path):
    journal = opened()
    journal._writer.execute("pragma busy_timeout = 10")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(JournalFailed, match="locked"):
        journal.append(rows(1, 1))
    other.close()
    journal.append(rows(1, 1))
    assert journal.read(0, 10) == rows(1, 1)


# --- cutting ---


def test_rows_older_than_the_retention_that_the_store_has_can_go_at_the_end_of_a_commit(opened, rows):
    journal = opened(retain_days=1)
    for first in (1, 4, 7):
        journal.append(rows(first, 3))
    now = DAY + 7_500_000  # rows 1 to 7 are older than a day
    assert journal.cuttable(9, now) == 6
    assert journal.cuttable(5, now) == 3
    assert journal.cuttable(2, now) == 0
    assert journal.cuttable(0, now) == 0
    assert journal.cuttable(9, DAY) == 0
    assert journal.cuttable(9, DAY + 9_000_000) == 6  # row 9 is not older than a day yet
    assert journal.cuttable(9, DAY + 9_000_001) == 9
    assert journal.cuttable(99, 2 * DAY) == 9


def test_a_cut_leaves_a_chain_that_holds_and_says_where_to_replay_from(opened, rows, path):
    journal = opened()
    for first in (1, 4, 7):
        journal.append(rows(first, 3))
    journal.cut(6, 8)
    assert journal.read(0, 10) == rows(7, 3)
    assert (journal.state().first_seq, journal.state().last_seq, journal.replay_from()) == (7, 9, 8)
    assert verify(path).problems == []
    journal.close()
    again = opened()
    assert (again.state().first_seq, again.state().last_seq, again.replay_from()) == (7, 9, 8)
    again.append(rows(10, 2))
    assert verify(path).problems == []


def test_all_rows_can_be_cut(opened, rows, path):
    journal = opened(retain_days=1)
    journal.append(rows(1, 3))
    journal.cut(journal.cuttable(3, 2 * DAY), 3)
    assert (journal.state().first_seq, journal.state().last_seq) == (4, 3)
    assert journal.cuttable(3, 2 * DAY) == 0
    journal.close()
    again = opened()
    assert again.read(0, 10) == []
    again.append(rows(4, 1))
    assert again.read(0, 10) == rows(4, 1)
    assert verify(path).problems == []


@pytest.mark.parametrize(("through", "carried_from"), [(2, 6), (3, 2), (3, 7), (0, 7), (9, 9)])
def test_a_cut_elsewhere_is_refused(opened, rows, through, carried_from):
    journal = opened()
    journal.append(rows(1, 3))
    journal.append(rows(4, 3))
    with pytest.raises(ValueError, match="row"):
        journal.cut(through, carried_from)
    assert journal.read(0, 10) == rows(1, 6)


def test_a_cut_that_fails_changes_nothing(flaky, rows, path):
    flaky.append(rows(1, 3))
    flaky._writer.fault = ("commit", False, sqlite3.SQLITE_FULL, 1)
    with pytest.raises(StorageFull):
        flaky.cut(3, 3)
    assert (flaky.read(0, 10), flaky.state().first_seq, flaky.replay_from()) == (rows(1, 3), 1, 0)
    flaky.cut(3, 3)
    assert verify(path).problems == []


def test_a_cut_that_failed_but_was_done_is_noticed(flaky, rows, path):
    flaky.append(rows(1, 3))
    flaky.append(rows(4, 3))
    flaky._writer.fault = ("commit", True, sqlite3.SQLITE_IOERR, 1)
    with pytest.raises(JournalFailed):
        flaky.cut(3, 5)
    assert flaky.cuttable(6, 99 * DAY) == 6
    assert (flaky.state().first_seq, flaky.replay_from()) == (4, 5)
    assert verify(path).problems == []


def test_a_large_journal_is_cut_in_steps(opened, rows, monkeypatch):
    monkeypatch.setattr("vnpy_core.adapters.journal.sqlite._CUT_ROWS", 10)
    journal = opened(retain_days=1)
    for first in range(1, 40, 4):
        journal.append(rows(first, 4))
    steps = []
    while through := journal.cuttable(40, 2 * DAY):
        journal.cut(through, 40)
        steps.append(through)
    assert steps == [12, 24, 36, 40]


def test_a_commit_larger_than_a_step_can_go_too(opened, rows, monkeypatch):
    monkeypatch.setattr("vnpy_core.adapters.journal.sqlite._CUT_ROWS", 10)
    journal = opened(retain_days=1)
    journal.append(rows(1, 50))
    journal.append(rows(51, 1))
    assert journal.cuttable(51, 2 * DAY) == 50
    assert journal.cuttable(49, 2 * DAY) == 0


# --- the cap ---


def test_at_the_cap_orders_are_refused_only_while_the_store_is_behind(opened, rows):
    journal = opened(max_mb=8)
    for first in range(1, 901, 100):
        journal.append(rows(first, 100, size=10_000))
    journal.maintain(0)
    assert journal.state().size_bytes > 8 << 20
    assert "the store lacks its last 900 rows" in journal.state().refusal
    assert journal.cuttable(0, 0) == 0
    journal.maintain(900)
    assert journal.state().refusal == ""
    assert journal.cuttable(450, 0) == 400  # none of them is old
    journal.cut(400, 900)
    assert journal.state().size_bytes < 6 << 20
    assert journal.cuttable(900, 0) == 0
    journal.maintain(400)
    assert journal.state().refusal == ""


# --- epochs ---


def test_the_epoch_goes_on_after_a_clean_end_and_after_a_kill(opened):
    opened().close()
    journal = opened(boot_id="another")
    assert (journal.epoch, journal.epoch_reason) == ("epoch-1", "")
    journal.close(clean=False)
    assert opened(boot_id="a third").epoch == "epoch-1"


@pytest.mark.parametrize(
    ("clean", "boot_id", "is_new"), [(False, "another", True), (False, "boot", False), (True, "another", False)]
)
def test_in_process_mode_a_machine_that_went_down_begins_a_new_epoch(opened, clean, boot_id, is_new):
    opened(durability="process").close(clean=clean)
    journal = opened(boot_id=boot_id)
    assert (journal.epoch != "epoch-1") is is_new
    assert bool(journal.epoch_reason) is is_new


def test_a_restored_folder_begins_a_new_epoch_once(opened, path, rows):
    journal = opened()
    journal.append(rows(1, 1))
    journal.close()
    marker = path.with_name(RESTORED)
    marker.touch()
    journal = opened()
    assert (journal.epoch, journal.state().last_seq) == ("epoch-2", 1)
    assert not marker.exists()
    journal.close()
    assert opened().epoch == "epoch-2"


def test_undurable_events_begin_a_new_epoch_unless_they_were_written_after_all(opened):
    journal = opened()
    journal.mark_undurable(True)
    journal.mark_undurable(True)
    journal.close(clean=False)
    journal = opened()
    assert journal.epoch == "epoch-2"
    journal.mark_undurable(True)
    journal.mark_undurable(False)
    journal.close(clean=False)
    assert opened().epoch == "epoch-2"


def test_an_epoch_begun_at_run_time_stays(opened):
    journal = opened()
    journal.new_epoch()
    assert (journal.epoch, journal.state().epoch) == ("epoch-2", "epoch-2")
    journal.close(clean=False)
    assert opened().epoch == "epoch-2"


def test_an_epoch_that_could_not_be_written_is_not_begun(flaky):
    flaky._writer.fault = ("update", False, sqlite3.SQLITE_IOERR, 1)
    with pytest.raises(JournalFailed):
        flaky.new_epoch()
    assert flaky.epoch == "epoch-1"
    flaky.new_epoch()
    assert flaky.epoch == "epoch-3"


# --- opening what is not a good journal ---


def change(path, *statements):
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("pragma user_version = 2", "version 2"),
        ("pragma application_id = 7", "is not a journal"),
        ("delete from meta", "is lost"),
        ("drop table rows", "rows"),
        ("delete from rows where seq = 5", "rows 3 to 4 have no hash"),
        ("delete from rows where seq = 3", "missing"),
        ("delete from rows where seq = 1", "begins at row 2"),
        ("update rows set payload = '{}' where seq = 2", "not as they were committed"),
        ("update rows set hash = null where seq = 5", "no hash"),
    ],
)
def test_foreign_newer_and_damaged_files_are_refused_in_words(opened, rows, path, statement, words):
    journal = opened()
    journal.append(rows(1, 2))
    journal.append(rows(3, 3))
    journal.close()
    change(path, statement)
    with pytest.raises(ConfigurationError, match=words) as refused:
        opened()
    assert str(path) in str(refused.value)


def test_a_database_of_somebody_else_is_left_alone(opened, path):
    path.parent.mkdir()
    change(path, "create table theirs (x)", "insert into theirs values (1)")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="is not a journal"):
        opened()
    assert path.read_bytes() == before


@pytest.mark.parametrize("garbage", [b"x", b"hello world" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_what_is_no_database_is_refused(opened, path, garbage):
    path.parent.mkdir()
    path.write_bytes(garbage)
    with pytest.raises(ConfigurationError):
        opened()
    assert path.read_bytes() == garbage


def test_a_truncated_file_is_refused(opened, rows, path):
    journal = opened()
    for first in range(1, 200, 10):
        journal.append(rows(first, 10, size=300))
    journal.close()
    whole = path.read_bytes()
    for size in (*range(1, len(whole), 1531), len(whole) - 4096, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ConfigurationError):
            opened()
    path.write_bytes(whole)
    assert opened().read(0, 1000) == rows(1, 200, size=300)


def test_a_file_emptied_beside_its_log_is_refused(opened, rows, path):
    journal = opened()
    journal.append(rows(1, 10))
    log = path.with_name("journal.sqlite-wal")
    kept = log.read_bytes()
    journal.close()
    path.write_bytes(b"")
    log.write_bytes(kept)
    with pytest.raises(ConfigurationError, match="0 bytes are left"):
        opened()
    assert log.read_bytes() == kept


def test_a_start_that_ended_before_its_first_commit_is_gone_on_with(opened, path, rows):
    path.parent.mkdir()
    change(path, "pragma journal_mode = wal")
    opened().append(rows(1, 1))
    assert verify(path).problems == []


def test_a_folder_that_cannot_be_written_is_told_in_words(opened, tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        opened()


def test_a_failed_open_holds_no_file_open(opened, path):
    path.parent.mkdir()
    path.write_bytes(b"garbage" * 1000)
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(ConfigurationError):
            opened()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_cut_of_nothing_only_moves_where_a_start_begins_to_read(opened, rows):
    journal = opened()
    journal.append(rows(1, 5))
    journal.cut(0, 3)
    assert (journal.replay_from(), [row.seq for row in journal.read(0, 10)]) == (3, [1, 2, 3, 4, 5])


def test_a_journal_that_begins_after_a_store_s_rows_is_sound(opened, rows, path):
    journal = opened()
    journal.begin_after(7)
    assert (journal.state().first_seq, journal.state().last_seq, journal.replay_from()) == (8, 7, 7)
    journal.append(rows(8, 2))
    journal.close()
    assert verify(path).problems == []
    assert [row.seq for row in opened().read(0, 10)] == [8, 9]
