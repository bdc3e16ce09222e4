"""What a power cut leaves of the journal, on a disk that forgets all that was not synced."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.power_shim.writer import row
from vnpy_core.adapters.journal.settings import JournalSettings
from vnpy_core.adapters.journal.sqlite import SqliteJournal
from vnpy_core.adapters.journal.verify import verify

SHIM = Path(__file__).parents[2] / "testkit" / "power_shim"
PACKAGE = Path(__file__).parents[3] / "services" / "vnpy-core"
CUT = 99
CUTS = int(os.environ.get("VNPYCORE_TEST_POWER_CUTS", "30"))
SEED = int(os.environ.get("VNPYCORE_TEST_SEED") or random.SystemRandom().randrange(2**31))


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    compiler = next((found for name in ("cc", "gcc", "tcc") if (found := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc or tcc), so the disk that forgets cannot be built: NOT TESTED")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SHIM / "shim.c", "-ldl"], check=True, timeout=60)
    return library


@pytest.fixture
def run(shim, tmp_path):
    """Lets the writer live until the power fails; returns the folder and what was acknowledged."""

    def run_(number, *, durability, checkpoint_pages=1000, cut_at=0, keep=0, last_words=""):
        folder = tmp_path / str(number)
        folder.mkdir()
        environment = {
            "PYTHONPATH": str(PACKAGE),
            "LD_PRELOAD": str(shim),
            "POWER_SHIM_DIR": str(folder),
            "POWER_SHIM_CUT_AT": str(cut_at),
            "POWER_SHIM_KEEP": str(keep),
            "POWER_SHIM_SEED": str(SEED + number),
        }
        command = [sys.executable, SHIM / "writer.py", folder / "journal.sqlite", durability, str(checkpoint_pages)]
        command += last_words.split()
        done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == CUT, done.stderr
        for file in folder.glob("*-shm"):
            file.unlink()  # memory, not disk
        return folder / "journal.sqlite", Acknowledged(done.stdout)

    return run_


class Acknowledged:
    """The last word about each thing."""

    def __init__(self, output):
        self.said = said = dict(line.split() for line in output.splitlines())
        self.seq = int(said.get("seq", 0))
        self.epoch = int(said.get("epoch", 1))
        self.is_marked = said.get("mark") == "1"
        self.cut = int(said.get("cut", 0))
        self.operations = int(said.get("operations", 0))


def open_again(path, durability, boot_id):
    return SqliteJournal(
        path,
        settings=JournalSettings(durability=durability, reserve_mb=1),
        boot_id=boot_id,
        run_id="after",
        new_epoch=lambda: "100",
    )


def test_the_disk_does_forget_what_was_not_synced(run):
    path, acknowledged = run(0, durability="process")
    assert acknowledged.seq > 100
    assert verify(path).problems == []
    journal = open_again(path, "process", "the next boot")
    last = journal.state().last_seq
    journal.close()
    assert last < acknowledged.seq
    assert journal.epoch == "100", "rows that were published are gone, so clients must start anew"


@pytest.mark.parametrize(
    "words", ["seq 1", "seq 2", "seq 28", "seq 74", "mark 1", "mark 0", "cut 7", "epoch 3", "seq 124"]
)
def test_what_was_just_acknowledged_outlives_a_power_cut(run, words):
    path, acknowledged = run(0, durability="power", last_words=words)
    name, value = words.split()
    assert acknowledged.said[name] == value
    assert acknowledged.operations == 0, "the power failed too late"
    check(path, acknowledged, words)


@pytest.mark.timeout(60 + CUTS)
def test_power_mode_keeps_every_acknowledged_row_whenever_the_power_fails(run):
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    operations = {
        pages: run(CUTS + pages, durability="power", checkpoint_pages=pages)[1].operations for pages in (4, 1000)
    }
    assert min(operations.values()) > 100
    told = set()
    for number in range(CUTS):
        pages = chance.choice((4, 4, 1000))
        # Every third cut hits a file that is still being made.
        cut_at = chance.randrange(1, 40 if number % 3 == 0 else operations[pages] + 1)
        keep = chance.choice((0, 30, 70))
        path, acknowledged = run(number, durability="power", checkpoint_pages=pages, cut_at=cut_at, keep=keep)
        told.add(acknowledged.seq)
        what = f"cut {number} at operation {cut_at}, checkpoints at {pages} pages, {keep} % kept, seed {SEED}"
        check(path, acknowledged, what)
    assert len(told) > 5, "the cuts did not come at many instants"


def test_process_mode_loses_rows_but_never_tears_the_file(run):
    chance = random.Random(SEED)
    for number in range(5):
        cut_at = chance.randrange(20, 120)
        path, acknowledged = run(number, durability="process", checkpoint_pages=4, cut_at=cut_at, keep=50)
        what = f"cut {number} at operation {cut_at}, seed {SEED}"
        journal = open_again(path, "process", "the next boot")
        state = journal.state()
        if acknowledged.seq:
            assert journal.epoch == "100", what
        else:  # cut before the run was durably begun, which comes before any row
            assert (journal.epoch, state.last_seq) in [("1", 0), ("100", 0)], what
        assert journal.read(0, 1000) == [row(seq) for seq in range(state.first_seq, state.last_seq + 1)], what
        journal.close()
        assert verify(path).problems == [], what


def check(path, acknowledged, what):
    if acknowledged.seq:
        assert verify(path).problems == [], what
    journal = open_again(path, "power", "the next boot")
    state = journal.state()
    assert state.last_seq >= acknowledged.seq, what
    assert state.first_seq > acknowledged.cut, what
    expected = [row(seq) for seq in range(state.first_seq, state.last_seq + 1)]
    assert journal.read(0, 1000) == expected, what
    assert int(journal.epoch) >= (100 if acknowledged.is_marked else acknowledged.epoch), what
    journal.append([row(state.last_seq + 1)])
    journal.close()
    assert verify(path).problems == [], what
