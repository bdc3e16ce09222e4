import itertools

import pytest

from vnpy_core.adapters.journal.settings import JournalSettings
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.ports.journal import Row

DAY = 86_400_000_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "journal.sqlite"


@pytest.fixture
def opened(path):
    """Opens the journal; what the test leaves open is closed without a clean mark."""
    numbers = itertools.count(1)
    journals = []

    def open_(*, boot_id="boot", reserve_mb=1, run_id="run", path=path, **settings):
        journal = SqliteJournal(
            path,
            settings=JournalSettings(reserve_mb=reserve_mb, **settings),
            boot_id=boot_id,
            run_id=run_id,
            new_epoch=lambda: f"epoch-{next(numbers)}",
        )
        journals.append(journal)
        return journal

    yield open_
    for journal in journals:
        journal.close(clean=False)


@pytest.fixture
def rows():
    """Makes rows that follow one another, `ts` counting seconds from 0."""

    def make(first, count, *, size=20, kind="order.updated"):
        return [
            Row(seq, "epoch-1", "run", seq * 1_000_000, kind, f"key-{seq}", b'{"n":%d,"x":"%s"}' % (seq, b"x" * size))
            for seq in range(first, first + count)
        ]

    return make
