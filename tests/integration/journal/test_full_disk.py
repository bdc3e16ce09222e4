"""A disk that is really full."""

import subprocess
import sys

import pytest

from testkit.small_disk import fill, small_disk
from vnpy_core.adapters.journal.settings import JournalSettings
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.adapters.journal.verify import verify
from vnpy_core.domain.errors import StorageFull
from vnpy_core.ports.journal import Row

MB = 1 << 20


@pytest.fixture
def disk(tmp_path):
    """A file system of 4 MB."""
    with small_disk(tmp_path / "disk", 4) as folder:
        yield folder


@pytest.fixture
def opened(disk):
    def open_(epoch="1"):
        return SqliteJournal(
            disk / "journal.sqlite",
            settings=JournalSettings(reserve_mb=1),
            boot_id="boot",
            run_id="run",
            new_epoch=lambda: epoch,
            checkpoint_pages=50,
        )

    return open_


def row(seq):
    return Row(seq, "1", "run", seq, "kind", "key", b"%d " % seq * 100)


def append(journal, count):
    first = journal.state().last_seq + 1
    journal.append([row(seq) for seq in range(first, first + count)])


def append_until_full(journal, count):
    """As long as commits pass, and the state after each."""
    while True:
        append(journal, count)
        yield journal.state()


def test_a_full_disk_costs_first_the_reserve_then_commits_and_never_a_row(disk, opened):
    journal = opened()
    append(journal, 10)
    assert (disk / "journal.reserve").stat().st_blocks * 512 >= MB
    assert (journal.state().reserve, journal.state().refusal) == (True, "")
    fill(disk)

    states = []
    with pytest.raises(StorageFull):
        states.extend(append_until_full(journal, 7))
    with pytest.raises(StorageFull):
        append(journal, 7)
    on_reserve = [state for state in states if not state.reserve]
    assert len(on_reserve) > 50, "the reserve is there for many fills"
    assert all("disk has been full" in state.refusal for state in on_reserve)
    last = journal.state().last_seq
    journal.maintain(0)
    assert "disk has been full" in journal.state().refusal
    journal.mark_undurable(True)
    assert journal.read(0, 10**6) == [row(seq) for seq in range(1, last + 1)]

    (disk / "ballast").unlink()
    append(journal, 7)
    journal.maintain(0)
    assert (journal.state().reserve, journal.state().refusal) == (True, "")
    journal.mark_undurable(False)
    assert journal.read(0, 10**6) == [row(seq) for seq in range(1, last + 8)]
    assert verify(disk / "journal.sqlite").problems == []
    journal.close()


def test_a_start_on_a_full_disk_takes_the_reserve_and_refuses_orders(disk, opened):
    journal = opened()
    append(journal, 10)
    journal.mark_undurable(True)
    journal.close(clean=False)
    fill(disk)
    journal = opened("2")
    assert (journal.epoch, journal.state().last_seq) == ("2", 10)
    assert "disk has been full" in journal.state().refusal
    append(journal, 5)
    journal.close()
    assert verify(disk / "journal.sqlite").rows == 15


def test_a_start_without_any_space_says_so(disk, opened):
    fill(disk)
    with pytest.raises(StorageFull, match="is full"):
        opened()
    (disk / "ballast").unlink()
    journal = opened()
    append(journal, 1)
    journal.close()


LIMITED = """
import resource, sys
from pathlib import Path
from vnpy_core.adapters.journal.settings import JournalSettings
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.domain.errors import JournalFailed
from vnpy_core.ports.journal import Row

def append(count):
    first = journal.state().last_seq + 1
    journal.append([Row(seq, "1", "run", seq, "kind", "key", b"{}" * 500) for seq in range(first, first + count)])

journal = SqliteJournal(Path(sys.argv[1]), settings=JournalSettings(reserve_mb=1), boot_id="b", run_id="r",
                        new_epoch=lambda: "1")
append(10)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
passed = 0
try:
    while True:
        append(10)
        passed += 1
except JournalFailed:
    print("failed after", passed)
assert journal.state().reserve, "the reserve is no help here"
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
append(10)
assert len(journal.read(0, 10**6)) == (passed + 2) * 10
journal.close()
"""


def test_a_write_that_fails_for_another_reason_is_a_failure_that_passes(tmp_path):
    """A limit on the size of files: no sqlite error tells it from a broken disk, and there is room."""
    path = tmp_path / "journal.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("failed after")
    assert verify(path).problems == []
