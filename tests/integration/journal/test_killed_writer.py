"""kill -9 in the middle of commits, cuts and checkpoints: no acknowledged row is lost in either mode."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vnpy_core.adapters.journal.settings import JournalSettings
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.adapters.journal.verify import verify

PACKAGE = Path(__file__).parents[3] / "services" / "vnpy-core"
SEED = int(os.environ.get("VNPYCORE_TEST_SEED") or random.SystemRandom().randrange(2**31))
WRITER = """
import itertools, os, sys
from pathlib import Path
from vnpy_core.adapters.journal.settings import JournalSettings
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.ports.journal import Row

settings = JournalSettings(durability=sys.argv[2], reserve_mb=0)
journal = SqliteJournal(Path(sys.argv[1]), settings=settings, boot_id="boot", run_id="run", new_epoch=lambda: "1",
                        checkpoint_pages=16)
for turn in itertools.count():
    first = journal.state().last_seq + 1
    last = first + turn % 9
    journal.append([Row(seq, "1", "run", seq, "kind", "key", b"%d" % seq * 50) for seq in range(first, last + 1)])
    os.write(1, b"%d\\n" % last)
    if turn % 50 == 49:
        journal.cut(last - turn % 9 - 1, last)
"""


@pytest.fixture
def writer(tmp_path):
    """Starts a writer on the same file again and again."""
    path = tmp_path / "journal.sqlite"

    def start(durability, failpoint=""):
        environment = {"PYTHONPATH": str(PACKAGE), "VNPYCORE_FAILPOINT": failpoint}
        command = [sys.executable, "-c", WRITER, path, durability]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)

    return path, start


def look(path, durability, acknowledged):
    journal = SqliteJournal(
        path,
        settings=JournalSettings(durability=durability, reserve_mb=0),
        boot_id="boot",
        run_id="after",
        new_epoch=lambda: "2",
    )
    state = journal.state()
    rows = journal.read(0, 10**9)
    journal.close(clean=False)
    assert state.last_seq >= acknowledged
    assert journal.epoch == "1"
    assert [row.seq for row in rows] == list(range(state.first_seq, state.last_seq + 1))
    assert all(row.payload == b"%d" % row.seq * 50 for row in rows)
    assert verify(path).problems == []
    return state


@pytest.mark.parametrize("durability", ["power", "process"])
def test_a_writer_killed_at_any_instant_loses_nothing_it_acknowledged(writer, durability):
    print(f"seed {SEED}")
    path, start = writer
    chance, last = random.Random(SEED), 0
    for _ in range(5):
        with start(durability) as process:
            for _ in range(chance.randrange(1, 400)):
                acknowledged = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, process.stdout.read().splitlines())])
        assert acknowledged > last
        last = look(path, durability, acknowledged).last_seq


@pytest.mark.parametrize(
    ("failpoint", "is_there"),
    [("journal.before_commit:60", False), ("journal.after_commit:60", True)],
)
def test_a_commit_is_there_after_its_instant_and_not_before(writer, failpoint, is_there):
    path, start = writer
    with start("power", failpoint) as process:
        acknowledged = [int(line) for line in process.stdout.read().splitlines()]
    assert (process.returncode, len(acknowledged)) == (-signal.SIGKILL, 59)
    assert (look(path, "power", acknowledged[-1]).last_seq > acknowledged[-1]) is is_there


@pytest.mark.parametrize(("failpoint", "is_cut"), [("journal.before_cut", False), ("journal.after_cut", True)])
def test_a_cut_is_whole_or_not_at_all(writer, failpoint, is_cut):
    path, start = writer
    with start("power", failpoint) as process:
        acknowledged = [int(line) for line in process.stdout.read().splitlines()]
    assert process.returncode == -signal.SIGKILL
    assert (look(path, "power", acknowledged[-1]).first_seq > 1) is is_cut
